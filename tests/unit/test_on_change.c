#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/telemetry/on_change.h"
#include "devices/lines/fault.h"

#define S CLOCK_NS_PER_S

enum { POWER, ENERGY, POINTS };

struct fixture {
    struct point points[POINTS];
    struct device device;
    struct value values[POINTS];
    struct on_change *change;
};

static void begin(struct fixture *f, int64_t longest_silence_ns)
{
    *f = (struct fixture){.points = {[POWER] = {.deadband = 5}, [ENERGY] = {.deadband = 0}},
                          .values = {[POWER] = {.state = VALUE_READ, .number = 100},
                                     [ENERGY] = {.state = VALUE_READ, .number = 7}}};
    f->device = (struct device){
        .n_points = POINTS, .points = f->points, .longest_silence_ns = longest_silence_ns};
    f->change = on_change_new(&f->device);
    assert_non_null(f->change);
}

static bool is_news(struct fixture *f, int64_t now_ns)
{
    return on_change_is_news(f->change, f->values, now_ns);
}

static void test_every_scan_is_news_when_off(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 0);
    for (int i = 0; i < 3; i++)
        assert_true(is_news(&f, i));
    on_change_free(f.change);
}

static void test_a_move_within_the_deadband_is_none(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 60 * S);
    assert_true(is_news(&f, 0)); /* the first always */
    assert_false(is_news(&f, 1));
    f.values[POWER].number = 105; /* just not beyond */
    assert_false(is_news(&f, 2));
    f.values[POWER].number = 105.001;
    assert_true(is_news(&f, 3));
    f.values[POWER].number = 100.002; /* from what was published, and not from before it */
    assert_false(is_news(&f, 4));
    f.values[POWER].number = 100;
    assert_true(is_news(&f, 5));
    on_change_free(f.change);
}

static void test_small_steps_add_up(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 60 * S);
    assert_true(is_news(&f, 0));
    for (int i = 1; i <= 5; i++) {
        f.values[POWER].number = 100 - i;
        assert_false(is_news(&f, i));
    }
    f.values[POWER].number = 94;
    assert_true(is_news(&f, 6));
    on_change_free(f.change);
}

static void test_without_a_deadband_any_change_is_news(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 60 * S);
    assert_true(is_news(&f, 0));
    f.values[ENERGY].number = nextafter(7, 8);
    assert_true(is_news(&f, 1));
    assert_false(is_news(&f, 2));
    on_change_free(f.change);
}

static void test_the_longest_silence_ends_it(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 60 * S);
    assert_true(is_news(&f, 10 * S));
    assert_false(is_news(&f, 70 * S - 1));
    assert_true(is_news(&f, 70 * S));
    assert_false(is_news(&f, 130 * S - 1)); /* counted from the last one published */
    f.values[ENERGY].number = 8;
    assert_true(is_news(&f, 130 * S - 1));
    assert_false(is_news(&f, 130 * S));
    on_change_free(f.change);
}

static void test_a_value_lost_or_found_or_wrong_otherwise_is_news(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 60 * S);
    assert_true(is_news(&f, 0));
    f.values[ENERGY] = (struct value){.state = VALUE_FAULT, .fault = FAULT_TIMEOUT};
    assert_true(is_news(&f, 1));
    assert_false(is_news(&f, 2));
    f.values[ENERGY].fault = FAULT_CONNECTION;
    assert_true(is_news(&f, 3));
    f.values[ENERGY] = (struct value){.state = VALUE_READ, .number = 7};
    assert_true(is_news(&f, 4));
    on_change_free(f.change);
}

static void test_what_was_not_due_is_no_change_and_is_remembered(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 60 * S);
    assert_true(is_news(&f, 0));
    f.values[ENERGY] = (struct value){.state = VALUE_ABSENT};
    assert_false(is_news(&f, 1));
    f.values[POWER].number = 200;
    assert_true(is_news(&f, 2));
    f.values[ENERGY] = (struct value){.state = VALUE_READ, .number = 7};
    assert_false(is_news(&f, 3));
    f.values[ENERGY].number = 8;
    assert_true(is_news(&f, 4));
    on_change_free(f.change);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_scan_is_news_when_off),
        cmocka_unit_test(test_a_move_within_the_deadband_is_none),
        cmocka_unit_test(test_small_steps_add_up),
        cmocka_unit_test(test_without_a_deadband_any_change_is_news),
        cmocka_unit_test(test_the_longest_silence_ends_it),
        cmocka_unit_test(test_a_value_lost_or_found_or_wrong_otherwise_is_news),
        cmocka_unit_test(test_what_was_not_due_is_no_change_and_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
