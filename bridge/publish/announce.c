#include "bridge/publish/announce.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/mqtt/limits.h"
#include "bridge/publish/documents.h"
#include "bridge/publish/gone.h"
#include "bridge/publish/ha_document.h"
#include "bridge/wire/sample_json.h"
#include "bridge/wire/status_json.h"

enum { JITTER_MAX_MS = 2000, BURST = 20 };

#define HEALTH_NS (STATUS_JSON_HEALTH_S * CLOCK_NS_PER_S)
#define DAMP_NS   CLOCK_NS_PER_S /* between two of one status or control */
/* Discovery waits for the bridge/info of an earlier run, and Home Assistant to have
 * forgotten what is gone. */
#define DISCOVERY_NS CLOCK_NS_PER_S
#define PACE_NS      (10 * CLOCK_NS_PER_MS) /* between two infos or discovery documents */

/* Of a sample that was put right so often, the next one is waited for. */
enum { MENDED_MAX = 5 };

/* Somebody else has changed a device's state. */
struct mend {
    uint64_t seq; /* of the sample that it should be */
    unsigned n;   /* how often */
};

struct announce {
    struct announce_setup setup;
    const struct conf *conf;
    unsigned n_devices;
    struct retained *retained;
    struct gone *gone;
    struct documents *documents;
    int64_t *status_ns, *control_ns;   /* when that of a device was sent last */
    uint64_t schedules;                /* changes of theirs, as last looked at */
    struct schedule_status *scheduled; /* by device, as last called */
    bool *told;                        /* that somebody else changes it, by document */
    uint32_t seed;
    unsigned untold; /* at the end: before this device all have been told */
    atomic_uint_fast64_t n_acked;
    atomic_bool hearing;
    atomic_bool born; /* Home Assistant has said that it is there */

    pthread_mutex_t mutex; /* guards what follows */
    struct mend *mends;    /* by device */
};

static unsigned number_of(const struct announce *announce, enum retained_kind kind, unsigned index)
{
    return retained_number(announce->retained, kind, index);
}

static enum retained_kind kind_of(const struct announce *announce, unsigned number)
{
    return retained_kind(announce->retained, number);
}

static bool is_published(const struct announce *announce, unsigned number)
{
    return retained_is_published(announce->retained, number);
}

/* False for what is there again. */
static bool topic_of(struct announce *announce, unsigned number, char topic[TOPIC_MAX + 1])
{
    return kind_of(announce, number) == RETAINED_GONE
               ? gone_topic(announce->gone, retained_index(announce->retained, number), topic)
               : retained_topic(announce->retained, number, topic);
}

/* ---- beginning and end ---- */

struct announce *announce_new(const struct announce_setup *setup)
{
    const unsigned n = setup->retained.conf->devices.n_devices;
    struct announce *announce = calloc(1, sizeof(*announce));
    if (announce == NULL)
        return NULL;
    announce->setup = *setup;
    announce->conf = setup->retained.conf;
    announce->n_devices = n;
    announce->seed = (uint32_t)strtoul(setup->retained.run, NULL, 16);
    pthread_mutex_init(&announce->mutex, NULL);
    announce->retained = retained_new(&setup->retained);
    if (announce->retained == NULL) {
        announce_free(announce);
        return NULL;
    }
    const unsigned most = retained_count(announce->retained);
    announce->gone = gone_new(announce->conf, announce->retained, setup->state);
    announce->documents = documents_new(most);
    announce->told = calloc(most, sizeof(*announce->told));
    announce->status_ns = calloc(n, sizeof(*announce->status_ns));
    announce->control_ns = calloc(n, sizeof(*announce->control_ns));
    announce->mends = calloc(n, sizeof(*announce->mends));
    announce->scheduled = calloc(n, sizeof(*announce->scheduled));
    if (announce->gone == NULL || announce->documents == NULL || announce->told == NULL ||
        announce->status_ns == NULL || announce->control_ns == NULL || announce->mends == NULL ||
        announce->scheduled == NULL) {
        announce_free(announce);
        return NULL;
    }
    return announce;
}

