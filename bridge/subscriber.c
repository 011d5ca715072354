#include "bridge/subscriber.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/clock.h"
#include "bridge/deadman.h"
#include "bridge/log.h"
#include "bridge/reply.h"

/* Per writable point: one order under way, one waiting, one of the bridge's own
 * waiting, one being put, one whose outcome was unknown. */
enum { OPEN_PER_POINT = 5 };
/* How long the fallback on exit may take before the bridge ends without it. */
#define EXIT_NS (3 * CLOCK_NS_PER_S)

/* A command between its arrival and its outcome. */
struct open_command {
    enum { OPEN_FREE, OPEN_WAITING, OPEN_UNSETTLED } state;
    enum author { BY_DISPATCHER, BY_DEADMAN, BY_EXIT } by;
    unsigned device, point;
    struct command command;
    int64_t mono_ns, utc_ms; /* arrival */
    struct reply_address address;
    char user_source[INBOX_PROPERTY_MAX + 1];
    char user_traceparent[INBOX_PROPERTY_MAX + 1];
};

/* What the subscriber remembers of a device. */
struct seat {
    int64_t last_write_ns; /* of its setpoint; from reports */
    struct deadman deadman;
    enum outcome_kind own_outcome; /* of the deadman's last attempt; OUTCOME_COUNT = none yet */
};

struct subscriber {
    struct subscriber_setup setup;
    pthread_t thread;
    atomic_bool draining;
    atomic_bool stopping;
    sem_t drained;
    unsigned exits; /* writes of on_exit still open; 0 also before draining */
    bool left;      /* the writes of on_exit have been put */
    uint64_t own_ids;
    _Atomic int64_t promise_ns;
    struct reply *reply;
    struct seat *seats; /* per device */
    struct inbox_message message;
    struct report report;
    unsigned n_open;
    struct open_command open[];
};

/* ---- answers ---- */

static int64_t utc_at(const struct open_command *open, int64_t mono_ns)
{
    return open->utc_ms + (mono_ns - open->mono_ns) / CLOCK_NS_PER_MS;
}

/* Fills in what every outcome says of its command. */
static void describe(const struct open_command *open, const char *device, const char *point,
                     int64_t now_ns, struct outcome *outcome, struct wire_trace *trace)
{
    (void)snprintf(outcome->device, sizeof(outcome->device), "%s", device);
    (void)snprintf(outcome->point, sizeof(outcome->point), "%s", point);
    (void)snprintf(outcome->id, sizeof(outcome->id), "%s", open->command.id);
    (void)snprintf(outcome->source, sizeof(outcome->source), "%s", open->command.source);
    outcome->has_id = open->command.id[0] != '\0';
    outcome->value = open->command.value;
    outcome->ts_ms = utc_at(open, now_ns);
    outcome->latency_ms = (double)(now_ns - open->mono_ns) / (double)CLOCK_NS_PER_MS;
    trace->received_ms = open->utc_ms;
    trace->user_source = open->user_source;
    trace->user_traceparent = open->user_traceparent;
}

static void answer_report(struct subscriber *subscriber, const struct report *report)
{
    const struct open_command *open = &subscriber->open[report->order.token];
    const struct device *device = &subscriber->setup.conf->devices.devices[open->device];
    struct outcome outcome = {
        .has_value = true,
        .kind = report->outcome,
        .reason = report->reason,
        .fault = report->fault,
        .has_readback = report->has_readback,
        .readback = report->readback,
        .correction = report->kind == REPORT_CORRECTION,
    };
    struct wire_trace trace = {
        .judged_ms = report->judged_ns != 0 ? utc_at(open, report->judged_ns) : 0,
        .written_ms = report->written_ns != 0 ? utc_at(open, report->written_ns) : 0,
        .n_words = report->n_words,
    };

    memcpy(trace.words, report->words, sizeof(trace.words));
    (void)snprintf(outcome.detail, sizeof(outcome.detail), "%s", report->detail);
    describe(open, device->name, device->points[open->point].name, report->done_ns, &outcome,
             &trace);
    reply_send(subscriber->reply, device->name, &outcome, &trace, &open->address);
}

