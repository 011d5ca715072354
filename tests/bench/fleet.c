/* fleet: hundreds of Modbus TCP devices in one cheap process.
 *
 *     fleet DEVICES DELAY_MS
 *
 * Every device listens on a port of its own on 127.0.0.1; the first line of
 * output is {"ports":[…]}. Any unit id but 200 is answered, DELAY_MS after the
 * request (0 = at once), that one never. Registers, all readable by functions 03 and 04:
 *
 *     0..2         the time at which the answer leaves, in microseconds
 *     3            answers given by this device so far
 *     2000 … 2028  a PowerPack that is ready, with 54 % SOE; 2008 and 2010 keep
 *                  what is written to them (functions 06 and 16)
 *     all others   their own address
 *
 * Orders on stdin, each answered with one line:
 *
 *     mark             a new window of measurement begins
 *     await N          answers when N registers were written in this window
 *     report PERIOD    what was seen in this window; PERIOD (us) is the one at
 *                      which every device should have been read, 0 = none
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/bench.h"

enum { MBAP = 7, FRAME_MAX = 260, PDU_MAX = 253, READ_MAX = 125, WRITE_MAX = 123 };
enum { READ_HOLDING = 3, READ_INPUT = 4, WRITE_ONE = 6, WRITE_MANY = 16, EXCEPTION = 0x80 };
enum { SILENT_UNIT = 200 };
enum { STATUS = 2000, TARGET = 2008, SOURCE = 2010, SOE = 2026, BLOCKS = 2028 };
enum { ILLEGAL_FUNCTION = 1, ILLEGAL_VALUE = 3 };

struct device {
    int listener;
    uint16_t target, source, answers;
    struct bench_series reads; /* when each read of this window arrived */
};

struct connection {
    int fd;
    struct device *device;
    size_t got;
    uint8_t frame[FRAME_MAX];
    int64_t due_us;          /* when the request in `frame` is to be answered; 0 = none is */
    struct connection *next; /* of those that wait */
};

struct write {
    int64_t at_us;
    unsigned device;
    uint16_t address, value;
};

struct fleet {
    unsigned n_devices;
    struct device *devices;
    int64_t delay_us;
    int epoll;
    struct connection *waiting, **end;
    int64_t mark_us;
    size_t n_writes, room;
    struct write *writes;
    size_t awaited; /* writes somebody waits for; 0 = nobody does */
};

static void put16(uint8_t *at, unsigned word)
{
    at[0] = (uint8_t)(word >> 8);
    at[1] = (uint8_t)word;
}

static unsigned get16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

/* ---- the registers ---- */

static uint16_t read_register(const struct device *device, unsigned address, int64_t now_us)
{
    if (address < BENCH_TIME_REGISTERS)
        return (uint16_t)(now_us >> 16 * (BENCH_TIME_REGISTERS - 1 - address));
    switch (address) {
    case BENCH_TIME_REGISTERS:
        return device->answers;
    case STATUS:
        return 1;
    case TARGET:
        return device->target;
    case SOURCE:
        return device->source;
    case SOE:
        return 54;
    case BLOCKS:
        return 4;
    default:
        return (uint16_t)address;
    }
}

static void write_register(struct fleet *fleet, struct device *device, unsigned address,
                           uint16_t value, int64_t now_us)
{
    if (address == TARGET)
        device->target = value;
    if (address == SOURCE)
        device->source = value;
    if (fleet->n_writes == fleet->room) {
        fleet->room = fleet->room ? 2 * fleet->room : 1024;
        fleet->writes = bench_grow(fleet->writes, fleet->room * sizeof(*fleet->writes));
    }
    fleet->writes[fleet->n_writes++] = (struct write){
        .at_us = now_us,
        .device = (unsigned)(device - fleet->devices),
        .address = (uint16_t)address,
        .value = value,
    };
    if (fleet->awaited > 0 && fleet->n_writes >= fleet->awaited) {
        fleet->awaited = 0;
        puts("{}");
        fflush(stdout);
    }
}

/* ---- one request ---- */

/* Makes the answer's PDU from the request's and returns its size. */
static size_t answer(struct device *device, const uint8_t *request, size_t size, uint8_t *reply)
{
    unsigned address = size >= 5 ? get16(request + 1) : 0,
             count = size >= 5 ? get16(request + 3) : 0;
    unsigned function = request[0], wrong = 0;
    reply[0] = request[0];
    if (function == READ_HOLDING || function == READ_INPUT) {
        if (size == 5 && count >= 1 && count <= READ_MAX) {
            int64_t now_us = bench_now_us();
            device->answers++;
            reply[1] = (uint8_t)(2 * count);
            for (unsigned i = 0; i < count; i++)
                put16(reply + 2 + 2 * (size_t)i, read_register(device, address + i, now_us));
            return 2 + 2 * (size_t)count;
        }
        wrong = ILLEGAL_VALUE;
    } else if (function == WRITE_ONE || function == WRITE_MANY) {
        memcpy(reply, request, 5);
        return 5;
    } else {
        wrong = ILLEGAL_FUNCTION;
    }
    reply[0] |= EXCEPTION;
    reply[1] = (uint8_t)wrong;
    return 2;
}

