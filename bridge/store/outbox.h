/* outbox: everything that is to be published, until the broker has it.
 *
 * From pollers, subscriber and audit to the publisher thread. Three things in it:
 *   samples   a bounded ring in memory, the oldest dropped and counted when it
 *             is full. Live samples go to <device>/state. What was not
 *             acknowledged when the broker was lost, and what is taken while
 *             it is away, becomes backlog: it goes to <device>/backfill, oldest
 *             first, once the device's live flow has resumed.
 *   outcomes  a ring of their own, sent before samples, kept until acknowledged.
 *   presence  online or offline per device: the latest only; and whether what is
 *             retained of its control is out of date.
 * A record counts as delivered on its acknowledgement and not before (for one
 * without see outbox_keep_sent()); what was
 * in flight when the broker was lost goes back to its place.
 *
 * Any thread may put; take, lost and resumed are the publisher's; ack may come
 * from MQTT callbacks (it only marks). Never calls out while locked. Time is an
 * argument.
 */
#ifndef BRIDGE_STORE_OUTBOX_H
#define BRIDGE_STORE_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/model/health.h"
#include "bridge/model/sample.h"
#include "bridge/wire/topic.h"

enum { OUTBOX_CORRELATION_MAX = 256, OUTBOX_PAYLOAD_MAX = 80 * 1024 };

/* Most records in flight at once: more than any session has under way, whose window it is
 * that decides (bridge/mqtt/sessions.h). */
enum { OUTBOX_IN_FLIGHT_MAX = 128 };

/* A record that the broker has no room for is offered again after a second, then
 * two, and so on; after so many times it is set aside, unless the broker has taken
 * nothing else in the meantime. So many may wait for that at once, a quarter of them
 * outcomes alone: no others are offered then. */
enum { OUTBOX_REFUSALS_MAX = 5, OUTBOX_LATER_MAX = 32 };

/* In the order in which they go. */
enum outbox_kind {
    OUTBOX_OUTCOME,  /* to `topic`, QoS 1 */
    OUTBOX_STATE,    /* a live sample */
    OUTBOX_BACKFILL, /* a sample from the backlog */
};

struct outbox_item {
    enum outbox_kind kind;
    uint64_t ticket;             /* names it in outbox_ack() */
    unsigned device;             /* STATE, BACKFILL */
    int64_t taken_ns;            /* STATE, BACKFILL: monotonic time of the sample */
    const struct layout *layout; /* STATE, BACKFILL: of the payload, a packed sample */
    char topic[TOPIC_MAX + 1];   /* OUTCOME */
    size_t correlation_size;     /* OUTCOME with a response topic */
    unsigned char correlation[OUTBOX_CORRELATION_MAX];
    size_t payload_size;
    char payload[OUTBOX_PAYLOAD_MAX];
};

struct outbox;

/* Both sizes are raised to hold at least one record of the largest kind. */
struct outbox *outbox_new(unsigned n_devices, size_t sample_bytes, size_t outcome_bytes);
void outbox_free(struct outbox *outbox);

/* Before the publisher starts: live samples are sent without an acknowledgement
 * (QoS 0), and what was sent so long before a loss may not have arrived: it is kept
 * until then, as far as there is room, and becomes backlog. */
void outbox_keep_sent(struct outbox *outbox, int64_t keep_ns);

/* Pollers: a packed sample (bridge/model/sample.h) and its layout, a kept one. When
 * the ring is full the oldest sample gives way, in flight or not. One larger than
 * OUTBOX_PAYLOAD_MAX is dropped itself. */
void outbox_put_sample(struct outbox *outbox, unsigned device, int64_t taken_ns,
                       const struct layout *layout, const void *packed, size_t size);

/* An outcome for a topic; correlation may be empty. When the ring is full the
 * oldest outcome gives way, in flight or not, and false is returned; also for
 * one whose parts are larger than the bounds above, which is not taken. */
bool outbox_put_outcome(struct outbox *outbox, const char *topic, const void *correlation,
                        size_t correlation_size, const char *payload, size_t size);

/* Pollers and the supervisor. Starts offline. */
void outbox_set_online(struct outbox *outbox, unsigned device, bool online);

/* The device at this place is begun or ended anew: it is offline until it says otherwise.
 * `another`: it is no more what it was called: what waits of the former is that of a
 * device that is configured no more. While no poller puts its samples. */
void outbox_renew_device(struct outbox *outbox, unsigned device, bool another);

/* Any thread: as last set. */
bool outbox_is_online(struct outbox *outbox, unsigned device);

/* Publisher: sleeps until there may be something to do or `until_ns`. */
void outbox_wait(struct outbox *outbox, int64_t until_ns);
void outbox_wake(struct outbox *outbox);

/* Publisher: the next record to send, copied out and marked in flight:
 * outcomes, then live samples, then backlog, up to the kind `last`. Backlog waits
 * until its device has had a live sample since outbox_resumed(), at most
 * OUTBOX_RESUME_NS (outbox_wait() wakes for it). False when there is nothing, or the
 * broker is away. */
