#include "bridge/model/outcome.h"

const char *outcome_why(const struct outcome *outcome)
{
    const bool by_rule = outcome->reason != REASON_NONE;
    if (outcome->kind == OUTCOME_REFUSED || (outcome->kind == OUTCOME_FAILED && by_rule))
        return reason_word(outcome->reason);
    return outcome->kind == OUTCOME_FAILED ? fault_word(outcome->fault) : "";
}
