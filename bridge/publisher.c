#include "bridge/publisher.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/clock.h"
#include "bridge/log.h"
#include "bridge/probe.h"
#include "bridge/session.h"
#include "bridge/wire.h"

enum { CONNECTING_MAX = 16, REFUSALS_MAX = 64 };

#define HEALTH_NS   (10 * CLOCK_NS_PER_S)
#define FAREWELL_NS (250 * CLOCK_NS_PER_MS) /* for the last words after the grace */
#define NAP_MAX_NS  (60 * CLOCK_NS_PER_S)
#define SLACK_NS    (60 * CLOCK_NS_PER_S) /* a name that resolves slowly holds up the library */
#define SOON_NS     (10 * CLOCK_NS_PER_S) /* a connection that ends earlier was no good */
#define SPELL_NS    (2 * CLOCK_NS_PER_S)  /* a broker's end is told by its bridge session */

/* A topic that the broker does not let us use; each is logged once. */
struct refusal {
    char topic[WIRE_TOPIC_MAX + 1];
    char why[MQTT_WHY_MAX];
};

/* What is said about sessions that cannot be had. */
struct trouble {
    char why[MQTT_WHY_MAX]; /* "" = none, or not yet known */
    bool logged;
    unsigned attempts;
};

struct publisher {
    struct publisher_setup setup;
    const struct conf *conf;
    pthread_t thread;
    atomic_bool stopping;
    int64_t grace_ns; /* set before stopping */
    _Atomic int64_t promise_ns, down_since_ns;
    atomic_bool stirred, reloaded;

    struct session bridge;
    unsigned n_sessions; /* of devices; 0 without device_wills */
    struct session *sessions;
    int64_t sessions_due_ns;
    bool was_up, lost_soon;
    int64_t up_since_ns;            /* the bridge session's last login */
    struct trouble trouble;         /* of the bridge session */
    struct trouble devices_trouble; /* of the devices' sessions while the bridge's is up */
    int64_t devices_trouble_ns;     /* when to say so; CLOCK_NEVER = nothing to say */

    unsigned announced; /* retained documents sent since the bridge session is up */
    int64_t health_due_ns;
    struct outbox_item *item;

    pthread_mutex_t mutex; /* guards what follows; never held while calling out */
    unsigned n_refusals, n_logged;
    struct refusal refusals[REFUSALS_MAX];
};

/* ---- callbacks, on the library's threads ------------------------------- */

static void on_stir(void *owner)
{
    struct publisher *publisher = owner;
    atomic_store(&publisher->stirred, true);
    outbox_wake(publisher->setup.outbox);
}

static void on_delivered(void *context, uint64_t ticket, enum mqtt_fate fate)
{
    static const enum outbox_fate fates[] = {[MQTT_DELIVERED] = OUTBOX_DELIVERED,
                                             [MQTT_REFUSED] = OUTBOX_REFUSED,
                                             [MQTT_LOST] = OUTBOX_RETURNED};
    const struct session *session = context;
    struct publisher *publisher = session->owner;
    if (fate == MQTT_DELIVERED)
        health_count(&publisher->setup.health->publishes);
    outbox_ack(publisher->setup.outbox, ticket, fates[fate]);
    outbox_wake(publisher->setup.outbox); /* there is room again, also for what has no ticket */
}

