/* halt: the thread stands still from when it is there until it is released. How long it is
 * waited for goes by the clock of the machine awake, which here is a day behind the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/base/halt.h"
#include "tests/unit/slept.h"

static struct halt halt;
static atomic_bool ending;
static uint64_t rounds; /* written by the thread; by nobody else while it is halted */

static void *run(void *argument)
{
    while (!atomic_load(&ending)) {
        rounds++;
        halt_here(&halt);
    }
    return argument;
}

static void test_it_stands_still(void **state)
{
    (void)state;
    pthread_t thread;
    halt_init(&halt);
    assert_int_equal(pthread_create(&thread, NULL, run, NULL), 0);
    for (unsigned i = 0; i < 1000; i++) {
        halt_ask(&halt);
        assert_true(halt_wait(&halt, clock_awake_ns() + 3600 * CLOCK_NS_PER_S));
        rounds = 0; /* TSan would tell */
        halt_release(&halt);
    }
    for (unsigned i = 0; i < 1000; i++) { /* asked again at once, it comes round once more */
        halt_ask(&halt);
        assert_true(halt_wait(&halt, CLOCK_NEVER));
        rounds = 0;
        halt_release(&halt);
        halt_ask(&halt);
        assert_true(halt_wait(&halt, CLOCK_NEVER));
        assert_true(rounds > 0);
        halt_release(&halt);
    }
    halt_ask(&halt);
    assert_true(halt_wait(&halt, CLOCK_NEVER));
    const uint64_t before = rounds;
    assert_true(halt_wait(&halt, CLOCK_NEVER)); /* it is still there */
    assert_int_equal(rounds, before);
    atomic_store(&ending, true);
    halt_release(&halt);
    assert_int_equal(pthread_join(thread, NULL), 0);
    halt_destroy(&halt);
}

static void test_nobody_comes(void **state)
{
    (void)state;
    halt_init(&halt);
    halt_ask(&halt);
    assert_true(halt_is_asked(&halt));
    assert_false(halt_wait(&halt, clock_awake_ns()));
    halt_release(&halt);
    halt_here(&halt); /* at once */
    halt_destroy(&halt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_stands_still),
        cmocka_unit_test(test_nobody_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
