#include "bridge/publish/publisher.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/mqtt/arrival.h"
#include "bridge/mqtt/certificate.h"
#include "bridge/mqtt/sessions.h"
#include "bridge/publish/announce.h"
#include "bridge/publish/hearing.h"
#include "bridge/publish/refusals.h"
#include "bridge/wire/sample_json.h"
#include "bridge/wire/topic.h"

#define FAREWELL_NS      (250 * CLOCK_NS_PER_MS) /* for the last words after the grace */
#define TAKING_NS        CLOCK_NS_PER_S        /* and for the next, of a broker that takes them, */
#define FAREWELL_MOST_NS (10 * CLOCK_NS_PER_S) /* in all so long */
#define NAP_MAX_NS       (60 * CLOCK_NS_PER_S)
#define SLACK_NS         (60 * CLOCK_NS_PER_S) /* a name that resolves slowly holds up the library */
#define HEARING_NS       (300 * CLOCK_NS_PER_MS) /* for the answer to an UNSUBSCRIBE */

struct publisher {
    struct publisher_setup setup;
    const struct conf *conf;
    pthread_t thread;
    struct halt halt, left; /* the second: at its end */
    atomic_bool stopping, reloaded;
    int64_t grace_ns; /* set before stopping */
    _Atomic int64_t promise_ns;
    struct sessions sessions;
    struct hearing hearing;
    struct refusals refusals;
    struct announce *announce;
    bool was_up; /* the bridge session, at some time */
    size_t base_size;
    char base[TOPIC_MAX + 1]; /* "<base>/" */
    struct outbox_item *item;
    char *text; /* of a sample: room for OUTBOX_PAYLOAD_MAX */
};

/* ---- callbacks, on the library's threads ------------------------------- */

static void on_delivered(void *context, uint64_t ticket, enum mqtt_fate fate)
{
    static const enum outbox_fate fates[] = {[MQTT_DELIVERED] = OUTBOX_DELIVERED,
                                             [MQTT_REFUSED] = OUTBOX_REFUSED,
                                             [MQTT_LOST] = OUTBOX_RETURNED};
    const struct session *session = context;
    struct publisher *publisher = session->setup.owner;
    struct outbox *outbox = publisher->setup.outbox;
    bool is_document = (ticket & ANNOUNCE_TICKET) != 0;
    if (fate == MQTT_DELIVERED)
        health_count(&publisher->setup.health->publishes);
    if (is_document)
        announce_ack(publisher->announce, ticket, fate);
    else if (fate == MQTT_LATER)
        outbox_put_off(outbox, ticket, clock_mono_ns());
    else
        outbox_ack(outbox, ticket, fates[fate]);
    if (is_document && fate == MQTT_REFUSED)
        health_count(&publisher->setup.health->set_aside);
    /* There is room again for what found none; or a pause begins; or that was the last
     * word. */
    if (sessions_is_called(&publisher->sessions) || atomic_load(&publisher->stopping) ||
        (is_document && fate != MQTT_DELIVERED))
        outbox_wake(outbox);
}

static void on_refused(void *context, const char *topic, const char *why)
{
    const struct session *session = context;
    struct publisher *publisher = session->setup.owner;
    refusals_put(&publisher->refusals, topic, why);
    outbox_wake(publisher->setup.outbox); /* it may be asked for again soon */
}

static void on_relented(void *context, const char *topic)
{
    const struct session *session = context;
    struct publisher *publisher = session->setup.owner;
    refusals_end(&publisher->refusals, topic);
    outbox_wake(publisher->setup.outbox);
}

static void begin_hearing(struct publisher *publisher)
{
    announce_hearing(publisher->announce);
    outbox_wake(publisher->setup.outbox);
}

static void on_answered(void *context, const char *filter)
{
    const struct session *session = context;
    struct publisher *publisher = session->setup.owner;
    if (hearing_answered(&publisher->hearing, filter))
        begin_hearing(publisher);
}

static bool on_arrived(void *context, const struct mqtt_arrival *arrival)
{
    const struct session *session = context;
    struct publisher *publisher = session->setup.owner;
    if (!announce_arrived(publisher->announce, arrival))
        return arrival_put(arrival, publisher->setup.inbox);
    outbox_wake(publisher->setup.outbox);
    return true;
}

