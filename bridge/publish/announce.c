#include "bridge/publish/announce.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/publish/documents.h"
#include "bridge/publish/ha_document.h"
#include "bridge/wire/sample_json.h"
#include "bridge/wire/schedule_json.h"
#include "bridge/wire/status_json.h"
#include "bridge/wire/topic.h"

enum { GONE_MAX = 4096, INFO_MAX = 1 << 16, JITTER_MAX_MS = 2000, BURST = 20 };

#define HEALTH_NS (STATUS_JSON_HEALTH_S * CLOCK_NS_PER_S)
#define DAMP_NS   CLOCK_NS_PER_S /* between two of one status or control */
/* Discovery waits for the bridge/info of an earlier run, and Home Assistant to have
 * forgotten what is gone. */
#define DISCOVERY_NS CLOCK_NS_PER_S
#define PACE_NS      (10 * CLOCK_NS_PER_MS) /* between two infos or discovery documents */

static const char remembered[] = "announced/"; /* and a hash: a topic has that as its text */

/* Of a sample that was put right so often, the next one is waited for. */
enum { MENDED_MAX = 5 };

/* Somebody else has changed a device's state. */
struct mend {
    uint64_t seq; /* of the sample that it should be */
    unsigned n;   /* how often */
};

/* The documents by their numbers, the most urgent first. What is gone goes before discovery:
 * Home Assistant is to know nothing twice. */
enum kind {
    BRIDGE_STATUS,
    STATUS,
    HEALTH,
    CONTROL,
    BRIDGE_INFO,
    INFO,
    SCHEDULE,
    STATE, /* only what somebody else has changed: the flow of samples is the publisher's */
    GONE,
    HA_BRIDGE,
    HA_DEVICE
};

enum { KINDS = HA_DEVICE + 1 };

struct place {
    enum kind kind;
    unsigned index; /* of the device, or of what is gone */
};

struct announce {
    struct announce_setup setup;
    unsigned n_devices;
    struct documents *documents;
    struct place *places; /* of every document */
    uint64_t *hashes;     /* of their topics but for what is gone */
    unsigned first[KINDS];
    int64_t *status_ns, *control_ns;   /* when that of a device was sent last */
    uint64_t schedules;                /* changes of theirs, as last looked at */
    struct schedule_status *scheduled; /* by device, as last called */
    bool *told;                        /* that somebody else changes it, by document */
    uint64_t *drops;                   /* of each device, for the health */
    uint32_t seed;
    bool is_remembered;
    bool ending;
    atomic_bool hearing;
    atomic_bool born; /* Home Assistant has said that it is there */

    pthread_mutex_t mutex; /* guards what follows */
    struct mend *mends;    /* by device */
    char *info;            /* a bridge/info of an earlier run, not yet looked at */
    unsigned n_gone;
    char *gone[GONE_MAX]; /* topics; "" = it is there again */
};

/* ---- what there is ---- */

/* Of all documents. */
static unsigned count(const struct announce *announce)
{
    return announce->first[HA_DEVICE] + announce->n_devices;
}

static unsigned number_of(const struct announce *announce, enum kind kind, unsigned index)
{
    return announce->first[kind] + index;
}

static void lay_out(struct announce *announce)
{
    unsigned number = 0;
    for (unsigned kind = BRIDGE_STATUS; kind < KINDS; kind++) {
        bool many = kind == STATUS || kind == CONTROL || kind == INFO || kind == SCHEDULE ||
                    kind == STATE || kind == HA_DEVICE;
        unsigned n = kind == GONE ? GONE_MAX : many ? announce->n_devices : 1;
        announce->first[kind] = number;
        for (unsigned i = 0; i < n; i++)
            announce->places[number++] = (struct place){.kind = (enum kind)kind, .index = i};
    }
}

static const struct device *device_of(const struct announce *announce, unsigned index)
{
    return &announce->setup.conf->devices.devices[index];
}

