#include "bridge/commands/inbox.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/ring.h"

/* Room for a thousand full messages, and for two reports of each of two
 * thousand writable points: more are never open. Touched only as far as used. */
enum { INBOX_MESSAGE_BYTES = 6 * 1024 * 1024, INBOX_REPORT_BYTES = 2 * 1024 * 1024 };

struct record {
    size_t size;
    max_align_t body[];
};

struct inbox {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool woken;
    struct ring *reports;
    struct ring *messages;
};

struct inbox *inbox_new(void)
{
    struct inbox *inbox = calloc(1, sizeof(*inbox));
    if (inbox == NULL)
        return NULL;
    inbox->reports = ring_new(INBOX_REPORT_BYTES);
    inbox->messages = ring_new(INBOX_MESSAGE_BYTES);
    if (inbox->reports == NULL || inbox->messages == NULL) {
        ring_free(inbox->reports);
        ring_free(inbox->messages);
        free(inbox);
        return NULL;
    }
    pthread_mutex_init(&inbox->mutex, NULL);
    clock_cond_init(&inbox->cond);
    return inbox;
}

void inbox_free(struct inbox *inbox)
{
    if (inbox == NULL)
        return;
    ring_free(inbox->reports);
    ring_free(inbox->messages);
    pthread_cond_destroy(&inbox->cond);
    pthread_mutex_destroy(&inbox->mutex);
    free(inbox);
}

static bool put(struct inbox *inbox, struct ring *ring, const void *body, size_t size)
{
    pthread_mutex_lock(&inbox->mutex);
    struct record *record = ring_push(ring, sizeof(*record) + size);
    if (record != NULL) {
        record->size = size;
        memcpy(record->body, body, size);
        pthread_cond_signal(&inbox->cond);
    }
    pthread_mutex_unlock(&inbox->mutex);
    return record != NULL;
}

bool inbox_put_message(struct inbox *inbox, const struct inbox_message *message)
{
    size_t size = offsetof(struct inbox_message, payload) + message->payload_size + 1;
    return put(inbox, inbox->messages, message, size);
}

void inbox_put_report(struct inbox *inbox, const struct report *report)
{
    /* Cannot fail: see INBOX_REPORT_BYTES. */
    (void)put(inbox, inbox->reports, report, sizeof(*report));
}

void inbox_wake(struct inbox *inbox)
{
    pthread_mutex_lock(&inbox->mutex);
    inbox->woken = true;
    pthread_cond_signal(&inbox->cond);
    pthread_mutex_unlock(&inbox->mutex);
}

static bool take(struct ring *ring, void *body)
{
    const struct record *record = ring_front(ring);
    if (record == NULL)
        return false;
    memcpy(body, record->body, record->size);
    ring_pop(ring);
    return true;
}

enum inbox_kind inbox_take(struct inbox *inbox, int64_t until_ns, struct inbox_message *message,
                           struct report *report)
{
    enum inbox_kind kind = INBOX_NOTHING;
    pthread_mutex_lock(&inbox->mutex);
    while (ring_front(inbox->reports) == NULL && ring_front(inbox->messages) == NULL &&
           !inbox->woken && clock_mono_ns() < until_ns)
        clock_cond_wait(&inbox->cond, &inbox->mutex, until_ns);
    if (take(inbox->reports, report))
        kind = INBOX_REPORT;
    else if (take(inbox->messages, message))
        kind = INBOX_MESSAGE;
    else
        inbox->woken = false; /* it stays in force until it has been seen */
    pthread_mutex_unlock(&inbox->mutex);
    return kind;
}
