#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/store/outbox_inside.h"

bool outbox_use_spool(struct outbox *outbox, bool good)
{
    struct ring *ring = ring_new(outbox_at_least_one(REFILL_BYTES));
    int64_t *delivered = calloc(DELIVERED_MAX, sizeof(*delivered));
    if (ring == NULL || delivered == NULL) {
        ring_free(ring);
        free(delivered);
        return false;
    }
    outbox_lock(outbox);
    outbox->spool.queue.ring = ring;
    outbox->spool.delivered = delivered;
    outbox->spool.good = good;
    outbox_unlock(outbox);
    return true;
}

void outbox_set_spool_since(struct outbox *outbox, int64_t since_ms)
{
    outbox_lock(outbox);
    outbox->spool.since_ms = since_ms;
    outbox_unlock(outbox);
}

void outbox_set_spool(struct outbox *outbox, bool good, uint64_t count, bool more)
{
    outbox_lock(outbox);
    if ((outbox->spool.good && !good) || (outbox->spool.more && !more))
        outbox_call_publisher(outbox); /* the publisher takes the backlog from memory */
    outbox->spool.good = good;
    outbox->spool.more = count > 0 && (more || outbox->spool.rewind);
    outbox->spool.count = count;
    outbox_unlock(outbox);
}

static bool is_delivered(const struct outbox *outbox, int64_t row)
{
    for (unsigned i = 0; i < outbox->spool.n_delivered; i++) {
        if (outbox->spool.delivered[i] == row)
            return true;
    }
    return false;
}

/* The record in memory of a row, or NULL. */
static struct record *find_row(const struct queue *queue, int64_t row)
{
    struct record *record = ring_front(queue->ring);
    while (record != NULL && (record->row != row || record->state == DONE))
        record = ring_after(queue->ring, record);
    return record;
}

/* Whether it is lost: not in memory as well, and not delivered. */
static bool lose_row(struct outbox *outbox, int64_t row)
{
    struct record *record = NULL;
    if (row == 0)
        return true;
    record = find_row(&outbox->spool.queue, row);
    if (record == NULL)
        record = find_row(&outbox->samples, row);
    if (record != NULL)
        record->row = 0; /* it is still delivered from memory */
    outbox->samples.settled = NULL;
    return record == NULL && !is_delivered(outbox, row);
}

void outbox_drop_row(struct outbox *outbox, int64_t row, unsigned device)
{
    outbox_lock(outbox);
    if (lose_row(outbox, row))
        outbox_count_drop(outbox, device);
    outbox_unlock(outbox);
}

void outbox_set_row_aside(struct outbox *outbox, int64_t row, unsigned device)
{
    outbox_lock(outbox);
    outbox->set_aside++;
    if (lose_row(outbox, row))
        outbox_count_drop(outbox, device);
    outbox_unlock(outbox);
}

size_t outbox_spill(struct outbox *outbox, int64_t until_ns, struct outbox_spilled *list,
                    size_t most, unsigned char *bytes, size_t room, int64_t *next_ns)
{
    struct queue *queue = &outbox->samples;
    bool settled = true; /* all so far */
    size_t n = 0;
    *next_ns = CLOCK_NEVER;
    outbox_lock(outbox);
    outbox->spool.fresh = false;
    struct record *record =
        queue->settled != NULL ? ring_after(queue->ring, queue->settled) : ring_front(queue->ring);
    for (; record != NULL; record = ring_after(queue->ring, record)) {
        if (record->state == DONE || record->state == SENT || record->row != 0) {
            queue->settled = settled ? record : queue->settled;
            continue;
        }
        settled = false;
        if (record->taken_ns > until_ns || n == most || record->payload_size > room) {
            *next_ns = record->taken_ns;
            break;
        }
        memcpy(bytes, record->bytes, record->payload_size);
        list[n++] = (struct outbox_spilled){
            .ticket = record->ticket,
            .layout = record->layout,
            .packed = bytes,
            .size = record->payload_size,
        };
        bytes += record->payload_size;
        room -= record->payload_size;
    }
    outbox_unlock(outbox);
    return n;
}