static bool topic_of(struct announce *announce, unsigned number, char topic[TOPIC_MAX + 1])
{
    const struct conf *conf = announce->setup.conf;
    const struct place *place = &announce->places[number];
    switch (place->kind) {
    case BRIDGE_STATUS:
        return topic_make(topic, conf, "bridge", "status");
    case STATUS:
        return topic_make(topic, conf, device_of(announce, place->index)->name, "status");
    case HEALTH:
        return topic_make(topic, conf, "bridge", "health");
    case CONTROL:
        return topic_make(topic, conf, device_of(announce, place->index)->name, "control");
    case BRIDGE_INFO:
        return topic_make(topic, conf, "bridge", "info");
    case INFO:
        return topic_make(topic, conf, device_of(announce, place->index)->name, "info");
    case SCHEDULE:
        return topic_make(topic, conf, device_of(announce, place->index)->name, "schedule");
    case STATE:
        return topic_make(topic, conf, device_of(announce, place->index)->name, "state");
    case HA_BRIDGE:
        return ha_document_topic_bridge(topic, conf);
    case HA_DEVICE:
        return ha_document_topic_device(topic, conf, device_of(announce, place->index)->id);
    case GONE:
        break;
    }
    pthread_mutex_lock(&announce->mutex);
    snprintf(topic, TOPIC_MAX + 1, "%s", announce->gone[place->index]);
    pthread_mutex_unlock(&announce->mutex);
    return topic[0] != '\0';
}

static bool is_online(struct announce *announce, unsigned device)
{
    return !announce->ending && outbox_is_online(announce->setup.outbox, device);
}

static char *health_text(struct announce *announce, int64_t now_ns)
{
    const struct announce_setup *setup = &announce->setup;
    struct outbox_depth depth = outbox_depth(setup->outbox);
    for (unsigned i = 0; i < announce->n_devices; i++)
        announce->drops[i] = outbox_dropped(setup->outbox, i);
    return status_json_health(setup->conf, setup->health, &depth, announce->drops, clock_utc_ms(),
                              (now_ns - setup->started_ns) / CLOCK_NS_PER_MS);
}

static char *control_text(struct announce *announce, unsigned device, int64_t now_ns)
{
    const struct lease lease = latest_lease(announce->setup.latest, device);
    bool taken_over;
    char *last = last_outcomes_get(announce->setup.last, device, &taken_over);
    char *text = status_json_control(&lease, now_ns, clock_utc_ms(), taken_over, last);
    free(last);
    return text;
}

static char *state_text(struct announce *announce, unsigned device)
{
    struct value values[PROFILE_POINTS_MAX];
    struct sample sample;
    int64_t taken_ns;
    if (!latest_get(announce->setup.latest, device, &sample, values, &taken_ns))
        return NULL;
    const size_t room = sample_json_room(sample.layout);
    char *text = malloc(room + 1);
    if (text != NULL)
        text[sample_json(&sample, text, room)] = '\0';
    return text;
}

/* Malloc'ed. */
static char *text_of(struct announce *announce, unsigned number, int64_t now_ns)
{
    const struct announce_setup *setup = &announce->setup;
    const struct place *place = &announce->places[number];
    switch (place->kind) {
    case BRIDGE_STATUS:
        return strdup(announce->ending ? "offline" : "online");
    case STATUS:
        return strdup(is_online(announce, place->index) ? "online" : "offline");
    case HEALTH:
        return health_text(announce, now_ns);
    case CONTROL:
        return control_text(announce, place->index, now_ns);
    case BRIDGE_INFO:
        return status_json_bridge(setup->conf, setup->run, setup->started_ms);
    case INFO:
        return status_json_device(device_of(announce, place->index));
    case SCHEDULE:
        return schedule_json_status(&announce->scheduled[place->index]);
    case STATE:
        return state_text(announce, place->index);
    case HA_BRIDGE:
        return ha_document_bridge(setup->conf);
    case HA_DEVICE:
        return ha_document_device(setup->conf, device_of(announce, place->index));
    case GONE:
        break;
    }
    return strdup("");
}

/* ---- what is gone ---- */

/* Batteries that are under control alone have one. */
static bool has_schedule(const struct announce *announce, unsigned device)
{
    return announce->setup.latest != NULL && device_of(announce, device)->controllable;
}

static bool is_announced(const struct announce *announce, unsigned number)
{
    const struct place *place = &announce->places[number];
    switch (place->kind) {
    case HA_BRIDGE:
        return announce->setup.conf->ha_enabled;
    case HA_DEVICE:
        return announce->setup.conf->ha_enabled &&
               device_is_there(device_of(announce, place->index));
    case STATUS:
    case INFO:
        return device_is_there(device_of(announce, place->index));
    case CONTROL:
        return device_takes_commands(device_of(announce, place->index));
    case SCHEDULE:
        return has_schedule(announce, place->index);
    case STATE: /* is retained in version 5 only */
        return announce->setup.latest != NULL && announce->setup.conf->mqtt.version >= 5 &&
               device_is_there(device_of(announce, place->index));
    case GONE:
        return false;
    default:
        return true;
    }
}

