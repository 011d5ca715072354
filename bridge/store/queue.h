/* queue: records in the order they came, and where each of them stands.
 *
 *     front .. backlog cursor .. [mark] .. live cursor .. end
 *
 * A record whose ticket is below `mark` is backlog, the others are live; a
 * cursor is where to look for the next waiting record of its kind, NULL = the
 * next to be put in. A record leaves its ring when it and all before it are
 * done. The part of the outbox that knows no lock, no broker and no disk.
 */
#ifndef BRIDGE_STORE_QUEUE_H
#define BRIDGE_STORE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/ring.h"
#include "bridge/model/sample.h"

/* Its texts follow one another in `bytes`: topic (with its NUL), correlation,
 * payload. A sample has a payload only. */
struct record {
    uint64_t ticket; /* ever growing, over all queues */
    int64_t row;     /* where it is on disk; 0 = it is not */
    int64_t taken_ns;
    const struct layout *layout; /* of a sample's payload; NULL = an outcome */
    unsigned device;
    uint32_t payload_size;
    uint16_t topic_size, correlation_size;
    uint8_t refusals; /* how often the broker had no room for it */
    enum { WAITING, IN_FLIGHT, LATER, SENT, DONE } state : 8; /* SENT: done, but for a loss */
    unsigned char bytes[];
};

struct queue {
    struct ring *ring;
    uint64_t mark; /* 0: no backlog, as for outcomes; UINT64_MAX: all is */
    struct record *backlog, *live;
    struct record *settled; /* it and all before need not go to disk; NULL = nobody knows */
    uint64_t waiting, waiting_backlog; /* not DONE or SENT */
};

bool queue_is_backlog(const struct queue *queue, const struct record *record);

/* The size of a record in the ring; `header` has those of its texts. */
size_t queue_size_of(const struct record *header);

/* Copies a record, waiting, into the room made for it at the end of the ring. */
void queue_fill(struct queue *queue, struct record *record, const struct record *header,
                uint64_t ticket, const void *topic, const void *correlation, const void *payload);

/* Moves a cursor to the next waiting record below `end`; NULL when there is none. */
struct record *queue_seek(const struct queue *queue, struct record **cursor, uint64_t end);

/* From flight back to its place: the cursor returns to it. */
void queue_put_back(struct queue *queue, struct record *record);

/* Counts a record out; it stays in the ring until it is the oldest. */
void queue_retire(struct queue *queue, struct record *record);

/* Drops from the front what is done. */
void queue_pop_done(struct queue *queue);

#endif
