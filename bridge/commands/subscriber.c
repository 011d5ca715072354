#include "bridge/commands/subscriber.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/battery/admit.h"
#include "bridge/battery/schedule.h"
#include "bridge/commands/answers.h"
#include "bridge/wire/command_json.h"
#include "bridge/wire/schedule_json.h"
#include "bridge/wire/topic.h"

/* A command without its outcome yet. */
struct open_command {
    struct open_command *next;
    char id[COMMAND_ID_MAX + 1];
};

struct subscriber {
    struct subscriber_setup setup;
    pthread_t thread;
    struct halt halt;
    atomic_bool draining;
    atomic_bool stopping;
    sem_t drained;
    _Atomic int64_t promise_ns;
    struct answers *answers;
    struct inbox_message message;
    struct outcome outcome;     /* taken */
    struct outcome answer;      /* given here */
    struct open_command **open; /* by device */
    struct mailbox **mailboxes; /* by device; NULL where there is none */
    bool *parting;              /* by device */
    int64_t *last_write_ns;     /* by device, of its setpoint; INT64_MIN = never */
};

/* ---- what is under way ---- */

static bool is_open(const struct subscriber *subscriber, unsigned device, const char *id)
{
    const struct open_command *open = subscriber->open[device];
    while (open != NULL && strcmp(open->id, id) != 0)
        open = open->next;
    return open != NULL;
}

/* A bare number has no id that could come twice. */
static bool note_open(struct subscriber *subscriber, const struct command *command)
{
    if (command->id[0] == '\0' || command->offers)
        return true;
    struct open_command *open = malloc(sizeof(*open));
    if (open == NULL)
        return false;
    memcpy(open->id, command->id, sizeof(open->id));
    open->next = subscriber->open[command->device];
    subscriber->open[command->device] = open;
    return true;
}

static void forget_open(struct subscriber *subscriber, unsigned device, const char *id)
{
    for (struct open_command **at = &subscriber->open[device]; *at != NULL; at = &(*at)->next) {
        if (strcmp((*at)->id, id) != 0)
            continue;
        struct open_command *ended = *at;
        *at = ended->next;
        free(ended);
        return;
    }
}

/* ---- outcomes ---- */

static void take_outcome(struct subscriber *subscriber, const struct outcome *outcome)
{
    const struct command *command = &outcome->command;
    const struct device *device = &subscriber->setup.conf->devices.devices[command->device];
    if (outcome->written_ns != 0 && outcome->kind != OUTCOME_FAILED && device->controllable &&
        (int)command->point == device->control.setpoint)
        subscriber->last_write_ns[command->device] = outcome->written_ns;
    if (!outcome->correction && !command->offers)
        forget_open(subscriber, command->device, command->id);
    answers_send(subscriber->answers, outcome);
}

/* Answers a command that is given to no poller, or given back by a mailbox. */
static void answer(struct subscriber *subscriber, const struct command *command,
                   enum outcome_kind kind, enum reason reason, const char *detail)
{
    struct outcome *outcome = &subscriber->answer;
    *outcome = (struct outcome){
        .command = *command, .kind = kind, .reason = reason, .done_ns = clock_mono_ns()};
    outcome->command.timetable = NULL;
    (void)snprintf(outcome->detail, sizeof(outcome->detail), "%s", detail);
    answers_send(subscriber->answers, outcome);
}

/* ---- arrivals ---- */

/* Gives an admitted command to the thread that owns the device's link. */
static void hand_over(struct subscriber *subscriber, const struct command *command)
{
    struct command replaced = {.timetable = NULL};
    if (!note_open(subscriber, command)) {
        answer(subscriber, command, OUTCOME_REFUSED, REASON_RATE_LIMITED, "out of memory");
        return;
    }
    switch (mailbox_put(subscriber->mailboxes[command->device], command, &replaced)) {
    case MAILBOX_TAKEN:
        return;
    case MAILBOX_FULL:
        if (!command->offers)
            forget_open(subscriber, command->device, command->id);
        answer(subscriber, command, OUTCOME_REFUSED, REASON_RATE_LIMITED,
               "more commands wait for this device than can be kept");
        schedule_json_free(command->timetable);
        return;
    case MAILBOX_REPLACED:
        if (!replaced.offers)
            forget_open(subscriber, replaced.device, replaced.id);
        schedule_json_free(replaced.timetable);
        if (replaced.stop)
            answer(subscriber, &replaced, OUTCOME_UNKNOWN, REASON_NONE,
                   "one of many stops that wait for this device: a newer one is carried out");
        else
            answer(subscriber, &replaced, OUTCOME_SUPERSEDED, REASON_NONE, "");
        return;
    }
}