/* The topic of what is announced in this run; false for what is not. A state is also where
 * it is not retained: nobody is to clear it. */
static bool announced_topic(struct announce *announce, unsigned number, char topic[TOPIC_MAX + 1])
{
    const struct place *place = &announce->places[number];
    const bool announced = place->kind == STATE ? device_is_there(device_of(announce, place->index))
                                                : is_announced(announce, number);
    return announced && topic_of(announce, number, topic);
}

/* 0 for what is not announced. */
static void hash_topic(struct announce *announce, unsigned number)
{
    char topic[TOPIC_MAX + 1];
    const bool announced = announced_topic(announce, number, topic);
    pthread_mutex_lock(&announce->mutex);
    announce->hashes[number] = announced ? limits_hash(topic, strlen(topic)) : 0;
    pthread_mutex_unlock(&announce->mutex);
}

static void hash_topics(struct announce *announce)
{
    for (unsigned number = 0; number < count(announce); number++)
        hash_topic(announce, number);
}

static bool is_ours(const struct announce *announce, const char *topic)
{
    uint64_t hash = limits_hash(topic, strlen(topic));
    for (unsigned i = 0; i < count(announce); i++)
        if (announce->hashes[i] == hash)
            return true;
    return false;
}

/* A topic to be cleared, once. */
static void add_gone(struct announce *announce, const char *topic)
{
    pthread_mutex_lock(&announce->mutex);
    unsigned i = 0;
    while (i < announce->n_gone && strcmp(announce->gone[i], topic) != 0)
        i++;
    if (i == announce->n_gone && i < GONE_MAX && (announce->gone[i] = strdup(topic)) != NULL)
        announce->n_gone++;
    pthread_mutex_unlock(&announce->mutex);
}

static void forget_gone(struct announce *announce, const char *topic)
{
    pthread_mutex_lock(&announce->mutex);
    for (unsigned i = 0; i < announce->n_gone; i++)
        if (strcmp(announce->gone[i], topic) == 0)
            announce->gone[i][0] = '\0';
    pthread_mutex_unlock(&announce->mutex);
}

/* A topic that an earlier run has announced and this one does not. */
static void look_at_former(struct announce *announce, const char *topic)
{
    if (!is_ours(announce, topic))
        add_gone(announce, topic);
}

static void look_at_remembered(void *context, const char *key, const char *text)
{
    struct announce *announce = context;
    (void)key;
    /* What the file says must not become a wildcard, nor somebody else's topic. */
    if (text[0] != '\0' && text[0] != '$' && strpbrk(text, "+#") == NULL &&
        strlen(text) <= TOPIC_MAX)
        look_at_former(announce, text);
}

static void remember(struct announce *announce, const char *topic, bool is_there)
{
    char key[sizeof(remembered) + 16];
    snprintf(key, sizeof(key), "%s%016llx", remembered,
             (unsigned long long)limits_hash(topic, strlen(topic)));
    if (announce->setup.state != NULL)
        state_put(announce->setup.state, key, is_there ? topic : NULL);
}

/* All that this run announces, before the first of it is. */
static void remember_all(struct announce *announce)
{
    char topic[TOPIC_MAX + 1];
    const bool states = announce->setup.conf->mqtt.version >= 5;
    for (unsigned number = 0; number < count(announce); number++)
        if ((states || announce->places[number].kind != STATE) &&
            announced_topic(announce, number, topic))
            remember(announce, topic, true);
    announce->is_remembered = true;
}

/* What was announced of a device of this name and id. That of one which is still there
 * was announced otherwise only by a release that went by names. */
static void look_at_device(struct announce *announce, const char *name, const char *id)
{
    static const char *const leaves[] = {"status", "info", "state", "control", "schedule"};
    const struct conf *conf = announce->setup.conf;
    char topic[TOPIC_MAX + 1];
    const bool gone = topic_make(topic, conf, name, "status") && !is_ours(announce, topic);
    for (size_t i = 0; gone && i < sizeof(leaves) / sizeof(leaves[0]); i++)
        if (topic_make(topic, conf, name, leaves[i]))
            look_at_former(announce, topic);
    if (!gone && !conf->ha_enabled)
        return;
    if (id[0] != '\0' ? ha_document_topic_device(topic, conf, id)
                      : ha_document_topic_by_name(topic, conf, name))
        look_at_former(announce, topic);
}

