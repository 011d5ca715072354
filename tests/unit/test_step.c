/* Whether a line without numbers is in step: every rule, by a clock of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "devices/lines/step.h"

enum { READ = 3, OTHER = 4, UNIT = 7 };

#define MS INT64_C(1000000)

static const int64_t TIMEOUT_NS = 200 * MS;

/* Asked at 0, and given up after its timeout. */
static struct step missed(void)
{
    struct step step = {0};
    step_ask(&step, UNIT, READ, 0, TIMEOUT_NS);
    step_miss(&step, UNIT, READ, TIMEOUT_NS);
    return step;
}

static void answered(struct step *step, uint8_t function, int64_t now_ns)
{
    step_ask(step, UNIT, function, now_ns, TIMEOUT_NS);
    step_answer(step, UNIT, function, now_ns);
}

static void test_what_is_answered_is_not_owed(void **state)
{
    (void)state;
    struct step step = {0};
    assert_false(step_owes(&step, UNIT, READ, 0));
    for (int i = 0; i < 5; i++) {
        step_ask(&step, UNIT, READ, 0, TIMEOUT_NS);
        assert_true(step_owes(&step, UNIT, READ, 1000 * MS)); /* under way */
        step_answer(&step, UNIT, READ, 0);
        assert_false(step_owes(&step, UNIT, READ, 0));
    }
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
    for (uint8_t function = 1; function <= 16; function++) {
        if (function != READ && (function <= 6 || function >= 15))
            assert_false(step_owes(&step, UNIT, function, 200 * MS));
    }
    step_ask(&step, UNIT, 16, 200 * MS, TIMEOUT_NS);
    step_miss(&step, UNIT, 16, 400 * MS);
    assert_true(step_owes(&step, UNIT, 16, 749 * MS));
    assert_true(step_owes(&step, UNIT, READ, 749 * MS)); /* both until the later one's end */
    assert_false(step_owes(&step, UNIT, READ, 750 * MS));
}

/* Devices answer one request after the other. */
static void test_an_answer_to_something_later_settles_all_before(void **state)
{
    (void)state;
    struct step step = missed();
    step_ask(&step, UNIT + 1, READ, 200 * MS, TIMEOUT_NS);
    step_miss(&step, UNIT + 1, READ, 200 * MS);
    answered(&step, OTHER, 201 * MS);
    assert_false(step_owes(&step, UNIT, READ, 202 * MS));
    assert_true(step_owes(&step, UNIT + 1, READ, 202 * MS));
}

/* The first of two questions of a kind may be the one that is answered. */
static void test_an_answer_settles_nothing_behind_it(void **state)
{
    (void)state;
    struct step step = {0};
    step_ask(&step, UNIT, OTHER, 0, TIMEOUT_NS);
    step_miss(&step, UNIT, OTHER, 200 * MS);
    step_ask(&step, UNIT, READ, 200 * MS, TIMEOUT_NS);
    step_miss(&step, UNIT, READ, 400 * MS);
    answered(&step, OTHER, 400 * MS);
    assert_true(step_owes(&step, UNIT, READ, 410 * MS));
    assert_true(step_owes(&step, UNIT, OTHER, 410 * MS));
    answered(&step, 1, 430 * MS);
    assert_false(step_owes(&step, UNIT, READ, 430 * MS));
    assert_false(step_owes(&step, UNIT, OTHER, 430 * MS));
}

/* What comes unasked may be anything. */
static void test_a_word_out_of_place_settles_nothing(void **state)
{
    (void)state;
    struct step step = missed();
    step_ask(&step, UNIT, OTHER, 200 * MS, TIMEOUT_NS);
    step_miss(&step, UNIT, OTHER, 400 * MS);
    step_hear(&step, UNIT, OTHER, 410 * MS);
    step_hear(&step, UNIT, 1, 420 * MS);
    assert_true(step_owes(&step, UNIT, READ, 430 * MS));
    answered(&step, 1, 440 * MS); /* the one before was nobody knows what */
    assert_true(step_owes(&step, UNIT, READ, 450 * MS));
    answered(&step, 2, 460 * MS);
    assert_false(step_owes(&step, UNIT, READ, 470 * MS));
}

