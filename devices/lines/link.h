/* link: one way to devices, a TCP connection or a serial line.
 *
 * Three operations over a Modbus PDU exchange; an implementation supplies
 * `struct link_ops` and nothing else differs. Owned by exactly one thread,
 * which opens, asks and closes; never shared, never retried in here.
 *
 * An answer is never taken for another request's: neither from before the line
 * was opened, nor from before a request that got none. Where answers bear no number,
 * a request waits until the line is known to be in step, be it a poll's or that of a
 * control sequence; and so may take up to three times its timeout.
 *
 * A link that returned a fault other than an exception has closed itself, unless
 * what comes late on it is known as such. Call link_open() before every exchange.
 */
#ifndef DEVICES_LINES_LINK_H
#define DEVICES_LINES_LINK_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/lines/endpoint.h"
#include "devices/lines/fault.h"

enum { LINK_PDU_MAX = 253, LINK_READ_MAX = 125, LINK_READ_BITS_MAX = 2000, LINK_WRITE_MAX = 123 };
enum { LINK_PEER_MAX = 80 };

struct link;

/* Does nothing but end a wait; link_init_stop() once, before threads. */
#define LINK_STOP_SIGNAL SIGUSR1
void link_init_stop(void);

/* open() and exchange() may leave the link busy, by link_await(): then go_on() is
 * called until it no longer is, and what it returns last is how it ended. */
struct link_ops {
    /* Connects within timeout_ns. After a fault nothing is left open. */
    enum fault (*open)(struct link *link, int64_t timeout_ns);
    /* Sends one PDU to `unit` and receives the whole answer within timeout_ns,
     * counted from now. `*reply_size` <= LINK_PDU_MAX. Any answer in a sound
     * frame from that unit is FAULT_NONE, exceptions included; link.c looks
     * into it. After a fault link.c calls close(), unless the link stays_open. */
    enum fault (*exchange)(struct link *link, uint8_t unit, const uint8_t *request,
                           size_t request_size, uint8_t *reply, size_t *reply_size,
                           int64_t timeout_ns);
    /* Whether an open link is closed by the peer or holds what nobody asked
     * for, so that the next answer read would not be ours. NULL = cannot tell. */
    bool (*is_stale)(struct link *link);
    /* An open link, or one that is busy opening. */
    void (*close)(struct link *link);
    void (*free)(struct link *link);
    /* What was awaited may have come, or its time is over. Gives the answer as
     * exchange() does. NULL for one that is never left busy. */
    enum fault (*go_on)(struct link *link, uint8_t *reply, size_t *reply_size);
};

/* Embedded first in an implementation's own structure. */
struct link {
    const struct link_ops *ops;
    bool is_open;
    bool stays_open; /* set by exchange() with a fault: what comes late is known as such */
    bool is_waiting; /* busy, but nothing has been asked yet: see link_withdraw() */
    bool is_busy;    /* an operation is under way: what it waits for, and until when, is in */
    int fd;          /* these; read or write, as `events` (poll(2)) says */
    short events;
    int64_t until_ns;
    /* Set by the owner: nothing that is asked or opened is waited for beyond this (0 = as
     * long as it takes), because something else must have its turn. */
    int64_t no_later_ns;
    /* Where its owner waits for many links at once, edge-triggered: each new
     * descriptor is put in there with `tag`. -1 = it does not. */
    int epoll_fd;
    void *tag;
    struct link_question { /* the read under way */
        enum point_table table;
        uint8_t unit;
        uint16_t address, count;
    } question;
    /* Set by the owner while its waits may be cut short: once this is true and
     * LINK_STOP_SIGNAL has been sent to its thread, a wait ends as if its time
     * were over. The thread blocks that signal. NULL = never. */
    const atomic_bool *stop;
    /* Who is really at the other end, whatever the configuration calls it; as it
     * was when the link was last opened: "10.0.0.7:502", "[fe80::1]:502",
     * "tty-4-64". "" = never yet. */
    char peer[LINK_PEER_MAX];
    /* The last failure in words, for a log line: "connect 10.0.0.7:502: Connection refused". */
    char error[160];
};

/* Made by link_new(), or by an implementation's own. */
void link_free(struct link *link);

