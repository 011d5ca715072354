/* schedule: newer ones, restarts and clocks: nothing that is over stays. */
#include "schedule_stage.h"

/* ---- revisions ---- */

static void test_a_late_revision_is_stale(void **state)
{
    (void)state;
    begin();
    adopt(7, 2, two);
    for (int64_t revision = 5; revision < 10; revision++) {
        char detail[DETAIL_MAX] = "";
        struct timetable *late = table_of(revision, 2, apart);
        assert_int_equal(schedule_judge(&stage.schedule, late, detail),
                         revision > 7 ? REASON_NONE : REASON_STALE_REVISION);
        assert_int_equal(detail[0] != '\0', revision <= 7);
        table_free(late);
    }
    end();
}

static void test_a_newer_one_that_wants_the_same_writes_nothing(void **state)
{
    (void)state;
    const struct timetable_entry longer[] = {{T0 + HOUR_MS, T0 + 4 * HOUR_MS, 50}};
    begin();
    adopt(1, 2, two);
    run_until(T0 + HOUR_MS + 30 * MINUTE_MS);
    adopt(2, 1, longer);
    run_until(T0 + 3 * HOUR_MS);
    assert_int_equal(stage.n_writes, 1);
    run_until(T0 + 5 * HOUR_MS);
    assert_write(1, T0 + 4 * HOUR_MS, 0);
    end();
}

static void test_a_newer_one_that_wants_something_else_does_at_once(void **state)
{
    (void)state;
    const struct timetable_entry other[] = {{T0, T0 + 4 * HOUR_MS, 20}};
    begin();
    adopt(1, 2, two);
    run_until(T0 + HOUR_MS + 30 * MINUTE_MS);
    adopt(2, 1, other);
    work();
    assert_write(1, T0 + HOUR_MS + 30 * MINUTE_MS, 20);
    /* And one that is still to come leaves nothing of this one. */
    const struct timetable_entry later[] = {{T0 + 6 * HOUR_MS, T0 + 7 * HOUR_MS, 10}};
    adopt(3, 1, later);
    restart(0);
    work();
    assert_write(2, T0 + HOUR_MS + 30 * MINUTE_MS, 0);
    end();
}

static void test_no_entries_cancel(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, two);
    run_until(T0 + HOUR_MS + 30 * MINUTE_MS);
    adopt(2, 0, NULL);
    assert_int_equal(state_now(), SCHEDULE_CANCELLED);
    run_until(T0 + 5 * HOUR_MS);
    assert_int_equal(stage.n_writes, 2);
    assert_write(1, T0 + HOUR_MS + 30 * MINUTE_MS, 0);
    end();
}

/* What is only to come touches nothing now. */
static void test_before_its_first_entry_it_writes_nothing(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, two);
    restart(0);
    run_until(T0 + HOUR_MS - 1);
    assert_int_equal(stage.n_writes, 0);
    end();
}

/* ---- restarts ---- */

static void test_a_restart_in_every_minute(void **state)
{
    (void)state;
    for (int64_t minute = 0; minute <= 5 * 60; minute++) {
        begin();
        adopt(1, 2, apart);
        run_until(T0 + minute * MINUTE_MS);
        const unsigned n = stage.n_writes;
        const int64_t gone_ms = 7 * MINUTE_MS; /* the bridge was away for so long */
        restart(0);
        pass(gone_ms);
        restart(0);
        work();
        const int64_t at_ms = stage.now.utc_ms - T0;
        const bool first = at_ms >= HOUR_MS && at_ms < 2 * HOUR_MS;
        const bool second = at_ms >= 3 * HOUR_MS && at_ms < 4 * HOUR_MS;
        if (first || second) {
            assert_write(n, stage.now.utc_ms, first ? 50 : -30); /* the one that covers now */
            assert_int_equal(stage.n_writes, n + 1);
        } else { /* nothing that is over, but what it has left */
            assert_true(stage.n_writes == n || stage.writes[n].value == 0);
            assert_true(stage.n_writes <= n + 1);
        }
        assert_true(stage.held == (first ? 50 : second ? -30 : 0));
        end();
    }
}

/* Killed between its write and the next look at the disk: zero once more than needed
 * does no harm, an entry that stays would. */
