/* scan: reading what a plan covers, one transaction at a time.
 *
 * One step is one read on the link, so that whoever owns the link can do
 * something more urgent between two steps. A block that the device refuses is
 * split in the plan until the refused register stands alone; the other points
 * keep their values.
 */
#ifndef DEVICES_REGISTERS_SCAN_H
#define DEVICES_REGISTERS_SCAN_H

#include "devices/lines/link.h"
#include "devices/registers/plan.h"

struct scan {
    struct plan *plan;
    const struct device *device;
    struct value *values; /* as the device's points; the caller's */
    /* Likewise the registers that were read; set after scan_begin(), NULL = not wanted. */
    uint16_t (*words)[PLAN_WORDS_MAX];
    uint64_t number; /* which points are due: see point.every */
    unsigned next;   /* position in the plan */
    unsigned read;   /* points read so far */
    unsigned failed; /* points refused so far */
    /* The transaction under way, and where the next one begins. */
    struct plan_block block;
    unsigned after;
};

/* Prepares scan `number`; all values become VALUE_ABSENT. */
void scan_begin(struct scan *scan, struct plan *plan, const struct device *device, uint64_t number,
                struct value *values);

enum scan_step {
    SCAN_MORE,   /* one transaction done, go on */
    SCAN_DONE,   /* every due point has its value or its fault */
    SCAN_BROKEN, /* the device is silent: *fault, which the points still open carry;
                    a gateway's word for it leaves the link open */
    SCAN_BUSY,   /* the link is busy with the transaction: scan_go_on() */
};

/* Does the next transaction on an open link. */
enum scan_step scan_step(struct scan *scan, struct link *link, enum fault *fault);

/* The same in parts, for who waits for many links at once (devices/lines/link.h):
 * begins the transaction; goes on with it when what the link waits for is there. */
enum scan_step scan_begin_step(struct scan *scan, struct link *link, enum fault *fault);
enum scan_step scan_go_on(struct scan *scan, struct link *link, enum fault *fault);

/* Gives every due point without a value yet this fault. */
void scan_break(struct scan *scan, enum fault fault);

#endif
