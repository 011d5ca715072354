#include "bridge/battery/battery.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/battery/admit.h"
#include "bridge/battery/driver.h"
#include "bridge/battery/fallback.h"
#include "bridge/battery/intent.h"
#include "bridge/battery/own.h"
#include "bridge/battery/remembered.h"
#include "bridge/battery/scheduled.h"
#include "bridge/battery/sequence.h"
#include "bridge/battery/unsettled.h"
#include "devices/lines/claim.h"
#include "devices/registers/codec.h"

/* Commands of the setpoint: stops that wait, are under way, are owed, one being
 * put; and a setpoint that waits and one under way, as of any other point. */
_Static_assert((int)REMEMBERED_STOPS_MAX == (int)INTENT_STOPS_MAX, "what is owed is remembered");
enum { STOP_TOKENS = 3 * INTENT_STOPS_MAX + 1, POINT_TOKENS = 2 };

struct battery {
    struct battery_setup setup;
    const struct device *device;
    struct sequence *sequence;
    struct driver *driver;  /* NULL: its type does not say how it is commanded */
    struct intent *intents; /* by point */
    struct claim claim;     /* the right to write */

    unsigned working; /* with a sequence under way: the point */
    struct outcome outcome;
    struct unsettled *unsettled; /* by point */
    int64_t last_write_ns;       /* of the setpoint */
    int64_t ended_ns;            /* of the last sequence */
    int64_t rest_ns;

    bool begins;             /* a script's first request is about to go out */
    bool releases;           /* the sequence is no command's: it lets the battery go */
    struct outcome released; /* what came of that */
    bool release_told;       /* that it did not go well */

    struct fallback fallback;
    struct scheduled scheduled;
    bool live_had_its_turn; /* before what the schedule wants */
    double held_kw;         /* its setpoint, as last confirmed or seen; NaN = not known */
    uint64_t own_ids;
    bool firing;            /* the deadman, as health counts it */
    struct remembered kept; /* as last stored */
    uint64_t kept_mark;     /* its number in the store */
    /* What was kept in an earlier run is known; if not yet, what in this one is newer. */
    bool recalled, stopped, written;
    char boot[REMEMBERED_BOOT_MAX + 1];

    unsigned n_tokens;
    struct command commands[];
};

/* The setpoint's; NULL for a device without a `control` group. */
static struct intent *power(const struct battery *battery)
{
    return battery->device->controllable ? &battery->intents[battery->device->control.setpoint]
                                         : NULL;
}

static const char *name_of(const struct battery *battery)
{
    return battery->device->name;
}

/* A place for a command. */
static uint16_t free_token(const struct battery *battery)
{
    for (uint16_t token = 0; token < battery->n_tokens; token++) {
        bool held = false;
        for (unsigned i = 0; i < battery->device->n_points && !held; i++)
            held = intent_holds(&battery->intents[i], token);
        if (!held)
            return token;
    }
    return INTENT_NONE;
}

/* ---- what survives a restart ---- */

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

/* Called whenever something of it may have changed. */
static void remember(struct battery *battery)
{
    const struct intent *intent = power(battery);
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
        intent_owe(power(battery), INTENT_NONE, now_ns);
    log_warning("the run before %s device=%s",
                battery->kept.hold == REMEMBERED_HALF
                    ? "was not done with the battery: it is released"
                    : "held the battery at zero: it is told so again",
                name_of(battery));
}

static void recall(struct battery *battery)
{
    const int64_t now_ns = clock_mono_ns();
    struct intent *intent = power(battery);
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
        const uint16_t token = free_token(battery);
        if (stop->id[0] == '\0' || token == INTENT_NONE)
            continue;
        own_stop(battery->device, battery->setup.index, stop->id, stop->source, now_ns,
                 clock_utc_ms(), &battery->commands[token]);
        intent_owe(intent, token, now_ns);
    }
    log_warning("a stop of the run before is not confirmed: it is written again device=%s",
                name_of(battery));
}

/* ---- outcomes ---- */

/* What is owed, and the lease, are on disk before whoever asked hears of it: so it is
 * told after remember(). */
static void tell(struct battery *battery, const struct outcome *outcome)
{
    struct outcome told = *outcome;
    told.kept_mark = battery->kept_mark;
    battery->setup.tell(battery->setup.context, &told);
}

/* Of a command that was never begun. */
static void tell_unbegun(struct battery *battery, const struct command *command,
                         enum outcome_kind kind, enum reason reason, const char *detail)
{
    struct outcome outcome = {
        .command = *command, .kind = kind, .reason = reason, .done_ns = clock_mono_ns()};
    (void)snprintf(outcome.detail, sizeof(outcome.detail), "%s", detail);
    tell(battery, &outcome);
}

