/* ring: a bounded first-in first-out store of records of any size.
 *
 * One arena, mapped once, used from its beginning again whenever it is empty,
 * so that a queue that is mostly empty costs a page and not its bound. Not
 * thread-safe: the queue that embeds it locks.
 *
 * A record stays where it is until it is popped; records are popped from the
 * front only.
 */
#ifndef BRIDGE_BASE_RING_H
#define BRIDGE_BASE_RING_H

#include <stddef.h>

struct ring;

struct ring *ring_new(size_t bytes);
void ring_free(struct ring *ring);

/* Room for a record of `size` bytes at the end (aligned for any type), or NULL
 * when it does not fit. */
void *ring_push(struct ring *ring, size_t size);

void *ring_front(const struct ring *ring);                     /* NULL when empty */
void *ring_after(const struct ring *ring, const void *record); /* NULL after the last */
void ring_pop(struct ring *ring);                              /* drops the front */

#endif
