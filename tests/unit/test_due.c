/* schedule: a fixed rate without drift; what was missed is counted, not made up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/telemetry/due.h"

static const int64_t PERIOD_NS = 1000000000;
static const int64_t ORIGIN_NS = 5000000000;

/* Of one unit of `count` on the only link. */
static struct due schedule_of(unsigned index, unsigned count)
{
    struct due schedule;
    due_init(&schedule, PERIOD_NS, ORIGIN_NS,
             &(struct due_place){.unit = index, .n_units = count, .n_links = 1});
    return schedule;
}

static void test_units_of_a_link_share_the_period(void **state)
{
    (void)state;
    for (unsigned index = 0; index < 4; index++) {
        struct due schedule = schedule_of(index, 4);
        assert_int_equal(schedule.due_ns, ORIGIN_NS + PERIOD_NS / 4 * index);
        assert_int_equal(schedule.missed, 0);
    }
    /* A period that does not divide: all phases stay within it. */
    struct due last;
    due_init(&last, 1000, 0, &(struct due_place){.unit = 6, .n_units = 7, .n_links = 1});
    assert_true(last.due_ns > 0 && last.due_ns < 1000);
}

static void test_links_follow_one_another_in_groups(void **state)
{
    (void)state;
    const struct {
        unsigned n_links, at_once;
        int64_t step_ns;
    } rows[] = {
        {20, 2, 200000}, {128, 2, 200000}, {129, 4, 200000}, {5000, 4, 200000}, {20000, 4, 50000}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (unsigned link = 0; link < 20; link++) {
            for (unsigned unit = 0; unit < 2; unit++) {
                struct due schedule;
                struct due_place place = {
                    .unit = unit, .n_units = 2, .link = link, .n_links = rows[i].n_links};
                due_init(&schedule, PERIOD_NS, ORIGIN_NS, &place);
                const unsigned first = link / rows[i].at_once * rows[i].at_once;
                assert_int_equal(schedule.due_ns,
                                 ORIGIN_NS + first * rows[i].step_ns + PERIOD_NS / 2 * unit);
            }
        }
    }
}

static void test_never_drifts(void **state)
{
    (void)state;
    struct due schedule = schedule_of(1, 3);
    const int64_t first_ns = schedule.due_ns;
    /* Always served late, by anything up to just under a period. */
    for (int64_t tick = 1; tick <= 100000; tick++) {
        due_served(&schedule, schedule.due_ns + tick * 7919 % PERIOD_NS);
        assert_int_equal(schedule.due_ns, first_ns + tick * PERIOD_NS);
    }
    assert_int_equal(schedule.missed, 0);
}

static void test_counts_what_it_missed(void **state)
{
    (void)state;
    const struct {
        int64_t late_ns;
        uint64_t missed;
    } rows[] = {
        {0, 0},
        {PERIOD_NS - 1, 0},
        {PERIOD_NS, 1}, /* the next tick is due this very moment: its time is over */
        {PERIOD_NS + 1, 1},
        {2 * PERIOD_NS - 1, 1},
        {2 * PERIOD_NS, 2},
        {3600 * PERIOD_NS + 1, 3600},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct due schedule = schedule_of(0, 1);
        int64_t now_ns = schedule.due_ns + rows[i].late_ns;
        due_served(&schedule, now_ns);
        assert_int_equal(schedule.missed, rows[i].missed);
        assert_int_equal(schedule.due_ns, ORIGIN_NS + (int64_t)(1 + rows[i].missed) * PERIOD_NS);
        assert_true(schedule.due_ns > now_ns);
    }
}

static void test_adds_up_what_it_missed(void **state)
{
    (void)state;
    struct due schedule = schedule_of(0, 1);
    due_served(&schedule, schedule.due_ns + 2 * PERIOD_NS);
    due_served(&schedule, schedule.due_ns);
    due_served(&schedule, schedule.due_ns + 3 * PERIOD_NS);
    assert_int_equal(schedule.missed, 5);
}

static void test_served_early_keeps_its_place(void **state)
{
    (void)state;
    struct due schedule = schedule_of(0, 1);
    due_served(&schedule, schedule.due_ns - 1);
    assert_int_equal(schedule.due_ns, ORIGIN_NS + PERIOD_NS);
    assert_int_equal(schedule.missed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_units_of_a_link_share_the_period),
        cmocka_unit_test(test_links_follow_one_another_in_groups),
        cmocka_unit_test(test_never_drifts),
        cmocka_unit_test(test_counts_what_it_missed),
        cmocka_unit_test(test_adds_up_what_it_missed),
        cmocka_unit_test(test_served_early_keeps_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
