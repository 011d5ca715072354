/* Whether a line without numbers is in step: every rule, by a clock of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "devices/lines/step.h"

enum { READ = 3, OTHER = 4, UNIT = 7, COUNT = 20 };

#define MS INT64_C(1000000)

static const int64_t TIMEOUT_NS = 200 * MS;

/* Asked at 0, and given up after its timeout. */
static struct step missed(void)
{
    struct step step = {0};
    step_ask(&step, UNIT, READ, COUNT, 0, TIMEOUT_NS);
    step_miss(&step, UNIT, READ, TIMEOUT_NS);
    return step;
}

/* The same of one that is known to answer nothing else: its silence counts. */
static struct step missed_by_one_that_answers_nothing_else(void)
{
    struct step step = missed();
    step.units[UNIT].mute = 2;
    return step;
}

static void answered(struct step *step, uint8_t function, int64_t now_ns)
{
    step_ask(step, UNIT, function, COUNT, now_ns, TIMEOUT_NS);
    step_answer(step, UNIT, function, now_ns);
}

/* Asks what is to be asked instead of READ; its function. */
static struct step_probe probed(struct step *step, int64_t now_ns)
{
    struct step_probe probe = step_probe(step, UNIT, READ, COUNT);
    assert_int_not_equal(probe.function, 0);
    step_ask_probe(step, UNIT, probe, now_ns, TIMEOUT_NS);
    return probe;
}

static void assert_probe(struct step *step, uint8_t function, uint8_t other, unsigned count)
{
    struct step_probe probe = step_probe(step, UNIT, function, COUNT);
    assert_int_equal(probe.function, other);
    assert_int_equal(probe.count, count);
    assert_int_equal(probe.by_length, other == function && other != 0);
}

/* In the manner of a unit that refuses to give another number of registers, and whose
 * silence counts from there. */
static void refused(struct step *step, int64_t now_ns)
{
    struct step_probe probe = {.function = READ, .by_length = true, .count = COUNT - 1};
    step_ask_probe(step, UNIT, probe, now_ns, TIMEOUT_NS);
    step_refuse_length(step, UNIT, READ, now_ns);
}

static void test_what_is_answered_is_not_owed(void **state)
{
    (void)state;
    struct step step = {0};
    assert_false(step_owes(&step, UNIT, READ, 0));
    for (int i = 0; i < 5; i++) {
        step_ask(&step, UNIT, READ, COUNT, 0, TIMEOUT_NS);
        assert_true(step_owes(&step, UNIT, READ, 1000 * MS)); /* under way */
        step_answer(&step, UNIT, READ, 0);
        assert_false(step_owes(&step, UNIT, READ, 0));
    }
}

/* Of a unit that says nothing, silence proves nothing, but after a minute. */
static void test_a_missing_answer_is_owed(void **state)
{
    (void)state;
    struct step step = missed();
    assert_true(step_until_ns(&step, UNIT) == INT64_MAX);
    assert_true(step_owes(&step, UNIT, READ, 200 * MS));
    assert_true(step_owes(&step, UNIT, READ, 60499 * MS));
    assert_false(step_owes(&step, UNIT, READ, 60500 * MS));
    assert_false(step_owes(&step, UNIT, READ, 300 * MS)); /* once over is over */
}

/* Of one that spoke, and has nothing else to be asked, it does after a while. */
static void test_the_silence_of_one_that_refuses(void **state)
{
    (void)state;
    struct step step = missed();
    refused(&step, 300 * MS);
    assert_int_equal(step_until_ns(&step, UNIT), 500 * MS);
    assert_true(step_owes(&step, UNIT, READ, 500 * MS - 1));
    assert_false(step_owes(&step, UNIT, READ, 500 * MS));
    /* From when it spoke again on, a quarter of the timeout if it owes nothing more. */
    step = missed();
    refused(&step, 500 * MS);
    step_hear(&step, UNIT, READ, 540 * MS);
    assert_true(step_owes(&step, UNIT, READ, 589 * MS));
    assert_false(step_owes(&step, UNIT, READ, 590 * MS));
    /* The next time it is asked for another length first, be it that a write is owed. */
    step_ask(&step, UNIT, 6, 0, 700 * MS, TIMEOUT_NS);
    step_miss(&step, UNIT, 6, 900 * MS);
    refused(&step, 900 * MS);
    step_ask(&step, UNIT, READ, COUNT, 900 * MS, TIMEOUT_NS);
    step_miss(&step, UNIT, READ, 1100 * MS);
    assert_true(step_until_ns(&step, UNIT) == INT64_MAX);
    assert_int_equal(step_probe(&step, UNIT, READ, COUNT).function, READ);
}