/* What is known of the named device and point when a command arrives. */
static struct admit_scene look_around(struct subscriber *subscriber, const struct command *command)
{
    const int index = answers_find_device(subscriber->answers, command->device_name);
    struct admit_scene scene = {
        .point = -1,
        .shutting_down = atomic_load(&subscriber->draining),
        .audit_unavailable = !audit_available(subscriber->setup.audit),
        .utc_ms = command->utc_ms,
        .mono_ns = command->mono_ns,
    };
    if (!scene.audit_unavailable)
        answers_catch_up(subscriber->answers);
    if (index >= 0) {
        scene.device = &subscriber->setup.conf->devices.devices[index];
        scene.index = (unsigned)index;
        scene.point = device_find_point(scene.device, command->point_name);
        scene.last_write_ns = subscriber->last_write_ns[index];
        scene.crowded = answers_crowded(subscriber->answers, index, command->mono_ns);
    }
    return scene;
}

/* Whether it is for a device that a reload ends, or begins anew. A stop is carried out all the
 * same: by what there is of it, or waiting for what there will be. */
static bool is_parting(const struct subscriber *subscriber, const struct admit_scene *scene,
                       const struct command *command)
{
    return scene->device != NULL && subscriber->parting[scene->index] &&
           (command->offers || command->value != 0.0 || scene->point < 0 ||
            scene->point != scene->device->control.setpoint);
}

/* Admits a command, or answers it. `detail` is what is wrong with it, if malformed. */
static void take_command(struct subscriber *subscriber, struct command *command,
                         struct admit_scene *scene, char detail[DETAIL_MAX])
{
    const char *first = NULL;
    if (command->id[0] != '\0' && scene->device != NULL) {
        const bool under_way = is_open(subscriber, scene->index, command->id);
        if (!under_way)
            first = answers_first(subscriber->answers, (int)scene->index, command->id);
        scene->duplicate = under_way || first != NULL;
    }
    scene->shutting_down = scene->shutting_down || is_parting(subscriber, scene, command);
    const enum reason reason = admit(command, scene, detail);
    if (reason == REASON_NONE)
        hand_over(subscriber, command);
    else if (reason == REASON_DUPLICATE && first != NULL)
        answers_repeat(subscriber->answers, command, first);
    else
        answer(subscriber, command, OUTCOME_REFUSED, reason, detail);
}

/* Who sent it and how it came; the names as the topic has them. */
static struct command command_of(const struct inbox_message *message, const char *device,
                                 const char *point)
{
    struct command command = {
        .author = AUTHOR_DISPATCHER,
        .mono_ns = message->mono_ns,
        .utc_ms = message->utc_ms,
        .address = message->address,
    };
    (void)snprintf(command.device_name, sizeof(command.device_name), "%s", device);
    (void)snprintf(command.point_name, sizeof(command.point_name), "%s", point);
    memcpy(command.user_source, message->user_source, sizeof(command.user_source));
    memcpy(command.user_traceparent, message->user_traceparent, sizeof(command.user_traceparent));
    return command;
}

/* Admits a schedule, or answers it. */
static void take_schedule(struct subscriber *subscriber, const struct inbox_message *message,
                          struct command *command)
{
    char detail[DETAIL_MAX] = "";
    enum reason reason = REASON_NONE;
    struct admit_scene scene = look_around(subscriber, command);
    const int64_t since_ns = atomic_load(&subscriber->setup.health->unsynchronised_ns);
    const bool trusted = since_ns == 0 || command->mono_ns - since_ns < SCHEDULE_TRUST_NS;
    command->offers = true;
    command->revision = -1;
    scene.retained = message->retained;
    scene.too_large = message->too_large;
    scene.shutting_down = scene.shutting_down || is_parting(subscriber, &scene, command);
    if (!message->too_large)
        reason = schedule_json_parse(message->payload, message->payload_size, command, detail);
    reason = admit_schedule(command, &scene, reason, trusted, detail);
    if (reason == REASON_NONE) {
        hand_over(subscriber, command);
        return;
    }
    schedule_json_free(command->timetable);
    answer(subscriber, command, OUTCOME_REFUSED, reason, detail);
}

