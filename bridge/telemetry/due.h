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
 * another. Links are due four at once, and the next four 0.8 ms later, or
 * sooner where the period is too short for all: as many as the poller asks at a time,
 * and time enough to hand their samples on before the next. Up to 128 links it is two,
 * and the next two 0.4 ms later: what is asked at once waits for one another, and with
 * so few, to save processor time is of less use than to be early. With eight every 0.8 ms an
 * answer waited for those before it, half as long again; and with a hundred links
 * spread evenly a sample cost five times as much, as a processor was woken for each. */
void due_init(struct due *schedule, int64_t period_ns, int64_t origin_ns,
              const struct due_place *place);

/* The tick that is due was served, at `now_ns`: moves on to the next one in
 * the future and counts those in between. */
void due_served(struct due *schedule, int64_t now_ns);

#endif
