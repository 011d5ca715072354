/* refusals: each topic that the broker refuses is said once, and so is its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/publish/refusals.h"
#include "logged.h"

static struct logged logged;

static int setup(void **state)
{
    struct refusals *refusals = calloc(1, sizeof(*refusals));
    refusals_init(refusals);
    *state = refusals;
    return logged_begin(&logged) ? 0 : -1;
}

static int teardown(void **state)
{
    logged_free(&logged);
    refusals_destroy(*state);
    free(*state);
    return 0;
}

/* Says what is to be said, which is this line, or nothing. */
static void expect(struct refusals *refusals, const char *what, const char *topic)
{
    refusals_say(refusals);
    fprintf(stderr, "end\n");
    assert_true(logged_next(&logged));
    if (what != NULL) {
        assert_non_null(strstr(logged.line, what));
        assert_non_null(strstr(logged.line, topic));
        assert_true(logged_next(&logged));
    }
    assert_string_equal(logged.line, "end\n");
}

static void test_a_refusal_and_its_end_are_said_once(void **state)
{
    struct refusals *refusals = *state;
    expect(refusals, NULL, NULL);
    refusals_put(refusals, "a/b", "not authorized");
    expect(refusals, "refuses a topic: not authorized", "topic=a/b\n");
    refusals_put(refusals, "a/b", "not authorized");
    expect(refusals, NULL, NULL);
    refusals_end(refusals, "a/c"); /* was never refused */
    expect(refusals, NULL, NULL);
    refusals_end(refusals, "a/b");
    expect(refusals, "takes the subscription now", "topic=a/b\n");
    expect(refusals, NULL, NULL);
    refusals_put(refusals, "a/b", "quota exceeded"); /* it was forgotten */
    expect(refusals, "refuses a topic: quota exceeded", "topic=a/b\n");
}

/* What was said of others stays said. */
static void test_the_end_of_one_is_not_that_of_another(void **state)
{
    struct refusals *refusals = *state;
    refusals_put(refusals, "a", "no");
    refusals_put(refusals, "b", "no");
    refusals_say(refusals);
    assert_true(logged_find(&logged, "refuses", "topic=b\n"));
    refusals_end(refusals, "a");
    expect(refusals, "takes the subscription now", "topic=a\n");
    refusals_put(refusals, "b", "no");
    expect(refusals, NULL, NULL);
    refusals_end(refusals, "b");
    expect(refusals, "takes the subscription now", "topic=b\n");
}

/* Over before anybody looked: both are said. */
static void test_one_that_is_over_already(void **state)
{
    struct refusals *refusals = *state;
    refusals_put(refusals, "a/b", "server busy");
    refusals_end(refusals, "a/b");
    refusals_say(refusals);
    refusals_say(refusals);
    assert_true(logged_find(&logged, "refuses", "a/b"));
    assert_true(logged_find(&logged, "takes", "a/b"));
    expect(refusals, NULL, NULL);
}

static void test_more_than_there_is_room_for(void **state)
{
    struct refusals *refusals = *state;
    char topic[16];
    for (int i = 0; i < REFUSALS_MAX + 3; i++) {
        snprintf(topic, sizeof(topic), "t/%d", i);
        refusals_put(refusals, topic, "no");
    }
    refusals_say(refusals);
    for (int i = 0; i < REFUSALS_MAX; i++) {
        snprintf(topic, sizeof(topic), "topic=t/%d\n", i);
        assert_true(logged_next(&logged));
        assert_non_null(strstr(logged.line, topic));
    }
    expect(refusals, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_refusal_and_its_end_are_said_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_end_of_one_is_not_that_of_another, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_one_that_is_over_already, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_than_there_is_room_for, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
