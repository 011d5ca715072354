/* sequence: the documented control sequence, one Modbus transaction at a time.
 *
 * Read status and SOE, decide, write once, read back. Between two transactions
 * whoever owns the link can do something more urgent, or end the sequence. A
 * stop is written without being judged. Makes its I/O through struct link and
 * decides by interlock; when it begins and whether it may still write is its
 * owner's (battery).
 */
#ifndef BRIDGE_BATTERY_SEQUENCE_H
#define BRIDGE_BATTERY_SEQUENCE_H

#include "bridge/battery/driver.h"
#include "bridge/model/outcome.h"
#include "devices/lines/link.h"
#include "devices/registers/device.h"

struct sequence;

/* `driver`: of a battery whose type says how it is commanded, else NULL; it must outlive the
 * sequence. NULL when out of memory. */
struct sequence *sequence_new(const struct device *device, struct driver *driver);
void sequence_free(struct sequence *sequence);

/* Begins with `outcome->command`, which was admitted; the outcome is filled in
 * as far as the sequence gets, and must stay where it is until the end. With
 * `look`, what the setpoint holds is read first. `judge_only`: ends before
 * anything would be written, REFUSED with no reason when nothing forbids it. */
void sequence_begin(struct sequence *sequence, struct outcome *outcome, bool look, bool judge_only);

/* Begins to let a battery go: nobody's command, so `outcome` is only filled in. */
void sequence_begin_release(struct sequence *sequence, struct outcome *outcome);

enum sequence_step {
    SEQUENCE_IDLE,  /* none is under way */
    SEQUENCE_MORE,  /* sequence_step() does the next transaction */
    SEQUENCE_PAUSE, /* not before sequence_pause_ns() */
    SEQUENCE_WRITE, /* the next one writes: the last moment to say no */
    SEQUENCE_ENDED  /* the outcome is complete but for done_ns */
};

/* Where it stands. */
enum sequence_step sequence_state(const struct sequence *sequence);
int64_t sequence_pause_ns(const struct sequence *sequence);

/* Does the next transaction, at most one besides opening the link; what writes is
 * not done together with that, since opening may take a while. */
void sequence_step(struct sequence *sequence, struct link *link);

/* With SEQUENCE_WRITE: whether it is the value that is written, and not what comes before
 * or after it. */
bool sequence_carries(const struct sequence *sequence);
/* Whether it has begun to write, so that nothing else may write to the device; and with a
 * driver, what came of it. */
bool sequence_has_written(const struct sequence *sequence);
struct driver_end sequence_end(const struct sequence *sequence);

/* The device's answer to `look`, once it is there: what the setpoint held. */
bool sequence_looked(const struct sequence *sequence, struct value *held);

/* Ends it before the value is written: nothing has been, so the command is
 * refused, or `failed` with the reason when command_source was written. */
void sequence_refuse(struct sequence *sequence, enum reason reason, const char *detail);

/* Ends it wherever it stands, because something more urgent is to be done: before
 * the write as superseded, a stop (which nothing replaces) as unknown; after it
 * with what is known of it. */
void sequence_cut(struct sequence *sequence);

/* The outcome was taken: none is under way. */
void sequence_rest(struct sequence *sequence);

/* How long it has waited in vain for a silent device. */
int64_t sequence_silence_ns(const struct sequence *sequence);

#endif
