#include "bridge/base/ring.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Every record is headed by its size; offsets and sizes are multiples of
 * UNIT, so that whatever is left at the end of the arena holds at least a
 * header. A header of size WRAP says: go on at the beginning. */
enum { UNIT = 16, WRAP = 0 };

/* Memory behind the front is given back in pieces of this size (whole pages). */
enum { PIECE = 256 << 10 };

struct header {
    _Alignas(UNIT) size_t size; /* of header and record */
};

struct ring {
    unsigned char *arena;
    size_t capacity;
    size_t front; /* offset of the oldest record */
    size_t end;   /* offset behind the newest */
    size_t count;
};

static struct header *header_at(const struct ring *ring, size_t offset)
{
    return (struct header *)(void *)(ring->arena + offset);
}

static void *record_at(const struct ring *ring, size_t offset)
{
    return header_at(ring, offset) + 1;
}

struct ring *ring_new(size_t bytes)
{
    struct ring *ring = calloc(1, sizeof(*ring));
    if (ring == NULL)
        return NULL;
    ring->capacity = (bytes + UNIT - 1) / UNIT * UNIT;
    ring->arena = mmap(NULL, ring->capacity, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ring->arena == MAP_FAILED) {
        free(ring);
        return NULL;
    }
    return ring;
}

void ring_free(struct ring *ring)
{
    if (ring == NULL)
        return;
    munmap(ring->arena, ring->capacity);
    free(ring);
}

/* Where a record of `size` (with its header) can go, or SIZE_MAX. */
static size_t find_room(struct ring *ring, size_t size)
{
    bool wrapped = ring->count > 0 && ring->end <= ring->front;
    if (wrapped)
        return size <= ring->front - ring->end ? ring->end : SIZE_MAX;
    if (size <= ring->capacity - ring->end)
        return ring->end;
    if (size > ring->front)
        return SIZE_MAX;
    if (ring->end < ring->capacity)
        header_at(ring, ring->end)->size = WRAP;
    return 0;
}

void *ring_push(struct ring *ring, size_t size)
{
    if (size > ring->capacity)
        return NULL;
    size = sizeof(struct header) + (size + UNIT - 1) / UNIT * UNIT;
    size_t offset = find_room(ring, size);
    if (offset == SIZE_MAX)
        return NULL;
    header_at(ring, offset)->size = size;
    ring->end = offset + size;
    ring->count++;
    return record_at(ring, offset);
}

/* The offset of the record that follows the one at `offset`; the caller knows
 * that there is one. */
static size_t next_offset(const struct ring *ring, size_t offset)
{
    offset += header_at(ring, offset)->size;
    bool at_end = offset == ring->capacity || header_at(ring, offset)->size == WRAP;
    return at_end ? 0 : offset;
}

void *ring_front(const struct ring *ring)
{
    return ring->count > 0 ? record_at(ring, ring->front) : NULL;
}

void *ring_after(const struct ring *ring, const void *record)
{
    size_t offset = (size_t)((const unsigned char *)record - ring->arena) - sizeof(struct header);
    if (offset + header_at(ring, offset)->size == ring->end)
        return NULL;
    return record_at(ring, next_offset(ring, offset));
}

/* A queue that is never quite empty would come to use all of its bound. */
static void give_back(const struct ring *ring, size_t front)
{
    const size_t piece = front / PIECE * PIECE;
    const bool wrapped = ring->end <= ring->front;
    const bool behind = piece + PIECE <= ring->front, beyond = piece >= ring->end;
    if (ring->front / PIECE != front / PIECE && (wrapped ? behind && beyond : behind || beyond))
        (void)madvise(ring->arena + piece,
                      ring->capacity - piece < PIECE ? ring->capacity - piece : PIECE,
                      MADV_DONTNEED);
}

void ring_pop(struct ring *ring)
{
    const size_t front = ring->front;
    if (--ring->count == 0)
        ring->front = ring->end = 0;
    else
        ring->front = next_offset(ring, ring->front);
    if (ring->count > 0)
        give_back(ring, front);
}
