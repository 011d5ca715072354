/* outbox_inside: what the parts of the outbox share, and nobody else includes.
 *
 * outbox.c        what is put in, how much there is, and who sleeps until there is more
 * outbox_flight   what is taken out, and what becomes of it
 * outbox_devices  what is kept for each device
 * outbox_spool    the spooler's side of it
 */
#ifndef BRIDGE_STORE_OUTBOX_INSIDE_H
#define BRIDGE_STORE_OUTBOX_INSIDE_H

#include <pthread.h>

#include "bridge/store/outbox.h"
#include "bridge/store/queue.h"

/* Where a record in flight is: a ticket may outlive it. */
struct outbox_flight {
    struct queue *queue; /* NULL = free */
    struct record *record;
};

struct outbox_device {
    bool online, presence_due, control_due;
    bool live; /* had a live sample since the broker is back */
    uint64_t dropped;
};

/* A record that is offered again at that time. */
struct later {
    struct queue *queue; /* NULL = free */
    struct record *record;
    int64_t due_ns;
};

/* Where one thread sleeps. */
struct bed {
    pthread_cond_t cond;
    bool asleep, woken;
};

struct outbox {
    pthread_mutex_t mutex;
    struct bed publisher, spooler;
    bool up; /* between outbox_resumed() and outbox_lost() */
    int64_t resumed_ns;
    int64_t gate_ns; /* when backlog that is held back may go; CLOCK_NEVER = none is */
    uint64_t next_ticket;
    struct queue samples, outcomes;
    struct {
        struct queue queue; /* read back from disk: backlog, all of it */
        bool good;          /* what waits too long in memory goes to disk */
        bool more;          /* there is some that has not been read back */
        bool idle;          /* the spooler sleeps until a sample comes */
        bool fresh;         /* one has come since it looked */
        bool rewind;
        uint64_t count;   /* samples on disk */
        int64_t since_ms; /* UTC: when the first of them was taken; 0 = not known */
        unsigned n_delivered;
        int64_t *delivered; /* rows to be removed; NULL = there is no spool */
    } spool;
    unsigned in_flight;
    struct outbox_flight flights[OUTBOX_IN_FLIGHT_MAX];
    unsigned n_later;
    struct later later[OUTBOX_LATER_MAX];
    unsigned refused_in_row; /* since one was delivered */
    uint64_t dropped, set_aside;
    int64_t newest_ns; /* when the newest sample was taken */
    int64_t keep_ns;   /* what was sent without an acknowledgement is kept so long; 0 = none is */
    unsigned n_presence_due, n_control_due;
    unsigned n_devices;
    struct outbox_device devices[];
};

/* Rows delivered and not yet removed, with those in memory, are never more. */
enum { DELIVERED_MAX = 8192, REFILL_BYTES = 2 << 20, REFILL_BELOW = 1024, REMOVE_AT_ONCE = 1024 };

void outbox_lock(struct outbox *outbox);

/* Who has been called under the lock is signalled after it: else it would wake only to
 * wait for the lock. */
void outbox_unlock(struct outbox *outbox);
void outbox_call_publisher(struct outbox *outbox);
void outbox_call_spooler(struct outbox *outbox);

/* Locked: sleeps there until it is called, or that time. */
void outbox_lie_down(struct outbox *outbox, struct bed *bed, int64_t until_ns);

/* A device that is configured no more has no count of its own. */
void outbox_count_drop(struct outbox *outbox, unsigned device);

/* It is dropped: it is not in flight, and not to be offered again. */
void outbox_forget(struct outbox *outbox, const struct record *record);

/* What was sent so long ago without an acknowledgement has arrived. */
void outbox_forget_sent(struct outbox *outbox);

/* More than the largest record takes in a ring. */
size_t outbox_at_least_one(size_t bytes);

/* On disk it is no longer wanted. Should nothing be removed there for so long
 * that the list is full, it is sent once more one day. */
void outbox_note_delivered(struct outbox *outbox, int64_t row);

#endif