/* The same outcome for each of some stops; `correction`: they had another before. */
static void tell_stops(struct battery *battery, const struct outcome *outcome,
                       const struct intent_stops *stops, bool correction)
{
    for (unsigned i = 0; i < stops->n; i++) {
        struct outcome copy = *outcome;
        copy.command = battery->commands[stops->tokens[i]];
        copy.correction = correction;
        tell(battery, &copy);
    }
}

/* What a point was seen to hold before it is written anew. */
static void settle(struct battery *battery, unsigned point, const struct value *held)
{
    struct outcome corrected;
    if (unsettled_see(&battery->unsettled[point], battery->device, held, clock_mono_ns(),
                      &corrected))
        tell(battery, &corrected);
}

/* A battery that has left what it was told: its lease is over, and nothing is written
 * before a newer command. */
static void tell_lost(struct battery *battery)
{
    struct outcome lost;
    if (battery->driver == NULL || !driver_take_lost(battery->driver, &lost))
        return;
    deadman_done(&battery->fallback.deadman);
    scheduled_lose(&battery->scheduled);
    remember(battery);
    tell(battery, &lost);
}

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
    tell_stops(battery, &outcome, &stops, false);
}

/* Goes on with what an earlier run has kept of it. */
static void begin_schedule(struct battery *battery)
{
    scheduled_init(&battery->scheduled, battery->device, battery->setup.index,
                   battery->device->controllable ? battery->setup.state : NULL,
                   battery->setup.health);
}

/* A live stop ends the schedule, and what has not become one yet. */
static void end_schedule(struct battery *battery)
{
    struct outcome outcome;
    scheduled_stop(&battery->scheduled);
    if (!scheduled_is_pending(&battery->scheduled))
        return;
    scheduled_end_pending(&battery->scheduled, OUTCOME_SUPERSEDED, REASON_NONE, "a stop came first",
                          &outcome);
    tell(battery, &outcome);
}

/* A newer schedule goes before one that waits for the disk; it is judged with that as
 * the last, so that of two the higher revision stays. */
static void put_schedule(struct battery *battery, const struct command *command)
{
    struct scheduled *scheduled = &battery->scheduled;
    struct outcome outcome;
    const bool leaves = battery->fallback.state != FALLBACK_STAYS;
    if (!leaves && scheduled_is_pending(scheduled) &&
        command->revision > scheduled->offer.revision) {
        scheduled_end_pending(scheduled, OUTCOME_SUPERSEDED, REASON_NONE,
                              "a newer revision came first", &outcome);
        tell(battery, &outcome);
    }
    if (leaves || scheduled_is_pending(scheduled)) {
        scheduled_refuse(command, leaves ? REASON_SHUTTING_DOWN : REASON_STALE_REVISION, &outcome);
        tell(battery, &outcome);
    } else if (scheduled_offer(scheduled, command, &outcome)) {
        tell(battery, &outcome);
    }
}

bool battery_put(struct battery *battery, const struct command *command)
{
    if (command->offers) {
        put_schedule(battery, command);
        return true;
    }
    struct intent *intent = &battery->intents[command->point];
    const uint16_t token = free_token(battery);
    if (token == INTENT_NONE || !intent_has_room(intent))
        return false;
    if (battery->fallback.state != FALLBACK_STAYS && !command->stop) {
        tell_unbegun(battery, command, OUTCOME_REFUSED, REASON_SHUTTING_DOWN, "");
        return true;
    }
    battery->commands[token] = *command;
    uint16_t replaced;
    if (command->stop) {
        replaced = intent_put_stop(intent, token);
        deadman_stop(&battery->fallback.deadman);
        battery->stopped = true;
        end_schedule(battery); /* on disk no later than the stop */
        remember(battery);
    } else {
        replaced = intent_put_setpoint(intent, token);
    }
    if (replaced != INTENT_NONE)
        tell_unbegun(battery, &battery->commands[replaced], OUTCOME_SUPERSEDED, REASON_NONE, "");
    if (command->stop)
        postpone_stops(battery, intent);
    return true;
}

/* ---- what is begun ---- */

/* Whether this program is the only one on the machine that writes to the device,
 * which its link must have reached for that; tries to become it. */
