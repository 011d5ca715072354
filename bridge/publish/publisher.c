#include "bridge/publish/publisher.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/mqtt/arrival.h"
#include "bridge/mqtt/sessions.h"
#include "bridge/publish/ha_announce.h"
#include "bridge/wire/sample_json.h"
#include "bridge/wire/status_json.h"
#include "bridge/wire/topic.h"

enum { REFUSALS_MAX = 64 };

#define HEALTH_NS   (STATUS_JSON_HEALTH_S * CLOCK_NS_PER_S)
#define FAREWELL_NS (250 * CLOCK_NS_PER_MS) /* for the last words after the grace */
#define NAP_MAX_NS  (60 * CLOCK_NS_PER_S)
#define SLACK_NS    (60 * CLOCK_NS_PER_S) /* a name that resolves slowly holds up the library */

/* A topic that the broker does not let us use; each is logged once. */
struct refusal {
    char topic[TOPIC_MAX + 1];
    char why[MQTT_WHY_MAX];
};

struct publisher {
    struct publisher_setup setup;
    const struct conf *conf;
    pthread_t thread;
    atomic_bool stopping, reloaded;
    atomic_bool crowded; /* something found no room in the bridge session */
    atomic_bool hearing; /* the broker has answered the subscription to commands */
    int64_t grace_ns;    /* set before stopping */
    int64_t started_ns;  /* UTC may be set meanwhile */
    _Atomic int64_t promise_ns;
    struct sessions sessions;
    struct ha_announce announce;
    bool was_up;        /* the bridge session, at some time */
    unsigned announced; /* retained documents sent since the bridge session is up */
    int64_t health_due_ns;
    struct outbox_item *item;
    char *text;      /* of a sample: room for OUTBOX_PAYLOAD_MAX */
    uint64_t *drops; /* of each device, for the health */

    pthread_mutex_t mutex; /* guards what follows; never held while calling out */
    unsigned n_refusals, n_logged;
    struct refusal refusals[REFUSALS_MAX];
};

/* ---- callbacks, on the library's threads ------------------------------- */

static void on_delivered(void *context, uint64_t ticket, enum mqtt_fate fate)
{
    static const enum outbox_fate fates[] = {[MQTT_DELIVERED] = OUTBOX_DELIVERED,
                                             [MQTT_REFUSED] = OUTBOX_REFUSED,
                                             [MQTT_LOST] = OUTBOX_RETURNED};
    const struct session *session = context;
    struct publisher *publisher = session->setup.owner;
    if (fate == MQTT_DELIVERED)
        health_count(&publisher->setup.health->publishes);
    outbox_ack(publisher->setup.outbox, ticket, fates[fate]);
    /* There is room again for what has no ticket; or that was the last word. */
    if (atomic_load(&publisher->crowded) || atomic_load(&publisher->stopping))
        outbox_wake(publisher->setup.outbox);
}

static void on_refused(void *context, const char *topic, const char *why)
{
    const struct session *session = context;
    struct publisher *publisher = session->setup.owner;
    pthread_mutex_lock(&publisher->mutex);
    unsigned i = 0;
    while (i < publisher->n_refusals && strcmp(publisher->refusals[i].topic, topic) != 0)
        i++;
    if (i == publisher->n_refusals && i < REFUSALS_MAX) {
        struct refusal *refusal = &publisher->refusals[publisher->n_refusals++];
        snprintf(refusal->topic, sizeof(refusal->topic), "%s", topic);
        snprintf(refusal->why, sizeof(refusal->why), "%s", why);
    }
    pthread_mutex_unlock(&publisher->mutex);
}

static void on_answered(void *context, const char *filter)
{
    const struct session *session = context;
    struct publisher *publisher = session->setup.owner;
    char commands[TOPIC_MAX + 1];
    if (!topic_command_filter(commands, publisher->conf) || strcmp(filter, commands) != 0)
        return;
    atomic_store(&publisher->hearing, true);
    outbox_wake(publisher->setup.outbox);
}

static bool on_arrived(void *context, const struct mqtt_arrival *arrival)
{
    const struct session *session = context;
    struct publisher *publisher = session->setup.owner;
    if (!ha_announce_arrived(&publisher->announce, arrival))
        return arrival_put(arrival, publisher->setup.inbox);
    outbox_wake(publisher->setup.outbox);
    return true;
}

/* ---- what is published ------------------------------------------------- */

static bool publish_text(struct publisher *publisher, struct session *session, const char *node,
                         const char *leaf, const char *text, int qos)
{
    char topic[TOPIC_MAX + 1];
    const struct mqtt_message message = {.topic = topic,
                                         .payload = text,
                                         .payload_size = strlen(text),
                                         .qos = qos,
                                         .retained = true};
    return topic_make(topic, publisher->conf, node, leaf) &&
           mqtt_publish(session->mqtt, &message, 0);
}

