/* battery: a stop always wins, and is tried until it is confirmed. */
#include "tests/unit/battery_acts.h"

#include "bridge/base/log.h"

/* ---- a stop always wins ---- */

static void test_a_waiting_stop_is_not_replaced_by_a_setpoint(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed.fake->registers[1][TARGET] = 50;
    bed.fake->registers[1][SOE] = 5;
    bed_put(&bed, "stop", 0);
    bed_put(&bed, "newer", 60); /* will be refused: soe_low */
    assert_true(battery_is_urgent(bed.battery));
    bed_run(&bed, S);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    bed_assert_refused(&bed, "newer", REASON_SOE_LOW);
    assert_int_equal(bed_held(&bed), 0);
    bed_end(&bed);
}

static void test_a_stop_does_not_expire_on_a_slow_device(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed.fake->cost_ns = 800 * MS;
    bed_put(&bed, "a", 100);
    bed_step(&bed); /* opened */
    bed_step(&bed); /* the state is read */
    const struct command stop = bed_command(&bed, "stop", 0, S);
    battery_put(bed.battery, &stop);
    bed_run(&bed, 10 * S);
    bed_assert(&bed, "a", OUTCOME_SUPERSEDED);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_int_equal(bed_held(&bed), 0);
    bed_end(&bed);
}

/* Wherever the setpoint's sequence stands: it waits for the one transaction. */
static void test_a_stop_waits_for_the_transaction_under_way_alone(void **state)
{
    (void)state;
    for (unsigned at = 0; at < 7; at++) {
        bed_begin(&bed, "command_source = 5;");
        /* Opening, state, source, its read-back, state, write, read-back. */
        const unsigned functions[] = {FAKE_OPEN, FAKE_READ,  FAKE_WRITE, FAKE_READ,
                                      FAKE_READ, FAKE_WRITE, FAKE_READ};
        const unsigned addresses[] = {0, STATUS, SOURCE, SOURCE, STATUS, TARGET, TARGET};
        at_call(functions[at], addresses[at], at == 4 ? 1 : 0, put_stop);
        bed_put(&bed, "a", 50);
        bed_run(&bed, S);
        assert_null(hook.act);
        bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
        assert_int_equal(bed_held(&bed), 0);
        const struct outcome *stop = bed_outcome(&bed, "stop", 0);
        /* Behind the one under way come its own source and its write. */
        assert_true(stop->written_ns - stop->command.mono_ns <= MS);
        if (at < 5)
            bed_assert(&bed, "a", OUTCOME_SUPERSEDED);
        assert_int_equal(writes(), at < 5 ? 1 : 2);
        bed_end(&bed);
    }
}

/* Opening may take as long as the device's timeout: what comes meanwhile counts. */
static void test_a_stop_that_comes_while_the_link_opens_goes_first(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    /* The device closes the connection between the state and the write. */
    bed_put(&bed, "b", 60);
    for (unsigned reads = fake_count(bed.fake, FAKE_READ, STATUS);
         fake_count(bed.fake, FAKE_READ, STATUS) == reads;)
        bed_step(&bed);
    bed.fake->stale = true;
    at_call(FAKE_OPEN, 0, 0, put_stop);
    bed_run(&bed, S);
    assert_null(hook.act);
    bed_assert(&bed, "b", OUTCOME_SUPERSEDED);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_int_equal(writes(), 2);
    bed_end(&bed);
}

static void expire_now(void)
{
    fake_now_ns += 100 * S;
}

static void test_a_life_that_ends_while_the_link_opens_is_over(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed_put(&bed, "b", 60);
    for (unsigned i = 0; fake_count(bed.fake, FAKE_READ, STATUS) == 0 && i < 10; i++)
        bed_step(&bed);
    bed.fake->stale = true;
    at_call(FAKE_OPEN, 0, 0, expire_now);
    bed_run(&bed, S);
    bed_assert_refused(&bed, "b", REASON_EXPIRED);
    assert_int_equal(writes(), 0);
    bed_end(&bed);
}

/* A device has one link: a stop waits for no other point either. */
static void test_a_stop_does_not_wait_for_another_points_read_backs(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed.fake->registers[1][TARGET] = 50;
    break_with((struct fake_rule){.function = FAKE_WRITE, .address = SOURCE, .ignores = true});
    put_source("source", 3);
    at_call(FAKE_READ, SOURCE, 2, put_stop);
    bed_run(&bed, 3 * S);
    assert_null(hook.act);
    const struct outcome *stop = bed_outcome(&bed, "stop", 0);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_true(stop->written_ns - stop->command.mono_ns <= MS);
    assert_non_null(bed_outcome(&bed, "source", 0));
    bed_end(&bed);
}

