#include "bridge/battery/interlock.h"

#include <math.h>
#include <stdio.h>

bool interlock_needs_blocks(const struct device_control *control)
{
    return !isnan(control->kw_per_block);
}

bool interlock_needs_setpoint(const struct device_control *control)
{
    return !isnan(control->max_step_kw);
}

static bool is_ready(const struct device_control *control, int64_t status)
{
    for (unsigned i = 0; i < control->n_ready; i++) {
        if (status == control->ready_status[i])
            return true;
    }
    return false;
}

/* What is outside of 0 to 100 % is no state of energy. NAN is neither. */
static bool is_known(const struct device_control *control, const struct interlock_state *state)
{
    return (control->status < 0 || state->status.known) && state->soe.known &&
           state->soe.number >= 0.0 && state->soe.number <= 100.0 &&
           (!interlock_needs_blocks(control) || state->blocks.known) &&
           (!interlock_needs_setpoint(control) || state->setpoint.known);
}

/* Comparisons are written so that a NAN forbids. */
enum reason interlock_judge(const struct device_control *control, double value_kw,
                            const struct interlock_state *state)
{
    if (!is_known(control, state))
        return REASON_STATE_UNKNOWN;
    if (control->status >= 0 && !is_ready(control, state->status.raw))
        return REASON_NOT_READY;
    if (!(value_kw < 0.0) && !(state->soe.number > control->soe_min))
        return REASON_SOE_LOW;
    if (!(value_kw > 0.0) && !(state->soe.number < control->soe_max))
        return REASON_SOE_HIGH;
    if (interlock_needs_blocks(control) &&
        !(fabs(value_kw) <= state->blocks.number * control->kw_per_block))
        return REASON_BLOCKS;
    /* The tolerance covers decimal fractions of a scaled register only. */
    if (interlock_needs_setpoint(control) &&
        !(fabs(value_kw - state->setpoint.number) <= control->max_step_kw + 1e-9))
        return REASON_STEP_TOO_LARGE;
    return REASON_NONE;
}

void interlock_explain(enum reason reason, const struct device_control *control, double value_kw,
                       const struct interlock_state *state, char detail[DETAIL_MAX])
{
    const double soe = state->soe.number;
    switch (reason) {
    case REASON_NOT_READY:
        (void)snprintf(detail, DETAIL_MAX, "status is %lld, not one of ready_status",
                       (long long)state->status.raw);
        break;
    case REASON_SOE_LOW:
        (void)snprintf(detail, DETAIL_MAX, "SOE %g %% is %s soe_min %g %%", soe,
                       soe < control->soe_min ? "below" : "at", control->soe_min);
        break;
    case REASON_SOE_HIGH:
        (void)snprintf(detail, DETAIL_MAX, "SOE %g %% is %s soe_max %g %%", soe,
                       soe > control->soe_max ? "above" : "at", control->soe_max);
        break;
    case REASON_BLOCKS:
        (void)snprintf(detail, DETAIL_MAX, "%g available blocks carry %g kW", state->blocks.number,
                       state->blocks.number * control->kw_per_block);
        break;
    case REASON_STEP_TOO_LARGE:
        (void)snprintf(detail, DETAIL_MAX, "a step of %g kW from %g kW, max_step_kw is %g",
                       fabs(value_kw - state->setpoint.number), state->setpoint.number,
                       control->max_step_kw);
        break;
    default:
        break;
    }
}
