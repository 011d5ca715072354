/* step: whether an answer that comes now can be the answer to what is asked now.
 *
 * For lines whose answers carry no number. A request that got no answer leaves
 * one owed, by its unit and its function: as long as it may still come, the same
 * question to the same unit could be answered by it. It may come no more
 *  - when it has been given up for longer than the unit was ever late, and never
 *    less than 7/4 of its timeout;
 *  - when the unit has answered something that no request before could be meant
 *    by, because it was asked later: devices answer one after the other.
 *
 * Pure: time comes in. One thread.
 */
#ifndef DEVICES_LINES_STEP_H
#define DEVICES_LINES_STEP_H

#include <stdbool.h>
#include <stdint.h>

enum { STEP_UNITS = 256 };

struct step {
    struct step_unit {
        uint32_t owed;      /* a bit for each function of which an answer may still come */
        int64_t until_ns;   /* not after this */
        int64_t missed_ns;  /* when the last answer was given up; 0 = never */
        int64_t latest_ns;  /* the longest that one came after that */
        int64_t timeout_ns; /* of the last question */
    } units[STEP_UNITS];
};

/* The unit is asked, and has so long to answer. */
void step_ask(struct step *step, uint8_t unit, int64_t timeout_ns);

/* An answer to this function did not come, and is given up now. */
void step_miss(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns);

/* An answer came that nobody waits for. */
void step_hear(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns);

/* The unit has answered what was asked after all that it owes. */
void step_settle(struct step *step, uint8_t unit);

/* Whether an answer of this unit to this function may be an old one, */
bool step_owes(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns);
/* and from when on it will not. */
int64_t step_until_ns(const struct step *step, uint8_t unit);

#endif
