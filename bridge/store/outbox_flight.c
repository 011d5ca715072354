#include "bridge/store/outbox_inside.h"

#include <string.h>

#include "bridge/base/clock.h"

static struct outbox_flight *find_flight(struct outbox *outbox, uint64_t ticket)
{
    for (unsigned i = 0; i < OUTBOX_IN_FLIGHT_MAX; i++) {
        struct outbox_flight *flight = &outbox->flights[i];
        if (flight->queue != NULL && flight->record->ticket == ticket)
            return flight;
    }
    return NULL;
}

static void land(struct outbox *outbox, struct outbox_flight *flight)
{
    outbox->in_flight--;
    flight->queue = NULL;
}

/* ---- records that the broker had no room for ---- */

static void forget_later(struct outbox *outbox, const struct record *record)
{
    for (unsigned i = 0; i < OUTBOX_LATER_MAX; i++) {
        if (outbox->later[i].queue != NULL && outbox->later[i].record == record) {
            outbox->later[i].queue = NULL;
            outbox->n_later--;
        }
    }
}

/* Puts back those whose time has come; `gate_ns` becomes the time of the next. */
static void call_later(struct outbox *outbox, int64_t now_ns)
{
    for (unsigned i = 0; outbox->n_later > 0 && i < OUTBOX_LATER_MAX; i++) {
        struct later *later = &outbox->later[i];
        if (later->queue == NULL)
            continue;
        if (later->due_ns <= now_ns) {
            queue_put_back(later->queue, later->record);
            later->queue = NULL;
            outbox->n_later--;
        } else if (later->due_ns < outbox->gate_ns) {
            outbox->gate_ns = later->due_ns;
        }
    }
}

/* Samples leave some of the places to outcomes, which do not wait for them. */
enum { LATER_SAMPLES_MAX = OUTBOX_LATER_MAX * 3 / 4 };

/* False: it has been refused too often. While the broker takes nothing at all,
 * nothing has. One of more than there are places for, which were under way when that began,
 * goes back where it was. */
static bool wait_longer(struct outbox *outbox, struct queue *queue, struct record *record,
                        int64_t now_ns)
{
    const unsigned doublings = record->refusals < 4 ? record->refusals : 4;
    const unsigned most = queue == &outbox->outcomes ? OUTBOX_LATER_MAX : LATER_SAMPLES_MAX;
    struct later *later = outbox->later;
    bool taken_elsewhere = ++outbox->refused_in_row <= OUTBOX_LATER_MAX;
    if (taken_elsewhere && ++record->refusals > OUTBOX_REFUSALS_MAX)
        return false;
    if (outbox->n_later >= most) {
        queue_put_back(queue, record);
        return true;
    }
    while (later->queue != NULL)
        later++;
    *later = (struct later){
        .queue = queue, .record = record, .due_ns = now_ns + (CLOCK_NS_PER_S << doublings)};
    outbox->n_later++;
    record->state = LATER;
    return true;
}

/* Not in flight and not offered again: it is dropped. */
void outbox_forget(struct outbox *outbox, const struct record *record)
{
    if (record->state == IN_FLIGHT)
        land(outbox, find_flight(outbox, record->ticket));
    if (record->state == LATER)
        forget_later(outbox, record);
}

/* ---- records that were sent without an acknowledgement ---- */

static bool is_kept(const struct outbox *outbox, const struct queue *queue,
                    const struct record *record)
{
    return outbox->keep_ns > 0 && queue == &outbox->samples && record->row == 0 &&
           !queue_is_backlog(queue, record);
}

/* What was sent so long ago has arrived. */
void outbox_forget_sent(struct outbox *outbox)
{
    struct record *record;
    while ((record = ring_front(outbox->samples.ring)) != NULL && record->state == SENT &&
           record->taken_ns <= outbox->newest_ns - outbox->keep_ns) {
        record->state = DONE;
        queue_pop_done(&outbox->samples);
    }
}

/* What was sent just before a loss may not have. */
static void put_back_sent(struct outbox *outbox)
{
    struct queue *queue = &outbox->samples;
    struct record *record = outbox->keep_ns > 0 ? ring_front(queue->ring) : NULL;
    queue->settled = NULL;
    for (; record != NULL; record = ring_after(queue->ring, record)) {
        if (record->state == SENT) {
            record->state = WAITING;
            queue->waiting++;
        }
    }
}

