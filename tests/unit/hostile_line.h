/* hostile_line: a line on which everything goes wrong, and the devices on it.
 *
 * Time is made in here, and so is what the line carries: the calls by which a link
 * waits, sends and receives are caught before they reach the system. Nothing waits.
 *
 * What every register holds tells its own unit, address and the number of the question
 * that it was read for. */
#ifndef TESTS_UNIT_HOSTILE_LINE_H
#define TESTS_UNIT_HOSTILE_LINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "devices/lines/frame.h"
#include "devices/lines/link_new.h"

enum { UNITS = 2, EVENTS = 4096, INBOX = 1 << 16 };
#define US INT64_C(1000)
#define MS INT64_C(1000000)

static const int64_t TIMEOUT_NS = 40 * MS;
/* What any unit may be late by, and one that can be asked something else. */
static const int64_t LATE_NS = 96 * MS, VERY_LATE_NS = 1000 * MS;

/* What is read: single registers, all alike, and some that are not. */
static const struct block {
    uint16_t address, count;
    enum point_table table;
} blocks[] = {{0, 1, POINT_HOLDING},    {500, 1, POINT_HOLDING}, {1000, 1, POINT_HOLDING},
              {1500, 9, POINT_HOLDING}, {500, 1, POINT_INPUT},   {1000, 3, POINT_INPUT}};
enum { BLOCKS = sizeof blocks / sizeof *blocks };

enum mishap {
    LATE,
    VERY_LATE,
    LOST,
    UNANSWERED,
    DOUBLED,
    LATE_AND_DOUBLED,
    CUT,
    ECHOED,
    FOREIGN_UNIT,
    FOREIGN_FUNCTION,
    FOREIGN_NUMBER,
    NOISE,
    REFUSED,
    HUNG_UP,
    MISHAPS
};

struct kind {
    const char *name;
    struct device_modbus modbus;
};

/* How a device takes what is not usually asked of it. */
enum manner {
    ANSWERS,   /* as it should: with data, or with a refusal */
    ONE_TABLE, /* says nothing at all to a question for another table */
    STRICT,    /* that, and refuses to give other lengths than it was made for */
    DEAF,      /* that, and says nothing at all to them */
    MANNERS
};

struct unit {
    int64_t busy_until_ns;
    bool drops; /* what it is asked while it is busy; else it queues */
    enum manner manner;
    int64_t sleeps_after_ns; /* so long unasked, it loses what it is asked then; 0 = never */
    int64_t asked_ns;
    uint16_t setpoint;
};

/* Bytes on their way to the link; none = the connection ends, if there is one. */
struct event {
    int64_t at_ns;
    uint64_t order;
    size_t size;
    uint8_t bytes[FRAME_MAX];
};

static struct world {
    const struct kind *kind;
    bool caught; /* calls are */
    int fd;
    int64_t now_ns;
    uint64_t dice;
    unsigned question; /* the number of the one at hand */
    bool calm;         /* nothing goes wrong from now on, */
    bool once;         /* but this, once */
    enum mishap then;
    struct unit devices[UNITS];
    struct event events[EVENTS];
    unsigned n_events;
    uint64_t order;
    uint8_t inbox[INBOX];
    size_t n_inbox;
    bool ended;
    unsigned happened[MISHAPS];
} world;

