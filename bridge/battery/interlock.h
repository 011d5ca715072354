/* interlock: whether a battery may take a setpoint in the state it is in.
 *
 * Pure. Judges the state that was read from the device for this very command.
 * A setpoint of zero is never brought here: a battery can always be told to
 * stop. Small enough to be proved (tests/proof).
 */
#ifndef BRIDGE_BATTERY_INTERLOCK_H
#define BRIDGE_BATTERY_INTERLOCK_H

#include "bridge/model/outcome.h"
#include "devices/registers/device.h"

/* One point of the state. Not known: it could not be read, or is not to be
 * believed (sentinels, low, high, not finite). */
struct interlock_point {
    bool known;
    int64_t raw;
    double number; /* in the point's unit */
};

struct interlock_state {
    struct interlock_point status, soe, blocks, setpoint;
};

/* Which of these the rules of a battery need. */
bool interlock_needs_blocks(const struct device_control *control);
bool interlock_needs_setpoint(const struct device_control *control);

/* REASON_NONE, or the first rule that forbids `value_kw` (not zero), in this
 * order: state_unknown, not_ready, soe_low or soe_high, blocks, step_too_large. */
enum reason interlock_judge(const struct device_control *control, double value_kw,
                            const struct interlock_state *state);

/* The same in words, with the numbers. Not for state_unknown: who has read the
 * state knows more. */
void interlock_explain(enum reason reason, const struct device_control *control, double value_kw,
                       const struct interlock_state *state, char detail[DETAIL_MAX]);

#endif
