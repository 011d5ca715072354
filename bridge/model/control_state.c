#include "bridge/model/control_state.h"

const char *control_state_word(enum control_state state)
{
    static const char *const words[CONTROL_STATES] = {
        [CONTROL_NONE] = "",     [CONTROL_IDLE] = "idle", [CONTROL_ENGAGING] = "engaging",
        [CONTROL_HELD] = "held", [CONTROL_LOST] = "lost", [CONTROL_RELEASING] = "releasing",
    };
    return words[state];
}
