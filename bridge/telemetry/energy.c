#include "bridge/telemetry/energy.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

enum { GAP_POLLS = 3, KEY_MAX = DEVICE_ID_MAX + 16, TEXT_MAX = 64 };

#define SAVE_NS  (60 * CLOCK_NS_PER_S)
#define NS_PER_H (3600.0 * (double)CLOCK_NS_PER_S)
#define PER_KWH  1e9 /* on disk: whole millionths of a Wh */
/* More than any battery moves in its life: what says so was written over. */
#define KEPT_MAX UINT64_C(1000000000000000000)

/* Touched by its poller alone. */
struct integral {
    bool counts;
    bool known;        /* what earlier runs have kept is in both of what follows */
    char key[KEY_MAX]; /* in the state */
    struct energy_source source;
    int64_t most_ns; /* the longest gap that is counted over */
    struct energy_counter counter;
    struct energy_kwh shown, saving;
    bool is_saving;
    uint64_t mark; /* of the state: when it is kept, so is `saving` */
    int64_t due_ns;
};

struct energy {
    struct state *state;
    bool memory_only; /* nothing is kept, so all is shown */
    atomic_bool shows;
    unsigned n;
    struct integral batteries[];
};

/* ---- the rules ---- */

static double unit_kw(const char *unit)
{
    return strcmp(unit, "kW") == 0   ? 1.0
           : strcmp(unit, "W") == 0  ? 1e-3
           : strcmp(unit, "MW") == 0 ? 1e3
                                     : 0.0;
}

bool energy_source(const struct device *device, struct energy_source *source)
{
    int total = device_find_point(device, "active_power_total");
    int only = -1, best = device_find_point(device, "target_power");
    unsigned n_measured = 0;
    for (unsigned i = 0; i < device->n_points; i++) {
        if (!device->points[i].writable && unit_kw(device->points[i].unit) > 0) {
            n_measured++;
            only = (int)i;
        }
    }
    if (total >= 0)
        best = total;
    else if (n_measured == 1)
        best = only;
    if (!device->battery || best < 0 || unit_kw(device->points[best].unit) == 0)
        return false;
    *source = (struct energy_source){
        .point = (unsigned)best,
        .kw = unit_kw(device->points[best].unit),
        .commanded = device->points[best].writable,
    };
    return true;
}

/* The part above zero of the mean of a line from `a` to `b`. */
static double mean_above(double a, double b)
{
    double top = fmax(a, b), bottom = fmin(a, b);
    if (bottom >= 0)
        return (a + b) / 2;
    return top > 0 ? top * top / (2 * (top - bottom)) : 0;
}

void energy_count(struct energy_counter *counter, int64_t now_ns, double kw, bool commanded,
                  int64_t most_ns)
{
    int64_t passed_ns = now_ns - counter->at_ns;
    if (counter->begun && passed_ns > 0 && passed_ns <= most_ns) {
        double hours = (double)passed_ns / NS_PER_H;
        double end_kw = commanded ? counter->kw : kw;
        counter->kwh.discharged += hours * mean_above(counter->kw, end_kw);
        counter->kwh.charged += hours * mean_above(-counter->kw, -end_kw);
    }
    counter->begun = true;
    counter->at_ns = now_ns;
    counter->kw = kw;
}

/* ---- what is kept ---- */

static bool parse(const char *text, struct energy_kwh *kwh)
{
    uint64_t charged, discharged;
    if (sscanf(text, "%" SCNu64 " %" SCNu64, &charged, &discharged) != 2 || charged > KEPT_MAX ||
        discharged > KEPT_MAX)
        return false;
    *kwh = (struct energy_kwh){(double)charged / PER_KWH, (double)discharged / PER_KWH};
    return true;
}

/* What is put comes back as `*kept`, which is no more than what was counted. */
static bool keep(struct state *state, const char *key, const struct energy_kwh *kwh,
                 struct energy_kwh *kept)
{
    char text[TEXT_MAX];
    snprintf(text, sizeof(text), "%" PRIu64 " %" PRIu64, (uint64_t)(kwh->charged * PER_KWH),
             (uint64_t)(kwh->discharged * PER_KWH));
    (void)parse(text, kept);
    return state_put(state, key, text);
}

/* Adds what earlier runs have kept, as soon as that can be read: a counter that began
 * without it would take its place. */
static bool is_known(struct energy *energy, struct integral *battery)
{
    char text[TEXT_MAX];
    if (battery->known || !state_is_loaded(energy->state))
        return battery->known;
    if (state_get(energy->state, battery->key, text, sizeof(text)))
        (void)parse(text, &battery->shown);
    battery->counter.kwh.charged += battery->shown.charged;
    battery->counter.kwh.discharged += battery->shown.discharged;
    battery->known = true;
    return true;
}

/* At the end of a battery's time here. */
static void finish(struct energy *energy, struct integral *battery)
{
    if (battery->counts && is_known(energy, battery))
        (void)keep(energy->state, battery->key, &battery->counter.kwh, &battery->saving);
}

