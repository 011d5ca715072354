/* scripted: carries out a driver's requests, one Modbus transaction at a time.
 *
 * A setpoint ends at the first request that is refused or gets no answer: what it means is
 * then read back. A stop and a release go on to what counts, whatever became of a request
 * before it. Where the device says that it has a request and takes its time (exception 05),
 * nothing follows before it reads back, but a stop waits for its zero alone: what stands
 * there from before is neither taken over nor kept going. Makes its I/O through struct link.
 * Part of a sequence (bridge/battery/sequence.h).
 */
#ifndef BRIDGE_BATTERY_SCRIPTED_H
#define BRIDGE_BATTERY_SCRIPTED_H

#include "bridge/battery/driver.h"

enum scripted_kind { SCRIPTED_SETPOINT, SCRIPTED_STOP, SCRIPTED_RELEASE };

struct scripted {
    struct driver *driver;
    enum scripted_kind kind;
    struct outcome *outcome; /* of a release: nobody's */
    struct script script;
    unsigned at; /* the next request */
    enum {
        SCRIPTED_WRITES,
        SCRIPTED_SETTLES, /* the last request was acknowledged: whether it is done */
        SCRIPTED_READS,
        SCRIPTED_ENDED
    } state;
    bool wrote;                 /* a register was, or may be */
    bool counted;               /* more than the keepalive was */
    bool carried;               /* the setpoint was */
    bool took;                  /* and not refused: it may be held */
    bool missed;                /* a request got no answer, or was refused */
    bool spoiled;               /* one of those that carry the setpoint */
    enum fault refused;         /* the first that was refused */
    int64_t until_ns, pause_ns; /* read back until then, and not before */
};

/* Begins; the outcome is filled in as far as it gets. `values` as in driver_begin().
 * Returns NULL, or the row that cannot be written so: then nothing has begun. */
const struct point *scripted_begin(struct scripted *scripted, enum scripted_kind kind,
                                   const struct value *values, struct outcome *outcome);

/* Whether the next request writes the setpoint. */
bool scripted_carries(const struct scripted *scripted);

/* The next transaction; the link is open for a request. *fault is how it went. */
void scripted_step(struct scripted *scripted, struct link *link, enum fault *fault);

/* Ends it wherever it stands. */
void scripted_cut(struct scripted *scripted);

/* It is not begun, or goes no further: the link cannot be opened for the next request. */
void scripted_give_up(struct scripted *scripted, const struct link *link, enum fault fault);

/* For the driver. */
struct driver_end scripted_end(const struct scripted *scripted);

#endif
