#include "bridge/publish/announce_inside.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/publish/ha_document.h"

enum { BURST = 20 };

/* Discovery waits for the bridge/info of an earlier run, and Home Assistant to have
 * forgotten what is gone. */
#define DISCOVERY_NS CLOCK_NS_PER_S
#define PACE_NS      (10 * CLOCK_NS_PER_MS) /* between two infos or discovery documents */

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
        if (announce_kind(announce, number) != RETAINED_GONE &&
            !announce_is_published(announce, number))
            continue;
        documents_call(announce->documents, number, now_ns + n_late * PACE_NS);
        ++*n_before;
    }
}

void announce_call_discovery(struct announce *announce, unsigned *n_before, int64_t now_ns)
{
    if (announce->conf->ha_enabled)
        call_paced(announce, announce_number(announce, RETAINED_HA_BRIDGE, 0),
                   1 + announce->n_devices, n_before, now_ns);
}

/* Of all batteries, or of those whose schedules stand elsewhere now. */
void announce_call_schedules(struct announce *announce, bool all, unsigned *n_before,
                             int64_t now_ns)
{
    struct latest *latest = announce->setup.retained.latest;
    const uint64_t changes = latest != NULL ? latest_schedules(latest) : 0;
    if (latest == NULL || (!all && changes == announce->schedules))
        return;
    announce->schedules = changes;
    for (unsigned i = 0; i < announce->n_devices; i++) {
        if (!announce_is_published(announce, announce_number(announce, RETAINED_SCHEDULE, i)))
            continue;
        const struct schedule_status status = latest_schedule(latest, i);
        if (!all && schedule_status_same(&status, &announce->scheduled[i]))
            continue;
        announce->scheduled[i] = status;
        const unsigned n_late = *n_before > BURST ? *n_before - BURST : 0;
        documents_call(announce->documents, announce_number(announce, RETAINED_SCHEDULE, i),
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
void announce_call_gone(struct announce *announce, unsigned first, unsigned *n_before,
                        int64_t now_ns)
{
    const int64_t later_ns = announce->conf->ha_enabled ? 2 * DISCOVERY_NS : 0;
    const unsigned n = gone_count(announce->gone);
    char topic[TOPIC_MAX + 1];
    for (unsigned i = first; i < n; i++) {
        const unsigned number = announce_number(announce, RETAINED_GONE, i);
        if (announce_topic(announce, number, topic))
            call_paced(announce, number, 1, n_before,
                       now_ns + (is_discovery(announce, topic) ? 0 : later_ns));
    }
}

/* What others do to our own topics. At QoS 0: it comes over the same connection, and a
 * cluster keeps a queue of its own, on several nodes, for each subscription at QoS 1. */
static void watch(struct announce *announce, const char *topic, enum mqtt_hearing hearing)
{
    mqtt_subscribe(announce->setup.sessions->bridge.mqtt, topic, hearing, 0);
}

/* Each by its topic: a wildcard would bring what all others tell Home Assistant. They are
 * large, and sent soon after the connect: not what lies there, nor our own (version 5). */
static void listen_discovery(struct announce *announce, unsigned number)
{
    char topic[TOPIC_MAX + 1];
    if (announce_is_published(announce, number) && announce_topic(announce, number, topic))
        watch(announce, topic, MQTT_OTHERS);
}

static void listen(struct announce *announce)
{
    const struct conf *conf = announce->conf;
    struct mqtt *mqtt = announce->setup.sessions->bridge.mqtt;
    char topic[TOPIC_MAX + 1];
    if (conf->ha_enabled)
        mqtt_subscribe(mqtt, HA_DOCUMENT_BIRTH_TOPIC, MQTT_LIVE, 1);
    for (unsigned i = 0; i < 1 + announce->n_devices; i++)
        listen_discovery(announce, announce_number(announce, RETAINED_HA_BRIDGE, 0) + i);
    if (topic_make(topic, conf, "bridge", "health"))
        watch(announce, topic, MQTT_LIVE);
    if (mqtt_has_wildcards(mqtt)) {
        static const char *const leaves[] = {"control", "info", "status", "schedule"};
        for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++)
            if (topic_make(topic, conf, "+", leaves[i]))
                watch(announce, topic, MQTT_RETAINED);
        if (conf->mqtt.version >= 5 && topic_make(topic, conf, "+", "state"))
            watch(announce, topic, MQTT_OTHERS);
        return;
    }
    for (unsigned number = 0; number < announce_number(announce, RETAINED_GONE, 0); number++) {
        const enum retained_kind kind = announce_kind(announce, number);
        if (kind != RETAINED_HEALTH && announce_is_published(announce, number) &&
            announce_topic(announce, number, topic))
            watch(announce, topic, kind == RETAINED_STATE ? MQTT_OTHERS : MQTT_RETAINED);
    }
}

void announce_begin(struct announce *announce, int64_t now_ns)
{
    unsigned n_paced = 0;
    gone_remember_all(announce->gone);
    listen(announce);
    documents_call(announce->documents, announce_number(announce, RETAINED_BRIDGE_STATUS, 0),
                   now_ns);
    documents_call(announce->documents, announce_number(announce, RETAINED_HEALTH, 0), now_ns);
    for (unsigned number = announce_number(announce, RETAINED_STATUS, 0);
         number < announce_number(announce, RETAINED_BRIDGE_INFO, 0); number++)
        if (announce_is_published(announce, number)) /* statuses and controls */
            documents_call(announce->documents, number, now_ns);
    call_paced(announce, announce_number(announce, RETAINED_BRIDGE_INFO, 0),
               1 + announce->n_devices, &n_paced, now_ns);
    announce_call_schedules(announce, true, &n_paced, now_ns);
    announce_call_gone(announce, 0, &n_paced, now_ns);
    announce_call_discovery(announce, &n_paced, now_ns + DISCOVERY_NS);
}

void announce_lost(struct announce *announce)
{
    const unsigned statuses = announce_number(announce, RETAINED_STATUS, 0),
                   end = announce_number(announce, RETAINED_HEALTH, 0);
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
            documents_call(announce->documents, announce_number(announce, RETAINED_STATUS, i), 0);
}

void announce_farewell(struct announce *announce, int64_t now_ns)
{
    retained_end(announce->retained);
    announce->untold = 0;
    documents_call(announce->documents, announce_number(announce, RETAINED_BRIDGE_STATUS, 0),
                   now_ns);
    const struct device_list *list = &announce->conf->devices;
    for (unsigned i = device_next(list, 0); i < list->n_devices; i = device_next(list, i + 1)) {
        const unsigned control = announce_number(announce, RETAINED_CONTROL, i);
        documents_call(announce->documents, announce_number(announce, RETAINED_STATUS, i), now_ns);
        if (announce_is_published(announce, control) &&
            !documents_is_settled(announce->documents, control))
            documents_call(announce->documents, control, now_ns);
    }
}

static bool is_settled(struct announce *announce, enum retained_kind kind, unsigned index)
{
    return documents_is_settled(announce->documents, announce_number(announce, kind, index));
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
        act(announce, announce_number(announce, kinds[i], device), now_ns);
}

static void alter(struct announce *announce, unsigned number, int64_t now_ns)
{
    (void)now_ns;
    gone_part(announce->gone, number);
}

static void part(struct announce *announce, unsigned number, int64_t now_ns)
{
    alter(announce, number, now_ns);
    documents_reset(announce->documents, number, number + 1);
}

static void renew(struct announce *announce, unsigned number, int64_t now_ns)
{
    retained_renew(announce->retained, number);
    gone_renew(announce->gone, number);
    if (announce_is_published(announce, number) &&
        announce_kind(announce, number) != RETAINED_STATE)
        documents_call(announce->documents, number, now_ns);
}

static void for_discovery(struct announce *announce,
                          void (*act)(struct announce *announce, unsigned number, int64_t now_ns),
                          int64_t now_ns)
{
    for (unsigned i = 0; i < 1 + announce->n_devices; i++)
        act(announce, announce_number(announce, RETAINED_HA_BRIDGE, 0) + i, now_ns);
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

void announce_alter(struct announce *announce, unsigned device)
{
    for_device(announce, device, alter, 0);
}

void announce_renew(struct announce *announce, unsigned device, int64_t now_ns)
{
    for_device(announce, device, renew, now_ns);
}

void announce_renewed(struct announce *announce, int64_t now_ns)
{
    unsigned n_paced = 0;
    documents_call(announce->documents, announce_number(announce, RETAINED_BRIDGE_INFO, 0), now_ns);
    documents_call(announce->documents, announce_number(announce, RETAINED_HEALTH, 0), now_ns);
    gone_renewed(announce->gone);
    announce_call_gone(announce, 0, &n_paced, now_ns);
    if (announce->setup.sessions->bridge.state == SESSION_UP)
        listen(announce);
}
