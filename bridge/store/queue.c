#include "bridge/store/queue.h"

#include <string.h>

bool queue_is_backlog(const struct queue *queue, const struct record *record)
{
    return record->ticket < queue->mark;
}

static struct record **cursor_of(struct queue *queue, const struct record *record)
{
    return queue_is_backlog(queue, record) ? &queue->backlog : &queue->live;
}

size_t queue_size_of(const struct record *header)
{
    return sizeof(*header) + header->topic_size + header->correlation_size + header->payload_size;
}

void queue_fill(struct queue *queue, struct record *record, const struct record *header,
                uint64_t ticket, const void *topic, const void *correlation, const void *payload)
{
    *record = *header;
    record->ticket = ticket;
    record->state = WAITING;
    unsigned char *at = record->bytes;
    memcpy(at, topic, header->topic_size);
    memcpy(at += header->topic_size, correlation, header->correlation_size);
    memcpy(at + header->correlation_size, payload, header->payload_size);

    struct record **cursor = cursor_of(queue, record);
    if (*cursor == NULL)
        *cursor = record;
    queue->waiting++;
    if (queue_is_backlog(queue, record))
        queue->waiting_backlog++;
}

struct record *queue_seek(const struct queue *queue, struct record **cursor, uint64_t end)
{
    while (*cursor != NULL && (*cursor)->ticket < end && (*cursor)->state != WAITING)
        *cursor = ring_after(queue->ring, *cursor);
    return *cursor != NULL && (*cursor)->ticket < end ? *cursor : NULL;
}

void queue_put_back(struct queue *queue, struct record *record)
{
    struct record **cursor = cursor_of(queue, record);
    record->state = WAITING;
    if (*cursor == NULL || record->ticket < (*cursor)->ticket)
        *cursor = record;
}

void queue_retire(struct queue *queue, struct record *record)
{
    record->state = DONE;
    queue->waiting--;
    if (queue_is_backlog(queue, record))
        queue->waiting_backlog--;
}

static void pop(struct queue *queue)
{
    struct record *record = ring_front(queue->ring);
    struct record *after = ring_after(queue->ring, record);
    if (queue->backlog == record)
        queue->backlog = after;
    if (queue->live == record)
        queue->live = after;
    if (queue->settled == record)
        queue->settled = NULL;
    ring_pop(queue->ring);
}

void queue_pop_done(struct queue *queue)
{
    const struct record *record;
    while ((record = ring_front(queue->ring)) != NULL && record->state == DONE)
        pop(queue);
}
