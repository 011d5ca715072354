#include "bridge/base/backoff.h"

void backoff_init(struct backoff *backoff, int64_t min_ns, int64_t max_ns, int64_t settle_ns,
                  uint32_t seed)
{
    *backoff = (struct backoff){
        .min_ns = min_ns, .max_ns = max_ns, .settle_ns = settle_ns, .seed = seed | 1};
}

void backoff_reset(struct backoff *backoff)
{
    backoff->pause_ns = 0;
}

void backoff_up(struct backoff *backoff, int64_t now_ns)
{
    backoff->up_ns = now_ns;
}

/* xorshift32 (Marsaglia, 2003): any seed but 0 goes through them all. */
static uint32_t next_random(struct backoff *backoff)
{
    uint32_t x = backoff->seed;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return backoff->seed = x;
}

int64_t backoff_random_ns(struct backoff *backoff, int64_t below_ns)
{
    return below_ns / 1000 * (int64_t)(next_random(backoff) % 1000);
}

int64_t backoff_down(struct backoff *backoff, int64_t now_ns)
{
    bool settled = backoff->up_ns != 0 && now_ns - backoff->up_ns >= backoff->settle_ns;
    if (settled || backoff->pause_ns == 0)
        backoff->pause_ns = backoff->min_ns;
    backoff->up_ns = 0;

    int64_t pause_ns = backoff->pause_ns;
    int64_t longer_ns = 2 * pause_ns;
    backoff->pause_ns = longer_ns < backoff->max_ns ? longer_ns : backoff->max_ns;
    if (backoff->is_full)
        return now_ns + backoff_random_ns(backoff, pause_ns);
    int64_t fifth_ns = pause_ns / 5;
    int64_t jitter_ns = fifth_ns * (int64_t)(next_random(backoff) % 2001) / 1000 - fifth_ns;
    return now_ns + pause_ns + jitter_ns;
}
