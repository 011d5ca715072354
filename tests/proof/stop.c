/* Bounds: every sequence of 6 events from every kind of start (nothing, a lease, a stop
 * or a lease of the run before), any values and times; one battery, whose setpoint is
 * the only point. The calls are those of the parts of battery, in their order.
 *
 * - After a stop, no other value is written but one that was accepted later.
 * - A stop is held until a zero is confirmed or a newer setpoint is written.
 * - Nothing replaces a stop.
 * - A lease ends `timeout` after the write that was confirmed, and nothing else moves it.
 * - The deadman writes when a lease is over and not before, its fallback or zero; zero
 *   alone after a stop, and when the fallback was forbidden.
 */
#include "bridge/base/log.h"
#include "bridge/battery/fallback.h"
#include "bridge/battery/intent.h"
#include "tests/proof/prove.h"

enum { EVENTS = 6, NEVER = 0 };

static struct intent intent;
static struct fallback fallback;
static struct deadman *deadman;
static int64_t now_ns;
static struct device device;

/* What the contract knows. Commands bear the number of the event that put them. */
static unsigned accepted;            /* commands so far */
static unsigned accepted_at[EVENTS]; /* from 1, by number */
static bool is_stop[EVENTS];
static unsigned stop_at = NEVER; /* the newest stop */
static unsigned newest_stop;     /* its number */
static bool owed;                /* it is neither confirmed nor written over */
static bool begun_with_newest;   /* the zero under way is for it as well */
static bool newer_written;       /* a setpoint accepted after it was written */

/* What is under way. */
static struct outcome outcome;

void log_warning(const char *format, ...)
{
    (void)format;
}

void log_info(const char *format, ...)
{
    (void)format;
}

static bool is_in(const struct intent_stops *stops, uint16_t token)
{
    for (unsigned i = 0; i < stops->n; i++) {
        if (stops->tokens[i] == token)
            return true;
    }
    return false;
}

static void put_setpoint(unsigned number)
{
    assume(intent_has_room(&intent) && fallback.state == FALLBACK_STAYS);
    accepted_at[number] = ++accepted;
    uint16_t replaced = intent_put_setpoint(&intent, (uint16_t)number);
    prove(replaced == INTENT_NONE || !is_stop[replaced], "a setpoint replaces no stop");
}

static void put_stop(unsigned number)
{
    struct intent_stops postponed;
    assume(intent_has_room(&intent));
    accepted_at[number] = stop_at = ++accepted;
    is_stop[number] = true;
    uint16_t replaced = intent_put_stop(&intent, (uint16_t)number);
    prove(replaced == INTENT_NONE || !is_stop[replaced], "a stop replaces no stop");
    deadman_stop(deadman);
    newest_stop = number;
    owed = true;
    begun_with_newest = newer_written = false;
    if (intent.is_owed && nondet_bool()) {
        intent_postpone(&intent, &postponed);
        /* A zero that is under way already will do: nothing else is written until it
         * has been read back. */
        begun_with_newest = intent.work != INTENT_NOTHING && outcome.command.stop;
    }
}

static void begin(void)
{
    enum command_author author;
    double value = 0;
    assume(intent.work == INTENT_NOTHING);
    if (nondet_bool()) {
        assume(fallback_due_ns(&fallback) <= now_ns);
        const struct deadman before = *deadman;
        fallback_begin(&fallback, now_ns, &author, &value);
        if (!intent_begin_own(&intent, now_ns))
            return;
        prove(author != AUTHOR_DEADMAN || (before.state != DEADMAN_IDLE && now_ns >= before.end_ns),
              "the deadman waits for the lease's end");
        prove(value == 0 || value == before.fallback, "its own is the fallback or zero");
        prove(value == 0 || !before.stopped, "after a stop its own is zero");
        prove(value == 0 || author != AUTHOR_DEADMAN || !before.at_zero,
              "after the fallback was forbidden it is zero");
    } else {
        enum intent_work work = intent_begin(&intent, now_ns);
        if (work == INTENT_NOTHING)
            return;
        author = AUTHOR_DISPATCHER;
        if (work == INTENT_SETPOINT) {
            value = nondet_double();
            assume(value != 0);
        }
        prove(work == INTENT_STOP || intent.stops.n == 0, "a stop goes first");
    }
    outcome.command.author = author;
    outcome.command.value = value;
    outcome.command.stop = value == 0;
    outcome.written_ns = 0;
    begun_with_newest = outcome.command.stop;
}

static void write_it(void)
{
    struct intent_stops settled;
    const bool zero = outcome.command.stop;
    assume(intent.work != INTENT_NOTHING && !intent.written);
    if (!intent_write(&intent, zero, &settled)) {
        prove(!zero || intent.work != INTENT_STOP, "a stop is always written");
        return;
    }
    outcome.written_ns = now_ns;
    if (zero)
        return;
    if (intent.work == INTENT_OWN) {
        prove(stop_at == NEVER || newer_written, "its own follows no stop");
        return;
    }
    const uint16_t token = intent.current.tokens[0];
    prove(accepted_at[token] > stop_at, "after a stop only what was accepted later is written");
    newer_written = true;
    owed = false;
    reach("a setpoint is written");
    if (stop_at != NEVER)
        reach("a setpoint is written after a stop");
}

