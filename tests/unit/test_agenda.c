/* agenda: the first of many, whatever is set in whatever order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/telemetry/agenda.h"

static void test_the_first_is_the_one_that_a_look_at_all_would_find(void **state)
{
    (void)state;
    unsigned seed = 1;
    for (unsigned n = 1; n <= 67; n += 11) {
        int64_t due_ns[67], first_ns;
        struct agenda *agenda = agenda_new(n);
        assert_non_null(agenda);
        for (unsigned i = 0; i < n; i++)
            due_ns[i] = INT64_MAX;
        for (unsigned turn = 0; turn < 2000; turn++) {
            seed = seed * 1103515245U + 12345U;
            unsigned index = (seed >> 16) % n, expected = 0;
            due_ns[index] = (int64_t)((seed >> 8) % 50); /* often the same time */
            agenda_set(agenda, index, due_ns[index]);
            for (unsigned i = 1; i < n; i++)
                expected = due_ns[i] < due_ns[expected] ? i : expected;
            assert_int_equal(agenda_first(agenda, &first_ns), expected);
            assert_int_equal(first_ns, due_ns[expected]);
        }
        agenda_free(agenda);
    }
}

static void test_none_is_due_before_it_is_set(void **state)
{
    (void)state;
    int64_t first_ns = 0;
    struct agenda *agenda = agenda_new(5);
    assert_non_null(agenda);
    assert_int_equal(agenda_first(agenda, &first_ns), 0);
    assert_true(first_ns == INT64_MAX);
    agenda_set(agenda, 4, 7);
    assert_int_equal(agenda_first(agenda, &first_ns), 4);
    agenda_free(agenda);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_is_the_one_that_a_look_at_all_would_find),
        cmocka_unit_test(test_none_is_due_before_it_is_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