/* ---- what is published ------------------------------------------------- */

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
        message.foreign = strncmp(item->topic, publisher->base, publisher->base_size) != 0;
        message.correlation = item->correlation;
        message.correlation_size = item->correlation_size;
        break;
    }
    return mqtt_publish(publisher->sessions.bridge.mqtt, &message, item->ticket);
}

static void publish_records(struct publisher *publisher)
{
    struct outbox *outbox = publisher->setup.outbox;
    enum outbox_kind last;
    while (sessions_has_room(&publisher->sessions, &last) &&
           outbox_take(outbox, clock_mono_ns(), last, publisher->item))
        if (!publish_item(publisher, publisher->item))
            outbox_ack(outbox, publisher->item->ticket, OUTBOX_RETURNED);
}

/* ---- the thread -------------------------------------------------------- */

static void begin_session(struct publisher *publisher, int64_t now_ns)
{
    if (publisher->was_up)
        health_count(&publisher->setup.health->reconnects);
    publisher->was_up = true;
    atomic_store(&publisher->setup.health->certificate_end_ms,
                 certificate_end_ms(&publisher->conf->mqtt));
    mqtt_hurry(publisher->sessions.bridge.mqtt);
    if (hearing_begin(&publisher->hearing, publisher->sessions.bridge.mqtt))
        begin_hearing(publisher);
    announce_begin(publisher->announce, now_ns);
    outbox_resumed(publisher->setup.outbox, now_ns);
}

static void run_sessions(struct publisher *publisher, int64_t now_ns)
{
    enum session_event event;
    if (atomic_exchange(&publisher->reloaded, false)) {
        sessions_retry(&publisher->sessions, now_ns);
        if (publisher->setup.edge != NULL)
            edge_retry(publisher->setup.edge, now_ns);
    }
    while ((event = sessions_run_bridge(&publisher->sessions, now_ns)) != SESSION_NOTHING) {
        if (event == SESSION_CAME_UP) {
            begin_session(publisher, now_ns);
        } else if (event == SESSION_LOST) {
            announce_lost(publisher->announce);
            outbox_lost(publisher->setup.outbox);
        }
    }
    sessions_run_devices(&publisher->sessions, now_ns);
    hearing_run(&publisher->hearing, publisher->sessions.bridge.state == SESSION_UP
                                         ? publisher->sessions.bridge.mqtt
                                         : NULL);
}

static int64_t sooner(int64_t a_ns, int64_t b_ns)
{
    return a_ns < b_ns ? a_ns : b_ns;
}

static int64_t later(int64_t a_ns, int64_t b_ns)
{
    return a_ns > b_ns ? a_ns : b_ns;
}

/* Does everything that can be done now and returns when there is more. */
static int64_t work(struct publisher *publisher)
{
    int64_t now_ns = clock_mono_ns();
    run_sessions(publisher, now_ns);
    int64_t due_ns = announce_run(publisher->announce, now_ns);
    publish_records(publisher);
    refusals_say(&publisher->refusals);
    session_tend(&publisher->sessions.bridge, now_ns);
    due_ns = sooner(due_ns, sessions_due_ns(&publisher->sessions));
    if (publisher->setup.edge != NULL)
        due_ns = sooner(due_ns, edge_run(publisher->setup.edge, now_ns,
                                         publisher->sessions.bridge.state == SESSION_UP
                                             ? publisher->sessions.address
                                             : NULL));
    due_ns = sooner(due_ns, now_ns + NAP_MAX_NS);
    atomic_store(&publisher->promise_ns, clock_awake_ns() + (due_ns - now_ns) + SLACK_NS);
    return due_ns;
}

static void wait_until(struct publisher *publisher, int64_t due_ns, int64_t end_ns)
{
    outbox_wait(publisher->setup.outbox, due_ns < end_ns ? due_ns : end_ns);
}

/* Sends what still waits, as long as the broker is there. Samples stay on disk, or were never
 * to outlive the program; for outcomes, which are in no spool, a broker that takes them
 * slowly gets its time, up to `last_ns`. */
