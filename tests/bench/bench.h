/* bench: what the programs of the benchmark share.
 *
 * All times are microseconds of CLOCK_MONOTONIC, which is one clock for all
 * processes of a machine: a time taken in the fleet can be compared with one
 * taken in the sink.
 */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Every polled device has this many registers, from address 0 on, in one read.
 * The first ones hold the time of the answer, high word first. */
enum { BENCH_REGISTERS = 20, BENCH_TIME_REGISTERS = 3 };

int64_t bench_now_us(void);

/* Says why, with errno, and ends the program. */
_Noreturn void bench_die(const char *what);

/* realloc() that does not fail. */
void *bench_grow(void *memory, size_t size);

/* Numbers to be told as a distribution. */
struct bench_series {
    size_t n, room;
    int64_t *values;
};

void bench_add(struct bench_series *series, int64_t value);
/* Prints "name":{"n":…,"p50":…,"p99":…,"max":…} and empties the series. */
void bench_print(const char *name, struct bench_series *series);

/* The library's socket to that port sends at once from now on, without Nagle's algorithm. To
 * be called when few files are open yet: the library does not tell which one it is. */
void bench_hurry(const char *port);

/* The programs are told what to do by lines on stdin and answer each with one
 * line of JSON. To be called when stdin is readable: hands every whole line to
 * `obey` and ends the program when stdin is at its end. */
void bench_read_orders(void (*obey)(void *context, const char *line), void *context);

#endif
