/* control_state: whether the bridge holds a battery, in one word.
 *
 * Plain data. Of batteries whose type says how they are commanded.
 */
#ifndef BRIDGE_MODEL_CONTROL_STATE_H
#define BRIDGE_MODEL_CONTROL_STATE_H

enum control_state {
    CONTROL_NONE,      /* its type does not say */
    CONTROL_IDLE,      /* nothing is held: it follows its own plan, or another's */
    CONTROL_ENGAGING,  /* something is being written, or is written and not confirmed */
    CONTROL_HELD,      /* what was commanded is held */
    CONTROL_LOST,      /* it left that by itself: nothing is written before a newer command */
    CONTROL_RELEASING, /* it is being let go */
    CONTROL_STATES
};

/* "held"; "" for CONTROL_NONE. */
const char *control_state_word(enum control_state state);

#endif
