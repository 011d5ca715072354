/* battery: every command has one outcome, and so has the end. */
#include "tests/unit/battery_acts.h"

#include "bridge/base/log.h"

/* ---- a command ---- */

static void test_a_setpoint_is_written_and_told(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    assert_int_equal(battery_due_ns(bed.battery), CLOCK_NEVER);
    assert_false(battery_is_busy(bed.battery));
    bed_put(&bed, "a", 50);
    assert_true(battery_is_busy(bed.battery));
    assert_false(battery_is_urgent(bed.battery));
    bed_run(&bed, S);
    bed_assert(&bed, "a", OUTCOME_CONFIRMED);
    assert_int_equal(bed_held(&bed), 50);
    assert_int_equal(bed.n_outcomes, 1);
    assert_int_equal(writes(), 1);
    assert_false(battery_is_busy(bed.battery));
    bed_end(&bed);
}

static void test_a_newer_setpoint_replaces_the_waiting_one(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed_put(&bed, "a", 50);
    bed_put(&bed, "b", 60);
    bed_assert(&bed, "a", OUTCOME_SUPERSEDED); /* at once */
    bed_run(&bed, S);
    bed_assert(&bed, "b", OUTCOME_CONFIRMED);
    assert_int_equal(writes(), 1);
    bed_end(&bed);
}

static void put_70(void)
{
    bed_put(&bed, "c", 70);
}

static void test_one_under_way_is_carried_out_before_a_newer_one(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    at_call(FAKE_READ, STATUS, 0, put_70);
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    bed_assert(&bed, "a", OUTCOME_CONFIRMED);
    bed_assert(&bed, "c", OUTCOME_CONFIRMED);
    assert_int_equal(bed_held(&bed), 70);
    bed_end(&bed);
}

static void test_an_expired_command_is_not_even_begun(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    for (int64_t late_ns = 0; late_ns < 2; late_ns++) {
        const char *id = late_ns ? "late" : "in time";
        const struct command command = bed_command(&bed, id, 50, 5 * S);
        battery_put(bed.battery, &command);
        fake_now_ns += 5 * S - 1 + late_ns;
        const unsigned calls = bed.fake->n_calls;
        bed_run(&bed, 0);
        /* Read already, it ends before it could be written. */
        bed_assert_refused(&bed, id, REASON_EXPIRED);
        assert_int_equal(bed.fake->n_calls > calls, !late_ns);
    }
    assert_int_equal(writes(), 0);
    bed_end(&bed);
}

static void test_min_interval_counts_from_the_last_write(void **state)
{
    (void)state;
    bed_begin(&bed, "min_interval = \"5s\";");
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    const int64_t written_ns = bed_outcome(&bed, "a", 0)->written_ns;
    fake_now_ns = written_ns + 5 * S - 1;
    bed_put(&bed, "b", 51);
    bed_run(&bed, 0);
    bed_assert_refused(&bed, "b", REASON_RATE_LIMITED);
    bed_put(&bed, "zero", 0);
    bed_run(&bed, 0);
    bed_assert(&bed, "zero", OUTCOME_CONFIRMED); /* and is a write, too */
    bed_put(&bed, "c", 51);
    bed_run(&bed, S);
    bed_assert_refused(&bed, "c", REASON_RATE_LIMITED);
    fake_now_ns = bed_outcome(&bed, "zero", 0)->written_ns + 5 * S;
    bed_put(&bed, "d", 51);
    bed_run(&bed, S);
    bed_assert(&bed, "d", OUTCOME_CONFIRMED);
    bed_end(&bed);
}

/* ---- what was unknown ---- */

static void lose_reply(unsigned address)
{
    break_with(
        (struct fake_rule){.function = FAKE_WRITE, .address = address, .fault = FAULT_TIMEOUT});
    break_with((struct fake_rule){.function = FAKE_READ,
                                  .address = address,
                                  .from = address == TARGET ? 2 : 1,
                                  .fault = FAULT_TIMEOUT});
}

static void test_another_command_before_the_next_poll_loses_no_correction(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    lose_reply(TARGET);
    bed_put(&bed, "a", 50);
    bed_run(&bed, 15 * S);
    bed_assert(&bed, "a", OUTCOME_UNKNOWN);
    bed.fake->n_rules = 0;
    bed_put(&bed, "b", 60);
    bed_run(&bed, S);
    bed_assert_corrected(&bed, "a", OUTCOME_CONFIRMED); /* looked at before */
    bed_assert(&bed, "b", OUTCOME_CONFIRMED);
    lose_reply(TARGET);
    bed_put(&bed, "c", 70);
    bed_run(&bed, 15 * S);
    bed.fake->n_rules = 0;
    bed_put(&bed, "stop", 0); /* which does not look: nobody will ever know */
    bed_run(&bed, S);
    bed_assert(&bed, "c", OUTCOME_UNKNOWN);
    bed_assert_corrected(&bed, "c", OUTCOME_SUPERSEDED);
    bed_end(&bed);
}

