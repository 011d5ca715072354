#include "bridge/battery/battery.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bridge/base/clock.h"
#include "bridge/battery/battery_hold.h"
#include "bridge/battery/battery_schedule.h"
#include "bridge/battery/battery_told.h"
#include "bridge/battery/battery_turns.h"
#include "bridge/battery/battery_work.h"
#include "devices/registers/codec.h"

/* Commands of the setpoint: stops that wait, are under way, are owed, one being
 * put; and a setpoint that waits and one under way, as of any other point. */
_Static_assert((int)REMEMBERED_STOPS_MAX == (int)INTENT_STOPS_MAX, "what is owed is remembered");
enum { STOP_TOKENS = 3 * INTENT_STOPS_MAX + 1, POINT_TOKENS = 2 };

/* ---- what comes in ---- */

/* A device that others wait for is silent, and a zero is owed already: what is
 * put now is tried with that, when its time has come. */
static void postpone_stops(struct battery *battery, struct intent *intent)
{
    const int64_t now_ns = clock_mono_ns();
    struct intent_stops stops;
    if (!intent->is_owed || now_ns >= battery->rest_ns || intent->stops.n == 0)
        return;
    intent_postpone(intent, &stops);
    struct outcome outcome = {.kind = OUTCOME_UNKNOWN, .fault = FAULT_TIMEOUT, .done_ns = now_ns};
    (void)snprintf(outcome.detail, sizeof(outcome.detail),
                   "the device does not answer: it is told again in %lld ms",
                   (long long)((intent->retry_ns - now_ns) / CLOCK_NS_PER_MS));
    battery_tell_stops(battery, &outcome, &stops, false);
}

bool battery_has_room(const struct battery *battery)
{
    const struct intent *intent = battery_power(battery);
    return battery_free_token(battery) != INTENT_NONE &&
           (intent == NULL || intent_has_room(intent));
}

bool battery_put(struct battery *battery, const struct command *command)
{
    if (command->offers) {
        battery_put_schedule(battery, command);
        return true;
    }
    struct intent *intent = &battery->intents[command->point];
    const uint16_t token = battery_free_token(battery);
    if (token == INTENT_NONE || !intent_has_room(intent))
        return false;
    if (battery->fallback.state != FALLBACK_STAYS && !command->stop) {
        battery_tell_unbegun(battery, command, OUTCOME_REFUSED, REASON_SHUTTING_DOWN, "");
        return true;
    }
    battery->commands[token] = *command;
    uint16_t replaced;
    if (command->stop) {
        replaced = intent_put_stop(intent, token);
        deadman_stop(&battery->fallback.deadman);
        battery->stopped = true;
        battery_end_schedule(battery); /* on disk no later than the stop */
        battery_remember(battery);
    } else {
        replaced = intent_put_setpoint(intent, token);
    }
    if (replaced != INTENT_NONE)
        battery_tell_unbegun(battery, &battery->commands[replaced], OUTCOME_SUPERSEDED, REASON_NONE,
                             "");
    if (command->stop)
        postpone_stops(battery, intent);
    return true;
}

/* ---- one step ---- */

void battery_step(struct battery *battery, struct link *link)
{
    battery_tend_schedule(battery);
    if (battery->driver != NULL)
        driver_see_time(battery->driver, clock_mono_ns());
    battery_tell_lost(battery);
    const bool beats = battery_beats(battery);
    battery->beat_failed = false;
    /* To begin may open the link, which may take a while: no more in that step. */
    if (beats)
        battery_beat(battery, link);
    else if (sequence_state(battery->sequence) == SEQUENCE_IDLE)
        battery_begin_next(battery, link);
    else if (battery->releases)
        battery_go_on_releasing(battery, link);
    else
        battery_go_on(battery, link);
    if (sequence_state(battery->sequence) == SEQUENCE_ENDED)
        battery_finish(battery);
    battery_tell_lost(battery);
    battery_note_firing(battery);
    battery_note_control(battery);
}

