/* interlock: every rule at its limit, one step inside and outside; what is not known forbids. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/battery/interlock.h"

/* A battery with all of the rules; those that a test does not want are off. */
static const struct device_control BATTERY = {
    .status = 0,
    .ready_status = {1, 7},
    .n_ready = 2,
    .soe_min = 10,
    .soe_max = 90,
    .kw_per_block = 12.5,
    .max_step_kw = 30,
};

static struct device_control plain(void)
{
    struct device_control control = BATTERY;
    control.kw_per_block = control.max_step_kw = NAN;
    return control;
}

static struct interlock_state at_ease(void)
{
    return (struct interlock_state){
        .status = {true, 1, 1},
        .soe = {true, 54, 54},
        .blocks = {true, 10, 10},
        .setpoint = {true, 20, 20},
    };
}

static enum reason judge(const struct device_control *control, double value,
                         const struct interlock_state *state)
{
    char detail[DETAIL_MAX] = "";
    enum reason reason = interlock_judge(control, value, state);
    interlock_explain(reason, control, value, state, detail);
    if (reason == REASON_NONE || reason == REASON_STATE_UNKNOWN)
        assert_string_equal(detail, "");
    else
        assert_string_not_equal(detail, "");
    return reason;
}

static void test_soe_at_its_limits(void **unused)
{
    (void)unused;
    const struct device_control control = plain();
    const struct {
        double soe, value;
        enum reason reason;
    } rows[] = {
        {10, 1, REASON_SOE_LOW},
        {10, 250, REASON_SOE_LOW},
        {9.5, 50, REASON_SOE_LOW},
        {0, 50, REASON_SOE_LOW},
        {11, 50, REASON_NONE},
        {nextafter(10, 100), 50, REASON_NONE},
        {10, -50, REASON_NONE}, /* an empty battery may be charged */
        {0, -50, REASON_NONE},
        {90, -1, REASON_SOE_HIGH},
        {91, -50, REASON_SOE_HIGH},
        {100, -50, REASON_SOE_HIGH},
        {89, -50, REASON_NONE},
        {nextafter(90, 0), -50, REASON_NONE},
        {90, 50, REASON_NONE}, /* a full one may be discharged */
        {100, 50, REASON_NONE},
        /* What is no state of energy allows nothing, and no direction. */
        {100.5, 50, REASON_STATE_UNKNOWN},
        {65535, 50, REASON_STATE_UNKNOWN},
        {-1, -50, REASON_STATE_UNKNOWN},
        {NAN, 50, REASON_STATE_UNKNOWN},
        {NAN, -50, REASON_STATE_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct interlock_state state = at_ease();
        state.soe.number = rows[i].soe;
        assert_int_equal(judge(&control, rows[i].value, &state), rows[i].reason);
    }
}

static void test_it_says_why(void **unused)
{
    (void)unused;
    const struct {
        double soe, blocks, setpoint, value;
        int64_t status;
        const char *detail;
    } rows[] = {
        {9.5, 10, 20, 50, 1, "SOE 9.5 % is below soe_min 10 %"},
        {10, 10, 20, 50, 1, "SOE 10 % is at soe_min 10 %"},
        {90, 10, 20, -5, 1, "SOE 90 % is at soe_max 90 %"},
        {91, 10, 20, -5, 1, "SOE 91 % is above soe_max 90 %"},
        {54, 3, 20, 50, 1, "3 available blocks carry 37.5 kW"},
        {54, 10, 10, 50, 1, "a step of 40 kW from 10 kW, max_step_kw is 30"},
        {54, 10, 20, 50, 3, "status is 3, not one of ready_status"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char detail[DETAIL_MAX] = "";
        struct interlock_state state = at_ease();
        state.soe.number = rows[i].soe;
        state.blocks.number = rows[i].blocks;
        state.setpoint.number = rows[i].setpoint;
        state.status.raw = rows[i].status;
        enum reason reason = interlock_judge(&BATTERY, rows[i].value, &state);
        interlock_explain(reason, &BATTERY, rows[i].value, &state, detail);
        assert_string_equal(detail, rows[i].detail);
    }
}

static void test_only_a_ready_status(void **unused)
{
    (void)unused;
    struct device_control control = plain();
    for (int64_t raw = -1; raw <= 8; raw++) {
        struct interlock_state state = at_ease();
        state.status.raw = raw;
        bool ready = raw == 1 || raw == 7;
        assert_int_equal(judge(&control, 50, &state), ready ? REASON_NONE : REASON_NOT_READY);
    }
    control.n_ready = 0; /* a site that names none has none */
    struct interlock_state state = at_ease();
    assert_int_equal(judge(&control, 50, &state), REASON_NOT_READY);
    control.status = -1; /* a type without one is not asked for it */
    state.status = (struct interlock_point){.known = false};
    assert_int_equal(judge(&control, 50, &state), REASON_NONE);
}

static void test_blocks_at_their_limit(void **unused)
{
    (void)unused;
    struct device_control control = plain();
    control.kw_per_block = 12.5;
    const struct {
        double blocks, value;
        enum reason reason;
    } rows[] = {
        {4, 50, REASON_NONE},    {4, 51, REASON_BLOCKS},  {4, -50, REASON_NONE},
        {4, -51, REASON_BLOCKS}, {0, 1, REASON_BLOCKS},   {0, -1, REASON_BLOCKS},
        {NAN, 1, REASON_BLOCKS}, {-4, 50, REASON_BLOCKS},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct interlock_state state = at_ease();
        state.blocks.number = rows[i].blocks;
        assert_int_equal(judge(&control, rows[i].value, &state), rows[i].reason);
    }
}

static void test_step_at_its_limit(void **unused)
{
    (void)unused;
    struct device_control control = plain();
    control.max_step_kw = 30;
    const struct {
        double from, value;
        enum reason reason;
    } rows[] = {
        {20, 50, REASON_NONE},
        {20, 51, REASON_STEP_TOO_LARGE},
        {20, -10, REASON_NONE},
        {20, -11, REASON_STEP_TOO_LARGE},
        {-20, 10, REASON_NONE},
        {-20, 11, REASON_STEP_TOO_LARGE},
        {200, 50, REASON_STEP_TOO_LARGE},
        {NAN, 1, REASON_STEP_TOO_LARGE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct interlock_state state = at_ease();
        state.setpoint.number = rows[i].from;
        assert_int_equal(judge(&control, rows[i].value, &state), rows[i].reason);
    }
}

static void test_rules_that_are_off_need_nothing(void **unused)
{
    (void)unused;
    const struct device_control control = plain();
    struct interlock_state state = at_ease();
    state.blocks = state.setpoint = (struct interlock_point){.known = false};
    assert_false(interlock_needs_blocks(&control));
    assert_false(interlock_needs_setpoint(&control));
    assert_int_equal(judge(&control, 250, &state), REASON_NONE);
    assert_true(interlock_needs_blocks(&BATTERY));
    assert_true(interlock_needs_setpoint(&BATTERY));
}

/* Any number of things wrong at once: the first in the order is the reason. */
static void test_the_first_in_the_order_wins(void **unused)
{
    (void)unused;
    struct device_control control = BATTERY;
    control.max_step_kw = 5;
    const enum reason order[] = {REASON_STATE_UNKNOWN, REASON_NOT_READY, REASON_SOE_LOW,
                                 REASON_BLOCKS, REASON_STEP_TOO_LARGE};
    for (unsigned set = 0; set < 32; set++) {
        struct interlock_state state = at_ease();
        struct interlock_point *points[] = {&state.status, &state.soe, &state.blocks,
                                            &state.setpoint};
        state.setpoint.number = 50;
        if (set & 2)
            state.status.raw = 3;
        if (set & 4)
            state.soe.number = 10;
        if (set & 8)
            state.blocks.number = 3;
        if (set & 16)
            state.setpoint.number = 56;
        for (int unread = 0; unread < 4; unread++) {
            points[unread]->known = !(set & 1);
            enum reason first = REASON_NONE;
            for (unsigned i = 5; i-- > 0;)
                first = set >> i & 1 ? order[i] : first;
            assert_int_equal(judge(&control, 50, &state), first);
            points[unread]->known = true;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_soe_at_its_limits),
        cmocka_unit_test(test_it_says_why),
        cmocka_unit_test(test_only_a_ready_status),
        cmocka_unit_test(test_blocks_at_their_limit),
        cmocka_unit_test(test_step_at_its_limit),
        cmocka_unit_test(test_rules_that_are_off_need_nothing),
        cmocka_unit_test(test_the_first_in_the_order_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
