/* backoff: growing pauses between attempts, with jitter.
 *
 * Pure; randomness comes from a seed in the structure. The pause doubles from
 * `min_ns` to `max_ns`, each +-20 %, and starts over only after a good
 * connection of `settle_ns`: one that breaks at once does not reset it. With
 * `is_full` each is anything from 0 up to its length: who shares a server with many
 * others that lost it in the same moment comes at no moment in particular.
 */
#ifndef BRIDGE_BASE_BACKOFF_H
#define BRIDGE_BASE_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

struct backoff {
    int64_t min_ns, max_ns, settle_ns;
    int64_t pause_ns; /* of the next failure; 0 = min_ns */
    int64_t up_ns;    /* since when it is up; 0 = down */
    uint32_t seed;
    bool is_full;
};

void backoff_init(struct backoff *backoff, int64_t min_ns, int64_t max_ns, int64_t settle_ns,
                  uint32_t seed);
/* The cause of the failures is gone: the next pause is the shortest again. */
void backoff_reset(struct backoff *backoff);

void backoff_up(struct backoff *backoff, int64_t now_ns);

/* After a failure or a loss: the time of the next attempt. */
int64_t backoff_down(struct backoff *backoff, int64_t now_ns);

/* A random time from 0 up to `below_ns`. */
int64_t backoff_random_ns(struct backoff *backoff, int64_t below_ns);

#endif
