/* schedule: when a device is due.
 *
 * Pure. Fixed rate on the monotonic clock: tick k is due at
 * origin + phase + k * period, for ever, without drift. A tick that passes
 * while the device is still busy is counted as missed and never made up.
 */
#ifndef BRIDGE_SCHEDULE_H
#define BRIDGE_SCHEDULE_H

#include <stdint.h>

struct schedule {
    int64_t period_ns;
    int64_t due_ns;  /* the next tick */
    uint64_t missed; /* ticks passed over so far */
};

/* Device `index` of `count` gets the index-th part of its period as phase. */
void schedule_init(struct schedule *schedule, int64_t period_ns, int64_t origin_ns, unsigned index,
                   unsigned count);

/* The tick that is due was served, at `now_ns`: moves on to the next one in
 * the future and counts those in between. */
void schedule_served(struct schedule *schedule, int64_t now_ns);

#endif
