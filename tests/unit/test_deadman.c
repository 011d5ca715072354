/* deadman: nothing makes a lease longer but a fresh setpoint that is confirmed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/battery/deadman.h"

#define SECOND INT64_C(1000000000)

static struct deadman a_deadman(double fallback)
{
    struct deadman deadman;
    deadman_init(&deadman, 60 * SECOND, fallback);
    return deadman;
}

static void test_it_sleeps_until_a_setpoint_is_held(void **state)
{
    struct deadman deadman = a_deadman(0);
    double value;
    (void)state;
    assert_true(deadman_next_ns(&deadman) == INT64_MAX);
    assert_false(deadman_is_due(&deadman, INT64_MAX - 1, &value));
}

static void test_the_lease_ends_to_the_nanosecond(void **state)
{
    struct deadman deadman = a_deadman(-5);
    double value = 1;
    (void)state;
    deadman_confirm(&deadman, 50, SECOND);
    assert_true(deadman_next_ns(&deadman) == 61 * SECOND);
    assert_false(deadman_is_due(&deadman, 61 * SECOND - 1, &value));
    assert_true(deadman_is_due(&deadman, 61 * SECOND, &value));
    assert_true(value == -5);
}

static void test_a_fresh_setpoint_renews_it(void **state)
{
    struct deadman deadman = a_deadman(0);
    double value;
    (void)state;
    deadman_confirm(&deadman, 50, 0);
    deadman_confirm(&deadman, 50, 30 * SECOND);
    assert_false(deadman_is_due(&deadman, 60 * SECOND, &value));
    assert_true(deadman_is_due(&deadman, 90 * SECOND, &value));
    deadman_confirm(&deadman, 20, 91 * SECOND); /* also while it fires */
    assert_false(deadman_is_due(&deadman, 92 * SECOND, &value));
    assert_true(deadman_is_due(&deadman, 151 * SECOND, &value));
}

static void test_holding_the_fallback_needs_no_lease(void **state)
{
    struct deadman deadman = a_deadman(0);
    double value;
    (void)state;
    deadman_confirm(&deadman, 50, 0);
    deadman_confirm(&deadman, 0, SECOND);
    assert_false(deadman_is_due(&deadman, 1000 * SECOND, &value));
}

static void test_it_tries_each_second_until_it_is_done(void **state)
{
    struct deadman deadman = a_deadman(0);
    double value;
    (void)state;
    deadman_confirm(&deadman, 50, 0);
    assert_true(deadman_is_due(&deadman, 60 * SECOND, &value));
    assert_false(deadman_is_due(&deadman, 61 * SECOND - 1, &value));
    assert_true(deadman_is_due(&deadman, 61 * SECOND, &value));
    deadman_done(&deadman);
    assert_false(deadman_is_due(&deadman, 1000 * SECOND, &value));
}

static void test_a_forbidden_fallback_becomes_zero_at_once(void **state)
{
    struct deadman deadman = a_deadman(-20);
    double value = 1;
    (void)state;
    deadman_confirm(&deadman, 50, 0);
    assert_true(deadman_is_due(&deadman, 60 * SECOND, &value));
    assert_true(value == -20);
    deadman_forbid(&deadman, 60 * SECOND + 5);
    assert_true(deadman_is_due(&deadman, 60 * SECOND + 5, &value));
    assert_true(value == 0);
    deadman_forbid(&deadman, 60 * SECOND + 6); /* zero cannot be forbidden: no haste */
    assert_false(deadman_is_due(&deadman, 60 * SECOND + 6, &value));
    deadman_done(&deadman);
    deadman_confirm(&deadman, 50, 100 * SECOND); /* the next time it is asked for again */
    assert_true(deadman_is_due(&deadman, 160 * SECOND, &value));
    assert_true(value == -20);
}

static void test_what_is_found_begins_a_lease_and_renews_none(void **state)
{
    struct deadman deadman = a_deadman(-20);
    double value = 1;
    (void)state;
    deadman_find(&deadman, 0, 60 * SECOND);
    deadman_find(&deadman, -20, 60 * SECOND);
    assert_true(deadman_next_ns(&deadman) == INT64_MAX);
    deadman_find(&deadman, 50, 60 * SECOND);
    deadman_find(&deadman, 50, 90 * SECOND);
    deadman_doubt(&deadman, 50, 30 * SECOND);
    assert_true(deadman_next_ns(&deadman) == 60 * SECOND);
    assert_true(deadman_is_due(&deadman, 60 * SECOND, &value));
    deadman_find(&deadman, 50, 120 * SECOND); /* nor while it fires */
    deadman_doubt(&deadman, 50, 61 * SECOND);
    assert_true(deadman_is_due(&deadman, 61 * SECOND, &value));
    assert_true(value == -20);
}

