#include "tests/bench/bench.h"

#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int64_t bench_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void bench_die(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

void *bench_grow(void *memory, size_t size)
{
    memory = realloc(memory, size);
    if (memory == NULL)
        bench_die("realloc");
    return memory;
}

void bench_add(struct bench_series *series, int64_t value)
{
    if (series->n == series->room) {
        series->room = series->room ? 2 * series->room : 1024;
        series->values = bench_grow(series->values, series->room * sizeof(*series->values));
    }
    series->values[series->n++] = value;
}

static int compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

void bench_print(const char *name, struct bench_series *series)
{
    const size_t n = series->n;
    printf("\"%s\":{\"n\":%zu", name, n);
    if (n > 0) {
        qsort(series->values, n, sizeof(*series->values), compare);
        printf(",\"p50\":%" PRId64 ",\"p99\":%" PRId64 ",\"max\":%" PRId64, series->values[n / 2],
               series->values[n * 99 / 100], series->values[n - 1]);
    }
    printf("}");
    series->n = 0;
}

void bench_hurry(const char *port)
{
    const int one = 1;
    for (int fd = 0; fd < 64; fd++) {
        struct sockaddr_in peer = {0};
        socklen_t size = sizeof(peer);
        if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 &&
            ntohs(peer.sin_port) == atoi(port))
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
}

void bench_read_orders(void (*obey)(void *context, const char *line), void *context)
{
    static char text[4096];
    static size_t got;
    ssize_t n = read(STDIN_FILENO, text + got, sizeof(text) - got);
    if (n <= 0)
        exit(EXIT_SUCCESS);
    got += (size_t)n;
    char *line = text;
    for (char *end; (end = memchr(line, '\n', got - (size_t)(line - text))) != NULL;
         line = end + 1) {
        *end = '\0';
        obey(context, line);
    }
    got -= (size_t)(line - text);
    memmove(text, line, got);
    fflush(stdout);
}
