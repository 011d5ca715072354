#include "bridge/model/reason.h"

#include <stddef.h>

static const char *const reason_words[REASON_COUNT] = {
    [REASON_NONE] = "none",
    [REASON_RETAINED] = "retained",
    [REASON_TOO_LARGE] = "too_large",
    [REASON_MALFORMED] = "malformed",
    [REASON_UNKNOWN_DEVICE] = "unknown_device",
    [REASON_UNKNOWN_POINT] = "unknown_point",
    [REASON_NOT_WRITABLE] = "not_writable",
    [REASON_DUPLICATE] = "duplicate",
    [REASON_FUTURE_DATED] = "future_dated",
    [REASON_EXPIRED] = "expired",
    [REASON_SHUTTING_DOWN] = "shutting_down",
    [REASON_AUDIT_UNAVAILABLE] = "audit_unavailable",
    [REASON_RATE_LIMITED] = "rate_limited",
    [REASON_OUT_OF_RANGE] = "out_of_range",
    [REASON_OFF_STEP] = "off_step",
    [REASON_NOT_OWNER] = "not_owner",
    [REASON_DEVICE_OFFLINE] = "device_offline",
    [REASON_STATE_UNKNOWN] = "state_unknown",
    [REASON_NOT_READY] = "not_ready",
    [REASON_SOE_LOW] = "soe_low",
    [REASON_SOE_HIGH] = "soe_high",
    [REASON_BLOCKS] = "blocks",
    [REASON_STEP_TOO_LARGE] = "step_too_large",
    [REASON_OVERLAP] = "overlap",
    [REASON_CLOCK_UNSYNCHRONISED] = "clock_unsynchronised",
    [REASON_STALE_REVISION] = "stale_revision",
    [REASON_NOT_STORED] = "not_stored",
};

static const char *const outcome_words[OUTCOME_COUNT] = {
    [OUTCOME_CONFIRMED] = "confirmed", [OUTCOME_MISMATCH] = "mismatch",
    [OUTCOME_UNKNOWN] = "unknown",     [OUTCOME_FAILED] = "failed",
    [OUTCOME_REFUSED] = "refused",     [OUTCOME_SUPERSEDED] = "superseded",
    [OUTCOME_ACCEPTED] = "accepted",   [OUTCOME_LOST] = "lost",
};

/* Those that are always found with a detail of their own have none here. */
static const char *const hints[REASON_COUNT] = {
    [REASON_RETAINED] =
        "retained messages are never carried out: publish it without the retain flag",
    [REASON_TOO_LARGE] = "a command has at most 4096 bytes",
    [REASON_UNKNOWN_DEVICE] = "no device of this name is configured: see bridge/info",
    [REASON_UNKNOWN_POINT] = "the device has no such point: see its info",
    [REASON_NOT_WRITABLE] = "the point is read-only: by its type, or for want of a control group",
    [REASON_DUPLICATE] = "a command with this id is under way: its own outcome will follow",
    [REASON_SHUTTING_DOWN] = "the bridge is stopping: send it again when bridge/status is online",
    [REASON_AUDIT_UNAVAILABLE] =
        "the audit log cannot be written: only 0 is taken, see the bridge's log",
    [REASON_CLOCK_UNSYNCHRONISED] =
        "the kernel has not called the clock synchronised for an hour: see to NTP",
    [REASON_RATE_LIMITED] = "sooner after the last write than min_interval allows",
};

const char *reason_hint(enum reason reason)
{
    return hints[reason] != NULL ? hints[reason] : "";
}

const char *reason_word(enum reason reason)
{
    return reason_words[reason];
}

const char *outcome_word(enum outcome_kind outcome)
{
    return outcome_words[outcome];
}