void announce_free(struct announce *announce)
{
    if (announce == NULL)
        return;
    gone_free(announce->gone);
    retained_free(announce->retained);
    documents_free(announce->documents);
    free(announce->told);
    free(announce->status_ns);
    free(announce->control_ns);
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
        if (kind_of(announce, number) != RETAINED_GONE && !is_published(announce, number))
            continue;
        documents_call(announce->documents, number, now_ns + n_late * PACE_NS);
        ++*n_before;
    }
}

static void call_discovery(struct announce *announce, unsigned *n_before, int64_t now_ns)
{
    if (announce->conf->ha_enabled)
        call_paced(announce, number_of(announce, RETAINED_HA_BRIDGE, 0), 1 + announce->n_devices,
                   n_before, now_ns);
}

/* Of all batteries, or of those whose schedules stand elsewhere now. */
static void call_schedules(struct announce *announce, bool all, unsigned *n_before, int64_t now_ns)
{
    struct latest *latest = announce->setup.retained.latest;
    const uint64_t changes = latest != NULL ? latest_schedules(latest) : 0;
    if (latest == NULL || (!all && changes == announce->schedules))
        return;
    announce->schedules = changes;
    for (unsigned i = 0; i < announce->n_devices; i++) {
        if (!is_published(announce, number_of(announce, RETAINED_SCHEDULE, i)))
            continue;
        const struct schedule_status status = latest_schedule(latest, i);
        if (!all && schedule_status_same(&status, &announce->scheduled[i]))
            continue;
        announce->scheduled[i] = status;
        const unsigned n_late = *n_before > BURST ? *n_before - BURST : 0;
        documents_call(announce->documents, number_of(announce, RETAINED_SCHEDULE, i),
                       now_ns + n_late * PACE_NS);
        ++*n_before;
    }
}

static bool is_discovery(const struct announce *announce, const char *topic)
{
    const char *prefix = announce->conf->ha_prefix;
    const size_t size = strlen(prefix);
    return strncmp(topic, prefix, size) == 0 && topic[size] == '/';
}

/* Those from number `first` on. Home Assistant complains of an empty message of an entity
 * that it still has: the documents go first, and the rest when those that follow are known. */
static void call_gone(struct announce *announce, unsigned first, unsigned *n_before, int64_t now_ns)
{
    const int64_t later_ns = announce->conf->ha_enabled ? 2 * DISCOVERY_NS : 0;
    const unsigned n = gone_count(announce->gone);
    char topic[TOPIC_MAX + 1];
    for (unsigned i = first; i < n; i++) {
        const unsigned number = number_of(announce, RETAINED_GONE, i);
        if (topic_of(announce, number, topic))
            call_paced(announce, number, 1, n_before,
                       now_ns + (is_discovery(announce, topic) ? 0 : later_ns));
    }
}

/* Each by its topic: a wildcard would bring what all others tell Home Assistant. They are
 * large, and sent soon after the connect: not what lies there, nor our own (version 5). */
static void listen_discovery(struct announce *announce, unsigned number)
{
    char topic[TOPIC_MAX + 1];
    if (is_published(announce, number) && topic_of(announce, number, topic))
        mqtt_subscribe(announce->setup.sessions->bridge.mqtt, topic, MQTT_OTHERS);
}

static void listen(struct announce *announce)
{
    const struct conf *conf = announce->conf;
    struct mqtt *mqtt = announce->setup.sessions->bridge.mqtt;
    char topic[TOPIC_MAX + 1];
    if (conf->ha_enabled)
        mqtt_subscribe(mqtt, HA_DOCUMENT_BIRTH_TOPIC, MQTT_LIVE);
    for (unsigned i = 0; i < 1 + announce->n_devices; i++)
        listen_discovery(announce, number_of(announce, RETAINED_HA_BRIDGE, 0) + i);
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
    for (unsigned number = 0; number < number_of(announce, RETAINED_GONE, 0); number++) {
        const enum retained_kind kind = kind_of(announce, number);
        if (kind != RETAINED_HEALTH && is_published(announce, number) &&
            topic_of(announce, number, topic))
            mqtt_subscribe(mqtt, topic, kind == RETAINED_STATE ? MQTT_OTHERS : MQTT_RETAINED);
    }
}

