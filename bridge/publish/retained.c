#include "bridge/publish/retained.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/mqtt/limits.h"
#include "bridge/publish/ha_document.h"
#include "bridge/wire/sample_json.h"
#include "bridge/wire/schedule_json.h"
#include "bridge/wire/status_json.h"

enum { KINDS = RETAINED_HA_DEVICE + 1 };

struct place {
    enum retained_kind kind;
    unsigned index;
};

struct retained {
    struct retained_setup setup;
    unsigned n_devices;
    unsigned first[KINDS];
    struct place *places; /* by number */
    uint64_t *drops;      /* of each device, for the health */
    bool ending;
    pthread_mutex_t mutex; /* guards what follows */
    uint64_t *hashes;      /* of the topics by number; 0 = not ours */
};

/* ---- numbers ---- */

unsigned retained_count(const struct retained *retained)
{
    return retained->first[RETAINED_HA_DEVICE] + retained->n_devices;
}

unsigned retained_number(const struct retained *retained, enum retained_kind kind, unsigned index)
{
    return retained->first[kind] + index;
}

enum retained_kind retained_kind(const struct retained *retained, unsigned number)
{
    return retained->places[number].kind;
}

unsigned retained_index(const struct retained *retained, unsigned number)
{
    return retained->places[number].index;
}

static bool is_of_device(enum retained_kind kind)
{
    return kind == RETAINED_STATUS || kind == RETAINED_CONTROL || kind == RETAINED_INFO ||
           kind == RETAINED_SCHEDULE || kind == RETAINED_STATE || kind == RETAINED_HA_DEVICE;
}

static void lay_out(struct retained *retained)
{
    unsigned number = 0;
    for (unsigned kind = 0; kind < KINDS; kind++) {
        unsigned n = kind == RETAINED_GONE ? RETAINED_GONE_MAX
                     : is_of_device(kind)  ? retained->n_devices
                                           : 1;
        retained->first[kind] = number;
        for (unsigned i = 0; i < n; i++)
            retained->places[number++] = (struct place){(enum retained_kind)kind, i};
    }
}

static const struct device *device_at(const struct retained *retained, unsigned index)
{
    return &retained->setup.conf->devices.devices[index];
}

/* ---- topics ---- */

bool retained_topic(const struct retained *retained, unsigned number, char topic[TOPIC_MAX + 1])
{
    static const char *const leaves[KINDS] = {
        [RETAINED_BRIDGE_STATUS] = "status", [RETAINED_STATUS] = "status",
        [RETAINED_HEALTH] = "health",        [RETAINED_CONTROL] = "control",
        [RETAINED_BRIDGE_INFO] = "info",     [RETAINED_INFO] = "info",
        [RETAINED_SCHEDULE] = "schedule",    [RETAINED_STATE] = "state",
    };
    const struct conf *conf = retained->setup.conf;
    const struct place *place = &retained->places[number];
    if (place->kind == RETAINED_HA_BRIDGE)
        return ha_document_topic_bridge(topic, conf);
    if (place->kind == RETAINED_HA_DEVICE)
        return ha_document_topic_device(topic, conf, device_at(retained, place->index)->id);
    if (leaves[place->kind] == NULL)
        return false;
    const char *name =
        is_of_device(place->kind) ? device_at(retained, place->index)->name : "bridge";
    return topic_make(topic, conf, name, leaves[place->kind]);
}

bool retained_is_published(const struct retained *retained, unsigned number)
{
    const struct retained_setup *setup = &retained->setup;
    const struct place *place = &retained->places[number];
    const struct device *device =
        is_of_device(place->kind) ? device_at(retained, place->index) : NULL;
    switch (place->kind) {
    case RETAINED_HA_BRIDGE:
        return setup->conf->ha_enabled;
    case RETAINED_HA_DEVICE:
        return setup->conf->ha_enabled && device_is_there(device);
    case RETAINED_STATUS:
    case RETAINED_INFO:
        return device_is_there(device);
    case RETAINED_CONTROL:
        return device_takes_commands(device);
    case RETAINED_SCHEDULE: /* batteries that are under control alone have one */
        return setup->latest != NULL && device->controllable;
    case RETAINED_STATE: /* is retained in version 5 only */
        return setup->latest != NULL && setup->conf->mqtt.version >= 5 && device_is_there(device);
    case RETAINED_GONE:
        return false;
    default:
        return true;
    }
}

bool retained_own_topic(const struct retained *retained, unsigned number, char topic[TOPIC_MAX + 1])
{
    const struct place *place = &retained->places[number];
    /* A state is ours also where it is not retained: nobody is to clear it. */
    const bool own = place->kind == RETAINED_STATE
                         ? device_is_there(device_at(retained, place->index))
                         : retained_is_published(retained, number);
    return own && retained_topic(retained, number, topic);
}

