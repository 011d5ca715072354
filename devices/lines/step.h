/* step: whether an answer that comes now can be the answer to what is asked now.
 *
 * For lines whose answers carry no number. A request that got no answer leaves one
 * owed, by its unit and its function: as long as it may still come, the same
 * question to the same unit could be answered by it. It will come no more
 *  - when the unit has answered something that was asked later: devices answer one
 *    request after the other, or lose them;
 *  - when it, and what was asked since, has been given up for longer than the unit
 *    was ever late, and never less than 7/4 of its timeout; and the unit has said
 *    nothing for as long, unless it owes nothing else. When it can be asked
 *    something else that it is known to answer, or is known to answer several
 *    functions (a stranger's answer may be in the way of asking), its silence
 *    proves nothing, if not for ever.
 *
 * Pure: time comes in. One thread.
 */
#ifndef DEVICES_LINES_STEP_H
#define DEVICES_LINES_STEP_H

#include <stdbool.h>
#include <stdint.h>

enum { STEP_UNITS = 256, STEP_FUNCTIONS = 8 };

struct step {
    uint32_t asked; /* requests so far; they have this number in the order of asking */
    struct step_unit {
        /* Of each function: the first and the last request that is not answered. */
        uint32_t first[STEP_FUNCTIONS], last[STEP_FUNCTIONS];
        int64_t late_ns[STEP_FUNCTIONS]; /* when its answer is late no more; 0 = one came since */
        unsigned missing;                /* answers that are likely to come */
        uint8_t owed;                    /* a bit for each function that has such requests, */
        int64_t until_ns;                /* until then, if silence counts */
        int64_t due_ns;                  /* when the answer to the last question is */
        int64_t missed_ns;               /* when the last answer was given up; 0 = never */
        int64_t latest_ns;               /* the longest that one came after that */
        int64_t timeout_ns;              /* of the last question; 0 = never asked */
        uint8_t answers; /* a bit for each function that reads and was ever answered */
    } units[STEP_UNITS];
};

/* A question goes out. */
void step_ask(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns,
              int64_t timeout_ns);

/* The answer to it came. */
void step_answer(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns);

/* It did not come, and is given up, be it before its time is over. */
void step_miss(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns);

/* An answer came that cannot, or need not, be the one to the last question: it shows
 * nothing but that the unit is not silent. */
void step_hear(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns);

/* A function that reads, whose answer would show that this one is owed no more, or
 * at least one that was asked before; 0 = none. */
uint8_t step_probe(const struct step *step, uint8_t unit, uint8_t function);

/* Whether an answer of this unit to this function may be an old one, */
bool step_owes(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns);
/* and from when on it will not, if silence counts. */
int64_t step_until_ns(const struct step *step, uint8_t unit);

#endif
