#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "bridge/commands/answered.h"

static struct answered *answered;

static int setup(void **state)
{
    (void)state;
    answered = answered_new();
    return answered == NULL;
}

static int teardown(void **state)
{
    (void)state;
    answered_free(answered);
    return 0;
}

static void add(unsigned from, unsigned to, int64_t done_ns)
{
    char id[16];
    for (unsigned i = from; i < to; i++) {
        snprintf(id, sizeof(id), "id-%u", i);
        assert_true(answered_add(answered, id, id, done_ns));
    }
}

static void assert_kept(unsigned number, bool kept)
{
    char id[16];
    snprintf(id, sizeof(id), "id-%u", number);
    if (kept)
        assert_string_equal(answered_find(answered, id), id);
    else
        assert_null(answered_find(answered, id));
}

static void test_the_first_outcome_stays(void **state)
{
    (void)state;
    assert_null(answered_find(answered, "a"));
    assert_true(answered_add(answered, "a", "first", 0));
    assert_true(answered_add(answered, "a", "second", 1));
    assert_string_equal(answered_find(answered, "a"), "first");
    assert_null(answered_find(answered, "b"));
}

static void test_the_last_thousand_stay_however_old(void **state)
{
    (void)state;
    add(0, ANSWERED_LAST, 0);
    add(ANSWERED_LAST, ANSWERED_LAST + 1, 1000 * ANSWERED_NS);
    assert_kept(0, false);
    assert_kept(1, true);
    assert_kept(ANSWERED_LAST, true);
}

static void test_ten_minutes_stay_however_many(void **state)
{
    (void)state;
    add(0, 3 * ANSWERED_LAST, 0);
    add(3 * ANSWERED_LAST, 3 * ANSWERED_LAST + 1, ANSWERED_NS);
    assert_kept(0, true);
    add(3 * ANSWERED_LAST + 1, 3 * ANSWERED_LAST + 2, ANSWERED_NS + 1);
    assert_kept(0, false);
    assert_kept(2 * ANSWERED_LAST + 1, false);
    assert_kept(2 * ANSWERED_LAST + 2, true);
}

static void test_it_is_full_only_of_what_is_young(void **state)
{
    (void)state;
    add(0, ANSWERED_MOST - 1, 0);
    assert_false(answered_full(answered, 0));
    add(ANSWERED_MOST - 1, ANSWERED_MOST, 0);
    assert_true(answered_full(answered, ANSWERED_NS));
    assert_false(answered_full(answered, ANSWERED_NS + 1));
    add(ANSWERED_MOST, ANSWERED_MOST + 1, 1); /* what must be taken is, and the oldest goes */
    assert_kept(0, false);
    assert_kept(1, true);
}

/* What was read later is older: it makes nothing give way that came since, however much it is. */
static void test_what_came_since_is_younger(void **state)
{
    (void)state;
    struct answered *since = answered;
    add(0, ANSWERED_LAST, 1000 * ANSWERED_NS);
    answered = answered_new();
    assert_non_null(answered);
    assert_true(answered_add(answered, "id-7", "first", 0));
    add(ANSWERED_LAST, ANSWERED_LAST + ANSWERED_MOST, 1);
    answered_join(answered, since);
    assert_kept(0, true);
    assert_kept(ANSWERED_LAST - 1, true);
    assert_kept(ANSWERED_LAST, false);
    assert_false(answered_full(answered, 1000 * ANSWERED_NS));
}

/* The first outcome of an id stays, and is as young as the last. */
static void test_joined_with_what_is_there(void **state)
{
    (void)state;
    struct answered *since = answered;
    add(1, 2, 1000 * ANSWERED_NS);
    assert_true(answered_add(answered, "id-0", "second", 1000 * ANSWERED_NS));
    answered = answered_new();
    assert_non_null(answered);
    assert_true(answered_add(answered, "id-0", "first", 0));
    answered_join(answered, since);
    assert_string_equal(answered_find(answered, "id-0"), "first");
    assert_kept(1, true);
    add(2, 2 + ANSWERED_LAST, 1000 * ANSWERED_NS);
    assert_string_equal(answered_find(answered, "id-0"), "first");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_first_outcome_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_last_thousand_stay_however_old, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ten_minutes_stay_however_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_it_is_full_only_of_what_is_young, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_came_since_is_younger, setup, teardown),
        cmocka_unit_test_setup_teardown(test_joined_with_what_is_there, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
