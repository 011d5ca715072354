/* Whether a line without numbers is in step: every rule, by a clock of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "devices/lines/step.h"

enum { READ = 3, OTHER = 4, WRITE = 6, UNIT = 7 };

#define MS INT64_C(1000000)

static const int64_t TIMEOUT_NS = 200 * MS;

/* Asked at 0, and given up after its timeout. */
static struct step missed(void)
{
    struct step step = {0};
    step_ask(&step, UNIT, TIMEOUT_NS);
    assert_false(step_owes(&step, UNIT, READ, 0));
    step_miss(&step, UNIT, READ, TIMEOUT_NS);
    return step;
}

static void test_a_missing_answer_is_owed_for_a_while(void **state)
{
    (void)state;
    struct step step = missed();
    assert_int_equal(step_until_ns(&step, UNIT), 550 * MS);
    assert_true(step_owes(&step, UNIT, READ, 200 * MS));
    assert_true(step_owes(&step, UNIT, READ, 550 * MS - 1));
    assert_false(step_owes(&step, UNIT, READ, 550 * MS));
    assert_false(step_owes(&step, UNIT, READ, 300 * MS)); /* once over is over */
}

static void test_another_unit_or_function_owes_nothing(void **state)
{
    (void)state;
    struct step step = missed();
    assert_false(step_owes(&step, UNIT + 1, READ, 200 * MS));
    assert_false(step_owes(&step, UNIT, OTHER, 200 * MS));
    assert_false(step_owes(&step, UNIT, WRITE, 200 * MS));
    step_miss(&step, UNIT, 16, 300 * MS);
    assert_true(step_owes(&step, UNIT, 16, 300 * MS));
    assert_true(step_owes(&step, UNIT, READ, 600 * MS)); /* both until the later one's end */
    assert_false(step_owes(&step, UNIT, READ, 650 * MS));
}

static void test_an_answer_to_something_later_settles_all(void **state)
{
    (void)state;
    struct step step = missed();
    step_ask(&step, UNIT + 1, TIMEOUT_NS);
    step_miss(&step, UNIT + 1, READ, 200 * MS);
    step_settle(&step, UNIT);
    assert_false(step_owes(&step, UNIT, READ, 201 * MS));
    assert_true(step_owes(&step, UNIT + 1, READ, 201 * MS));
}

static void test_a_late_answer_may_be_followed_by_another(void **state)
{
    (void)state;
    struct step step = missed();
    step_hear(&step, UNIT, READ, 480 * MS);
    assert_int_equal(step_until_ns(&step, UNIT), 550 * MS);
    step_hear(&step, UNIT, READ, 549 * MS);
    assert_true(step_owes(&step, UNIT, READ, 598 * MS));
    assert_false(step_owes(&step, UNIT, READ, 599 * MS)); /* a quarter of the timeout */
}

static void test_waits_longer_than_it_was_ever_late(void **state)
{
    (void)state;
    struct step step = missed();
    assert_false(step_owes(&step, UNIT, READ, 550 * MS));
    step_hear(&step, UNIT, READ, 1200 * MS); /* a second late */
    assert_true(step_owes(&step, UNIT, READ, 2449 * MS));
    assert_false(step_owes(&step, UNIT, READ, 2450 * MS));
    step_miss(&step, UNIT, READ, 3000 * MS);
    assert_int_equal(step_until_ns(&step, UNIT), 4250 * MS);
    /* What comes after more than a minute answers nothing that was asked. */
    step_hear(&step, UNIT, READ, 63001 * MS);
    step_miss(&step, UNIT, READ, 70000 * MS);
    assert_int_equal(step_until_ns(&step, UNIT), 71250 * MS);
}

static void test_an_answer_to_nothing(void **state)
{
    (void)state;
    struct step step = {0};
    step_hear(&step, UNIT, READ, 100 * MS); /* of a device that is not ours */
    assert_false(step_owes(&step, UNIT, READ, 100 * MS));
    step_ask(&step, UNIT, TIMEOUT_NS);
    step_hear(&step, UNIT, READ, 100 * MS);
    assert_true(step_owes(&step, UNIT, READ, 449 * MS));
    assert_false(step_owes(&step, UNIT, READ, 450 * MS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_missing_answer_is_owed_for_a_while),
        cmocka_unit_test(test_another_unit_or_function_owes_nothing),
        cmocka_unit_test(test_an_answer_to_something_later_settles_all),
        cmocka_unit_test(test_a_late_answer_may_be_followed_by_another),
        cmocka_unit_test(test_waits_longer_than_it_was_ever_late),
        cmocka_unit_test(test_an_answer_to_nothing),
    };
    return cmocka_run_group_tests_name("step", tests, NULL, NULL);
}
