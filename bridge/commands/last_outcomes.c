#include "bridge/commands/last_outcomes.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = DEVICE_ID_MAX + 16 };

static const char taken_mark[] = "taken-over ", free_mark[] = "commanded ";

struct last_outcome {
    char key[KEY_MAX];               /* in the state */
    char mark[DEVICE_NAME_MAX + 16]; /* what its payloads have in them; "" = not looked for */
    bool is_recalled;                /* what the state has of it */
    bool is_decided;                 /* taken_over is of this run */
    bool taken_over;
    char *payload; /* NULL = none yet */
};

struct last_outcomes {
    unsigned n;
    struct state *state;
    struct outbox *outbox;
    pthread_mutex_t mutex; /* guards what follows */
    struct last_outcome devices[];
};

/* A correction is of an older command: what the deadman wrote since is in force. A stop is
 * accepted also when it reaches nobody: it is written until it does. */
enum takeover takeover_by(const struct device *device, const struct outcome *outcome)
{
    const struct command *command = &outcome->command;
    if (!command->placed || !device->controllable ||
        (int)command->point != device->control.setpoint)
        return TAKEOVER_STAYS;
    if (command->author == AUTHOR_DEADMAN)
        return TAKEOVER_BEGINS;
    const bool accepted = outcome->kind == OUTCOME_CONFIRMED || outcome->kind == OUTCOME_MISMATCH ||
                          outcome->kind == OUTCOME_UNKNOWN;
    return accepted && !outcome->correction && command->author != AUTHOR_EXIT ? TAKEOVER_ENDS
                                                                              : TAKEOVER_STAYS;
}

static void keep(struct last_outcomes *last, const struct last_outcome *outcome)
{
    char *text = NULL;
    if (last->state == NULL || outcome->payload == NULL ||
        asprintf(&text, "%s%s", outcome->taken_over ? taken_mark : free_mark, outcome->payload) < 0)
        return;
    (void)state_put(last->state, outcome->key, text);
    free(text);
}

/* What was put in this run is newer. */
static void take(struct last_outcome *outcome, const char *text)
{
    const bool taken_over = strncmp(text, taken_mark, strlen(taken_mark)) == 0;
    const char *mark = taken_over ? taken_mark : free_mark;
    if (strncmp(text, mark, strlen(mark)) != 0)
        return;
    if (!outcome->is_decided)
        outcome->taken_over = taken_over;
    if (outcome->payload == NULL)
        outcome->payload = strdup(text + strlen(mark));
}

/* Locked. With what the state has of it, as soon as that is known; whether it is. */
static bool recall(struct last_outcomes *last, struct last_outcome *outcome)
{
    if (outcome->is_recalled || last->state == NULL || !state_is_loaded(last->state))
        return outcome->is_recalled;
    outcome->is_recalled = true;
    char *text = malloc(OUTBOX_PAYLOAD_MAX);
    if (text != NULL && state_get(last->state, outcome->key, text, OUTBOX_PAYLOAD_MAX))
        take(outcome, text);
    free(text);
    keep(last, outcome);
    return true;
}

static void begin(struct last_outcomes *last, unsigned index, const struct device *device)
{
    struct last_outcome *outcome = &last->devices[index];
    (void)snprintf(outcome->key, sizeof(outcome->key), "outcome/%s", device->id);
    (void)recall(last, outcome);
}

struct last_outcomes *last_outcomes_new(const struct device_list *list, struct state *state,
                                        struct outbox *outbox)
{
    struct last_outcomes *last =
        calloc(1, sizeof(*last) + list->n_devices * sizeof(struct last_outcome));
    if (last == NULL)
        return NULL;
    last->n = list->n_devices;
    last->state = state;
    last->outbox = outbox;
    pthread_mutex_init(&last->mutex, NULL);
    for (unsigned i = device_next(list, 0); i < list->n_devices; i = device_next(list, i + 1))
        begin(last, i, &list->devices[i]);
    return last;
}

void last_outcomes_renew(struct last_outcomes *last, unsigned index, const struct device *device)
{
    struct last_outcome *outcome = &last->devices[index];
    pthread_mutex_lock(&last->mutex);
    free(outcome->payload);
    *outcome = (struct last_outcome){.payload = NULL};
    (void)snprintf(outcome->mark, sizeof(outcome->mark), "\"device\":\"%s\"", device->name);
    if (device_is_there(device))
        begin(last, index, device);
    pthread_mutex_unlock(&last->mutex);
}

void last_outcomes_free(struct last_outcomes *last)
{
    if (last == NULL)
        return;
    for (unsigned i = 0; i < last->n; i++)
        free(last->devices[i].payload);
    pthread_mutex_destroy(&last->mutex);
    free(last);
}

void last_outcomes_put(struct last_outcomes *last, unsigned device, const char *payload,
                       enum takeover takeover)
{
    char *copy = strdup(payload);
    if (copy == NULL)
        return;
    pthread_mutex_lock(&last->mutex);
    struct last_outcome *outcome = &last->devices[device];
    if (strstr(payload, outcome->mark) != NULL) {
        char *former = outcome->payload;
        outcome->payload = copy;
        copy = former;
        if (takeover != TAKEOVER_STAYS)
            outcome->taken_over = takeover == TAKEOVER_BEGINS;
        outcome->is_decided = outcome->is_decided || takeover != TAKEOVER_STAYS;
        if (recall(last, outcome))
            keep(last, outcome);
    }
    pthread_mutex_unlock(&last->mutex);
    free(copy);
    outbox_call_control(last->outbox, device);
}

char *last_outcomes_get(struct last_outcomes *last, unsigned device, bool *taken_over)
{
    pthread_mutex_lock(&last->mutex);
    struct last_outcome *outcome = &last->devices[device];
    (void)recall(last, outcome);
    char *copy = outcome->payload != NULL ? strdup(outcome->payload) : NULL;
    *taken_over = outcome->taken_over;
    pthread_mutex_unlock(&last->mutex);
    return copy;
}
