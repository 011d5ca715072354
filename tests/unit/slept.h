/* slept: a machine that has slept, and may again, under the real clock module.
 *
 * A program that includes this has this function instead of libc's. From its start on its two
 * monotonic clocks are a day apart, so whatever takes the one for the other is found out.
 */
#ifndef TESTS_UNIT_SLEPT_H
#define TESTS_UNIT_SLEPT_H

#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_long slept_s = 24L * 3600;

int clock_gettime(clockid_t clock, struct timespec *now)
{
    const int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_BOOTTIME)
        now->tv_sec += slept_s;
    return result;
}

#endif
