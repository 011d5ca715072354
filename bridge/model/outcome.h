/* outcome: what came of a command.
 *
 * Plain data: the command as it was, and what happened to it. Made by whoever
 * ends the command, answered by the subscriber (bridge/commands/answers.h).
 */
#ifndef BRIDGE_MODEL_OUTCOME_H
#define BRIDGE_MODEL_OUTCOME_H

#include "bridge/model/command.h"
#include "bridge/model/reason.h"
#include "devices/lines/fault.h"

enum { DETAIL_MAX = 200, OUTCOME_WORDS_MAX = 4 };

struct outcome {
    struct command command;
    enum outcome_kind kind;
    enum reason
        reason; /* with REFUSED; with FAILED when a rule turned after a register was written */
    enum fault fault; /* with FAILED else, and what hid the truth with UNKNOWN */
    bool correction;  /* settles an earlier outcome of the same id */
    bool has_readback;
    double readback;                        /* in the point's unit */
    int64_t judged_ns, written_ns, done_ns; /* monotonic; 0 = did not come to it */
    unsigned n_words;                       /* registers sent */
    uint16_t words[OUTCOME_WORDS_MAX];
    char detail[DETAIL_MAX]; /* in words, "" when there is nothing to add */
    uint64_t kept_mark;      /* what of the state is to be on disk before it is told: its number */
    bool unaudited;          /* it is told although its line is not on disk */
};

/* Why it was refused or has failed, in one word (topics.md); "" else. */
const char *outcome_why(const struct outcome *outcome);

#endif
