/* deadman: the lease of a battery's setpoint.
 *
 * Pure. A setpoint that was confirmed holds for `timeout_ns` from its write;
 * when no fresh one was confirmed in that time the bridge writes the fallback
 * itself, and again each second until that is confirmed. Losing the broker
 * needs no rule of its own: without it no setpoint arrives, so the lease runs
 * out no later. Nothing makes a lease longer but a fresh setpoint that is
 * confirmed: no refusal, no repetition, no correction, no restart.
 *
 * Part of a battery, owned by the thread of its link.
 */
#ifndef BRIDGE_BATTERY_DEADMAN_H
#define BRIDGE_BATTERY_DEADMAN_H

#include <stdbool.h>
#include <stdint.h>

#define DEADMAN_RETRY_NS INT64_C(1000000000)

struct deadman {
    int64_t timeout_ns; /* 0 = there is no deadman */
    double fallback;    /* kW */
    bool leases_all;    /* the fallback, too, is held only while it has a lease */
    enum deadman_state { DEADMAN_IDLE, DEADMAN_ARMED, DEADMAN_FIRING } state;
    int64_t end_ns;  /* ARMED, FIRING: when the lease ends or ended */
    int64_t next_ns; /* FIRING: the next attempt */
    bool stopped;    /* the last that was wanted is a stop: nothing but zero is written */
    bool at_zero;    /* FIRING: the fallback is not allowed, zero is written instead */
};

void deadman_init(struct deadman *deadman, int64_t timeout_ns, double fallback);

/* Whether the battery may hold this value without a lease: zero, and the fallback. */
bool deadman_needs_none(const struct deadman *deadman, double value);

/* A setpoint other than zero is confirmed, written at `written_ns`: begins a new
 * lease, or none when it is the fallback itself. */
void deadman_confirm(struct deadman *deadman, double value, int64_t written_ns);

/* A setpoint other than zero was written at `written_ns`, and is not confirmed:
 * it may be held. Begins a lease where there is none, and changes none. */
void deadman_doubt(struct deadman *deadman, double value, int64_t written_ns);

/* The device holds `value` that no command put there in this run. Begins a lease
 * that ends at `end_ns` where there is none, and changes none. Zero and the
 * fallback need no lease. */
void deadman_find(struct deadman *deadman, double value, int64_t end_ns);

/* The lease of a run before, which ends or has ended at `end_ns`. */
void deadman_resume(struct deadman *deadman, int64_t end_ns);

/* A stop was accepted: there is no lease any more. */
void deadman_stop(struct deadman *deadman);

/* The device was seen to hold zero or the fallback by itself: nothing to guard.
 * What is firing goes on until its own write is confirmed. */
void deadman_see_rest(struct deadman *deadman);

/* When to ask again: INT64_MAX while idle. */
int64_t deadman_next_ns(const struct deadman *deadman);

/* Whether a write is due now, and of what. The next attempt is a second later
 * at the soonest. */
bool deadman_is_due(struct deadman *deadman, int64_t now_ns, double *value);

/* The fallback was refused, or what its rules need could not be read: zero from
 * now on, and at once. */
void deadman_forbid(struct deadman *deadman, int64_t now_ns);

/* The next attempt is not to be made before `until_ns`. */
void deadman_rest(struct deadman *deadman, int64_t until_ns);

/* An entry of a schedule is confirmed, which is its own lease: there is no other. */
void deadman_hand_over(struct deadman *deadman);

/* The bridge's own write is confirmed: no lease any more. */
void deadman_done(struct deadman *deadman);

#endif
