#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/base/clock.h"

static void test_a_jump_is_more_than_slewing(void **state)
{
    int64_t ahead_ms = 1000000;
    (void)state;
    assert_int_equal(clock_jump_ms(&ahead_ms, 1000000, 0), 0);
    assert_int_equal(clock_jump_ms(&ahead_ms, 1005000, 5 * CLOCK_NS_PER_S), 0);
    assert_int_equal(clock_jump_ms(&ahead_ms, 1010499, 10 * CLOCK_NS_PER_S), 0);
    assert_int_equal(clock_jump_ms(&ahead_ms, 1010000, 10 * CLOCK_NS_PER_S), 0); /* slewed back */
    assert_int_equal(clock_jump_ms(&ahead_ms, 1010500, 10 * CLOCK_NS_PER_S), 500);
    assert_int_equal(clock_jump_ms(&ahead_ms, 1010500, 10 * CLOCK_NS_PER_S), 0); /* once */
    assert_int_equal(clock_jump_ms(&ahead_ms, 10500, 10 * CLOCK_NS_PER_S), -1000000);
}

static void test_both_clocks_go_forward(void **state)
{
    int64_t mono_ns = clock_mono_ns();
    int64_t utc_ms = clock_utc_ms();
    (void)state;
    clock_pause(2 * CLOCK_NS_PER_MS);
    assert_true(clock_mono_ns() - mono_ns >= 2 * CLOCK_NS_PER_MS);
    assert_true(clock_utc_ms() > utc_ms);
}

static void test_a_wait_ends_at_its_time(void **state)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond;
    int64_t until_ns = clock_mono_ns() + 2 * CLOCK_NS_PER_MS;
    (void)state;
    clock_cond_init(&cond);
    pthread_mutex_lock(&mutex);
    while (clock_mono_ns() < until_ns)
        clock_cond_wait(&cond, &mutex, until_ns);
    clock_cond_wait(&cond, &mutex, 0); /* a time that has passed */
    pthread_mutex_unlock(&mutex);
    pthread_cond_destroy(&cond);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_jump_is_more_than_slewing),
        cmocka_unit_test(test_both_clocks_go_forward),
        cmocka_unit_test(test_a_wait_ends_at_its_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