/* SplitMix64 (public domain, Sebastiano Vigna). */
static uint64_t roll(void)
{
    uint64_t z = world.dice += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static int64_t between(int64_t low, int64_t high)
{
    return low + (int64_t)(roll() % (uint64_t)(high - low + 1));
}

/* ---- the line ---- */

static void put_event(int64_t at_ns, const uint8_t *bytes, size_t size)
{
    if (world.n_events == EVENTS)
        abort();
    struct event *event = &world.events[world.n_events++];
    *event = (struct event){.at_ns = at_ns, .order = world.order++, .size = size};
    memcpy(event->bytes, bytes, size);
}

/* The first event, or NULL. */
static struct event *next_event(void)
{
    struct event *first = NULL;
    for (struct event *event = world.events; event < world.events + world.n_events; event++) {
        if (first == NULL || event->at_ns < first->at_ns ||
            (event->at_ns == first->at_ns && event->order < first->order))
            first = event;
    }
    return first;
}

/* What is due by now arrives. */
static void deliver(void)
{
    if (world.kind->modbus.transport == DEVICE_DATAGRAM && world.n_inbox > 0)
        return;
    for (struct event *event; (event = next_event()) != NULL && event->at_ns <= world.now_ns;) {
        if (event->size == 0)
            world.ended = world.kind->modbus.transport == DEVICE_STREAM;
        else if (!world.ended && world.n_inbox + event->size <= INBOX) {
            memcpy(world.inbox + world.n_inbox, event->bytes, event->size);
            world.n_inbox += event->size;
        }
        *event = world.events[--world.n_events];
        if (world.kind->modbus.transport == DEVICE_DATAGRAM)
            break; /* one at a time */
    }
}

/* ---- the devices ---- */

static uint16_t value_of(unsigned unit, unsigned table, unsigned address, unsigned question)
{
    unsigned mark = unit * 31 + table * 7 + address / 500 + address % 500;
    return (uint16_t)((mark & 63) << 10 | (question & 1023));
}

static void say(int64_t at_ns, uint16_t id, uint8_t unit, const uint8_t *pdu, size_t size,
                size_t cut)
{
    struct frame frame = {.id = id, .unit = unit, .size = size};
    uint8_t bytes[FRAME_MAX];
    memcpy(frame.pdu, pdu, size);
    size_t n = frame_put((enum device_framing)world.kind->modbus.framing, &frame, bytes);
    put_event(at_ns, bytes, cut > 0 ? 1 + cut % (n - 1) : n);
}

static bool is_usual_length(unsigned count)
{
    bool usual = false;
    for (unsigned i = 0; i < BLOCKS; i++)
        usual = usual || blocks[i].count == count;
    return usual;
}

static size_t refuse(uint8_t function, uint8_t why, uint8_t *reply)
{
    reply[0] = function | 0x80;
    reply[1] = why;
    return 2;
}

/* The answer to a request; 0 = none. */
static size_t answer(struct unit *device, const struct frame *asked, uint8_t *reply)
{
    unsigned address = link_get16(asked->pdu + 1), count = link_get16(asked->pdu + 3);
    if (asked->pdu[0] == 6) {
        device->setpoint = (uint16_t)count;
        memcpy(reply, asked->pdu, 5);
        return 5;
    }
    if (device->manner != ANSWERS && asked->pdu[0] != POINT_HOLDING)
        return 0;
    if (asked->pdu[0] < POINT_HOLDING)
        return refuse(asked->pdu[0], 1, reply);
    if (device->manner >= STRICT && !is_usual_length(count))
        return device->manner == STRICT ? refuse(asked->pdu[0], 2, reply) : 0;
    reply[0] = asked->pdu[0];
    reply[1] = (uint8_t)(2 * count);
    for (unsigned i = 0; i < count; i++)
        link_put16(reply + 2 + 2 * (size_t)i,
                   value_of(asked->unit, reply[0], address + i, world.question));
    return 2 + 2 * (size_t)count;
}

/* Something else than the answer comes in front of it. */
static void say_something_else(enum mishap mishap, int64_t at_ns, uint16_t id,
                               const struct frame *asked, const uint8_t *reply, size_t size)
{
    uint8_t pdu[LINK_PDU_MAX];
    memcpy(pdu, reply, size);
    switch (mishap) {
    case ECHOED:
        say(at_ns, id, asked->unit, asked->pdu, asked->size, 0);
        break;
    case FOREIGN_UNIT:
        say(at_ns, id, (uint8_t)(UNITS + 1 + roll() % 8), pdu, size, 0);
        break;
    case FOREIGN_FUNCTION:
        pdu[0] = (uint8_t)(1 + (asked->pdu[0] + roll() % 3) % 4);
        say(at_ns, id, asked->unit, pdu, size, 0);
        break;
    case FOREIGN_NUMBER:
        say(at_ns, (uint16_t)(id + 1 + roll() % 0xfffe), asked->unit, pdu, size, 0);
        break;
    case NOISE:
        for (size_t i = 0; i < 5; i++)
            pdu[i] = (uint8_t)roll();
        put_event(at_ns, pdu, 1 + roll() % 5);
        break;
    default:
        break;
    }
}

/* A request of a frame's bytes; it is whole. */
static struct frame decode(const uint8_t *bytes, size_t n)
{
    struct frame asked = {0};
    uint8_t rtu[FRAME_MAX];
    int framing = world.kind->modbus.framing;
    if (framing == DEVICE_TCP) {
        asked.id = link_get16(bytes);
        asked.unit = bytes[6];
        asked.size = n - 7;
        memcpy(asked.pdu, bytes + 7, asked.size);
        return asked;
    }
    if (framing == DEVICE_ASCII) {
        size_t size = (n - 3) / 2;
        for (size_t i = 0; i < size; i++) {
            char digits[3] = {(char)bytes[1 + 2 * i], (char)bytes[2 + 2 * i], '\0'};
            rtu[i] = (uint8_t)strtoul(digits, NULL, 16);
        }
        n = size + 1; /* one byte of checksum instead of two */
        bytes = rtu;
    }
    asked.unit = bytes[0];
    asked.size = n - 3;
    memcpy(asked.pdu, bytes + 1, asked.size);
    return asked;
}

static enum mishap pick_mishap(const struct unit *device, bool probe)
{
    bool ids = endpoint_has_ids(&world.kind->modbus);
    if (world.once) {
        world.once = false;
        return world.then;
    }
    if (world.calm || roll() % 100 >= 14)
        return MISHAPS;
    enum mishap mishap = (enum mishap)(roll() % MISHAPS);
    bool serial = world.kind->modbus.serial[0] != '\0';
    bool framed = world.kind->modbus.framing == DEVICE_TCP;
    if ((mishap == VERY_LATE && !ids && device->manner >= STRICT) ||
        (mishap == FOREIGN_NUMBER && !ids) || (mishap == HUNG_UP && serial) ||
        (mishap == NOISE && framed) || (mishap == LATE && probe && device->drops))
        return MISHAPS;
    return mishap;
}

/* When the device is done with it. */
static int64_t done_ns(const struct unit *device, enum mishap mishap)
{
    int64_t begin_ns = device->busy_until_ns > world.now_ns ? device->busy_until_ns : world.now_ns;
    int64_t took_ns = between(100 * US, TIMEOUT_NS / 4);
    if (mishap == LATE || mishap == LATE_AND_DOUBLED)
        took_ns = between(TIMEOUT_NS / 2, LATE_NS);
    else if (mishap == VERY_LATE)
        took_ns = between(TIMEOUT_NS / 2, VERY_LATE_NS);
    /* One that queues what it is asked must not be behind by more than it may be late. */
    int64_t most_ns = world.now_ns + (device->manner < STRICT ? VERY_LATE_NS : LATE_NS);
    int64_t at_ns = begin_ns + took_ns < most_ns ? begin_ns + took_ns : most_ns;
    return at_ns < begin_ns ? begin_ns : at_ns;
}

/* An adapter returns what is sent, and hears its own switching now and then. */
static void return_echo(const uint8_t *bytes, size_t n)
{
    const uint8_t noise[] = {0xff, 0x00, (uint8_t)roll()};
    put_event(world.now_ns + between(0, 100 * US), bytes, n);
    if (!world.calm && roll() % 40 == 0)
        put_event(world.now_ns + between(0, 300 * US), noise, 1 + roll() % sizeof noise);
}

/* Within what an answer that came in time comes again: before the next question. */
static int64_t again_ns(void)
{
    const int64_t gap_ns = world.kind->modbus.request_gap_ns;
    return gap_ns > 2 * MS ? gap_ns - MS : MS;
}

/* The device gets a request. */
static void take_request(const uint8_t *bytes, size_t n)
{
    struct frame asked = decode(bytes, n);
    if (asked.unit < 1 || asked.unit > UNITS)
        abort();
    struct unit *device = &world.devices[asked.unit - 1];
    bool probe = asked.pdu[0] < POINT_HOLDING;
    enum mishap mishap = pick_mishap(device, probe);
    if (mishap < MISHAPS)
        world.happened[mishap]++;
    if (world.kind->modbus.echo)
        return_echo(bytes, n);
    bool asleep =
        device->sleeps_after_ns != 0 && world.now_ns - device->asked_ns > device->sleeps_after_ns;
    device->asked_ns = world.now_ns;
    if (asleep || mishap == LOST || (device->drops && world.now_ns < device->busy_until_ns))
        return;

    uint8_t reply[LINK_PDU_MAX];
    size_t size = answer(device, &asked, reply);
    int64_t at_ns = device->busy_until_ns = done_ns(device, mishap);
    if (size == 0 || mishap == UNANSWERED)
        return;
    uint16_t id = world.kind->modbus.loose_transaction_id ? 0 : asked.id;
    if (mishap == HUNG_UP) {
        put_event(at_ns, reply, 0);
        return;
    }
    if (mishap == REFUSED)
        size = refuse(asked.pdu[0], 6, reply);
    say_something_else(mishap, world.now_ns + between(0, MS), id, &asked, reply, size);
    say(at_ns, id, asked.unit, reply, size, mishap == CUT ? 1 + roll() % 1000 : 0);
    if (mishap == CUT && world.kind->modbus.framing == DEVICE_TCP)
        put_event(at_ns, reply, 0); /* nothing comes behind it in a stream */
    if (mishap == DOUBLED)
        say(at_ns + between(0, again_ns()), id, asked.unit, reply, size, 0);
    if (mishap == LATE_AND_DOUBLED && at_ns > world.now_ns + TIMEOUT_NS) {
        /* Long after it, and before anything else. */
        device->busy_until_ns += device->manner < STRICT ? between(0, LATE_NS) : 0;
        say(device->busy_until_ns, id, asked.unit, reply, size, 0);
    }
}

/* ---- the system, as the link sees it ---- */

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (!world.caught)
        return (int)syscall(SYS_clock_gettime, clock, now);
    world.now_ns += 500; /* nothing takes no time */
    now->tv_sec = world.now_ns / (1000 * MS);
    now->tv_nsec = world.now_ns % (1000 * MS);
    return 0;
}