/* Once a minute, when there is more to show. */
static void save(struct energy *energy, struct integral *battery, int64_t now_ns)
{
    const struct energy_kwh *kwh = &battery->counter.kwh;
    if (battery->is_saving && state_is_kept(energy->state, battery->mark)) {
        battery->shown = battery->saving;
        battery->is_saving = false;
    }
    if (battery->is_saving || now_ns < battery->due_ns ||
        (kwh->charged <= battery->shown.charged && kwh->discharged <= battery->shown.discharged))
        return;
    (void)keep(energy->state, battery->key, kwh, &battery->saving);
    battery->mark = state_mark(energy->state);
    battery->is_saving = true;
    battery->due_ns = now_ns + SAVE_NS;
}

bool energy_note(struct energy *energy, unsigned device, int64_t taken_ns,
                 const struct value *values, struct energy_kwh *shown)
{
    if (energy == NULL || !energy->batteries[device].counts || !atomic_load(&energy->shows))
        return false;
    struct integral *battery = &energy->batteries[device];
    const struct value *power = &values[battery->source.point];
    if (power->state == VALUE_READ)
        energy_count(&battery->counter, taken_ns, power->number * battery->source.kw,
                     battery->source.commanded, battery->most_ns);
    if (!is_known(energy, battery))
        return false;
    if (energy->memory_only)
        battery->shown = battery->counter.kwh;
    else
        save(energy, battery, taken_ns);
    *shown = battery->shown;
    return true;
}

/* ---- the file of the first release ---- */

static double kept_kwh(const json_t *entry, const char *key)
{
    double kwh = json_number_value(json_object_get(entry, key));
    return kwh > 0 ? kwh : 0;
}

/* Takes over what the state does not have yet, also of batteries that are not
 * configured now; how many there were. */
static unsigned take_over(struct state *state, json_t *file)
{
    char key[KEY_MAX], text[TEXT_MAX];
    unsigned n = 0;
    const char *id;
    json_t *entry;
    json_object_foreach(file, id, entry)
    {
        struct energy_kwh kwh = {kept_kwh(entry, "charged_kwh"), kept_kwh(entry, "discharged_kwh")};
        int length = snprintf(key, sizeof(key), "energy/%s", id);
        if (length < (int)sizeof(key) && !state_get(state, key, text, sizeof(text)))
            n += keep(state, key, &kwh, &kwh);
    }
    return n;
}

bool energy_inherit(struct state *state, const char *path)
{
    static const char before[] = "state-", after[] = ".db";
    char name[CONF_PATH_MAX + 32];
    json_error_t error;
    const char *slash = strrchr(path, '/');
    const size_t directory = slash != NULL ? (size_t)(slash - path) + 1 : 0;
    const char *site = path + directory + strlen(before);
    (void)snprintf(name, sizeof(name), "%.*senergy-%.*s.json", (int)directory, path,
                   (int)(strlen(site) - strlen(after)), site);
    if (access(name, F_OK) != 0)
        return true;
    json_t *file = json_load_file(name, JSON_REJECT_DUPLICATES, &error);
    /* What was taken over is on disk the next time. */
    const bool later = json_is_object(file) && take_over(state, file) > 0;
    if (!json_is_object(file))
        log_error("energy counters of an earlier release are damaged: they begin anew file=%s "
                  "why=\"%s\"",
                  name, error.text[0] != '\0' ? error.text : "no object");
    else if (!later && unlink(name) == 0)
        log_info("energy counters were taken over file=%s", name);
    json_decref(file);
    return !later;
}

/* ---- start and stop ---- */

static void begin(struct energy *energy, struct integral *battery, const struct device *device)
{
    battery->counts = energy_source(device, &battery->source);
    if (!battery->counts)
        return;
    battery->most_ns = GAP_POLLS * device->poll_ns * device->points[battery->source.point].every;
    snprintf(battery->key, sizeof(battery->key), "energy/%s", device->id);
    (void)is_known(energy, battery);
}

void energy_show(struct energy *energy, bool shows)
{
    atomic_store(&energy->shows, shows);
}

struct energy *energy_start(const struct conf *conf, struct state *state)
{
    const struct device_list *list = &conf->devices;
    struct energy *energy =
        calloc(1, sizeof(*energy) + list->n_devices * sizeof(energy->batteries[0]));
    if (energy == NULL) {
        log_error("cannot start the energy counters: out of memory");
        return NULL;
    }
    energy->state = state;
    energy->memory_only = state_is_kept(state, UINT64_MAX);
    energy->n = list->n_devices;
    energy_show(energy, conf->ha_enabled);
    for (unsigned i = 0; i < list->n_devices; i++)
        begin(energy, &energy->batteries[i], &list->devices[i]);
    return energy;
}

void energy_renew(struct energy *energy, unsigned index, const struct device *device)
{
    if (energy == NULL)
        return;
    struct integral *battery = &energy->batteries[index];
    finish(energy, battery);
    *battery = (struct integral){.counts = false};
    begin(energy, battery, device);
}

void energy_stop(struct energy *energy)
{
    if (energy == NULL)
        return;
    for (unsigned i = 0; i < energy->n; i++)
        finish(energy, &energy->batteries[i]);
    free(energy);
}
