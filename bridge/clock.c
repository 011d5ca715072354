#include "bridge/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

static int64_t clock_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * CLOCK_NS_PER_S + now.tv_nsec;
}

int64_t clock_mono_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t clock_utc_ms(void)
{
    return clock_ns(CLOCK_REALTIME) / CLOCK_NS_PER_MS;
}

int64_t clock_jump_ms(int64_t *ahead_ms, int64_t utc_ms, int64_t mono_ns)
{
    const int64_t slewed_ms = 500;
    int64_t now_ms = utc_ms - mono_ns / CLOCK_NS_PER_MS;
    int64_t jump_ms = now_ms - *ahead_ms;
    *ahead_ms = now_ms;
    return jump_ms > -slewed_ms && jump_ms < slewed_ms ? 0 : jump_ms;
}

void clock_pause(int64_t pause_ns)
{
    struct timespec left = {.tv_sec = (time_t)(pause_ns / CLOCK_NS_PER_S),
                            .tv_nsec = (long)(pause_ns % CLOCK_NS_PER_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
    }
}

void clock_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    /* None of these can fail with these arguments on Linux; a condition on the
     * wrong clock would sleep for years, so a platform where they do is no
     * place to go on. */
    if (pthread_condattr_init(&attributes) ||
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) ||
        pthread_cond_init(cond, &attributes))
        abort();
    pthread_condattr_destroy(&attributes);
}

void clock_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ns)
{
    if (until_ns == CLOCK_NEVER) {
        pthread_cond_wait(cond, mutex);
        return;
    }
    if (until_ns < 0)
        until_ns = 0;
    const struct timespec until = {.tv_sec = (time_t)(until_ns / CLOCK_NS_PER_S),
                                   .tv_nsec = (long)(until_ns % CLOCK_NS_PER_S)};
    pthread_cond_timedwait(cond, mutex, &until);
}
