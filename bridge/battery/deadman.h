/* deadman: the lease of a battery's setpoint.
 *
 * Pure. A confirmed setpoint holds for `timeout_ns`; when no fresh one is
 * confirmed in that time the bridge must write the fallback itself, and again
 * each second until that is confirmed. Losing the broker needs no rule of its
 * own: without it no setpoint arrives, so the lease runs out no later.
 *
 * Owned by the subscriber, one per battery.
 */
#ifndef BRIDGE_BATTERY_DEADMAN_H
#define BRIDGE_BATTERY_DEADMAN_H

#include <stdbool.h>
#include <stdint.h>

struct deadman {
    int64_t timeout_ns; /* 0 = there is no deadman */
    double fallback;    /* kW */
    enum { DEADMAN_IDLE, DEADMAN_ARMED, DEADMAN_FIRING } state;
    int64_t next_ns; /* ARMED: when the lease ends; FIRING: the next attempt */
    bool at_zero;    /* FIRING: the fallback was not allowed, zero is written instead */
};

void deadman_init(struct deadman *deadman, int64_t timeout_ns, double fallback);

/* The device holds `value`: a setpoint was confirmed, or it was found there at
 * start. Anything but the fallback begins a new lease; the fallback ends it. */
void deadman_holds(struct deadman *deadman, double value, int64_t now_ns);

/* It may hold `value`: written, but not confirmed. Begins a lease where there
 * is none, and renews none. */
void deadman_may_hold(struct deadman *deadman, double value, int64_t now_ns);

/* When to ask again: CLOCK_NEVER while idle. */
int64_t deadman_next_ns(const struct deadman *deadman);

/* Whether a write is due now, and of what. The next attempt is a second later. */
bool deadman_due(struct deadman *deadman, int64_t now_ns, double *value);

/* The bridge's own write was refused by an interlock, so the fallback is not
 * allowed now: zero is, at once. */
void deadman_refused(struct deadman *deadman, int64_t now_ns);

/* The bridge's own write is confirmed: no lease any more. */
void deadman_done(struct deadman *deadman);

#endif
