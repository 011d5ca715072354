#include "bridge/inbox.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/clock.h"
#include "bridge/ring.h"

/* Room for a thousand full messages, touched only as far as it is used; the
 * last part is kept for reports, of which at most two per writable point are
 * ever open. */
enum { INBOX_BYTES = 8 * 1024 * 1024, INBOX_FOR_REPORTS = 2 * 1024 * 1024 };

struct record {
    enum inbox_kind kind;
    size_t size;
    max_align_t body[];
};

struct inbox {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool woken;
    struct ring *ring;
};

struct inbox *inbox_new(void)
{
    struct inbox *inbox = calloc(1, sizeof(*inbox));
    if (inbox == NULL)
        return NULL;
    inbox->ring = ring_new(INBOX_BYTES);
    if (inbox->ring == NULL) {
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
    ring_free(inbox->ring);
    pthread_cond_destroy(&inbox->cond);
    pthread_mutex_destroy(&inbox->mutex);
    free(inbox);
}

/* Copies one record in; `reserve` bytes must stay free behind it. */
static bool put(struct inbox *inbox, enum inbox_kind kind, const void *body, size_t size,
                size_t reserve)
{
    struct record *record = NULL;
    pthread_mutex_lock(&inbox->mutex);
    if (ring_used(inbox->ring) + size + reserve <= INBOX_BYTES)
        record = ring_push(inbox->ring, sizeof(*record) + size);
    if (record != NULL) {
        record->kind = kind;
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
    return put(inbox, INBOX_MESSAGE, message, size, INBOX_FOR_REPORTS);
}

void inbox_put_report(struct inbox *inbox, const struct report *report)
{
    /* Cannot fail: see INBOX_FOR_REPORTS. */
    (void)put(inbox, INBOX_REPORT, report, sizeof(*report), 0);
}

void inbox_wake(struct inbox *inbox)
{
    pthread_mutex_lock(&inbox->mutex);
    inbox->woken = true;
    pthread_cond_signal(&inbox->cond);
    pthread_mutex_unlock(&inbox->mutex);
}

enum inbox_kind inbox_take(struct inbox *inbox, int64_t until_ns, struct inbox_message *message,
                           struct report *report)
{
    enum inbox_kind kind = INBOX_NOTHING;
    pthread_mutex_lock(&inbox->mutex);
    while (ring_front(inbox->ring) == NULL && !inbox->woken && clock_mono_ns() < until_ns)
        clock_cond_wait(&inbox->cond, &inbox->mutex, until_ns);
    inbox->woken = false;
    const struct record *record = ring_front(inbox->ring);
    if (record != NULL) {
        kind = record->kind;
        if (kind == INBOX_MESSAGE)
            memcpy(message, record->body, record->size);
        else
            memcpy(report, record->body, record->size);
        ring_pop(inbox->ring);
    }
    pthread_mutex_unlock(&inbox->mutex);
    return kind;
}
