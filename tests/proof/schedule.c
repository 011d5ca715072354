/* Bounds: every sequence of 3 events from any schedule of up to 2 entries, with any
 * values and any times of both clocks, which may be set at will; any outcome of any
 * attempt. The calls are those of the parts of battery, in their order. And by itself
 * (`adoption`) each event, an attempt with what may come in the middle of it, or after it:
 * another schedule, and that a write which failed is done later. Of three it would take hours.
 *
 * - No value is written outside of its entry's time, which is half-open, nor when the
 *   schedule is over, nor while the clock is not trusted or a live setpoint goes before.
 * - After a live stop nothing is written that is not of a newer schedule.
 * - What an entry has left on the battery is wanted to be zero wherever no entry is in
 *   force and none goes before, and that is due within a second.
 * - What is confirmed in an entry is not written again in it.
 */
#include <math.h>
#include <stdlib.h>

#include "bridge/battery/schedule.h"
#include "tests/proof/prove.h"

#ifndef EVENTS /* a single one finds every fault of mutants.txt, and sooner */
#define EVENTS 3
#endif

enum { ENTRIES = 2 };

static struct timetable *tables[2];

static struct schedule schedule;
static struct schedule_now now;
static bool adopted;         /* the second */
static bool stopped;         /* since the last that was adopted */
static bool left;            /* an entry's value may be on the battery */
static int64_t live_ns;      /* a live setpoint's lease ends then */
static bool live_for_entry;  /* one without a lease goes before the entry */
static int64_t confirmed_ms; /* the start of the entry that was confirmed, and nothing since */

static int64_t any_utc(void)
{
    int64_t utc_ms = nondet_time();
    assume(utc_ms >= 0 && utc_ms <= INT64_C(9000000000000));
    return utc_ms;
}

static void any_table(unsigned number)
{
    struct timetable *table = malloc(sizeof(*table) + ENTRIES * sizeof(struct timetable_entry));
    assume(table != NULL);
    tables[number] = table;
    table->dated = table->releases = false;
    table->text = NULL;
    table->revision = number;
    table->valid_until_ms = any_utc();
    table->n = nondet_unsigned();
    assume(table->n <= ENTRIES);
    for (unsigned i = 0; i < ENTRIES; i++) {
        struct timetable_entry *entry = &table->entries[i];
        entry->start_ms = any_utc();
        entry->end_ms = any_utc();
        entry->value = nondet_double();
        assume(entry->end_ms > entry->start_ms && !isnan(entry->value));
        assume(i == 0 || entry->start_ms >= table->entries[i - 1].end_ms);
    }
}

/* As the contract has it, by looking at all of them. */
static const struct timetable_entry *in_force(void)
{
    const struct timetable *table = schedule.table;
    for (unsigned i = 0; i < table->n; i++) {
        const struct timetable_entry *entry = &table->entries[i];
        if (entry->start_ms <= now.utc_ms && now.utc_ms < entry->end_ms &&
            now.utc_ms < table->valid_until_ms)
            return now.trusted && !stopped ? entry : NULL;
    }
    return NULL;
}

static bool is_live(void)
{
    return now.mono_ns < live_ns || now.mono_ns < now.lease_ns;
}

static void tick(void)
{
    const int64_t by_ms = nondet_time();
    assume(by_ms >= 0 && by_ms < INT64_C(1) << 30);
    now.mono_ns += by_ms * 1000000;
    if (nondet_bool())
        now.utc_ms = any_utc(); /* it was set */
    else
        now.utc_ms += by_ms;
    assume(now.utc_ms <= INT64_C(9000000000000));
    now.trusted = nondet_bool();
    /* A single event has none before it that would begin one. */
    now.lease_ns = EVENTS > 1 || nondet_bool() ? SCHEDULE_NEVER : nondet_time();
    assume(now.lease_ns < INT64_C(1) << 60);
}

static void adopt(void)
{
    adopted = true;
    struct timetable *last = schedule_adopt(&schedule, tables[1], &now);
    prove(last == tables[0], "the last one is given back");
    stopped = live_for_entry = false;
    confirmed_ms = SCHEDULE_NEVER;
}

