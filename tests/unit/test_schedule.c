/* schedule: nothing is written outside of its time, and nothing that is over stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/battery/schedule.h"

#define MINUTE_MS INT64_C(60000)
#define HOUR_MS   (60 * MINUTE_MS)
#define DAY_MS    (24 * HOUR_MS)
#define NS_PER_MS INT64_C(1000000)
#define T0        INT64_C(1763791200000) /* a whole hour of UTC */
#define MONO0     INT64_C(1000000000000)

enum { WRITES_MAX = 4000 };

/* A battery that does what it is told, unless it refuses, over clocks that are the test's. */
static struct stage {
    struct schedule schedule;
    struct schedule_now now;
    double held;
    enum outcome_kind kind; /* of what is no zero; and of zero */
    enum outcome_kind zero_kind;
    enum reason reason;
    struct {
        int64_t utc_ms;
        double value;
    } writes[WRITES_MAX];
    unsigned n_writes, n_told, n_tries;
} stage;

static struct timetable *table_of(int64_t revision, unsigned n, const struct timetable_entry *rows)
{
    struct timetable *table = calloc(1, sizeof *table + n * sizeof *rows);
    strcpy(table->id, "day");
    table->revision = revision;
    table->valid_until_ms = T0 + 30 * DAY_MS;
    table->text = calloc(1, TIMETABLE_HEAD_MAX + 1);
    table->n = n;
    if (n > 0)
        memcpy(table->entries, rows, n * sizeof *rows);
    return table;
}

static void table_free(struct timetable *table)
{
    if (table != NULL)
        free(table->text);
    free(table);
}

static void begin(void)
{
    memset(&stage, 0, sizeof stage);
    schedule_init(&stage.schedule);
    stage.now = (struct schedule_now){
        .utc_ms = T0, .mono_ns = MONO0, .trusted = true, .lease_ns = SCHEDULE_NEVER};
    stage.kind = stage.zero_kind = OUTCOME_CONFIRMED;
}

static void end(void)
{
    table_free(stage.schedule.table);
}

static void adopt(int64_t revision, unsigned n, const struct timetable_entry *rows)
{
    char detail[DETAIL_MAX];
    struct timetable *table = table_of(revision, n, rows);
    assert_int_equal(schedule_judge(&stage.schedule, table, detail), REASON_NONE);
    table_free(schedule_adopt(&stage.schedule, table, &stage.now));
}

static void pass(int64_t ms)
{
    stage.now.utc_ms += ms;
    stage.now.mono_ns += ms * NS_PER_MS;
}

/* What is due now, as its battery would do it. */
static void work(void)
{
    struct schedule_wish wish;
    int64_t due_ns;
    for (unsigned i = 0; schedule_wants(&stage.schedule, &stage.now, &wish, &due_ns); i++) {
        if (i == 10)
            fail_msg("it spins");
        schedule_begin(&stage.schedule, &wish);
        assert_true(schedule_may_write(&stage.schedule, &stage.now));
        struct outcome outcome = {.kind = wish.value == 0 ? stage.zero_kind : stage.kind,
                                  .reason = stage.reason};
        outcome.command.value = wish.value;
        stage.n_tries++;
        if (outcome.kind == OUTCOME_CONFIRMED || outcome.kind == OUTCOME_UNKNOWN ||
            outcome.kind == OUTCOME_MISMATCH) {
            outcome.reason = REASON_NONE;
            outcome.written_ns = stage.now.mono_ns;
            assert_in_range(stage.n_writes, 0, WRITES_MAX - 1);
            stage.writes[stage.n_writes].utc_ms = stage.now.utc_ms;
            stage.writes[stage.n_writes++].value = wish.value;
        }
        if (outcome.kind == OUTCOME_CONFIRMED)
            stage.held = wish.value;
        stage.n_told += schedule_take(&stage.schedule, &stage.now, &outcome, SCHEDULE_NEVER);
    }
    assert_true(due_ns > stage.now.mono_ns);
}

/* To that time, in steps as long as there is nothing to do, and no longer than that. */
static void run_until(int64_t utc_ms)
{
    work();
    while (stage.now.utc_ms < utc_ms) {
        struct schedule_wish wish;
        int64_t due_ns, left_ms = utc_ms - stage.now.utc_ms;
        (void)schedule_wants(&stage.schedule, &stage.now, &wish, &due_ns);
        if (due_ns != INT64_MAX && (due_ns - stage.now.mono_ns) / NS_PER_MS < left_ms)
            left_ms = (due_ns - stage.now.mono_ns) / NS_PER_MS;
        pass(left_ms > 0 ? left_ms : 1);
        work();
    }
}

static void assert_write(unsigned index, int64_t utc_ms, double value)
{
    assert_true(index < stage.n_writes);
    assert_int_equal(stage.writes[index].utc_ms - T0, utc_ms - T0);
    assert_true(stage.writes[index].value == value);
}

static enum schedule_state state_now(void)
{
    struct schedule_status status;
    schedule_describe(&stage.schedule, &stage.now, &status);
    return status.state;
}

/* What a next run makes of what this one has kept. */
static void restart(int64_t lease_ns)
{
    char head[TIMETABLE_HEAD_MAX];
    struct timetable *table = stage.schedule.table;
    schedule_print(&stage.schedule, head);
    assert_int_equal(head[TIMETABLE_HEAD_MAX - 1], '\n');
    struct schedule next;
    schedule_init(&next);
    assert_true(schedule_resume(&next, head, table, &stage.now, lease_ns));
    stage.schedule = next;
}

static const struct timetable_entry two[] = {
    {T0 + HOUR_MS, T0 + 2 * HOUR_MS, 50},
    {T0 + 2 * HOUR_MS, T0 + 3 * HOUR_MS, -30},
};
static const struct timetable_entry apart[] = {
    {T0 + HOUR_MS, T0 + 2 * HOUR_MS, 50},
    {T0 + 3 * HOUR_MS, T0 + 4 * HOUR_MS, -30},
};

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