/* One that was asked in vain for a minute, and then answered what it is usually asked,
 * twice, is known for it. */
static void test_the_silence_of_one_that_answers_nothing_else(void **state)
{
    (void)state;
    struct step step = {0};
    int64_t now_ns = 0;
    for (int i = 0; i < 2; i++) {
        step_ask(&step, UNIT, READ, COUNT, now_ns, TIMEOUT_NS);
        step_miss(&step, UNIT, READ, now_ns += TIMEOUT_NS);
        for (; step_owes(&step, UNIT, READ, now_ns); now_ns += TIMEOUT_NS)
            probed(&step, now_ns);
        assert_true(now_ns >= 60 * 1000 * MS);
        answered(&step, READ, now_ns += 1000 * MS);
    }
    step_ask(&step, UNIT, READ, COUNT, now_ns, TIMEOUT_NS);
    step_miss(&step, UNIT, READ, now_ns += TIMEOUT_NS);
    assert_probe(&step, READ, 0, 0);
    assert_int_equal(step_until_ns(&step, UNIT), now_ns + 300 * MS);
    assert_true(step_owes(&step, UNIT, READ, now_ns + 299 * MS));
    assert_false(step_owes(&step, UNIT, READ, now_ns + 300 * MS));
}

/* Where a minute went by without a question, nobody knows what it would have answered. */
static void test_a_minute_unasked_shows_nothing(void **state)
{
    (void)state;
    struct step step = {0};
    int64_t now_ns = 0;
    for (int i = 0; i < 3; i++, now_ns += 61000 * MS) {
        step_ask(&step, UNIT, READ, COUNT, now_ns, TIMEOUT_NS);
        step_miss(&step, UNIT, READ, now_ns += TIMEOUT_NS);
        probed(&step, now_ns);
        probed(&step, now_ns += TIMEOUT_NS);
        answered(&step, READ, now_ns + 61000 * MS);
    }
    step_ask(&step, UNIT, READ, COUNT, now_ns, TIMEOUT_NS);
    step_miss(&step, UNIT, READ, now_ns += TIMEOUT_NS);
    assert_true(step_until_ns(&step, UNIT) == INT64_MAX);
    assert_true(step_owes(&step, UNIT, READ, now_ns + 2000 * MS));
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
    step_ask(&step, UNIT, 16, COUNT, 200 * MS, TIMEOUT_NS);
    step_miss(&step, UNIT, 16, 400 * MS);
    assert_true(step_owes(&step, UNIT, 16, 60699 * MS));
    assert_true(step_owes(&step, UNIT, READ, 60699 * MS)); /* both until the later one's end */
    assert_false(step_owes(&step, UNIT, READ, 60700 * MS));
}

/* Devices answer one request after the other. */
static void test_an_answer_to_something_later_settles_all_before(void **state)
{
    (void)state;
    struct step step = missed();
    step_ask(&step, UNIT + 1, READ, COUNT, 200 * MS, TIMEOUT_NS);
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
    step_ask(&step, UNIT, OTHER, COUNT, 0, TIMEOUT_NS);
    step_miss(&step, UNIT, OTHER, 200 * MS);
    step_ask(&step, UNIT, READ, COUNT, 200 * MS, TIMEOUT_NS);
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
    step_ask(&step, UNIT, OTHER, COUNT, 200 * MS, TIMEOUT_NS);
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
    step_ask(&step, UNIT, READ, COUNT, 0, TIMEOUT_NS);
    step_miss(&step, UNIT, READ, 10 * MS);
    refused(&step, 20 * MS);
    assert_int_equal(step_until_ns(&step, UNIT), 500 * MS);
}

