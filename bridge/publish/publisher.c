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
#include "bridge/wire/sample_json.h"
#include "bridge/wire/topic.h"

enum { REFUSALS_MAX = 64 };

#define FAREWELL_NS      (250 * CLOCK_NS_PER_MS) /* for the last words after the grace */
#define TAKING_NS        CLOCK_NS_PER_S        /* and for the next, of a broker that takes them, */
#define FAREWELL_MOST_NS (10 * CLOCK_NS_PER_S) /* in all so long */
#define NAP_MAX_NS       (60 * CLOCK_NS_PER_S)
#define SLACK_NS         (60 * CLOCK_NS_PER_S) /* a name that resolves slowly holds up the library */
#define HEARING_NS       (300 * CLOCK_NS_PER_MS) /* for the answer to an UNSUBSCRIBE */

/* A topic that the broker does not let us use; each is logged once. */
struct refusal {
    char topic[TOPIC_MAX + 1];
    char why[MQTT_WHY_MAX];
    bool is_over; /* the broker takes a subscription to it now */
};

struct publisher {
    struct publisher_setup setup;
    const struct conf *conf;
    pthread_t thread;
    struct halt halt;
    atomic_bool stopping, reloaded;
    atomic_bool deafened;  /* commands are not to be heard any more */
    atomic_uint n_unheard; /* subscriptions to commands that the broker has not answered */
    bool unsubscribed;     /* the broker has been told */
    int64_t grace_ns;      /* set before stopping */
    _Atomic int64_t promise_ns;
    struct sessions sessions;
    struct announce *announce;
    bool was_up; /* the bridge session, at some time */
    size_t base_size;
    char base[TOPIC_MAX + 1]; /* "<base>/" */
    struct outbox_item *item;
    char *text; /* of a sample: room for OUTBOX_PAYLOAD_MAX */

    pthread_mutex_t mutex; /* guards what follows; never held while calling out */
    pthread_cond_t deafness;
    bool is_deaf; /* the broker has ended the subscriptions to commands */
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
    outbox_wake(publisher->setup.outbox); /* it may be asked for again soon */
}

static void on_relented(void *context, const char *topic)
{
    const struct session *session = context;
    struct publisher *publisher = session->setup.owner;
    pthread_mutex_lock(&publisher->mutex);
    for (unsigned i = 0; i < publisher->n_refusals; i++)
        if (strcmp(publisher->refusals[i].topic, topic) == 0)
            publisher->refusals[i].is_over = true;
    pthread_mutex_unlock(&publisher->mutex);
    outbox_wake(publisher->setup.outbox);
}

static void set_deaf(struct publisher *publisher)
{
    pthread_mutex_lock(&publisher->mutex);
    publisher->is_deaf = true;
    pthread_cond_signal(&publisher->deafness);
    pthread_mutex_unlock(&publisher->mutex);
}

/* One subscription to commands less is to be waited for. */
static void count_answer(struct publisher *publisher)
{
    if (atomic_fetch_sub(&publisher->n_unheard, 1) != 1)
        return;
    if (atomic_load(&publisher->deafened))
        set_deaf(publisher);
    else
        announce_hearing(publisher->announce);
    outbox_wake(publisher->setup.outbox);
}