/* By another name: the system's header says of its own that it only writes to `fds`. */
int wait_in_world(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                  const sigset_t *mask) __asm__("ppoll");

int wait_in_world(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                  const sigset_t *mask)
{
    (void)mask;
    if (!world.caught || n != 1)
        abort();
    int64_t until_ns = world.now_ns + timeout->tv_sec * 1000 * MS + timeout->tv_nsec;
    deliver();
    const struct event *event = next_event();
    if (world.n_inbox == 0 && !world.ended && (fds->events & POLLOUT) == 0) {
        world.now_ns = event != NULL && event->at_ns < until_ns ? event->at_ns : until_ns;
        deliver();
    }
    fds->revents = (short)(fds->events & POLLOUT);
    if (world.n_inbox > 0 || world.ended)
        fds->revents |= POLLIN;
    return fds->revents != 0;
}

static ssize_t take_inbox(void *bytes, size_t size)
{
    deliver();
    if (world.n_inbox == 0 && world.ended)
        return 0;
    if (world.n_inbox == 0) {
        errno = EAGAIN;
        return -1;
    }
    size_t n = world.n_inbox < size ? world.n_inbox : size;
    if (n > 1 && roll() % 4 == 0 && world.kind->modbus.transport == DEVICE_STREAM)
        n = 1 + roll() % (n - 1); /* in pieces */
    memcpy(bytes, world.inbox, n);
    memmove(world.inbox, world.inbox + n, world.n_inbox -= n);
    return (ssize_t)n;
}

