/* control: the documented control sequence.
 *
 * Read status and SOE, decide, write once, read back. Runs on the poller that
 * owns the link, ahead of its polling. The interlocks are pure; the sequence
 * does its I/O through struct link and nothing else.
 */
#ifndef BRIDGE_BATTERY_CONTROL_H
#define BRIDGE_BATTERY_CONTROL_H

#include "bridge/battery/command.h"
#include "devices/lines/link.h"
#include "devices/registers/plan.h"

/* One judged command on its way to a poller, and back in the report. */
struct order {
    uint32_t token; /* the subscriber's own number for it */
    unsigned device, point;
    double value;
    int64_t expires_ns; /* monotonic; CLOCK_NEVER = never */
    bool own;           /* the bridge's own write: no rate limit */
    int64_t unless_ns;  /* own: left undone when the setpoint was written since; 0 = always done */
};

/* What came of it. */
struct report {
    enum {
        REPORT_OUTCOME,    /* the order has ended */
        REPORT_CORRECTION, /* after OUTCOME_UNKNOWN a later poll has settled it */
        REPORT_FOUND,      /* no order: at start the device's setpoint is `readback` */
    } kind;
    struct order order;
    enum outcome_kind outcome;
    enum reason reason; /* with OUTCOME_REFUSED */
    enum fault fault;   /* with OUTCOME_FAILED, and what hid the truth with OUTCOME_UNKNOWN */
    bool has_readback;
    double readback;
    int64_t judged_ns, written_ns, done_ns; /* monotonic; 0 = did not come to it */
    unsigned n_words;                       /* registers sent */
    uint16_t words[4];
    char detail[DETAIL_MAX];
};

/* The device's state as read for this very command, indexed like its points. */
enum reason control_judge(const struct device *device, unsigned point, double value,
                          const struct value *state, char detail[DETAIL_MAX]);

struct control; /* the sequence's own plan of reads for one device */

struct control *control_new(const struct device *device);
void control_free(struct control *control);

/* Whether this program is the only one on the machine that writes to the
 * device; tries to become it. Else everything but zero is refused. */
bool control_is_sole(struct control *control);

/* Everything before the write: opens the link if need be, reads the state (not
 * for zero) and judges. False: refused, and the report says why. */
bool control_check(struct control *control, struct link *link, const struct order *order,
                   struct report *report);

/* Carries out one order: opens the link if need be, reads the state (not for
 * zero), judges, checks expiry once more, writes once, reads back until it
 * agrees or 1 s has passed. Fills the report; `last_write_ns` is the caller's
 * record of the last write of this device's setpoint and is updated. */
void control_run(struct control *control, struct link *link, const struct order *order,
                 int64_t *last_write_ns, struct report *report);

#endif