static void test_each_point_has_its_own_correction(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    lose_reply(TARGET);
    bed_put(&bed, "a", 50);
    bed_run(&bed, 15 * S);
    bed.fake->n_rules = 0;
    lose_reply(SOURCE);
    put_source("source", 3);
    bed_run(&bed, 15 * S);
    bed_assert(&bed, "a", OUTCOME_UNKNOWN);
    bed_assert(&bed, "source", OUTCOME_UNKNOWN);
    bed.fake->n_rules = 0;
    bed_poll(&bed);
    bed_assert_corrected(&bed, "a", OUTCOME_CONFIRMED);
    bed_assert_corrected(&bed, "source", OUTCOME_CONFIRMED);
    bed_end(&bed);
}

/* A scan that a command came between may have read what was there before. */
static void test_a_poll_of_before_says_nothing(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    struct value values[PROFILE_POINTS_MAX] = {{.state = VALUE_ABSENT}};
    const int64_t before_ns = fake_now_ns;
    values[bed.device->control.setpoint] = (struct value){.state = VALUE_READ};
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    battery_see(bed.battery, &bed.fake->link, values, before_ns); /* zero, then */
    bed_run(&bed, 70 * S);
    assert_int_equal(bed_held(&bed), -20);
    bed_end(&bed);
}

/* ---- another fluxbridge ---- */

static int somebody_else(struct claim *claim)
{
    char holder[CLAIM_TEXT_MAX];
    claim_init(claim);
    return claim_hold(claim, bed.fake->link.peer, 1, "another bridge", holder);
}

static void test_only_who_holds_the_claim_writes_a_setpoint(void **state)
{
    (void)state;
    struct claim claim;
    bed_begin(&bed, DEADMAN);
    bed.fake->registers[1][TARGET] = 80; /* the owner's */
    assert_true(somebody_else(&claim));
    bed_poll(&bed);
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    bed_assert_refused(&bed, "a", REASON_NOT_OWNER);
    assert_non_null(strstr(bed_outcome(&bed, "a", 0)->detail, "another bridge"));
    bed_run(&bed, 200 * S);
    assert_int_equal(bed.fake->n_writes, 0); /* no deadman of ours over the owner's */
    assert_int_equal(bed.n_outcomes, 1);
    bed_put(&bed, "stop", 0);
    bed_run(&bed, S);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED); /* that needs no claim */
    claim_release(&claim);
    bed_put(&bed, "b", 50);
    bed_run(&bed, S);
    bed_assert(&bed, "b", OUTCOME_CONFIRMED);
    assert_false(somebody_else(&claim));
    bed_end(&bed);
}

/* ---- a line with others on it ---- */

static void test_a_silent_battery_takes_little_of_its_neighbours_time(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed_kill(&bed);
    bed.shares_line = true;
    bed_start(&bed);
    be_silent();
    bed_put(&bed, "a", 50);
    bed_run(&bed, 6 * S);
    bed_assert_refused(&bed, "a", REASON_DEVICE_OFFLINE);
    assert_true(battery_rest_ns(bed.battery) > fake_now_ns);
    const unsigned calls = bed.fake->n_calls;
    bed_put(&bed, "b", 50);
    bed_run(&bed, 0);
    bed_assert_refused(&bed, "b", REASON_DEVICE_OFFLINE);
    assert_int_equal(bed.fake->n_calls, calls); /* not asked */
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 20 * S);
    bed_assert(&bed, "stop", OUTCOME_UNKNOWN);
    assert_true(writes() > 0); /* a stop is tried at once */
    const unsigned tries = writes();
    bed_put(&bed, "again", 0);
    bed_assert(&bed, "again", OUTCOME_UNKNOWN); /* but its like only in its turn */
    bed_run_until(&bed, battery_rest_ns(bed.battery) - 1);
    assert_int_equal(writes(), tries);
    bed.fake->n_rules = 0;
    bed_run(&bed, 300 * S);
    bed_assert_corrected(&bed, "stop", OUTCOME_CONFIRMED);
    bed_assert_corrected(&bed, "again", OUTCOME_CONFIRMED);
    bed_end(&bed);
}

/* ---- the end ---- */

static void run_to_leave(void)
{
    battery_leave(bed.battery);
    for (unsigned i = 0; !battery_has_left(bed.battery); i++) {
        assert_true(i < 100000);
        int64_t due_ns = battery_due_ns(bed.battery);
        assert_true(due_ns != CLOCK_NEVER);
        bed_run_until(&bed, due_ns > fake_now_ns ? due_ns : fake_now_ns);
    }
    battery_abandon(bed.battery);
}

