#include "bridge/store/outbox_inside.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"

/* More than the largest record takes in a ring. */
size_t outbox_at_least_one(size_t bytes)
{
    size_t largest =
        2 * sizeof(struct record) + TOPIC_MAX + OUTBOX_CORRELATION_MAX + OUTBOX_PAYLOAD_MAX;
    return bytes > largest ? bytes : largest;
}

struct outbox *outbox_new(unsigned n_devices, size_t sample_bytes, size_t outcome_bytes)
{
    struct outbox *outbox = calloc(1, sizeof(*outbox) + n_devices * sizeof(struct outbox_device));
    if (outbox == NULL)
        return NULL;
    pthread_mutex_init(&outbox->mutex, NULL);
    clock_cond_init(&outbox->publisher.cond);
    clock_cond_init(&outbox->spooler.cond);
    outbox->n_devices = n_devices;
    outbox->next_ticket = 1;
    outbox->gate_ns = CLOCK_NEVER;
    outbox->samples.mark = UINT64_MAX;
    outbox->spool.queue.mark = UINT64_MAX;
    outbox->samples.ring = ring_new(outbox_at_least_one(sample_bytes));
    outbox->outcomes.ring = ring_new(outbox_at_least_one(outcome_bytes));
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
    ring_free(outbox->spool.queue.ring);
    free(outbox->spool.delivered);
    pthread_cond_destroy(&outbox->spooler.cond);
    pthread_cond_destroy(&outbox->publisher.cond);
    pthread_mutex_destroy(&outbox->mutex);
    free(outbox);
}

void outbox_lock(struct outbox *outbox)
{
    pthread_mutex_lock(&outbox->mutex);
}

/* Whether the sleeper is to be signalled, which is done once. */
static bool is_called(struct bed *bed)
{
    bool called = bed->asleep && bed->woken;
    bed->asleep = bed->asleep && !called;
    return called;
}

/* Who has been woken under the lock is signalled after it: else it would wake
 * only to wait for the lock. */
void outbox_unlock(struct outbox *outbox)
{
    bool publisher = is_called(&outbox->publisher), spooler = is_called(&outbox->spooler);
    pthread_mutex_unlock(&outbox->mutex);
    if (publisher)
        pthread_cond_signal(&outbox->publisher.cond);
    if (spooler)
        pthread_cond_signal(&outbox->spooler.cond);
}

void outbox_lie_down(struct outbox *outbox, struct bed *bed, int64_t until_ns)
{
    if (!bed->woken) {
        bed->asleep = true;
        clock_cond_wait(&bed->cond, &outbox->mutex, until_ns);
    }
    bed->asleep = bed->woken = false;
}

void outbox_call_publisher(struct outbox *outbox)
{
    outbox->publisher.woken = true;
}

void outbox_call_spooler(struct outbox *outbox)
{
    outbox->spooler.woken = true;
}

void outbox_keep_sent(struct outbox *outbox, int64_t keep_ns)
{
    outbox_lock(outbox);
    outbox->keep_ns = keep_ns;
    outbox_unlock(outbox);
}

/* ---- putting in ---- */

/* Gives up the oldest record, in flight or not, to make room. */
static void drop_oldest(struct outbox *outbox, struct queue *queue)
{
    struct record *record = ring_front(queue->ring);
    outbox_forget(outbox, record);
    if (queue == &outbox->samples && record->row == 0 && record->state != SENT)
        outbox_count_drop(outbox, record->device);
    if (record->state == SENT)
        record->state = DONE; /* it was counted out when it was sent */
    else
        queue_retire(queue, record);
    queue_pop_done(queue);
}

/* Puts a record in, dropping from the front until it fits; returns how many
 * were dropped. */
static unsigned push(struct outbox *outbox, struct queue *queue, const struct record *header,
                     const void *topic, const void *correlation, const void *payload)
{
    unsigned n_dropped = 0;
    struct record *record;
    while ((record = ring_push(queue->ring, queue_size_of(header))) == NULL) {
        drop_oldest(outbox, queue);
        n_dropped++;
    }
    queue_fill(queue, record, header, outbox->next_ticket++, topic, correlation, payload);
    outbox_call_publisher(outbox);
    return n_dropped;
}

