#include "bridge/commands/last_outcomes.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = DEVICE_ID_MAX + 16 };

static const char taken_mark[] = "taken-over ", free_mark[] = "commanded ";

struct last_outcome {
    bool taken_over;
    char *payload; /* NULL = none yet */
};

struct last_outcomes {
    const struct device_list *list;
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

static void key_of(const struct last_outcomes *last, unsigned device, char key[KEY_MAX])
{
    (void)snprintf(key, KEY_MAX, "outcome/%s", last->list->devices[device].id);
}

static void recall(struct last_outcomes *last, unsigned device, const char *text)
{
    const bool taken_over = strncmp(text, taken_mark, strlen(taken_mark)) == 0;
    const char *mark = taken_over ? taken_mark : free_mark;
    if (strncmp(text, mark, strlen(mark)) != 0)
        return;
    last->devices[device].taken_over = taken_over;
    last->devices[device].payload = strdup(text + strlen(mark));
}

struct last_outcomes *last_outcomes_new(const struct device_list *list, struct state *state,
                                        struct outbox *outbox)
{
    struct last_outcomes *last =
        calloc(1, sizeof(*last) + list->n_devices * sizeof(struct last_outcome));
    char *text = malloc(OUTBOX_PAYLOAD_MAX);
    char key[KEY_MAX];
    if (last == NULL || text == NULL) {
        free(text);
        free(last);
        return NULL;
    }
    last->list = list;
    last->state = state;
    last->outbox = outbox;
    pthread_mutex_init(&last->mutex, NULL);
    for (unsigned i = 0; state != NULL && i < list->n_devices; i++) {
        key_of(last, i, key);
        if (state_get(state, key, text, OUTBOX_PAYLOAD_MAX))
            recall(last, i, text);
    }
    free(text);
    return last;
}

void last_outcomes_free(struct last_outcomes *last)
{
    if (last == NULL)
        return;
    for (unsigned i = 0; i < last->list->n_devices; i++)
        free(last->devices[i].payload);
    pthread_mutex_destroy(&last->mutex);
    free(last);
}

static void keep(struct last_outcomes *last, unsigned device, bool taken_over, const char *payload)
{
    char key[KEY_MAX], *text = NULL;
    key_of(last, device, key);
    if (last->state == NULL ||
        asprintf(&text, "%s%s", taken_over ? taken_mark : free_mark, payload) < 0)
        return;
    (void)state_put(last->state, key, text);
    free(text);
}

void last_outcomes_put(struct last_outcomes *last, unsigned device, const char *payload,
                       enum takeover takeover)
{
    char *copy = strdup(payload);
    if (copy == NULL)
        return;
    pthread_mutex_lock(&last->mutex);
    struct last_outcome *outcome = &last->devices[device];
    free(outcome->payload);
    outcome->payload = copy;
    if (takeover != TAKEOVER_STAYS)
        outcome->taken_over = takeover == TAKEOVER_BEGINS;
    keep(last, device, outcome->taken_over, payload);
    pthread_mutex_unlock(&last->mutex);
    outbox_call_control(last->outbox, device);
}

char *last_outcomes_get(struct last_outcomes *last, unsigned device, bool *taken_over)
{
    pthread_mutex_lock(&last->mutex);
    const struct last_outcome *outcome = &last->devices[device];
    char *copy = outcome->payload != NULL ? strdup(outcome->payload) : NULL;
    *taken_over = outcome->taken_over;
    pthread_mutex_unlock(&last->mutex);
    return copy;
}