static void take_message(struct subscriber *subscriber, const struct inbox_message *message)
{
    char node[TOPIC_MAX + 1], leaf[TOPIC_MAX + 1];
    char detail[DETAIL_MAX] = "";

    const enum topic_kind kind = topic_parse(subscriber->setup.conf, message->topic, node, leaf);
    if (kind == TOPIC_NONE)
        return; /* not of the filter subscribed to: the broker's mistake */
    health_count(&subscriber->setup.health->commands);
    struct command command = command_of(message, node, leaf);
    if (kind == TOPIC_SCHEDULE) {
        take_schedule(subscriber, message, &command);
        return;
    }
    struct admit_scene scene = look_around(subscriber, &command);
    const bool allow_bare =
        scene.device != NULL && scene.device->controllable && scene.device->control.allow_bare;
    scene.retained = message->retained;
    scene.too_large = message->too_large;
    scene.malformed =
        !message->too_large &&
        !command_json_parse(message->payload, message->payload_size, allow_bare, &command, detail);
    take_command(subscriber, &command, &scene, detail);
}

/* One that is no JSON: how it was written is its bringer's business. */
static void take_ready(struct subscriber *subscriber, struct command *command)
{
    char detail[DETAIL_MAX] = "";
    struct admit_scene scene = look_around(subscriber, command);
    health_count(&subscriber->setup.health->commands);
    scene.retained = command->flaw == REASON_RETAINED;
    scene.too_large = command->flaw == REASON_TOO_LARGE;
    scene.malformed = command->flaw == REASON_MALFORMED || !command->has_value;
    if (command->flaw == REASON_MALFORMED)
        (void)snprintf(detail, sizeof(detail), "it is no payload that could be taken apart");
    else if (scene.malformed)
        (void)snprintf(detail, sizeof(detail), "the value is not a number");
    take_command(subscriber, command, &scene, detail);
}

/* ---- the thread ---- */

static void halt(struct subscriber *subscriber)
{
    atomic_store_explicit(&subscriber->promise_ns, CLOCK_NEVER, memory_order_relaxed);
    halt_here(&subscriber->halt);
}

static void *subscriber_thread(void *argument)
{
    struct subscriber *subscriber = argument;
    bool drained = false;
    for (;;) {
        atomic_store_explicit(&subscriber->promise_ns, CLOCK_NEVER, memory_order_relaxed);
        enum inbox_kind kind = inbox_take(subscriber->setup.inbox, CLOCK_NEVER,
                                          &subscriber->message, &subscriber->outcome);
        atomic_store_explicit(&subscriber->promise_ns, clock_awake_ns() + CLOCK_NS_PER_S,
                              memory_order_relaxed);
        if (kind == INBOX_MESSAGE)
            take_message(subscriber, &subscriber->message);
        else if (kind == INBOX_COMMAND)
            take_ready(subscriber, &subscriber->outcome.command);
        else if (kind == INBOX_OUTCOME)
            take_outcome(subscriber, &subscriber->outcome);
        else if (atomic_load(&subscriber->stopping))
            break;
        else
            halt(subscriber);
        if (!drained && atomic_load(&subscriber->draining)) {
            drained = true; /* what is taken from now on is refused */
            sem_post(&subscriber->drained);
        }
    }
    return NULL;
}

static void subscriber_free(struct subscriber *subscriber)
{
    const unsigned n = subscriber->setup.conf->devices.n_devices;
    for (unsigned i = 0; subscriber->open != NULL && i < n; i++) {
        while (subscriber->open[i] != NULL)
            forget_open(subscriber, i, subscriber->open[i]->id);
    }
    free(subscriber->open);
    free(subscriber->mailboxes);
    free(subscriber->parting);
    free(subscriber->last_write_ns);
    answers_free(subscriber->answers);
    sem_destroy(&subscriber->drained);
    halt_destroy(&subscriber->halt);
    free(subscriber);
}