static void test_what_may_be_held_begins_a_lease(void **state)
{
    struct deadman deadman = a_deadman(-20);
    double value = 1;
    (void)state;
    deadman_doubt(&deadman, -20, 0);
    assert_true(deadman_next_ns(&deadman) == INT64_MAX);
    deadman_stop(&deadman);
    deadman_doubt(&deadman, 50, 0); /* the stop is no longer the last that was wanted */
    assert_false(deadman.stopped);
    assert_true(deadman_is_due(&deadman, 60 * SECOND, &value));
    assert_true(value == -20);
}

static void test_at_rest_there_is_nothing_to_guard(void **state)
{
    struct deadman deadman = a_deadman(-20);
    double value;
    (void)state;
    deadman_confirm(&deadman, 50, 0);
    deadman_see_rest(&deadman);
    assert_false(deadman_is_due(&deadman, 1000 * SECOND, &value));
    /* But its own write is done when that is confirmed, and not before. */
    deadman_confirm(&deadman, 50, 0);
    assert_true(deadman_is_due(&deadman, 60 * SECOND, &value));
    deadman_see_rest(&deadman);
    assert_true(deadman_is_due(&deadman, 61 * SECOND, &value));
}

static void test_after_a_stop_it_writes_nothing_but_zero(void **state)
{
    struct deadman deadman = a_deadman(-20);
    double value = 1;
    (void)state;
    deadman_confirm(&deadman, 50, 0);
    deadman_stop(&deadman);
    assert_false(deadman_is_due(&deadman, 1000 * SECOND, &value));
    deadman_find(&deadman, -20, 60 * SECOND); /* by somebody's hand: no rest now */
    assert_true(deadman_is_due(&deadman, 60 * SECOND, &value));
    assert_true(value == 0);
    deadman_done(&deadman);
    deadman_confirm(&deadman, 50, 70 * SECOND);
    assert_true(deadman_is_due(&deadman, 130 * SECOND, &value));
    assert_true(value == -20);
    deadman_stop(&deadman); /* while it fires: over */
    assert_true(deadman_next_ns(&deadman) == INT64_MAX);
}

static void test_a_lease_of_the_run_before_ends_when_it_would_have(void **state)
{
    struct deadman deadman = a_deadman(0);
    double value;
    (void)state;
    deadman_resume(&deadman, 30 * SECOND);
    deadman_find(&deadman, 50, 90 * SECOND);
    assert_false(deadman_is_due(&deadman, 30 * SECOND - 1, &value));
    assert_true(deadman_is_due(&deadman, 30 * SECOND, &value));
}

static void test_it_can_be_made_to_wait_and_no_earlier(void **state)
{
    struct deadman deadman = a_deadman(0);
    double value;
    (void)state;
    deadman_confirm(&deadman, 50, 0);
    deadman_rest(&deadman, 100 * SECOND); /* only what fires */
    assert_true(deadman_is_due(&deadman, 60 * SECOND, &value));
    deadman_rest(&deadman, 70 * SECOND);
    deadman_rest(&deadman, 65 * SECOND);
    assert_false(deadman_is_due(&deadman, 70 * SECOND - 1, &value));
    assert_true(deadman_is_due(&deadman, 70 * SECOND, &value));
}

static void test_without_a_timeout_there_is_none(void **state)
{
    struct deadman deadman;
    double value;
    (void)state;
    deadman_init(&deadman, 0, 0);
    deadman_confirm(&deadman, 50, 0);
    deadman_find(&deadman, 50, 0);
    deadman_doubt(&deadman, 50, 0);
    deadman_resume(&deadman, 0);
    assert_false(deadman_is_due(&deadman, INT64_MAX - 1, &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_sleeps_until_a_setpoint_is_held),
        cmocka_unit_test(test_the_lease_ends_to_the_nanosecond),
        cmocka_unit_test(test_a_fresh_setpoint_renews_it),
        cmocka_unit_test(test_holding_the_fallback_needs_no_lease),
        cmocka_unit_test(test_it_tries_each_second_until_it_is_done),
        cmocka_unit_test(test_a_forbidden_fallback_becomes_zero_at_once),
        cmocka_unit_test(test_what_is_found_begins_a_lease_and_renews_none),
        cmocka_unit_test(test_what_may_be_held_begins_a_lease),
        cmocka_unit_test(test_at_rest_there_is_nothing_to_guard),
        cmocka_unit_test(test_after_a_stop_it_writes_nothing_but_zero),
        cmocka_unit_test(test_a_lease_of_the_run_before_ends_when_it_would_have),
        cmocka_unit_test(test_it_can_be_made_to_wait_and_no_earlier),
        cmocka_unit_test(test_without_a_timeout_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
