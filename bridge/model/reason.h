/* reason: the closed vocabulary of a command's fate.
 *
 * Maps one to one onto the tables in topics.md; a test compares them.
 */
#ifndef BRIDGE_MODEL_REASON_H
#define BRIDGE_MODEL_REASON_H

/* Why a command is refused, in the order of the checks: the first that fails
 * gives the reason. */
enum reason {
    REASON_NONE = 0,
    REASON_RETAINED,
    REASON_TOO_LARGE,
    REASON_MALFORMED,
    REASON_UNKNOWN_DEVICE,
    REASON_UNKNOWN_POINT,
    REASON_NOT_WRITABLE,
    REASON_DUPLICATE,
    REASON_FUTURE_DATED,
    REASON_EXPIRED,
    REASON_SHUTTING_DOWN,
    REASON_AUDIT_UNAVAILABLE,
    REASON_RATE_LIMITED,
    REASON_OUT_OF_RANGE,
    REASON_OFF_STEP,
    REASON_NOT_OWNER,
    REASON_DEVICE_OFFLINE,
    REASON_STATE_UNKNOWN,
    REASON_NOT_READY,
    REASON_SOE_LOW,
    REASON_SOE_HIGH,
    REASON_BLOCKS,
    REASON_STEP_TOO_LARGE,
    /* Of a schedule alone. */
    REASON_OVERLAP,
    REASON_CLOCK_UNSYNCHRONISED,
    REASON_STALE_REVISION,
    REASON_NOT_STORED,
    REASON_COUNT
};

enum outcome_kind {
    OUTCOME_CONFIRMED,  /* written and read back */
    OUTCOME_MISMATCH,   /* written, reads back otherwise */
    OUTCOME_UNKNOWN,    /* the write's reply was lost and the read-back could not settle it */
    OUTCOME_FAILED,     /* the device refused: the exception's word is the reason; or a rule
                           turned when command_source was written: the rule's word is */
    OUTCOME_REFUSED,    /* not written; see enum reason */
    OUTCOME_SUPERSEDED, /* not written; a newer setpoint took its place */
    OUTCOME_ACCEPTED,   /* a schedule: it is on disk, and in force from now on */
    OUTCOME_LOST,       /* was confirmed; the battery has left it by itself since */
    OUTCOME_COUNT
};

const char *reason_word(enum reason reason);         /* "soe_low" */
const char *reason_hint(enum reason reason);         /* what to do, when there is no more to say */
const char *outcome_word(enum outcome_kind outcome); /* "confirmed" */

#endif
