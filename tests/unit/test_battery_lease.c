/* battery: no lease grows, and what is owed is kept before it is told. */
#include "tests/unit/battery_acts.h"

#include "bridge/base/log.h"
#include "bridge/battery/remembered.h"

/* ---- the lease ---- */

static void test_the_deadman_writes_when_the_lease_is_over(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    const int64_t end_ns = bed_outcome(&bed, "a", 0)->written_ns + 60 * S;
    bed_run_until(&bed, end_ns - 1);
    assert_int_equal(bed_held(&bed), 50);
    bed_run_until(&bed, end_ns + S);
    assert_int_equal(bed_held(&bed), -20);
    const struct outcome *own = last_of("deadman");
    assert_non_null(own);
    assert_int_equal(own->kind, OUTCOME_CONFIRMED);
    assert_string_equal(own->command.id, "deadman-5f3a9c1e-1");
    assert_string_equal(own->command.point_name, "target_power");
    assert_int_equal(battery_due_ns(bed.battery), CLOCK_NEVER); /* done */
    bed_end(&bed);
}

/* What is held goes to the fallback of DEADMAN at that moment, not before. */
static void end_with_lease(int64_t end_ns, int held)
{
    bed_run_until(&bed, end_ns - 1);
    assert_int_equal(bed_held(&bed), held);
    bed_run(&bed, S);
    assert_int_equal(bed_held(&bed), -20);
    bed_end(&bed);
}

static void test_nothing_but_a_fresh_confirmed_setpoint_renews_it(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN "min_interval = \"1s\";");
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    const int64_t end_ns = bed_outcome(&bed, "a", 0)->written_ns + 60 * S;
    bed_run(&bed, 20 * S);
    bed.fake->registers[1][SOE] = 5;
    bed_put(&bed, "refused", 60);
    bed_run(&bed, S);
    bed_assert_refused(&bed, "refused", REASON_SOE_LOW);
    bed_poll(&bed); /* it is still held */
    bed.fake->registers[1][SOE] = 54;
    break_with((struct fake_rule){.function = FAKE_WRITE, .fault = FAULT_BUSY});
    bed_put(&bed, "failed", 60);
    bed_run(&bed, S);
    bed_assert(&bed, "failed", OUTCOME_FAILED);
    bed.fake->n_rules = 0;
    break_with((struct fake_rule){.function = FAKE_WRITE, .fault = FAULT_TIMEOUT});
    break_with((struct fake_rule){
        .function = FAKE_READ, .address = TARGET, .from = 2, .fault = FAULT_TIMEOUT});
    bed_put(&bed, "unknown", 60);
    bed_run(&bed, 15 * S);
    bed_assert(&bed, "unknown", OUTCOME_UNKNOWN);
    bed.fake->n_rules = 0;
    bed_poll(&bed);
    bed_assert_corrected(&bed, "unknown", OUTCOME_CONFIRMED); /* renews nothing either */
    end_with_lease(end_ns, 60);
}

static void test_a_restart_makes_no_lease_longer(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    const int64_t end_ns = bed_outcome(&bed, "a", 0)->written_ns + 60 * S;
    for (int i = 0; i < 5; i++) {
        bed_run(&bed, 11 * S);
        bed_kill(&bed);
        bed_start(&bed);
        bed_poll(&bed);
    }
    end_with_lease(end_ns, 50);
}

/* Killed between a setpoint's write and its read-back: the stop before it is over. */
static void test_a_written_setpoint_ends_a_stop_for_the_next_run_too(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    take_nothing();
    bed.fake->registers[1][TARGET] = 50;
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 2 * S);
    bed.fake->n_rules = 0;
    bed_put(&bed, "a", 60);
    for (int i = 0; i < 100 && bed_held(&bed) != 60; i++)
        bed_step(&bed);
    bed_kill(&bed);
    bed_start(&bed);
    bed_run(&bed, 10 * S);
    assert_int_equal(bed_held(&bed), 60);
    bed_end(&bed);
}

/* The bridge's own zero is being read back: a dispatcher's does not wait for that. */
static void test_a_stop_does_not_wait_for_the_deadmans_zero(void **state)
{
    (void)state;
    bed_begin(&bed, "deadman: { timeout = \"60s\"; value = 0.0; };");
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    take_nothing();
    at_call(FAKE_READ, TARGET, 2, put_stop);
    bed_run(&bed, 62 * S);
    assert_null(hook.act);
    const struct outcome *stop = bed_outcome(&bed, "stop", 0);
    assert_non_null(stop);
    assert_int_equal(stop->written_ns, stop->command.mono_ns);
    bed_end(&bed);
}