static void test_what_to_ask_instead(void **state)
{
    (void)state;
    struct step step = {0};
    assert_probe(&step, OTHER, READ, 1);
    assert_probe(&step, 1, 2, 1);
    assert_probe(&step, 2, 1, 1);
    step = missed();
    assert_probe(&step, READ, OTHER, 1);
    /* Then another length; */
    probed(&step, 200 * MS);
    assert_probe(&step, READ, READ, COUNT - 1);
    /* that again, as it was asked after all that it is to settle; */
    probed(&step, 400 * MS);
    assert_probe(&step, READ, READ, COUNT - 1);
    /* else another length yet, or bits, */
    step_ask(&step, UNIT, READ, COUNT, 800 * MS, TIMEOUT_NS);
    assert_probe(&step, READ, READ, COUNT - 2);
    step_ask(&step, UNIT, READ, 1, 800 * MS, TIMEOUT_NS);
    step_ask(&step, UNIT, READ, 125, 800 * MS, TIMEOUT_NS);
    assert_probe(&step, READ, 1, 1);
    /* as long as there is something. */
    step_ask(&step, UNIT, 1, COUNT, 900 * MS, TIMEOUT_NS);
    step_ask(&step, UNIT, 2, COUNT, 900 * MS, TIMEOUT_NS);
    step_ask(&step, UNIT, READ, COUNT, 900 * MS, TIMEOUT_NS);
    assert_probe(&step, READ, 0, 0);
}

/* A length that nothing else is asked with: below them all first, and then above. */
static void test_another_length(void **state)
{
    (void)state;
    struct step step = {0};
    step_ask(&step, UNIT, READ, 3, 0, TIMEOUT_NS);
    step_answer(&step, UNIT, READ, 0);
    step_ask(&step, UNIT, READ, COUNT, 0, TIMEOUT_NS);
    static const uint8_t lengths[] = {2, 1, COUNT + 1, COUNT + 2};
    for (size_t i = 0; i < sizeof lengths; i++) {
        struct step_probe probe = {READ, true, lengths[i]};
        step_ask(&step, UNIT, READ, COUNT, 0, TIMEOUT_NS);
        step_ask_probe(&step, UNIT, (struct step_probe){OTHER, false, 1}, 0, TIMEOUT_NS);
        assert_probe(&step, READ, READ, lengths[i]);
        step_ask_probe(&step, UNIT, probe, 0, TIMEOUT_NS);
    }
    /* The answer to the last one settles the other ones as well. */
    step_answer_probe(&step, UNIT, (struct step_probe){READ, true, COUNT + 2}, 0);
    assert_false(step_owes(&step, UNIT, READ, 0));
    assert_false(step_owes(&step, UNIT, OTHER, 0));
    /* Bits by bytes. */
    step = (struct step){0};
    step_ask(&step, UNIT, 1, 20, 0, TIMEOUT_NS);
    step_ask_probe(&step, UNIT, (struct step_probe){2, false, 1}, 0, TIMEOUT_NS);
    assert_probe(&step, 1, 1, 16);
}

/* It was answered, but perhaps the first time that it was asked. */
static void test_another_length_that_was_asked_twice(void **state)
{
    (void)state;
    struct step step = missed();
    struct step_probe probe = {READ, true, COUNT - 1};
    step_ask_probe(&step, UNIT, probe, 300 * MS, TIMEOUT_NS);
    step_ask_probe(&step, UNIT, probe, 500 * MS, TIMEOUT_NS);
    step_answer_probe(&step, UNIT, probe, 510 * MS);
    assert_true(step_owes(&step, UNIT, READ, 510 * MS));
    assert_false(step_owes(&step, UNIT, OTHER, 510 * MS));
    assert_probe(&step, READ, READ, COUNT - 2);
    answered(&step, OTHER, 520 * MS);
    assert_false(step_owes(&step, UNIT, READ, 520 * MS));
}

/* Silence proves nothing of a unit that answers something else. */
static void test_a_unit_that_answers_is_waited_for(void **state)
{
    (void)state;
    struct step step = missed();
    answered(&step, OTHER, 300 * MS);
    step_ask(&step, UNIT, READ, COUNT, 400 * MS, TIMEOUT_NS);
    step_miss(&step, UNIT, READ, 600 * MS);
    refused(&step, 700 * MS);
    assert_true(step_until_ns(&step, UNIT) == INT64_MAX);
    assert_true(step_owes(&step, UNIT, READ, 60899 * MS));
    assert_false(step_owes(&step, UNIT, READ, 60900 * MS));
    /* But then it may be another device. */
    step_ask(&step, UNIT, READ, COUNT, 61000 * MS, TIMEOUT_NS);
    step_miss(&step, UNIT, READ, 61200 * MS);
    refused(&step, 61300 * MS);
    assert_int_equal(step_until_ns(&step, UNIT), 61500 * MS);
}

/* Both functions that it answers are owed, each from before the other, since somebody
 * else's answer was heard: it is asked for a third, and its silence proves nothing. */
