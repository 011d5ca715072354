/* intent: a stop goes first, is replaced by nothing, and is owed until it is confirmed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/battery/intent.h"

enum { NOW = 1000, LATER = NOW + 500 };

static struct intent none(void)
{
    struct intent intent;
    intent_init(&intent);
    return intent;
}

/* One stop that was written and is not confirmed. */
static struct intent owing(uint16_t token)
{
    struct intent intent = none();
    struct intent_stops settled;
    assert_int_equal(intent_put_stop(&intent, token), INTENT_NONE);
    assert_int_equal(intent_begin(&intent, NOW), INTENT_STOP);
    assert_true(intent_write(&intent, true, &settled));
    intent_end(&intent, true, false, LATER, &settled);
    assert_int_equal(settled.n, 0);
    return intent;
}

static void test_nothing_to_do(void **state)
{
    (void)state;
    struct intent intent = none();
    assert_false(intent_stop_is_due(&intent, INT64_MAX));
    assert_int_equal(intent_begin(&intent, INT64_MAX), INTENT_NOTHING);
    assert_int_equal(intent_open_stop(&intent), INTENT_NONE);
    assert_int_equal(intent_withdraw(&intent), INTENT_NONE);
}

static void test_a_newer_setpoint_replaces_the_waiting_one(void **state)
{
    (void)state;
    struct intent intent = none();
    assert_int_equal(intent_put_setpoint(&intent, 1), INTENT_NONE);
    assert_int_equal(intent_put_setpoint(&intent, 2), 1);
    assert_int_equal(intent_begin(&intent, NOW), INTENT_SETPOINT);
    assert_int_equal(intent.current.tokens[0], 2);
    assert_int_equal(intent_put_setpoint(&intent, 3), INTENT_NONE); /* not what is under way */
    assert_true(intent_holds(&intent, 2) && intent_holds(&intent, 3));
    assert_false(intent_holds(&intent, 1));
}

static void test_a_stop_supersedes_what_waits_and_what_is_under_way(void **state)
{
    (void)state;
    struct intent intent = none();
    struct intent_stops settled;
    intent_put_setpoint(&intent, 1);
    assert_int_equal(intent_begin(&intent, NOW), INTENT_SETPOINT);
    intent_put_setpoint(&intent, 2);
    assert_int_equal(intent_put_stop(&intent, 3), 2);
    assert_true(intent.overtaken);
    assert_false(intent_write(&intent, false, &settled));
    intent_end(&intent, false, false, LATER, &settled);
    assert_int_equal(intent_begin(&intent, NOW), INTENT_STOP);
    assert_int_equal(intent.current.n, 1);
    assert_int_equal(intent.current.tokens[0], 3);
    assert_true(intent_write(&intent, true, &settled));
    intent_end(&intent, true, true, LATER, &settled);
    assert_int_equal(intent_begin(&intent, INT64_MAX), INTENT_NOTHING);
}

/* What is written is written: the stop comes behind it. */
static void test_a_written_setpoint_is_not_overtaken(void **state)
{
    (void)state;
    struct intent intent = none();
    struct intent_stops settled;
    intent_put_setpoint(&intent, 1);
    intent_begin(&intent, NOW);
    assert_true(intent_write(&intent, false, &settled));
    intent_put_stop(&intent, 2);
    assert_false(intent.overtaken);
    intent_end(&intent, false, true, LATER, &settled);
    assert_int_equal(intent_begin(&intent, NOW), INTENT_STOP);
}

static void test_nothing_replaces_a_stop(void **state)
{
    (void)state;
    struct intent intent = none();
    struct intent_stops settled;
    intent_put_stop(&intent, 1);
    assert_int_equal(intent_put_setpoint(&intent, 2), INTENT_NONE);
    assert_int_equal(intent_begin(&intent, NOW), INTENT_STOP);
    intent_end(&intent, true, true, LATER, &settled);
    assert_int_equal(intent_begin(&intent, NOW), INTENT_SETPOINT); /* accepted after it */
}

