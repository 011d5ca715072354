/* schedule: nothing is written outside of its time, and a live command goes before it. */
#include "schedule_stage.h"

/* ---- entries ---- */

static void test_each_entry_is_written_at_its_start_and_ends(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, two);
    assert_int_equal(state_now(), SCHEDULE_WAITING);
    run_until(T0 + HOUR_MS);
    assert_int_equal(state_now(), SCHEDULE_RUNNING);
    run_until(T0 + 5 * HOUR_MS);
    assert_int_equal(stage.n_writes, 3);
    assert_write(0, T0 + HOUR_MS, 50);
    assert_write(1, T0 + 2 * HOUR_MS, -30); /* straight from one to the other */
    assert_write(2, T0 + 3 * HOUR_MS, 0);
    assert_int_equal(state_now(), SCHEDULE_ENDED);
    end();
}

static void test_a_gap_is_zero_once(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, apart);
    run_until(T0 + 2 * HOUR_MS + MINUTE_MS);
    assert_int_equal(state_now(), SCHEDULE_DEFAULT);
    run_until(T0 + 5 * HOUR_MS);
    assert_int_equal(stage.n_writes, 4);
    assert_write(1, T0 + 2 * HOUR_MS, 0);
    assert_write(2, T0 + 3 * HOUR_MS, -30);
    assert_write(3, T0 + 4 * HOUR_MS, 0);
    end();
}

static void test_half_open(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, apart);
    struct schedule_now at = stage.now;
    const int64_t times[] = {HOUR_MS - 1, HOUR_MS, 2 * HOUR_MS - 1, 2 * HOUR_MS, 3 * HOUR_MS};
    const int entries[] = {-1, 0, 0, -1, 1};
    for (unsigned i = 0; i < 5; i++) {
        at.utc_ms = T0 + times[i];
        const struct timetable_entry *entry = schedule_entry(&stage.schedule, &at);
        assert_ptr_equal(entry, entries[i] < 0 ? NULL : &stage.schedule.table->entries[entries[i]]);
    }
    at.utc_ms = T0 + HOUR_MS;
    stage.schedule.table->valid_until_ms = T0 + HOUR_MS + 1;
    assert_non_null(schedule_entry(&stage.schedule, &at));
    at.utc_ms++;
    assert_null(schedule_entry(&stage.schedule, &at));
    assert_true(schedule_next_ms(&stage.schedule, at.utc_ms) == INT64_MAX);
    end();
}

static void test_valid_until_ends_an_entry(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, two);
    stage.schedule.table->valid_until_ms = T0 + HOUR_MS + 10 * MINUTE_MS;
    run_until(T0 + 5 * HOUR_MS);
    assert_int_equal(stage.n_writes, 2);
    assert_write(1, T0 + HOUR_MS + 10 * MINUTE_MS, 0);
    end();
}

static void test_an_entry_of_zero_is_tried_until_it_is_confirmed(void **state)
{
    (void)state;
    const struct timetable_entry rows[] = {{T0 + HOUR_MS, T0 + 2 * HOUR_MS, 0}};
    begin();
    adopt(1, 1, rows);
    stage.zero_kind = OUTCOME_UNKNOWN;
    run_until(T0 + HOUR_MS + 3500);
    assert_int_equal(stage.n_writes, 4); /* each second */
    assert_int_equal(stage.n_told, 1);
    stage.zero_kind = OUTCOME_CONFIRMED;
    run_until(T0 + 5 * HOUR_MS);
    assert_int_equal(stage.n_writes, 5);
    end();
}

static void test_a_refused_entry_is_judged_again_each_minute(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, apart);
    stage.kind = OUTCOME_REFUSED;
    stage.reason = REASON_SOE_LOW;
    run_until(T0 + HOUR_MS + 4 * MINUTE_MS);
    assert_int_equal(stage.n_tries, 5);
    assert_int_equal(stage.n_told, 1); /* what is the same is told once */
    assert_int_equal(stage.n_writes, 0);
    assert_int_equal(state_now(), SCHEDULE_PENDING);
    struct schedule_status status;
    schedule_describe(&stage.schedule, &stage.now, &status);
    assert_string_equal(status.why, "soe_low");
    stage.reason = REASON_NOT_READY;
    run_until(T0 + HOUR_MS + 5 * MINUTE_MS);
    assert_int_equal(stage.n_told, 2);
    stage.kind = OUTCOME_CONFIRMED;
    run_until(T0 + HOUR_MS + 6 * MINUTE_MS);
    assert_write(0, T0 + HOUR_MS + 6 * MINUTE_MS, 50);
    assert_int_equal(stage.n_told, 3);
    end();
}