/* As battery_finish(). */
static void end(void)
{
    struct intent_stops settled;
    const enum intent_work work = intent.work;
    const struct deadman before = *deadman;
    const int64_t rest_ns = nondet_time();
    assume(work != INTENT_NOTHING);
    outcome.kind = (enum outcome_kind)nondet_unsigned();
    outcome.reason = (enum reason)nondet_unsigned();
    assume(outcome.kind < OUTCOME_COUNT && outcome.reason < REASON_COUNT);
    assume(outcome.kind != OUTCOME_CONFIRMED || intent.written);
    assume(!intent.overtaken || intent.written || outcome.kind == OUTCOME_SUPERSEDED);
    assume(rest_ns < INT64_MAX / 4);
    outcome.done_ns = now_ns;
    const bool zero = outcome.command.stop, confirmed = outcome.kind == OUTCOME_CONFIRMED;

    intent_end(&intent, zero, confirmed, now_ns + INTENT_RETRY_NS, &settled);
    if (work == INTENT_STOP)
        deadman_stop(deadman);
    else if (work == INTENT_SETPOINT)
        fallback_follow(&fallback, &outcome);
    else
        (void)fallback_take(&fallback, &outcome, rest_ns);

    if (zero && confirmed && begun_with_newest)
        owed = false;
    if (work == INTENT_SETPOINT && confirmed) {
        prove(deadman->timeout_ns == 0 || outcome.command.value == deadman->fallback ||
                  (deadman->state == DEADMAN_ARMED &&
                   deadman->end_ns == outcome.written_ns + deadman->timeout_ns),
              "a lease runs from the write that was confirmed");
        reach("a lease begins");
    } else if (before.state != DEADMAN_IDLE) {
        prove(deadman->state == DEADMAN_IDLE || deadman->end_ns == before.end_ns,
              "nothing else moves a lease");
    }
    if (work == INTENT_OWN && !confirmed && deadman->state == DEADMAN_FIRING)
        reach("the deadman tries again");
}

/* A poll has seen what the device holds. */
static void see(void)
{
    const double held = nondet_double();
    const struct deadman before = *deadman;
    assume(intent.work == INTENT_NOTHING);
    if (held == 0.0 || (held == deadman->fallback && !deadman->stopped))
        deadman_see_rest(deadman);
    else
        deadman_find(deadman, held, now_ns + deadman->timeout_ns);
    prove(before.state == DEADMAN_IDLE || deadman->state == DEADMAN_IDLE ||
              deadman->end_ns == before.end_ns,
          "what is seen moves no lease");
    prove(before.state != DEADMAN_FIRING || deadman->state == DEADMAN_FIRING,
          "what is seen ends no attempts");
}

static void pass_time(void)
{
    int64_t by_ns = nondet_time();
    assume(by_ns >= 0 && by_ns < INT64_MAX / 64);
    now_ns += by_ns;
}

/* As battery_leave(). */
static void leave(void)
{
    uint16_t token = intent_withdraw(&intent);
    prove(token == INTENT_NONE || !is_stop[token], "the end of the bridge withdraws no stop");
    if (intent.work != INTENT_NOTHING && !intent.written && !outcome.command.stop) {
        struct intent_stops settled;
        intent_end(&intent, false, false, now_ns, &settled);
    }
    fallback_leave(&fallback, &device);
}

static void start(void)
{
    device.controllable = true;
    device.control.on_exit = nondet_bool() ? DEVICE_FALLBACK : DEVICE_HOLD;
    device.control.deadman_timeout_ns = nondet_time();
    device.control.deadman_value = nondet_double();
    assume(device.control.deadman_timeout_ns >= 0 &&
           device.control.deadman_timeout_ns <= INT64_MAX / 64);
    assume(device.control.deadman_value == device.control.deadman_value); /* no NAN */
    now_ns = nondet_time();
    assume(now_ns > 0 && now_ns < INT64_MAX / 64);
    intent_init(&intent);
    fallback_init(&fallback, &device.control);
    deadman = &fallback.deadman;
    if (nondet_bool()) { /* a lease of the run before */
        int64_t end_ns = nondet_time();
        assume(end_ns <= now_ns + deadman->timeout_ns && end_ns > INT64_MIN / 2);
        deadman_resume(deadman, end_ns);
    } else if (nondet_bool()) { /* a stop of the run before */
        deadman_stop(deadman);
        intent_owe(&intent, INTENT_NONE, now_ns);
    }
}

int main(void)
{
    start();
    for (unsigned number = 0; number < EVENTS; number++) {
        switch (nondet_unsigned() % 8) {
        case 0:
            put_setpoint(number);
            break;
        case 1:
            put_stop(number);
            break;
        case 2:
            begin();
            break;
        case 3:
            write_it();
            break;
        case 4:
            end();
            break;
        case 5:
            see();
            break;
        case 6:
            pass_time();
            break;
        default:
            leave();
            break;
        }
        prove(!owed || intent.stops.n > 0 || intent.work == INTENT_STOP || intent.is_owed,
              "a stop is held until it is confirmed");
        prove(!owed || is_in(&intent.stops, (uint16_t)newest_stop) ||
                  is_in(&intent.current, (uint16_t)newest_stop) ||
                  is_in(&intent.owed, (uint16_t)newest_stop),
              "and it is known by its name");
        prove(deadman->state == DEADMAN_IDLE || !deadman->stopped || deadman->at_zero ||
                  deadman_next_ns(deadman) < INT64_MAX,
              "what is due has a time");
    }
    return 0;
}
