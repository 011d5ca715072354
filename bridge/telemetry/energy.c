#include "bridge/telemetry/energy.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <libgen.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/base/owner.h"

enum { GAP_POLLS = 3, FILE_NAME_MAX = CONF_NAME_MAX + 16 };

#define SAVE_NS   (60 * CLOCK_NS_PER_S)
#define NS_PER_H  (3600.0 * (double)CLOCK_NS_PER_S)
#define CHARGED   "charged_kwh"
#define DISCHARGE "discharged_kwh"

struct battery {
    bool counts;
    struct energy_source source;
    int64_t most_ns; /* the longest gap that is counted over */
    struct energy_counter counter;
    struct energy_kwh shown;
};

struct energy {
    const struct device_list *list;
    /* The thread's own while it runs. */
    int directory; /* -1 = memory only, and no thread */
    char name[FILE_NAME_MAX];
    json_t *kept; /* the file: also batteries that are not configured now */
    bool failing; /* the last save failed, and that was logged */
    struct energy_kwh *saving;

    pthread_t thread;
    pthread_mutex_t mutex; /* for all that follows */
    pthread_cond_t cond;
    bool stopping;
    bool stale; /* the file is behind the counters */
    struct battery batteries[];
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

bool energy_note(struct energy *energy, unsigned device, int64_t taken_ns,
                 const struct value *values, struct energy_kwh *shown)
{
    if (energy == NULL || !energy->batteries[device].counts)
        return false;
    struct battery *battery = &energy->batteries[device];
    struct energy_counter *counter = &battery->counter;
    const struct value *power = &values[battery->source.point];
    pthread_mutex_lock(&energy->mutex);
    struct energy_kwh before = counter->kwh;
    if (power->state == VALUE_READ)
        energy_count(counter, taken_ns, power->number * battery->source.kw,
                     battery->source.commanded, battery->most_ns);
    if (energy->directory < 0) {
        battery->shown = counter->kwh;
    } else if (!energy->stale && (counter->kwh.charged > before.charged ||
                                  counter->kwh.discharged > before.discharged)) {
        energy->stale = true;
        pthread_cond_signal(&energy->cond);
    }
    *shown = battery->shown;
    pthread_mutex_unlock(&energy->mutex);
    return true;
}

/* ---- the file ---- */

static double kept_kwh(const json_t *entry, const char *key)
{
    double kwh = json_number_value(json_object_get(entry, key));
    return kwh > 0 ? kwh : 0;
}

static void load(struct energy *energy)
{
    json_error_t error;
    int file = openat(energy->directory, energy->name, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        energy->kept = json_loadfd(file, JSON_REJECT_DUPLICATES, &error);
        if (!json_is_object(energy->kept)) {
            log_error("energy counters begin anew: the file is damaged file=%s why=\"%s\"",
                      energy->name, error.text[0] != '\0' ? error.text : "no object");
            json_decref(energy->kept);
            energy->kept = NULL;
        }
        close(file);
    } else if (errno != ENOENT) {
        log_error("energy counters begin anew: %m file=%s", energy->name);
    }
    if (energy->kept == NULL)
        energy->kept = json_object();
    for (unsigned i = 0; i < energy->list->n_devices; i++) {
        const json_t *entry = json_object_get(energy->kept, energy->list->devices[i].id);
        struct battery *battery = &energy->batteries[i];
        battery->shown.charged = kept_kwh(entry, CHARGED);
        battery->shown.discharged = kept_kwh(entry, DISCHARGE);
        battery->counter.kwh = battery->shown;
    }
}

/* Writes a new file beside the old one and lets it take its place. Returns 0
 * or an errno. */
static int replace(const struct energy *energy)
{
    char fresh[FILE_NAME_MAX + 4];
    int error = 0;
    snprintf(fresh, sizeof(fresh), "%s.new", energy->name);
    int file = openat(energy->directory, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                      S_IRUSR | S_IWUSR | S_IRGRP);
    if (file < 0)
        return errno;
    owner_give(file, energy->directory);
    errno = EIO;
    if (json_dumpfd(energy->kept, file, JSON_INDENT(1)) != 0 || fdatasync(file) != 0)
        error = errno;
    close(file);
    if (error == 0 && (renameat(energy->directory, fresh, energy->directory, energy->name) != 0 ||
                       fsync(energy->directory) != 0))
        error = errno;
    return error;
}

/* Puts the counters on disk; from then on they are shown. Called locked. */
static void save(struct energy *energy)
{
    const struct device_list *list = energy->list;
    energy->stale = false;
    for (unsigned i = 0; i < list->n_devices; i++)
        energy->saving[i] = energy->batteries[i].counter.kwh;
    pthread_mutex_unlock(&energy->mutex);
    for (unsigned i = 0; i < list->n_devices; i++) {
        if (energy->batteries[i].counts)
            json_object_set_new(energy->kept, list->devices[i].id,
                                json_pack("{s:f, s:f}", CHARGED, energy->saving[i].charged,
                                          DISCHARGE, energy->saving[i].discharged));
    }
    int error = replace(energy);
    errno = error;
    if (error != 0 && !energy->failing)
        log_warning("energy counters stand still: cannot write them: %m file=%s", energy->name);
    else if (error == 0 && energy->failing)
        log_info("energy counters are written again file=%s", energy->name);
    energy->failing = error != 0;
    pthread_mutex_lock(&energy->mutex);
    energy->stale = energy->stale || error != 0;
    for (unsigned i = 0; i < list->n_devices && error == 0; i++)
        energy->batteries[i].shown = energy->saving[i];
}

static void *energy_thread(void *argument)
{
    struct energy *energy = argument;
    int64_t due_ns = 0;
    pthread_mutex_lock(&energy->mutex);
    while (!energy->stopping) {
        if (!energy->stale) {
            clock_cond_wait(&energy->cond, &energy->mutex, CLOCK_NEVER);
        } else if (clock_mono_ns() < due_ns) {
            clock_cond_wait(&energy->cond, &energy->mutex, due_ns);
        } else {
            save(energy);
            due_ns = clock_mono_ns() + SAVE_NS;
        }
    }
    if (energy->stale)
        save(energy);
    pthread_mutex_unlock(&energy->mutex);
    return NULL;
}

/* ---- start and stop ---- */

/* The directory of the spool, or else of the audit log; -1 when there is none.
 * An audit log that is no file, such as a device, is in no directory of ours. */
static int open_directory(const struct conf *conf)
{
    const char *beside = conf->spool_path[0] != '\0' ? conf->spool_path : conf->audit_path;
    char path[CONF_PATH_MAX + 1];
    struct stat status;
    if (beside[0] == '\0' || (stat(beside, &status) == 0 && !S_ISREG(status.st_mode)))
        return -1;
    strcpy(path, beside);
    int directory = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        log_warning("energy counters are not kept: %m beside=%s", beside);
    return directory;
}

static void energy_free(struct energy *energy)
{
    if (energy->directory >= 0)
        close(energy->directory);
    json_decref(energy->kept);
    free(energy->saving);
    pthread_cond_destroy(&energy->cond);
    pthread_mutex_destroy(&energy->mutex);
    free(energy);
}

struct energy *energy_start(const struct conf *conf)
{
    const struct device_list *list = &conf->devices;
    struct energy *energy =
        calloc(1, sizeof(*energy) + list->n_devices * sizeof(energy->batteries[0]));
    if (energy == NULL)
        goto failed;
    energy->list = list;
    pthread_mutex_init(&energy->mutex, NULL);
    clock_cond_init(&energy->cond);
    snprintf(energy->name, sizeof(energy->name), "energy-%s.json", conf->site);
    energy->directory = open_directory(conf);
    energy->saving = calloc(list->n_devices, sizeof(*energy->saving));
    if (energy->saving == NULL)
        goto failed;
    for (unsigned i = 0; i < list->n_devices; i++) {
        struct battery *battery = &energy->batteries[i];
        const struct device *device = &list->devices[i];
        battery->counts = energy_source(device, &battery->source);
        if (battery->counts)
            battery->most_ns =
                GAP_POLLS * device->poll_ns * device->points[battery->source.point].every;
    }
    if (energy->directory < 0)
        return energy;
    load(energy);
    if (pthread_create(&energy->thread, NULL, energy_thread, energy) == 0)
        return energy;
failed:
    log_error("cannot start the energy counters: out of memory or threads");
    if (energy != NULL)
        energy_free(energy);
    return NULL;
}

void energy_stop(struct energy *energy)
{
    if (energy == NULL)
        return;
    if (energy->directory >= 0) {
        pthread_mutex_lock(&energy->mutex);
        energy->stopping = true;
        pthread_cond_signal(&energy->cond);
        pthread_mutex_unlock(&energy->mutex);
        pthread_join(energy->thread, NULL);
    }
    energy_free(energy);
}
