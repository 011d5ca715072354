/* reading: one device read once, for the tools.
 *
 * The daemon's own plan, scan, codec and plausibility, without its schedule and
 * its retries. Used by one thread.
 */
#ifndef BRIDGE_CLI_READING_H
#define BRIDGE_CLI_READING_H

#include "devices/registers/plausible.h"
#include "devices/registers/scan.h"

struct reading {
    const struct device *device;
    struct plan *plan;
    struct value *values;              /* as the device's points; ABSENT: not wanted */
    uint16_t (*words)[PLAN_WORDS_MAX]; /* likewise, the registers as they came */
    struct plausible *plausible;
    unsigned read, failed;
    uint64_t number;      /* 0: every wanted point; else those of this scan, see point.every */
    unsigned most_failed; /* gives up when more points are refused; UINT_MAX */
};

/* Of the points for which wanted[i]; NULL = all. False when out of memory. Call
 * reading_free() in either case. */
bool reading_init(struct reading *reading, const struct device *device, const bool *wanted);
void reading_free(struct reading *reading);

/* Opens the link if need be and reads each block once. FAULT_NONE when the
 * device has answered, be it with refusals; link->error says more otherwise. */
enum fault reading_take(struct reading *reading, struct link *link);

#endif