void announce_begin(struct announce *announce, int64_t now_ns)
{
    unsigned n_paced = 0;
    gone_remember_all(announce->gone);
    listen(announce);
    documents_call(announce->documents, number_of(announce, RETAINED_BRIDGE_STATUS, 0), now_ns);
    documents_call(announce->documents, number_of(announce, RETAINED_HEALTH, 0), now_ns);
    for (unsigned number = number_of(announce, RETAINED_STATUS, 0);
         number < number_of(announce, RETAINED_BRIDGE_INFO, 0); number++)
        if (is_published(announce, number)) /* statuses and controls */
            documents_call(announce->documents, number, now_ns);
    call_paced(announce, number_of(announce, RETAINED_BRIDGE_INFO, 0), 1 + announce->n_devices,
               &n_paced, now_ns);
    call_schedules(announce, true, &n_paced, now_ns);
    call_gone(announce, 0, &n_paced, now_ns);
    call_discovery(announce, &n_paced, now_ns + DISCOVERY_NS);
}

void announce_lost(struct announce *announce)
{
    const unsigned statuses = number_of(announce, RETAINED_STATUS, 0),
                   end = number_of(announce, RETAINED_HEALTH, 0);
    atomic_store(&announce->hearing, false);
    announce->untold = 0;
    documents_reset(announce->documents, 0, statuses);
    if (announce->setup.sessions->n_devices == 0)
        documents_reset(announce->documents, statuses, end);
    documents_reset(announce->documents, end, UINT32_MAX);
}

void announce_hearing(struct announce *announce)
{
    atomic_store(&announce->hearing, true);
    for (unsigned i = 0; i < announce->n_devices; i++)
        if (outbox_is_online(announce->setup.retained.outbox, i))
            documents_call(announce->documents, number_of(announce, RETAINED_STATUS, i), 0);
}

void announce_farewell(struct announce *announce, int64_t now_ns)
{
    retained_end(announce->retained);
    announce->untold = 0;
    documents_call(announce->documents, number_of(announce, RETAINED_BRIDGE_STATUS, 0), now_ns);
    const struct device_list *list = &announce->conf->devices;
    for (unsigned i = device_next(list, 0); i < list->n_devices; i = device_next(list, i + 1)) {
        const unsigned control = number_of(announce, RETAINED_CONTROL, i);
        documents_call(announce->documents, number_of(announce, RETAINED_STATUS, i), now_ns);
        if (is_published(announce, control) && !documents_is_settled(announce->documents, control))
            documents_call(announce->documents, control, now_ns);
    }
}

static bool is_settled(struct announce *announce, enum retained_kind kind, unsigned index)
{
    return documents_is_settled(announce->documents, number_of(announce, kind, index));
}

/* What was acknowledged needs no other look. */
bool announce_is_all_told(struct announce *announce)
{
    const struct device_list *list = &announce->conf->devices;
    unsigned i = device_next(list, announce->untold);
    while (i < list->n_devices && is_settled(announce, RETAINED_STATUS, i))
        i = device_next(list, i + 1);
    announce->untold = i;
    return i >= list->n_devices && is_settled(announce, RETAINED_BRIDGE_STATUS, 0);
}

bool announce_is_told(struct announce *announce, const struct session *session)
{
    const struct sessions *sessions = announce->setup.sessions;
    if (session != &sessions->bridge)
        return is_settled(announce, RETAINED_STATUS, (unsigned)(session - sessions->devices));
    return sessions->n_devices > 0 ? is_settled(announce, RETAINED_BRIDGE_STATUS, 0)
                                   : announce_is_all_told(announce);
}

uint64_t announce_acked(struct announce *announce)
{
    return atomic_load(&announce->n_acked);
}

/* ---- what a reload changes ---- */

/* Does it for every document of the device at this place. */
static void for_device(struct announce *announce, unsigned device,
                       void (*act)(struct announce *announce, unsigned number, int64_t now_ns),
                       int64_t now_ns)
{
    static const enum retained_kind kinds[] = {RETAINED_STATUS, RETAINED_CONTROL,
                                               RETAINED_INFO,   RETAINED_SCHEDULE,
                                               RETAINED_STATE,  RETAINED_HA_DEVICE};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        act(announce, number_of(announce, kinds[i], device), now_ns);
}

static void part(struct announce *announce, unsigned number, int64_t now_ns)
{
    (void)now_ns;
    gone_part(announce->gone, number);
    documents_reset(announce->documents, number, number + 1);
}

