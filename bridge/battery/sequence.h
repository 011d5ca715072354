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

#include "bridge/model/outcome.h"
#include "devices/lines/link.h"
#include "devices/registers/device.h"

struct sequence;

/* NULL when out of memory. */
struct sequence *sequence_new(const struct device *device);
void sequence_free(struct sequence *sequence);

/* Begins with `outcome->command`, which was admitted; the outcome is filled in
 * as far as the sequence gets, and must stay where it is until the end. With
 * `look`, what the setpoint holds is read first. `judge_only`: ends before
 * anything would be written, REFUSED with no reason when nothing forbids it. */
void sequence_begin(struct sequence *sequence, struct outcome *outcome, bool look, bool judge_only);

enum sequence_step {
    SEQUENCE_IDLE,  /* none is under way */
    SEQUENCE_MORE,  /* sequence_step() does the next transaction */
    SEQUENCE_PAUSE, /* not before sequence_pause_ns() */
    SEQUENCE_WRITE, /* the next one writes the value: the last moment to say no */
    SEQUENCE_ENDED  /* the outcome is complete but for done_ns */
};

/* Where it stands. */
enum sequence_step sequence_state(const struct sequence *sequence);
int64_t sequence_pause_ns(const struct sequence *sequence);

/* Does the next transaction, at most one besides opening the link; what writes is
 * not done together with that, since opening may take a while. */
void sequence_step(struct sequence *sequence, struct link *link);

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