static bool holds_claim(struct battery *battery, const struct link *link,
                        char holder[CLAIM_TEXT_MAX])
{
    const bool was_denied = battery->claim.denied;
    bool held = claim_hold(&battery->claim, link->peer, (unsigned)battery->device->modbus.address,
                           battery->setup.who, holder);
    if (!held && !was_denied)
        log_warning("the device is held by another: commands but stops are refused until it is "
                    "let go device=%s holder=\"%s\"",
                    name_of(battery), holder);
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
    } else if (!holds_claim(battery, link, holder)) {
        reason = REASON_NOT_OWNER;
        (void)snprintf(detail, sizeof(detail), "held by %s", holder);
    }
    if (reason != REASON_NONE)
        sequence_refuse(battery->sequence, reason, detail);
}

/* Begins with a command that was admitted. */
static void begin(struct battery *battery, const struct command *command, struct link *link)
{
    battery->working = command->point;
    battery->outcome = (struct outcome){.command = *command};
    sequence_begin(battery->sequence, &battery->outcome,
                   unsettled_waits(&battery->unsettled[command->point], command->point),
                   battery->setup.judge_only);
    if (!command->stop || command_is_own(command))
        refuse_early(battery, link);
}

/* A stop that only retries what is owed. */
static struct command retry_of(const struct battery *battery)
{
    const uint16_t token = intent_open_stop(power(battery));
    struct command command;
    if (token != INTENT_NONE)
        return battery->commands[token];
    own_stop(battery->device, battery->setup.index, "", "", clock_mono_ns(), clock_utc_ms(),
             &command);
    return command;
}

/* The point whose command has waited longest; stops go before all. */
static int next_point(const struct battery *battery, int64_t now_ns)
{
    int next = -1;
    int64_t since_ns = INT64_MAX;
    for (unsigned i = 0; i < battery->device->n_points; i++) {
        const struct intent *intent = &battery->intents[i];
        if (intent_stop_is_due(intent, now_ns))
            return (int)i;
        if (intent->setpoint != INTENT_NONE &&
            battery->commands[intent->setpoint].mono_ns < since_ns) {
            since_ns = battery->commands[intent->setpoint].mono_ns;
            next = (int)i;
        }
    }
    return next;
}

static void finish(struct battery *battery);

/* A write of the bridge's own passes the same door as every command. */
static void begin_own(struct battery *battery, enum command_author author, double value,
                      struct link *link)
{
    struct outcome made;
    enum reason reason =
        own_write(battery->device, battery->setup.index, author, value, battery->setup.run,
                  ++battery->own_ids, clock_mono_ns(), clock_utc_ms(), &made);
    if (reason == REASON_NONE) {
        begin(battery, &made.command, link);
        return;
    }
    battery->working = made.command.point; /* not of a configuration that was checked */
    battery->outcome = made;
    finish(battery);
}

/* ---- the schedule ---- */

/* What it wants now, and when there is something to do for it. Nothing while a stop is
 * not confirmed. A neighbour's time is not its own. */