/* ---- orders ---- */

static bool is_setpoint(const struct device *device, unsigned point)
{
    return (int)point == device->control.setpoint;
}

/* Whether a write of the deadman for this device is on its way. */
static bool is_under_way(const struct subscriber *subscriber, unsigned device)
{
    for (unsigned i = 0; i < subscriber->n_open; i++) {
        const struct open_command *open = &subscriber->open[i];
        if (open->state == OPEN_WAITING && open->by == BY_DEADMAN && open->device == device)
            return true;
    }
    return false;
}

static struct open_command *open_free(struct subscriber *subscriber)
{
    for (unsigned i = 0; i < subscriber->n_open; i++) {
        if (subscriber->open[i].state == OPEN_FREE)
            return &subscriber->open[i];
    }
    return NULL; /* never: see OPEN_PER_POINT */
}

static void take_report(struct subscriber *subscriber, const struct report *report);

/* Gives a judged command to its poller. */
static void hand_over(struct subscriber *subscriber, const struct open_command *judged,
                      int64_t expires_ns)
{
    struct open_command *open = open_free(subscriber);
    const struct device *device = &subscriber->setup.conf->devices.devices[judged->device];
    struct order replaced;

    *open = *judged;
    open->state = OPEN_WAITING;
    struct order order = {
        .token = (uint32_t)(open - subscriber->open),
        .device = open->device,
        .point = open->point,
        .value = open->command.value,
        .expires_ns = expires_ns,
        .own = open->by != BY_DISPATCHER,
        .unless_ns = open->by == BY_DEADMAN ? open->mono_ns : 0,
    };
    if (mailbox_put(subscriber->setup.mailboxes[device->link], &order, &replaced)) {
        struct report report = {
            .order = replaced,
            .outcome = OUTCOME_SUPERSEDED,
            .done_ns = clock_mono_ns(),
        };
        take_report(subscriber, &report);
    }
}

/* A write of the bridge's own: deadman or exit. */
static void put_own(struct subscriber *subscriber, unsigned index, enum author by, double value)
{
    const struct device *device = &subscriber->setup.conf->devices.devices[index];
    const char *source = by == BY_DEADMAN ? "deadman" : "exit";
    struct open_command own = {
        .by = by,
        .device = index,
        .point = (unsigned)device->control.setpoint,
        .command.value = value,
        .mono_ns = clock_mono_ns(),
        .utc_ms = clock_utc_ms(),
    };

    (void)snprintf(own.command.id, sizeof(own.command.id), "%s-%s-%llu", source,
                   subscriber->setup.run, (unsigned long long)++subscriber->own_ids);
    (void)snprintf(own.command.source, sizeof(own.command.source), "%s", source);
    hand_over(subscriber, &own, CLOCK_NEVER);
}

/* Refused for the device's state, not for being unreachable: the fallback is
 * not allowed now, but zero is. */
static bool is_forbidden(const struct report *report)
{
    return report->outcome == OUTCOME_REFUSED && report->reason != REASON_DEVICE_OFFLINE &&
           report->order.value != 0.0;
}

/* An attempt of the deadman has ended. It is told when it is confirmed, and
 * else when it ends otherwise than the attempt before. */
static void take_deadman_report(struct subscriber *subscriber, unsigned index,
                                const struct report *report)
{
    struct seat *seat = &subscriber->seats[index];
    if (report->outcome == OUTCOME_SUPERSEDED)
        return; /* a setpoint was written meanwhile: its own report says what follows */
    if (is_forbidden(report))
        deadman_refused(&seat->deadman, clock_mono_ns());
    if (report->outcome != seat->own_outcome)
        answer_report(subscriber, report);
    seat->own_outcome = report->outcome;
    if (report->outcome != OUTCOME_CONFIRMED)
        return;
    deadman_done(&seat->deadman);
    log_info("deadman: the fallback is confirmed device=%s value_kw=%g",
             subscriber->setup.conf->devices.devices[index].name, report->readback);
}

