/* clock: the clocks. Everything that waits or measures uses the monotonic
 * one; UTC only names moments to the outside. Rules take time as an argument
 * and never call this module. Any thread.
 *
 * The monotonic clock goes on while the machine is suspended (CLOCK_BOOTTIME):
 * a lease ends when its time is over, whoever slept. The kernel's own waits do
 * stop meanwhile, so no wait here lasts longer than CLOCK_NAP_NS: after a
 * suspend nobody is later than that. Whoever waits looks at the time again.
 *
 * But a disk, a broker or a thread has not been silent while nobody could have
 * spoken: what is made of silence, and what threads promise, counts the time that
 * the machine was awake (CLOCK_MONOTONIC). The two differ by all that it has slept
 * since it booted, so none is ever compared with the other. */
#ifndef BRIDGE_BASE_CLOCK_H
#define BRIDGE_BASE_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#define CLOCK_NS_PER_S  INT64_C(1000000000)
#define CLOCK_NS_PER_MS INT64_C(1000000)
#define CLOCK_NEVER     INT64_MAX
#define CLOCK_NAP_NS    CLOCK_NS_PER_S

int64_t clock_mono_ns(void);
int64_t clock_awake_ns(void);
int64_t clock_utc_ms(void);

/* How far UTC has jumped since it was last looked at: 0 for less than half a
 * second, which slewing may do. Pure; `*ahead_ms` is UTC less the monotonic
 * clock, kept by the caller from look to look. */
int64_t clock_jump_ms(int64_t *ahead_ms, int64_t utc_ms, int64_t mono_ns);

/* Whether the kernel calls UTC synchronised: false when it does not say. Asks, changes
 * nothing. */
bool clock_is_synchronised(void);

/* Does nothing for so long. */
void clock_pause(int64_t pause_ns);

/* A condition variable that waits on the monotonic clock, and the wait:
 * returns when signalled, when `until_ns` has passed, or after a nap
 * (CLOCK_NEVER: only when signalled). Look at the condition and the time again. */
void clock_cond_init(pthread_cond_t *cond);
void clock_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ns);
/* The same on the clock of the machine awake: without naps. */
void clock_cond_wait_awake(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ns);

/* epoll_wait(2) until then, or for a nap. */
int clock_epoll_wait(int epoll_fd, struct epoll_event *events, int most, int64_t until_ns);

#endif
