/* Bounds: any battery that `fluxbridge check` lets through, with up to 3 ready states;
 * any value but zero; any state: words of the registers, plausible or not, read or not.
 *
 * - A value passes only with a ready status, a state of energy between the limits that
 *   count for its direction, enough blocks and no step too large; what the rules need is
 *   known, plausible and a state of energy is one of 0 to 100 %.
 * - What is forbidden has a reason of this judge, and one alone.
 */
#include <math.h>

#include "bridge/battery/interlock.h"
#include "devices/registers/codec.h"
#include "devices/registers/plausible.h"
#include "tests/proof/prove.h"

enum { STATUS, SOE, BLOCKS, SETPOINT, POINTS };

static struct point rows[POINTS];
static struct device_control control;

static void any_row(struct point *row, enum point_type type, double scale)
{
    row->table = POINT_HOLDING;
    row->type = type;
    row->scale = scale;
    row->low = nondet_double();
    row->high = nondet_double();
    row->n_sentinels = nondet_bool();
    row->sentinels[0] = nondet_word();
}

static void any_control(void)
{
    control.n_ready = nondet_unsigned();
    assume(control.n_ready >= 1 && control.n_ready <= 3);
    for (unsigned i = 0; i < 3; i++)
        control.ready_status[i] = nondet_time();
    control.soe_min = nondet_double();
    control.soe_max = nondet_double();
    assume(control.soe_min >= 0 && control.soe_max <= 100 && control.soe_min < control.soe_max);
    control.kw_per_block = nondet_double();
    assume(isnan(control.kw_per_block) ||
           (control.kw_per_block >= 0.001 && control.kw_per_block <= 1e6));
    control.max_step_kw = nondet_double();
    assume(isnan(control.max_step_kw) ||
           (control.max_step_kw >= 0.001 && control.max_step_kw <= 1e6));
    control.status = nondet_bool() ? STATUS : -1;
    control.soe = SOE;
    control.blocks = BLOCKS;
    control.setpoint = SETPOINT;
}

/* One register as the sequence makes a state of it. */
static struct interlock_point any_point(const struct point *row, struct value *value)
{
    struct plausible fresh = {.known = false};
    const uint16_t word = nondet_word();
    if (nondet_bool()) {
        value->state = VALUE_FAULT;
    } else {
        codec_decode_into(row, &word, value);
        plausible_check(row, &fresh, value);
        prove(value->state != VALUE_READ || row->n_sentinels == 0 || word != row->sentinels[0],
              "a sentinel is no value");
        prove(value->state != VALUE_READ || !(value->number < row->low),
              "what is below `low` is no value");
        prove(value->state != VALUE_READ || !(value->number > row->high),
              "what is above `high` is no value");
    }
    return (struct interlock_point){
        .known = value->state == VALUE_READ, .raw = (int64_t)value->raw, .number = value->number};
}

static bool is_ready(int64_t status)
{
    bool ready = false;
    for (unsigned i = 0; i < control.n_ready; i++)
        ready = ready || control.ready_status[i] == status;
    return ready;
}

int main(void)
{
    static struct value values[POINTS];
    const double value_kw = nondet_double();
    assume(value_kw >= -1e6 && value_kw <= 1e6 && value_kw != 0);
    any_control();
    any_row(&rows[STATUS], POINT_UINT16, 1);
    any_row(&rows[SOE], POINT_UINT16, nondet_bool() ? 1 : 0.1);
    any_row(&rows[BLOCKS], POINT_UINT16, 1);
    any_row(&rows[SETPOINT], POINT_INT16, nondet_bool() ? 1 : -1);
    const struct interlock_state state = {
        .status = any_point(&rows[STATUS], &values[STATUS]),
        .soe = any_point(&rows[SOE], &values[SOE]),
        .blocks = any_point(&rows[BLOCKS], &values[BLOCKS]),
        .setpoint = any_point(&rows[SETPOINT], &values[SETPOINT]),
    };
    const enum reason reason = interlock_judge(&control, value_kw, &state);
    if (reason != REASON_NONE) {
        prove(reason >= REASON_STATE_UNKNOWN && reason < REASON_COUNT, "a reason of the state");
        reach("a value is forbidden");
        return 0;
    }
    reach("a value passes");
    const double soe = state.soe.number;
    prove(control.status < 0 || (state.status.known && is_ready(state.status.raw)), "it is ready");
    prove(state.soe.known && soe >= 0 && soe <= 100, "its state of energy is known");
    prove(value_kw < 0 || soe > control.soe_min, "no discharge at soe_min and below");
    prove(value_kw > 0 || soe < control.soe_max, "no charge at soe_max and above");
    if (!isnan(control.kw_per_block)) {
        prove(state.blocks.known, "its blocks are known");
        prove(fabs(value_kw) <= state.blocks.number * control.kw_per_block,
              "its blocks carry the value");
    }
    if (!isnan(control.max_step_kw)) {
        prove(state.setpoint.known, "its setpoint is known");
        prove(fabs(value_kw - state.setpoint.number) <= control.max_step_kw + 1e-9,
              "no step is too large");
    }
    return 0;
}