/* The bridge/info of an earlier run names its devices: where no state file does. */
static void look_at_info(struct announce *announce)
{
    char name[DEVICE_NAME_MAX + 1], id[DEVICE_ID_MAX + 1];
    unsigned index = 0;
    pthread_mutex_lock(&announce->mutex);
    char *info = announce->info;
    announce->info = NULL;
    pthread_mutex_unlock(&announce->mutex);
    while (info != NULL && ha_document_next_former(info, &index, name, id))
        look_at_device(announce, name, id);
    free(info);
}

/* ---- beginning and end ---- */

struct announce *announce_new(const struct announce_setup *setup)
{
    const unsigned n = setup->conf->devices.n_devices;
    const unsigned most = 4 + 6 * n + GONE_MAX;
    struct announce *announce = calloc(1, sizeof(*announce));
    if (announce == NULL)
        return NULL;
    announce->setup = *setup;
    announce->n_devices = n;
    announce->seed = (uint32_t)strtoul(setup->run, NULL, 16);
    pthread_mutex_init(&announce->mutex, NULL);
    announce->documents = documents_new(most);
    announce->places = calloc(most, sizeof(*announce->places));
    announce->told = calloc(most, sizeof(*announce->told));
    announce->hashes = calloc(most, sizeof(*announce->hashes));
    announce->status_ns = calloc(n, sizeof(*announce->status_ns));
    announce->control_ns = calloc(n, sizeof(*announce->control_ns));
    announce->drops = calloc(n, sizeof(*announce->drops));
    announce->mends = calloc(n, sizeof(*announce->mends));
    announce->scheduled = calloc(n, sizeof(*announce->scheduled));
    if (announce->documents == NULL || announce->places == NULL || announce->told == NULL ||
        announce->hashes == NULL || announce->status_ns == NULL || announce->control_ns == NULL ||
        announce->drops == NULL || announce->scheduled == NULL || announce->mends == NULL) {
        announce_free(announce);
        return NULL;
    }
    lay_out(announce);
    hash_topics(announce);
    if (setup->state != NULL)
        state_each(setup->state, remembered, look_at_remembered, announce);
    return announce;
}

void announce_free(struct announce *announce)
{
    if (announce == NULL)
        return;
    for (unsigned i = 0; i < announce->n_gone; i++)
        free(announce->gone[i]);
    free(announce->info);
    documents_free(announce->documents);
    free(announce->places);
    free(announce->told);
    free(announce->hashes);
    free(announce->status_ns);
    free(announce->control_ns);
    free(announce->drops);
    free(announce->mends);
    free(announce->scheduled);
    pthread_mutex_destroy(&announce->mutex);
    free(announce);
}

/* Many at once would keep the samples waiting, here and at a broker that many bridges
 * come back to. */
static void call_paced(struct announce *announce, unsigned number, unsigned n, unsigned *n_before,
                       int64_t now_ns)
{
    for (; n > 0; n--, number++) {
        unsigned n_late = *n_before > BURST ? *n_before - BURST : 0;
        if (announce->places[number].kind != GONE && !is_announced(announce, number))
            continue;
        documents_call(announce->documents, number, now_ns + n_late * PACE_NS);
        ++*n_before;
    }
}

static void call_discovery(struct announce *announce, unsigned *n_before, int64_t now_ns)
{
    if (announce->setup.conf->ha_enabled)
        call_paced(announce, number_of(announce, HA_BRIDGE, 0), 1 + announce->n_devices, n_before,
                   now_ns);
}

/* Of all batteries, or of those whose schedules stand elsewhere now. */
static void call_schedules(struct announce *announce, bool all, unsigned *n_before, int64_t now_ns)
{
    struct latest *latest = announce->setup.latest;
    const uint64_t changes = latest != NULL ? latest_schedules(latest) : 0;
    if (latest == NULL || (!all && changes == announce->schedules))
        return;
    announce->schedules = changes;
    for (unsigned i = 0; i < announce->n_devices; i++) {
        if (!has_schedule(announce, i))
            continue;
        const struct schedule_status status = latest_schedule(latest, i);
        if (!all && schedule_status_same(&status, &announce->scheduled[i]))
            continue;
        announce->scheduled[i] = status;
        const unsigned n_late = *n_before > BURST ? *n_before - BURST : 0;
        documents_call(announce->documents, number_of(announce, SCHEDULE, i),
                       now_ns + n_late * PACE_NS);
        ++*n_before;
    }
}

