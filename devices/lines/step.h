/* step: whether an answer that comes now can be the answer to what is asked now.
 *
 * For lines whose answers carry no number. A request that got no answer leaves one
 * owed, by its unit and its function: as long as it may still come, the same
 * question to the same unit could be answered by it. It will come no more
 *  - when the unit has answered something that was asked later and that no earlier
 *    answer looks like: another function, or the same with another length. Devices
 *    answer one request after the other, or lose them;
 *  - when the unit was silent, after it had said something again, for as long as it was
 *    ever late, and never less than 1.5 times its timeout. That is for units which do not
 *    answer such questions: of one that does, and of one that says nothing at all,
 *    silence proves nothing, if not for ever.
 *
 * Pure: time comes in. One thread.
 */
#ifndef DEVICES_LINES_STEP_H
#define DEVICES_LINES_STEP_H

#include <stdbool.h>
#include <stdint.h>

enum { STEP_UNITS = 256 };

/* What may be owed: four functions that read, four that write, and a read of another
 * length than any that is asked otherwise. */
enum { STEP_LENGTH = 8, STEP_KINDS };

/* What is asked only to see the line in step: `function` 0 = nothing. */
struct step_probe {
    uint8_t function;
    bool by_length; /* only data of that length is the answer; else a refusal is one, too */
    uint16_t count;
};

struct step {
    uint32_t asked; /* requests so far; they have this number in the order of asking */
    struct step_unit {
        /* Of each kind: the first and the last request that is not answered. */
        uint32_t first[STEP_KINDS], last[STEP_KINDS];
        int64_t late_ns[STEP_KINDS]; /* when its answer is late no more; 0 = one came since */
        unsigned missing;            /* answers that are likely to come */
        uint16_t owed;               /* a bit for each kind that has such requests, */
        int64_t until_ns;            /* until then, if silence counts */
        int64_t due_ns;              /* when the answer to the last question is */
        int64_t missed_ns;           /* when the last answer was given up; 0 = never */
        int64_t latest_ns;           /* the longest that one came after that */
        int64_t timeout_ns;          /* of the last question; 0 = never asked */
        uint16_t answers;            /* a bit for each kind that reads and was ever answered */
        bool refused;                /* since it owes something, a probe by length */
        bool refuses;                /* or ever */
        int64_t tried_ns;            /* when the first was asked since then; 0 = none yet */
        bool unmoved; /* it answered no probe for so long that it may be asked again, */
        uint8_t mute; /* and then answered: so often */
        /* Lengths of answers, in registers or in bytes of bits. */
        uint8_t shortest, longest; /* of all that was ever asked; 0 = nothing yet */
        uint8_t length, n_lengths; /* the probe's, and how many were tried while one is owed */
        uint8_t length_function;
    } units[STEP_UNITS];
};

/* A question goes out; `count` as in a read. */
void step_ask(struct step *step, uint8_t unit, uint8_t function, uint16_t count, int64_t now_ns,
              int64_t timeout_ns);

/* The answer to it came. */
void step_answer(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns);

/* It did not come, and is given up, be it before its time is over. */
void step_miss(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns);

/* An answer came that cannot, or need not, be the one to the last question: it shows
 * nothing but that the unit is not silent. */
void step_hear(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns);

/* What to ask before this, so that its answer would show that nothing of before is owed of
 * this function, or at least of another one that is in the way. */
struct step_probe step_probe(struct step *step, uint8_t unit, uint8_t function, uint16_t count);

/* The same for a probe. */
void step_ask_probe(struct step *step, uint8_t unit, struct step_probe probe, int64_t now_ns,
                    int64_t timeout_ns);
void step_answer_probe(struct step *step, uint8_t unit, struct step_probe probe, int64_t now_ns);
void step_miss_probe(struct step *step, uint8_t unit, struct step_probe probe, int64_t now_ns);
/* One by length was refused: as would be what is owed, perhaps. */
void step_refuse_length(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns);

/* Whether an answer of this unit to this function may be an old one, */
bool step_owes(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns);
/* and from when on it will not, as silence counts now; INT64_MAX = it does not. */
int64_t step_until_ns(const struct step *step, uint8_t unit);

#endif