static void test_what_is_over_does_not_stay_while_the_next_is_refused(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, two);
    run_until(T0 + HOUR_MS + MINUTE_MS);
    stage.kind = OUTCOME_REFUSED;
    stage.reason = REASON_SOE_HIGH;
    run_until(T0 + 2 * HOUR_MS);
    assert_write(1, T0 + 2 * HOUR_MS, 0);
    run_until(T0 + 2 * HOUR_MS + 2 * MINUTE_MS);
    assert_int_equal(stage.n_writes, 2);
    stage.kind = OUTCOME_CONFIRMED;
    run_until(T0 + 2 * HOUR_MS + 3 * MINUTE_MS);
    assert_write(2, T0 + 2 * HOUR_MS + 3 * MINUTE_MS, -30);
    end();
}

/* Nobody knows what the battery holds: zero, and then once more; or no more, when the
 * battery plainly takes something else. */
static void test_what_is_not_confirmed_goes_to_zero(void **state)
{
    (void)state;
    for (int mismatch = 0; mismatch < 2; mismatch++) {
        begin();
        adopt(1, 2, apart);
        stage.kind = mismatch ? OUTCOME_MISMATCH : OUTCOME_UNKNOWN;
        run_until(T0 + HOUR_MS + 1);
        assert_int_equal(stage.n_writes, 2);
        assert_write(1, T0 + HOUR_MS, 0);
        stage.kind = OUTCOME_CONFIRMED;
        run_until(T0 + HOUR_MS + 2 * MINUTE_MS);
        assert_int_equal(stage.n_writes, mismatch ? 2 : 3);
        run_until(T0 + 3 * HOUR_MS); /* the next one is not touched by that */
        assert_true(stage.held == -30);
        end();
    }
}

static void test_a_silent_battery_is_told_zero_each_second(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, apart);
    run_until(T0 + HOUR_MS);
    stage.zero_kind = OUTCOME_UNKNOWN;
    run_until(T0 + 2 * HOUR_MS + 10 * 1000);
    assert_int_equal(stage.n_writes, 12);
    /* The next entry is tried when its time comes, silent or not. */
    stage.kind = OUTCOME_REFUSED;
    stage.reason = REASON_DEVICE_OFFLINE;
    run_until(T0 + 3 * HOUR_MS);
    stage.zero_kind = stage.kind = OUTCOME_CONFIRMED;
    run_until(T0 + 3 * HOUR_MS + MINUTE_MS);
    assert_true(stage.held == -30);
    end();
}

/* ---- live commands ---- */

static void test_a_live_setpoint_goes_before_it_for_its_lease(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, apart);
    run_until(T0 + HOUR_MS + 10 * MINUTE_MS);
    stage.held = 70;
    schedule_give_way(&stage.schedule, &stage.now, stage.now.mono_ns + 60 * 1000 * NS_PER_MS);
    assert_int_equal(state_now(), SCHEDULE_LIVE);
    assert_false(schedule_answers_for(&stage.schedule, 70));
    run_until(T0 + HOUR_MS + 11 * MINUTE_MS - 1);
    assert_int_equal(stage.n_writes, 1);
    run_until(T0 + HOUR_MS + 11 * MINUTE_MS);
    assert_write(1, T0 + HOUR_MS + 11 * MINUTE_MS, 50);
    assert_true(schedule_answers_for(&stage.schedule, 50));
    assert_false(schedule_answers_for(&stage.schedule, 51));
    end();
}

static void test_a_lease_of_the_deadmans_counts_as_well(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, apart);
    stage.now.lease_ns = MONO0 + (HOUR_MS + 5 * MINUTE_MS) * NS_PER_MS;
    run_until(T0 + HOUR_MS + 10 * MINUTE_MS);
    assert_int_equal(stage.n_writes, 1);
    assert_write(0, T0 + HOUR_MS + 5 * MINUTE_MS, 50);
    end();
}