void retained_renew(struct retained *retained, unsigned number)
{
    char topic[TOPIC_MAX + 1];
    const bool own = retained_own_topic(retained, number, topic);
    pthread_mutex_lock(&retained->mutex);
    retained->hashes[number] = own ? limits_hash(topic, strlen(topic)) : 0;
    pthread_mutex_unlock(&retained->mutex);
}

int retained_find(struct retained *retained, const char *topic)
{
    const uint64_t hash = limits_hash(topic, strlen(topic));
    int found = -1;
    pthread_mutex_lock(&retained->mutex);
    for (unsigned number = 0; found < 0 && number < retained_count(retained); number++)
        if (retained->hashes[number] == hash)
            found = (int)number;
    pthread_mutex_unlock(&retained->mutex);
    return found;
}

/* ---- texts ---- */

bool retained_is_online(const struct retained *retained, unsigned device)
{
    return !retained->ending && outbox_is_online(retained->setup.outbox, device);
}

void retained_end(struct retained *retained)
{
    retained->ending = true;
}

static char *health_text(struct retained *retained, int64_t now_ns)
{
    const struct retained_setup *setup = &retained->setup;
    struct outbox_depth depth = outbox_depth(setup->outbox);
    for (unsigned i = 0; i < retained->n_devices; i++)
        retained->drops[i] = outbox_dropped(setup->outbox, i);
    return status_json_health(setup->conf, setup->health, &depth, retained->drops, clock_utc_ms(),
                              (now_ns - setup->started_ns) / CLOCK_NS_PER_MS);
}

static char *control_text(struct retained *retained, unsigned device, int64_t now_ns)
{
    const struct lease lease = latest_lease(retained->setup.latest, device);
    bool taken_over;
    char *last = last_outcomes_get(retained->setup.last, device, &taken_over);
    char *text = status_json_control(&lease, now_ns, clock_utc_ms(), taken_over, last);
    free(last);
    return text;
}

static char *state_text(struct retained *retained, unsigned device)
{
    struct value values[PROFILE_POINTS_MAX];
    struct sample sample;
    int64_t taken_ns;
    if (!latest_get(retained->setup.latest, device, &sample, values, &taken_ns))
        return NULL;
    const size_t room = sample_json_room(sample.layout);
    char *text = malloc(room + 1);
    if (text != NULL)
        text[sample_json(&sample, text, room)] = '\0';
    return text;
}

static char *schedule_text(struct retained *retained, unsigned device)
{
    const struct schedule_status status = latest_schedule(retained->setup.latest, device);
    return schedule_json_status(&status);
}

char *retained_text(struct retained *retained, unsigned number, int64_t now_ns)
{
    const struct retained_setup *setup = &retained->setup;
    const struct place *place = &retained->places[number];
    switch (place->kind) {
    case RETAINED_BRIDGE_STATUS:
        return strdup(retained->ending ? "offline" : "online");
    case RETAINED_STATUS:
        return strdup(retained_is_online(retained, place->index) ? "online" : "offline");
    case RETAINED_HEALTH:
        return health_text(retained, now_ns);
    case RETAINED_CONTROL:
        return control_text(retained, place->index, now_ns);
    case RETAINED_BRIDGE_INFO:
        return status_json_bridge(setup->conf, setup->run, setup->started_ms);
    case RETAINED_INFO:
        return status_json_device(device_at(retained, place->index));
    case RETAINED_SCHEDULE:
        return schedule_text(retained, place->index);
    case RETAINED_STATE:
        return state_text(retained, place->index);
    case RETAINED_HA_BRIDGE:
        return ha_document_bridge(setup->conf);
    case RETAINED_HA_DEVICE:
        return ha_document_device(setup->conf, device_at(retained, place->index));
    case RETAINED_GONE:
        break;
    }
    return strdup("");
}

/* ---- beginning and end ---- */

struct retained *retained_new(const struct retained_setup *setup)
{
    const unsigned n = setup->conf->devices.n_devices, most = 4 + 6 * n + RETAINED_GONE_MAX;
    struct retained *retained = calloc(1, sizeof(*retained));
    if (retained == NULL)
        return NULL;
    retained->setup = *setup;
    retained->n_devices = n;
    pthread_mutex_init(&retained->mutex, NULL);
    retained->places = calloc(most, sizeof(*retained->places));
    retained->hashes = calloc(most, sizeof(*retained->hashes));
    retained->drops = calloc(n, sizeof(*retained->drops));
    if (retained->places == NULL || retained->hashes == NULL || retained->drops == NULL) {
        retained_free(retained);
        return NULL;
    }
    lay_out(retained);
    for (unsigned number = 0; number < retained_count(retained); number++)
        retained_renew(retained, number);
    return retained;
}

void retained_free(struct retained *retained)
{
    if (retained == NULL)
        return;
    free(retained->places);
    free(retained->hashes);
    free(retained->drops);
    pthread_mutex_destroy(&retained->mutex);
    free(retained);
}
