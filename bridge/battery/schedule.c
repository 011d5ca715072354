#include "bridge/battery/schedule.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS INT64_C(1000000)
#define FOREVER   INT64_MAX

void schedule_init(struct schedule *schedule)
{
    *schedule = (struct schedule){
        .settled_ms = SCHEDULE_NEVER,
        .live_ms = SCHEDULE_NEVER,
        .live_ns = SCHEDULE_NEVER,
        .held_kw = NAN,
        .done_ms = SCHEDULE_NEVER,
        .lost_ms = SCHEDULE_NEVER,
        .entry_ms = SCHEDULE_NEVER,
        .entry_ns = SCHEDULE_NEVER,
        .zero_ns = SCHEDULE_NEVER,
        .begun_ms = SCHEDULE_NEVER,
        .told_value = {.kind = OUTCOME_COUNT},
        .told_zero = {.kind = OUTCOME_COUNT},
    };
}

/* ---- what is in force ---- */

/* The number of entries that have begun at that time. */
static unsigned begun_at(const struct timetable *table, int64_t utc_ms)
{
    unsigned low = 0, high = table->n;
    while (low < high) {
        const unsigned middle = low + (high - low) / 2;
        if (table->entries[middle].start_ms <= utc_ms)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_alive(const struct schedule *schedule)
{
    return schedule->table != NULL && !schedule->stopped;
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t end_of(const struct schedule *schedule, const struct timetable_entry *entry)
{
    return sooner(entry->end_ms, schedule->table->valid_until_ms);
}

const struct timetable_entry *schedule_entry(const struct schedule *schedule,
                                             const struct schedule_now *now)
{
    if (!is_alive(schedule) || !now->trusted)
        return NULL;
    const unsigned n = begun_at(schedule->table, now->utc_ms);
    if (n == 0)
        return NULL;
    const struct timetable_entry *entry = &schedule->table->entries[n - 1];
    return now->utc_ms < end_of(schedule, entry) ? entry : NULL;
}

int64_t schedule_next_ms(const struct schedule *schedule, int64_t utc_ms)
{
    if (!is_alive(schedule) || utc_ms >= schedule->table->valid_until_ms)
        return FOREVER;
    const struct timetable *table = schedule->table;
    const unsigned n = begun_at(table, utc_ms);
    int64_t next_ms = FOREVER;
    if (n > 0 && utc_ms < end_of(schedule, &table->entries[n - 1]))
        next_ms = end_of(schedule, &table->entries[n - 1]);
    if (n < table->n && table->entries[n].start_ms < table->valid_until_ms)
        next_ms = sooner(next_ms, table->entries[n].start_ms);
    return next_ms;
}

/* When the monotonic clock will be where UTC is then. */
static int64_t mono_of(const struct schedule_now *now, int64_t utc_ms)
{
    const int64_t far_ms = INT64_C(400) * 86400 * 1000;
    if (utc_ms == FOREVER || utc_ms - now->utc_ms > far_ms)
        return FOREVER;
    return now->mono_ns + (utc_ms - now->utc_ms) * NS_PER_MS;
}

/* ---- what is to be written ---- */

static const struct schedule_wish zero = {
    .value = 0, .start_ms = SCHEDULE_NEVER, .end_ms = SCHEDULE_NEVER};

/* What is wanted next by the entry in force (NULL: by none), and when. */
static bool want(const struct schedule *schedule, const struct timetable_entry *entry,
                 struct schedule_wish *wish, int64_t *due_ns)
{
    const bool done = entry != NULL && (schedule->done_ms == entry->start_ms ||
                                        schedule->lost_ms == entry->start_ms);
    const bool tried = entry != NULL && schedule->entry_ms == entry->start_ms;
    if (entry != NULL && !done) {
        *wish = (struct schedule_wish){
            .value = entry->value,
            .start_ms = entry->start_ms,
            .end_ms = end_of(schedule, entry),
        };
        *due_ns = entry->value == 0.0 ? schedule->zero_ns
                  : tried             ? schedule->entry_ns
                                      : SCHEDULE_NEVER;
        if (!schedule->holds || !tried || !schedule->failed || schedule->zero_ns >= *due_ns)
            return true;
    } else if (!schedule->holds || done) {
        return false;
    }
    *wish = zero;
    *due_ns = schedule->zero_ns;
    return true;
}

/* Until when a live setpoint goes before it; in the past when none does. */
static int64_t live_end_ns(const struct schedule *schedule, const struct schedule_now *now)
{
    int64_t end_ns = schedule->live_ns;
    if (end_ns == SCHEDULE_NEVER && now->utc_ms < schedule->live_ms)
        end_ns = mono_of(now, schedule->live_ms);
    return end_ns > now->lease_ns ? end_ns : now->lease_ns;
}

bool schedule_wants(const struct schedule *schedule, const struct schedule_now *now,
                    struct schedule_wish *wish, int64_t *due_ns)
{
    int64_t wanted_ns = FOREVER;
    *due_ns = FOREVER;
    if (!is_alive(schedule))
        return false;
    *due_ns = mono_of(now, schedule_next_ms(schedule, now->utc_ms));
    const int64_t live_ns = live_end_ns(schedule, now);
    if (now->mono_ns < live_ns) {
        *due_ns = sooner(*due_ns, live_ns);
        return false;
    }
    if (!want(schedule, schedule_entry(schedule, now), wish, &wanted_ns))
        return false;
    *due_ns = sooner(*due_ns, wanted_ns);
    return wanted_ns <= now->mono_ns;
}

void schedule_begin(struct schedule *schedule, const struct schedule_wish *wish)
{
    schedule->begun_ms = wish->start_ms;
    if (wish->start_ms != SCHEDULE_NEVER && schedule->entry_ms != wish->start_ms) {
        schedule->entry_ms = wish->start_ms;
        schedule->failed = false;
        schedule->told_value.kind = OUTCOME_COUNT;
    }
}

bool schedule_may_write(const struct schedule *schedule, const struct schedule_now *now)
{
    if (!is_alive(schedule))
        return false;
    const struct timetable_entry *entry = schedule_entry(schedule, now);
    return schedule->begun_ms == SCHEDULE_NEVER ||
           (entry != NULL && entry->start_ms == schedule->begun_ms);
}

/* ---- what came of it ---- */

/* Nothing of it is left on the battery. */
static void settle(struct schedule *schedule, int64_t utc_ms)
{
    schedule->holds = false;
    schedule->held_kw = NAN;
    schedule->settled_ms = utc_ms;
}

static void take_zero(struct schedule *schedule, const struct schedule_now *now, bool confirmed,
                      int64_t rest_ns)
{
    schedule->zero_ns = SCHEDULE_NEVER;
    if (confirmed) {
        settle(schedule, now->utc_ms);
        schedule->done_ms = schedule->begun_ms;
        return;
    }
    schedule->zero_ns = now->mono_ns + SCHEDULE_ZERO_NS;
    if (schedule->zero_ns < rest_ns)
        schedule->zero_ns = rest_ns;
}

/* What was written and is not confirmed may be held: it goes to zero. One that reads back
 * otherwise is given up; else it is tried again, as is what was not written at all. */
static void take_value(struct schedule *schedule, const struct schedule_now *now,
                       const struct outcome *outcome, bool may_hold, int64_t rest_ns)
{
    const bool confirmed = outcome->kind == OUTCOME_CONFIRMED;
    schedule->failed = !confirmed;
    if (confirmed || may_hold) {
        schedule->holds = true;
        schedule->held_kw = confirmed ? outcome->command.value : NAN;
        schedule->done_ms = confirmed ? schedule->begun_ms : SCHEDULE_NEVER;
    }
    schedule->zero_ns = SCHEDULE_NEVER;
    schedule->entry_ns = now->mono_ns + SCHEDULE_RETRY_NS;
    if (schedule->entry_ns < rest_ns)
        schedule->entry_ns = rest_ns;
    if (outcome->kind == OUTCOME_MISMATCH)
        schedule->entry_ns = FOREVER;
}

bool schedule_take(struct schedule *schedule, const struct schedule_now *now,
                   const struct outcome *outcome, bool may_hold, int64_t rest_ns)
{
    const bool is_zero = outcome->command.value == 0.0;
    struct schedule_told *told = is_zero ? &schedule->told_zero : &schedule->told_value;
    const bool news = outcome->kind != told->kind || outcome->reason != told->why ||
                      outcome->kind == OUTCOME_CONFIRMED;
    if (!is_alive(schedule))
        return outcome->kind != OUTCOME_SUPERSEDED; /* by the stop that has ended it */
    if (is_zero)
        take_zero(schedule, now, outcome->kind == OUTCOME_CONFIRMED, rest_ns);
    else
        take_value(schedule, now, outcome, may_hold, rest_ns);
    *told = (struct schedule_told){.kind = outcome->kind, .why = outcome->reason};
    return news;
}

void schedule_give_way(struct schedule *schedule, const struct schedule_now *now, int64_t until_ns)
{
    if (!is_alive(schedule))
        return;
    const int64_t next_ms = schedule_next_ms(schedule, now->utc_ms);
    const bool leased = until_ns != SCHEDULE_NEVER;
    const bool ends_it = !leased && schedule_entry(schedule, now) != NULL;
    settle(schedule, now->utc_ms);
    schedule->holds = ends_it; /* at the entry's end it is zero for the live one as well */
    schedule->done_ms = schedule->entry_ms = SCHEDULE_NEVER;
    schedule->failed = false;
    schedule->zero_ns = SCHEDULE_NEVER;
    schedule->live_ns = until_ns;
    schedule->live_ms = leased ? now->utc_ms + (until_ns - now->mono_ns) / NS_PER_MS : next_ms;
    if (next_ms == FOREVER && !leased)
        schedule->live_ms = SCHEDULE_NEVER; /* it is over: nothing comes after */
}

void schedule_lose(struct schedule *schedule, const struct schedule_now *now)
{
    const struct timetable_entry *entry = schedule_entry(schedule, now);
    if (!is_alive(schedule))
        return;
    settle(schedule, now->utc_ms);
    schedule->done_ms = SCHEDULE_NEVER;
    schedule->lost_ms = entry != NULL ? entry->start_ms : SCHEDULE_NEVER;
    schedule->failed = false;
    schedule->zero_ns = SCHEDULE_NEVER;
}

bool schedule_answers_for(const struct schedule *schedule, double value_kw)
{
    return is_alive(schedule) && schedule->holds &&
           (isnan(schedule->held_kw) || schedule->held_kw == value_kw);
}

bool schedule_stop(struct schedule *schedule)
{
    const bool was_alive = is_alive(schedule);
    schedule->stopped = true;
    schedule->holds = false;
    return was_alive;
}

/* ---- another one ---- */

enum reason schedule_judge(const struct schedule *schedule, const struct timetable *table,
                           char detail[DETAIL_MAX])
{
    if (schedule->table == NULL || table->revision > schedule->table->revision)
        return REASON_NONE;
    (void)snprintf(detail, DETAIL_MAX, "revision %" PRId64 " was accepted already",
                   schedule->table->revision);
    return REASON_STALE_REVISION;
}

/* What the battery holds stays as it is where the new one wants the same now. An attempt at
 * an entry that is under way is of the last one: it is not written any more. */
struct timetable *schedule_adopt(struct schedule *schedule, struct timetable *table,
                                 const struct schedule_now *now)
{
    struct timetable *last = schedule->table;
    const bool alive = is_alive(schedule);
    struct schedule next;
    schedule_init(&next);
    next.table = table;
    next.accepted_ms = now->utc_ms;
    next.settled_ms = now->utc_ms;
    if (schedule->begun_ms != SCHEDULE_NEVER)
        next.begun_ms = SCHEDULE_OVER;
    if (alive) {
        next.holds = schedule->holds;
        next.held_kw = schedule->held_kw;
        next.zero_ns = schedule->zero_ns;
        next.live_ms = schedule->live_ms;
        next.live_ns = schedule->live_ns;
        /* In a gap as in an entry: what is left is still to be settled. */
        next.settled_ms = schedule->settled_ms;
        const struct timetable_entry *entry = schedule_entry(&next, now);
        if (entry != NULL && schedule->holds && entry->value == schedule->held_kw)
            next.done_ms = next.entry_ms = entry->start_ms;
    }
    *schedule = next;
    return last;
}

/* ---- where it stands ---- */

static bool is_live(const struct schedule *schedule, const struct schedule_now *now)
{
    return now->mono_ns < live_end_ns(schedule, now);
}

static enum schedule_state state_of(const struct schedule *schedule, const struct schedule_now *now)
{
    const struct timetable *table = schedule->table;
    const struct timetable_entry *entry = schedule_entry(schedule, now);
    if (table == NULL)
        return SCHEDULE_NONE;
    if (schedule->stopped)
        return SCHEDULE_STOPPED;
    if (table->n == 0)
        return SCHEDULE_CANCELLED;
    if (entry == NULL && schedule_next_ms(schedule, now->utc_ms) == FOREVER)
        return SCHEDULE_ENDED;
    if (!now->trusted)
        return SCHEDULE_UNSYNCHRONISED;
    if (is_live(schedule, now))
        return SCHEDULE_LIVE;
    if (entry != NULL)
        return schedule->done_ms == entry->start_ms ? SCHEDULE_RUNNING : SCHEDULE_PENDING;
    return begun_at(table, now->utc_ms) == 0 ? SCHEDULE_WAITING : SCHEDULE_DEFAULT;
}

static void describe_next(const struct schedule *schedule, int64_t utc_ms,
                          struct schedule_status *status)
{
    status->next_ms = schedule_next_ms(schedule, utc_ms);
    status->changes = status->next_ms != FOREVER;
    if (!status->changes)
        return;
    const struct schedule_now then = {.utc_ms = status->next_ms, .trusted = true};
    const struct timetable_entry *entry = schedule_entry(schedule, &then);
    status->next_has_value = entry != NULL;
    status->next_value = entry != NULL ? entry->value : 0;
}

void schedule_describe(const struct schedule *schedule, const struct schedule_now *now,
                       struct schedule_status *status)
{
    const struct timetable *table = schedule->table;
    const struct timetable_entry *entry = schedule_entry(schedule, now);
    *status = (struct schedule_status){.state = state_of(schedule, now), .revision = -1};
    if (table == NULL)
        return;
    status->revision = table->revision;
    memcpy(status->id, table->id, sizeof(status->id));
    memcpy(status->source, table->source, sizeof(status->source));
    status->releases = table->releases;
    status->valid_until_ms = table->valid_until_ms;
    status->has_entry = entry != NULL;
    if (entry != NULL)
        status->entry = *entry;
    describe_next(schedule, now->utc_ms, status);
    status->owes_default =
        is_alive(schedule) && schedule->holds && entry == NULL && !is_live(schedule, now);
    const struct schedule_told *told =
        status->owes_default || (entry != NULL && entry->value == 0.0) ? &schedule->told_zero
                                                                       : &schedule->told_value;
    if ((status->state == SCHEDULE_PENDING || status->owes_default) &&
        told->kind != OUTCOME_COUNT && told->kind != OUTCOME_CONFIRMED)
        (void)snprintf(status->why, sizeof(status->why), "%s",
                       told->why != REASON_NONE ? reason_word(told->why)
                                                : outcome_word(told->kind));
}

/* ---- what survives a restart ---- */

void schedule_print(const struct schedule *schedule, char head[TIMETABLE_HEAD_MAX])
{
    memset(head, ' ', TIMETABLE_HEAD_MAX);
    const int length =
        snprintf(head, TIMETABLE_HEAD_MAX, "1 %d %d %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64,
                 schedule->stopped, schedule->holds, schedule->accepted_ms, schedule->settled_ms,
                 schedule->live_ms, schedule->lost_ms);
    head[length] = ' ';
    head[TIMETABLE_HEAD_MAX - 1] = '\n';
}

/* Whether an entry was in force at some time since all was settled. */
static bool may_hold(const struct schedule *schedule, int64_t utc_ms)
{
    const unsigned n = begun_at(schedule->table, utc_ms);
    return n > 0 && end_of(schedule, &schedule->table->entries[n - 1]) > schedule->settled_ms;
}

bool schedule_resume(struct schedule *schedule, const char *head, struct timetable *table,
                     const struct schedule_now *now, int64_t lease_ns)
{
    int stopped, holds;
    struct schedule next;
    schedule_init(&next);
    if (sscanf(head, "1 %d %d %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " ", &stopped, &holds,
               &next.accepted_ms, &next.settled_ms, &next.live_ms, &next.lost_ms) != 6)
        return false;
    next.table = table;
    next.stopped = stopped != 0;
    next.holds = !next.stopped && (holds != 0 || may_hold(&next, now->utc_ms));
    if (lease_ns > 0 && next.live_ms <= now->utc_ms)
        next.live_ms = SCHEDULE_NEVER;
    else if (lease_ns > 0) {
        const int64_t left_ms = sooner(next.live_ms - now->utc_ms, lease_ns / NS_PER_MS);
        next.live_ns = now->mono_ns + left_ms * NS_PER_MS;
        next.live_ms = now->utc_ms + left_ms;
    }
    *schedule = next;
    return true;
}
