#include "bridge/outbox.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/clock.h"
#include "bridge/ring.h"

enum state { WAITING, IN_FLIGHT, DONE };

/* Its texts follow one another in `bytes`: topic (with its NUL), correlation,
 * payload. A sample has a payload only. */
struct record {
    uint64_t ticket; /* ever growing, over both queues */
    int64_t taken_ns;
    unsigned device;
    enum state state;
    size_t topic_size, correlation_size, payload_size;
    unsigned char bytes[];
};

/* Records in the order they came:
 *
 *     front .. backlog cursor .. [mark] .. live cursor .. end
 *
 * A record whose ticket is below `mark` is backlog. A cursor is where to look
 * for the next waiting record of its kind; NULL = the next to be pushed. */
struct queue {
    struct ring *ring;
    uint64_t mark; /* 0: no backlog, as for outcomes; UINT64_MAX: all is */
    struct record *backlog, *live;
    uint64_t waiting, waiting_backlog; /* not DONE */
};

struct flight {
    struct queue *queue; /* NULL = free */
    struct record *record;
};

struct device {
    bool online, presence_due;
    bool live; /* had a live sample since the broker is back */
    uint64_t dropped;
};

struct outbox {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool woken;
    bool up; /* between outbox_resumed() and outbox_lost() */
    int64_t resumed_ns;
    int64_t gate_ns; /* when backlog that is held back may go; CLOCK_NEVER = none is */
    uint64_t next_ticket;
    struct queue samples, outcomes;
    unsigned in_flight, backlog_in_flight;
    struct flight flights[OUTBOX_WINDOW];
    uint64_t dropped;
    unsigned n_presence_due;
    unsigned n_devices;
    struct device devices[];
};

/* More than the largest record takes in a ring. */
static size_t at_least_one(size_t bytes)
{
    size_t largest =
        2 * sizeof(struct record) + OUTBOX_TOPIC_MAX + OUTBOX_CORRELATION_MAX + OUTBOX_PAYLOAD_MAX;
    return bytes > largest ? bytes : largest;
}

struct outbox *outbox_new(unsigned n_devices, size_t sample_bytes, size_t outcome_bytes)
{
    struct outbox *outbox = calloc(1, sizeof(*outbox) + n_devices * sizeof(struct device));
    if (outbox == NULL)
        return NULL;
    pthread_mutex_init(&outbox->mutex, NULL);
    clock_cond_init(&outbox->cond);
    outbox->n_devices = n_devices;
    outbox->next_ticket = 1;
    outbox->gate_ns = CLOCK_NEVER;
    outbox->samples.mark = UINT64_MAX;
    outbox->samples.ring = ring_new(at_least_one(sample_bytes));
    outbox->outcomes.ring = ring_new(at_least_one(outcome_bytes));
    if (outbox->samples.ring == NULL || outbox->outcomes.ring == NULL) {
        outbox_free(outbox);
        return NULL;
    }
    return outbox;
}

void outbox_free(struct outbox *outbox)
{
    if (outbox == NULL)
        return;
    ring_free(outbox->samples.ring);
    ring_free(outbox->outcomes.ring);
    pthread_cond_destroy(&outbox->cond);
    pthread_mutex_destroy(&outbox->mutex);
    free(outbox);
}

static void wake(struct outbox *outbox)
{
    outbox->woken = true;
    pthread_cond_signal(&outbox->cond);
}

static bool is_backlog(const struct queue *queue, const struct record *record)
{
    return record->ticket < queue->mark;
}

static struct record **cursor_of(struct queue *queue, const struct record *record)
{
    return is_backlog(queue, record) ? &queue->backlog : &queue->live;
}

static struct flight *find_flight(struct outbox *outbox, uint64_t ticket)
{
    for (unsigned i = 0; i < OUTBOX_WINDOW; i++) {
        struct flight *flight = &outbox->flights[i];
        if (flight->queue != NULL && flight->record->ticket == ticket)
            return flight;
    }
    return NULL;
}

/* Takes a record out of the window. */
static void land(struct outbox *outbox, struct flight *flight)
{
    outbox->in_flight--;
    if (is_backlog(flight->queue, flight->record))
        outbox->backlog_in_flight--;
    flight->queue = NULL;
}

/* Counts a record out; it stays in the ring until it is the oldest. */
static void retire(struct queue *queue, struct record *record)
{
    record->state = DONE;
    queue->waiting--;
    if (is_backlog(queue, record))
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
    ring_pop(queue->ring);
}

static void pop_done(struct queue *queue)
{
    const struct record *record;
    while ((record = ring_front(queue->ring)) != NULL && record->state == DONE)
        pop(queue);
}

static void count_drop(struct outbox *outbox, unsigned device)
{
    outbox->devices[device].dropped++;
    outbox->dropped++;
}

/* Gives up the oldest record, in flight or not, to make room. */
static void drop_oldest(struct outbox *outbox, struct queue *queue)
{
    struct record *record = ring_front(queue->ring);
    if (record->state == IN_FLIGHT)
        land(outbox, find_flight(outbox, record->ticket));
    if (queue == &outbox->samples)
        count_drop(outbox, record->device);
    retire(queue, record);
    pop_done(queue);
}