void outbox_put_sample(struct outbox *outbox, unsigned device, int64_t taken_ns,
                       const struct layout *layout, const void *packed, size_t size)
{
    const struct record header = {
        .device = device, .taken_ns = taken_ns, .layout = layout, .payload_size = (uint32_t)size};
    outbox_lock(outbox);
    if (taken_ns > outbox->newest_ns)
        outbox->newest_ns = taken_ns;
    outbox_forget_sent(outbox);
    if (size <= OUTBOX_PAYLOAD_MAX)
        push(outbox, &outbox->samples, &header, "", "", packed);
    else
        outbox_count_drop(outbox, device);
    outbox->spool.fresh = true;
    if (outbox->spool.idle)
        outbox_call_spooler(outbox);
    outbox_unlock(outbox);
}

bool outbox_put_outcome(struct outbox *outbox, const char *topic, const void *correlation,
                        size_t correlation_size, const char *payload, size_t size)
{
    const size_t topic_size = strlen(topic) + 1;
    if (topic_size > TOPIC_MAX + 1 || correlation_size > OUTBOX_CORRELATION_MAX ||
        size > OUTBOX_PAYLOAD_MAX) {
        return false;
    }
    const struct record header = {.taken_ns = clock_mono_ns(),
                                  .topic_size = (uint16_t)topic_size,
                                  .correlation_size = (uint16_t)correlation_size,
                                  .payload_size = (uint32_t)size};
    outbox_lock(outbox);
    unsigned n_dropped = push(outbox, &outbox->outcomes, &header, topic,
                              correlation_size > 0 ? correlation : "", payload);
    outbox_unlock(outbox);
    return n_dropped == 0;
}

void outbox_wait(struct outbox *outbox, int64_t until_ns)
{
    outbox_lock(outbox);
    if (outbox->gate_ns < until_ns)
        until_ns = outbox->gate_ns;
    outbox_lie_down(outbox, &outbox->publisher, until_ns);
    outbox_unlock(outbox);
}

void outbox_wake(struct outbox *outbox)
{
    outbox_lock(outbox);
    outbox_call_publisher(outbox);
    outbox_unlock(outbox);
}

/* How long the first that waits to be acknowledged has waited. */
static int64_t waited_ms(const struct queue *queue, int64_t now_ns)
{
    const struct record *record = ring_front(queue->ring);
    while (record != NULL && (record->state == DONE || record->state == SENT))
        record = ring_after(queue->ring, record);
    return record != NULL && record->taken_ns < now_ns
               ? (now_ns - record->taken_ns) / CLOCK_NS_PER_MS
               : 0;
}

static int64_t oldest_ms(const struct outbox *outbox)
{
    const int64_t now_ns = clock_mono_ns(), since_ms = outbox->spool.since_ms;
    const int64_t sample_ms = waited_ms(&outbox->samples, now_ns);
    const int64_t outcome_ms = waited_ms(&outbox->outcomes, now_ns);
    const int64_t spooled_ms = since_ms != 0 ? clock_utc_ms() - since_ms : 0;
    const int64_t memory_ms = outcome_ms > sample_ms ? outcome_ms : sample_ms;
    return spooled_ms > memory_ms ? spooled_ms : memory_ms;
}

struct outbox_depth outbox_depth(struct outbox *outbox)
{
    outbox_lock(outbox);
    const struct outbox_depth depth = {.oldest_ms = oldest_ms(outbox),
                                       .waiting = outbox->samples.waiting,
                                       .backlog =
                                           outbox->samples.waiting_backlog + outbox->spool.count,
                                       .outcomes = outbox->outcomes.waiting,
                                       .dropped = outbox->dropped,
                                       .set_aside = outbox->set_aside,
                                       .in_flight = outbox->in_flight};
    outbox_unlock(outbox);
    return depth;
}
