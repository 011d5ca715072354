#include "bridge/battery/battery_hold.h"

#include <stdio.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/battery/battery_schedule.h"
#include "bridge/battery/battery_told.h"
#include "bridge/battery/battery_work.h"

/* ---- whether ---- */

bool battery_is_held(const struct battery *battery, const struct value *values)
{
    if (battery->driver == NULL)
        return true;
    switch (driver_state(battery->driver)) {
    case CONTROL_LOST:
    case CONTROL_RELEASING:
        return false;
    case CONTROL_IDLE: /* what stops by itself needs nobody to end it, and may be another's */
        return !(device_drive(battery->device)->every_ns > 0 &&
                 battery->device->control.drive.timeout_s > 0) &&
               script_is_engaged(battery->device, values);
    default:
        return true;
    }
}

/* ---- the keepalive ---- */

/* Until when what it holds may be: whatever is not zero, no longer than its lease, or the
 * entry that it is of. */
static int64_t hold_end_ns(const struct battery *battery)
{
    if (battery->driver != NULL && driver_author(battery->driver) == AUTHOR_SCHEDULE)
        return battery_entry_end_ns(battery);
    const struct deadman *deadman = &battery->fallback.deadman;
    if (deadman->timeout_ns == 0)
        return deadman->stopped ? 0 : CLOCK_NEVER;
    return deadman->state == DEADMAN_ARMED && !deadman->stopped ? deadman->end_ns : 0;
}

/* Whether a stop waits or is written: nothing goes before it. */
static bool is_stopping(const struct battery *battery)
{
    const struct intent *intent = battery_power(battery);
    return intent->stops.n > 0 || intent->work == INTENT_STOP;
}

int64_t battery_beat_from_ns(const struct battery *battery, bool due)
{
    const int64_t end_ns = hold_end_ns(battery);
    if (battery->driver == NULL || battery->releases || is_stopping(battery) ||
        sequence_state(battery->sequence) == SEQUENCE_WRITE ||
        sequence_state(battery->sequence) == SEQUENCE_ENDED)
        return CLOCK_NEVER;
    const int64_t from_ns = due ? driver_beat_ns(battery->driver, end_ns)
                                : driver_beat_early_ns(battery->driver, end_ns);
    return from_ns < battery->rest_ns ? battery->rest_ns : from_ns;
}

int64_t battery_beat_by_ns(const struct battery *battery)
{
    return battery_beat_from_ns(battery, true) == CLOCK_NEVER
               ? CLOCK_NEVER
               : driver_beat_by_ns(battery->driver, hold_end_ns(battery));
}

void battery_beat(struct battery *battery, struct link *link)
{
    struct health *health = battery->setup.health;
    int64_t silence_ns = 0;
    const bool late = driver_beat(battery->driver, link, hold_end_ns(battery), &silence_ns);
    battery->beat_failed = driver_beat_failed(battery->driver);
    battery_rest_after(battery, silence_ns, clock_mono_ns());
    if (late && health != NULL && health->devices != NULL)
        health_count(&health->devices[battery->setup.index].beats_late);
}

/* ---- letting go ---- */

int64_t battery_release_due_ns(const struct battery *battery)
{
    const int64_t due_ns =
        battery->driver != NULL ? driver_release_ns(battery->driver) : CLOCK_NEVER;
    return due_ns < battery->rest_ns ? battery->rest_ns : due_ns;
}

void battery_end_release(struct battery *battery, bool released)
{
    const int64_t now_ns = clock_mono_ns();
    battery->releases = false;
    battery_rest_after(battery, sequence_silence_ns(battery->sequence), now_ns);
    sequence_rest(battery->sequence);
    driver_end_release(battery->driver, released, now_ns + INTENT_RETRY_NS);
    if (released)
        log_info("the battery is released device=%s", battery_name(battery));
    else if (!battery->release_told)
        log_warning("the battery is not released, it is tried each second device=%s why=\"%s\"",
                    battery_name(battery), battery->released.detail);
    battery->release_told = !released;
    if (released) /* nothing is held that a lease would be for */
        deadman_see_rest(&battery->fallback.deadman);
    battery->ended_ns = now_ns;
    battery_remember(battery);
}

void battery_begin_release(struct battery *battery, struct link *link)
{
    char holder[CLAIM_TEXT_MAX];
    battery->released = (struct outcome){.command = {.author = AUTHOR_EXIT}};
    sequence_begin_release(battery->sequence, &battery->released);
    battery->releases = true;
    if (link_open(link, battery->device->modbus.timeout_ns) != FAULT_NONE) {
        (void)snprintf(battery->released.detail, DETAIL_MAX, "%s", link->error);
        battery_end_release(battery, false);
    } else if (!battery_holds_claim(battery, link, holder)) {
        battery_end_release(battery, true); /* who holds it has the say */
    }
}

/* A stop goes first; what is left of the release is not: it begins anew, or is not owed. */
void battery_go_on_releasing(struct battery *battery, struct link *link)
{
    const struct intent *intent = battery_power(battery);
    if (intent_stop_is_due(intent, clock_mono_ns())) {
        sequence_cut(battery->sequence);
    } else if (sequence_state(battery->sequence) == SEQUENCE_WRITE && !link_is_sound(link)) {
        link_close(link);
        sequence_step(battery->sequence, link);
    } else if (sequence_state(battery->sequence) != SEQUENCE_PAUSE) {
        sequence_step(battery->sequence, link);
    }
    if (sequence_state(battery->sequence) == SEQUENCE_ENDED)
        battery_end_release(battery, battery->released.kind == OUTCOME_CONFIRMED);
}