/* ---- taking out ---- */

/* The next backlog record that may go now. */
static struct record *seek_backlog(struct outbox *outbox, struct queue **queue, int64_t now_ns)
{
    *queue = &outbox->spool.queue;
    struct record *record = queue_seek(*queue, &(*queue)->backlog, UINT64_MAX);
    /* What is on disk is older than what is in memory, and that goes to disk. */
    if (record == NULL && !outbox->spool.good && !outbox->spool.more) {
        *queue = &outbox->samples;
        record = queue_seek(*queue, &(*queue)->backlog, (*queue)->mark);
    }
    if (record == NULL)
        return NULL;
    int64_t open_ns = outbox->resumed_ns + OUTBOX_RESUME_NS;
    bool configured = record->device < outbox->n_devices;
    if (configured && !outbox->devices[record->device].live && now_ns < open_ns) {
        outbox->gate_ns = open_ns;
        return NULL;
    }
    return record;
}

static void copy_out(const struct record *record, struct outbox_item *item)
{
    const unsigned char *at = record->bytes;
    item->ticket = record->ticket;
    item->device = record->device;
    item->taken_ns = record->taken_ns;
    item->layout = record->layout;
    item->correlation_size = record->correlation_size;
    item->payload_size = record->payload_size;
    memcpy(item->topic, at, record->topic_size);
    memcpy(item->correlation, at += record->topic_size, record->correlation_size);
    memcpy(item->payload, at + record->correlation_size, record->payload_size);
}

static void take_off(struct outbox *outbox, struct queue *queue, struct record *record)
{
    struct outbox_flight *flight = outbox->flights;
    while (flight->queue != NULL)
        flight++;
    *flight = (struct outbox_flight){.queue = queue, .record = record};
    record->state = IN_FLIGHT;
    outbox->in_flight++;
}

static struct record *seek_sample(struct outbox *outbox, struct queue **queue, int64_t now_ns,
                                  enum outbox_kind last, enum outbox_kind *kind)
{
    *queue = &outbox->samples;
    *kind = OUTBOX_STATE;
    struct record *record = queue_seek(*queue, &(*queue)->live, UINT64_MAX);
    if (record != NULL && record->device < outbox->n_devices) {
        outbox->devices[record->device].live = true;
        return record;
    }
    *kind = OUTBOX_BACKFILL;
    if (record != NULL) /* its device is configured no more */
        return record;
    return last == OUTBOX_BACKFILL ? seek_backlog(outbox, queue, now_ns) : NULL;
}

/* While the broker refuses, no more are under way than could wait then: what it has no room
 * for is not offered to it by the window. */
static bool may_take_sample(const struct outbox *outbox)
{
    return (outbox->n_later == 0 && outbox->refused_in_row == 0) ||
           outbox->n_later + outbox->in_flight < LATER_SAMPLES_MAX;
}

bool outbox_take(struct outbox *outbox, int64_t now_ns, enum outbox_kind last,
                 struct outbox_item *item)
{
    struct queue *queue = &outbox->outcomes;
    struct record *record = NULL;
    outbox_lock(outbox);
    outbox->gate_ns = CLOCK_NEVER;
    if (!outbox->up)
        goto done;
    call_later(outbox, now_ns);
    if (outbox->in_flight == OUTBOX_IN_FLIGHT_MAX || outbox->n_later == OUTBOX_LATER_MAX)
        goto done;
    item->kind = OUTBOX_OUTCOME;
    record = queue_seek(queue, &queue->live, UINT64_MAX);
    if (record == NULL && last != OUTBOX_OUTCOME && may_take_sample(outbox))
        record = seek_sample(outbox, &queue, now_ns, last, &item->kind);
    if (record != NULL) {
        copy_out(record, item);
        take_off(outbox, queue, record);
    }
done:
    outbox_unlock(outbox);
    return record != NULL;
}

/* ---- what became of it ---- */

/* On disk it is no longer wanted. Should nothing be removed there for so long
 * that the list is full, it is sent once more one day. */
void outbox_note_delivered(struct outbox *outbox, int64_t row)
{
    if (row == 0 || outbox->spool.n_delivered == DELIVERED_MAX)
        return;
    outbox->spool.delivered[outbox->spool.n_delivered++] = row;
    if (outbox->spool.n_delivered % REMOVE_AT_ONCE == 0 ||
        outbox->spool.queue.waiting == REFILL_BELOW)
        outbox_call_spooler(outbox);
}

