#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/base/backoff.h"
#include "bridge/base/clock.h"

#define S CLOCK_NS_PER_S

static void assert_pause(struct backoff *backoff, int64_t now_ns, int64_t expected_ns)
{
    int64_t pause_ns = backoff_down(backoff, now_ns) - now_ns;
    assert_in_range(pause_ns, expected_ns - expected_ns / 5, expected_ns + expected_ns / 5);
}

static void test_doubles_up_to_its_maximum(void **state)
{
    (void)state;
    struct backoff backoff;
    backoff_init(&backoff, 1 * S, 60 * S, 30 * S, 7);
    const int64_t expected_s[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};
    for (size_t i = 0; i < sizeof(expected_s) / sizeof(expected_s[0]); i++)
        assert_pause(&backoff, 1000 * S, expected_s[i] * S);
}

static void test_starts_over_after_a_settled_connection_only(void **state)
{
    (void)state;
    struct backoff backoff;
    backoff_init(&backoff, 1 * S, 60 * S, 30 * S, 7);
    assert_pause(&backoff, 100 * S, 1 * S);
    assert_pause(&backoff, 102 * S, 2 * S);
    backoff_up(&backoff, 105 * S);
    assert_pause(&backoff, 135 * S - 1, 4 * S); /* up for just less than settle_ns */
    backoff_up(&backoff, 200 * S);
    assert_pause(&backoff, 230 * S, 1 * S);
    /* That it was up once does not count for the failures after it. */
    assert_pause(&backoff, 900 * S, 2 * S);
}

static void test_starts_over_when_told(void **state)
{
    (void)state;
    struct backoff backoff;
    backoff_init(&backoff, 1 * S, 60 * S, 30 * S, 7);
    assert_pause(&backoff, 0, 1 * S);
    assert_pause(&backoff, 0, 2 * S);
    backoff_reset(&backoff);
    assert_pause(&backoff, 0, 1 * S);
    assert_pause(&backoff, 0, 2 * S);
}

static void test_jitter_uses_the_whole_fifth_and_differs_by_seed(void **state)
{
    (void)state;
    int64_t least = INT64_MAX, most = 0, sum = 0;
    enum { SEEDS = 1000 };
    for (uint32_t seed = 0; seed < SEEDS; seed++) {
        struct backoff backoff;
        backoff_init(&backoff, 10 * S, 60 * S, 30 * S, seed * 2654435761u);
        int64_t pause_ns = backoff_down(&backoff, 0);
        least = pause_ns < least ? pause_ns : least;
        most = pause_ns > most ? pause_ns : most;
        sum += pause_ns;
    }
    assert_in_range(least, 8 * S, 8 * S + S / 10);
    assert_in_range(most, 12 * S - S / 10, 12 * S);
    assert_in_range(sum / SEEDS, 10 * S - S / 5, 10 * S + S / 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_doubles_up_to_its_maximum),
        cmocka_unit_test(test_starts_over_after_a_settled_connection_only),
        cmocka_unit_test(test_starts_over_when_told),
        cmocka_unit_test(test_jitter_uses_the_whole_fifth_and_differs_by_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