/* Room in the bridge session; records have taken theirs before. The session
 * itself is up a little earlier than begin_session(). */
static bool has_room(struct publisher *publisher)
{
    struct mqtt *mqtt = publisher->sessions.bridge.mqtt;
    if (publisher->sessions.bridge.state != SESSION_UP)
        return false;
    if (mqtt_room(mqtt) > 0)
        return true;
    atomic_store(&publisher->crowded, true); /* before looking again, so that none is missed */
    return mqtt_room(mqtt) > 0;
}

/* Takes a text made by wire and frees it. */
static bool publish_json(struct publisher *publisher, const char *node, const char *leaf,
                         char *json, int qos)
{
    bool good =
        json != NULL && publish_text(publisher, &publisher->sessions.bridge, node, leaf, json, qos);
    free(json);
    return good;
}

/* The retained documents, in this order: the bridge's status and info, then
 * the info of every device. */
static bool publish_document(struct publisher *publisher, unsigned index)
{
    const struct conf *conf = publisher->conf;
    const struct publisher_setup *setup = &publisher->setup;
    if (index == 0)
        return publish_text(publisher, &publisher->sessions.bridge, "bridge", "status", "online",
                            1);
    if (index == 1)
        return publish_json(publisher, "bridge", "info",
                            status_json_bridge(conf, setup->run, setup->started_ms), 1);
    const struct device *device = &conf->devices.devices[index - 2];
    return publish_json(publisher, device->name, "info", status_json_device(device), 1);
}

static void publish_documents(struct publisher *publisher)
{
    unsigned count = 2 + publisher->conf->devices.n_devices;
    while (publisher->announced < count && has_room(publisher) &&
           publish_document(publisher, publisher->announced)) {
        publisher->announced++;
    }
}

/* Returns false when some have to wait for room. A device whose session is not
 * up has its turn when it is; the session itself is up a little earlier, when
 * its turn would come twice. Whoever sees a device online may send it a command
 * at once: its own session must not say so before the bridge's is heard there. */
static bool publish_presence(struct publisher *publisher)
{
    unsigned device = 0;
    bool online;
    struct sessions *sessions = &publisher->sessions;
    while (sessions->n_devices > 0 || has_room(publisher)) {
        if (!outbox_take_presence(publisher->setup.outbox, &device, &online))
            return true;
        struct session *session =
            sessions->n_devices > 0 ? &sessions->devices[device] : &sessions->bridge;
        if (online && sessions->n_devices > 0 && !atomic_load(&publisher->hearing))
            outbox_mark_presence(publisher->setup.outbox, device); /* on_answered() wakes us */
        else if (session->state == SESSION_UP)
            publish_text(publisher, session, publisher->conf->devices.devices[device].name,
                         "status", online ? "online" : "offline", 1);
        device++;
    }
    return sessions->bridge.state != SESSION_UP;
}

/* A sample becomes a text only now. */
static void put_text(struct publisher *publisher, const struct outbox_item *item,
                     struct mqtt_message *message)
{
    message->payload = publisher->text;
    message->payload_size = sample_json_of_packed(item->layout, item->payload, item->payload_size,
                                                  publisher->text, OUTBOX_PAYLOAD_MAX);
}

static bool publish_item(struct publisher *publisher, const struct outbox_item *item)
{
    const struct conf *conf = publisher->conf;
    const struct device *device =
        item->device < conf->devices.n_devices ? &conf->devices.devices[item->device] : NULL;
    char topic[TOPIC_MAX + 1];
    struct mqtt_message message = {
        .topic = topic, .payload = item->payload, .payload_size = item->payload_size, .qos = 1};
    if (item->kind != OUTBOX_OUTCOME)
        put_text(publisher, item, &message);
    switch (item->kind) {
    case OUTBOX_STATE:
        topic_make(topic, conf, device->name, "state");
        message.qos = (int)conf->mqtt.qos;
        /* Retained without expiry, a state would outlive its truth. */
        message.retained = conf->mqtt.version >= 5;
        message.expiry_s = sample_json_expiry_s(device);
        break;
    case OUTBOX_BACKFILL: /* of a device that is configured no more, too */
        topic_make(topic, conf, item->layout->device, "backfill");
        break;
    case OUTBOX_OUTCOME:
        message.topic = item->topic;
        message.correlation = item->correlation;
        message.correlation_size = item->correlation_size;
        break;
    }
    return mqtt_publish(publisher->sessions.bridge.mqtt, &message, item->ticket);
}

static void publish_records(struct publisher *publisher)
{
    struct outbox *outbox = publisher->setup.outbox;
    while (has_room(publisher) && outbox_take(outbox, clock_mono_ns(), publisher->item)) {
        if (!publish_item(publisher, publisher->item)) {
            outbox_ack(outbox, publisher->item->ticket, OUTBOX_RETURNED);
            break;
        }
    }
}