static void renew(struct announce *announce, unsigned number, int64_t now_ns)
{
    retained_renew(announce->retained, number);
    gone_renew(announce->gone, number);
    if (is_published(announce, number) && kind_of(announce, number) != RETAINED_STATE)
        documents_call(announce->documents, number, now_ns);
}

static void for_discovery(struct announce *announce,
                          void (*act)(struct announce *announce, unsigned number, int64_t now_ns),
                          int64_t now_ns)
{
    for (unsigned i = 0; i < 1 + announce->n_devices; i++)
        act(announce, number_of(announce, RETAINED_HA_BRIDGE, 0) + i, now_ns);
}

void announce_part_discovery(struct announce *announce)
{
    for_discovery(announce, part, 0);
}

void announce_renew_discovery(struct announce *announce, int64_t now_ns)
{
    for_discovery(announce, renew, now_ns);
    if (announce->setup.sessions->bridge.state == SESSION_UP)
        listen(announce);
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
    documents_call(announce->documents, number_of(announce, RETAINED_BRIDGE_INFO, 0), now_ns);
    documents_call(announce->documents, number_of(announce, RETAINED_HEALTH, 0), now_ns);
    call_gone(announce, 0, &n_paced, now_ns);
    if (announce->setup.sessions->bridge.state == SESSION_UP)
        listen(announce);
}

/* ---- what arrives ---- */

/* Somebody else's: what it should be is sent again, unless the next sample is quicker. */
static void see_state(struct announce *announce, unsigned number, int64_t now_ns)
{
    struct mend *mend = &announce->mends[retained_index(announce->retained, number)];
    if (!is_published(announce, number))
        return;
    const uint64_t seq =
        latest_seq(announce->setup.retained.latest, retained_index(announce->retained, number));
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
    const uint64_t seq = latest_seq(announce->setup.retained.latest, device);
    pthread_mutex_lock(&announce->mutex);
    const bool due = mend->seq == seq;
    mend->n += due;
    pthread_mutex_unlock(&announce->mutex);
    return due;
}

bool announce_arrived(struct announce *announce, const struct mqtt_arrival *arrival)
{
    static const char online[] = "online";
    const struct conf *conf = announce->conf;
    char topic[TOPIC_MAX + 1], point[TOPIC_MAX + 1];
    if (topic_parse(conf, arrival->topic, topic, point))
        return false; /* a command */
    if (strcmp(arrival->topic, HA_DOCUMENT_BIRTH_TOPIC) == 0) {
        if (arrival->payload_size == strlen(online) &&
            memcmp(arrival->payload, online, strlen(online)) == 0)
            atomic_store(&announce->born, true);
        return true;
    }
    const int found = retained_find(announce->retained, arrival->topic);
    if (found < 0)
        return true; /* of a device that is no more */
    const unsigned number = (unsigned)found;
    if (kind_of(announce, number) == RETAINED_BRIDGE_INFO && arrival->retained)
        gone_keep_info(announce->gone, arrival);
    if (kind_of(announce, number) == RETAINED_STATE) {
        see_state(announce, number, clock_mono_ns());
        return true;
    }
    documents_seen(announce->documents, number,
                   limits_hash(arrival->payload, arrival->payload_size),
                   kind_of(announce, number) >= RETAINED_HA_BRIDGE, clock_mono_ns());
    return true;
}

void announce_ack(struct announce *announce, uint64_t ticket, enum mqtt_fate fate)
{
    const unsigned number = (unsigned)(ticket & ~ANNOUNCE_TICKET);
    documents_ack(announce->documents, number, fate, clock_mono_ns());
    atomic_fetch_add(&announce->n_acked, fate == MQTT_DELIVERED);
    if (fate == MQTT_DELIVERED && kind_of(announce, number) == RETAINED_GONE)
        gone_cleared(announce->gone, retained_index(announce->retained, number));
}

/* ---- what is sent ---- */

static void take_presence(struct announce *announce, int64_t now_ns)
{
    unsigned device = 0;
    bool online;
    while (outbox_take_presence(announce->setup.retained.outbox, &device, &online)) {
        int64_t due_ns = announce->status_ns[device] + DAMP_NS;
        documents_call(announce->documents, number_of(announce, RETAINED_STATUS, device),
                       due_ns > now_ns ? due_ns : now_ns);
        device++;
    }
}