static void drain(struct publisher *publisher, int64_t last_ns)
{
    uint64_t fewest = UINT64_MAX;
    int64_t now_ns = clock_mono_ns();
    int64_t end_ns = now_ns + publisher->grace_ns;
    while (publisher->sessions.bridge.state == SESSION_UP && now_ns < end_ns) {
        int64_t due_ns = work(publisher);
        struct outbox_depth depth = outbox_depth(publisher->setup.outbox);
        if (depth.outcomes == 0 && depth.waiting == 0)
            break;
        now_ns = clock_mono_ns();
        if (depth.outcomes < fewest && depth.outcomes > 0 && now_ns < last_ns)
            end_ns = later(end_ns, sooner(now_ns + TAKING_NS, last_ns));
        fewest = depth.outcomes;
        wait_until(publisher, due_ns, end_ns);
        now_ns = clock_mono_ns();
    }
}

static void leave(struct publisher *publisher, struct session *session, int64_t end_ns)
{
    session_leave(session, end_ns, !announce_is_told(publisher->announce, session));
}

/* Every status goes offline, and every session ends in order; one whose last word the
 * broker has not taken ends with its Will instead. Of thousands it takes a few at a time: as
 * long as it does it is waited for. */
static void farewell(struct publisher *publisher, int64_t last_ns)
{
    struct sessions *sessions = &publisher->sessions;
    int64_t now_ns = clock_mono_ns();
    int64_t end_ns = now_ns + FAREWELL_NS;
    uint64_t n_acked = announce_acked(publisher->announce);
    announce_farewell(publisher->announce, now_ns);
    if (publisher->setup.edge != NULL)
        edge_farewell(publisher->setup.edge, end_ns);
    while (sessions->bridge.state == SESSION_UP && now_ns < end_ns) {
        announce_run(publisher->announce, now_ns);
        if (announce_is_all_told(publisher->announce))
            break;
        wait_until(publisher, end_ns, end_ns);
        run_sessions(publisher, now_ns = clock_mono_ns());
        if (n_acked != announce_acked(publisher->announce)) {
            n_acked = announce_acked(publisher->announce);
            end_ns = sooner(now_ns + TAKING_NS, last_ns);
        }
    }
    for (unsigned i = 0; i < sessions->n_devices; i++)
        if (session_is_there(&sessions->devices[i]))
            leave(publisher, &sessions->devices[i], end_ns);
    leave(publisher, &sessions->bridge, end_ns);
    refusals_say(&publisher->refusals);
}

static void *publisher_main(void *argument)
{
    struct publisher *publisher = argument;
    while (!atomic_load(&publisher->stopping)) {
        wait_until(publisher, work(publisher), CLOCK_NEVER);
        halt_here(&publisher->halt);
    }
    const int64_t last_ns = clock_mono_ns() + FAREWELL_MOST_NS;
    drain(publisher, last_ns - FAREWELL_MOST_NS / 2);
    farewell(publisher, last_ns);
    halt_here(&publisher->left);
    return NULL;
}

/* ---- start and stop ---------------------------------------------------- */

static void publisher_free(struct publisher *publisher)
{
    sessions_destroy(&publisher->sessions);
    announce_free(publisher->announce);
    hearing_destroy(&publisher->hearing);
    refusals_destroy(&publisher->refusals);
    halt_destroy(&publisher->left);
    halt_destroy(&publisher->halt);
    free(publisher->item);
    free(publisher->text);
    free(publisher);
}