/* Nor after a stop, when the setpoint that came then is not confirmed. */
static void test_an_unconfirmed_setpoint_has_a_lease_that_survives(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "stop", 0);
    bed_run(&bed, S);
    break_with((struct fake_rule){.function = FAKE_WRITE, .fault = FAULT_TIMEOUT});
    break_with((struct fake_rule){
        .function = FAKE_READ, .address = TARGET, .from = 2, .fault = FAULT_TIMEOUT});
    bed_put(&bed, "a", 50);
    bed_run(&bed, 15 * S);
    bed_assert(&bed, "a", OUTCOME_UNKNOWN);
    const int64_t end_ns = bed_outcome(&bed, "a", 0)->written_ns + 60 * S;
    bed.fake->n_rules = 0;
    bed_run(&bed, 20 * S);
    bed_kill(&bed);
    bed_start(&bed);
    bed_poll(&bed);
    end_with_lease(end_ns, 50);
}

/* What the device has acknowledged, or a gateway has handed on, may be done later. */
static void test_a_write_that_may_be_done_later_has_a_lease(void **state)
{
    (void)state;
    const enum fault faults[] = {FAULT_ACKNOWLEDGE, FAULT_GATEWAY_TARGET, FAULT_BUSY};
    for (unsigned i = 0; i < 3; i++) {
        bed_begin(&bed, DEADMAN);
        break_with((struct fake_rule){.function = FAKE_WRITE, .fault = faults[i], .ignores = true});
        bed_put(&bed, "a", 50);
        bed_run(&bed, 3 * S);
        bed_assert(&bed, "a", OUTCOME_FAILED);
        const bool may_be = faults[i] != FAULT_BUSY;
        assert_int_equal(battery_lease(bed.battery).runs, may_be);
        bed.fake->n_rules = 0;
        bed.fake->registers[1][TARGET] = 50;
        if (may_be)
            end_with_lease(bed_outcome(&bed, "a", 0)->written_ns + 60 * S, 50);
        else
            bed_end(&bed);
    }
}

/* It was told as failed: the stop before it is still the last word. */
static void test_after_a_stop_such_a_lease_ends_at_zero(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "stop", 0);
    bed_run(&bed, S);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    break_with(
        (struct fake_rule){.function = FAKE_WRITE, .fault = FAULT_GATEWAY_TARGET, .ignores = true});
    bed_put(&bed, "a", 50);
    bed_run(&bed, 3 * S);
    bed_assert(&bed, "a", OUTCOME_FAILED);
    bed.fake->n_rules = 0;
    bed.fake->registers[1][TARGET] = 50;
    bed_run_until(&bed, bed_outcome(&bed, "a", 0)->written_ns + 60 * S - 1);
    assert_int_equal(bed_held(&bed), 50);
    bed_run(&bed, S);
    assert_int_equal(bed_held(&bed), 0);
    bed_end(&bed);
}

static void test_an_orphan_of_an_earlier_run_gets_a_lease(void **state)
{
    (void)state;
    const int held[] = {50, -20, 0};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) {
        bed_begin(&bed, DEADMAN);
        bed.fake->registers[1][TARGET] = (uint16_t)held[i];
        bed_poll(&bed);
        bed_run(&bed, 59 * S);
        assert_int_equal(bed_held(&bed), held[i]);
        bed_run(&bed, 2 * S);
        assert_int_equal(bed_held(&bed), i == 0 ? -20 : held[i]);
        assert_int_equal(bed.n_outcomes, i == 0);
        bed_end(&bed);
    }
}

static void test_a_fallback_that_is_not_allowed_becomes_zero(void **state)
{
    (void)state;
    const struct fake_rule rows[] = {
        {.function = FAKE_READ, .address = SOE, .fault = FAULT_ILLEGAL_ADDRESS},
        {.function = FAKE_READ, .address = SOE, .fault = FAULT_DEVICE_FAILURE},
        {.function = FAKE_READ, .address = STATUS, .fault = FAULT_TIMEOUT},
        {0}, /* full: it may not be charged */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bed_begin(&bed, DEADMAN);
        bed_put(&bed, "a", 50);
        bed_run(&bed, S);
        if (rows[i].function != 0)
            break_with(rows[i]);
        else
            bed.fake->registers[1][SOE] = 95;
        bed_run(&bed, 85 * S);
        assert_int_equal(bed_held(&bed), 0);
        assert_int_equal(last_of("deadman")->kind, OUTCOME_CONFIRMED);
        bed_end(&bed);
    }
}

static void test_the_deadman_tries_until_it_is_confirmed(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    take_nothing();
    bed_run(&bed, 79 * S);
    assert_in_range(writes(), 10, 22);
    assert_int_equal(bed.n_outcomes, 2); /* told once until it changes */
    assert_int_equal(last_of("deadman")->kind, OUTCOME_MISMATCH);
    assert_int_equal(bed.health.deadman_firing, 1);
    bed_put(&bed, "newer", 30); /* whose turn comes all the same */
    bed_run(&bed, 5 * S);
    bed_assert(&bed, "newer", OUTCOME_MISMATCH);
    bed.fake->n_rules = 0;
    bed_run(&bed, 3 * S);
    assert_int_equal(bed_held(&bed), -20);
    assert_int_equal(last_of("deadman")->kind, OUTCOME_CONFIRMED);
    assert_int_equal(bed.health.deadman_firing, 0);
    bed_end(&bed);
}

