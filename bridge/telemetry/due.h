/* due: when a device is due.
 *
 * Pure. Fixed rate on the monotonic clock: tick k is due at
 * origin + phase + k * period, for ever, without drift. A tick that passes
 * while the device is still busy is counted as missed and never made up.
 */
#ifndef BRIDGE_TELEMETRY_DUE_H
#define BRIDGE_TELEMETRY_DUE_H

#include <stdint.h>

struct due {
    int64_t period_ns;
    int64_t due_ns;  /* the next tick */
    uint64_t missed; /* ticks passed over so far */
};

/* Which unit of its link a device is, and which link that is; numbers from 0. */
struct due_place {
    unsigned unit, n_units;
    unsigned link, n_links;
};

/* The units of a link share the period evenly: they have to wait for one
 * another. Links are due eight at once, and the next eight 0.8 ms later, or
 * sooner where the period is too short for all: the poller asks a few at a time, so
 * the network does not get all requests at once, and a processor that was woken for
 * the first is still awake for the last. With a hundred links
 * spread evenly, a sample cost five times as much. */
void due_init(struct due *schedule, int64_t period_ns, int64_t origin_ns,
              const struct due_place *place);

/* The tick that is due was served, at `now_ns`: moves on to the next one in
 * the future and counts those in between. */
void due_served(struct due *schedule, int64_t now_ns);

#endif