static void publish_health(struct publisher *publisher, int64_t now_ns)
{
    const struct publisher_setup *setup = &publisher->setup;
    if (now_ns < publisher->health_due_ns || !has_room(publisher))
        return;
    struct outbox_depth depth = outbox_depth(setup->outbox);
    int64_t utc_ms = clock_utc_ms();
    for (unsigned i = 0; i < publisher->conf->devices.n_devices; i++)
        publisher->drops[i] = outbox_dropped(setup->outbox, i);
    publish_json(publisher, "bridge", "health",
                 status_json_health(publisher->conf, setup->health, &depth, publisher->drops,
                                    utc_ms, (now_ns - publisher->started_ns) / CLOCK_NS_PER_MS),
                 0);
    publisher->health_due_ns = now_ns + HEALTH_NS;
}

static void log_refusals(struct publisher *publisher)
{
    for (;;) {
        struct refusal refusal = {.topic = ""};
        pthread_mutex_lock(&publisher->mutex);
        if (publisher->n_logged < publisher->n_refusals)
            refusal = publisher->refusals[publisher->n_logged++];
        pthread_mutex_unlock(&publisher->mutex);
        if (refusal.topic[0] == '\0')
            return;
        log_warning("the broker refuses a topic: %s topic=%s", refusal.why, refusal.topic);
    }
}

/* ---- the thread -------------------------------------------------------- */

static void begin_session(struct publisher *publisher, int64_t now_ns)
{
    struct outbox *outbox = publisher->setup.outbox;
    char filter[TOPIC_MAX + 1];
    if (publisher->was_up)
        health_count(&publisher->setup.health->reconnects);
    publisher->was_up = true;
    mqtt_hurry(publisher->sessions.bridge.mqtt);
    if (!topic_command_filter(filter, publisher->conf) ||
        !mqtt_subscribe(publisher->sessions.bridge.mqtt, filter, false))
        atomic_store(&publisher->hearing, true); /* no answer will come */
    ha_announce_begin(&publisher->announce);
    publisher->announced = 0;
    publisher->health_due_ns = now_ns;
    if (publisher->sessions.n_devices == 0)
        for (unsigned i = 0; i < publisher->conf->devices.n_devices; i++)
            outbox_mark_presence(outbox, i);
    outbox_resumed(outbox, now_ns);
}

static void run_sessions(struct publisher *publisher, int64_t now_ns)
{
    enum session_event event;
    if (atomic_exchange(&publisher->reloaded, false))
        sessions_retry(&publisher->sessions, now_ns);
    while ((event = sessions_run_bridge(&publisher->sessions, now_ns)) != SESSION_NOTHING) {
        if (event == SESSION_CAME_UP) {
            begin_session(publisher, now_ns);
        } else if (event == SESSION_LOST) {
            atomic_store(&publisher->hearing, false);
            outbox_lost(publisher->setup.outbox);
        }
    }
    sessions_run_devices(&publisher->sessions, now_ns);
}

/* It goes on until there is no room, and does not say so. */
static int64_t run_herald(struct publisher *publisher, int64_t now_ns)
{
    if (!has_room(publisher))
        return CLOCK_NEVER;
    bool crowded = atomic_exchange(&publisher->crowded, true);
    int64_t due_ns = ha_announce_run(&publisher->announce, now_ns);
    bool full = mqtt_room(publisher->sessions.bridge.mqtt) == 0;
    atomic_store(&publisher->crowded, crowded || full);
    return due_ns;
}

/* Does everything that can be done now and returns when there is more. */
static int64_t work(struct publisher *publisher)
{
    int64_t now_ns = clock_mono_ns();
    atomic_store(&publisher->crowded, false);
    run_sessions(publisher, now_ns);
    publish_records(publisher);
    publish_documents(publisher);
    publish_presence(publisher);
    publish_health(publisher, now_ns);
    int64_t herald_ns = run_herald(publisher, now_ns);
    log_refusals(publisher);

    int64_t due_ns = sessions_due_ns(&publisher->sessions);
    if (herald_ns < due_ns)
        due_ns = herald_ns;
    int64_t nudge_ns = mqtt_nudge(publisher->sessions.bridge.mqtt, now_ns);
    if (nudge_ns < due_ns)
        due_ns = nudge_ns;
    /* One that is due and not sent waits for room, not for a time. */
    if (publisher->sessions.bridge.state == SESSION_UP && publisher->health_due_ns > now_ns &&
        publisher->health_due_ns < due_ns)
        due_ns = publisher->health_due_ns;
    if (now_ns + NAP_MAX_NS < due_ns)
        due_ns = now_ns + NAP_MAX_NS;
    atomic_store(&publisher->promise_ns, due_ns + SLACK_NS);
    return due_ns;
}

