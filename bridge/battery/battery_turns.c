#include "bridge/battery/battery_turns.h"

#include "bridge/base/clock.h"
#include "bridge/battery/battery_hold.h"
#include "bridge/battery/battery_schedule.h"
#include "bridge/battery/battery_work.h"
#include "bridge/battery/own.h"

/* ---- what goes first ---- */

/* The point whose command has waited longest, and since when; stops go before all. */
static int next_point(const struct battery *battery, int64_t now_ns, int64_t *since_ns)
{
    int next = -1;
    *since_ns = INT64_MAX;
    for (unsigned i = 0; i < battery->device->n_points; i++) {
        const struct intent *intent = &battery->intents[i];
        if (intent_stop_is_due(intent, now_ns)) {
            *since_ns = intent->stops.n > 0 ? battery->commands[intent->stops.tokens[0]].mono_ns
                                            : intent->retry_ns;
            return (int)i;
        }
        if (intent->setpoint != INTENT_NONE &&
            battery->commands[intent->setpoint].mono_ns < *since_ns) {
            *since_ns = battery->commands[intent->setpoint].mono_ns;
            next = (int)i;
        }
    }
    return next;
}

/* It goes after a live setpoint that waits, but one after another of them could put it
 * off for ever by being refused; and after the deadman once that has begun. */
static bool schedule_goes_first(const struct battery *battery, int point, int64_t now_ns,
                                struct schedule_wish *wish)
{
    const struct intent *intent = battery_power(battery);
    int64_t due_ns;
    if (!battery_schedule_is_due(battery, wish, &due_ns))
        return false;
    if (point >= 0 && point == battery->device->control.setpoint &&
        intent->setpoint != INTENT_NONE && !battery->live_had_its_turn)
        return false;
    return battery->fallback.deadman.state != DEADMAN_FIRING ||
           now_ns < fallback_due_ns(&battery->fallback);
}

/* Whether a write of the bridge's own goes before what waits at `point` (-1:
 * nothing does). */
static bool own_goes_first(const struct battery *battery, int point, int64_t now_ns)
{
    const struct intent *intent = battery_power(battery);
    if (intent == NULL || intent_stop_is_due(intent, now_ns) ||
        now_ns < fallback_due_ns(&battery->fallback))
        return false;
    return point != battery->device->control.setpoint || intent->setpoint == INTENT_NONE ||
           fallback_goes_first(&battery->fallback, battery->commands[intent->setpoint].mono_ns);
}

/* It goes before all but a stop. Tried again, it takes turns with what waits at `point` (-1:
 * nothing does): neither puts off the other for ever. */
static bool release_goes_first(const struct battery *battery, int point, int64_t now_ns)
{
    if (battery_release_due_ns(battery) > now_ns ||
        intent_stop_is_due(battery_power(battery), now_ns))
        return false;
    return point < 0 || battery->live_had_its_turn || !driver_tried_release(battery->driver);
}

/* ---- what is begun ---- */

/* A stop that only retries what is owed. */
static struct command retry_of(const struct battery *battery)
{
    const uint16_t token = intent_open_stop(battery_power(battery));
    struct command command;
    if (token != INTENT_NONE)
        return battery->commands[token];
    own_stop(battery->device, battery->setup.index, "", "", clock_mono_ns(), clock_utc_ms(),
             &command);
    return command;
}

/* A write of the bridge's own passes the same door as every command. */
static void begin_own(struct battery *battery, enum command_author author, double value,
                      struct link *link)
{
    struct outcome made;
    enum reason reason =
        own_write(battery->device, battery->setup.index, author, value, battery->setup.run,
                  ++battery->own_ids, clock_mono_ns(), clock_utc_ms(), &made);
    if (reason == REASON_NONE) {
        battery_begin(battery, &made.command, link);
        return;
    }
    battery->working = made.command.point; /* not of a configuration that was checked */
    battery->outcome = made;
    battery_finish(battery);
}

static void begin_entry(struct battery *battery, const struct schedule_wish *wish,
                        struct link *link)
{
    const struct schedule_now now = scheduled_now(&battery->scheduled, SCHEDULE_NEVER);
    const struct battery_setup *setup = &battery->setup;
    struct outcome made;
    schedule_begin(&battery->scheduled.schedule, wish);
    const struct own_entry entry = {
        .id = battery->scheduled.schedule.table->id,
        .run = setup->run,
        .number = ++battery->own_ids,
        .value = wish->value,
        .ttl_ns =
            wish->start_ms == SCHEDULE_NEVER ? 0 : (wish->end_ms - now.utc_ms) * CLOCK_NS_PER_MS,
        .last_write_ns = battery->last_write_ns,
        .audit_unavailable = setup->is_recorded != NULL && !setup->is_recorded(setup->context),
    };
    const enum reason reason =
        own_entry(battery->device, setup->index, &entry, now.mono_ns, now.utc_ms, &made);
    battery_begin(battery, &made.command, link);
    if (reason != REASON_NONE)
        sequence_refuse(battery->sequence, reason, made.detail);
}