static void call_controls(struct announce *announce, int64_t now_ns)
{
    for (unsigned i = 0; i < announce->n_devices; i++)
        if (is_published(announce, number_of(announce, RETAINED_CONTROL, i)))
            documents_call(announce->documents, number_of(announce, RETAINED_CONTROL, i), now_ns);
}

static void take_controls(struct announce *announce, int64_t now_ns)
{
    for (unsigned device = 0; outbox_take_control(announce->setup.retained.outbox, &device);
         device++) {
        int64_t due_ns = announce->control_ns[device] + DAMP_NS;
        documents_call(announce->documents, number_of(announce, RETAINED_CONTROL, device),
                       due_ns > now_ns ? due_ns : now_ns);
    }
}

static struct session *session_of(struct announce *announce, unsigned number)
{
    struct sessions *sessions = announce->setup.sessions;
    const enum retained_kind kind = kind_of(announce, number);
    return kind == RETAINED_STATUS && sessions->n_devices > 0
               ? &sessions->devices[retained_index(announce->retained, number)]
               : &sessions->bridge;
}

/* A device whose session is not up has its turn when it is, and one that is online
 * when commands are heard. */
static bool may_send(struct announce *announce, unsigned number, const struct session *session)
{
    const enum retained_kind kind = kind_of(announce, number);
    char topic[TOPIC_MAX + 1];
    if (kind == RETAINED_GONE ? !topic_of(announce, number, topic)
                              : !is_published(announce, number))
        return false;
    bool early =
        kind == RETAINED_STATUS && announce->setup.sessions->n_devices > 0 &&
        retained_is_online(announce->retained, retained_index(announce->retained, number)) &&
        !atomic_load(&announce->hearing);
    const bool late = kind == RETAINED_STATE &&
                      !is_mend_due(announce, retained_index(announce->retained, number));
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
    const enum retained_kind kind = kind_of(announce, number);
    char topic[TOPIC_MAX + 1];
    char *text = retained_text(announce->retained, number, now_ns);
    if (text == NULL || !topic_of(announce, number, topic)) {
        documents_drop(announce->documents, number);
        documents_call(announce->documents, number, now_ns + CLOCK_NS_PER_S);
        free(text);
        return true;
    }
    struct mqtt_message message = {.topic = topic,
                                   .payload = text,
                                   .payload_size = strlen(text),
                                   .qos = kind == RETAINED_HEALTH ? 0 : 1,
                                   .retained = true};
    if (kind == RETAINED_STATE) {
        message.qos = (int)announce->conf->mqtt.qos;
        message.expiry_s = sample_json_expiry_s(
            &announce->conf->devices.devices[retained_index(announce->retained, number)]);
        tell_changed(announce, number);
    }
    documents_sent(announce->documents, number, limits_hash(text, strlen(text)));
    bool taken = session_publish(session, &message, ANNOUNCE_TICKET | number);
    if (taken && kind == RETAINED_STATUS)
        announce->status_ns[retained_index(announce->retained, number)] = now_ns;
    if (taken && kind == RETAINED_CONTROL)
        announce->control_ns[retained_index(announce->retained, number)] = now_ns;
    if (taken && kind == RETAINED_HEALTH)
        documents_call(announce->documents, number, now_ns + HEALTH_NS);
    free(text);
    return taken;
}

/* False when some have to wait for room in the bridge's session. */
static bool run_documents(struct announce *announce, int64_t now_ns)
{
    struct sessions *sessions = announce->setup.sessions;
    enum outbox_kind last;
    unsigned number;
    while (documents_take(announce->documents, now_ns, &number)) {
        struct session *session = session_of(announce, number);
        bool is_bridge = session == &sessions->bridge;
        if (!may_send(announce, number, session)) {
            documents_drop(announce->documents, number);
            continue;
        }
        if (is_bridge && !sessions_has_room(sessions, &last)) {
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
    const unsigned n_known = gone_count(announce->gone);
    (void)gone_look_at_info(announce->gone);
    if (gone_recall(announce->gone)) /* late: the last outcomes are known now, too */
        call_controls(announce, now_ns);
    call_gone(announce, n_known, &n_paced, now_ns);
    put_right(announce, now_ns);
    return run_documents(announce, now_ns) ? documents_due_ns(announce->documents) : CLOCK_NEVER;
}
