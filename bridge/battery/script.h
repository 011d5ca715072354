/* script: the writes of a type's list as requests, in order, and what must read back.
 *
 * Pure. Made for one setpoint from what a profile says (devices/registers/drive.h).
 */
#ifndef BRIDGE_BATTERY_SCRIPT_H
#define BRIDGE_BATTERY_SCRIPT_H

#include "devices/registers/device.h"

enum script_list { SCRIPT_ENGAGE, SCRIPT_SET, SCRIPT_RELEASE, SCRIPT_BEAT };

enum {
    SCRIPT_STEPS_MAX = 2 * DRIVE_WRITES_MAX + 1, /* engage, set, and the timeout */
    SCRIPT_WORDS_MAX = DRIVE_WRITES_MAX * POINT_NUMBER_WORDS_MAX,
    SCRIPT_PROOFS_MAX = 2 * DRIVE_WRITES_MAX + DRIVE_PROOFS_MAX + 1
};

/* One request. */
struct script_step {
    enum point_table table;
    uint16_t address, count;
    bool multiple;
    bool carries;  /* the setpoint, or what tells its direction */
    bool beats;    /* the keepalive's value, and nothing else */
    bool prepares; /* a point that `set` writes, too: what it does from before must not go on */
    unsigned point;
    double number; /* of its first row, for people */
    uint16_t words[SCRIPT_WORDS_MAX];
};

struct script {
    enum script_list list;
    unsigned n;
    struct script_step steps[SCRIPT_STEPS_MAX];
};

/* What a point has to read. */
struct script_proof {
    unsigned point;
    bool power; /* the setpoint in kW, to which nobody writes; else */
    double kw;  /* with `power` */
    uint64_t raw;
    double number;
};

struct script_proofs {
    unsigned n;
    struct script_proof proofs[SCRIPT_PROOFS_MAX];
};

/* The requests of a list for a setpoint, with the keepalive's `beat`-th value; `values`
 * have what percentages are of (NULL: not known). Engaging ends with the setpoint, unless
 * its list has it already. Returns NULL, or the row that cannot be written so. */
const struct point *script_make(const struct device *device, enum script_list list, double kw,
                                const struct value *values, unsigned beat, struct script *script);

/* Moves the keepalive behind the setpoint. To a battery that may be running a keepalive is
 * a sign to go on, which must not come before it has taken what it is told now. */
void script_beat_last(struct script *script);

/* What must read back once the setpoint is written; of a release: what it wrote. */
void script_prove(const struct device *device, enum script_list list, double kw,
                  const struct value *values, struct script_proofs *proofs);

/* Whether they do: the first that does not, or NULL. One that was not read does not. */
const struct script_proof *script_disagrees(const struct device *device,
                                            const struct script_proofs *proofs,
                                            const struct value *values);
/* Whether all of them were read. */
bool script_is_read(const struct script_proofs *proofs, const struct value *values);

/* Whether these values say that somebody commands the battery by this interface: all that
 * `proof` names reads as engage writes it. */
bool script_is_engaged(const struct device *device, const struct value *values);

/* Whether they do not say that nobody does: what was not read may be. NULL: nothing was. */
bool script_may_be_engaged(const struct device *device, const struct value *values);

#endif