static void give_way(void)
{
    const bool leased = nondet_bool();
    const int64_t until_ns = leased ? nondet_time() : SCHEDULE_NEVER;
    assume(!leased || (until_ns > SCHEDULE_NEVER && until_ns < INT64_C(1) << 60 &&
                       until_ns > now.mono_ns - (INT64_C(1) << 60)));
    if (stopped)
        return;
    schedule_give_way(&schedule, &now, until_ns);
    live_ns = until_ns;
    live_for_entry = !leased;
    left = !leased && in_force() != NULL;
    confirmed_ms = SCHEDULE_NEVER;
}

static void write_it(const struct schedule_wish *wish)
{
    struct outcome outcome = {.kind = (enum outcome_kind)nondet_unsigned()};
    const struct timetable_entry *entry = in_force();
    outcome.command.value = wish->value;
    outcome.written_ns = nondet_bool() ? 1 : 0;
    assume(outcome.kind < OUTCOME_COUNT && outcome.kind != OUTCOME_ACCEPTED);
    assume(outcome.kind != OUTCOME_CONFIRMED || outcome.written_ns != 0);
    assume((outcome.kind != OUTCOME_REFUSED && outcome.kind != OUTCOME_SUPERSEDED) ||
           outcome.written_ns == 0);
    prove(!stopped, "after a stop nothing is written");
    if (wish->value != 0) {
        prove(entry != NULL, "a value is written in its entry's time alone");
        prove(entry == NULL || entry->value == wish->value, "it is that entry's value");
        prove(entry == NULL || confirmed_ms != entry->start_ms,
              "what is confirmed is not written again");
        reach("a value is written");
    }
    const bool held = outcome.written_ns != 0 &&
                      (outcome.kind != OUTCOME_FAILED || (EVENTS == 1 && nondet_bool()));
    (void)schedule_take(&schedule, &now, &outcome, held, SCHEDULE_NEVER);
    live_for_entry = false;
    if (wish->value == 0 && outcome.kind == OUTCOME_CONFIRMED) {
        left = false;
        confirmed_ms = SCHEDULE_NEVER;
    } else if (wish->value != 0 && held) {
        left = true;
        confirmed_ms = outcome.kind == OUTCOME_CONFIRMED ? entry->start_ms : SCHEDULE_NEVER;
    }
}

static void attempt(void)
{
    struct schedule_wish wish;
    int64_t due_ns;
    if (!schedule_wants(&schedule, &now, &wish, &due_ns))
        return;
    prove(!is_live(), "a live setpoint goes before it");
    schedule_begin(&schedule, &wish);
    if (nondet_bool())
        tick(); /* the battery is asked for its state meanwhile */
    if (EVENTS == 1 && !adopted && nondet_bool())
        adopt();
    if (nondet_bool() && schedule_stop(&schedule)) {
        stopped = true;
        left = false;
    }
    if (schedule_may_write(&schedule, &now))
        write_it(&wish);
}

static void check_what_is_left(void)
{
    struct schedule_wish wish = {.value = 0};
    int64_t due_ns;
    if (stopped || !left || is_live() || live_for_entry || in_force() != NULL)
        return;
    const bool wants = schedule_wants(&schedule, &now, &wish, &due_ns);
    prove(!wants || wish.value == 0, "outside of the entries only zero is wanted");
    prove(wants || due_ns <= now.mono_ns + SCHEDULE_ZERO_NS ||
              schedule.zero_ns <= now.mono_ns + SCHEDULE_ZERO_NS,
          "what is left is zero within a second");
#if EVENTS > 1
    reach("something is left");
#endif
}

int main(void)
{
    any_table(0);
    any_table(1);
    now.utc_ms = any_utc();
    now.mono_ns = nondet_time();
    assume(now.mono_ns > 0 && now.mono_ns < INT64_C(1) << 50);
    now.trusted = nondet_bool();
    live_ns = confirmed_ms = SCHEDULE_NEVER;
    now.lease_ns = nondet_bool() ? SCHEDULE_NEVER : nondet_time();
    assume(now.lease_ns < INT64_C(1) << 60);
    schedule_init(&schedule);
    (void)schedule_adopt(&schedule, tables[0], &now);
    for (unsigned number = 0; number < EVENTS; number++) {
        switch (nondet_unsigned() % 5) {
        case 0:
            tick();
            break;
        case 1:
            attempt();
            break;
        case 2:
            give_way();
            break;
        case 3:
            if (schedule_stop(&schedule))
                stopped = true;
            left = false;
            break;
        default:
            if (!adopted)
                adopt();
            break;
        }
        check_what_is_left();
    }
    return 0;
}