static void test_a_strangers_answer_makes_no_silence_count(void **state)
{
    (void)state;
    struct step step = {0};
    answered(&step, READ, 50 * MS);
    answered(&step, OTHER, 60 * MS);
    step_ask(&step, UNIT, OTHER, COUNT, 100 * MS, TIMEOUT_NS);
    step_hear(&step, UNIT, READ, 101 * MS);
    step_miss(&step, UNIT, OTHER, 300 * MS);
    assert_true(step_owes(&step, UNIT, READ, 651 * MS));
    answered(&step, 1, 660 * MS);
    assert_false(step_owes(&step, UNIT, READ, 660 * MS));
    assert_false(step_owes(&step, UNIT, OTHER, 660 * MS));
}

/* Silence since the first question was given up says nothing of what was asked later. */
static void test_a_probe_is_waited_for_as_well(void **state)
{
    (void)state;
    struct step step = missed_by_one_that_answers_nothing_else();
    assert_false(step_owes(&step, UNIT, OTHER, 490 * MS));
    step_ask(&step, UNIT, OTHER, COUNT, 490 * MS, TIMEOUT_NS);
    assert_false(step_owes(&step, UNIT, READ, 500 * MS));
    assert_true(step_owes(&step, UNIT, OTHER, 989 * MS));
    assert_false(step_owes(&step, UNIT, OTHER, 990 * MS));
}

static void test_a_late_answer_may_be_followed_by_another(void **state)
{
    (void)state;
    struct step step = missed_by_one_that_answers_nothing_else();
    step_hear(&step, UNIT, READ, 440 * MS);
    assert_int_equal(step_until_ns(&step, UNIT), 500 * MS);
    step_hear(&step, UNIT, READ, 499 * MS);
    assert_true(step_owes(&step, UNIT, READ, 548 * MS));
    assert_false(step_owes(&step, UNIT, READ, 549 * MS)); /* a quarter of the timeout */
}

static void test_waits_longer_than_it_was_ever_late(void **state)
{
    (void)state;
    struct step step = missed_by_one_that_answers_nothing_else();
    assert_false(step_owes(&step, UNIT, READ, 550 * MS));
    step_hear(&step, UNIT, READ, 1200 * MS); /* a second late */
    assert_true(step_owes(&step, UNIT, READ, 2399 * MS));
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
    step.units[UNIT].mute = 2;
    step_hear(&step, UNIT, READ, 100 * MS); /* of a device that is not ours */
    assert_false(step_owes(&step, UNIT, READ, 100 * MS));
    answered(&step, READ, 0);
    step_hear(&step, UNIT, 43, 100 * MS); /* to a question that is not ours */
    for (uint8_t function = 1; function <= 6; function++)
        assert_false(step_owes(&step, UNIT, function, 100 * MS));
    step_hear(&step, UNIT, READ, 100 * MS);
    assert_true(step_owes(&step, UNIT, READ, 399 * MS));
    assert_false(step_owes(&step, UNIT, READ, 400 * MS));
}

/* A word out of place, while something else is asked, is not waited for for ever. */
static void test_an_answer_to_nothing_in_between(void **state)
{
    (void)state;
    struct step step = {0};
    step.units[UNIT].mute = 2;
    step_ask(&step, UNIT, 6, COUNT, 0, TIMEOUT_NS);
    step_hear(&step, UNIT, READ, 10 * MS);
    step_answer(&step, UNIT, 6, 20 * MS);
    assert_true(step_owes(&step, UNIT, READ, 309 * MS));
    assert_false(step_owes(&step, UNIT, READ, 310 * MS));
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
        cmocka_unit_test(test_a_missing_answer_is_owed),
        cmocka_unit_test(test_the_silence_of_one_that_refuses),
        cmocka_unit_test(test_the_silence_of_one_that_answers_nothing_else),
        cmocka_unit_test(test_a_minute_unasked_shows_nothing),
        cmocka_unit_test(test_another_unit_or_function_owes_nothing),
        cmocka_unit_test(test_an_answer_to_something_later_settles_all_before),
        cmocka_unit_test(test_an_answer_settles_nothing_behind_it),
        cmocka_unit_test(test_a_word_out_of_place_settles_nothing),
        cmocka_unit_test(test_what_is_given_up_early_is_owed_as_long),
        cmocka_unit_test(test_what_to_ask_instead),
        cmocka_unit_test(test_another_length),
        cmocka_unit_test(test_another_length_that_was_asked_twice),
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
