/* fallback: what the bridge writes to a battery of its own accord.
 *
 * Pure but for the log. While it runs: the deadman's fallback when a lease has
 * run out, zero where that is not allowed, again until it is confirmed. When it
 * ends: that of on_exit, once. Never anything but zero after a stop.
 *
 * Part of a battery, owned by the thread of its link.
 */
#ifndef BRIDGE_BATTERY_FALLBACK_H
#define BRIDGE_BATTERY_FALLBACK_H

#include "bridge/battery/deadman.h"
#include "bridge/model/outcome.h"
#include "devices/registers/device.h"

struct fallback {
    struct deadman deadman;
    enum outcome_kind told; /* of the deadman's last attempt; OUTCOME_COUNT = none yet */
    enum { FALLBACK_STAYS, FALLBACK_LEAVES, FALLBACK_WRITES, FALLBACK_STOPS, FALLBACK_LEFT } state;
};

void fallback_init(struct fallback *fallback, const struct device_control *control);

/* When it has something to write: now or earlier, later, CLOCK_NEVER. */
int64_t fallback_due_ns(const struct fallback *fallback);

/* Whether that goes before a setpoint which waits since `since_ns`. One that came
 * before the lease had ended may still renew it; those that come later could put
 * the deadman off for ever by being refused. */
bool fallback_goes_first(const struct fallback *fallback, int64_t since_ns);

/* It is due: what to write, and as whom. */
void fallback_begin(struct fallback *fallback, int64_t now_ns, enum command_author *author,
                    double *value);

/* What came of that. Whether it is to be told: the deadman's attempts are when
 * one is confirmed, and else when it ends otherwise than the one before. There
 * is none before `rest_ns`. */
bool fallback_take(struct fallback *fallback, const struct outcome *outcome, int64_t rest_ns);

/* A setpoint that was written has ended so. */
void fallback_follow(struct fallback *fallback, const struct outcome *outcome);

/* The bridge ends; whether all is done that it does about it. */
void fallback_leave(struct fallback *fallback, const struct device *device);
bool fallback_has_left(const struct fallback *fallback);

#endif
