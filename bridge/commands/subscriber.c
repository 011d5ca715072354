#include "bridge/commands/subscriber.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/commands/orders.h"
#include "bridge/wire/command_json.h"

/* How long the fallback on exit may take before the bridge ends without it. */
#define EXIT_NS (3 * CLOCK_NS_PER_S)

struct subscriber {
    struct subscriber_setup setup;
    pthread_t thread;
    atomic_bool draining;
    atomic_bool stopping;
    sem_t drained;
    _Atomic int64_t promise_ns;
    struct answers *reply;
    struct orders *orders;
    struct inbox_message message;
    struct report report;
};

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
        scene.last_write_ns = orders_last_write_ns(subscriber->orders, (unsigned)index);
        scene.crowded = answers_crowded(subscriber->reply, index, message->utc_ms);
    }
    return scene;
}

static void take_message(struct subscriber *subscriber, const struct inbox_message *message)
{
    const struct conf *conf = subscriber->setup.conf;
    char node[TOPIC_MAX + 1];
    char leaf[TOPIC_MAX + 1];
    struct outcome outcome = {.kind = OUTCOME_REFUSED};
    struct wire_trace trace = {0};
    struct open_command arrived = {.mono_ns = message->mono_ns, .utc_ms = message->utc_ms};
    const char *first = NULL;
    int64_t expires_ns;

    if (!topic_parse(conf, message->topic, node, leaf))
        return; /* not of the filter subscribed to: the broker's mistake */
    health_count(&subscriber->setup.health->commands);
    copy_properties(message, &arrived);

    int index = answers_find_device(subscriber->reply, node);
    struct command_scene scene = look_around(subscriber, message, index, leaf);
    bool allow_bare = index >= 0 && scene.device->controllable && scene.device->control.allow_bare;
    if (!message->too_large)
        scene.parsed = command_json_parse(message->payload, message->payload_size, allow_bare,
                                          &arrived.command, outcome.detail);
    const char *id = arrived.command.id;
    if (id[0] != '\0' && index >= 0) {
        first = answers_first(subscriber->reply, index, id);
        scene.duplicate = first != NULL || orders_has_id(subscriber->orders, (unsigned)index, id);
    }
    outcome.reason = command_judge(&arrived.command, &scene, &expires_ns, outcome.detail);
    if (outcome.reason == REASON_NONE) {
        arrived.device = (unsigned)index;
        arrived.point = (unsigned)scene.point;
        orders_put(subscriber->orders, &arrived, expires_ns);
    } else if (outcome.reason == REASON_DUPLICATE && first != NULL) {
        answers_repeat(subscriber->reply, node, first, &arrived.address);
    } else {
        outcome.has_value = scene.parsed;
        orders_describe(&arrived, node, leaf, clock_mono_ns(), &outcome, &trace);
        answers_send(subscriber->reply, node, &outcome, &trace, &arrived.address);
    }
}

/* ---- the thread ---- */

static void *subscriber_thread(void *argument)
{
    struct subscriber *subscriber = argument;
    for (;;) {
        int64_t next_ns = orders_run_deadmen(subscriber->orders);
        if (atomic_load(&subscriber->draining) && orders_leave(subscriber->orders))
            sem_post(&subscriber->drained);
        atomic_store_explicit(&subscriber->promise_ns, next_ns, memory_order_relaxed);
        enum inbox_kind kind =
            inbox_take(subscriber->setup.inbox, next_ns, &subscriber->message, &subscriber->report);
        atomic_store_explicit(&subscriber->promise_ns, clock_mono_ns() + CLOCK_NS_PER_S,
                              memory_order_relaxed);
        if (kind == INBOX_MESSAGE)
            take_message(subscriber, &subscriber->message);
        else if (kind == INBOX_REPORT)
            orders_take_report(subscriber->orders, &subscriber->report);
        else if (atomic_load(&subscriber->stopping))
            break;
    }
    return NULL;
}

static void subscriber_free(struct subscriber *subscriber)
{
    orders_free(subscriber->orders);
    answers_free(subscriber->reply);
    sem_destroy(&subscriber->drained);
    free(subscriber);
}

static struct subscriber *subscriber_new(const struct subscriber_setup *setup)
{
    struct subscriber *subscriber = calloc(1, sizeof(*subscriber));
    if (subscriber == NULL)
        return NULL;
    subscriber->setup = *setup;
    subscriber->promise_ns = CLOCK_NEVER;
    sem_init(&subscriber->drained, 0, 0);
    subscriber->reply = answers_new(setup->conf, setup->audit, setup->health);
    if (subscriber->reply != NULL)
        subscriber->orders = orders_new(&(struct orders_setup){
            .conf = setup->conf,
            .mailboxes = setup->mailboxes,
            .reply = subscriber->reply,
            .health = setup->health,
            .run = setup->run,
        });
    if (subscriber->orders == NULL) {
        subscriber_free(subscriber);
        return NULL;
    }
    return subscriber;
}

struct subscriber *subscriber_start(const struct subscriber_setup *setup)
{
    struct subscriber *subscriber = subscriber_new(setup);
    if (subscriber != NULL &&
        pthread_create(&subscriber->thread, NULL, subscriber_thread, subscriber) == 0)
        return subscriber;
    log_error("cannot start the subscriber: out of memory or threads");
    if (subscriber != NULL)
        subscriber_free(subscriber);
    return NULL;
}

void subscriber_drain(struct subscriber *subscriber)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until); /* semaphores know no other that only goes forward */
    until.tv_sec += EXIT_NS / CLOCK_NS_PER_S;
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