struct lease battery_lease(const struct battery *battery)
{
    const struct deadman *deadman = &battery->fallback.deadman;
    return (struct lease){
        .runs = deadman->state != DEADMAN_IDLE,
        .value = battery->held_kw,
        .end_ns = deadman->end_ns,
    };
}

int64_t battery_rest_ns(const struct battery *battery)
{
    return battery->rest_ns;
}

/* ---- polls ---- */

/* Whether it is what the schedule has told the battery, as far as a register can hold that: a
 * program may have computed it to more digits. */
static bool is_the_schedules(const struct battery *battery, double value_kw)
{
    const struct schedule *schedule = &battery->scheduled.schedule;
    const struct point *row = &battery->device->points[battery->device->control.setpoint];
    const double told_kw = schedule->held_kw;
    const double read_kw =
        battery->driver != NULL ? drive_as_read(row, told_kw) : codec_decimal(row, told_kw);
    return schedule_answers_for(schedule, value_kw == read_kw ? told_kw : value_kw);
}

/* Somebody may have put another setpoint there: a program before this run, a
 * hand at the device, a battery that was restarted. Only who holds the claim
 * guards it. */
static void guard(struct battery *battery, const struct link *link, const struct value *values,
                  int64_t now_ns)
{
    const struct value *held = &values[battery->device->control.setpoint];
    const int setpoint = battery->device->control.setpoint;
    char holder[CLAIM_TEXT_MAX];
    if (held->state != VALUE_READ || intent_open_stop(battery_power(battery)) != INTENT_NONE ||
        battery_power(battery)->is_owed)
        return; /* not read, or what is to be done about it is known */
    const double value = codec_decimal(&battery->device->points[setpoint], held->number);
    battery->held_kw = value;
    struct deadman *deadman = &battery->fallback.deadman;
    const bool was_idle = deadman->state == DEADMAN_IDLE;
    if (!battery_holds_claim(battery, link, holder) || !battery_is_held(battery, values) ||
        deadman_needs_none(deadman, value))
        deadman_see_rest(deadman);
    else if (!is_the_schedules(battery, value))
        deadman_find(deadman, value, now_ns + deadman->timeout_ns);
    if (was_idle && deadman->state != DEADMAN_IDLE)
        scheduled_give_way(&battery->scheduled, deadman->end_ns);
    battery_remember(battery);
}

void battery_see(struct battery *battery, const struct link *link, const struct value *values,
                 int64_t taken_ns)
{
    battery_recall_late(battery);
    /* A scan that a command came between may have read what was there before. */
    if (taken_ns < battery->ended_ns || sequence_state(battery->sequence) != SEQUENCE_IDLE)
        return;
    for (unsigned i = 0; i < battery->device->n_points; i++) {
        if (unsettled_waits(&battery->unsettled[i], i))
            battery_settle(battery, i, &values[i]);
    }
    if (battery->driver != NULL) {
        driver_see(battery->driver, values, clock_mono_ns());
        battery_tell_lost(battery);
        battery_note_control(battery);
    }
    if (battery->device->controllable)
        guard(battery, link, values, clock_mono_ns());
}

/* ---- start and end ---- */

void battery_leave(struct battery *battery)
{
    const struct device *device = battery->device;
    static const char why[] = "the bridge is stopping";
    if (battery->fallback.state != FALLBACK_STAYS)
        return;
    for (unsigned i = 0; i < device->n_points; i++) {
        const uint16_t token = intent_withdraw(&battery->intents[i]);
        if (token != INTENT_NONE)
            battery_tell_unbegun(battery, &battery->commands[token], OUTCOME_REFUSED,
                                 REASON_SHUTTING_DOWN, why);
    }
    if (sequence_state(battery->sequence) != SEQUENCE_IDLE && !battery->releases &&
        battery->outcome.written_ns == 0 && !battery->outcome.command.stop) {
        sequence_refuse(battery->sequence, REASON_SHUTTING_DOWN, why);
        battery_finish(battery);
    }
    if (scheduled_is_pending(&battery->scheduled)) {
        struct outcome outcome;
        scheduled_end_pending(&battery->scheduled, OUTCOME_REFUSED, REASON_SHUTTING_DOWN, why,
                              &outcome);
        battery_tell(battery, &outcome);
    }
    fallback_leave(&battery->fallback, device);
    /* A battery that is not held is not taken over to be left alone. */
    if (battery->driver != NULL && battery->fallback.state == FALLBACK_WRITES &&
        (driver_state(battery->driver) == CONTROL_LOST ||
         (driver_state(battery->driver) == CONTROL_IDLE &&
          battery->fallback.deadman.state == DEADMAN_IDLE)))
        battery->fallback.state = FALLBACK_LEAVES;
}