void battery_begin_next(struct battery *battery, struct link *link)
{
    const int64_t now_ns = clock_mono_ns();
    int64_t since_ns;
    const int point = next_point(battery, now_ns, &since_ns);
    enum command_author author;
    struct schedule_wish wish;
    double value;
    if (release_goes_first(battery, point, now_ns)) {
        battery->live_had_its_turn = false;
        battery_begin_release(battery, link);
    } else if (schedule_goes_first(battery, point, now_ns, &wish)) {
        battery->live_had_its_turn = false;
        if (intent_begin_own(battery_power(battery), now_ns))
            begin_entry(battery, &wish, link);
    } else if (own_goes_first(battery, point, now_ns)) {
        fallback_begin(&battery->fallback, now_ns, &author, &value);
        if (intent_begin_own(battery_power(battery), now_ns))
            begin_own(battery, author, value, link);
    } else if (point >= 0) {
        struct intent *intent = &battery->intents[point];
        bool stop = intent_begin(intent, now_ns) == INTENT_STOP;
        battery->live_had_its_turn = battery->live_had_its_turn || !stop;
        const struct command command = stop && intent->current.n == 0
                                           ? retry_of(battery)
                                           : battery->commands[intent->current.tokens[0]];
        battery_begin(battery, &command, link);
    }
}

/* ---- when, and whether ---- */

bool battery_has_settled(const struct battery *battery)
{
    return sequence_state(battery->sequence) == SEQUENCE_IDLE &&
           (battery->driver == NULL || driver_release_ns(battery->driver) == CLOCK_NEVER ||
            driver_tried_release(battery->driver));
}

bool battery_is_busy(const struct battery *battery)
{
    int64_t since_ns;
    return sequence_state(battery->sequence) != SEQUENCE_IDLE ||
           next_point(battery, clock_mono_ns(), &since_ns) >= 0;
}

bool battery_is_urgent(const struct battery *battery)
{
    const struct intent *intent = battery_power(battery);
    return intent != NULL && (intent->stops.n > 0 || (intent->work == INTENT_STOP));
}

/* Since when what waits at this point is due, to its neighbours on the line: since the last turn,
 * for older commands may be many and a newer setpoint takes the place of one that waits; a stop
 * not before it came. */
static int64_t waits_since_ns(const struct battery *battery, int point, int64_t since_ns,
                              int64_t now_ns)
{
    const bool stop = intent_stop_is_due(&battery->intents[point], now_ns);
    return stop && since_ns > battery->ended_ns ? since_ns : battery->ended_ns;
}

/* When there is something to do but for the keepalive. */
static int64_t other_due_ns(const struct battery *battery)
{
    const int64_t now_ns = clock_mono_ns();
    int64_t since_ns;
    const struct intent *intent = battery_power(battery);
    if (sequence_state(battery->sequence) != SEQUENCE_IDLE)
        return battery_is_preceded(battery) ? 0 : sequence_pause_ns(battery->sequence);
    const int point = next_point(battery, now_ns, &since_ns);
    if (point >= 0)
        return waits_since_ns(battery, point, since_ns, now_ns);
    struct schedule_wish wish;
    int64_t due_ns = intent != NULL ? fallback_due_ns(&battery->fallback) : CLOCK_NEVER;
    int64_t schedule_ns;
    (void)battery_schedule_is_due(battery, &wish, &schedule_ns);
    if (schedule_ns < due_ns)
        due_ns = schedule_ns;
    if (scheduled_tend_ns(&battery->scheduled) < due_ns)
        due_ns = scheduled_tend_ns(&battery->scheduled);
    if (battery_release_due_ns(battery) < due_ns)
        due_ns = battery_release_due_ns(battery);
    return intent != NULL && intent->is_owed && intent->retry_ns < due_ns ? intent->retry_ns
                                                                          : due_ns;
}

/* After one that has failed what else is to be done has a step: on a line that is dead,
 * attempts at a keepalive would put it off for ever. */
bool battery_beats(const struct battery *battery)
{
    const int64_t now_ns = clock_mono_ns();
    return battery_beat_from_ns(battery, false) <= now_ns &&
           !(battery->beat_failed && other_due_ns(battery) <= now_ns);
}

int64_t battery_due_ns(const struct battery *battery)
{
    const int64_t other_ns = other_due_ns(battery), beat_ns = battery_beat_from_ns(battery, true);
    return beat_ns < other_ns ? beat_ns : other_ns;
}