static unsigned gone_count(struct announce *announce)
{
    pthread_mutex_lock(&announce->mutex);
    unsigned n = announce->n_gone;
    pthread_mutex_unlock(&announce->mutex);
    return n;
}

static bool is_discovery(const struct announce *announce, const char *topic)
{
    const char *prefix = announce->setup.conf->ha_prefix;
    const size_t size = strlen(prefix);
    return strncmp(topic, prefix, size) == 0 && topic[size] == '/';
}

/* Those from number `first` on. Home Assistant complains of an empty message of an entity
 * that it still has: the documents go first, and the rest when those that follow are known. */
static void call_gone(struct announce *announce, unsigned first, unsigned *n_before, int64_t now_ns)
{
    const int64_t later_ns = announce->setup.conf->ha_enabled ? 2 * DISCOVERY_NS : 0;
    const unsigned n = gone_count(announce);
    char topic[TOPIC_MAX + 1];
    for (unsigned i = first; i < n; i++) {
        const unsigned number = number_of(announce, GONE, i);
        if (topic_of(announce, number, topic))
            call_paced(announce, number, 1, n_before,
                       now_ns + (is_discovery(announce, topic) ? 0 : later_ns));
    }
}

static void listen(struct announce *announce)
{
    const struct conf *conf = announce->setup.conf;
    struct mqtt *mqtt = announce->setup.sessions->bridge.mqtt;
    char topic[TOPIC_MAX + 1];
    if (conf->ha_enabled)
        mqtt_subscribe(mqtt, HA_DOCUMENT_BIRTH_TOPIC, MQTT_LIVE);
    if (topic_make(topic, conf, "bridge", "health"))
        mqtt_subscribe(mqtt, topic, MQTT_LIVE);
    if (mqtt_has_wildcards(mqtt)) {
        static const char *const leaves[] = {"control", "info", "status", "schedule"};
        for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++)
            if (topic_make(topic, conf, "+", leaves[i]))
                mqtt_subscribe(mqtt, topic, MQTT_RETAINED);
        if (conf->mqtt.version >= 5 && topic_make(topic, conf, "+", "state"))
            mqtt_subscribe(mqtt, topic, MQTT_OTHERS);
        return;
    }
    for (unsigned number = 0; number < announce->first[GONE]; number++) {
        enum kind kind = announce->places[number].kind;
        if (kind != HEALTH && is_announced(announce, number) && topic_of(announce, number, topic))
            mqtt_subscribe(mqtt, topic, kind == STATE ? MQTT_OTHERS : MQTT_RETAINED);
    }
}

void announce_begin(struct announce *announce, int64_t now_ns)
{
    unsigned n_paced = 0;
    if (!announce->is_remembered)
        remember_all(announce);
    listen(announce);
    documents_call(announce->documents, number_of(announce, BRIDGE_STATUS, 0), now_ns);
    documents_call(announce->documents, number_of(announce, HEALTH, 0), now_ns);
    for (unsigned number = announce->first[STATUS]; number < announce->first[BRIDGE_INFO]; number++)
        if (is_announced(announce, number)) /* statuses and controls */
            documents_call(announce->documents, number, now_ns);
    call_paced(announce, number_of(announce, BRIDGE_INFO, 0), 1 + announce->n_devices, &n_paced,
               now_ns);
    call_schedules(announce, true, &n_paced, now_ns);
    call_gone(announce, 0, &n_paced, now_ns);
    call_discovery(announce, &n_paced, now_ns + DISCOVERY_NS);
}

void announce_lost(struct announce *announce)
{
    const unsigned statuses = number_of(announce, STATUS, 0), end = announce->first[HEALTH];
    atomic_store(&announce->hearing, false);
    documents_reset(announce->documents, 0, statuses);
    if (announce->setup.sessions->n_devices == 0)
        documents_reset(announce->documents, statuses, end);
    documents_reset(announce->documents, end, UINT32_MAX);
}

void announce_hearing(struct announce *announce)
{
    atomic_store(&announce->hearing, true);
    for (unsigned i = 0; i < announce->n_devices; i++)
        if (outbox_is_online(announce->setup.outbox, i))
            documents_call(announce->documents, number_of(announce, STATUS, i), 0);
}

void announce_farewell(struct announce *announce, int64_t now_ns)
{
    announce->ending = true;
    documents_call(announce->documents, number_of(announce, BRIDGE_STATUS, 0), now_ns);
    const struct device_list *list = &announce->setup.conf->devices;
    for (unsigned i = device_next(list, 0); i < list->n_devices; i = device_next(list, i + 1)) {
        const unsigned control = number_of(announce, CONTROL, i);
        documents_call(announce->documents, number_of(announce, STATUS, i), now_ns);
        if (is_announced(announce, control) && !documents_is_settled(announce->documents, control))
            documents_call(announce->documents, control, now_ns);
    }
}