static void on_refused(void *context, const char *topic, const char *why)
{
    const struct session *session = context;
    struct publisher *publisher = session->owner;
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

/* Copies at most `size` - 1 bytes and ends them with a NUL. */
static void copy_text(char *to, size_t size, const char *from, size_t from_size)
{
    size_t n = from_size < size - 1 ? from_size : size - 1;
    if (n > 0)
        memcpy(to, from, n);
    to[n] = '\0';
}

/* Where the outcome goes besides the result topic. What cannot be copied whole
 * would be an answer to somebody else; a wildcard in a topic ends the session. */
static void copy_address(const struct mqtt_arrival *arrival, struct inbox_message *message)
{
    const char *topic = arrival->response_topic;
    size_t size = arrival->response_topic_size;
    bool usable = size > 0 && size <= INBOX_TOPIC_MAX && memchr(topic, '+', size) == NULL &&
                  memchr(topic, '#', size) == NULL && memchr(topic, '\0', size) == NULL &&
                  arrival->correlation_size <= INBOX_CORRELATION_MAX;
    message->response_topic[0] = '\0';
    message->correlation_size = 0;
    if (!usable)
        return;
    copy_text(message->response_topic, sizeof(message->response_topic), topic, size);
    message->correlation_size = arrival->correlation_size;
    if (arrival->correlation_size > 0)
        memcpy(message->correlation, arrival->correlation, arrival->correlation_size);
}

/* A topic cut short cannot be mistaken for another: the topics of devices are
 * shorter than that. */
static bool on_arrived(void *context, const struct mqtt_arrival *arrival)
{
    const struct session *session = context;
    const struct publisher *publisher = session->owner;
    struct inbox_message message;
    message.mono_ns = clock_mono_ns();
    message.utc_ms = clock_utc_ms();
    copy_text(message.topic, sizeof(message.topic), arrival->topic, strlen(arrival->topic));
    message.retained = arrival->retained;
    message.too_large = arrival->payload_size > COMMAND_PAYLOAD_MAX;
    copy_address(arrival, &message);
    copy_text(message.user_source, sizeof(message.user_source), arrival->user_source,
              arrival->user_source_size);
    copy_text(message.user_traceparent, sizeof(message.user_traceparent), arrival->user_traceparent,
              arrival->user_traceparent_size);
    message.payload_size = message.too_large ? COMMAND_PAYLOAD_MAX : arrival->payload_size;
    copy_text(message.payload, sizeof(message.payload), arrival->payload, message.payload_size);
    return inbox_put_message(publisher->setup.inbox, &message);
}

/* ---- the bridge session ------------------------------------------------ */

static void bridge_up(struct publisher *publisher, int64_t now_ns)
{
    struct trouble *trouble = &publisher->trouble;
    char filter[WIRE_TOPIC_MAX + 1];
    int64_t down_ns = now_ns - atomic_exchange(&publisher->down_since_ns, 0);
    if (publisher->was_up)
        health_count(&publisher->setup.health->reconnects);
    if (publisher->was_up || trouble->logged)
        log_info("the broker is back url=%s down_s=%.1f attempts=%u", publisher->conf->mqtt.url,
                 (double)down_ns / (double)CLOCK_NS_PER_S, trouble->attempts + 1);
    else
        log_info("connected to the broker url=%s client_id=%s", publisher->conf->mqtt.url,
                 publisher->conf->mqtt.client_id);
    publisher->was_up = true;
    publisher->up_since_ns = now_ns;
    *trouble = (struct trouble){.logged = false};

    if (wire_command_filter(filter, publisher->conf))
        mqtt_subscribe(publisher->bridge.mqtt, filter);
    publisher->announced = 0;
    publisher->health_due_ns = now_ns;
    if (publisher->n_sessions == 0)
        for (unsigned i = 0; i < publisher->conf->devices.n_devices; i++)
            outbox_mark_presence(publisher->setup.outbox, i);
    outbox_resumed(publisher->setup.outbox, now_ns);
}

/* Logs a cause when it is another than before. */
static void bridge_trouble(struct publisher *publisher, const char *why)
{
    struct trouble *trouble = &publisher->trouble;
    if (trouble->logged && strcmp(trouble->why, why) == 0)
        return;
    log_warning("no session with the broker: %s url=%s", why, publisher->conf->mqtt.url);
    snprintf(trouble->why, sizeof(trouble->why), "%s", why);
    trouble->logged = true;
}

/* Names a cause that the broker has not named. One that keeps hanging up soon
 * after the login has most likely two clients with the same id, which throw
 * each other out; only version 5 has a packet to say so, and not every broker
 * sends it. */
static void name_cause(struct publisher *publisher, enum session_event event, bool again,
                       char why[MQTT_WHY_MAX])
{
    if (event == SESSION_FAILED)
        probe_broker(&publisher->conf->mqtt, why, MQTT_WHY_MAX);
    else if (!again)
        snprintf(why, MQTT_WHY_MAX, "connection lost");
    else
        snprintf(why, MQTT_WHY_MAX,
                 "connection lost soon after the login, again: "
                 "does another client use the client id %.100s?",
                 publisher->conf->mqtt.client_id);
}

static void run_bridge(struct publisher *publisher, int64_t now_ns)
{
    char why[MQTT_WHY_MAX];
    enum session_event event;
    bool again = false;
    while ((event = session_step(&publisher->bridge, now_ns, true, why)) != SESSION_NOTHING) {
        if (event == SESSION_CAME_UP) {
            bridge_up(publisher, now_ns);
            continue;
        }
        if (event == SESSION_LOST) {
            bool soon = now_ns - publisher->up_since_ns < SOON_NS;
            again = soon && publisher->lost_soon;
            publisher->lost_soon = soon;
            atomic_store(&publisher->down_since_ns, now_ns);
            outbox_lost(publisher->setup.outbox);
            publisher->devices_trouble_ns = CLOCK_NEVER;
        } else {
            publisher->trouble.attempts++;
        }
        if (why[0] == '\0')
            name_cause(publisher, event, again, why);
        bridge_trouble(publisher, why);
    }
}

/* ---- sessions of devices ----------------------------------------------- */

static void session_down(struct publisher *publisher, const char *why, int64_t now_ns)
{
    struct trouble *trouble = &publisher->devices_trouble;
    if (publisher->bridge.state != SESSION_UP || trouble->logged ||
        publisher->devices_trouble_ns != CLOCK_NEVER) {
        return;
    }
    snprintf(trouble->why, sizeof(trouble->why), "%s", why[0] != '\0' ? why : "cannot connect");
    publisher->devices_trouble_ns = now_ns + SPELL_NS;
}

static void log_devices_trouble(struct publisher *publisher, unsigned n_down, int64_t now_ns)
{
    struct trouble *trouble = &publisher->devices_trouble;
    if (now_ns >= publisher->devices_trouble_ns) {
        log_warning("no MQTT session for some devices: %s down=%u of=%u", trouble->why, n_down,
                    publisher->n_sessions);
        trouble->logged = true;
        publisher->devices_trouble_ns = CLOCK_NEVER;
    } else if (trouble->logged && n_down == 0) {
        log_info("every device has its MQTT session again count=%u", publisher->n_sessions);
        trouble->logged = false;
    }
}

static void run_sessions(struct publisher *publisher, int64_t now_ns)
{
    unsigned n_connecting = 0, n_down = 0;
    int64_t due_ns = CLOCK_NEVER;
    char why[MQTT_WHY_MAX];
    if (!atomic_exchange(&publisher->stirred, false) && now_ns < publisher->sessions_due_ns)
        return;
    for (unsigned i = 0; i < publisher->n_sessions; i++)
        n_connecting += publisher->sessions[i].state == SESSION_CONNECTING;
    for (unsigned i = 0; i < publisher->n_sessions; i++) {
        struct session *session = &publisher->sessions[i];
        enum session_event event;
        n_connecting -= session->state == SESSION_CONNECTING;
        while ((event = session_step(session, now_ns, n_connecting < CONNECTING_MAX, why)) !=
               SESSION_NOTHING) {
            if (event == SESSION_CAME_UP)
                outbox_mark_presence(publisher->setup.outbox, i);
            else
                session_down(publisher, why, now_ns);
        }
        n_connecting += session->state == SESSION_CONNECTING;
        n_down += session->state != SESSION_UP;
        if (session->state == SESSION_DOWN && session->retry_ns < due_ns)
            due_ns = session->retry_ns;
    }
    log_devices_trouble(publisher, n_down, now_ns);
    if (n_connecting >= CONNECTING_MAX) /* those that wait go on when one of these ends */
        due_ns = CLOCK_NEVER;
    publisher->sessions_due_ns =
        due_ns < publisher->devices_trouble_ns ? due_ns : publisher->devices_trouble_ns;
}

/* ---- what is published ------------------------------------------------- */

static bool publish_text(struct publisher *publisher, struct session *session, const char *node,
                         const char *leaf, const char *text, int qos)
{
    char topic[WIRE_TOPIC_MAX + 1];
    const struct mqtt_message message = {.topic = topic,
                                         .payload = text,
                                         .payload_size = strlen(text),
                                         .qos = qos,
                                         .retained = true};
    return wire_topic(topic, publisher->conf, node, leaf) &&
           mqtt_publish(session->mqtt, &message, 0);
}

/* Room in the bridge session beyond what records may need. */
static bool has_room(const struct publisher *publisher)
{
    return mqtt_room(publisher->bridge.mqtt) > OUTBOX_WINDOW;
}

/* Takes a text made by wire and frees it. */
static bool publish_json(struct publisher *publisher, const char *node, const char *leaf,
                         char *json, int qos)
{
    bool good = json != NULL && publish_text(publisher, &publisher->bridge, node, leaf, json, qos);
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
        return publish_text(publisher, &publisher->bridge, "bridge", "status", "online", 1);
    if (index == 1)
        return publish_json(publisher, "bridge", "info",
                            wire_bridge_info(conf, setup->run, setup->started_ms), 1);
    const struct device *device = &conf->devices.devices[index - 2];
    return publish_json(publisher, device->name, "info", wire_device_info(device), 1);
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
 * up has its turn when it is. */
static bool publish_presence(struct publisher *publisher)
{
    unsigned device = 0;
    bool online;
    while (publisher->n_sessions > 0 || has_room(publisher)) {
        if (!outbox_take_presence(publisher->setup.outbox, &device, &online))
            return true;
        struct session *session =
            publisher->n_sessions > 0 ? &publisher->sessions[device] : &publisher->bridge;
        publish_text(publisher, session, publisher->conf->devices.devices[device].name, "status",
                     online ? "online" : "offline", 1);
        device++;
    }
    return publisher->bridge.state != SESSION_UP;
}

static bool publish_item(struct publisher *publisher, const struct outbox_item *item)
{
    const struct conf *conf = publisher->conf;
    const struct device *device =
        item->device < conf->devices.n_devices ? &conf->devices.devices[item->device] : NULL;
    char topic[WIRE_TOPIC_MAX + 1];
    struct mqtt_message message = {
        .topic = topic, .payload = item->payload, .payload_size = item->payload_size, .qos = 1};
    switch (item->kind) {
    case OUTBOX_STATE:
        wire_topic(topic, conf, device->name, "state");
        message.qos = (int)conf->mqtt.qos;
        /* Retained without expiry, a state would outlive its truth. */
        message.retained = conf->mqtt.version >= 5;
        message.expiry_s =
            (unsigned)((3 * device_silence_ns(device) + CLOCK_NS_PER_S - 1) / CLOCK_NS_PER_S);
        break;
    case OUTBOX_BACKFILL:
        if (device != NULL)
            wire_topic(topic, conf, device->name, "backfill");
        else
            message.topic = item->topic;
        break;
    case OUTBOX_OUTCOME:
        message.topic = item->topic;
        message.correlation = item->correlation;
        message.correlation_size = item->correlation_size;
        break;
    }
    return mqtt_publish(publisher->bridge.mqtt, &message, item->ticket);
}

static void publish_records(struct publisher *publisher)
{
    struct outbox *outbox = publisher->setup.outbox;
    while (mqtt_room(publisher->bridge.mqtt) > 0 &&
           outbox_take(outbox, clock_mono_ns(), publisher->item)) {
        if (!publish_item(publisher, publisher->item)) {
            outbox_ack(outbox, publisher->item->ticket, OUTBOX_RETURNED);
            break;
        }
    }
}

static void publish_health(struct publisher *publisher, int64_t now_ns)
{
    const struct publisher_setup *setup = &publisher->setup;
    if (publisher->bridge.state != SESSION_UP || now_ns < publisher->health_due_ns)
        return;
    struct outbox_depth depth = outbox_depth(setup->outbox);
    int64_t utc_ms = clock_utc_ms();
    publish_json(publisher, "bridge", "health",
                 wire_health(setup->health, &depth, utc_ms, utc_ms - setup->started_ms), 0);
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

/* Does everything that can be done now and returns when there is more. */
static int64_t work(struct publisher *publisher)
{
    int64_t now_ns = clock_mono_ns();
    if (atomic_exchange(&publisher->reloaded, false))
        publisher->bridge.retry_ns = now_ns;
    run_bridge(publisher, now_ns);
    run_sessions(publisher, now_ns);
    publish_records(publisher);
    publish_documents(publisher);
    publish_presence(publisher);
    publish_health(publisher, now_ns);
    log_refusals(publisher);

    int64_t due_ns = now_ns + NAP_MAX_NS;
    if (publisher->sessions_due_ns < due_ns)
        due_ns = publisher->sessions_due_ns;
    if (publisher->bridge.state == SESSION_UP && publisher->health_due_ns < due_ns)
        due_ns = publisher->health_due_ns;
    if (publisher->bridge.state == SESSION_DOWN && publisher->bridge.retry_ns < due_ns)
        due_ns = publisher->bridge.retry_ns;
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
    while (publisher->bridge.state == SESSION_UP && clock_mono_ns() < end_ns) {
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
        run_bridge(publisher, clock_mono_ns());
    }
    publish_text(publisher, &publisher->bridge, "bridge", "status", "offline", 1);
    for (unsigned i = 0; i < publisher->n_sessions; i++)
        mqtt_disconnect(publisher->sessions[i].mqtt, end_ns);
    mqtt_disconnect(publisher->bridge.mqtt, end_ns);
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

static bool make_session(struct publisher *publisher, struct session *session, const char *node,
                         const char *client_id, uint32_t seed)
{
    const struct mqtt_callbacks callbacks = {.delivered = on_delivered,
                                             .refused = on_refused,
                                             .arrived =
                                                 session == &publisher->bridge ? on_arrived : NULL};
    char topic[WIRE_TOPIC_MAX + 1];
    session->owner = publisher;
    session->stir = on_stir;
    return wire_topic(topic, publisher->conf, node, "status") &&
           session_init(session, &publisher->conf->mqtt, client_id, topic, &callbacks, seed);
}

static bool make_sessions(struct publisher *publisher)
{
    const struct conf *conf = publisher->conf;
    const struct device_list *list = &conf->devices;
    uint32_t seed = (uint32_t)strtoul(publisher->setup.run, NULL, 16);
    if (!make_session(publisher, &publisher->bridge, "bridge", conf->mqtt.client_id, seed))
        return false;
    if (!conf->mqtt.device_wills)
        return true;
    publisher->sessions = calloc(list->n_devices, sizeof(*publisher->sessions));
    if (publisher->sessions == NULL)
        return false;
    for (unsigned i = 0; i < list->n_devices; i++) {
        char client_id[CONF_TEXT_MAX + DEVICE_NAME_MAX + 2];
        const char *name = list->devices[i].name;
        snprintf(client_id, sizeof(client_id), "%s-%s", conf->mqtt.client_id, name);
        publisher->n_sessions++;
        if (!make_session(publisher, &publisher->sessions[i], name, client_id,
                          seed + 7919 * (i + 1))) {
            return false;
        }
    }
    return true;
}

static void publisher_free(struct publisher *publisher)
{
    for (unsigned i = 0; i < publisher->n_sessions; i++)
        session_destroy(&publisher->sessions[i]);
    session_destroy(&publisher->bridge);
    pthread_mutex_destroy(&publisher->mutex);
    free(publisher->sessions);
    free(publisher->item);
    free(publisher);
}

struct publisher *publisher_start(const struct publisher_setup *setup)
{
    struct publisher *publisher = calloc(1, sizeof(*publisher));
    if (publisher == NULL)
        goto failed;
    publisher->setup = *setup;
    publisher->conf = setup->conf;
    publisher->devices_trouble_ns = CLOCK_NEVER;
    publisher->down_since_ns = clock_mono_ns();
    publisher->promise_ns = publisher->down_since_ns + SLACK_NS;
    pthread_mutex_init(&publisher->mutex, NULL);
    publisher->item = malloc(sizeof(*publisher->item));
    if (publisher->item == NULL || !make_sessions(publisher) ||
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
    return atomic_load(&publisher->down_since_ns);
}

void publisher_reload(struct publisher *publisher)
{
    atomic_store(&publisher->reloaded, true);
    outbox_wake(publisher->setup.outbox);
}