struct publisher *publisher_start(const struct publisher_setup *setup)
{
    const struct mqtt_callbacks callbacks = {.delivered = on_delivered,
                                             .refused = on_refused,
                                             .answered = on_answered,
                                             .relented = on_relented,
                                             .arrived = on_arrived};
    const uint32_t seed = (uint32_t)strtoul(setup->run, NULL, 16);
    struct publisher *publisher = calloc(1, sizeof(*publisher));
    if (publisher == NULL)
        goto failed;
    publisher->setup = *setup;
    publisher->conf = setup->conf;
    publisher->promise_ns = clock_awake_ns() + SLACK_NS;
    hearing_init(&publisher->hearing, setup->conf);
    refusals_init(&publisher->refusals);
    halt_init(&publisher->halt);
    halt_init(&publisher->left);
    publisher->item = malloc(sizeof(*publisher->item));
    publisher->text = malloc(OUTBOX_PAYLOAD_MAX);
    publisher->base_size = (size_t)snprintf(publisher->base, sizeof(publisher->base), "%s/%s/",
                                            setup->conf->mqtt.prefix, setup->conf->site);
    bool good = sessions_init(&publisher->sessions, setup->conf, setup->outbox, &callbacks,
                              publisher, seed);
    publisher->announce = announce_new(&(struct announce_setup){
        .retained = {.conf = setup->conf,
                     .outbox = setup->outbox,
                     .latest = setup->latest,
                     .last = setup->last,
                     .health = setup->health,
                     .run = setup->run,
                     .started_ms = setup->started_ms,
                     .started_ns = clock_mono_ns()},
        .sessions = &publisher->sessions,
        .state = setup->state,
    });
    if (publisher->item == NULL || publisher->text == NULL || publisher->announce == NULL ||
        !good || pthread_create(&publisher->thread, NULL, publisher_main, publisher) != 0) {
        goto failed;
    }
    return publisher;
failed:
    log_error("cannot start the MQTT thread: out of memory or threads");
    if (publisher != NULL)
        publisher_free(publisher);
    return NULL;
}

void publisher_stop_hearing(struct publisher *publisher)
{
    const int64_t until_ns = clock_mono_ns() + HEARING_NS;
    hearing_stop(&publisher->hearing);
    outbox_wake(publisher->setup.outbox);
    hearing_await_end(&publisher->hearing, until_ns);
    /* One that is slow, or has a queue of its own, sends more all the same. */
    mqtt_deafen(publisher->sessions.bridge.mqtt, clock_mono_ns() + HEARING_NS);
}

struct halt *publisher_leave(struct publisher *publisher, int64_t grace_ns)
{
    halt_ask(&publisher->left);
    publisher->grace_ns = grace_ns;
    atomic_store(&publisher->stopping, true);
    outbox_wake(publisher->setup.outbox);
    return &publisher->left;
}

void publisher_stop(struct publisher *publisher, int64_t grace_ns)
{
    halt_release(publisher_leave(publisher, grace_ns));
    pthread_join(publisher->thread, NULL);
    publisher_free(publisher);
}

struct halt *publisher_halt(struct publisher *publisher)
{
    halt_ask(&publisher->halt);
    outbox_wake(publisher->setup.outbox);
    return &publisher->halt;
}

void publisher_part(struct publisher *publisher, unsigned device)
{
    announce_part(publisher->announce, device);
    sessions_drop(&publisher->sessions, device);
}

void publisher_alter(struct publisher *publisher, unsigned device)
{
    announce_alter(publisher->announce, device);
}

void publisher_part_discovery(struct publisher *publisher)
{
    announce_part_discovery(publisher->announce);
}

void publisher_renew_discovery(struct publisher *publisher)
{
    announce_renew_discovery(publisher->announce, clock_mono_ns());
}

void publisher_renew_edge(struct publisher *publisher, struct edge *edge)
{
    publisher->setup.edge = edge;
}

bool publisher_renew(struct publisher *publisher, const bool *anew)
{
    const struct device_list *list = &publisher->conf->devices;
    const struct session *bridge = &publisher->sessions.bridge;
    const int64_t now_ns = clock_mono_ns();
    bool good = true;
    for (unsigned i = 0; i < list->n_devices; i++) {
        if (!anew[i])
            continue;
        announce_renew(publisher->announce, i, now_ns);
        if (device_is_there(&list->devices[i]))
            good = sessions_add(&publisher->sessions, i) && good;
    }
    announce_renewed(publisher->announce, now_ns);
    if (bridge->state == SESSION_UP && !mqtt_has_wildcards(bridge->mqtt) &&
        hearing_begin(&publisher->hearing, bridge->mqtt))
        begin_hearing(publisher);
    return good;
}

int64_t publisher_presence_promise_ns(const struct publisher *publisher)
{
    return presences_promise_ns(publisher->sessions.presences);
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
