#include "bridge/battery/battery_schedule.h"

#include "bridge/base/clock.h"
#include "bridge/battery/battery_told.h"

/* ---- what comes in ---- */

void battery_begin_schedule(struct battery *battery)
{
    scheduled_init(&battery->scheduled, battery->device, battery->setup.index,
                   battery->device->controllable ? battery->setup.state : NULL,
                   battery->setup.health);
}

void battery_end_schedule(struct battery *battery)
{
    struct outcome outcome;
    scheduled_stop(&battery->scheduled);
    if (!scheduled_is_pending(&battery->scheduled))
        return;
    scheduled_end_pending(&battery->scheduled, OUTCOME_SUPERSEDED, REASON_NONE, "a stop came first",
                          &outcome);
    battery_tell(battery, &outcome);
}

void battery_recall_late(struct battery *battery)
{
    struct scheduled *scheduled = &battery->scheduled;
    if (battery->recalled || !state_is_loaded(battery->setup.state))
        return;
    battery->recalled = true;
    if (scheduled->schedule.table == NULL && !scheduled_is_pending(scheduled)) {
        battery_begin_schedule(battery);
        if (battery->stopped)
            battery_end_schedule(battery);
        else if (battery->written)
            scheduled_give_way(scheduled, battery_lease_end_ns(battery, clock_mono_ns()));
    }
    if (battery->stopped || battery->written)
        battery_remember(battery);
    else
        battery_recall(battery);
}

/* A newer schedule goes before one that waits for the disk; it is judged with that as
 * the last, so that of two the higher revision stays. */
void battery_put_schedule(struct battery *battery, const struct command *command)
{
    struct scheduled *scheduled = &battery->scheduled;
    struct outcome outcome;
    const bool leaves = battery->fallback.state != FALLBACK_STAYS;
    battery_recall_late(battery);
    if (!leaves && scheduled_is_pending(scheduled) &&
        command->revision > scheduled->offer.revision) {
        scheduled_end_pending(scheduled, OUTCOME_SUPERSEDED, REASON_NONE,
                              "a newer revision came first", &outcome);
        battery_tell(battery, &outcome);
    }
    if (leaves || scheduled_is_pending(scheduled)) {
        scheduled_refuse(command, leaves ? REASON_SHUTTING_DOWN : REASON_STALE_REVISION, &outcome);
        battery_tell(battery, &outcome);
    } else if (!battery->recalled) { /* that one's revision may be higher */
        scheduled_refuse(command, REASON_NOT_STORED, &outcome);
        battery_tell(battery, &outcome);
    } else if (scheduled_offer(scheduled, command, &outcome)) {
        battery_tell(battery, &outcome);
    }
}

void battery_tend_schedule(struct battery *battery)
{
    struct outcome outcome;
    if (scheduled_tend(&battery->scheduled, &outcome))
        battery_tell(battery, &outcome);
}

/* ---- what it wants ---- */

bool battery_schedule_is_due(const struct battery *battery, struct schedule_wish *wish,
                             int64_t *due_ns)
{
    const struct intent *intent = battery_power(battery);
    const struct scheduled *scheduled = &battery->scheduled;
    const struct deadman *deadman = &battery->fallback.deadman;
    *due_ns = CLOCK_NEVER;
    if (intent == NULL || battery->setup.judge_only || battery->fallback.state != FALLBACK_STAYS ||
        scheduled->schedule.table == NULL || intent->is_owed || intent->stops.n > 0)
        return false;
    const struct schedule_now now =
        scheduled_now(scheduled, deadman->state == DEADMAN_IDLE ? SCHEDULE_NEVER : deadman->end_ns);
    bool wants = schedule_wants(&scheduled->schedule, &now, wish, due_ns);
    const int64_t trust_ns = scheduled_trust_end_ns(scheduled);
    if (now.mono_ns < trust_ns && trust_ns < *due_ns)
        *due_ns = trust_ns;
    if (*due_ns < battery->rest_ns) {
        *due_ns = battery->rest_ns;
        wants = wants && battery->rest_ns <= now.mono_ns;
    }
    return wants;
}

bool battery_is_out_of_date(const struct battery *battery)
{
    const struct schedule_now now = scheduled_now(&battery->scheduled, SCHEDULE_NEVER);
    return battery->outcome.command.author == AUTHOR_SCHEDULE &&
           !schedule_may_write(&battery->scheduled.schedule, &now);
}

int64_t battery_entry_end_ns(const struct battery *battery)
{
    const struct schedule *schedule = &battery->scheduled.schedule;
    const struct schedule_now now = scheduled_now(&battery->scheduled, SCHEDULE_NEVER);
    const struct timetable_entry *entry = schedule_entry(schedule, &now);
    if (!schedule->holds || entry == NULL || entry->start_ms != schedule->done_ms)
        return 0;
    return now.mono_ns + (schedule_next_ms(schedule, now.utc_ms) - now.utc_ms) * CLOCK_NS_PER_MS;
}

void battery_describe_schedule(const struct battery *battery, struct schedule_status *status)
{
    const struct deadman *deadman = &battery->fallback.deadman;
    const struct schedule_now now = scheduled_now(
        &battery->scheduled, deadman->state == DEADMAN_IDLE ? SCHEDULE_NEVER : deadman->end_ns);
    schedule_describe(&battery->scheduled.schedule, &now, status);
}

/* ---- what came of it ---- */

bool battery_take_entry(struct battery *battery, const struct outcome *outcome)
{
    const bool confirmed = outcome->kind == OUTCOME_CONFIRMED;
    /* One that failed may be done later, as a live one may; a release ends it. */
    const bool lets_go =
        battery->driver != NULL && driver_release_ns(battery->driver) != CLOCK_NEVER;
    const bool may_hold =
        outcome->written_ns != 0 &&
        (outcome->kind != OUTCOME_FAILED || (sequence_end(battery->sequence).took && !lets_go));
    if (confirmed && outcome->command.stop)
        deadman_done(&battery->fallback.deadman);
    else if (confirmed)
        deadman_hand_over(&battery->fallback.deadman);
    if (confirmed)
        battery->held_kw = outcome->command.value;
    if (confirmed && battery->driver != NULL && battery->scheduled.schedule.table->releases &&
        battery->scheduled.schedule.begun_ms == SCHEDULE_NEVER)
        driver_owe_release(battery->driver, clock_mono_ns());
    return scheduled_take(&battery->scheduled, outcome, may_hold, battery->rest_ns);
}

int64_t battery_lease_end_ns(const struct battery *battery, int64_t written_ns)
{
    const int64_t timeout_ns = battery->fallback.deadman.timeout_ns;
    return timeout_ns > 0 ? written_ns + timeout_ns : SCHEDULE_NEVER;
}