/* The stream of a dispatcher that is refused holds up nothing. */
static void test_refused_commands_do_not_put_the_deadman_off(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    bed.fake->registers[1][SOE] = 95;
    bed.fake->cost_ns = 800 * MS;
    const int64_t end_ns = bed_outcome(&bed, "a", 0)->written_ns + 60 * S;
    for (int i = 0; fake_now_ns < end_ns + 10 * S; i++) {
        char id[8];
        snprintf(id, sizeof id, "r%d", i);
        bed_put(&bed, id, -60);
        bed_step(&bed);
    }
    assert_int_equal(bed_held(&bed), 0);
    bed_end(&bed);
}

static void test_the_deadman_writes_over_nothing_newer(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    at_call(FAKE_READ, STATUS, 0, put_stop); /* which it reads to judge its fallback */
    const unsigned calls = bed.fake->n_calls;
    bed_run(&bed, 90 * S);
    assert_null(hook.act);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_int_equal(bed_held(&bed), 0);
    assert_only_zero_since(calls);
    assert_null(last_of("deadman"));
    bed_end(&bed);
}

static void test_after_a_stop_there_is_no_lease(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "a", 50);
    at_call(FAKE_READ, TARGET, 0, put_stop); /* written, and not yet read back */
    bed_run(&bed, S);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_int_equal(battery_due_ns(bed.battery), CLOCK_NEVER);
    /* What somebody else puts there then is brought to zero, to nothing else, and a
     * restart does not put that off. */
    const unsigned calls = bed.fake->n_calls;
    bed.fake->registers[1][TARGET] = (uint16_t)-20;
    bed_poll(&bed);
    bed_run(&bed, 40 * S);
    bed_kill(&bed);
    bed_start(&bed);
    bed_poll(&bed);
    bed_run(&bed, 21 * S);
    assert_int_equal(bed_held(&bed), 0);
    assert_only_zero_since(calls);
    bed_end(&bed);
}

/* ---- what is kept before it is told ---- */

/* What was kept when the last outcome was told is what is kept now, and has this text. */
static void assert_kept(const char *begin)
{
    char text[REMEMBERED_TEXT_MAX] = "";
    (void)state_get(bed.state, "battery/b1", text, sizeof text);
    assert_memory_equal(text, begin, strlen(begin));
    assert_true(bed.outcomes[bed.n_outcomes - 1].kept_mark == state_mark(bed.state));
}

static void test_what_is_owed_and_the_lease_are_kept_before_they_are_told(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "go", 50);
    bed_run(&bed, 2 * S);
    bed_assert(&bed, "go", OUTCOME_CONFIRMED);
    assert_kept("lease\t");
    be_silent();
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 500 * MS);
    bed_assert(&bed, "stop", OUTCOME_UNKNOWN);
    assert_kept("stop\tstop\t");
    bed.fake->n_rules = 0;
    bed_run(&bed, 3 * S);
    bed_assert_corrected(&bed, "stop", OUTCOME_CONFIRMED);
    assert_kept("stopped");
    be_silent();
    bed_put(&bed, "last", 0);
    battery_abandon(bed.battery);
    bed_assert(&bed, "last", OUTCOME_UNKNOWN);
    assert_kept("stop\tlast\t");
    bed_end(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_owed_and_the_lease_are_kept_before_they_are_told),
        cmocka_unit_test(test_the_deadman_writes_when_the_lease_is_over),
        cmocka_unit_test(test_nothing_but_a_fresh_confirmed_setpoint_renews_it),
        cmocka_unit_test(test_a_restart_makes_no_lease_longer),
        cmocka_unit_test(test_a_written_setpoint_ends_a_stop_for_the_next_run_too),
        cmocka_unit_test(test_a_stop_does_not_wait_for_the_deadmans_zero),
        cmocka_unit_test(test_an_unconfirmed_setpoint_has_a_lease_that_survives),
        cmocka_unit_test(test_a_write_that_may_be_done_later_has_a_lease),
        cmocka_unit_test(test_after_a_stop_such_a_lease_ends_at_zero),
        cmocka_unit_test(test_an_orphan_of_an_earlier_run_gets_a_lease),
        cmocka_unit_test(test_a_fallback_that_is_not_allowed_becomes_zero),
        cmocka_unit_test(test_the_deadman_tries_until_it_is_confirmed),
        cmocka_unit_test(test_refused_commands_do_not_put_the_deadman_off),
        cmocka_unit_test(test_the_deadman_writes_over_nothing_newer),
        cmocka_unit_test(test_after_a_stop_there_is_no_lease),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