static void take_exit_report(struct subscriber *subscriber, unsigned index,
                             const struct report *report)
{
    answer_report(subscriber, report);
    if (is_forbidden(report))
        put_own(subscriber, index, BY_EXIT, 0.0);
    else
        subscriber->exits--;
}

/* An unknown outcome waits for its correction until the point is written again. */
static void forget_unsettled(struct subscriber *subscriber, unsigned device, unsigned point)
{
    for (unsigned i = 0; i < subscriber->n_open; i++) {
        struct open_command *open = &subscriber->open[i];
        if (open->state == OPEN_UNSETTLED && open->device == device && open->point == point)
            open->state = OPEN_FREE;
    }
}

static void take_report(struct subscriber *subscriber, const struct report *report)
{
    struct open_command *open = &subscriber->open[report->order.token];
    const unsigned index = report->order.device;
    const struct device *device = &subscriber->setup.conf->devices.devices[index];
    struct seat *seat = &subscriber->seats[index];
    bool setpoint = report->kind == REPORT_FOUND || is_setpoint(device, report->order.point);
    bool unknown = report->kind == REPORT_OUTCOME && report->outcome == OUTCOME_UNKNOWN;

    if (report->kind != REPORT_FOUND) {
        if (report->written_ns != 0 && report->kind == REPORT_OUTCOME)
            forget_unsettled(subscriber, index, report->order.point);
        if (setpoint && report->written_ns != 0 && report->outcome != OUTCOME_FAILED)
            seat->last_write_ns = report->written_ns;
        if (open->by == BY_DEADMAN)
            take_deadman_report(subscriber, index, report);
        else if (open->by == BY_EXIT)
            take_exit_report(subscriber, index, report);
        else
            answer_report(subscriber, report);
        open->state = unknown ? OPEN_UNSETTLED : OPEN_FREE;
    }
    if (!setpoint || (report->kind != REPORT_FOUND && open->by != BY_DISPATCHER))
        return;
    if (report->kind == REPORT_FOUND || report->outcome == OUTCOME_CONFIRMED)
        deadman_holds(&seat->deadman, report->readback, report->done_ns);
    else if (report->written_ns != 0)
        deadman_may_hold(&seat->deadman,
                         report->has_readback ? report->readback : report->order.value,
                         report->done_ns);
}

/* ---- arrivals ---- */

static void copy_properties(const struct inbox_message *message, struct open_command *open)
{
    struct reply_address *address = &open->address;
    memcpy(address->response_topic, message->response_topic, sizeof(address->response_topic));
    memcpy(address->correlation, message->correlation, message->correlation_size);
    address->correlation_size = message->correlation_size;
    memcpy(open->user_source, message->user_source, sizeof(open->user_source));
    memcpy(open->user_traceparent, message->user_traceparent, sizeof(open->user_traceparent));
}

/* The same id on its way already: it has no outcome yet to be answered with. */
static bool is_open(const struct subscriber *subscriber, unsigned device, const char *id)
{
    for (unsigned i = 0; i < subscriber->n_open; i++) {
        const struct open_command *open = &subscriber->open[i];
        if (open->state == OPEN_WAITING && open->device == device &&
            strcmp(open->command.id, id) == 0)
            return true;
    }
    return false;
}

/* What is known of the named device and point when a command arrives. */
static struct command_scene look_around(struct subscriber *subscriber,
                                        const struct inbox_message *message, int index,
                                        const char *point)
{
    struct command_scene scene = {
        .point = -1,
        .retained = message->retained,
        .too_large = message->too_large,
        .shutting_down = atomic_load(&subscriber->draining),
        .audit_unavailable = !audit_available(subscriber->setup.audit),
        .utc_ms = message->utc_ms,
        .mono_ns = message->mono_ns,
        .last_write_ns = INT64_MIN,
    };
    if (index >= 0) {
        scene.device = &subscriber->setup.conf->devices.devices[index];
        scene.point = device_find_point(scene.device, point);
        scene.last_write_ns = subscriber->seats[index].last_write_ns;
        scene.crowded = reply_crowded(subscriber->reply, index, message->utc_ms);
    }
    return scene;
}