bool battery_has_left(const struct battery *battery)
{
    return fallback_has_left(&battery->fallback) && !battery_is_busy(battery) &&
           battery_has_settled(battery);
}

void battery_abandon(struct battery *battery)
{
    struct intent *intent = battery_power(battery);
    struct intent_stops stops;
    battery_leave(battery);
    if (battery->releases) {
        sequence_cut(battery->sequence);
        battery_end_release(battery, battery->released.kind == OUTCOME_CONFIRMED);
    } else if (sequence_state(battery->sequence) != SEQUENCE_IDLE) {
        sequence_cut(battery->sequence);
        battery_finish(battery);
    }
    if (intent == NULL || intent->stops.n == 0)
        return;
    struct outcome outcome = {.kind = OUTCOME_UNKNOWN, .done_ns = clock_mono_ns()};
    (void)snprintf(outcome.detail, sizeof(outcome.detail),
                   "the bridge ended before the device could be told: the next run will");
    intent_owe(intent, INTENT_NONE, outcome.done_ns);
    intent_postpone(intent, &stops);
    battery_remember(battery);
    battery_tell_stops(battery, &outcome, &stops, false);
}

struct battery *battery_new(const struct battery_setup *setup)
{
    const struct device *device = setup->device;
    const struct device_control *control = &device->control;
    unsigned n_tokens = STOP_TOKENS;
    for (unsigned i = 0; i < device->n_points; i++)
        n_tokens += device_may_write(device, i) ? POINT_TOKENS : 0;
    struct battery *battery = calloc(1, sizeof(*battery) + n_tokens * sizeof(struct command));
    if (battery == NULL)
        return NULL;
    battery->setup = *setup;
    battery->device = device;
    battery->n_tokens = n_tokens;
    claim_init(&battery->claim);
    battery->last_write_ns = INT64_MIN;
    battery->driver = device_drive(device) != NULL ? driver_new(device) : NULL;
    battery->sequence = sequence_new(device, battery->driver);
    battery->held_kw = NAN;
    battery->intents = calloc(device->n_points, sizeof(*battery->intents));
    battery->unsettled = calloc(device->n_points, sizeof(*battery->unsettled));
    if (battery->sequence == NULL || battery->intents == NULL || battery->unsettled == NULL ||
        (battery->driver == NULL) != (device_drive(device) == NULL)) {
        battery_free(battery);
        return NULL;
    }
    for (unsigned i = 0; i < device->n_points; i++)
        intent_init(&battery->intents[i]);
    battery_begin_schedule(battery);
    if (device->controllable)
        fallback_init(&battery->fallback, control);
    battery->fallback.deadman.leases_all =
        battery->driver != NULL && device->profile->drive.every_ns > 0;
    remembered_boot(battery->boot);
    battery->recalled = setup->state == NULL || state_is_loaded(setup->state);
    if (battery->recalled)
        battery_recall(battery);
    battery_note_control(battery);
    return battery;
}

void battery_free(struct battery *battery)
{
    if (battery == NULL)
        return;
    claim_release(&battery->claim);
    scheduled_destroy(&battery->scheduled);
    sequence_free(battery->sequence);
    driver_free(battery->driver);
    free(battery->unsettled);
    free(battery->intents);
    free(battery);
}
