#include "bridge/battery/battery_told.h"

#include <stdio.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/battery/own.h"

/* ---- on disk ---- */

/* The end in UTC is taken once for each lease. */
static void describe_lease(const struct battery *battery, struct remembered *now)
{
    const struct deadman *deadman = &battery->fallback.deadman;
    const int64_t end_ns = deadman->end_ns;
    now->kind = deadman->stopped ? REMEMBERED_LEASE_STOPPED : REMEMBERED_LEASE;
    if (battery->kept.kind == now->kind && battery->kept.end_ns == end_ns) {
        now->end_ns = end_ns;
        now->end_utc_ms = battery->kept.end_utc_ms;
        memcpy(now->boot, battery->kept.boot, sizeof(now->boot));
        return;
    }
    now->end_ns = end_ns;
    now->end_utc_ms = clock_utc_ms() + (end_ns - clock_mono_ns()) / CLOCK_NS_PER_MS;
    memcpy(now->boot, battery->boot, sizeof(now->boot));
}

void battery_remember(struct battery *battery)
{
    const struct intent *intent = battery_power(battery);
    struct remembered now = {.kind = REMEMBERED_NOTHING};
    struct intent_stops open;
    if (intent == NULL || !(battery->recalled || battery->stopped || battery->written))
        return;
    if (battery->driver != NULL && (battery->begins || driver_is_half(battery->driver)))
        now.hold = REMEMBERED_HALF;
    else if (battery->driver != NULL && driver_is_at_zero(battery->driver))
        now.hold = REMEMBERED_ZERO;
    intent_open_stops(intent, &open);
    for (unsigned i = 0; i < open.n; i++) {
        const struct command *command = &battery->commands[open.tokens[i]];
        struct remembered_stop *stop = &now.stops[now.n_stops];
        memcpy(stop->id, command->id, sizeof(stop->id));
        memcpy(stop->source, command->source, sizeof(stop->source));
        now.n_stops += command->id[0] != '\0'; /* else nobody waits for its correction */
    }
    if (open.n > 0 || intent->is_owed)
        now.kind = REMEMBERED_STOP;
    else if (battery->fallback.deadman.state != DEADMAN_IDLE)
        describe_lease(battery, &now);
    else if (battery->fallback.deadman.stopped)
        now.kind = REMEMBERED_STOPPED;
    battery->kept = now;
    battery->kept_mark = remembered_keep(battery->setup.state, battery->device->id, &now);
}

/* What an earlier run has left half done is undone, and a zero that it held is held on. */
static void recall_hold(struct battery *battery, int64_t now_ns)
{
    const bool stop = battery->kept.kind == REMEMBERED_STOP;
    if (battery->driver == NULL || battery->kept.hold == REMEMBERED_FREE || stop)
        return;
    if (battery->kept.hold == REMEMBERED_HALF)
        driver_owe_release(battery->driver, now_ns);
    else
        intent_owe(battery_power(battery), INTENT_NONE, now_ns);
    log_warning("the run before %s device=%s",
                battery->kept.hold == REMEMBERED_HALF
                    ? "was not done with the battery: it is released"
                    : "held the battery at zero: it is told so again",
                battery_name(battery));
}

void battery_recall(struct battery *battery)
{
    const int64_t now_ns = clock_mono_ns();
    struct intent *intent = battery_power(battery);
    struct deadman *deadman = &battery->fallback.deadman;
    struct remembered *kept = &battery->kept;
    if (intent == NULL || !remembered_find(battery->setup.state, battery->device->id, kept))
        return;
    if (kept->kind == REMEMBERED_STOP || kept->kind == REMEMBERED_STOPPED ||
        kept->kind == REMEMBERED_LEASE_STOPPED)
        deadman_stop(deadman);
    if (kept->kind == REMEMBERED_LEASE || kept->kind == REMEMBERED_LEASE_STOPPED)
        deadman_resume(deadman, remembered_end_ns(kept, battery->boot, now_ns, clock_utc_ms(),
                                                  deadman->timeout_ns));
    recall_hold(battery, now_ns);
    if (kept->kind != REMEMBERED_STOP)
        return;
    intent_owe(intent, INTENT_NONE, now_ns);
    for (unsigned i = kept->n_stops; i > 0; i--) {
        const struct remembered_stop *stop = &kept->stops[i - 1];
        const uint16_t token = battery_free_token(battery);
        if (stop->id[0] == '\0' || token == INTENT_NONE)
            continue;
        own_stop(battery->device, battery->setup.index, stop->id, stop->source, now_ns,
                 clock_utc_ms(), &battery->commands[token]);
        intent_owe(intent, token, now_ns);
    }
    log_warning("a stop of the run before is not confirmed: it is written again device=%s",
                battery_name(battery));
}

/* ---- outcomes ---- */

void battery_tell(struct battery *battery, const struct outcome *outcome)
{
    struct outcome told = *outcome;
    told.kept_mark = battery->kept_mark;
    battery->setup.tell(battery->setup.context, &told);
}

void battery_tell_unbegun(struct battery *battery, const struct command *command,
                          enum outcome_kind kind, enum reason reason, const char *detail)
{
    struct outcome outcome = {
        .command = *command, .kind = kind, .reason = reason, .done_ns = clock_mono_ns()};
    (void)snprintf(outcome.detail, sizeof(outcome.detail), "%s", detail);
    battery_tell(battery, &outcome);
}

void battery_tell_stops(struct battery *battery, const struct outcome *outcome,
                        const struct intent_stops *stops, bool correction)
{
    for (unsigned i = 0; i < stops->n; i++) {
        struct outcome copy = *outcome;
        copy.command = battery->commands[stops->tokens[i]];
        copy.correction = correction;
        battery_tell(battery, &copy);
    }
}

void battery_settle(struct battery *battery, unsigned point, const struct value *held)
{
    struct outcome corrected;
    if (unsettled_see(&battery->unsettled[point], battery->device, held, clock_mono_ns(),
                      &corrected))
        battery_tell(battery, &corrected);
}

void battery_tell_lost(struct battery *battery)
{
    struct outcome lost;
    if (battery->driver == NULL || !driver_take_lost(battery->driver, &lost))
        return;
    deadman_done(&battery->fallback.deadman);
    scheduled_lose(&battery->scheduled);
    battery_remember(battery);
    battery_tell(battery, &lost);
}

/* ---- health ---- */

void battery_note_firing(struct battery *battery)
{
    bool firing = battery->fallback.deadman.state == DEADMAN_FIRING && battery->claim.file >= 0;
    if (battery->setup.health != NULL && firing != battery->firing)
        atomic_fetch_add_explicit(&battery->setup.health->deadman_firing, firing ? 1U : UINT64_MAX,
                                  memory_order_relaxed);
    battery->firing = firing;
}

void battery_note_control(const struct battery *battery)
{
    struct health *health = battery->setup.health;
    if (battery->driver != NULL && health != NULL && health->devices != NULL)
        atomic_store_explicit(&health->devices[battery->setup.index].control,
                              (int)driver_state(battery->driver), memory_order_relaxed);
}