static void take_message(struct subscriber *subscriber, const struct inbox_message *message)
{
    const struct conf *conf = subscriber->setup.conf;
    char node[WIRE_TOPIC_MAX + 1];
    char leaf[WIRE_TOPIC_MAX + 1];
    struct outcome outcome = {.kind = OUTCOME_REFUSED};
    struct wire_trace trace = {0};
    struct open_command arrived = {.mono_ns = message->mono_ns, .utc_ms = message->utc_ms};
    const char *first = NULL;
    int64_t expires_ns;

    if (!wire_parse_topic(conf, message->topic, node, leaf))
        return; /* not of the filter subscribed to: the broker's mistake */
    health_count(&subscriber->setup.health->commands);
    copy_properties(message, &arrived);

    int index = reply_find_device(subscriber->reply, node);
    struct command_scene scene = look_around(subscriber, message, index, leaf);
    bool allow_bare = index >= 0 && scene.device->controllable && scene.device->control.allow_bare;
    if (!message->too_large)
        scene.parsed = wire_parse_command(message->payload, message->payload_size, allow_bare,
                                          &arrived.command, outcome.detail);
    const char *id = arrived.command.id;
    if (id[0] != '\0' && index >= 0) {
        first = reply_first(subscriber->reply, index, id);
        scene.duplicate = first != NULL || is_open(subscriber, (unsigned)index, id);
    }
    outcome.reason = command_judge(&arrived.command, &scene, &expires_ns, outcome.detail);
    if (outcome.reason == REASON_NONE) {
        arrived.device = (unsigned)index;
        arrived.point = (unsigned)scene.point;
        hand_over(subscriber, &arrived, expires_ns);
    } else if (outcome.reason == REASON_DUPLICATE && first != NULL) {
        reply_repeat(subscriber->reply, node, first, &arrived.address);
    } else {
        outcome.has_value = scene.parsed;
        describe(&arrived, node, leaf, clock_mono_ns(), &outcome, &trace);
        reply_send(subscriber->reply, node, &outcome, &trace, &arrived.address);
    }
}

/* ---- the bridge's own writes ---- */

/* Writes the fallback of every lease that has run out; returns when to look
 * again. */
static int64_t run_deadmen(struct subscriber *subscriber)
{
    const struct device_list *list = &subscriber->setup.conf->devices;
    const int64_t now_ns = clock_mono_ns();
    int64_t next_ns = CLOCK_NEVER;
    uint_fast64_t firing = 0;

    for (unsigned i = 0; i < list->n_devices; i++) {
        struct seat *seat = &subscriber->seats[i];
        bool was_firing = seat->deadman.state == DEADMAN_FIRING;
        double value;
        if (deadman_due(&seat->deadman, now_ns, &value)) {
            if (!was_firing) {
                log_warning("deadman: no fresh setpoint, writing the fallback device=%s "
                            "value_kw=%g",
                            list->devices[i].name, value);
                seat->own_outcome = OUTCOME_COUNT;
            }
            if (!is_under_way(subscriber, i))
                put_own(subscriber, i, BY_DEADMAN, value);
        }
        firing += seat->deadman.state == DEADMAN_FIRING;
        if (deadman_next_ns(&seat->deadman) < next_ns)
            next_ns = deadman_next_ns(&seat->deadman);
    }
    atomic_store_explicit(&subscriber->setup.health->deadman_firing, firing, memory_order_relaxed);
    return next_ns;
}

/* Once, when draining begins: the writes of on_exit. */
static void leave(struct subscriber *subscriber)
{
    const struct device_list *list = &subscriber->setup.conf->devices;
    if (!subscriber->left && atomic_load(&subscriber->draining)) {
        subscriber->left = true;
        subscriber->exits = 1; /* until all are put */
        for (unsigned i = 0; i < list->n_devices; i++) {
            const struct device *device = &list->devices[i];
            if (!device->controllable || device->control.on_exit != DEVICE_FALLBACK)
                continue;
            subscriber->exits++;
            put_own(subscriber, i, BY_EXIT, device->control.deadman_value);
        }
        subscriber->exits--;
    }
    if (subscriber->left && subscriber->exits == 0)
        sem_post(&subscriber->drained);
}