bool announce_is_told(struct announce *announce, const struct session *session)
{
    const struct sessions *sessions = announce->setup.sessions;
    bool is_bridge = session == &sessions->bridge;
    bool told = true;
    if (is_bridge)
        told = documents_is_settled(announce->documents, number_of(announce, BRIDGE_STATUS, 0));
    const struct device_list *list = &announce->setup.conf->devices;
    for (unsigned i = device_next(list, 0); i < list->n_devices; i = device_next(list, i + 1)) {
        bool is_its = sessions->n_devices > 0 ? session == &sessions->devices[i] : is_bridge;
        if (is_its)
            told =
                told && documents_is_settled(announce->documents, number_of(announce, STATUS, i));
    }
    return told;
}

/* ---- what a reload changes ---- */

/* Does it for every document of the device at this place. */
static void for_device(struct announce *announce, unsigned device,
                       void (*act)(struct announce *announce, unsigned number, int64_t now_ns),
                       int64_t now_ns)
{
    static const enum kind kinds[] = {STATUS, CONTROL, INFO, SCHEDULE, STATE, HA_DEVICE};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        act(announce, number_of(announce, kinds[i], device), now_ns);
}

static void part(struct announce *announce, unsigned number, int64_t now_ns)
{
    char topic[TOPIC_MAX + 1];
    (void)now_ns;
    if (!announced_topic(announce, number, topic))
        return;
    add_gone(announce, topic);
    documents_reset(announce->documents, number, number + 1);
}

static void renew(struct announce *announce, unsigned number, int64_t now_ns)
{
    char topic[TOPIC_MAX + 1];
    hash_topic(announce, number);
    if (!announced_topic(announce, number, topic))
        return;
    forget_gone(announce, topic);
    remember(announce, topic, true);
    if (announce->places[number].kind != STATE)
        documents_call(announce->documents, number, now_ns);
}

static void for_discovery(struct announce *announce,
                          void (*act)(struct announce *announce, unsigned number, int64_t now_ns),
                          int64_t now_ns)
{
    for (unsigned i = 0; i < 1 + announce->n_devices; i++)
        act(announce, number_of(announce, HA_BRIDGE, 0) + i, now_ns);
}

void announce_part_discovery(struct announce *announce)
{
    for_discovery(announce, part, 0);
}

void announce_renew_discovery(struct announce *announce, int64_t now_ns)
{
    for_discovery(announce, renew, now_ns);
    if (announce->setup.sessions->bridge.state == SESSION_UP && announce->setup.conf->ha_enabled)
        mqtt_subscribe(announce->setup.sessions->bridge.mqtt, HA_DOCUMENT_BIRTH_TOPIC, MQTT_LIVE);
}

void announce_part(struct announce *announce, unsigned device)
{
    for_device(announce, device, part, 0);
    announce->scheduled[device] = (struct schedule_status){.revision = -1};
}

void announce_renew(struct announce *announce, unsigned device, int64_t now_ns)
{
    for_device(announce, device, renew, now_ns);
}

void announce_renewed(struct announce *announce, int64_t now_ns)
{
    unsigned n_paced = 0;
    documents_call(announce->documents, number_of(announce, BRIDGE_INFO, 0), now_ns);
    documents_call(announce->documents, number_of(announce, HEALTH, 0), now_ns);
    call_gone(announce, 0, &n_paced, now_ns);
    struct mqtt *mqtt = announce->setup.sessions->bridge.mqtt;
    if (announce->setup.sessions->bridge.state == SESSION_UP && !mqtt_has_wildcards(mqtt))
        listen(announce);
}

/* ---- what arrives ---- */

/* The number of our document with this topic, or -1. */
static int find_number(struct announce *announce, const char *topic)
{
    uint64_t hash = limits_hash(topic, strlen(topic));
    int found = -1;
    pthread_mutex_lock(&announce->mutex);
    for (unsigned number = 0; found < 0 && number < announce->first[GONE]; number++)
        if (announce->hashes[number] == hash)
            found = (int)number;
    pthread_mutex_unlock(&announce->mutex);
    return found;
}

