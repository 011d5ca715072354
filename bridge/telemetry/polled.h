/* polled: one device as its poller sees it: where its polling stands, and what is
 * told of it.
 *
 * Owned by the poller of its link, and touched by that thread only. Makes no
 * request itself; when and how it is asked is the poller's.
 */
#ifndef BRIDGE_TELEMETRY_POLLED_H
#define BRIDGE_TELEMETRY_POLLED_H

#include "bridge/battery/battery.h"
#include "bridge/commands/audit.h"
#include "bridge/commands/inbox.h"
#include "bridge/model/health.h"
#include "bridge/store/layouts.h"
#include "bridge/store/outbox.h"
#include "bridge/store/scans.h"
#include "bridge/telemetry/due.h"
#include "bridge/telemetry/energy.h"
#include "bridge/telemetry/latest.h"
#include "bridge/telemetry/on_change.h"
#include "devices/registers/plausible.h"
#include "devices/registers/scan.h"

/* A device and where its polling stands. */
struct polled {
    unsigned index; /* of the device in the configuration */
    const struct device *device;
    const struct layout *layout; /* of its samples, a kept one */
    struct plan *plan;
    struct battery *battery; /* NULL: takes no commands */
    struct value *values;
    struct plausible *plausible;       /* per point */
    struct lease lease;                /* as last told; and the next */
    struct schedule_status *scheduled; /* as last told; NULL without a battery */
    struct on_change *change;
    unsigned node; /* the Sparkplug node that has heard of it: scans_nodes() */
    struct due schedule;
    uint64_t scans; /* done */
    uint64_t seq;
    int64_t attempts; /* failed, of the scan under way */
    int64_t retry_ns; /* when the next attempt is due, with attempts > 0 */
    int64_t rest_ns;  /* not to be asked before this time */
    enum fault fault; /* of the last attempt that failed */
    bool parts;       /* is to be polled no more, once its battery has left */
    bool ends;        /* is asked nothing any more */
    bool down;        /* declared offline */
    bool seen;        /* has answered at least once */
    int64_t since_ns; /* when it went down last; 0 = never */
    int64_t told_ns;  /* when that was logged last */
    unsigned changes; /* since then */
};

/* Where what is told goes; one for all units of a poller. */
struct polled_desk {
    struct outbox *outbox;
    struct inbox *inbox;
    const struct audit *audit; /* NULL = nothing is put on record */
    struct health *health;
    struct energy *energy; /* NULL = none is counted */
    struct scans *scans;   /* NULL = no Sparkplug host is served */
    struct layouts *layouts;
    struct latest *latest;
    struct state *state; /* NULL = nothing survives a restart */
    const char *run;
    const char *who; /* for another program that wants one of the devices */
};

/* All but its schedule. `shares_line`: it is not alone on its link. False when out
 * of memory; polled_destroy() in either case. */
bool polled_init(struct polled *unit, const struct polled_desk *desk, const struct device *device,
                 unsigned index, bool shares_line);
void polled_destroy(struct polled *unit);

/* When it is to be asked: the next scan, or the next attempt at this one; CLOCK_NEVER: it ends. */
int64_t polled_due_ns(const struct polled *unit);

/* An attempt at a scan has ended: what is not believable becomes a fault; */
void polled_check_values(struct polled *unit);
/* it is counted; */
void polled_count_attempt(const struct polled *unit, const struct polled_desk *desk,
                          enum fault fault, int64_t duration_ns);
/* and when it failed: whether the device is asked once more before the scan is
 * over (the documented retry: n seconds after the n-th failure). */
bool polled_fail_attempt(struct polled *unit, enum fault fault, int64_t now_ns);

/* The scan is over, every point has its value or its fault: tells it all.
 * `link` has the word on its last failure. */
void polled_end_scan(struct polled *unit, const struct polled_desk *desk, const struct scan *scan,
                     int64_t ts_ms, int64_t taken_ns, const struct link *link);

/* The battery may have done something: tells its lease, and where its schedule stands. */
void polled_tell_battery(struct polled *unit, const struct polled_desk *desk);

#endif
