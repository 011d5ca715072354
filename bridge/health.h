/* health: the bridge's own counters, and nothing else.
 *
 * Written by the thread that sees the event, read by the publisher for
 * bridge/health; atomics, relaxed: each is exact, together they are no
 * snapshot.
 */
#ifndef BRIDGE_HEALTH_H
#define BRIDGE_HEALTH_H

#include <stdatomic.h>
#include <stdint.h>

#include "bridge/reason.h"

struct health {
    atomic_uint_fast64_t samples;      /* scans turned into a sample */
    atomic_uint_fast64_t samples_bad;  /* of these: quality bad */
    atomic_uint_fast64_t missed_ticks; /* scans that were due while the link was busy */
    atomic_uint_fast64_t publishes;    /* messages acknowledged by the broker */
    atomic_uint_fast64_t reconnects;   /* of the bridge session, the first connect not counted */
    atomic_uint_fast64_t commands;     /* messages on a command topic */
    atomic_uint_fast64_t outcomes[OUTCOME_COUNT];
    atomic_uint_fast64_t refusals[REASON_COUNT];
    atomic_uint_fast64_t clock_jumps;    /* of UTC against the monotonic clock */
    atomic_uint_fast64_t deadman_firing; /* batteries whose lease ran out, not yet written */
};

static inline void health_count(atomic_uint_fast64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static inline uint64_t health_get(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