/* And what is not written yet there is no setpoint: it waits, and is carried out. */
static void test_another_points_command_comes_behind_the_stop(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    put_source("source", 3);
    bed_step(&bed); /* begun */
    put_stop();
    bed_run(&bed, S);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    bed_assert(&bed, "source", OUTCOME_CONFIRMED);
    assert_true(bed_outcome(&bed, "stop", 0)->written_ns <
                bed_outcome(&bed, "source", 0)->written_ns);
    assert_int_equal(bed.fake->registers[1][SOURCE], 3);
    bed_end(&bed);
}

static void test_many_stops_are_one_write_and_an_outcome_each(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    char id[8];
    for (int i = 0; i < 8; i++) {
        snprintf(id, sizeof id, "s%d", i);
        bed_put(&bed, id, 0);
    }
    const struct command more = bed_command(&bed, "s8", 0, S);
    assert_false(battery_put(bed.battery, &more)); /* no room before the next step */
    bed_step(&bed);
    assert_true(battery_put(bed.battery, &more));
    bed_run(&bed, S);
    for (int i = 0; i < 9; i++) {
        snprintf(id, sizeof id, "s%d", i);
        bed_assert(&bed, id, OUTCOME_CONFIRMED);
    }
    assert_int_equal(writes(), 2);
    assert_int_equal(bed.n_outcomes, 9);
    bed_end(&bed);
}

/* The second waits for the first, which is being read back: nobody spins. */
static void test_a_stop_behind_a_stop_is_awaited(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed.fake->registers[1][TARGET] = 50;
    break_with(
        (struct fake_rule){.function = FAKE_WRITE, .address = TARGET, .to = 1, .takes_at = 5});
    at_call(FAKE_READ, TARGET, 1, put_stop);
    bed_put(&bed, "first", 0);
    bed_run(&bed, 2 * S);
    bed_assert(&bed, "first", OUTCOME_CONFIRMED);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    bed_end(&bed);
}

static void test_an_unconfirmed_stop_is_told_at_once_and_tried_each_second(void **state)
{
    (void)state;
    const struct {
        struct fake_rule rule;
        enum outcome_kind first;
    } rows[] = {
        {{.function = FAKE_WRITE, .address = TARGET, .ignores = true}, OUTCOME_MISMATCH},
        {{.function = FAKE_WRITE, .address = TARGET, .fault = FAULT_BUSY}, OUTCOME_FAILED},
        {{.function = FAKE_OPEN, .fault = FAULT_CONNECTION}, OUTCOME_UNKNOWN},
        {{.function = FAKE_READ, .fault = FAULT_TIMEOUT}, OUTCOME_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bed_begin(&bed, "");
        bed.fake->registers[1][TARGET] = 50;
        break_with(rows[i].rule);
        bed_put(&bed, "stop", 0);
        bed_run(&bed, 30 * S);
        bed_assert(&bed, "stop", rows[i].first);
        assert_int_equal(bed.n_outcomes, 1);
        const unsigned tries = i == 2 ? bed.fake->n_opened : writes();
        assert_in_range(tries, i == 3 ? 4U : 25U, 31); /* the last: 5 s of waiting each */
        bed.fake->n_rules = 0;
        bed_run(&bed, 8 * S);
        bed_assert_corrected(&bed, "stop", OUTCOME_CONFIRMED);
        const unsigned done = writes();
        bed_run(&bed, 10 * S);
        assert_int_equal(writes(), done); /* once confirmed it is over */
        assert_int_equal(battery_due_ns(bed.battery), CLOCK_NEVER);
        bed_end(&bed);
    }
}

static void test_a_newer_setpoint_ends_the_tries(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed.fake->registers[1][TARGET] = 50;
    take_nothing();
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 3 * S);
    bed.fake->registers[1][SOE] = 5;
    bed_put(&bed, "refused", 60);
    bed_run(&bed, 3 * S);
    bed_assert_refused(&bed, "refused", REASON_SOE_LOW);
    const unsigned tries = writes();
    bed_run(&bed, 3 * S);
    assert_true(writes() > tries); /* what is refused ends nothing */
    bed.fake->registers[1][SOE] = 54;
    bed.fake->n_rules = 0;
    bed_put(&bed, "newer", 60);
    bed_run(&bed, 10 * S);
    bed_assert(&bed, "newer", OUTCOME_CONFIRMED);
    assert_int_equal(bed_held(&bed), 60);
    bed_end(&bed);
}