/* Opens unless open and sound: call it before every exchange. A connection that
 * the device closed while it was idle is opened anew here, where nothing has
 * been sent yet. FAULT_CONNECTION or FAULT_TIMEOUT on failure. */
enum fault link_open(struct link *link, int64_t timeout_ns);
/* Whether it is open and sound, so that opening it would not wait. */
bool link_is_sound(struct link *link);
/* Closes unless closed. */
void link_close(struct link *link);

/* Reads `count` registers (or bits, each one word 0/1) with function code
 * `table`. The reply's unit, function, byte count and frame are all checked;
 * `words` is written only on FAULT_NONE. A count that no request can carry is
 * FAULT_BAD_REPLY before anything is sent. */
enum fault link_read(struct link *link, uint8_t unit, enum point_table table, uint16_t address,
                     uint16_t count, uint16_t *words, int64_t timeout_ns);

/* Writes once: FC 06 for one register, FC 16 for more, FC 05 for a coil. The
 * echo of address and value (count) is compared. On any fault but an exception
 * the device may or may not have taken it: read back. Unit 0 (broadcast), and
 * a table or count that cannot be written, are refused with FAULT_BAD_REPLY
 * before anything is sent. */
enum fault link_write(struct link *link, uint8_t unit, enum point_table table, uint16_t address,
                      uint16_t count, const uint16_t *words, int64_t timeout_ns);

/* The same by FC 16, or FC 15, for devices that take nothing else: be it one register. */
enum fault link_write_many(struct link *link, uint8_t unit, enum point_table table,
                           uint16_t address, uint16_t count, const uint16_t *words,
                           int64_t timeout_ns);

/* ---- without waiting, for the owner of many links ----
 *
 * These do what their namesakes do, but where there is something to wait for
 * they return with link->is_busy set. Then the owner waits as the link says and
 * calls link_go_on(), again and again until the link is no longer busy; what
 * that returns last is the result, and `words` are as in link_read(). Meanwhile
 * nothing else may be done with the link but to close it. */
enum fault link_begin_open(struct link *link, int64_t timeout_ns);
enum fault link_begin_read(struct link *link, uint8_t unit, enum point_table table,
                           uint16_t address, uint16_t count, uint16_t *words, int64_t timeout_ns);
enum fault link_go_on(struct link *link, uint16_t *words);

/* Takes back a read that waits for the line to be in step, so that a write can go
 * first: then the link is busy no more. False when there is nothing to take back. */
bool link_withdraw(struct link *link);

/* Waits on the spot for what a busy link waits for. */
void link_sleep(struct link *link);

/* ---- for implementations ---- */

/* What every new link begins with. */
void link_init(struct link *link, const struct link_ops *ops);

/* Leaves the link busy until `fd` has one of `events`, or until_ns. FAULT_NONE. */
enum fault link_await(struct link *link, int fd, short events, int64_t until_ns);

/* Lets the owner wait for a new descriptor. False, with errno, when that fails. */
bool link_watch(const struct link *link, int fd);

/* Notes who is at the other end of a descriptor that is open now. The loopback
 * addresses ::1 and 127.0.0.1 are one. */
void link_note_peer(struct link *link, int fd);

/* Notes why in link->error and returns `fault`. %m is errno in words. */
enum fault link_fail(struct link *link, enum fault fault, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The clock of all deadlines: it only moves forward, through a suspend of the
 * machine too (CLOCK_BOOTTIME). */
int64_t link_now_ns(void);

/* Waits until `fd` has one of `events`, or an error; false at the deadline, or
 * when the link's owner is told to stop. A deadline in the past only looks.
 * `link` NULL: nobody stops it. */
bool link_wait(const struct link *link, int fd, short events, int64_t deadline_ns);

/* How long a device is left alone that made its neighbours on the link wait so
 * long for nothing: it takes at most a sixth of their time. */
static inline int64_t link_rest_ns(int64_t silence_ns)
{
    return 5 * silence_ns;
}

/* 16 bits as Modbus sends them, high byte first. */
static inline void link_put16(uint8_t *at, unsigned word)
{
    at[0] = (uint8_t)(word >> 8);
    at[1] = (uint8_t)word;
}

static inline uint16_t link_get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

#endif