static void test_stops_that_wait_are_one_write(void **state)
{
    (void)state;
    struct intent intent = none();
    struct intent_stops settled;
    for (uint16_t token = 0; token < INTENT_STOPS_MAX; token++) {
        assert_true(intent_has_room(&intent));
        intent_put_stop(&intent, token);
        assert_int_equal(intent_open_stop(&intent), token);
    }
    assert_false(intent_has_room(&intent));
    intent_begin(&intent, NOW);
    assert_true(intent_has_room(&intent));
    assert_int_equal(intent.current.n, INTENT_STOPS_MAX);
    intent_put_stop(&intent, 9); /* comes while they are being written */
    assert_false(intent.overtaken);
    assert_true(intent_write(&intent, true, &settled));
    intent_end(&intent, true, true, LATER, &settled);
    assert_int_equal(settled.n, 0);
    assert_int_equal(intent_begin(&intent, NOW), INTENT_STOP);
    assert_int_equal(intent.current.tokens[0], 9);
}

static void test_what_is_not_confirmed_is_owed_and_tried_again(void **state)
{
    (void)state;
    struct intent intent = owing(1);
    struct intent_stops settled;
    assert_true(intent_holds(&intent, 1));
    assert_int_equal(intent_open_stop(&intent), 1);
    assert_false(intent_stop_is_due(&intent, LATER - 1));
    assert_int_equal(intent_begin(&intent, LATER - 1), INTENT_NOTHING);
    assert_int_equal(intent_begin(&intent, LATER), INTENT_STOP);
    assert_int_equal(intent.current.n, 0);
    assert_true(intent_write(&intent, true, &settled));
    intent_end(&intent, true, false, LATER + 1000, &settled); /* again in vain */
    assert_int_equal(settled.n, 0);
    assert_int_equal(intent_begin(&intent, LATER + 1000), INTENT_STOP);
    assert_true(intent_write(&intent, true, &settled));
    intent_end(&intent, true, true, 0, &settled);
    assert_int_equal(settled.n, 1);
    assert_int_equal(settled.tokens[0], 1);
    assert_false(intent.is_owed);
    assert_false(intent_holds(&intent, 1));
    assert_int_equal(intent_begin(&intent, INT64_MAX), INTENT_NOTHING);
}

static void test_the_bridges_own_zero_settles_what_is_owed(void **state)
{
    (void)state;
    struct intent intent = owing(1);
    struct intent_stops settled;
    assert_false(intent_begin_own(&intent, LATER)); /* the stop itself is due */
    assert_true(intent_begin_own(&intent, NOW));
    assert_true(intent_write(&intent, true, &settled));
    intent_end(&intent, true, true, 0, &settled);
    assert_int_equal(settled.n, 1);
    assert_false(intent.is_owed);
}

static void test_the_bridges_own_never_follows_a_stop(void **state)
{
    (void)state;
    struct intent intent = owing(1);
    struct intent_stops settled;
    assert_true(intent_begin_own(&intent, NOW));
    assert_false(intent_write(&intent, false, &settled)); /* not while a zero is owed */
    intent_end(&intent, false, false, LATER, &settled);
    assert_true(intent.is_owed);
    assert_int_equal(intent.retry_ns, LATER);

    intent = none(); /* nor when one comes while it is under way */
    assert_true(intent_begin_own(&intent, NOW));
    intent_put_stop(&intent, 2);
    assert_false(intent_write(&intent, false, &settled));
    intent_end(&intent, false, false, LATER, &settled);
    assert_int_equal(intent_begin(&intent, NOW), INTENT_STOP);
}

static void test_a_newer_setpoint_ends_what_is_owed_when_it_is_written(void **state)
{
    (void)state;
    struct intent intent = owing(1);
    struct intent_stops settled;
    intent_put_setpoint(&intent, 2);
    assert_int_equal(intent_begin(&intent, NOW), INTENT_SETPOINT);
    intent_end(&intent, false, false, LATER, &settled); /* refused: the zero is owed on */
    assert_int_equal(settled.n, 0);
    assert_true(intent.is_owed);

    intent_put_setpoint(&intent, 3);
    assert_int_equal(intent_begin(&intent, NOW), INTENT_SETPOINT);
    assert_true(intent_write(&intent, false, &settled));
    assert_int_equal(settled.n, 1);
    assert_int_equal(settled.tokens[0], 1);
    intent_end(&intent, false, true, LATER, &settled);
    assert_int_equal(intent_begin(&intent, INT64_MAX), INTENT_NOTHING);
}