static void test_what_was_not_kept_in_time_is_ended_all_the_same(void **state)
{
    (void)state;
    char head[TIMETABLE_HEAD_MAX];
    begin();
    adopt(1, 2, apart);
    schedule_print(&stage.schedule, head); /* the last that reached the disk */
    run_until(T0 + HOUR_MS + MINUTE_MS);
    assert_true(stage.held == 50);
    pass(90 * MINUTE_MS);
    struct timetable *table = stage.schedule.table;
    schedule_init(&stage.schedule);
    assert_true(schedule_resume(&stage.schedule, head, table, &stage.now, 0));
    work();
    assert_true(stage.held == 0);
    end();
}

static void test_a_restart_keeps_what_goes_before(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, two);
    run_until(T0 + HOUR_MS + 10 * MINUTE_MS);
    schedule_give_way(&stage.schedule, &stage.now, SCHEDULE_NEVER);
    restart(0);
    run_until(T0 + 2 * HOUR_MS - 1);
    assert_int_equal(stage.n_writes, 1);
    run_until(T0 + 2 * HOUR_MS);
    assert_write(1, T0 + 2 * HOUR_MS, -30);
    /* With a deadman no longer than a lease from now, whatever became of the clocks. */
    const int64_t lease_ns = 60 * 1000 * NS_PER_MS;
    schedule_give_way(&stage.schedule, &stage.now, stage.now.mono_ns + lease_ns);
    stage.now.utc_ms -= 30 * MINUTE_MS;
    restart(lease_ns);
    run_until(T0 + HOUR_MS + 31 * MINUTE_MS + 1);
    assert_write(2, T0 + HOUR_MS + 31 * MINUTE_MS, 50);
    end();
}

/* Nothing is engaged again before a newer command, nor by a restart. */
static void test_an_entry_that_the_battery_has_left(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, two);
    run_until(T0 + HOUR_MS + 10 * MINUTE_MS);
    schedule_lose(&stage.schedule, &stage.now);
    run_until(T0 + HOUR_MS + 20 * MINUTE_MS);
    restart(0);
    run_until(T0 + 2 * HOUR_MS - 1);
    assert_int_equal(stage.n_writes, 1);
    run_until(T0 + 2 * HOUR_MS);
    assert_true(stage.held == -30);
    end();
}

static void test_a_head_that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    begin();
    struct timetable *table = table_of(1, 2, two);
    assert_false(schedule_resume(&stage.schedule, "2 0 0 1 2 3 4 \n", table, &stage.now, 0));
    assert_false(schedule_resume(&stage.schedule, "", table, &stage.now, 0));
    assert_null(stage.schedule.table);
    table_free(table);
    end();
}

/* ---- the clock ---- */

static void test_a_clock_that_is_not_to_be_trusted(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, two);
    run_until(T0 + HOUR_MS + 10 * MINUTE_MS);
    stage.now.trusted = false;
    assert_int_equal(state_now(), SCHEDULE_UNSYNCHRONISED);
    run_until(T0 + 2 * HOUR_MS + 10 * MINUTE_MS);
    assert_int_equal(stage.n_writes, 2);
    assert_write(1, T0 + HOUR_MS + 10 * MINUTE_MS, 0);
    stage.now.trusted = true;
    work();
    assert_write(2, T0 + 2 * HOUR_MS + 10 * MINUTE_MS, -30);
    end();
}

static void test_a_clock_that_is_set(void **state)
{
    (void)state;
    begin();
    adopt(1, 2, apart);
    run_until(T0 + HOUR_MS + 10 * MINUTE_MS);
    stage.now.utc_ms += HOUR_MS; /* over the end */
    work();
    assert_true(stage.held == 0);
    stage.now.utc_ms -= HOUR_MS; /* and back into it */
    work();
    assert_true(stage.held == 50);
    stage.now.utc_ms += 2 * HOUR_MS;
    work();
    assert_true(stage.held == -30);
    /* Set between the decision and the write. */
    stage.now.utc_ms = T0 + HOUR_MS;
    struct schedule_wish wish;
    int64_t due_ns;
    assert_true(schedule_wants(&stage.schedule, &stage.now, &wish, &due_ns));
    schedule_begin(&stage.schedule, &wish);
    stage.now.utc_ms += HOUR_MS;
    assert_false(schedule_may_write(&stage.schedule, &stage.now));
    end();
}

/* UTC knows no summer: on both days of the year on which local clocks change an entry
 * an hour is an entry an hour, whatever TZ says. */
