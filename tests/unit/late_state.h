/* late_state: a state file whose disk comes when the bridge runs already. In a scratch
 * directory (given.h). */
#ifndef TESTS_UNIT_LATE_STATE_H
#define TESTS_UNIT_LATE_STATE_H

#include <sys/stat.h>

#include "bridge/base/clock.h"
#include "bridge/store/state.h"
#include "tests/unit/given.h"

/* With one key of an earlier run. The file is not there yet. */
static inline struct state *given_late_state(const char *key, const char *text)
{
    assert_int_equal(mkdir("away", 0700), 0);
    struct state *state = state_open("away/state.db", NULL);
    assert_true(state_put(state, key, text));
    state_close(state);
    state = state_open("disk/state.db", NULL);
    assert_non_null(state);
    assert_false(state_is_loaded(state));
    return state;
}

static inline void wait_late_state(struct state *state)
{
    assert_int_equal(rename("away", "disk"), 0);
    assert_true(state_is_decided(state, CLOCK_NEVER));
    assert_true(state_is_loaded(state));
}

#endif
