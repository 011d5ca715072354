#include "bridge/commands/inbox.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/ring.h"

/* Room for a thousand full messages, and for some hundred outcomes. Touched only
 * as far as used. */
enum { INBOX_MESSAGE_BYTES = 6 * 1024 * 1024, INBOX_OUTCOME_BYTES = 1024 * 1024 };

struct inbox_record {
    enum inbox_kind kind;
    size_t size;
    max_align_t body[];
};

struct inbox {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    pthread_cond_t room; /* for an outcome */
    bool woken;
    struct ring *outcomes;
    struct ring *messages;
};

struct inbox *inbox_new(void)
{
    struct inbox *inbox = calloc(1, sizeof(*inbox));
    if (inbox == NULL)
        return NULL;
    inbox->outcomes = ring_new(INBOX_OUTCOME_BYTES);
    inbox->messages = ring_new(INBOX_MESSAGE_BYTES);
    if (inbox->outcomes == NULL || inbox->messages == NULL) {
        ring_free(inbox->outcomes);
        ring_free(inbox->messages);
        free(inbox);
        return NULL;
    }
    pthread_mutex_init(&inbox->mutex, NULL);
    clock_cond_init(&inbox->cond);
    pthread_cond_init(&inbox->room, NULL);
    return inbox;
}

void inbox_free(struct inbox *inbox)
{
    if (inbox == NULL)
        return;
    ring_free(inbox->outcomes);
    ring_free(inbox->messages);
    pthread_cond_destroy(&inbox->room);
    pthread_cond_destroy(&inbox->cond);
    pthread_mutex_destroy(&inbox->mutex);
    free(inbox);
}

/* Mutex held. */
static bool put(struct inbox *inbox, struct ring *ring, enum inbox_kind kind, const void *body,
                size_t size)
{
    struct inbox_record *record = ring_push(ring, sizeof(*record) + size);
    if (record == NULL)
        return false;
    record->kind = kind;
    record->size = size;
    memcpy(record->body, body, size);
    pthread_cond_signal(&inbox->cond);
    return true;
}

bool inbox_put_message(struct inbox *inbox, const struct inbox_message *message)
{
    size_t size = offsetof(struct inbox_message, payload) + message->payload_size + 1;
    pthread_mutex_lock(&inbox->mutex);
    bool good = put(inbox, inbox->messages, INBOX_MESSAGE, message, size);
    pthread_mutex_unlock(&inbox->mutex);
    return good;
}

bool inbox_put_command(struct inbox *inbox, const struct command *command)
{
    pthread_mutex_lock(&inbox->mutex);
    bool good = put(inbox, inbox->messages, INBOX_COMMAND, command, sizeof(*command));
    pthread_mutex_unlock(&inbox->mutex);
    return good;
}

void inbox_put_outcome(struct inbox *inbox, const struct outcome *outcome)
{
    pthread_mutex_lock(&inbox->mutex);
    while (!put(inbox, inbox->outcomes, INBOX_OUTCOME, outcome, sizeof(*outcome)))
        pthread_cond_wait(&inbox->room, &inbox->mutex);
    pthread_mutex_unlock(&inbox->mutex);
}

void inbox_wake(struct inbox *inbox)
{
    pthread_mutex_lock(&inbox->mutex);
    inbox->woken = true;
    pthread_cond_signal(&inbox->cond);
    pthread_mutex_unlock(&inbox->mutex);
}

static void take(struct ring *ring, void *body)
{
    const struct inbox_record *record = ring_front(ring);
    memcpy(body, record->body, record->size);
    ring_pop(ring);
}

enum inbox_kind inbox_take(struct inbox *inbox, int64_t until_ns, struct inbox_message *message,
                           struct outcome *outcome)
{
    enum inbox_kind kind = INBOX_NOTHING;
    pthread_mutex_lock(&inbox->mutex);
    while (ring_front(inbox->outcomes) == NULL && ring_front(inbox->messages) == NULL &&
           !inbox->woken && clock_mono_ns() < until_ns)
        clock_cond_wait(&inbox->cond, &inbox->mutex, until_ns);
    const struct inbox_record *waiting = ring_front(inbox->messages);
    if (ring_front(inbox->outcomes) != NULL) {
        kind = INBOX_OUTCOME;
        take(inbox->outcomes, outcome);
        pthread_cond_broadcast(&inbox->room);
    } else if (waiting != NULL) {
        kind = waiting->kind;
        if (kind == INBOX_MESSAGE)
            take(inbox->messages, message);
        else
            take(inbox->messages, &outcome->command);
    } else {
        inbox->woken = false; /* it stays in force until it has been seen */
    }
    pthread_mutex_unlock(&inbox->mutex);
    return kind;
}
