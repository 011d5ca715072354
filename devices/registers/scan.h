/* scan: reading what a plan covers, one transaction at a time.
 *
 * One step is one read on the link, so that whoever owns the link can do
 * something more urgent between two steps. Each block has an attempt and a word of its
 * own: one that is refused or silent takes nothing from the others. A block that is
 * refused is split until the refused register stands alone; one that stays silent
 * likewise, scan by scan (devices/registers/plan.h). Only when nothing could be read at
 * all the device is silent, and after two silent blocks a scan does not look further;
 * a device that was silent before is asked for one block.
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
    unsigned failed; /* points that were not, so far */
    /* FAULT_NONE, or how a block failed that may only have been lost on the way: another
     * attempt would tell. */
    enum fault lost;
    bool probing;       /* the device was silent: one block has to answer first */
    bool split;         /* a silent block has been split in this scan */
    bool suspects;      /* what was silent before is asked last: now it is */
    bool asking_models; /* the transaction under way is about SunSpec's models */
    unsigned silent;    /* transactions without an answer */
    enum fault silence; /* the last of them */
    /* The transaction under way, and where the next one begins. */
    struct plan_block block;
    unsigned after;
};

/* Prepares scan `number`; all values become VALUE_ABSENT. */
void scan_begin(struct scan *scan, struct plan *plan, const struct device *device, uint64_t number,
                struct value *values);

enum scan_step {
    SCAN_MORE,   /* one transaction done, go on; the link may be closed */
    SCAN_DONE,   /* every due point has its value or its fault */
    SCAN_BROKEN, /* likewise, and nothing was read: the device is silent, by *fault;
                    a gateway's word for it leaves the link open */
    SCAN_BUSY,   /* the link is busy with the transaction: scan_go_on() */
};

/* Does the next transaction, and opens the link before if it is closed. */
enum scan_step scan_step(struct scan *scan, struct link *link, enum fault *fault);

/* The same in parts, for who waits for many links at once (devices/lines/link.h):
 * begins the transaction on an open link; goes on with it when what the link waits for
 * is there. */
enum scan_step scan_begin_step(struct scan *scan, struct link *link, enum fault *fault);
enum scan_step scan_go_on(struct scan *scan, struct link *link, enum fault *fault);

/* The link cannot be opened: ends the scan. SCAN_DONE when something had been read. */
enum scan_step scan_give_up(struct scan *scan, enum fault *fault);

/* Gives every due point without a value yet this fault. */
void scan_break(struct scan *scan, enum fault fault);

#endif