void outbox_spilled(struct outbox *outbox, const struct outbox_spilled *list, size_t n)
{
    struct queue *queue = &outbox->samples;
    size_t i = 0;
    outbox_lock(outbox);
    /* Both are in the order of tickets. One that is gone was acknowledged, or
     * gave way, while it was being written. */
    for (struct record *record = ring_front(queue->ring); i < n; i++) {
        while (record != NULL && record->ticket < list[i].ticket)
            record = ring_after(queue->ring, record);
        bool here = record != NULL && record->ticket == list[i].ticket;
        if (here && record->state != DONE) {
            record->row = list[i].row;
        } else {
            outbox_note_delivered(outbox, list[i].row);
        }
        if (here && record->state == WAITING)
            queue_retire(queue, record);
    }
    queue_pop_done(queue);
    outbox_unlock(outbox);
}

size_t outbox_delivered(struct outbox *outbox, int64_t *rows, size_t most)
{
    outbox_lock(outbox);
    size_t n = outbox->spool.n_delivered < most ? outbox->spool.n_delivered : most;
    memcpy(rows, outbox->spool.delivered, n * sizeof(*rows));
    outbox_unlock(outbox);
    return n;
}

void outbox_removed(struct outbox *outbox, size_t n)
{
    int64_t *delivered = outbox->spool.delivered;
    outbox_lock(outbox);
    outbox->spool.n_delivered -= (unsigned)n;
    memmove(delivered, delivered + n, outbox->spool.n_delivered * sizeof(*delivered));
    outbox_unlock(outbox);
}

static void forget_rows(struct queue *queue)
{
    for (struct record *record = ring_front(queue->ring); record != NULL;
         record = ring_after(queue->ring, record))
        record->row = 0;
    queue->settled = NULL;
}

void outbox_forget_rows(struct outbox *outbox)
{
    outbox_lock(outbox);
    forget_rows(&outbox->samples);
    forget_rows(&outbox->spool.queue);
    outbox->spool.n_delivered = 0;
    outbox->spool.good = outbox->spool.more = false;
    outbox->spool.count = 0;
    outbox->spool.since_ms = 0;
    outbox_call_publisher(outbox);
    outbox_unlock(outbox);
}

static bool is_in_flight(const struct outbox *outbox, int64_t row)
{
    for (unsigned i = 0; i < OUTBOX_IN_FLIGHT_MAX; i++) {
        if (outbox->flights[i].queue != NULL && outbox->flights[i].record->row == row)
            return true;
    }
    return false;
}

bool outbox_refill(struct outbox *outbox, int64_t row, unsigned device, const struct layout *layout,
                   const void *packed, size_t size)
{
    struct queue *queue = &outbox->spool.queue;
    struct record header = {
        .row = row, .device = device, .layout = layout, .payload_size = (uint32_t)size};
    bool taken = false;
    outbox_lock(outbox);
    if (!outbox->up || outbox->spool.rewind ||
        queue->waiting + outbox->spool.n_delivered >= DELIVERED_MAX / 2)
        goto done;
    taken = is_in_flight(outbox, row) || is_delivered(outbox, row);
    if (taken)
        goto done;
    struct record *record = ring_push(queue->ring, queue_size_of(&header));
    taken = record != NULL;
    if (!taken)
        goto done;
    queue_fill(queue, record, &header, outbox->next_ticket++, "", "", packed);
    outbox_call_publisher(outbox);
done:
    outbox_unlock(outbox);
    return taken;
}

bool outbox_wants_refill(struct outbox *outbox, bool *rewind)
{
    outbox_lock(outbox);
    *rewind = outbox->spool.rewind;
    outbox->spool.rewind = false;
    bool wants = outbox->up && outbox->spool.queue.waiting < REFILL_BELOW;
    outbox_unlock(outbox);
    return wants;
}

void outbox_wait_spool(struct outbox *outbox, int64_t until_ns)
{
    outbox_lock(outbox);
    outbox->spool.idle = until_ns == CLOCK_NEVER && outbox->spool.good;
    if (outbox->spool.idle && outbox->spool.fresh)
        outbox_call_spooler(outbox);
    outbox_lie_down(outbox, &outbox->spooler, until_ns);
    outbox->spool.idle = false;
    outbox_unlock(outbox);
}

void outbox_wake_spool(struct outbox *outbox)
{
    outbox_lock(outbox);
    outbox_call_spooler(outbox);
    outbox_unlock(outbox);
}