static void begin_device(struct subscriber *subscriber, unsigned index)
{
    const struct device *device = &subscriber->setup.conf->devices.devices[index];
    subscriber->mailboxes[index] =
        device_is_there(device) ? subscriber->setup.mailboxes[device->poller] : NULL;
    subscriber->parting[index] = false;
}

static struct subscriber *subscriber_new(const struct subscriber_setup *setup)
{
    const unsigned n = setup->conf->devices.n_devices;
    struct subscriber *subscriber = calloc(1, sizeof(*subscriber));
    if (subscriber == NULL)
        return NULL;
    subscriber->setup = *setup;
    subscriber->promise_ns = CLOCK_NEVER;
    sem_init(&subscriber->drained, 0, 0);
    halt_init(&subscriber->halt);
    subscriber->open = calloc(n, sizeof(struct open_command *));
    subscriber->mailboxes = calloc(n, sizeof(struct mailbox *));
    subscriber->parting = calloc(n, sizeof(bool));
    subscriber->last_write_ns = calloc(n, sizeof(int64_t));
    subscriber->answers = answers_new(setup->conf, setup->audit, setup->health);
    if (subscriber->answers == NULL || subscriber->open == NULL || subscriber->mailboxes == NULL ||
        subscriber->last_write_ns == NULL || subscriber->parting == NULL) {
        subscriber_free(subscriber);
        return NULL;
    }
    for (unsigned i = 0; i < n; i++) {
        begin_device(subscriber, i);
        subscriber->last_write_ns[i] = INT64_MIN;
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

struct halt *subscriber_halt(struct subscriber *subscriber)
{
    halt_ask(&subscriber->halt);
    inbox_wake(subscriber->setup.inbox);
    return &subscriber->halt;
}

void subscriber_part(struct subscriber *subscriber, unsigned device)
{
    subscriber->parting[device] = true;
}

/* The stops that came for a device while it was away: they wait for what it is now. */
static bool bring_stops(struct subscriber *subscriber, struct mailbox *former, unsigned index)
{
    const struct device *device = &subscriber->setup.conf->devices.devices[index];
    struct command *stops = calloc(MAILBOX_PLACES, sizeof(*stops)), replaced;
    const bool there = device_is_there(device) && device->controllable;
    const bool good = stops != NULL;
    unsigned n = 0;
    while (good && n < MAILBOX_PLACES && mailbox_take_of(former, index, &stops[n]))
        n++;
    for (unsigned i = 0; i < n; i++) {
        stops[i].point = (unsigned)device->control.setpoint;
        if (there && strcmp(device->name, stops[i].device_name) == 0) { /* as many places */
            (void)mailbox_put(subscriber->mailboxes[index], &stops[i], &replaced);
        } else {
            forget_open(subscriber, index, stops[i].id);
            answer(subscriber, &stops[i], OUTCOME_REFUSED, REASON_SHUTTING_DOWN, "");
        }
    }
    free(stops);
    return good;
}

bool subscriber_renew(struct subscriber *subscriber, const bool *anew, const bool *others,
                      bool another_log)
{
    bool good = true;
    for (unsigned i = 0; i < subscriber->setup.conf->devices.n_devices; i++) {
        struct mailbox *former = subscriber->mailboxes[i];
        if (anew[i])
            begin_device(subscriber, i);
        if (anew[i] && former != NULL)
            good = bring_stops(subscriber, former, i) && good;
        if (others[i])
            subscriber->last_write_ns[i] = INT64_MIN;
    }
    return answers_renew(subscriber->answers, others, another_log) && good;
}

void subscriber_drain(struct subscriber *subscriber)
{
    atomic_store(&subscriber->draining, true);
    inbox_wake(subscriber->setup.inbox);
    while (sem_wait(&subscriber->drained) != 0 && errno == EINTR)
        ;
}

void subscriber_stop(struct subscriber *subscriber)
{
    if (subscriber == NULL)
        return;
    atomic_store(&subscriber->stopping, true);
    inbox_wake(subscriber->setup.inbox);
    pthread_join(subscriber->thread, NULL);
    subscriber_free(subscriber);
}

int64_t subscriber_promise_ns(const struct subscriber *subscriber)
{
    return atomic_load_explicit(&subscriber->promise_ns, memory_order_relaxed);
}
