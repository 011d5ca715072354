#include "bridge/battery/deadman.h"

void deadman_init(struct deadman *deadman, int64_t timeout_ns, double fallback)
{
    *deadman = (struct deadman){.timeout_ns = timeout_ns, .fallback = fallback};
}

bool deadman_needs_none(const struct deadman *deadman, double value)
{
    return value == 0.0 ||
           (value == deadman->fallback && !deadman->stopped && !deadman->leases_all);
}

static void arm(struct deadman *deadman, int64_t end_ns)
{
    deadman->state = DEADMAN_ARMED;
    deadman->end_ns = end_ns;
    deadman->at_zero = false;
}

void deadman_confirm(struct deadman *deadman, double value, int64_t written_ns)
{
    deadman->stopped = false;
    if (deadman->timeout_ns == 0)
        return;
    if (value == deadman->fallback && !deadman->leases_all)
        deadman_done(deadman);
    else
        arm(deadman, written_ns + deadman->timeout_ns);
}

void deadman_find(struct deadman *deadman, double value, int64_t end_ns)
{
    if (deadman->timeout_ns > 0 && deadman->state == DEADMAN_IDLE &&
        !deadman_needs_none(deadman, value))
        arm(deadman, end_ns);
}

void deadman_doubt(struct deadman *deadman, double value, int64_t written_ns)
{
    deadman->stopped = false;
    deadman_find(deadman, value, written_ns + deadman->timeout_ns);
}

void deadman_resume(struct deadman *deadman, int64_t end_ns)
{
    if (deadman->timeout_ns > 0)
        arm(deadman, end_ns);
}

void deadman_stop(struct deadman *deadman)
{
    deadman->stopped = true;
    deadman_done(deadman);
}

void deadman_see_rest(struct deadman *deadman)
{
    if (deadman->state == DEADMAN_ARMED)
        deadman_done(deadman);
}

int64_t deadman_next_ns(const struct deadman *deadman)
{
    switch (deadman->state) {
    case DEADMAN_ARMED:
        return deadman->end_ns;
    case DEADMAN_FIRING:
        return deadman->next_ns;
    default:
        return INT64_MAX;
    }
}

bool deadman_is_due(struct deadman *deadman, int64_t now_ns, double *value)
{
    if (deadman->state == DEADMAN_IDLE || now_ns < deadman_next_ns(deadman))
        return false;
    deadman->state = DEADMAN_FIRING;
    deadman->next_ns = now_ns + DEADMAN_RETRY_NS;
    *value = deadman->at_zero || deadman->stopped ? 0.0 : deadman->fallback;
    return true;
}

void deadman_forbid(struct deadman *deadman, int64_t now_ns)
{
    if (deadman->state != DEADMAN_FIRING || deadman->at_zero)
        return;
    deadman->at_zero = true;
    deadman->next_ns = now_ns;
}

void deadman_rest(struct deadman *deadman, int64_t until_ns)
{
    if (deadman->state == DEADMAN_FIRING && deadman->next_ns < until_ns)
        deadman->next_ns = until_ns;
}

void deadman_hand_over(struct deadman *deadman)
{
    deadman->stopped = false;
    deadman_done(deadman);
}

void deadman_done(struct deadman *deadman)
{
    deadman->state = DEADMAN_IDLE;
    deadman->at_zero = false;
}
