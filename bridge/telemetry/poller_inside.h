/* poller_inside: what the parts of a poller share, and nobody else includes.
 *
 * poller.c         the thread: one scan after the other, as far as it goes without waiting
 * poller_commands  what its batteries are to do, and do, in between
 * poller_units     its lines and units, which a reload adds and drops
 */
#ifndef BRIDGE_TELEMETRY_POLLER_INSIDE_H
#define BRIDGE_TELEMETRY_POLLER_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "bridge/base/backoff.h"
#include "bridge/base/clock.h"
#include "bridge/base/halt.h"
#include "bridge/telemetry/agenda.h"
#include "bridge/telemetry/polled.h"
#include "bridge/telemetry/poller.h"
#include "devices/lines/claim.h"

/* So many lines are asked at once: whoever is due then waits until one of them has its
 * answer, but no longer than PATIENCE_NS; slow ones hold up nobody. Devices that answer
 * quickly are asked in one go, so that the thread, and those behind it, wake once for several.
 * The more at once the less a sample costs, and the longer it waits for the others to be
 * sent on (tests/bench/README.md has figures). */
enum { AT_ONCE = 4 };
enum { EVENTS = 16 };

/* A link, and the attempt at a scan that is under way on it. */
struct poller_line {
    struct link *link;
    struct backoff reopen;
    int64_t reopen_ns;    /* the link is not opened before this time */
    unsigned at;          /* its place among the poller's lines */
    int64_t due_ns;       /* as it stands in the agenda */
    unsigned link_number; /* in the configuration */
    unsigned n_units;
    struct polled **units;
    struct polled *polled; /* NULL = none is */
    bool opening;          /* before each transaction the link is seen to */
    struct scan scan;
    int64_t begun_ns;
    int64_t taken_ns, ts_ms; /* of the first request; ts_ms 0 = not yet sent */
};

struct poller {
    struct poller_setup setup;
    pthread_t thread;
    int epoll_fd;
    _Atomic int64_t promise_ns;
    atomic_bool stopping; /* waits of polling, not of commands, are cut short */
    char who[CLAIM_TEXT_MAX];
    struct command command; /* from the mailbox to a battery */
    bool parting;           /* a unit is to leave, though the bridge goes on */
    bool left;              /* the batteries have, and it was said */
    struct halt halt;
    struct polled_desk desk;
    const struct poller_line *latest[AT_ONCE]; /* those that began last; NULL = none has */
    unsigned turn;                             /* of the next among them */
    int64_t patience_ns;                       /* until when the others wait for these */
    unsigned n_lines;                          /* may be none while the thread is halted */
    struct poller_line **lines; /* each stays where it is: its link's descriptor knows it */
    unsigned agenda_room;
    struct agenda *agenda; /* of lines: its next scan, or the end of what it waits for */
    unsigned n_batteries;
};

/* Within how long it is back; CLOCK_NEVER = it waits. */
static inline void poller_promise(struct poller *poller, int64_t within_ns)
{
    const int64_t by_ns = within_ns == CLOCK_NEVER ? CLOCK_NEVER : clock_awake_ns() + within_ns;
    atomic_store_explicit(&poller->promise_ns, by_ns, memory_order_relaxed);
}

/* ---- of batteries: see poller_commands ---- */

bool poller_fetch(struct poller *poller);
struct polled *poller_first_battery(struct poller *poller, int64_t now_ns, int64_t *due_ns);
int64_t poller_beat_by_ns(const struct poller *poller);
void poller_serve_beats(struct poller *poller);
void poller_serve_commands(struct poller *poller);
void poller_abandon_commands(struct poller *poller);
struct polled *poller_unit_of(struct poller *poller, unsigned device);

/* ---- of lines: see poller_units; the last is the thread's ---- */

void poller_free_line(struct poller_line *line);
void poller_rest(struct poller *poller, struct poller_line *line);

#endif
