/* kept_state: waits until what was put into a state is on its disk. */
#ifndef TESTS_UNIT_KEPT_STATE_H
#define TESTS_UNIT_KEPT_STATE_H

#include <sched.h>
#include <stdbool.h>

#include "bridge/base/clock.h"
#include "bridge/store/state.h"

/* False when `until_ns` came first. A disk that refuses it is tried again all the while. */
static inline bool state_sync(struct state *state, int64_t until_ns)
{
    const uint64_t mark = state_mark(state);
    while (!state_is_kept(state, mark)) {
        if (clock_awake_ns() >= until_ns)
            return false;
        state_settle(state, mark, until_ns);
        sched_yield(); /* settled, and refused: look again */
    }
    return true;
}

#endif