/* The first since the last was looked at: those that follow it are our own. */
static void keep_info(struct announce *announce, const struct mqtt_arrival *arrival)
{
    char *copy =
        arrival->payload_size <= INFO_MAX ? strndup(arrival->payload, arrival->payload_size) : NULL;
    pthread_mutex_lock(&announce->mutex);
    if (announce->info == NULL) {
        announce->info = copy;
        copy = NULL;
    }
    pthread_mutex_unlock(&announce->mutex);
    free(copy);
}

/* Somebody else's: what it should be is sent again, unless the next sample is quicker. */
static void see_state(struct announce *announce, unsigned number, int64_t now_ns)
{
    struct mend *mend = &announce->mends[announce->places[number].index];
    if (!is_announced(announce, number))
        return;
    const uint64_t seq = latest_seq(announce->setup.latest, announce->places[number].index);
    pthread_mutex_lock(&announce->mutex);
    if (mend->seq != seq)
        *mend = (struct mend){.seq = seq};
    const bool wanted = seq != 0 && mend->n < MENDED_MAX;
    pthread_mutex_unlock(&announce->mutex);
    if (wanted)
        documents_call(announce->documents, number, now_ns + DOCUMENTS_WRONG_NS);
}

/* Whether no newer sample was taken since. */
static bool is_mend_due(struct announce *announce, unsigned device)
{
    struct mend *mend = &announce->mends[device];
    const uint64_t seq = latest_seq(announce->setup.latest, device);
    pthread_mutex_lock(&announce->mutex);
    const bool due = mend->seq == seq;
    mend->n += due;
    pthread_mutex_unlock(&announce->mutex);
    return due;
}

bool announce_arrived(struct announce *announce, const struct mqtt_arrival *arrival)
{
    static const char online[] = "online";
    const struct conf *conf = announce->setup.conf;
    char topic[TOPIC_MAX + 1], point[TOPIC_MAX + 1];
    if (topic_parse(conf, arrival->topic, topic, point))
        return false; /* a command */
    if (strcmp(arrival->topic, HA_DOCUMENT_BIRTH_TOPIC) == 0) {
        if (arrival->payload_size == strlen(online) &&
            memcmp(arrival->payload, online, strlen(online)) == 0)
            atomic_store(&announce->born, true);
        return true;
    }
    int number = find_number(announce, arrival->topic);
    if (number < 0)
        return true; /* of a device that is no more */
    if (announce->places[number].kind == BRIDGE_INFO && arrival->retained)
        keep_info(announce, arrival);
    if (announce->places[number].kind == STATE) {
        see_state(announce, (unsigned)number, clock_mono_ns());
        return true;
    }
    documents_seen(announce->documents, (unsigned)number,
                   limits_hash(arrival->payload, arrival->payload_size), clock_mono_ns());
    return true;
}

void announce_ack(struct announce *announce, uint64_t ticket, enum mqtt_fate fate)
{
    unsigned number = (unsigned)(ticket & ~ANNOUNCE_TICKET);
    char topic[TOPIC_MAX + 1];
    documents_ack(announce->documents, number, fate, clock_mono_ns());
    if (fate == MQTT_DELIVERED && announce->places[number].kind == GONE &&
        topic_of(announce, number, topic))
        remember(announce, topic, false);
}

/* ---- what is sent ---- */

static void take_presence(struct announce *announce, int64_t now_ns)
{
    unsigned device = 0;
    bool online;
    while (outbox_take_presence(announce->setup.outbox, &device, &online)) {
        int64_t due_ns = announce->status_ns[device] + DAMP_NS;
        documents_call(announce->documents, number_of(announce, STATUS, device),
                       due_ns > now_ns ? due_ns : now_ns);
        device++;
    }
}

static void take_controls(struct announce *announce, int64_t now_ns)
{
    for (unsigned device = 0; outbox_take_control(announce->setup.outbox, &device); device++) {
        int64_t due_ns = announce->control_ns[device] + DAMP_NS;
        documents_call(announce->documents, number_of(announce, CONTROL, device),
                       due_ns > now_ns ? due_ns : now_ns);
    }
}

static struct session *session_of(struct announce *announce, unsigned number)
{
    struct sessions *sessions = announce->setup.sessions;
    const struct place *place = &announce->places[number];
    return place->kind == STATUS && sessions->n_devices > 0 ? &sessions->devices[place->index]
                                                            : &sessions->bridge;
}

/* A device whose session is not up has its turn when it is, and one that is online
 * when commands are heard. */
