/* schedule_stage: a battery that does what its schedule says, over clocks that are the test's. */
#ifndef TESTS_UNIT_SCHEDULE_STAGE_H
#define TESTS_UNIT_SCHEDULE_STAGE_H

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

static inline struct timetable *table_of(int64_t revision, unsigned n,
                                         const struct timetable_entry *rows)
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

static inline void table_free(struct timetable *table)
{
    if (table != NULL)
        free(table->text);
    free(table);
}

static inline void begin(void)
{
    memset(&stage, 0, sizeof stage);
    schedule_init(&stage.schedule);
    stage.now = (struct schedule_now){
        .utc_ms = T0, .mono_ns = MONO0, .trusted = true, .lease_ns = SCHEDULE_NEVER};
    stage.kind = stage.zero_kind = OUTCOME_CONFIRMED;
}

static inline void end(void)
{
    table_free(stage.schedule.table);
}

static inline void adopt(int64_t revision, unsigned n, const struct timetable_entry *rows)
{
    char detail[DETAIL_MAX];
    struct timetable *table = table_of(revision, n, rows);
    assert_int_equal(schedule_judge(&stage.schedule, table, detail), REASON_NONE);
    table_free(schedule_adopt(&stage.schedule, table, &stage.now));
}

static inline void pass(int64_t ms)
{
    stage.now.utc_ms += ms;
    stage.now.mono_ns += ms * NS_PER_MS;
}

/* What is due now, as its battery would do it. */
static inline void work(void)
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
        stage.n_told += schedule_take(&stage.schedule, &stage.now, &outcome,
                                      outcome.written_ns != 0, SCHEDULE_NEVER);
    }
    assert_true(due_ns > stage.now.mono_ns);
}

/* To that time, in steps as long as there is nothing to do, and no longer than that. */
static inline void run_until(int64_t utc_ms)
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

static inline void assert_write(unsigned index, int64_t utc_ms, double value)
{
    assert_true(index < stage.n_writes);
    assert_int_equal(stage.writes[index].utc_ms - T0, utc_ms - T0);
    assert_true(stage.writes[index].value == value);
}

static inline enum schedule_state state_now(void)
{
    struct schedule_status status;
    schedule_describe(&stage.schedule, &stage.now, &status);
    return status.state;
}

/* What a next run makes of what this one has kept. */
static inline void restart(int64_t lease_ns)
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

#endif
