#include "bridge/battery/deadman.h"

#define RETRY_NS INT64_C(1000000000)

void deadman_init(struct deadman *deadman, int64_t timeout_ns, double fallback)
{
    *deadman = (struct deadman){.timeout_ns = timeout_ns, .fallback = fallback};
}

void deadman_holds(struct deadman *deadman, double value, int64_t now_ns)
{
    if (deadman->timeout_ns == 0)
        return;
    bool lease = value != deadman->fallback;
    deadman->state = lease ? DEADMAN_ARMED : DEADMAN_IDLE;
    deadman->next_ns = now_ns + deadman->timeout_ns;
    deadman->at_zero = false;
}

void deadman_may_hold(struct deadman *deadman, double value, int64_t now_ns)
{
    if (deadman->state == DEADMAN_IDLE && value != deadman->fallback)
        deadman_holds(deadman, value, now_ns);
}

int64_t deadman_next_ns(const struct deadman *deadman)
{
    return deadman->state == DEADMAN_IDLE ? INT64_MAX : deadman->next_ns;
}

bool deadman_due(struct deadman *deadman, int64_t now_ns, double *value)
{
    if (now_ns < deadman_next_ns(deadman))
        return false;
    deadman->state = DEADMAN_FIRING;
    deadman->next_ns = now_ns + RETRY_NS;
    *value = deadman->at_zero ? 0.0 : deadman->fallback;
    return true;
}

void deadman_refused(struct deadman *deadman, int64_t now_ns)
{
    if (deadman->state != DEADMAN_FIRING || deadman->at_zero)
        return;
    deadman->at_zero = true;
    deadman->next_ns = now_ns;
}

void deadman_done(struct deadman *deadman)
{
    deadman->state = DEADMAN_IDLE;
    deadman->at_zero = false;
}