ssize_t recv(int fd, void *bytes, size_t size, int flags)
{
    return world.caught ? take_inbox(bytes, size)
                        : syscall(SYS_recvfrom, fd, bytes, size, flags, NULL, NULL);
}

/* Whether this is the serial line. */
static bool is_line(int fd)
{
    if (world.caught && world.kind->modbus.serial[0] != '\0' && fd != world.fd && fd > 2 &&
        isatty(fd))
        world.fd = fd;
    return world.caught && fd == world.fd;
}

ssize_t read(int fd, void *bytes, size_t size)
{
    return is_line(fd) ? take_inbox(bytes, size) : syscall(SYS_read, fd, bytes, size);
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
    if (!world.caught)
        return syscall(SYS_sendto, fd, bytes, size, flags, NULL, 0);
    take_request(bytes, size);
    return (ssize_t)size;
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    if (!is_line(fd))
        return syscall(SYS_write, fd, bytes, size);
    take_request(bytes, size);
    return (ssize_t)size;
}

int connect(int fd, const struct sockaddr *address, socklen_t size)
{
    if (!world.caught)
        return (int)syscall(SYS_connect, fd, address, size);
    world.ended = false;
    world.n_inbox = 0;
    if (endpoint_has_ids(&world.kind->modbus))
        world.n_events = 0; /* else what is under way comes on the new one as well */
    return 0;
}