/* Takes note of a request at the moment it has arrived. */
static void note(struct fleet *fleet, struct device *device, const uint8_t *request, size_t size,
                 int64_t now_us)
{
    unsigned address = size >= 5 ? get16(request + 1) : 0,
             word = size >= 5 ? get16(request + 3) : 0;
    if (request[0] == READ_HOLDING || request[0] == READ_INPUT)
        bench_add(&device->reads, now_us);
    if (request[0] == WRITE_ONE && size == 5)
        write_register(fleet, device, address, (uint16_t)word, now_us);
    for (unsigned i = 0; request[0] == WRITE_MANY && i < word && 6 + 2 * (size_t)i + 2 <= size; i++)
        write_register(fleet, device, address + i, (uint16_t)get16(request + 6 + 2 * (size_t)i),
                       now_us);
}

/* Answers the request at the front of the buffer. */
static void reply(struct connection *connection)
{
    uint8_t frame[FRAME_MAX];
    size_t size = 6 + get16(connection->frame + 4);
    memcpy(frame, connection->frame, MBAP);
    size_t pdu = answer(connection->device, connection->frame + MBAP, size - MBAP, frame + MBAP);
    put16(frame + 4, (unsigned)(1 + pdu));
    /* A master that has gone away is noticed by the next receive. */
    (void)!send(connection->fd, frame, MBAP + pdu, MSG_NOSIGNAL);
    connection->got -= size;
    memmove(connection->frame, connection->frame + size, connection->got);
    connection->due_us = 0;
}

/* Answers every whole request, or queues the first when answers take time. */
static void serve(struct fleet *fleet, struct connection *connection)
{
    while (connection->due_us == 0 && connection->got >= MBAP + 1 &&
           connection->got >= 6 + get16(connection->frame + 4)) {
        int64_t now_us = bench_now_us();
        size_t size = 6 + get16(connection->frame + 4);
        if (connection->frame[MBAP - 1] == SILENT_UNIT) {
            connection->got -= size;
            memmove(connection->frame, connection->frame + size, connection->got);
            continue;
        }
        note(fleet, connection->device, connection->frame + MBAP, size - MBAP, now_us);
        if (fleet->delay_us == 0) {
            reply(connection);
            continue;
        }
        connection->due_us = now_us + fleet->delay_us;
        connection->next = NULL;
        *fleet->end = connection;
        fleet->end = &connection->next;
    }
}

/* Answers those whose time has come; returns how long epoll may wait. */
static int serve_waiting(struct fleet *fleet)
{
    struct connection *connection;
    while ((connection = fleet->waiting) != NULL) {
        int64_t left_us = connection->due_us - bench_now_us();
        if (left_us > 0)
            return (int)(left_us / 1000) + 1;
        fleet->waiting = connection->next;
        if (fleet->waiting == NULL)
            fleet->end = &fleet->waiting;
        if (connection->fd == -1) {
            free(connection);
            continue;
        }
        reply(connection);
        serve(fleet, connection);
    }
    return -1;
}

/* ---- connections ---- */