static void on_answered(void *context, const char *filter)
{
    const struct session *session = context;
    struct publisher *publisher = session->setup.owner;
    char device[TOPIC_MAX + 1], point[TOPIC_MAX + 1];
    if (topic_parse(publisher->conf, filter, device, point))
        count_answer(publisher);
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

/* The next that is to be said: a refusal, or its end, after which it is forgotten. */
static struct refusal next_refusal(struct publisher *publisher)
{
    struct refusal refusal = {.topic = ""};
    pthread_mutex_lock(&publisher->mutex);
    if (publisher->n_logged < publisher->n_refusals) {
        refusal = publisher->refusals[publisher->n_logged++];
        refusal.is_over = false;
    }
    for (unsigned i = 0; refusal.topic[0] == '\0' && i < publisher->n_refusals; i++) {
        if (!publisher->refusals[i].is_over)
            continue;
        refusal = publisher->refusals[i];
        publisher->refusals[i] = publisher->refusals[--publisher->n_refusals];
        publisher->n_logged--;
    }
    pthread_mutex_unlock(&publisher->mutex);
    return refusal;
}

static void log_refusals(struct publisher *publisher)
{
    struct refusal refusal;
    while ((refusal = next_refusal(publisher)).topic[0] != '\0') {
        if (refusal.is_over)
            log_info("the broker takes the subscription now topic=%s", refusal.topic);
        else
            log_warning("the broker refuses a topic: %s topic=%s", refusal.why, refusal.topic);
    }
}

/* ---- the thread -------------------------------------------------------- */

/* One filter more. */
static void for_filter(struct publisher *publisher, bool made, const char *filter,
                       bool (*ask)(struct mqtt *mqtt, const char *filter))
{
    atomic_fetch_add(&publisher->n_unheard, 1);
    if (!made || !ask(publisher->sessions.bridge.mqtt, filter))
        atomic_fetch_sub(&publisher->n_unheard, 1);
}

static void for_device(struct publisher *publisher, const struct device *device,
                       bool (*ask)(struct mqtt *mqtt, const char *filter))
{
    const struct conf *conf = publisher->conf;
    char filter[TOPIC_MAX + 1], leaf[TOPIC_MAX + 1];
    for (unsigned point = 0; point < device->n_points; point++) {
        if (!device_may_write(device, point))
            continue;
        snprintf(leaf, sizeof(leaf), "set/%s", device->points[point].name);
        for_filter(publisher, topic_make(filter, conf, device->name, leaf), filter, ask);
    }
    if (device->controllable)
        for_filter(publisher, topic_make(filter, conf, device->name, TOPIC_SCHEDULE_SET), filter,
                   ask);
}

/* Does it for each filter of commands and schedules: two, or where the broker takes no
 * wildcards one for each point that may be written, and each battery's. Without any, nothing has to
 * be waited for. */
static void for_commands(struct publisher *publisher,
                         bool (*ask)(struct mqtt *mqtt, const char *filter))
{
    const struct device_list *list = &publisher->conf->devices;
    const bool wildcards = mqtt_has_wildcards(publisher->sessions.bridge.mqtt);
    char filter[TOPIC_MAX + 1];
    atomic_store(&publisher->n_unheard, 1); /* until all have been asked for */
    if (wildcards) {
        for_filter(publisher, topic_command_filter(filter, publisher->conf), filter, ask);
        for_filter(publisher, topic_schedule_filter(filter, publisher->conf), filter, ask);
    }
    for (unsigned i = 0; !wildcards && i < list->n_devices; i++)
        for_device(publisher, &list->devices[i], ask);
    count_answer(publisher);
}

static bool subscribe(struct mqtt *mqtt, const char *filter)
{
    return mqtt_subscribe(mqtt, filter, MQTT_LIVE);
}

static void begin_session(struct publisher *publisher, int64_t now_ns)
{
    if (publisher->was_up)
        health_count(&publisher->setup.health->reconnects);
    publisher->was_up = true;
    atomic_store(&publisher->setup.health->certificate_end_ms,
                 certificate_end_ms(&publisher->conf->mqtt));
    mqtt_hurry(publisher->sessions.bridge.mqtt);
    if (!atomic_load(&publisher->deafened))
        for_commands(publisher, subscribe);
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
    if (atomic_load(&publisher->deafened) && !publisher->unsubscribed) {
        publisher->unsubscribed = true;
        if (publisher->sessions.bridge.state == SESSION_UP)
            for_commands(publisher, mqtt_unsubscribe);
        else
            set_deaf(publisher);
    }
}

static int64_t sooner(int64_t a_ns, int64_t b_ns)
{
    return a_ns < b_ns ? a_ns : b_ns;
}

/* Does everything that can be done now and returns when there is more. */
static int64_t work(struct publisher *publisher)
{
    int64_t now_ns = clock_mono_ns();
    run_sessions(publisher, now_ns);
    int64_t due_ns = announce_run(publisher->announce, now_ns);
    publish_records(publisher);
    log_refusals(publisher);
    publisher->sessions.bridge.tend_ns = mqtt_tend(publisher->sessions.bridge.mqtt, now_ns);
    due_ns = sooner(due_ns, sessions_due_ns(&publisher->sessions));
    if (publisher->setup.edge != NULL)
        due_ns = sooner(due_ns, edge_run(publisher->setup.edge, now_ns,
                                         publisher->sessions.bridge.state == SESSION_UP
                                             ? publisher->sessions.address
                                             : NULL));
    due_ns = sooner(due_ns, now_ns + NAP_MAX_NS);
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

static void leave(struct publisher *publisher, struct session *session, int64_t end_ns)
{
    session_leave(session, end_ns, !announce_is_told(publisher->announce, session));
}

/* Every status goes offline, and every session ends in order; one whose last word the
 * broker has not taken ends with its Will instead. Of thousands it takes a few at a time: as
 * long as it does it is waited for. */
static void farewell(struct publisher *publisher)
{
    struct sessions *sessions = &publisher->sessions;
    int64_t now_ns = clock_mono_ns();
    const int64_t last_ns = now_ns + FAREWELL_MOST_NS;
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
    log_refusals(publisher);
}

static void *publisher_main(void *argument)
{
    struct publisher *publisher = argument;
    while (!atomic_load(&publisher->stopping)) {
        wait_until(publisher, work(publisher), CLOCK_NEVER);
        halt_here(&publisher->halt);
    }
    drain(publisher);
    farewell(publisher);
    return NULL;
}

/* ---- start and stop ---------------------------------------------------- */

static void publisher_free(struct publisher *publisher)
{
    sessions_destroy(&publisher->sessions);
    announce_free(publisher->announce);
    pthread_cond_destroy(&publisher->deafness);
    pthread_mutex_destroy(&publisher->mutex);
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
    publisher->promise_ns = clock_mono_ns() + SLACK_NS;
    pthread_mutex_init(&publisher->mutex, NULL);
    clock_cond_init(&publisher->deafness);
    halt_init(&publisher->halt);
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
    atomic_store(&publisher->deafened, true);
    outbox_wake(publisher->setup.outbox);
    pthread_mutex_lock(&publisher->mutex);
    while (!publisher->is_deaf && clock_mono_ns() < until_ns)
        clock_cond_wait(&publisher->deafness, &publisher->mutex, until_ns);
    pthread_mutex_unlock(&publisher->mutex);
}

void publisher_stop(struct publisher *publisher, int64_t grace_ns)
{
    publisher->grace_ns = grace_ns;
    atomic_store(&publisher->stopping, true);
    outbox_wake(publisher->setup.outbox);
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
    if (bridge->state == SESSION_UP && !mqtt_has_wildcards(bridge->mqtt))
        for_commands(publisher, subscribe);
    return good;
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