static bool may_send(struct announce *announce, unsigned number, const struct session *session)
{
    const struct place *place = &announce->places[number];
    char topic[TOPIC_MAX + 1];
    if (place->kind == GONE ? !topic_of(announce, number, topic) : !is_announced(announce, number))
        return false;
    bool early = place->kind == STATUS && announce->setup.sessions->n_devices > 0 &&
                 is_online(announce, place->index) && !atomic_load(&announce->hearing);
    const bool late = place->kind == STATE && !is_mend_due(announce, place->index);
    return session->state == SESSION_UP && !early && !late;
}

/* Once for each topic. */
static void tell_changed(struct announce *announce, unsigned number)
{
    char topic[TOPIC_MAX + 1];
    if (!announce->told[number] && topic_of(announce, number, topic))
        log_warning("somebody else has changed a topic of ours: it is put right topic=%s", topic);
    announce->told[number] = true;
}

/* Out of memory it is tried again in a second. False when there is no room. */
static bool send(struct announce *announce, unsigned number, struct session *session,
                 int64_t now_ns)
{
    const struct place *place = &announce->places[number];
    char topic[TOPIC_MAX + 1];
    char *text = text_of(announce, number, now_ns);
    if (text == NULL || !topic_of(announce, number, topic)) {
        documents_drop(announce->documents, number);
        documents_call(announce->documents, number, now_ns + CLOCK_NS_PER_S);
        free(text);
        return true;
    }
    struct mqtt_message message = {.topic = topic,
                                   .payload = text,
                                   .payload_size = strlen(text),
                                   .qos = place->kind == HEALTH ? 0 : 1,
                                   .retained = true};
    if (place->kind == STATE) {
        message.qos = (int)announce->setup.conf->mqtt.qos;
        message.expiry_s = sample_json_expiry_s(device_of(announce, place->index));
        tell_changed(announce, number);
    }
    documents_sent(announce->documents, number, limits_hash(text, strlen(text)));
    bool taken = mqtt_publish(session->mqtt, &message, ANNOUNCE_TICKET | number);
    if (taken && place->kind == STATUS)
        announce->status_ns[place->index] = now_ns;
    if (taken && place->kind == CONTROL)
        announce->control_ns[place->index] = now_ns;
    if (taken && place->kind == HEALTH)
        documents_call(announce->documents, number, now_ns + HEALTH_NS);
    free(text);
    return taken;
}

/* False when some have to wait for room in the bridge's session. */
static bool run_documents(struct announce *announce, int64_t now_ns)
{
    struct sessions *sessions = announce->setup.sessions;
    unsigned number;
    while (documents_take(announce->documents, now_ns, &number)) {
        struct session *session = session_of(announce, number);
        bool is_bridge = session == &sessions->bridge;
        if (!may_send(announce, number, session)) {
            documents_drop(announce->documents, number);
            continue;
        }
        if (is_bridge && !sessions_has_room(sessions)) {
            documents_return(announce->documents, number);
            return false;
        }
        if (send(announce, number, session, now_ns))
            continue;
        if (is_bridge) { /* it is to go alone: then there is no room now */
            documents_return(announce->documents, number);
        } else {
            documents_drop(announce->documents, number);
            documents_call(announce->documents, number, now_ns + DAMP_NS);
        }
    }
    return true;
}

static void put_right(struct announce *announce, int64_t now_ns)
{
    unsigned number;
    while (documents_next_wrong(announce->documents, now_ns, &number))
        tell_changed(announce, number);
}

int64_t announce_run(struct announce *announce, int64_t now_ns)
{
    unsigned n_paced = 0;
    take_presence(announce, now_ns);
    take_controls(announce, now_ns);
    call_schedules(announce, false, &n_paced, now_ns);
    if (atomic_exchange(&announce->born, false)) {
        announce->seed = announce->seed * 1664525 + 1013904223; /* Numerical Recipes, ch. 7.1 */
        int64_t jitter_ns = (announce->seed >> 16) % JITTER_MAX_MS * CLOCK_NS_PER_MS;
        call_discovery(announce, &n_paced, now_ns + jitter_ns);
    }
    pthread_mutex_lock(&announce->mutex);
    bool has_info = announce->info != NULL;
    pthread_mutex_unlock(&announce->mutex);
    if (has_info) {
        const unsigned n_known = gone_count(announce);
        look_at_info(announce);
        call_gone(announce, n_known, &n_paced, now_ns);
    }
    put_right(announce, now_ns);
    return run_documents(announce, now_ns) ? documents_due_ns(announce->documents) : CLOCK_NEVER;
}