/* ---- the thread ---- */

static void *subscriber_thread(void *argument)
{
    struct subscriber *subscriber = argument;
    for (;;) {
        int64_t next_ns = run_deadmen(subscriber);
        leave(subscriber);
        atomic_store_explicit(&subscriber->promise_ns, next_ns, memory_order_relaxed);
        enum inbox_kind kind =
            inbox_take(subscriber->setup.inbox, next_ns, &subscriber->message, &subscriber->report);
        atomic_store_explicit(&subscriber->promise_ns, clock_mono_ns() + CLOCK_NS_PER_S,
                              memory_order_relaxed);
        if (kind == INBOX_MESSAGE)
            take_message(subscriber, &subscriber->message);
        else if (kind == INBOX_REPORT)
            take_report(subscriber, &subscriber->report);
        else if (atomic_load(&subscriber->stopping))
            break;
    }
    return NULL;
}

static void subscriber_free(struct subscriber *subscriber)
{
    reply_free(subscriber->reply);
    free(subscriber->seats);
    sem_destroy(&subscriber->drained);
    free(subscriber);
}

static bool memory_init(struct subscriber *subscriber)
{
    const struct subscriber_setup *setup = &subscriber->setup;
    const struct device_list *list = &setup->conf->devices;
    subscriber->reply = reply_new(setup->conf, setup->audit, setup->health);
    subscriber->seats = calloc(list->n_devices, sizeof(struct seat));
    if (subscriber->reply == NULL || subscriber->seats == NULL)
        return false;
    for (unsigned i = 0; i < list->n_devices; i++) {
        const struct device_control *control = &list->devices[i].control;
        subscriber->seats[i].last_write_ns = INT64_MIN;
        if (list->devices[i].controllable)
            deadman_init(&subscriber->seats[i].deadman, control->deadman_timeout_ns,
                         control->deadman_value);
    }
    return true;
}

struct subscriber *subscriber_start(const struct subscriber_setup *setup)
{
    const struct device_list *list = &setup->conf->devices;
    unsigned n_open = 0;
    for (unsigned i = 0; i < list->n_devices; i++) {
        for (unsigned j = 0; j < list->devices[i].n_points; j++)
            n_open += device_may_write(&list->devices[i], j) ? OPEN_PER_POINT : 0;
    }
    struct subscriber *subscriber =
        calloc(1, sizeof(*subscriber) + n_open * sizeof(struct open_command));
    if (subscriber != NULL) {
        subscriber->setup = *setup;
        subscriber->n_open = n_open;
        subscriber->promise_ns = CLOCK_NEVER;
        sem_init(&subscriber->drained, 0, 0);
        if (memory_init(subscriber) &&
            pthread_create(&subscriber->thread, NULL, subscriber_thread, subscriber) == 0)
            return subscriber;
        subscriber_free(subscriber);
    }
    log_error("cannot start the subscriber: out of memory or threads");
    return NULL;
}

void subscriber_drain(struct subscriber *subscriber)
{
    const int64_t until_ns = clock_mono_ns() + EXIT_NS;
    const struct timespec until = {
        .tv_sec = until_ns / CLOCK_NS_PER_S,
        .tv_nsec = until_ns % CLOCK_NS_PER_S,
    };
    atomic_store(&subscriber->draining, true);
    inbox_wake(subscriber->setup.inbox);
    while (sem_clockwait(&subscriber->drained, CLOCK_MONOTONIC, &until) != 0) {
        if (errno == ETIMEDOUT) {
            log_warning("on_exit: the fallback was not confirmed in time");
            return;
        }
    }
}

void subscriber_stop(struct subscriber *subscriber)
{
    if (subscriber == NULL)
        return;
    atomic_store(&subscriber->draining, true);
    atomic_store(&subscriber->stopping, true);
    inbox_wake(subscriber->setup.inbox);
    pthread_join(subscriber->thread, NULL);
    subscriber_free(subscriber);
}

int64_t subscriber_promise_ns(const struct subscriber *subscriber)
{
    return atomic_load_explicit(&subscriber->promise_ns, memory_order_relaxed);
}
