/* publisher: the thread that owns all MQTT sessions.
 *
 * The only thread that sends. Takes from the outbox, keeps a small window in
 * flight, and announces everything retained again on every connect (announce): that
 * goes first, then outcomes, then samples, which leave both some room. Reconnects as
 * session says. With device_wills every device has a session of its own, which
 * carries its status and its Will and nothing else.
 */
#ifndef BRIDGE_PUBLISH_PUBLISHER_H
#define BRIDGE_PUBLISH_PUBLISHER_H

#include "bridge/base/halt.h"
#include "bridge/commands/inbox.h"
#include "bridge/model/health.h"
#include "bridge/publish/edge.h"
#include "bridge/site/conf.h"
#include "bridge/store/outbox.h"
#include "bridge/store/state.h"

struct publisher;

struct publisher_setup {
    const struct conf *conf;
    struct outbox *outbox; /* taken from */
    struct inbox *inbox;   /* arriving commands are put here */
    struct state *state;   /* remembers what was announced; NULL: nothing does */
    struct latest *latest; /* leases, and where schedules stand */
    struct last_outcomes *last;
    struct edge *edge; /* the Sparkplug node, which it runs; NULL: there is none */
    struct health *health;
    const char *run; /* 8 hex digits, new at each start */
    int64_t started_ms;
};

/* Makes the sessions and starts the thread. NULL with a logged reason. */
struct publisher *publisher_start(const struct publisher_setup *setup);

/* No command arrives any more once this returns: the broker has ended the
 * subscription, and what it sends all the same, or because it does not answer in time, is
 * not acknowledged. Before the subscriber stops: what the broker has handed over before
 * gets its outcome. */
void publisher_stop_hearing(struct publisher *publisher);

/* Sends what waits for at most `grace_ns`, publishes every status as offline,
 * disconnects, joins the thread and frees. */
void publisher_stop(struct publisher *publisher, int64_t grace_ns);

/* The first half of that, for whoever must not be kept: begins it, and the thread halts at its
 * end. halt_wait() for that, then publisher_stop(). */
struct halt *publisher_leave(struct publisher *publisher, int64_t grace_ns);

/* ---- while the bridge runs: what a reload changes ---- */

/* Asks the thread to halt; halt_wait() and halt_release() it. The functions below are to be
 * called while it is halted. */
struct halt *publisher_halt(struct publisher *publisher);

/* Before the configuration is another: it will have the device of this place no more. Ends
 * its session; all that is retained of it is cleared soon. */
void publisher_part(struct publisher *publisher, unsigned device);
/* Likewise: it will have it otherwise. What is retained of it and has no place then, such as the
 * control of a battery that is commanded no more, is cleared soon. */
void publisher_alter(struct publisher *publisher, unsigned device);

/* Before what Home Assistant is told is configured otherwise: clears it; and after that: tells
 * it anew, with the publisher_renew() that follows. */
void publisher_part_discovery(struct publisher *publisher);
void publisher_renew_discovery(struct publisher *publisher);

/* There is this Sparkplug node from now on; NULL: none. */
void publisher_renew_edge(struct publisher *publisher, struct edge *edge);

/* The configuration has other devices now at the places that are `anew`, or the same,
 * changed. False when out of memory. */
bool publisher_renew(struct publisher *publisher, const bool *anew);

/* By when the thread promised to be back, of the machine awake; for the supervisor. */
int64_t publisher_promise_ns(const struct publisher *publisher);
/* The same of the thread that has the devices' sessions. */
int64_t publisher_presence_promise_ns(const struct publisher *publisher);

/* Whether, and since when, the broker has not been reachable: monotonic time
 * of the loss, 0 while connected. Any thread. */
int64_t publisher_down_since_ns(const struct publisher *publisher);

/* The next connect reads certificates and the password file anew; a standing
 * connection is kept. Any thread. */
void publisher_reload(struct publisher *publisher);

#endif