/* A battery that takes no zero: a newer setpoint is begun all the same. */
static void test_what_is_tried_each_second_keeps_nobody_waiting(void **state)
{
    (void)state;
    for (int slow = 0; slow < 2; slow++) {
        bed_begin(&bed, "");
        bed.fake->cost_ns = slow ? 800 * MS : MS;
        bed.fake->registers[1][TARGET] = 50;
        take_nothing();
        bed_put(&bed, "stop", 0);
        bed_run(&bed, 5 * S);
        bed_put(&bed, "newer", 60);
        put_source("source", 3);
        bed_run(&bed, 12 * S);
        bed_assert(&bed, "newer", OUTCOME_MISMATCH);
        bed_assert(&bed, "source", OUTCOME_CONFIRMED);
        bed_end(&bed);
    }
}

static void test_a_stop_survives_a_restart(void **state)
{
    (void)state;
    for (int taken = 0; taken < 2; taken++) {
        bed_begin(&bed, "");
        bed.fake->registers[1][TARGET] = 50;
        be_silent();
        bed_put(&bed, "stop", 0);
        if (taken) /* else it is killed right after it was accepted */
            bed_run(&bed, 3 * S);
        bed_kill(&bed);
        bed.fake->n_rules = 0;
        bed_start(&bed);
        bed_run(&bed, S);
        assert_int_equal(bed_held(&bed), 0);
        const struct outcome *last = bed_outcome(&bed, "stop", taken ? 1U : 0U);
        assert_non_null(last);
        assert_int_equal(last->kind, OUTCOME_CONFIRMED);
        assert_true(last->correction);
        /* Confirmed is confirmed, in the next run too. */
        bed_kill(&bed);
        const unsigned done = writes();
        bed_start(&bed);
        bed_run(&bed, 5 * S);
        assert_int_equal(writes(), done);
        bed_end(&bed);
    }
}

static void put_many_stops(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        char id[8];
        snprintf(id, sizeof id, "s-%u", i);
        bed_put(&bed, id, 0);
        bed_run(&bed, 100 * MS);
    }
}

/* As many as can be owed; of more the oldest, which had their answers, go. */
static void test_each_stop_that_is_owed_is_corrected_after_a_restart(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed.fake->registers[1][TARGET] = 50;
    be_silent();
    put_many_stops(0, 10);
    bed_kill(&bed);
    bed_start(&bed);
    put_many_stops(10, 11); /* another, in a run that owes them all */
    bed_kill(&bed);
    bed.fake->n_rules = 0;
    bed_start(&bed);
    bed_run(&bed, S);
    assert_int_equal(bed_held(&bed), 0);
    for (unsigned i = 0; i < 11; i++) {
        char id[8];
        snprintf(id, sizeof id, "s-%u", i);
        bed_assert(&bed, id, OUTCOME_UNKNOWN);
        if (i < 3)
            assert_null(bed_outcome(&bed, id, 1));
        else
            bed_assert_corrected(&bed, id, OUTCOME_CONFIRMED);
    }
    bed_end(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_waiting_stop_is_not_replaced_by_a_setpoint),
        cmocka_unit_test(test_a_stop_does_not_expire_on_a_slow_device),
        cmocka_unit_test(test_a_stop_waits_for_the_transaction_under_way_alone),
        cmocka_unit_test(test_a_stop_that_comes_while_the_link_opens_goes_first),
        cmocka_unit_test(test_a_life_that_ends_while_the_link_opens_is_over),
        cmocka_unit_test(test_a_stop_does_not_wait_for_another_points_read_backs),
        cmocka_unit_test(test_another_points_command_comes_behind_the_stop),
        cmocka_unit_test(test_many_stops_are_one_write_and_an_outcome_each),
        cmocka_unit_test(test_a_stop_behind_a_stop_is_awaited),
        cmocka_unit_test(test_an_unconfirmed_stop_is_told_at_once_and_tried_each_second),
        cmocka_unit_test(test_a_newer_setpoint_ends_the_tries),
        cmocka_unit_test(test_what_is_tried_each_second_keeps_nobody_waiting),
        cmocka_unit_test(test_a_stop_survives_a_restart),
        cmocka_unit_test(test_each_stop_that_is_owed_is_corrected_after_a_restart),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
