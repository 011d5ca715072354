/* plausible: what a register holds is not always a value.
 *
 * Pure. Looks at one decoded value and turns it into FAULT_IMPLAUSIBLE when it
 * is one of the point's sentinels ("not available" patterns such as 0xFFFF),
 * lies outside of its range, or is a counter that has fallen. A counter that
 * stays low for PLAUSIBLE_REPEATS scans in a row was really reset, and counts
 * on from there.
 */
#ifndef DEVICES_REGISTERS_PLAUSIBLE_H
#define DEVICES_REGISTERS_PLAUSIBLE_H

#include "devices/registers/point.h"

enum { PLAUSIBLE_REPEATS = 3 };

/* What is remembered of a counter between scans; zeroed at first. */
struct plausible {
    bool known;
    double last;   /* the last value let through */
    double low;    /* the last value held back */
    unsigned lows; /* held back in a row */
};

void plausible_check(const struct point *point, struct plausible *memory, struct value *value);

#endif
