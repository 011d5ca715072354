#include "bridge/subscriber.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/clock.h"
#include "bridge/log.h"
#include "bridge/wire.h"

/* Per writable point: one order under way, one waiting, one being put. */
enum { OPEN_PER_POINT = 3 };

/* A command between its arrival and its outcome. */
struct open_command {
    bool used;
    unsigned device, point;
    struct command command;
    int64_t mono_ns, utc_ms; /* arrival */
    char response_topic[INBOX_TOPIC_MAX + 1];
    size_t correlation_size;
    unsigned char correlation[INBOX_CORRELATION_MAX];
    char user_source[INBOX_PROPERTY_MAX + 1];
    char user_traceparent[INBOX_PROPERTY_MAX + 1];
};

struct subscriber {
    struct subscriber_setup setup;
    pthread_t thread;
    atomic_bool draining;
    atomic_bool stopping;
    _Atomic int64_t promise_ns;
    int64_t *last_write_ns; /* per device, of its setpoint; from reports */
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

/* One outcome: counted, written to the audit log, published. */
static void answer(struct subscriber *subscriber, const char *device, const struct outcome *outcome,
                   const struct wire_trace *trace, const struct open_command *open)
{
    char topic[WIRE_TOPIC_MAX + 1];
    char *payload = wire_outcome(outcome);
    char *line = wire_audit(outcome, trace);

    health_count(&subscriber->setup.health->outcomes[outcome->kind]);
    if (outcome->kind == OUTCOME_REFUSED)
        health_count(&subscriber->setup.health->refusals[outcome->reason]);
    if (payload == NULL || line == NULL)
        log_error("out of memory for an outcome device=%s id=%s outcome=%s", outcome->device,
                  outcome->id, outcome_word(outcome->kind));
    else if (!wire_topic(topic, subscriber->setup.conf, device, "result"))
        log_warning("no result topic: the device's name is too long id=%s", outcome->id);
    else
        audit_put(
            subscriber->setup.audit,
            &(struct audit_entry){
                .line = line,
                .topic = topic,
                .payload = payload,
                .response_topic = open->response_topic[0] != '\0' ? open->response_topic : NULL,
                .correlation = open->correlation,
                .correlation_size = open->correlation_size,
            });
    free(payload);
    free(line);
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
    struct open_command *open = &subscriber->open[report->order.token];
    const struct device *device = &subscriber->setup.conf->devices.devices[open->device];
    struct outcome outcome = {
        .has_value = true,
        .kind = report->outcome,
        .reason = report->reason,
        .fault = report->fault,
        .has_readback = report->has_readback,
        .readback = report->readback,
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
    if (report->written_ns != 0 && report->outcome != OUTCOME_FAILED &&
        (int)open->point == device->control.setpoint)
        subscriber->last_write_ns[open->device] = report->written_ns;
    answer(subscriber, device->name, &outcome, &trace, open);
    open->used = false;
}

/* ---- arrivals ---- */

static struct open_command *open_free(struct subscriber *subscriber)
{
    for (unsigned i = 0; i < subscriber->n_open; i++) {
        if (!subscriber->open[i].used)
            return &subscriber->open[i];
    }
    return NULL; /* never: see OPEN_PER_POINT */
}

static int find_device(const struct device_list *list, const char *name)
{
    for (unsigned i = 0; i < list->n_devices; i++) {
        if (strcmp(list->devices[i].name, name) == 0)
            return (int)i;
    }
    return -1;
}

static void hand_over(struct subscriber *subscriber, const struct open_command *arrived,
                      int64_t expires_ns)
{
    struct open_command *open = open_free(subscriber);
    const struct device *device = &subscriber->setup.conf->devices.devices[arrived->device];
    struct order replaced;

    *open = *arrived;
    open->used = true;
    struct order order = {
        .token = (uint32_t)(open - subscriber->open),
        .device = open->device,
        .point = open->point,
        .value = open->command.value,
        .expires_ns = expires_ns,
    };
    if (mailbox_put(subscriber->setup.mailboxes[device->link], &order, &replaced)) {
        struct report report = {
            .order = replaced,
            .outcome = OUTCOME_SUPERSEDED,
            .done_ns = clock_mono_ns(),
        };
        answer_report(subscriber, &report);
    }
}

static void copy_properties(const struct inbox_message *message, struct open_command *open)
{
    memcpy(open->response_topic, message->response_topic, sizeof(open->response_topic));
    memcpy(open->correlation, message->correlation, message->correlation_size);
    open->correlation_size = message->correlation_size;
    memcpy(open->user_source, message->user_source, sizeof(open->user_source));
    memcpy(open->user_traceparent, message->user_traceparent, sizeof(open->user_traceparent));
}

static void take_message(struct subscriber *subscriber, const struct inbox_message *message)
{
    const struct conf *conf = subscriber->setup.conf;
    char node[WIRE_TOPIC_MAX + 1];
    char leaf[WIRE_TOPIC_MAX + 1];
    struct outcome outcome = {.kind = OUTCOME_REFUSED};
    struct wire_trace trace = {0};
    struct open_command arrived = {.mono_ns = message->mono_ns, .utc_ms = message->utc_ms};
    int64_t expires_ns;

    if (!wire_parse_topic(conf, message->topic, node, leaf))
        return; /* not of the filter subscribed to: the broker's mistake */
    health_count(&subscriber->setup.health->commands);
    copy_properties(message, &arrived);

    int index = find_device(&conf->devices, node);
    const struct device *device = index >= 0 ? &conf->devices.devices[index] : NULL;
    bool allow_bare = device != NULL && device->controllable && device->control.allow_bare;
    struct command_scene scene = {
        .device = device,
        .point = device != NULL ? device_find_point(device, leaf) : -1,
        .retained = message->retained,
        .too_large = message->too_large,
        .shutting_down = atomic_load(&subscriber->draining),
        .audit_unavailable = !audit_available(subscriber->setup.audit),
        .utc_ms = message->utc_ms,
        .mono_ns = message->mono_ns,
        .last_write_ns = index >= 0 ? subscriber->last_write_ns[index] : INT64_MIN,
    };
    if (!message->too_large)
        scene.parsed = wire_parse_command(message->payload, message->payload_size, allow_bare,
                                          &arrived.command, outcome.detail);
    outcome.reason = command_judge(&arrived.command, &scene, &expires_ns, outcome.detail);
    if (outcome.reason == REASON_NONE) {
        arrived.device = (unsigned)index;
        arrived.point = (unsigned)scene.point;
        hand_over(subscriber, &arrived, expires_ns);
        return;
    }
    outcome.has_value = scene.parsed;
    describe(&arrived, node, leaf, clock_mono_ns(), &outcome, &trace);
    answer(subscriber, node, &outcome, &trace, &arrived);
}

/* ---- the thread ---- */

static void *subscriber_thread(void *argument)
{
    struct subscriber *subscriber = argument;
    for (;;) {
        atomic_store_explicit(&subscriber->promise_ns, CLOCK_NEVER, memory_order_relaxed);
        enum inbox_kind kind = inbox_take(subscriber->setup.inbox, CLOCK_NEVER,
                                          &subscriber->message, &subscriber->report);
        atomic_store_explicit(&subscriber->promise_ns, clock_mono_ns() + CLOCK_NS_PER_S,
                              memory_order_relaxed);
        if (kind == INBOX_MESSAGE)
            take_message(subscriber, &subscriber->message);
        else if (kind == INBOX_REPORT)
            answer_report(subscriber, &subscriber->report);
        else if (atomic_load(&subscriber->stopping))
            break;
    }
    return NULL;
}

static void subscriber_free(struct subscriber *subscriber)
{
    free(subscriber->last_write_ns);
    free(subscriber);
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
    if (subscriber == NULL)
        goto failed;
    subscriber->setup = *setup;
    subscriber->n_open = n_open;
    subscriber->promise_ns = CLOCK_NEVER;
    subscriber->last_write_ns = malloc(list->n_devices * sizeof(int64_t));
    if (subscriber->last_write_ns == NULL)
        goto failed;
    for (unsigned i = 0; i < list->n_devices; i++)
        subscriber->last_write_ns[i] = INT64_MIN;
    if (pthread_create(&subscriber->thread, NULL, subscriber_thread, subscriber) != 0)
        goto failed;
    return subscriber;

failed:
    log_error("cannot start the subscriber: out of memory or threads");
    if (subscriber != NULL)
        subscriber_free(subscriber);
    return NULL;
}

void subscriber_drain(struct subscriber *subscriber)
{
    atomic_store(&subscriber->draining, true);
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
