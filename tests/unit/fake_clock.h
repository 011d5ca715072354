/* fake_clock: the clock module over a time that only the test moves.
 *
 * A program that includes this has these functions instead of bridge/base/clock.c.
 * Whoever pauses or waits for a time moves the clock there at once, so a test
 * of seconds takes microseconds and is the same every time. One thread at a
 * time may wait for a time; a wait for ever is a real one.
 */
#ifndef TESTS_UNIT_FAKE_CLOCK_H
#define TESTS_UNIT_FAKE_CLOCK_H

#include <stdatomic.h>
#include <stdbool.h>

#include "bridge/base/clock.h"

/* UTC begins at the example of topics.md. */
#define FAKE_UTC_MS  INT64_C(1763791200000)
#define FAKE_MONO_NS (1000 * CLOCK_NS_PER_S)
/* The machine has slept for so long since it booted. */
#define FAKE_SLEPT_NS (400 * CLOCK_NS_PER_S)

static _Atomic int64_t fake_now_ns = FAKE_MONO_NS;
/* How far UTC was set ahead since. */
static _Atomic int64_t fake_utc_step_ms;

/* What happens by itself as time passes: called when nothing else does until
 * then, moves the clock on to what is next, does it and says so. NULL = nothing. */
static bool (*fake_happens)(int64_t until_ns);

/* What the kernel says of UTC. */
static atomic_bool fake_is_unsynchronised;

static inline void fake_clock_reset(void)
{
    fake_is_unsynchronised = false;
    fake_now_ns = FAKE_MONO_NS;
    fake_utc_step_ms = 0;
    fake_happens = NULL;
}

int64_t clock_mono_ns(void)
{
    return fake_now_ns;
}

int64_t clock_awake_ns(void)
{
    return fake_now_ns - FAKE_SLEPT_NS;
}

int64_t clock_utc_ms(void)
{
    return FAKE_UTC_MS + fake_utc_step_ms + (fake_now_ns - FAKE_MONO_NS) / CLOCK_NS_PER_MS;
}

bool clock_is_synchronised(void)
{
    return !fake_is_unsynchronised;
}

void clock_pause(int64_t pause_ns)
{
    fake_now_ns += pause_ns;
}

void clock_cond_init(pthread_cond_t *cond)
{
    pthread_cond_init(cond, NULL);
}

void clock_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ns)
{
    if (until_ns == CLOCK_NEVER)
        pthread_cond_wait(cond, mutex);
    else if (until_ns > fake_now_ns)
        fake_now_ns = until_ns;
}

void clock_cond_wait_awake(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ns)
{
    clock_cond_wait(cond, mutex, until_ns == CLOCK_NEVER ? CLOCK_NEVER : until_ns + FAKE_SLEPT_NS);
}

int clock_epoll_wait(int epoll_fd, struct epoll_event *events, int most, int64_t until_ns)
{
    int n;
    do {
        n = epoll_wait(epoll_fd, events, most, until_ns == CLOCK_NEVER ? -1 : 0);
    } while (n == 0 && fake_happens != NULL && fake_happens(until_ns));
    if (n == 0 && until_ns > fake_now_ns)
        fake_now_ns = until_ns;
    return n;
}

#endif