/* A request that is given up early, for a word that is none, may be answered as late. */
static void test_what_is_given_up_early_is_owed_as_long(void **state)
{
    (void)state;
    struct step step = {0};
    step_ask(&step, UNIT, READ, 0, TIMEOUT_NS);
    step_miss(&step, UNIT, READ, 10 * MS);
    assert_int_equal(step_until_ns(&step, UNIT), 550 * MS);
}

static void test_what_to_ask_instead(void **state)
{
    (void)state;
    struct step step = missed();
    assert_int_equal(step_probe(&step, UNIT, READ), OTHER);
    assert_int_equal(step_probe(&step, UNIT, OTHER), READ);
    assert_int_equal(step_probe(&step, UNIT, 1), 2);
    assert_int_equal(step_probe(&step, UNIT, 2), 1);
    /* Again, as long as it was asked after what it is to settle; */
    step_ask(&step, UNIT, OTHER, 200 * MS, TIMEOUT_NS);
    assert_int_equal(step_probe(&step, UNIT, READ), OTHER);
    /* else another one; */
    step_ask(&step, UNIT, READ, 300 * MS, TIMEOUT_NS);
    assert_int_equal(step_probe(&step, UNIT, READ), 1);
    /* as long as there is one. */
    step_ask(&step, UNIT, 1, 300 * MS, TIMEOUT_NS);
    step_ask(&step, UNIT, 2, 300 * MS, TIMEOUT_NS);
    step_ask(&step, UNIT, READ, 300 * MS, TIMEOUT_NS);
    assert_int_equal(step_probe(&step, UNIT, READ), 0);
}

/* Silence proves nothing of a unit that answers in the end. */
static void test_a_unit_that_answers_is_waited_for(void **state)
{
    (void)state;
    struct step step = missed();
    answered(&step, OTHER, 300 * MS);
    step_ask(&step, UNIT, READ, 400 * MS, TIMEOUT_NS);
    step_miss(&step, UNIT, READ, 600 * MS);
    assert_true(step_owes(&step, UNIT, READ, 60949 * MS));
    assert_false(step_owes(&step, UNIT, READ, 60950 * MS));
    /* But not when there is nothing to ask that it answers. */
    answered(&step, OTHER, 61000 * MS);
    step_ask(&step, UNIT, OTHER, 61000 * MS, TIMEOUT_NS);
    step_ask(&step, UNIT, READ, 61000 * MS, TIMEOUT_NS);
    step_miss(&step, UNIT, READ, 61200 * MS);
    assert_int_equal(step_probe(&step, UNIT, READ), 1);
    assert_true(step_owes(&step, UNIT, READ, 61549 * MS));
    assert_false(step_owes(&step, UNIT, READ, 61550 * MS));
}

/* Both functions that it answers are owed, each from before the other, since somebody
 * else's answer was heard: it is asked for a third, and its silence proves nothing. */
static void test_a_strangers_answer_makes_no_silence_count(void **state)
{
    (void)state;
    struct step step = {0};
    answered(&step, READ, 50 * MS);
    answered(&step, OTHER, 60 * MS);
    step_ask(&step, UNIT, OTHER, 100 * MS, TIMEOUT_NS);
    step_hear(&step, UNIT, READ, 101 * MS);
    step_miss(&step, UNIT, OTHER, 300 * MS);
    assert_true(step_owes(&step, UNIT, READ, 651 * MS));
    assert_int_equal(step_probe(&step, UNIT, READ), 1);
    answered(&step, 1, 660 * MS);
    assert_false(step_owes(&step, UNIT, READ, 660 * MS));
    assert_false(step_owes(&step, UNIT, OTHER, 660 * MS));
}