/* Copies a record in behind the others, dropping from the front until it fits.
 * `header` has the sizes; returns the number of records dropped. */
static unsigned push(struct outbox *outbox, struct queue *queue, const struct record *header,
                     const void *topic, const void *correlation, const void *payload)
{
    unsigned n_dropped = 0;
    size_t size =
        sizeof(*header) + header->topic_size + header->correlation_size + header->payload_size;
    struct record *record;
    while ((record = ring_push(queue->ring, size)) == NULL) {
        drop_oldest(outbox, queue);
        n_dropped++;
    }
    *record = *header;
    record->ticket = outbox->next_ticket++;
    unsigned char *at = record->bytes;
    memcpy(at, topic, header->topic_size);
    memcpy(at += header->topic_size, correlation, header->correlation_size);
    memcpy(at + header->correlation_size, payload, header->payload_size);

    struct record **cursor = cursor_of(queue, record);
    if (*cursor == NULL)
        *cursor = record;
    queue->waiting++;
    if (is_backlog(queue, record))
        queue->waiting_backlog++;
    wake(outbox);
    return n_dropped;
}

void outbox_put_sample(struct outbox *outbox, unsigned device, int64_t taken_ns,
                       const char *payload, size_t size)
{
    const struct record header = {.device = device, .taken_ns = taken_ns, .payload_size = size};
    pthread_mutex_lock(&outbox->mutex);
    if (size <= OUTBOX_PAYLOAD_MAX)
        push(outbox, &outbox->samples, &header, "", "", payload);
    else
        count_drop(outbox, device);
    pthread_mutex_unlock(&outbox->mutex);
}

bool outbox_put_outcome(struct outbox *outbox, const char *topic, const void *correlation,
                        size_t correlation_size, const char *payload, size_t size)
{
    const struct record header = {.topic_size = strlen(topic) + 1,
                                  .correlation_size = correlation_size,
                                  .payload_size = size};
    if (header.topic_size > OUTBOX_TOPIC_MAX + 1 || correlation_size > OUTBOX_CORRELATION_MAX ||
        size > OUTBOX_PAYLOAD_MAX) {
        return false;
    }
    pthread_mutex_lock(&outbox->mutex);
    unsigned n_dropped = push(outbox, &outbox->outcomes, &header, topic,
                              correlation_size > 0 ? correlation : "", payload);
    pthread_mutex_unlock(&outbox->mutex);
    return n_dropped == 0;
}

void outbox_set_online(struct outbox *outbox, unsigned device, bool online)
{
    pthread_mutex_lock(&outbox->mutex);
    struct device *d = &outbox->devices[device];
    if (d->online != online) {
        d->online = online;
        outbox->n_presence_due += !d->presence_due;
        d->presence_due = true;
        wake(outbox);
    }
    pthread_mutex_unlock(&outbox->mutex);
}

void outbox_wait(struct outbox *outbox, int64_t until_ns)
{
    pthread_mutex_lock(&outbox->mutex);
    if (outbox->gate_ns < until_ns)
        until_ns = outbox->gate_ns;
    if (!outbox->woken)
        clock_cond_wait(&outbox->cond, &outbox->mutex, until_ns);
    outbox->woken = false;
    pthread_mutex_unlock(&outbox->mutex);
}

void outbox_wake(struct outbox *outbox)
{
    pthread_mutex_lock(&outbox->mutex);
    wake(outbox);
    pthread_mutex_unlock(&outbox->mutex);
}

/* Moves a cursor to the next waiting record below `end`; NULL when there is none. */
static struct record *seek(const struct queue *queue, struct record **cursor, uint64_t end)
{
    while (*cursor != NULL && (*cursor)->ticket < end && (*cursor)->state != WAITING)
        *cursor = ring_after(queue->ring, *cursor);
    return *cursor != NULL && (*cursor)->ticket < end ? *cursor : NULL;
}

