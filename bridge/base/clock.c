#include "bridge/base/clock.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/timex.h>
#include <time.h>

static int64_t clock_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * CLOCK_NS_PER_S + now.tv_nsec;
}

int64_t clock_mono_ns(void)
{
    return clock_ns(CLOCK_BOOTTIME);
}

int64_t clock_awake_ns(void)
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

bool clock_is_synchronised(void)
{
    struct timex kernel = {.modes = 0};
    return adjtimex(&kernel) != -1 && (kernel.status & STA_UNSYNC) == 0;
}

void clock_pause(int64_t pause_ns)
{
    struct timespec left = {.tv_sec = (time_t)(pause_ns / CLOCK_NS_PER_S),
                            .tv_nsec = (long)(pause_ns % CLOCK_NS_PER_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
    }
}

/* How long to wait for it now: see CLOCK_NAP_NS. */
static int64_t clock_left_ns(int64_t until_ns)
{
    int64_t left_ns = until_ns - clock_mono_ns();
    if (left_ns < 0)
        return 0;
    return left_ns < CLOCK_NAP_NS ? left_ns : CLOCK_NAP_NS;
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

void clock_cond_wait_awake(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ns)
{
    const struct timespec until = {.tv_sec = (time_t)(until_ns / CLOCK_NS_PER_S),
                                   .tv_nsec = (long)(until_ns % CLOCK_NS_PER_S)};
    if (until_ns == CLOCK_NEVER)
        pthread_cond_wait(cond, mutex);
    else
        pthread_cond_timedwait(cond, mutex, &until);
}

/* Conditions know no CLOCK_BOOTTIME. */
void clock_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ns)
{
    clock_cond_wait_awake(cond, mutex,
                          until_ns == CLOCK_NEVER ? CLOCK_NEVER
                                                  : clock_awake_ns() + clock_left_ns(until_ns));
}

int clock_epoll_wait(int epoll_fd, struct epoll_event *events, int most, int64_t until_ns)
{
    if (until_ns == CLOCK_NEVER)
        return epoll_wait(epoll_fd, events, most, -1);
    int64_t left_ns = clock_left_ns(until_ns);
    const struct timespec left = {.tv_sec = (time_t)(left_ns / CLOCK_NS_PER_S),
                                  .tv_nsec = (long)(left_ns % CLOCK_NS_PER_S)};
    int n = epoll_pwait2(epoll_fd, events, most, &left, NULL);
    if (n == -1 && errno == ENOSYS) { /* as under emulators: to the millisecond, then */
        int64_t left_ms = (left_ns + CLOCK_NS_PER_MS - 1) / CLOCK_NS_PER_MS;
        n = epoll_wait(epoll_fd, events, most, left_ms < INT_MAX ? (int)left_ms : INT_MAX);
    }
    return n;
}