static void watch(struct fleet *fleet, int fd, void *what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
    if (epoll_ctl(fleet->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        bench_die("epoll_ctl");
}

static void receive(struct fleet *fleet, struct connection *connection)
{
    ssize_t n = recv(connection->fd, connection->frame + connection->got,
                     sizeof(connection->frame) - connection->got, 0);
    if (n > 0) {
        connection->got += (size_t)n;
        serve(fleet, connection);
        return;
    }
    close(connection->fd);
    connection->fd = -1;
    if (connection->due_us == 0) /* else it is freed when its turn comes */
        free(connection);
}

static void welcome(struct fleet *fleet, struct device *device)
{
    const int one = 1;
    int fd = accept4(device->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd == -1)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    struct connection *connection = bench_grow(NULL, sizeof(*connection));
    *connection = (struct connection){.fd = fd, .device = device};
    watch(fleet, fd, connection);
}

static unsigned listen_anywhere(struct device *device)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    device->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (device->listener == -1 ||
        bind(device->listener, (const struct sockaddr *)&address, size) != 0 ||
        listen(device->listener, 16) != 0 ||
        getsockname(device->listener, (struct sockaddr *)&address, &size) != 0)
        bench_die("listen");
    return ntohs(address.sin_port);
}

static struct device *device_of(const struct fleet *fleet, void *what)
{
    char *at = what, *first = (char *)fleet->devices;
    return at >= first && at < (char *)(fleet->devices + fleet->n_devices) ? what : NULL;
}

/* ---- orders ---- */

/* How late each read came, measured from the earliest that this device ever
 * kept to its period, and how many reads are missing between the first and the
 * last. */
static void judge_punctuality(const struct fleet *fleet, int64_t period_us)
{
    struct bench_series late = {0};
    int64_t lost = 0;
    for (unsigned i = 0; i < fleet->n_devices; i++) {
        const struct bench_series *reads = &fleet->devices[i].reads;
        int64_t earliest = 0;
        for (size_t k = 1; k < reads->n; k++) {
            int64_t passed = (reads->values[k] - reads->values[k - 1] + period_us / 2) / period_us;
            lost += passed > 1 ? passed - 1 : 0;
        }
        for (int pass = 0; pass < 2; pass++) {
            for (size_t k = 0; k < reads->n; k++) {
                int64_t since = reads->values[k] - reads->values[0];
                int64_t off = since - (since + period_us / 2) / period_us * period_us;
                if (pass == 0)
                    earliest = off < earliest ? off : earliest;
                else
                    bench_add(&late, off - earliest);
            }
        }
    }
    printf(",\"lost_ticks\":%" PRId64 ",", lost);
    bench_print("late_us", &late);
    free(late.values);
}

static void report(const struct fleet *fleet, int64_t period_us)
{
    size_t n_reads = 0;
    for (unsigned i = 0; i < fleet->n_devices; i++)
        n_reads += fleet->devices[i].reads.n;
    printf("{\"window_us\":%" PRId64 ",\"reads\":%zu", bench_now_us() - fleet->mark_us, n_reads);
    if (period_us > 0)
        judge_punctuality(fleet, period_us);
    printf(",\"writes\":[");
    for (size_t i = 0; i < fleet->n_writes; i++) {
        const struct write *write = &fleet->writes[i];
        printf("%s[%" PRId64 ",%u,%u,%d]", i > 0 ? "," : "", write->at_us, write->device,
               write->address, (int16_t)write->value);
    }
    puts("]}");
}

static void obey(void *context, const char *line)
{
    struct fleet *fleet = context;
    if (strcmp(line, "mark") == 0) {
        for (unsigned i = 0; i < fleet->n_devices; i++)
            fleet->devices[i].reads.n = 0;
        fleet->n_writes = 0;
        fleet->mark_us = bench_now_us();
        puts("{}");
    } else if (strncmp(line, "await ", 6) == 0) {
        fleet->awaited = strtoul(line + 6, NULL, 10);
        if (fleet->n_writes >= fleet->awaited) {
            fleet->awaited = 0;
            puts("{}");
        }
    } else if (strncmp(line, "report ", 7) == 0) {
        report(fleet, strtoll(line + 7, NULL, 10));
    } else {
        fprintf(stderr, "fleet: unknown order: %s\n", line);
        exit(EXIT_FAILURE);
    }
}

static void start(struct fleet *fleet)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    fleet->end = &fleet->waiting;
    fleet->epoll = epoll_create1(EPOLL_CLOEXEC);
    fleet->devices = bench_grow(NULL, fleet->n_devices * sizeof(*fleet->devices));
    memset(fleet->devices, 0, fleet->n_devices * sizeof(*fleet->devices));
    watch(fleet, STDIN_FILENO, NULL);
    printf("{\"ports\":[");
    for (unsigned i = 0; i < fleet->n_devices; i++) {
        printf("%s%u", i > 0 ? "," : "", listen_anywhere(&fleet->devices[i]));
        watch(fleet, fleet->devices[i].listener, &fleet->devices[i]);
    }
    puts("]}");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc != 3 || atoi(argv[1]) < 1) {
        fprintf(stderr, "usage: fleet DEVICES DELAY_MS\n");
        return 2;
    }
    struct fleet fleet = {.n_devices = (unsigned)atoi(argv[1]),
                          .delay_us = (int64_t)atoi(argv[2]) * 1000};
    start(&fleet);
    for (;;) {
        struct epoll_event events[64];
        int n = epoll_wait(fleet.epoll, events, 64, serve_waiting(&fleet));
        for (int i = 0; i < n; i++) {
            void *what = events[i].data.ptr;
            if (what == NULL)
                bench_read_orders(obey, &fleet);
            else if (device_of(&fleet, what))
                welcome(&fleet, what);
            else
                receive(&fleet, what);
        }
    }
}
