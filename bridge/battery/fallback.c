#include "bridge/battery/fallback.h"

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

void fallback_init(struct fallback *fallback, const struct device_control *control)
{
    *fallback = (struct fallback){.told = OUTCOME_COUNT};
    deadman_init(&fallback->deadman, control->deadman_timeout_ns, control->deadman_value);
}

int64_t fallback_due_ns(const struct fallback *fallback)
{
    switch (fallback->state) {
    case FALLBACK_STAYS:
        return deadman_next_ns(&fallback->deadman);
    case FALLBACK_WRITES:
    case FALLBACK_STOPS:
        return 0;
    default:
        return CLOCK_NEVER;
    }
}

bool fallback_goes_first(const struct fallback *fallback, int64_t since_ns)
{
    return fallback->state == FALLBACK_STAYS && since_ns >= fallback->deadman.end_ns;
}

void fallback_begin(struct fallback *fallback, int64_t now_ns, enum command_author *author,
                    double *value)
{
    const struct deadman *deadman = &fallback->deadman;
    *author = fallback->state == FALLBACK_STAYS ? AUTHOR_DEADMAN : AUTHOR_EXIT;
    *value = fallback->state == FALLBACK_STOPS || deadman->stopped ? 0.0 : deadman->fallback;
    if (*author == AUTHOR_DEADMAN && deadman->state != DEADMAN_FIRING)
        fallback->told = OUTCOME_COUNT;
    if (*author == AUTHOR_DEADMAN)
        (void)deadman_is_due(&fallback->deadman, now_ns, value);
}

/* Refused since the claim on the device is somebody else's. */
static bool is_foreign(const struct outcome *outcome)
{
    return outcome->kind == OUTCOME_REFUSED && outcome->reason == REASON_NOT_OWNER;
}

static bool take_deadman(struct fallback *fallback, const struct outcome *outcome, int64_t rest_ns)
{
    struct deadman *deadman = &fallback->deadman;
    const struct command *command = &outcome->command;
    const bool confirmed = outcome->kind == OUTCOME_CONFIRMED;
    const bool news = confirmed || outcome->kind != fallback->told;
    if (fallback->told == OUTCOME_COUNT)
        log_warning("deadman: no fresh setpoint, writing the fallback device=%s value_kw=%g",
                    command->device_name, command->value);
    fallback->told = outcome->kind;
    if (confirmed) {
        deadman_done(deadman);
        log_info("deadman: the fallback is confirmed device=%s value_kw=%g", command->device_name,
                 outcome->readback);
        return news;
    }
    /* From the end, so that what waits has its turn in between. */
    deadman_rest(deadman, outcome->done_ns + DEADMAN_RETRY_NS);
    if (!command->stop && outcome->written_ns == 0) {
        /* Where nobody answers, zero at once would find nobody either. */
        deadman_forbid(deadman, outcome->reason == REASON_DEVICE_OFFLINE ? deadman->next_ns
                                                                         : outcome->done_ns);
    }
    deadman_rest(deadman, rest_ns);
    return news;
}

/* One attempt at the fallback, and one at zero when that fails. */
static bool take_exit(struct fallback *fallback, const struct outcome *outcome)
{
    const bool again = !outcome->command.stop && outcome->kind != OUTCOME_CONFIRMED;
    fallback->state = again && !is_foreign(outcome) ? FALLBACK_STOPS : FALLBACK_LEFT;
    return !is_foreign(outcome);
}

bool fallback_take(struct fallback *fallback, const struct outcome *outcome, int64_t rest_ns)
{
    if (outcome->kind == OUTCOME_SUPERSEDED)
        return false; /* a stop went first: what follows it is zero */
    if (outcome->command.author == AUTHOR_EXIT)
        return take_exit(fallback, outcome);
    return !is_foreign(outcome) && take_deadman(fallback, outcome, rest_ns);
}

void fallback_follow(struct fallback *fallback, const struct outcome *outcome)
{
    struct deadman *deadman = &fallback->deadman;
    if (outcome->kind == OUTCOME_CONFIRMED)
        deadman_confirm(deadman, outcome->command.value, outcome->written_ns);
    else if (outcome->written_ns != 0 && outcome->kind != OUTCOME_FAILED)
        deadman_doubt(deadman, outcome->command.value, outcome->written_ns);
}

void fallback_leave(struct fallback *fallback, const struct device *device)
{
    if (fallback->state == FALLBACK_STAYS)
        fallback->state = device->controllable && device->control.on_exit == DEVICE_FALLBACK
                              ? FALLBACK_WRITES
                              : FALLBACK_LEAVES;
}

bool fallback_has_left(const struct fallback *fallback)
{
    return fallback->state == FALLBACK_LEAVES || fallback->state == FALLBACK_LEFT;
}
