/* recognise: of which type a device is, by what it answers.
 *
 * A type fits when nearly all of its registers are there and hold what they
 * can hold. Asks with function codes 03 and 04 alone, never writes. The rules
 * are pure; recognise_unit() asks a device.
 */
#ifndef BRIDGE_CLI_RECOGNISE_H
#define BRIDGE_CLI_RECOGNISE_H

#include "bridge/cli/reading.h"

struct recognised {
    const struct profile *profile; /* NULL: no type fits */
    unsigned good;                 /* points with a believable value */
    unsigned telling;              /* of these, such that are not 0 */
    unsigned wrong;                /* points that answer with nonsense */
    unsigned of;                   /* points asked for */
};

/* Whether a point of this unit and type can hold such a value: wider than the
 * profile's own range, it tells numbers from what merely happens to be there. */
bool recognise_is_believable(const struct point *point, double number);

/* Counts the values that a device gave as if it were of this type. */
struct recognised recognise_judge(const struct profile *profile, const struct value *values);

/* Three quarters of the points are believable, no more than an eighth holds
 * nonsense, and something is not 0. */
bool recognise_fits(const struct recognised *guess);

/* Whether `a` is the better guess of two that fit. */
bool recognise_is_better(const struct recognised *a, const struct recognised *b);

/* Asks the unit at `modbus` as each of `profiles`. FAULT_NONE when it answers;
 * *best has no profile when none fits. Else there is nobody. */
enum fault recognise_unit(struct link *link, const struct device_modbus *modbus,
                          struct profile *const *profiles, unsigned n_profiles,
                          struct recognised *best);

#endif