/* It has left for good: to the broker, or set aside. */
static void retire(struct outbox *outbox, struct queue *queue, struct record *record,
                   bool delivered)
{
    if (!delivered)
        outbox->set_aside++;
    if (!delivered && queue != &outbox->outcomes)
        outbox_count_drop(outbox, record->device);
    outbox_note_delivered(outbox, record->row);
    queue_retire(queue, record);
    queue_pop_done(queue);
}

void outbox_ack(struct outbox *outbox, uint64_t ticket, enum outbox_fate fate)
{
    outbox_lock(outbox);
    struct outbox_flight *flight = find_flight(outbox, ticket);
    if (flight == NULL)
        goto done;
    struct queue *queue = flight->queue;
    struct record *record = flight->record;
    land(outbox, flight);
    if (fate == OUTBOX_DELIVERED)
        outbox->refused_in_row = 0;
    if (fate == OUTBOX_RETURNED) {
        queue_put_back(queue, record);
    } else if (fate == OUTBOX_DELIVERED && is_kept(outbox, queue, record)) {
        queue_retire(queue, record);
        record->state = SENT;
    } else {
        retire(outbox, queue, record, fate == OUTBOX_DELIVERED);
    }
done:
    outbox_unlock(outbox);
}

void outbox_put_off(struct outbox *outbox, uint64_t ticket, int64_t now_ns)
{
    outbox_lock(outbox);
    struct outbox_flight *flight = find_flight(outbox, ticket);
    if (flight != NULL) {
        struct queue *queue = flight->queue;
        struct record *record = flight->record;
        land(outbox, flight);
        if (!wait_longer(outbox, queue, record, now_ns))
            retire(outbox, queue, record, false);
        outbox_call_publisher(outbox); /* for the time of that */
    }
    outbox_unlock(outbox);
}

/* ---- the broker goes and comes ---- */

/* Nothing is in flight: what is on disk need not be in memory as well, and will
 * be read again from its beginning. */
static void leave_to_disk(struct outbox *outbox)
{
    struct queue *const queues[] = {&outbox->samples, &outbox->spool.queue};
    if (outbox->spool.delivered == NULL)
        return;
    for (unsigned i = 0; i < 2; i++) {
        struct queue *queue = queues[i];
        for (struct record *record = ring_front(queue->ring); record != NULL;
             record = ring_after(queue->ring, record)) {
            if (record->row != 0 && record->state == WAITING)
                queue_retire(queue, record);
        }
        queue_pop_done(queue);
    }
    outbox->spool.rewind = true;
    outbox->spool.more = outbox->spool.count > 0;
    outbox_call_spooler(outbox);
}

void outbox_lost(struct outbox *outbox)
{
    struct queue *samples = &outbox->samples;
    outbox_lock(outbox);
    outbox->up = false;
    outbox->gate_ns = CLOCK_NEVER;
    for (unsigned i = 0; i < OUTBOX_IN_FLIGHT_MAX; i++) {
        struct outbox_flight *flight = &outbox->flights[i];
        if (flight->queue != NULL) {
            queue_put_back(flight->queue, flight->record);
            land(outbox, flight);
        }
    }
    call_later(outbox, CLOCK_NEVER); /* another session, another broker perhaps */
    outbox->refused_in_row = 0;
    put_back_sent(outbox);
    samples->mark = UINT64_MAX;
    samples->waiting_backlog = samples->waiting;
    samples->backlog = ring_front(samples->ring);
    leave_to_disk(outbox);
    outbox_unlock(outbox);
}

void outbox_resumed(struct outbox *outbox, int64_t now_ns)
{
    struct queue *samples = &outbox->samples;
    outbox_lock(outbox);
    outbox->up = true;
    outbox->resumed_ns = now_ns;
    samples->waiting_backlog = 0;
    struct record *record = ring_front(samples->ring);
    while (record != NULL && record->taken_ns <= now_ns - OUTBOX_FRESH_NS) {
        samples->waiting_backlog += record->state == WAITING;
        record = ring_after(samples->ring, record);
    }
    samples->mark = record != NULL ? record->ticket : outbox->next_ticket;
    samples->live = record;
    for (unsigned i = 0; i < outbox->n_devices; i++)
        outbox->devices[i].live = false;
    outbox_call_spooler(outbox);
    outbox_unlock(outbox);
}
