#include "bridge/battery/battery_work.h"

#include <stdio.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/battery/admit.h"
#include "bridge/battery/battery_schedule.h"
#include "bridge/battery/battery_told.h"

/* ---- how it begins ---- */

bool battery_holds_claim(struct battery *battery, const struct link *link,
                         char holder[CLAIM_TEXT_MAX])
{
    const bool was_denied = battery->claim.denied;
    bool held = claim_hold(&battery->claim, link->peer, (unsigned)battery->device->modbus.address,
                           battery->setup.who, holder);
    if (!held && !was_denied)
        log_warning("the device is held by another: commands but stops are refused until it is "
                    "let go device=%s holder=\"%s\"",
                    battery_name(battery), holder);
    return held;
}

/* What forbids a command before its device is asked for its state. A stop is
 * forbidden by nothing; but only who holds the claim writes zero of his own. */
static void refuse_early(struct battery *battery, struct link *link)
{
    const struct command *command = &battery->outcome.command;
    const int64_t now_ns = clock_mono_ns();
    char holder[CLAIM_TEXT_MAX], detail[DETAIL_MAX] = "";
    enum reason reason = REASON_NONE;
    enum fault fault = FAULT_NONE;
    if (now_ns >= command->expires_ns) {
        reason = REASON_EXPIRED;
        (void)snprintf(detail, sizeof(detail), "its life ended before its turn came");
    } else if (admit_is_too_soon(battery->device, command, now_ns, battery->last_write_ns)) {
        reason = REASON_RATE_LIMITED;
    } else if (now_ns < battery->rest_ns && !command_is_own(command)) {
        reason = REASON_DEVICE_OFFLINE;
        (void)snprintf(detail, sizeof(detail),
                       "it did not answer the last command; its neighbours come first for %lld ms",
                       (long long)((battery->rest_ns - now_ns) / CLOCK_NS_PER_MS));
    } else if ((fault = link_open(link, battery->device->modbus.timeout_ns)) != FAULT_NONE) {
        reason = REASON_DEVICE_OFFLINE;
        (void)snprintf(detail, sizeof(detail), "%s: %s", fault_word(fault), link->error);
    } else if (!battery_holds_claim(battery, link, holder)) {
        reason = REASON_NOT_OWNER;
        (void)snprintf(detail, sizeof(detail), "held by %s", holder);
    }
    if (reason != REASON_NONE)
        sequence_refuse(battery->sequence, reason, detail);
}

void battery_begin(struct battery *battery, const struct command *command, struct link *link)
{
    battery->working = command->point;
    battery->outcome = (struct outcome){.command = *command};
    sequence_begin(battery->sequence, &battery->outcome,
                   unsettled_waits(&battery->unsettled[command->point], command->point),
                   battery->setup.judge_only);
    if (!command->stop || command_is_own(command))
        refuse_early(battery, link);
}

/* ---- how it ends ---- */

void battery_rest_after(struct battery *battery, int64_t silence_ns, int64_t now_ns)
{
    if (!battery->setup.shares_line || silence_ns == 0)
        return;
    if (battery->rest_ns < now_ns)
        battery->rest_ns = now_ns;
    battery->rest_ns += link_rest_ns(silence_ns);
}

static void note_times(struct battery *battery, const struct outcome *outcome)
{
    battery->ended_ns = outcome->done_ns;
    if (outcome->written_ns != 0 && outcome->kind != OUTCOME_FAILED &&
        battery->device->controllable &&
        (int)outcome->command.point == battery->device->control.setpoint)
        battery->last_write_ns = outcome->written_ns;
    battery_rest_after(battery, sequence_silence_ns(battery->sequence), outcome->done_ns);
}

/* Tells the driver what came of it. */
static void tell_driver(struct battery *battery, const struct outcome *outcome)
{
    const struct intent *intent = battery_power(battery);
    struct driver_end end = sequence_end(battery->sequence);
    end.outcome = outcome;
    end.stop_waits = intent->stops.n > 0 || intent->is_owed;
    battery->begins = false;
    driver_end(battery->driver, &end);
}

/* One of the bridge's own; whether it is to be told. */
static bool take_own(struct battery *battery, const struct outcome *outcome)
{
    return outcome->command.author == AUTHOR_SCHEDULE
               ? battery_take_entry(battery, outcome)
               : fallback_take(&battery->fallback, outcome, battery->rest_ns);
}

/* A live setpoint has ended so. One that failed may be held, now or later: what followed it
 * was refused, or it was not answered by the device. A stop before it stays the last word:
 * what that lease ends at is zero. */
static void follow(struct battery *battery, const struct outcome *outcome)
{
    const bool failed = outcome->kind == OUTCOME_FAILED;
    const bool took = sequence_end(battery->sequence).took;
    struct deadman *deadman = &battery->fallback.deadman;
    fallback_follow(&battery->fallback, outcome);
    if (failed && took)
        deadman_find(deadman, outcome->command.value, outcome->written_ns + deadman->timeout_ns);
    if (outcome->kind == OUTCOME_CONFIRMED)
        battery->held_kw = outcome->command.value;
    if (outcome->written_ns != 0 && (!failed || took))
        scheduled_give_way(&battery->scheduled, battery_lease_end_ns(battery, outcome->written_ns));
}