#define OUTBOX_RESUME_NS INT64_C(5000000000)
bool outbox_take(struct outbox *outbox, int64_t now_ns, enum outbox_kind last,
                 struct outbox_item *item);

enum outbox_fate {
    OUTBOX_DELIVERED, /* the broker has it: forget it */
    OUTBOX_REFUSED,   /* it cannot be sent: set aside and counted; a sample is dropped as well */
    OUTBOX_RETURNED,  /* it could not be handed over: back to its place */
};

/* What became of a record that was taken: wakes nobody. The second: the broker has no
 * room for it now: wakes for the time of that. An unknown ticket is ignored. */
void outbox_ack(struct outbox *outbox, uint64_t ticket, enum outbox_fate fate);
void outbox_put_off(struct outbox *outbox, uint64_t ticket, int64_t now_ns);

/* Publisher: the broker is gone: all that waits is backlog; or is back: what
 * was taken less than OUTBOX_FRESH_NS ago is live all the same. It counts as
 * gone at first. */
#define OUTBOX_FRESH_NS INT64_C(1000000000)
void outbox_lost(struct outbox *outbox);
void outbox_resumed(struct outbox *outbox, int64_t now_ns);

/* Publisher: a device whose presence has changed since it was last taken, from
 * index `*device` on; false when there is none. outbox_mark_presence() makes it
 * due again (after a reconnect, or when sending failed). */
bool outbox_take_presence(struct outbox *outbox, unsigned *device, bool *online);
void outbox_mark_presence(struct outbox *outbox, unsigned device);

/* Any thread: what is retained of a device's control (its lease, its last outcome) is out
 * of date. Publisher: the next device of which that is so, as above. */
void outbox_call_control(struct outbox *outbox, unsigned device);
bool outbox_take_control(struct outbox *outbox, unsigned *device);

struct outbox_depth outbox_depth(struct outbox *outbox);
uint64_t outbox_dropped(struct outbox *outbox, unsigned device);

/* ---- the spooler's side (bridge/store/spooler.h) ----
 *
 * With a spool, a sample that waits too long moves from memory to disk, and
 * all backlog comes back from there, through a ring of its own. Disk is the
 * truth: when the broker is lost, what is there is no longer kept in memory.
 */

/* Before any thread starts; `good` as for outbox_set_spool(). False when out of memory. */
bool outbox_use_spool(struct outbox *outbox, bool good);

/* Whether the disk takes samples, how many it holds, and whether there are some
 * that can be read back and have not been. While it does not, and there are none,
 * backlog is sent from memory: what is on disk is older. */
void outbox_set_spool(struct outbox *outbox, bool good, uint64_t count, bool more);

/* When the first of those on disk was taken: UTC in ms, 0 = there is none, or it is not
 * known. */
void outbox_set_spool_since(struct outbox *outbox, int64_t since_ms);

/* A sample was given up on disk, or has been lost there. It counts as dropped when
 * it is not in memory as well; `device` is their number for one that is configured
 * no more, or not known; `row` 0 = not known. The second: what is there makes no
 * sense, which counts as set aside as well. */
void outbox_drop_row(struct outbox *outbox, int64_t row, unsigned device);
void outbox_set_row_aside(struct outbox *outbox, int64_t row, unsigned device);

struct outbox_spilled {
    uint64_t ticket;
    const struct layout *layout;
    const unsigned char *packed;
    size_t size;
    int64_t row; /* the spooler's, for outbox_spilled() */
};

/* Copies out the samples taken until then that are neither delivered nor on
 * disk, oldest first, and tells when the next one was taken. */
size_t outbox_spill(struct outbox *outbox, int64_t until_ns, struct outbox_spilled *list,
                    size_t most, unsigned char *bytes, size_t room, int64_t *next_ns);

/* These are on disk now: they leave memory, unless they are in flight. */
void outbox_spilled(struct outbox *outbox, const struct outbox_spilled *list, size_t n);

/* Tells rows that are delivered and can be removed from disk; and that this
 * has been done with the first `n`. */
size_t outbox_delivered(struct outbox *outbox, int64_t *rows, size_t most);
void outbox_removed(struct outbox *outbox, size_t n);

/* The spool has gone: there is nothing on disk, and what one to come will hold has rows of its
 * own. */
void outbox_forget_rows(struct outbox *outbox);

/* Whether more can be read back; `*rewind` says that this has to begin at the
 * first row again. */
bool outbox_wants_refill(struct outbox *outbox, bool *rewind);

/* One sample read back; `device` is their number for one that is configured no
 * more. False: no room. */
bool outbox_refill(struct outbox *outbox, int64_t row, unsigned device, const struct layout *layout,
                   const void *packed, size_t size);

/* Sleeps until there may be something to do or `until_ns`; with CLOCK_NEVER
 * the next sample ends it too. */
void outbox_wait_spool(struct outbox *outbox, int64_t until_ns);
void outbox_wake_spool(struct outbox *outbox);

#endif