/* ---- lines ---- */

#define SOCKET .host = "127.0.0.1", .port = 502, .baud = 9600, .data_bits = 8, .stop_bits = 1
#define SERIAL .serial = "a pseudo terminal", .baud = 9600, .data_bits = 8, .stop_bits = 1

#define PAUSES .request_gap_ns = 7 * MS, .connect_delay_ns = 25 * MS

static struct kind kinds[] = {
    {"RTU", {SERIAL, .framing = DEVICE_RTU}},
    {"ASCII", {SERIAL, .framing = DEVICE_ASCII}},
    {"RTU with echo", {SERIAL, .framing = DEVICE_RTU, .echo = true}},
    {"ASCII with echo", {SERIAL, .framing = DEVICE_ASCII, .echo = true}},
    {"RTU over TCP with echo", {SOCKET, .framing = DEVICE_RTU, .echo = true}},
    {"RTU over TCP", {SOCKET, .framing = DEVICE_RTU}},
    {"ASCII over TCP", {SOCKET, .framing = DEVICE_ASCII}},
    {"RTU over UDP", {SOCKET, .framing = DEVICE_RTU, .transport = DEVICE_DATAGRAM}},
    {"TCP", {SOCKET}},
    {"TCP without ids", {SOCKET, .loose_transaction_id = true}},
    {"UDP", {SOCKET, .transport = DEVICE_DATAGRAM}},
    {"UDP without ids", {SOCKET, .transport = DEVICE_DATAGRAM, .loose_transaction_id = true}},
    {"RTU with pauses", {SERIAL, .framing = DEVICE_RTU, PAUSES}},
    {"ASCII over TCP with pauses", {SOCKET, .framing = DEVICE_ASCII, PAUSES}},
    {"TCP with pauses", {SOCKET, PAUSES}},
    {"TCP without ids, with pauses", {SOCKET, .loose_transaction_id = true, PAUSES}},
};

enum { RTU_OVER_TCP = 5, WITHOUT_PAUSES = 12, KINDS = sizeof kinds / sizeof *kinds };

/* A new line, with two devices of that manner. The system's calls are caught from here
 * on: set world.caught to false for the system's own. */
static inline struct link *open_world(const struct kind *kind, uint64_t dice)
{
    world = (struct world){.kind = kind, .fd = -1, .now_ns = world.now_ns, .dice = dice};
    struct link *link = link_new(&kind->modbus);
    assert_non_null(link);
    world.caught = true;
    return link;
}

/* A serial line needs something that is a terminal. */
struct terminal {
    int master, slave;
};

static inline struct terminal place_line(struct kind *kind)
{
    struct terminal terminal = {-1, -1};
    char name[256];
    if (kind->modbus.serial[0] == '\0')
        return terminal;
    assert_int_equal(openpty(&terminal.master, &terminal.slave, name, NULL, NULL), 0);
    snprintf(kind->modbus.serial, sizeof kind->modbus.serial, "%s", name);
    return terminal;
}

static inline void take_line_away(const struct terminal *terminal)
{
    if (terminal->master != -1) {
        close(terminal->master);
        close(terminal->slave);
    }
}

#endif