static void wait_until(struct publisher *publisher, int64_t due_ns, int64_t end_ns)
{
    outbox_wait(publisher->setup.outbox, due_ns < end_ns ? due_ns : end_ns);
}

/* Sends what still waits, as long as the broker is there. */
static void drain(struct publisher *publisher)
{
    int64_t end_ns = clock_mono_ns() + publisher->grace_ns;
    while (publisher->sessions.bridge.state == SESSION_UP && clock_mono_ns() < end_ns) {
        int64_t due_ns = work(publisher);
        struct outbox_depth depth = outbox_depth(publisher->setup.outbox);
        if (depth.outcomes == 0 && depth.waiting == 0)
            break;
        wait_until(publisher, due_ns, end_ns);
    }
}

/* Every status goes offline, and every session ends in order. */
static void farewell(struct publisher *publisher)
{
    int64_t end_ns = clock_mono_ns() + FAREWELL_NS;
    for (unsigned i = 0; i < publisher->conf->devices.n_devices; i++) {
        outbox_set_online(publisher->setup.outbox, i, false);
        outbox_mark_presence(publisher->setup.outbox, i);
    }
    while (!publish_presence(publisher) && clock_mono_ns() < end_ns) {
        wait_until(publisher, end_ns, end_ns);
        run_sessions(publisher, clock_mono_ns());
    }
    publish_text(publisher, &publisher->sessions.bridge, "bridge", "status", "offline", 1);
    for (unsigned i = 0; i < publisher->sessions.n_devices; i++)
        mqtt_disconnect(publisher->sessions.devices[i].mqtt, end_ns);
    mqtt_disconnect(publisher->sessions.bridge.mqtt, end_ns);
    log_refusals(publisher);
}

static void *publisher_main(void *argument)
{
    struct publisher *publisher = argument;
    while (!atomic_load(&publisher->stopping))
        wait_until(publisher, work(publisher), CLOCK_NEVER);
    drain(publisher);
    farewell(publisher);
    return NULL;
}

/* ---- start and stop ---------------------------------------------------- */

static void publisher_free(struct publisher *publisher)
{
    sessions_destroy(&publisher->sessions);
    ha_announce_destroy(&publisher->announce);
    pthread_mutex_destroy(&publisher->mutex);
    free(publisher->item);
    free(publisher->text);
    free(publisher->drops);
    free(publisher);
}

struct publisher *publisher_start(const struct publisher_setup *setup)
{
    const struct mqtt_callbacks callbacks = {.delivered = on_delivered,
                                             .refused = on_refused,
                                             .answered = on_answered,
                                             .arrived = on_arrived};
    const uint32_t seed = (uint32_t)strtoul(setup->run, NULL, 16);
    struct publisher *publisher = calloc(1, sizeof(*publisher));
    if (publisher == NULL)
        goto failed;
    publisher->setup = *setup;
    publisher->conf = setup->conf;
    publisher->started_ns = clock_mono_ns();
    publisher->promise_ns = publisher->started_ns + SLACK_NS;
    pthread_mutex_init(&publisher->mutex, NULL);
    publisher->item = malloc(sizeof(*publisher->item));
    publisher->text = malloc(OUTBOX_PAYLOAD_MAX);
    publisher->drops = calloc(setup->conf->devices.n_devices, sizeof(*publisher->drops));
    bool good = sessions_init(&publisher->sessions, setup->conf, setup->outbox, &callbacks,
                              publisher, seed);
    ha_announce_init(&publisher->announce, setup->conf, publisher->sessions.bridge.mqtt, seed);
    if (publisher->item == NULL || publisher->text == NULL || publisher->drops == NULL || !good ||
        pthread_create(&publisher->thread, NULL, publisher_main, publisher) != 0) {
        goto failed;
    }
    return publisher;
failed:
    log_error("cannot start the MQTT thread: out of memory or threads");
    if (publisher != NULL)
        publisher_free(publisher);
    return NULL;
}

void publisher_stop(struct publisher *publisher, int64_t grace_ns)
{
    publisher->grace_ns = grace_ns;
    atomic_store(&publisher->stopping, true);
    outbox_wake(publisher->setup.outbox);
    pthread_join(publisher->thread, NULL);
    publisher_free(publisher);
}

int64_t publisher_promise_ns(const struct publisher *publisher)
{
    return atomic_load(&publisher->promise_ns);
}

int64_t publisher_down_since_ns(const struct publisher *publisher)
{
    return atomic_load(&publisher->sessions.down_since_ns);
}

void publisher_reload(struct publisher *publisher)
{
    atomic_store(&publisher->reloaded, true);
    outbox_wake(publisher->setup.outbox);
}