static void test_days_on_which_local_clocks_change(void **state)
{
    (void)state;
    const int64_t days[] = {INT64_C(1774742400000), INT64_C(1792886400000)}; /* 2026, Europe */
    setenv("TZ", "Europe/Berlin", 1);
    for (unsigned day = 0; day < 2; day++) {
        struct timetable_entry rows[24];
        for (int hour = 0; hour < 24; hour++)
            rows[hour] = (struct timetable_entry){days[day] + hour * HOUR_MS,
                                                  days[day] + (hour + 1) * HOUR_MS, 1 + hour};
        begin();
        stage.now.utc_ms = days[day] - MINUTE_MS;
        adopt(1, 24, rows);
        stage.schedule.table->valid_until_ms = days[day] + DAY_MS;
        run_until(days[day] + DAY_MS + MINUTE_MS);
        assert_int_equal(stage.n_writes, 25);
        for (int hour = 0; hour < 24; hour++)
            assert_write((unsigned)hour, rows[hour].start_ms, 1 + hour);
        assert_write(24, days[day] + DAY_MS, 0);
        end();
    }
    unsetenv("TZ");
}

static void test_a_thousand_entries(void **state)
{
    (void)state;
    struct timetable_entry rows[TIMETABLE_ENTRIES_MAX];
    for (int i = 0; i < TIMETABLE_ENTRIES_MAX; i++)
        rows[i] = (struct timetable_entry){T0 + (i + 1) * MINUTE_MS, T0 + (i + 2) * MINUTE_MS,
                                           1 + i % 100};
    begin();
    adopt(1, TIMETABLE_ENTRIES_MAX, rows);
    run_until(T0 + (TIMETABLE_ENTRIES_MAX + 5) * MINUTE_MS);
    assert_int_equal(stage.n_writes, TIMETABLE_ENTRIES_MAX + 1);
    for (unsigned i = 0; i < TIMETABLE_ENTRIES_MAX; i++)
        assert_write(i, rows[i].start_ms, rows[i].value);
    assert_write(TIMETABLE_ENTRIES_MAX, rows[TIMETABLE_ENTRIES_MAX - 1].end_ms, 0);
    end();
}

static void test_where_it_stands(void **state)
{
    (void)state;
    struct schedule_status status;
    begin();
    schedule_describe(&stage.schedule, &stage.now, &status);
    assert_int_equal(status.state, SCHEDULE_NONE);
    assert_int_equal(status.revision, -1);
    adopt(3, 2, apart);
    schedule_describe(&stage.schedule, &stage.now, &status);
    assert_int_equal(status.revision, 3);
    assert_string_equal(status.id, "day");
    assert_false(status.has_entry);
    assert_true(status.changes && status.next_ms == T0 + HOUR_MS && status.next_has_value &&
                status.next_value == 50);
    run_until(T0 + HOUR_MS);
    schedule_describe(&stage.schedule, &stage.now, &status);
    assert_true(status.has_entry && status.entry.value == 50 && status.next_ms == T0 + 2 * HOUR_MS);
    assert_false(status.next_has_value); /* the default */
    run_until(T0 + 4 * HOUR_MS);
    schedule_describe(&stage.schedule, &stage.now, &status);
    assert_int_equal(status.state, SCHEDULE_ENDED);
    assert_false(status.has_entry || status.changes);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_late_revision_is_stale),
        cmocka_unit_test(test_a_newer_one_that_wants_the_same_writes_nothing),
        cmocka_unit_test(test_a_newer_one_that_wants_something_else_does_at_once),
        cmocka_unit_test(test_no_entries_cancel),
        cmocka_unit_test(test_before_its_first_entry_it_writes_nothing),
        cmocka_unit_test(test_a_restart_in_every_minute),
        cmocka_unit_test(test_what_was_not_kept_in_time_is_ended_all_the_same),
        cmocka_unit_test(test_a_restart_keeps_what_goes_before),
        cmocka_unit_test(test_an_entry_that_the_battery_has_left),
        cmocka_unit_test(test_a_head_that_makes_no_sense_is_refused),
        cmocka_unit_test(test_a_clock_that_is_not_to_be_trusted),
        cmocka_unit_test(test_a_clock_that_is_set),
        cmocka_unit_test(test_days_on_which_local_clocks_change),
        cmocka_unit_test(test_a_thousand_entries),
        cmocka_unit_test(test_where_it_stands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