/* The next backlog record that may go now. */
static struct record *seek_backlog(struct outbox *outbox, int64_t now_ns)
{
    struct queue *queue = &outbox->samples;
    if (outbox->backlog_in_flight >= OUTBOX_WINDOW_BACKLOG)
        return NULL;
    struct record *record = seek(queue, &queue->backlog, queue->mark);
    if (record == NULL)
        return NULL;
    int64_t open_ns = outbox->resumed_ns + OUTBOX_RESUME_NS;
    if (!outbox->devices[record->device].live && now_ns < open_ns) {
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
    item->correlation_size = record->correlation_size;
    item->payload_size = record->payload_size;
    memcpy(item->topic, at, record->topic_size);
    memcpy(item->correlation, at += record->topic_size, record->correlation_size);
    memcpy(item->payload, at + record->correlation_size, record->payload_size);
}

static void take_off(struct outbox *outbox, struct queue *queue, struct record *record)
{
    struct flight *flight = outbox->flights;
    while (flight->queue != NULL)
        flight++;
    *flight = (struct flight){.queue = queue, .record = record};
    record->state = IN_FLIGHT;
    outbox->in_flight++;
    if (is_backlog(queue, record))
        outbox->backlog_in_flight++;
}

bool outbox_take(struct outbox *outbox, int64_t now_ns, struct outbox_item *item)
{
    struct queue *queue = &outbox->outcomes;
    struct record *record = NULL;
    pthread_mutex_lock(&outbox->mutex);
    outbox->gate_ns = CLOCK_NEVER;
    if (!outbox->up || outbox->in_flight == OUTBOX_WINDOW)
        goto done;
    item->kind = OUTBOX_OUTCOME;
    record = seek(queue, &queue->live, UINT64_MAX);
    if (record == NULL) {
        queue = &outbox->samples;
        item->kind = OUTBOX_STATE;
        record = seek(queue, &queue->live, UINT64_MAX);
        if (record != NULL)
            outbox->devices[record->device].live = true;
    }
    if (record == NULL) {
        item->kind = OUTBOX_BACKFILL;
        record = seek_backlog(outbox, now_ns);
    }
    if (record != NULL) {
        copy_out(record, item);
        take_off(outbox, queue, record);
    }
done:
    pthread_mutex_unlock(&outbox->mutex);
    return record != NULL;
}

/* Back to its place: the cursor returns to it. */
static void put_back(struct queue *queue, struct record *record)
{
    struct record **cursor = cursor_of(queue, record);
    record->state = WAITING;
    if (*cursor == NULL || record->ticket < (*cursor)->ticket)
        *cursor = record;
}

void outbox_ack(struct outbox *outbox, uint64_t ticket, enum outbox_fate fate)
{
    pthread_mutex_lock(&outbox->mutex);
    struct flight *flight = find_flight(outbox, ticket);
    if (flight == NULL)
        goto done;
    struct queue *queue = flight->queue;
    struct record *record = flight->record;
    land(outbox, flight);
    if (fate == OUTBOX_RETURNED) {
        put_back(queue, record);
    } else {
        if (fate == OUTBOX_REFUSED && queue == &outbox->samples)
            count_drop(outbox, record->device);
        retire(queue, record);
        pop_done(queue);
        wake(outbox); /* there is room in the window */
    }
done:
    pthread_mutex_unlock(&outbox->mutex);
}

void outbox_lost(struct outbox *outbox)
{
    struct queue *samples = &outbox->samples;
    pthread_mutex_lock(&outbox->mutex);
    outbox->up = false;
    outbox->gate_ns = CLOCK_NEVER;
    for (unsigned i = 0; i < OUTBOX_WINDOW; i++) {
        struct flight *flight = &outbox->flights[i];
        if (flight->queue != NULL) {
            put_back(flight->queue, flight->record);
            land(outbox, flight);
        }
    }
    samples->mark = UINT64_MAX;
    samples->waiting_backlog = samples->waiting;
    samples->backlog = ring_front(samples->ring);
    samples->live = NULL;
    pthread_mutex_unlock(&outbox->mutex);
}

void outbox_resumed(struct outbox *outbox, int64_t now_ns)
{
    struct queue *samples = &outbox->samples;
    pthread_mutex_lock(&outbox->mutex);
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
    pthread_mutex_unlock(&outbox->mutex);
}

bool outbox_take_presence(struct outbox *outbox, unsigned *device, bool *online)
{
    bool found = false;
    pthread_mutex_lock(&outbox->mutex);
    for (unsigned i = *device; outbox->n_presence_due > 0 && i < outbox->n_devices; i++) {
        if (outbox->devices[i].presence_due) {
            outbox->devices[i].presence_due = false;
            outbox->n_presence_due--;
            *device = i;
            *online = outbox->devices[i].online;
            found = true;
            break;
        }
    }
    pthread_mutex_unlock(&outbox->mutex);
    return found;
}

void outbox_mark_presence(struct outbox *outbox, unsigned device)
{
    pthread_mutex_lock(&outbox->mutex);
    outbox->n_presence_due += !outbox->devices[device].presence_due;
    outbox->devices[device].presence_due = true;
    pthread_mutex_unlock(&outbox->mutex);
}

struct outbox_depth outbox_depth(struct outbox *outbox)
{
    pthread_mutex_lock(&outbox->mutex);
    const struct outbox_depth depth = {.waiting = outbox->samples.waiting,
                                       .backlog = outbox->samples.waiting_backlog,
                                       .outcomes = outbox->outcomes.waiting,
                                       .dropped = outbox->dropped,
                                       .in_flight = outbox->in_flight};
    pthread_mutex_unlock(&outbox->mutex);
    return depth;
}

uint64_t outbox_dropped(struct outbox *outbox, unsigned device)
{
    pthread_mutex_lock(&outbox->mutex);
    uint64_t dropped = outbox->devices[device].dropped;
    pthread_mutex_unlock(&outbox->mutex);
    return dropped;
}