/* Silence since the first question was given up says nothing of what was asked later. */
static void test_a_probe_is_waited_for_as_well(void **state)
{
    (void)state;
    struct step step = missed();
    assert_false(step_owes(&step, UNIT, OTHER, 500 * MS));
    step_ask(&step, UNIT, OTHER, 500 * MS, TIMEOUT_NS);
    assert_false(step_owes(&step, UNIT, READ, 550 * MS));
    assert_true(step_owes(&step, UNIT, OTHER, 1049 * MS));
    assert_false(step_owes(&step, UNIT, OTHER, 1050 * MS));
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
    /* What comes long after that answers nothing that was asked. */
    step_hear(&step, UNIT, READ, 4601 * MS);
    step_miss(&step, UNIT, READ, 6000 * MS);
    assert_int_equal(step_until_ns(&step, UNIT), 7250 * MS);
}

static void test_an_answer_to_nothing(void **state)
{
    (void)state;
    struct step step = {0};
    step_hear(&step, UNIT, READ, 100 * MS); /* of a device that is not ours */
    assert_false(step_owes(&step, UNIT, READ, 100 * MS));
    answered(&step, READ, 0);
    step_hear(&step, UNIT, 43, 100 * MS); /* to a question that is not ours */
    for (uint8_t function = 1; function <= 6; function++)
        assert_false(step_owes(&step, UNIT, function, 100 * MS));
    step_hear(&step, UNIT, READ, 100 * MS);
    assert_true(step_owes(&step, UNIT, READ, 449 * MS));
    assert_false(step_owes(&step, UNIT, READ, 450 * MS));
}

/* A word out of place, while something else is asked, is not waited for for ever. */
static void test_an_answer_to_nothing_in_between(void **state)
{
    (void)state;
    struct step step = {0};
    step_ask(&step, UNIT, 6, 0, TIMEOUT_NS);
    step_hear(&step, UNIT, READ, 10 * MS);
    step_answer(&step, UNIT, 6, 20 * MS);
    assert_true(step_owes(&step, UNIT, READ, 359 * MS));
    assert_false(step_owes(&step, UNIT, READ, 360 * MS));
}

/* What looks like the answer to a write may be its echo. */
static void test_an_answer_to_a_write_settles_nothing(void **state)
{
    (void)state;
    struct step step = missed();
    answered(&step, 6, 210 * MS);
    assert_true(step_owes(&step, UNIT, READ, 220 * MS));
    assert_false(step_owes(&step, UNIT, 6, 220 * MS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_answered_is_not_owed),
        cmocka_unit_test(test_a_missing_answer_is_owed_for_a_while),
        cmocka_unit_test(test_another_unit_or_function_owes_nothing),
        cmocka_unit_test(test_an_answer_to_something_later_settles_all_before),
        cmocka_unit_test(test_an_answer_settles_nothing_behind_it),
        cmocka_unit_test(test_a_word_out_of_place_settles_nothing),
        cmocka_unit_test(test_what_is_given_up_early_is_owed_as_long),
        cmocka_unit_test(test_what_to_ask_instead),
        cmocka_unit_test(test_a_unit_that_answers_is_waited_for),
        cmocka_unit_test(test_a_strangers_answer_makes_no_silence_count),
        cmocka_unit_test(test_a_probe_is_waited_for_as_well),
        cmocka_unit_test(test_a_late_answer_may_be_followed_by_another),
        cmocka_unit_test(test_waits_longer_than_it_was_ever_late),
        cmocka_unit_test(test_an_answer_to_nothing),
        cmocka_unit_test(test_an_answer_to_nothing_in_between),
        cmocka_unit_test(test_an_answer_to_a_write_settles_nothing),
    };
    return cmocka_run_group_tests_name("step", tests, NULL, NULL);
}