static bool schedule_is_due(const struct battery *battery, struct schedule_wish *wish,
                            int64_t *due_ns)
{
    const struct intent *intent = power(battery);
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

/* It goes after a live setpoint that waits, but one after another of them could put it
 * off for ever by being refused; and after the deadman once that has begun. */
static bool schedule_goes_first(const struct battery *battery, int point, int64_t now_ns,
                                struct schedule_wish *wish)
{
    const struct intent *intent = power(battery);
    int64_t due_ns;
    if (!schedule_is_due(battery, wish, &due_ns))
        return false;
    if (point >= 0 && point == battery->device->control.setpoint &&
        intent->setpoint != INTENT_NONE && !battery->live_had_its_turn)
        return false;
    return battery->fallback.deadman.state != DEADMAN_FIRING ||
           now_ns < fallback_due_ns(&battery->fallback);
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
    begin(battery, &made.command, link);
    if (reason != REASON_NONE)
        sequence_refuse(battery->sequence, reason, made.detail);
}

/* The moment before the write: its time may be over, or the clock was set. */
static bool is_out_of_date(const struct battery *battery)
{
    const struct schedule_now now = scheduled_now(&battery->scheduled, SCHEDULE_NEVER);
    return battery->outcome.command.author == AUTHOR_SCHEDULE &&
           !schedule_may_write(&battery->scheduled.schedule, &now);
}

/* What came of an attempt for it; whether that is to be told. */
static bool take_entry(struct battery *battery, const struct outcome *outcome)
{
    const bool confirmed = outcome->kind == OUTCOME_CONFIRMED;
    if (confirmed && outcome->command.stop)
        deadman_done(&battery->fallback.deadman);
    else if (confirmed)
        deadman_hand_over(&battery->fallback.deadman);
    if (confirmed)
        battery->held_kw = outcome->command.value;
    if (confirmed && battery->driver != NULL && battery->scheduled.schedule.table->releases &&
        battery->scheduled.schedule.begun_ms == SCHEDULE_NEVER)
        driver_owe_release(battery->driver, clock_mono_ns());
    return scheduled_take(&battery->scheduled, outcome, battery->rest_ns);
}

/* One that was offered may be on disk by now. */
static void tend_schedule(struct battery *battery)
{
    struct outcome outcome;
    if (scheduled_tend(&battery->scheduled, &outcome))
        tell(battery, &outcome);
}

/* ---- what is next ---- */

/* Whether a write of the bridge's own goes before what waits at `point` (-1:
 * nothing does). */
static bool own_goes_first(const struct battery *battery, int point, int64_t now_ns)
{
    const struct intent *intent = power(battery);
    if (intent == NULL || intent_stop_is_due(intent, now_ns) ||
        now_ns < fallback_due_ns(&battery->fallback))
        return false;
    return point != battery->device->control.setpoint || intent->setpoint == INTENT_NONE ||
           fallback_goes_first(&battery->fallback, battery->commands[intent->setpoint].mono_ns);
}

/* ---- letting go ---- */

/* A device that others wait for was silent for so long. */
static void rest_after(struct battery *battery, int64_t silence_ns, int64_t now_ns)
{
    if (!battery->setup.shares_line || silence_ns == 0)
        return;
    if (battery->rest_ns < now_ns)
        battery->rest_ns = now_ns;
    battery->rest_ns += link_rest_ns(silence_ns);
}

static int64_t release_due_ns(const struct battery *battery)
{
    const int64_t due_ns =
        battery->driver != NULL ? driver_release_ns(battery->driver) : CLOCK_NEVER;
    return due_ns < battery->rest_ns ? battery->rest_ns : due_ns;
}

static void end_release(struct battery *battery, bool released)
{
    const int64_t now_ns = clock_mono_ns();
    battery->releases = false;
    rest_after(battery, sequence_silence_ns(battery->sequence), now_ns);
    sequence_rest(battery->sequence);
    driver_end_release(battery->driver, released, now_ns + INTENT_RETRY_NS);
    if (released)
        log_info("the battery is released device=%s", name_of(battery));
    else if (!battery->release_told)
        log_warning("the battery is not released, it is tried each second device=%s why=\"%s\"",
                    name_of(battery), battery->released.detail);
    battery->release_told = !released;
    if (released) /* nothing is held that a lease would be for */
        deadman_see_rest(&battery->fallback.deadman);
    battery->ended_ns = now_ns;
    remember(battery);
}

static void begin_release(struct battery *battery, struct link *link)
{
    char holder[CLAIM_TEXT_MAX];
    battery->released = (struct outcome){.command = {.author = AUTHOR_EXIT}};
    sequence_begin_release(battery->sequence, &battery->released);
    battery->releases = true;
    if (link_open(link, battery->device->modbus.timeout_ns) != FAULT_NONE) {
        (void)snprintf(battery->released.detail, DETAIL_MAX, "%s", link->error);
        end_release(battery, false);
    } else if (!holds_claim(battery, link, holder)) {
        end_release(battery, true); /* who holds it has the say */
    }
}

/* A stop goes first; what is left of the release is not: it begins anew, or is not owed. */
static void go_on_releasing(struct battery *battery, struct link *link)
{
    const struct intent *intent = power(battery);
    if (intent_stop_is_due(intent, clock_mono_ns())) {
        sequence_cut(battery->sequence);
    } else if (sequence_state(battery->sequence) == SEQUENCE_WRITE && !link_is_sound(link)) {
        link_close(link);
        sequence_step(battery->sequence, link);
    } else if (sequence_state(battery->sequence) != SEQUENCE_PAUSE) {
        sequence_step(battery->sequence, link);
    }
    if (sequence_state(battery->sequence) == SEQUENCE_ENDED)
        end_release(battery, battery->released.kind == OUTCOME_CONFIRMED);
}

/* ---- the keepalive ---- */

/* When the entry ends that the battery holds. */
static int64_t entry_end_ns(const struct battery *battery)
{
    const struct schedule *schedule = &battery->scheduled.schedule;
    const struct schedule_now now = scheduled_now(&battery->scheduled, SCHEDULE_NEVER);
    const struct timetable_entry *entry = schedule_entry(schedule, &now);
    if (!schedule->holds || entry == NULL || entry->start_ms != schedule->done_ms)
        return 0;
    return now.mono_ns + (schedule_next_ms(schedule, now.utc_ms) - now.utc_ms) * CLOCK_NS_PER_MS;
}

/* Until when what it holds may be: whatever is not zero, no longer than its lease, or the
 * entry that it is of. */
static int64_t hold_end_ns(const struct battery *battery)
{
    if (battery->driver != NULL && driver_author(battery->driver) == AUTHOR_SCHEDULE)
        return entry_end_ns(battery);
    const struct deadman *deadman = &battery->fallback.deadman;
    if (deadman->timeout_ns == 0)
        return deadman->stopped ? 0 : CLOCK_NEVER;
    return deadman->state == DEADMAN_ARMED && !deadman->stopped ? deadman->end_ns : 0;
}

/* Whether a stop waits or is written: nothing goes before it. */
static bool is_stopping(const struct battery *battery)
{
    const struct intent *intent = power(battery);
    return intent->stops.n > 0 || intent->work == INTENT_STOP;
}

/* From when on a keepalive may be sent: as soon as it is `due`, or before something else
 * is asked. */
static int64_t beat_from_ns(const struct battery *battery, bool due)
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

bool battery_beats(const struct battery *battery)
{
    return beat_from_ns(battery, false) <= clock_mono_ns();
}

int64_t battery_beat_by_ns(const struct battery *battery)
{
    return beat_from_ns(battery, true) == CLOCK_NEVER
               ? CLOCK_NEVER
               : driver_beat_by_ns(battery->driver, hold_end_ns(battery));
}

static void beat(struct battery *battery, struct link *link)
{
    struct health *health = battery->setup.health;
    int64_t silence_ns = 0;
    const bool late = driver_beat(battery->driver, link, hold_end_ns(battery), &silence_ns);
    rest_after(battery, silence_ns, clock_mono_ns());
    if (late && health != NULL && health->devices != NULL)
        health_count(&health->devices[battery->setup.index].beats_late);
}

/* It goes before all but a stop. Tried again, it takes turns with live setpoints: neither
 * puts off the other for ever. */
static bool release_goes_first(const struct battery *battery, int64_t now_ns)
{
    const struct intent *intent = power(battery);
    if (release_due_ns(battery) > now_ns || intent_stop_is_due(intent, now_ns))
        return false;
    return intent->setpoint == INTENT_NONE || battery->live_had_its_turn ||
           !driver_tried_release(battery->driver);
}

/* Begins what is next, if anything is. */
static void begin_next(struct battery *battery, struct link *link)
{
    const int64_t now_ns = clock_mono_ns();
    const int point = next_point(battery, now_ns);
    enum command_author author;
    struct schedule_wish wish;
    double value;
    if (release_goes_first(battery, now_ns)) {
        battery->live_had_its_turn = false;
        begin_release(battery, link);
    } else if (schedule_goes_first(battery, point, now_ns, &wish)) {
        battery->live_had_its_turn = false;
        if (intent_begin_own(power(battery), now_ns))
            begin_entry(battery, &wish, link);
    } else if (own_goes_first(battery, point, now_ns)) {
        fallback_begin(&battery->fallback, now_ns, &author, &value);
        if (intent_begin_own(power(battery), now_ns))
            begin_own(battery, author, value, link);
    } else if (point >= 0) {
        struct intent *intent = &battery->intents[point];
        bool stop = intent_begin(intent, now_ns) == INTENT_STOP;
        battery->live_had_its_turn = battery->live_had_its_turn || !stop;
        const struct command command = stop && intent->current.n == 0
                                           ? retry_of(battery)
                                           : battery->commands[intent->current.tokens[0]];
        begin(battery, &command, link);
    }
}

/* ---- how it ends ---- */

static void note_firing(struct battery *battery)
{
    bool firing = battery->fallback.deadman.state == DEADMAN_FIRING && battery->claim.file >= 0;
    if (battery->setup.health != NULL && firing != battery->firing)
        atomic_fetch_add_explicit(&battery->setup.health->deadman_firing, firing ? 1U : UINT64_MAX,
                                  memory_order_relaxed);
    battery->firing = firing;
}

static void note_control(const struct battery *battery)
{
    struct health *health = battery->setup.health;
    if (battery->driver != NULL && health != NULL && health->devices != NULL)
        atomic_store_explicit(&health->devices[battery->setup.index].control,
                              (int)driver_state(battery->driver), memory_order_relaxed);
}

static void note_times(struct battery *battery, const struct outcome *outcome)
{
    battery->ended_ns = outcome->done_ns;
    if (outcome->written_ns != 0 && outcome->kind != OUTCOME_FAILED &&
        battery->device->controllable &&
        (int)outcome->command.point == battery->device->control.setpoint)
        battery->last_write_ns = outcome->written_ns;
    rest_after(battery, sequence_silence_ns(battery->sequence), outcome->done_ns);
}

/* Tells the driver what came of it. */
static void tell_driver(struct battery *battery, const struct outcome *outcome)
{
    const struct intent *intent = power(battery);
    struct driver_end end = sequence_end(battery->sequence);
    end.outcome = outcome;
    end.stop_waits = intent->stops.n > 0 || intent->is_owed;
    battery->begins = false;
    driver_end(battery->driver, &end);
}

/* Until when a live setpoint that was written then goes before the schedule. */
static int64_t lease_end_ns(const struct battery *battery, int64_t written_ns)
{
    const int64_t timeout_ns = battery->fallback.deadman.timeout_ns;
    return timeout_ns > 0 ? written_ns + timeout_ns : SCHEDULE_NEVER;
}

/* One of the bridge's own; whether it is to be told. */
static bool take_own(struct battery *battery, const struct outcome *outcome)
{
    return outcome->command.author == AUTHOR_SCHEDULE
               ? take_entry(battery, outcome)
               : fallback_take(&battery->fallback, outcome, battery->rest_ns);
}

/* The sequence has ended: tells everybody what came of it. */
static void finish(struct battery *battery)
{
    struct outcome *outcome = &battery->outcome;
    struct intent *intent = &battery->intents[battery->working];
    const struct intent_stops stops = intent->current;
    const enum intent_work work = intent->work;
    const bool zero = outcome->command.stop, confirmed = outcome->kind == OUTCOME_CONFIRMED;
    struct intent_stops settled;
    struct outcome corrected;

    outcome->done_ns = clock_mono_ns();
    tell_lost(battery);
    sequence_rest(battery->sequence);
    note_times(battery, outcome);
    if (outcome->written_ns != 0 && outcome->kind != OUTCOME_FAILED &&
        unsettled_overwrite(&battery->unsettled[battery->working], battery->working,
                            outcome->done_ns, &corrected))
        tell(battery, &corrected);
    /* From the end, so that what waits has its turn in between. */
    int64_t retry_ns = outcome->done_ns + INTENT_RETRY_NS;
    if (retry_ns < battery->rest_ns)
        retry_ns = battery->rest_ns;
    intent_end(intent, zero, confirmed, retry_ns, &settled);
    if (battery->driver != NULL && intent == power(battery))
        tell_driver(battery, outcome);
    const bool own_told = work == INTENT_OWN && take_own(battery, outcome);
    if (work == INTENT_STOP) /* what it cut off may have begun a lease */
        deadman_stop(&battery->fallback.deadman);
    if (work == INTENT_SETPOINT && intent == power(battery)) {
        fallback_follow(&battery->fallback, outcome);
        if (outcome->kind == OUTCOME_CONFIRMED)
            battery->held_kw = outcome->command.value;
        if (outcome->written_ns != 0 && outcome->kind != OUTCOME_FAILED)
            scheduled_give_way(&battery->scheduled, lease_end_ns(battery, outcome->written_ns));
    }
    remember(battery);
    if (work == INTENT_STOP)
        tell_stops(battery, outcome, &stops, false);
    else if (work == INTENT_SETPOINT || own_told)
        tell(battery, outcome);
    tell_stops(battery, outcome, &settled, true);
    if (outcome->kind == OUTCOME_UNKNOWN && outcome->written_ns != 0 && work == INTENT_SETPOINT)
        unsettled_note(&battery->unsettled[battery->working], outcome);
}

/* ---- one step ---- */

/* Whether what is under way is somebody's setpoint for the battery. */
static bool is_live_setpoint(const struct battery *battery)
{
    const struct intent *intent = &battery->intents[battery->working];
    return intent == power(battery) && intent->work == INTENT_SETPOINT;
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
    } else if (battery->outcome.written_ns == 0 && is_out_of_date(battery)) {
        sequence_refuse(battery->sequence, REASON_EXPIRED, "the entry is not in force any more");
    } else if (!link_is_sound(link)) {
        link_close(link);
        sequence_step(battery->sequence, link);
    } else if (battery->outcome.written_ns != 0 ||
               (!sequence_carries(battery->sequence) && !intent->overtaken)) {
        battery->begins = true;
        battery->written = battery->written || is_live_setpoint(battery);
        if (!sequence_has_written(battery->sequence))
            remember(battery); /* should this run end in the middle, the next undoes it */
        sequence_step(battery->sequence, link);
    } else if (intent_write(&battery->intents[battery->working], command->stop, &settled)) {
        battery->begins = battery->driver != NULL && intent == power(battery);
        battery->written = battery->written || is_live_setpoint(battery);
        remember(battery); /* a stop that this ends is not the next run's either */
        sequence_step(battery->sequence, link);
    } else {
        sequence_cut(battery->sequence);
    }
}