/* All that can be owed is kept; of more the oldest, which had its answer, goes. */
static void test_many_that_are_owed(void **state)
{
    (void)state;
    struct intent intent = none();
    struct intent_stops settled;
    for (uint16_t token = 0; token < 3 * INTENT_STOPS_MAX; token++) {
        intent_put_stop(&intent, token);
        intent_begin(&intent, NOW);
        assert_true(intent_write(&intent, true, &settled));
        intent_end(&intent, true, false, LATER, &settled);
    }
    assert_false(intent_holds(&intent, 2 * INTENT_STOPS_MAX - 1));
    for (uint16_t i = 0; i < INTENT_STOPS_MAX; i++)
        assert_int_equal(intent.owed.tokens[i], 2 * INTENT_STOPS_MAX + i);
}

static void test_one_of_an_earlier_run_is_owed_from_the_start(void **state)
{
    (void)state;
    struct intent intent = none();
    struct intent_stops settled;
    intent_owe(&intent, INTENT_NONE, NOW);
    assert_int_equal(intent_open_stop(&intent), INTENT_NONE);
    assert_int_equal(intent_begin(&intent, NOW), INTENT_STOP);
    intent_end(&intent, true, true, 0, &settled);
    assert_int_equal(settled.n, 0);
    assert_false(intent.is_owed);

    intent_owe(&intent, 7, NOW);
    assert_int_equal(intent_open_stop(&intent), 7);
    assert_int_equal(intent_begin(&intent, NOW), INTENT_STOP);
    intent_end(&intent, true, true, 0, &settled);
    assert_int_equal(settled.n, 1);
}

static void test_what_is_postponed_is_owed_with_the_rest(void **state)
{
    (void)state;
    struct intent intent = owing(1);
    struct intent_stops stops, settled;
    intent_put_stop(&intent, 2);
    intent_put_stop(&intent, 3);
    intent_postpone(&intent, &stops);
    assert_int_equal(stops.n, 2);
    assert_false(intent_stop_is_due(&intent, LATER - 1));
    assert_int_equal(intent_begin(&intent, LATER), INTENT_STOP);
    intent_end(&intent, true, true, 0, &settled);
    assert_int_equal(settled.n, 3);
}

/* Another point's command makes room for a stop, and waits again. */
static void test_what_is_not_written_can_wait_once_more(void **state)
{
    (void)state;
    struct intent intent = none();
    struct intent_stops settled;
    intent_put_setpoint(&intent, 1);
    assert_false(intent_put_back(&intent)); /* not begun */
    intent_begin(&intent, NOW);
    assert_true(intent_put_back(&intent));
    assert_int_equal(intent_begin(&intent, NOW), INTENT_SETPOINT);
    assert_int_equal(intent.current.tokens[0], 1);
    intent_put_setpoint(&intent, 2);
    assert_false(intent_put_back(&intent)); /* a newer one has its place */
    intent_withdraw(&intent);
    assert_true(intent_write(&intent, false, &settled));
    assert_false(intent_put_back(&intent)); /* written is written */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_to_do),
        cmocka_unit_test(test_a_newer_setpoint_replaces_the_waiting_one),
        cmocka_unit_test(test_a_stop_supersedes_what_waits_and_what_is_under_way),
        cmocka_unit_test(test_a_written_setpoint_is_not_overtaken),
        cmocka_unit_test(test_nothing_replaces_a_stop),
        cmocka_unit_test(test_stops_that_wait_are_one_write),
        cmocka_unit_test(test_what_is_not_confirmed_is_owed_and_tried_again),
        cmocka_unit_test(test_the_bridges_own_zero_settles_what_is_owed),
        cmocka_unit_test(test_the_bridges_own_never_follows_a_stop),
        cmocka_unit_test(test_a_newer_setpoint_ends_what_is_owed_when_it_is_written),
        cmocka_unit_test(test_many_that_are_owed),
        cmocka_unit_test(test_one_of_an_earlier_run_is_owed_from_the_start),
        cmocka_unit_test(test_what_is_postponed_is_owed_with_the_rest),
        cmocka_unit_test(test_what_is_not_written_can_wait_once_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
