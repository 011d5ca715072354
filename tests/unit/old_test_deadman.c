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
    assert_false(deadman_due(&deadman, INT64_MAX - 1, &value));
}

static void test_the_lease_ends_to_the_nanosecond(void **state)
{
    struct deadman deadman = a_deadman(-5);
    double value = 1;
    (void)state;
    deadman_holds(&deadman, 50, SECOND);
    assert_true(deadman_next_ns(&deadman) == 61 * SECOND);
    assert_false(deadman_due(&deadman, 61 * SECOND - 1, &value));
    assert_true(deadman_due(&deadman, 61 * SECOND, &value));
    assert_true(value == -5);
}

static void test_a_fresh_setpoint_renews_it(void **state)
{
    struct deadman deadman = a_deadman(0);
    double value;
    (void)state;
    deadman_holds(&deadman, 50, 0);
    deadman_holds(&deadman, 50, 30 * SECOND);
    assert_false(deadman_due(&deadman, 60 * SECOND, &value));
    assert_true(deadman_due(&deadman, 90 * SECOND, &value));
    deadman_holds(&deadman, 20, 91 * SECOND); /* also while it fires */
    assert_false(deadman_due(&deadman, 92 * SECOND, &value));
    assert_true(deadman_due(&deadman, 151 * SECOND, &value));
}

static void test_holding_the_fallback_needs_no_lease(void **state)
{
    struct deadman deadman = a_deadman(0);
    double value;
    (void)state;
    deadman_holds(&deadman, 50, 0);
    deadman_holds(&deadman, 0, SECOND);
    assert_false(deadman_due(&deadman, 1000 * SECOND, &value));
}

static void test_it_tries_each_second_until_it_is_done(void **state)
{
    struct deadman deadman = a_deadman(0);
    double value;
    (void)state;
    deadman_holds(&deadman, 50, 0);
    assert_true(deadman_due(&deadman, 60 * SECOND, &value));
    assert_false(deadman_due(&deadman, 61 * SECOND - 1, &value));
    assert_true(deadman_due(&deadman, 61 * SECOND, &value));
    deadman_done(&deadman);
    assert_false(deadman_due(&deadman, 1000 * SECOND, &value));
}

static void test_a_forbidden_fallback_becomes_zero_at_once(void **state)
{
    struct deadman deadman = a_deadman(-20);
    double value = 1;
    (void)state;
    deadman_holds(&deadman, 50, 0);
    assert_true(deadman_due(&deadman, 60 * SECOND, &value));
    assert_true(value == -20);
    deadman_refused(&deadman, 60 * SECOND + 5);
    assert_true(deadman_due(&deadman, 60 * SECOND + 5, &value));
    assert_true(value == 0);
    deadman_refused(&deadman, 60 * SECOND + 6); /* zero cannot be forbidden: no haste */
    assert_false(deadman_due(&deadman, 60 * SECOND + 6, &value));
    deadman_done(&deadman);
    deadman_holds(&deadman, 50, 100 * SECOND); /* the next time it is asked for again */
    assert_true(deadman_due(&deadman, 160 * SECOND, &value));
    assert_true(value == -20);
}

static void test_what_may_be_held_begins_a_lease_and_renews_none(void **state)
{
    struct deadman deadman = a_deadman(0);
    double value;
    (void)state;
    deadman_may_hold(&deadman, 0, 0);
    assert_true(deadman_next_ns(&deadman) == INT64_MAX);
    deadman_may_hold(&deadman, 50, 0);
    deadman_may_hold(&deadman, 50, 30 * SECOND);
    assert_true(deadman_due(&deadman, 60 * SECOND, &value));
}

static void test_without_a_timeout_there_is_none(void **state)
{
    struct deadman deadman;
    double value;
    (void)state;
    deadman_init(&deadman, 0, 0);
    deadman_holds(&deadman, 50, 0);
    assert_false(deadman_due(&deadman, INT64_MAX - 1, &value));
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
        cmocka_unit_test(test_what_may_be_held_begins_a_lease_and_renews_none),
        cmocka_unit_test(test_without_a_timeout_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