static void test_every_command_has_an_outcome_at_the_end(void **state)
{
    (void)state;
    for (unsigned steps = 0; steps < 6; steps++) {
        bed_begin(&bed, "");
        bed_put(&bed, "a", 50);
        for (unsigned i = 0; i < steps; i++)
            bed_step(&bed);
        bed_put(&bed, "b", 60);
        put_source("source", 3);
        run_to_leave();
        assert_non_null(bed_outcome(&bed, "a", 0));
        if (bed_outcome(&bed, "a", 0)->written_ns == 0 &&
            bed_outcome(&bed, "a", 0)->kind != OUTCOME_SUPERSEDED)
            bed_assert_refused(&bed, "a", REASON_SHUTTING_DOWN);
        bed_assert_refused(&bed, "b", REASON_SHUTTING_DOWN);
        bed_assert_refused(&bed, "source", REASON_SHUTTING_DOWN);
        bed_put(&bed, "late", 70);
        bed_assert_refused(&bed, "late", REASON_SHUTTING_DOWN);
        assert_int_equal(bed.n_outcomes, 4);
        bed_end(&bed);
    }
}

static void test_a_stop_is_carried_out_at_the_end(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed.fake->registers[1][TARGET] = 50;
    bed_put(&bed, "stop", 0);
    run_to_leave();
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    bed_put(&bed, "late", 0); /* even then */
    bed_run(&bed, S);
    bed_assert(&bed, "late", OUTCOME_CONFIRMED);
    bed_end(&bed);
}

/* What the thread has no time for is told, and the next run's. */
static void test_an_abandoned_stop_is_unknown_and_kept(void **state)
{
    (void)state;
    for (unsigned steps = 0; steps < 3; steps++) {
        bed_begin(&bed, "command_source = 5;");
        bed.fake->registers[1][TARGET] = 50;
        bed_put(&bed, "stop", 0);
        for (unsigned i = 0; i < steps; i++)
            bed_step(&bed);
        bed_put(&bed, "second", 0);
        battery_abandon(bed.battery);
        bed_assert(&bed, "stop", OUTCOME_UNKNOWN);
        bed_assert(&bed, "second", OUTCOME_UNKNOWN);
        bed_kill(&bed);
        bed_start(&bed);
        bed_run(&bed, S);
        assert_int_equal(bed_held(&bed), 0);
        bed_assert_corrected(&bed, "second", OUTCOME_CONFIRMED);
        bed_end(&bed);
    }
}

#define ON_EXIT DEADMAN "on_exit = \"fallback\";"

static void test_on_exit_writes_the_fallback_or_zero(void **state)
{
    (void)state;
    for (int forbidden = 0; forbidden < 2; forbidden++) {
        bed_begin(&bed, ON_EXIT);
        bed_put(&bed, "a", 50);
        bed_run(&bed, S);
        bed.fake->cost_ns = 800 * MS;
        if (forbidden)
            bed.fake->registers[1][SOE] = 95;
        run_to_leave();
        assert_int_equal(bed_held(&bed), forbidden ? 0 : -20);
        assert_int_equal(last_of("exit")->kind, OUTCOME_CONFIRMED);
        bed_end(&bed);
    }
}

static void test_on_exit_follows_no_stop(void **state)
{
    (void)state;
    for (int late = 0; late < 2; late++) {
        bed_begin(&bed, ON_EXIT);
        bed_put(&bed, "a", 50);
        bed_run(&bed, S);
        const unsigned calls = bed.fake->n_calls;
        if (late)
            at_call(FAKE_READ, STATUS, 0, put_stop); /* while the fallback is judged */
        else
            put_stop();
        run_to_leave();
        bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
        assert_int_equal(bed_held(&bed), 0);
        assert_only_zero_since(calls);
        bed_end(&bed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_setpoint_is_written_and_told),
        cmocka_unit_test(test_a_newer_setpoint_replaces_the_waiting_one),
        cmocka_unit_test(test_one_under_way_is_carried_out_before_a_newer_one),
        cmocka_unit_test(test_an_expired_command_is_not_even_begun),
        cmocka_unit_test(test_min_interval_counts_from_the_last_write),
        cmocka_unit_test(test_only_who_holds_the_claim_writes_a_setpoint),
        cmocka_unit_test(test_another_command_before_the_next_poll_loses_no_correction),
        cmocka_unit_test(test_each_point_has_its_own_correction),
        cmocka_unit_test(test_a_poll_of_before_says_nothing),
        cmocka_unit_test(test_a_silent_battery_takes_little_of_its_neighbours_time),
        cmocka_unit_test(test_every_command_has_an_outcome_at_the_end),
        cmocka_unit_test(test_a_stop_is_carried_out_at_the_end),
        cmocka_unit_test(test_an_abandoned_stop_is_unknown_and_kept),
        cmocka_unit_test(test_on_exit_writes_the_fallback_or_zero),
        cmocka_unit_test(test_on_exit_follows_no_stop),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