static void test_without_a_deadman_until_the_entry_ends(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, apart);
    run_until(T0 + HOUR_MS + 10 * MINUTE_MS);
    schedule_give_way(&stage.schedule, &stage.now, SCHEDULE_NEVER);
    run_until(T0 + 2 * HOUR_MS - 1);
    assert_int_equal(stage.n_writes, 1);
    run_until(T0 + 2 * HOUR_MS);
    assert_write(1, T0 + 2 * HOUR_MS, 0); /* the live one's as well */
    run_until(T0 + 2 * HOUR_MS + MINUTE_MS);
    schedule_give_way(&stage.schedule, &stage.now,
                      SCHEDULE_NEVER); /* in a gap: until the next begins */
    run_until(T0 + 3 * HOUR_MS - 1);
    assert_int_equal(stage.n_writes, 2);
    run_until(T0 + 3 * HOUR_MS);
    assert_write(2, T0 + 3 * HOUR_MS, -30);
    end();
}

static void test_after_the_end_a_live_setpoint_is_left_alone(void **state)
{
    (void)state;
    for (int64_t lease_ns = 0; lease_ns < 2; lease_ns++) {
        begin();
        adopt(1, 2, apart);
        run_until(T0 + 5 * HOUR_MS);
        const unsigned n = stage.n_writes;
        schedule_give_way(&stage.schedule, &stage.now,
                          lease_ns ? stage.now.mono_ns + 1000 * NS_PER_MS : SCHEDULE_NEVER);
        run_until(T0 + 6 * HOUR_MS);
        restart(lease_ns * 1000 * NS_PER_MS);
        run_until(T0 + 7 * HOUR_MS);
        assert_int_equal(stage.n_writes, n);
        end();
    }
}

static void test_a_live_stop_ends_it(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, two);
    run_until(T0 + HOUR_MS + 30 * MINUTE_MS);
    assert_true(schedule_stop(&stage.schedule));
    assert_false(schedule_stop(&stage.schedule));
    assert_int_equal(state_now(), SCHEDULE_STOPPED);
    run_until(T0 + HOUR_MS + 40 * MINUTE_MS);
    restart(0);
    run_until(T0 + 5 * HOUR_MS);
    assert_int_equal(stage.n_writes, 1);
    assert_int_equal(state_now(), SCHEDULE_STOPPED);
    /* Only a newer one begins anew. */
    char detail[DETAIL_MAX];
    struct timetable *same = table_of(1, 2, two);
    assert_int_equal(schedule_judge(&stage.schedule, same, detail), REASON_STALE_REVISION);
    table_free(same);
    end();
}

static void test_what_a_stop_came_into_is_not_written(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, two);
    run_until(T0 + HOUR_MS - 1);
    pass(1);
    struct schedule_wish wish;
    int64_t due_ns;
    assert_true(schedule_wants(&stage.schedule, &stage.now, &wish, &due_ns));
    schedule_begin(&stage.schedule, &wish);
    assert_true(schedule_may_write(&stage.schedule, &stage.now));
    schedule_stop(&stage.schedule);
    assert_false(schedule_may_write(&stage.schedule, &stage.now));
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_entry_is_written_at_its_start_and_ends),
        cmocka_unit_test(test_a_gap_is_zero_once),
        cmocka_unit_test(test_half_open),
        cmocka_unit_test(test_valid_until_ends_an_entry),
        cmocka_unit_test(test_an_entry_of_zero_is_tried_until_it_is_confirmed),
        cmocka_unit_test(test_a_refused_entry_is_judged_again_each_minute),
        cmocka_unit_test(test_what_is_over_does_not_stay_while_the_next_is_refused),
        cmocka_unit_test(test_what_is_not_confirmed_goes_to_zero),
        cmocka_unit_test(test_a_silent_battery_is_told_zero_each_second),
        cmocka_unit_test(test_a_live_setpoint_goes_before_it_for_its_lease),
        cmocka_unit_test(test_a_lease_of_the_deadmans_counts_as_well),
        cmocka_unit_test(test_without_a_deadman_until_the_entry_ends),
        cmocka_unit_test(test_after_the_end_a_live_setpoint_is_left_alone),
        cmocka_unit_test(test_a_live_stop_ends_it),
        cmocka_unit_test(test_what_a_stop_came_into_is_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