void battery_finish(struct battery *battery)
{
    struct outcome *outcome = &battery->outcome;
    struct intent *intent = &battery->intents[battery->working];
    const struct intent_stops stops = intent->current;
    const enum intent_work work = intent->work;
    const bool zero = outcome->command.stop, confirmed = outcome->kind == OUTCOME_CONFIRMED;
    struct intent_stops settled;
    struct outcome corrected;

    outcome->done_ns = clock_mono_ns();
    battery_tell_lost(battery);
    sequence_rest(battery->sequence);
    note_times(battery, outcome);
    if (outcome->written_ns != 0 && outcome->kind != OUTCOME_FAILED &&
        unsettled_overwrite(&battery->unsettled[battery->working], battery->working,
                            outcome->done_ns, &corrected))
        battery_tell(battery, &corrected);
    /* From the end, so that what waits has its turn in between. */
    int64_t retry_ns = outcome->done_ns + INTENT_RETRY_NS;
    if (retry_ns < battery->rest_ns)
        retry_ns = battery->rest_ns;
    intent_end(intent, zero, confirmed, retry_ns, &settled);
    if (battery->driver != NULL && intent == battery_power(battery))
        tell_driver(battery, outcome);
    const bool own_told = work == INTENT_OWN && take_own(battery, outcome);
    if (work == INTENT_STOP) /* what it cut off may have begun a lease */
        deadman_stop(&battery->fallback.deadman);
    if (work == INTENT_SETPOINT && intent == battery_power(battery))
        follow(battery, outcome);
    battery_remember(battery);
    if (work == INTENT_STOP)
        battery_tell_stops(battery, outcome, &stops, false);
    else if (work == INTENT_SETPOINT || own_told)
        battery_tell(battery, outcome);
    battery_tell_stops(battery, outcome, &settled, true);
    if (outcome->kind == OUTCOME_UNKNOWN && outcome->written_ns != 0 && work == INTENT_SETPOINT)
        unsettled_note(&battery->unsettled[battery->working], outcome);
}

/* ---- one step ---- */

/* Whether what is under way is somebody's setpoint for the battery. */
static bool is_live_setpoint(const struct battery *battery)
{
    const struct intent *intent = &battery->intents[battery->working];
    return intent == battery_power(battery) && intent->work == INTENT_SETPOINT;
}

/* The last moment before the value is written. Where the link has to be opened for
 * it, that is all: what has come meanwhile goes first. */
static void write_or_not(struct battery *battery, struct link *link)
{
    const struct command *command = &battery->outcome.command;
    const struct intent *intent = &battery->intents[battery->working];
    struct intent_stops settled;
    if (battery->outcome.written_ns == 0 && clock_mono_ns() >= command->expires_ns) {
        sequence_refuse(battery->sequence, REASON_EXPIRED,
                        "its life ended before it could be written");
    } else if (battery->outcome.written_ns == 0 && battery_is_out_of_date(battery)) {
        sequence_refuse(battery->sequence, REASON_EXPIRED, "the entry is not in force any more");
    } else if (!link_is_sound(link)) {
        link_close(link);
        sequence_step(battery->sequence, link);
    } else if (battery->outcome.written_ns != 0 ||
               (!sequence_carries(battery->sequence) && !intent->overtaken)) {
        battery->begins = true;
        battery->written = battery->written || is_live_setpoint(battery);
        if (!sequence_has_written(battery->sequence))
            battery_remember(battery); /* should this run end in the middle, the next undoes it */
        sequence_step(battery->sequence, link);
    } else if (intent_write(&battery->intents[battery->working], command->stop, &settled)) {
        battery->begins = battery->driver != NULL && intent == battery_power(battery);
        battery->written = battery->written || is_live_setpoint(battery);
        battery_remember(battery); /* a stop that this ends is not the next run's either */
        sequence_step(battery->sequence, link);
    } else {
        sequence_cut(battery->sequence);
    }
}

bool battery_is_preceded(const struct battery *battery)
{
    const struct intent *intent = battery_power(battery);
    const struct command *command = &battery->outcome.command;
    if (battery->releases)
        return intent_stop_is_due(intent, clock_mono_ns());
    return intent != NULL && intent->stops.n > 0 && (!command->stop || command_is_own(command));
}

/* Whether a stop waits while something else is under way. That ends then: what is
 * not yet written is overtaken, or at another point it waits once more; of what is
 * written, its read-backs are left undone. */
static bool gives_way(struct battery *battery)
{
    struct intent *intent = &battery->intents[battery->working];
    if (!battery_is_preceded(battery))
        return intent->overtaken && !intent->written;
    if (intent != battery_power(battery) && intent_put_back(intent)) {
        sequence_rest(battery->sequence);
        return false;
    }
    return true;
}

/* Whether what is under way was written before and is not confirmed. It is written
 * again in a second anyway, so that one read-back will do: nobody else on the line
 * waits for more. */
static bool is_repeated(const struct battery *battery)
{
    const struct intent *intent = &battery->intents[battery->working];
    if (battery->outcome.command.author == AUTHOR_DEADMAN)
        return battery->fallback.told != OUTCOME_COUNT;
    if (battery->outcome.command.author == AUTHOR_SCHEDULE)
        return battery->outcome.command.stop &&
               battery->scheduled.schedule.zero_ns != SCHEDULE_NEVER;
    return intent->work == INTENT_STOP && intent->current.n == 0;
}

void battery_go_on(struct battery *battery, struct link *link)
{
    struct value held;
    if (gives_way(battery)) {
        sequence_cut(battery->sequence);
        return;
    }
    switch (sequence_state(battery->sequence)) {
    case SEQUENCE_MORE:
        sequence_step(battery->sequence, link);
        if (sequence_looked(battery->sequence, &held))
            battery_settle(battery, battery->working, &held);
        if (battery->outcome.written_ns != 0 && is_repeated(battery) &&
            sequence_state(battery->sequence) == SEQUENCE_PAUSE)
            sequence_cut(battery->sequence);
        break;
    case SEQUENCE_WRITE:
        write_or_not(battery, link);
        break;
    case SEQUENCE_PAUSE:
    case SEQUENCE_IDLE:
    case SEQUENCE_ENDED:
        break;
    }
}