/* Whether a stop waits, and what is under way is no stop itself. */
static bool is_preceded(const struct battery *battery)
{
    const struct intent *intent = power(battery);
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
    if (!is_preceded(battery))
        return intent->overtaken && !intent->written;
    if (intent != power(battery) && intent_put_back(intent)) {
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

static void go_on(struct battery *battery, struct link *link)
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
            settle(battery, battery->working, &held);
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

void battery_step(struct battery *battery, struct link *link)
{
    tend_schedule(battery);
    if (battery->driver != NULL)
        driver_see_time(battery->driver, clock_mono_ns());
    tell_lost(battery);
    /* To begin may open the link, which may take a while: no more in that step. */
    if (battery_beats(battery))
        beat(battery, link);
    else if (sequence_state(battery->sequence) == SEQUENCE_IDLE)
        begin_next(battery, link);
    else if (battery->releases)
        go_on_releasing(battery, link);
    else
        go_on(battery, link);
    if (sequence_state(battery->sequence) == SEQUENCE_ENDED)
        finish(battery);
    tell_lost(battery);
    note_firing(battery);
    note_control(battery);
}

bool battery_has_settled(const struct battery *battery)
{
    return sequence_state(battery->sequence) == SEQUENCE_IDLE &&
           (battery->driver == NULL || driver_release_ns(battery->driver) == CLOCK_NEVER ||
            driver_tried_release(battery->driver));
}

bool battery_is_busy(const struct battery *battery)
{
    return sequence_state(battery->sequence) != SEQUENCE_IDLE ||
           next_point(battery, clock_mono_ns()) >= 0;
}

bool battery_is_urgent(const struct battery *battery)
{
    const struct intent *intent = power(battery);
    return intent != NULL && (intent->stops.n > 0 || (intent->work == INTENT_STOP));
}

int64_t battery_due_ns(const struct battery *battery)
{
    const int64_t now_ns = clock_mono_ns();
    const struct intent *intent = power(battery);
    const int64_t beat_ns = beat_from_ns(battery, true);
    if (sequence_state(battery->sequence) != SEQUENCE_IDLE) {
        const int64_t pause_ns = sequence_pause_ns(battery->sequence);
        return is_preceded(battery) ? 0 : pause_ns < beat_ns ? pause_ns : beat_ns;
    }
    if (next_point(battery, now_ns) >= 0)
        return 0;
    struct schedule_wish wish;
    int64_t due_ns = intent != NULL ? fallback_due_ns(&battery->fallback) : CLOCK_NEVER;
    int64_t schedule_ns;
    (void)schedule_is_due(battery, &wish, &schedule_ns);
    if (schedule_ns < due_ns)
        due_ns = schedule_ns;
    if (scheduled_tend_ns(&battery->scheduled) < due_ns)
        due_ns = scheduled_tend_ns(&battery->scheduled);
    if (beat_ns < due_ns)
        due_ns = beat_ns;
    if (release_due_ns(battery) < due_ns)
        due_ns = release_due_ns(battery);
    return intent != NULL && intent->is_owed && intent->retry_ns < due_ns ? intent->retry_ns
                                                                          : due_ns;
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

void battery_describe_schedule(const struct battery *battery, struct schedule_status *status)
{
    const struct deadman *deadman = &battery->fallback.deadman;
    const struct schedule_now now = scheduled_now(
        &battery->scheduled, deadman->state == DEADMAN_IDLE ? SCHEDULE_NEVER : deadman->end_ns);
    schedule_describe(&battery->scheduled.schedule, &now, status);
}

int64_t battery_rest_ns(const struct battery *battery)
{
    return battery->rest_ns;
}

/* ---- polls ---- */

/* Whether what its setpoint reads is what it does: where the type says how it is commanded,
 * it may follow its own plan, or have left what it was told. */
static bool is_held(const struct battery *battery, const struct value *values)
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

/* Somebody may have put another setpoint there: a program before this run, a
 * hand at the device, a battery that was restarted. Only who holds the claim
 * guards it. */
static void guard(struct battery *battery, const struct link *link, const struct value *values,
                  int64_t now_ns)
{
    const struct value *held = &values[battery->device->control.setpoint];
    const int setpoint = battery->device->control.setpoint;
    char holder[CLAIM_TEXT_MAX];
    if (held->state != VALUE_READ || intent_open_stop(power(battery)) != INTENT_NONE ||
        power(battery)->is_owed)
        return; /* not read, or what is to be done about it is known */
    const double value = codec_decimal(&battery->device->points[setpoint], held->number);
    battery->held_kw = value;
    struct deadman *deadman = &battery->fallback.deadman;
    const bool was_idle = deadman->state == DEADMAN_IDLE;
    if (!holds_claim(battery, link, holder) || !is_held(battery, values) ||
        deadman_needs_none(deadman, value))
        deadman_see_rest(deadman);
    else if (!schedule_answers_for(&battery->scheduled.schedule, value))
        deadman_find(deadman, value, now_ns + deadman->timeout_ns);
    if (was_idle && deadman->state != DEADMAN_IDLE)
        scheduled_give_way(&battery->scheduled, deadman->end_ns);
    remember(battery);
}

/* The file of earlier runs may come late. A stop of this run ends a schedule of theirs, and
 * it and a setpoint are newer than whatever else they left. */
static void recall_late(struct battery *battery)
{
    struct scheduled *scheduled = &battery->scheduled;
    if (battery->recalled || !state_is_loaded(battery->setup.state))
        return;
    battery->recalled = true;
    if (scheduled->schedule.table == NULL && !scheduled_is_pending(scheduled)) {
        begin_schedule(battery);
        if (battery->stopped)
            end_schedule(battery);
        else if (battery->written)
            scheduled_give_way(scheduled, lease_end_ns(battery, clock_mono_ns()));
    }
    if (battery->stopped || battery->written)
        remember(battery);
    else
        recall(battery);
}

void battery_see(struct battery *battery, const struct link *link, const struct value *values,
                 int64_t taken_ns)
{
    recall_late(battery);
    /* A scan that a command came between may have read what was there before. */
    if (taken_ns < battery->ended_ns || sequence_state(battery->sequence) != SEQUENCE_IDLE)
        return;
    for (unsigned i = 0; i < battery->device->n_points; i++) {
        if (unsettled_waits(&battery->unsettled[i], i))
            settle(battery, i, &values[i]);
    }
    if (battery->driver != NULL) {
        driver_see(battery->driver, values, clock_mono_ns());
        tell_lost(battery);
        note_control(battery);
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
            tell_unbegun(battery, &battery->commands[token], OUTCOME_REFUSED, REASON_SHUTTING_DOWN,
                         why);
    }
    if (sequence_state(battery->sequence) != SEQUENCE_IDLE && !battery->releases &&
        battery->outcome.written_ns == 0 && !battery->outcome.command.stop) {
        sequence_refuse(battery->sequence, REASON_SHUTTING_DOWN, why);
        finish(battery);
    }
    if (scheduled_is_pending(&battery->scheduled)) {
        struct outcome outcome;
        scheduled_end_pending(&battery->scheduled, OUTCOME_REFUSED, REASON_SHUTTING_DOWN, why,
                              &outcome);
        tell(battery, &outcome);
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
    struct intent *intent = power(battery);
    struct intent_stops stops;
    battery_leave(battery);
    if (battery->releases) {
        sequence_cut(battery->sequence);
        end_release(battery, battery->released.kind == OUTCOME_CONFIRMED);
    } else if (sequence_state(battery->sequence) != SEQUENCE_IDLE) {
        sequence_cut(battery->sequence);
        finish(battery);
    }
    if (intent == NULL || intent->stops.n == 0)
        return;
    struct outcome outcome = {.kind = OUTCOME_UNKNOWN, .done_ns = clock_mono_ns()};
    (void)snprintf(outcome.detail, sizeof(outcome.detail),
                   "the bridge ended before the device could be told: the next run will");
    intent_owe(intent, INTENT_NONE, outcome.done_ns);
    intent_postpone(intent, &stops);
    remember(battery);
    tell_stops(battery, &outcome, &stops, false);
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
    begin_schedule(battery);
    if (device->controllable)
        fallback_init(&battery->fallback, control);
    battery->fallback.deadman.leases_all =
        battery->driver != NULL && device->profile->drive.every_ns > 0;
    remembered_boot(battery->boot);
    battery->recalled = setup->state == NULL || state_is_loaded(setup->state);
    if (battery->recalled)
        recall(battery);
    note_control(battery);
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
