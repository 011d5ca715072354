#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "devices/lines/fault.h"
#include "devices/registers/plausible.h"

static struct point a_point(void)
{
    return (struct point){.type = POINT_UINT32, .scale = 1, .low = NAN, .high = NAN};
}

/* Whether a number gets through. */
static bool passes(const struct point *point, struct plausible *memory, double number)
{
    struct value value = {.state = VALUE_READ, .number = number};
    if (fabs(number) < 1e15)
        value.raw = (uint64_t)(int64_t)number;
    plausible_check(point, memory, &value);
    if (value.state == VALUE_FAULT)
        assert_int_equal(value.fault, FAULT_IMPLAUSIBLE);
    else
        assert_true(value.number == number);
    return value.state == VALUE_READ;
}

static void test_without_rules_everything_passes(void **state)
{
    struct point point = a_point();
    struct plausible memory = {0};
    (void)state;
    assert_true(passes(&point, &memory, 5));
    assert_true(passes(&point, &memory, -1e300));
    assert_true(passes(&point, &memory, 1e300));
}

static void test_a_range_includes_its_ends(void **state)
{
    struct point point = a_point();
    struct plausible memory = {0};
    (void)state;
    point.low = 0;
    point.high = 100;
    assert_true(passes(&point, &memory, 0));
    assert_true(passes(&point, &memory, 100));
    assert_false(passes(&point, &memory, -1));
    assert_false(passes(&point, &memory, 101));
}

static void test_a_sentinel_is_register_content(void **state)
{
    struct point point = a_point();
    struct plausible memory = {0};
    (void)state;
    point.type = POINT_INT16;
    point.n_sentinels = 2;
    point.sentinels[0] = 0x8000;
    point.sentinels[1] = 0xffff;
    assert_false(passes(&point, &memory, INT16_MIN)); /* raw is sign-extended */
    assert_false(passes(&point, &memory, -1));
    assert_true(passes(&point, &memory, INT16_MAX));
    assert_true(passes(&point, &memory, 0));
}

static void test_a_dip_of_a_counter_is_held_back(void **state)
{
    struct point point = a_point();
    struct plausible memory = {0};
    (void)state;
    point.counter = true;
    assert_true(passes(&point, &memory, 1000));
    assert_false(passes(&point, &memory, 0));
    assert_false(passes(&point, &memory, 0));
    assert_true(passes(&point, &memory, 1000)); /* standing still is no fall */
    assert_false(passes(&point, &memory, 999));
    assert_true(passes(&point, &memory, 1001));
}

static void test_a_reset_that_repeats_is_believed(void **state)
{
    struct point point = a_point();
    struct plausible memory = {0};
    (void)state;
    point.counter = true;
    assert_true(passes(&point, &memory, 1000));
    for (int i = 1; i < PLAUSIBLE_REPEATS; i++)
        assert_false(passes(&point, &memory, i));
    assert_true(passes(&point, &memory, PLAUSIBLE_REPEATS));
    assert_true(passes(&point, &memory, PLAUSIBLE_REPEATS + 1));
}

static void test_falling_values_are_no_reset(void **state)
{
    struct point point = a_point();
    struct plausible memory = {0};
    (void)state;
    point.counter = true;
    assert_true(passes(&point, &memory, 1000));
    for (int i = 0; i < 10; i++)
        assert_false(passes(&point, &memory, 900 - i));
}

static void test_what_was_not_read_stays_as_it_is(void **state)
{
    struct point point = a_point();
    struct plausible memory = {0};
    struct value value = {.state = VALUE_FAULT, .fault = FAULT_TIMEOUT};
    (void)state;
    point.low = 10;
    plausible_check(&point, &memory, &value);
    assert_int_equal(value.fault, FAULT_TIMEOUT);
    value = (struct value){.state = VALUE_ABSENT};
    plausible_check(&point, &memory, &value);
    assert_int_equal(value.state, VALUE_ABSENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_rules_everything_passes),
        cmocka_unit_test(test_a_range_includes_its_ends),
        cmocka_unit_test(test_a_sentinel_is_register_content),
        cmocka_unit_test(test_a_dip_of_a_counter_is_held_back),
        cmocka_unit_test(test_a_reset_that_repeats_is_believed),
        cmocka_unit_test(test_falling_values_are_no_reset),
        cmocka_unit_test(test_what_was_not_read_stays_as_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
