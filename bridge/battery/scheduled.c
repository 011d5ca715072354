#include "bridge/battery/scheduled.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/wire/schedule_json.h"

enum { KEY_MAX = DEVICE_ID_MAX + 16 };

static const char IN_FORCE[] = "schedule", OFFERED[] = "offered";

/* Between two looks at whether the disk has taken it. */
#define LOOK_NS (10 * CLOCK_NS_PER_MS)

static void key_of(const struct scheduled *scheduled, const char *what, char key[KEY_MAX])
{
    (void)snprintf(key, KEY_MAX, "%s/%s", what, scheduled->device->id);
}

/* ---- the clock ---- */

/* A clock that is behind the moment of acceptance was not set since the machine started. */
static bool is_trusted(const struct scheduled *scheduled, int64_t utc_ms, int64_t mono_ns)
{
    const int64_t since_ns =
        scheduled->health != NULL ? atomic_load(&scheduled->health->unsynchronised_ns) : 0;
    const struct schedule *schedule = &scheduled->schedule;
    return since_ns == 0 || (mono_ns - since_ns < SCHEDULE_TRUST_NS &&
                             (schedule->table == NULL || utc_ms >= schedule->accepted_ms));
}

int64_t scheduled_trust_end_ns(const struct scheduled *scheduled)
{
    const int64_t since_ns =
        scheduled->health != NULL ? atomic_load(&scheduled->health->unsynchronised_ns) : 0;
    return since_ns != 0 ? since_ns + SCHEDULE_TRUST_NS : CLOCK_NEVER;
}

struct schedule_now scheduled_now(const struct scheduled *scheduled, int64_t lease_ns)
{
    const int64_t utc_ms = clock_utc_ms(), mono_ns = clock_mono_ns();
    return (struct schedule_now){
        .utc_ms = utc_ms,
        .mono_ns = mono_ns,
        .trusted = is_trusted(scheduled, utc_ms, mono_ns),
        .lease_ns = lease_ns,
    };
}

/* ---- on disk ---- */

static void note_revision(struct scheduled *scheduled)
{
    const struct timetable *table = scheduled->schedule.table;
    if (scheduled->health != NULL && scheduled->health->devices != NULL && table != NULL)
        atomic_store(&scheduled->health->devices[scheduled->index].schedule, table->revision + 1);
}

/* False when there is no room. */
static bool put(struct scheduled *scheduled, const char *what, const struct schedule *schedule)
{
    char key[KEY_MAX];
    if (scheduled->state == NULL)
        return true;
    key_of(scheduled, what, key);
    if (schedule != NULL && schedule->table != NULL)
        schedule_print(schedule, schedule->table->text);
    const bool good =
        state_put(scheduled->state, key,
                  schedule != NULL && schedule->table != NULL ? schedule->table->text : NULL);
    scheduled->mark = state_mark(scheduled->state);
    return good;
}

/* As it would be if it were in force. */
static struct schedule offered(const struct scheduled *scheduled)
{
    const struct schedule_now now = scheduled_now(scheduled, SCHEDULE_NEVER);
    struct schedule schedule = scheduled->schedule;
    (void)schedule_adopt(&schedule, scheduled->offer.timetable, &now);
    return schedule;
}

/* What a next run will find: the one in force, or the one that takes over. */
static bool keep(struct scheduled *scheduled)
{
    struct schedule schedule = scheduled->schedule;
    note_revision(scheduled);
    if (scheduled->pending == SCHEDULED_TAKES_OVER)
        schedule = offered(scheduled);
    return put(scheduled, IN_FORCE, &schedule);
}

static bool resume(struct scheduled *scheduled, const char *text)
{
    char detail[DETAIL_MAX];
    struct command kept = {.timetable = NULL};
    const size_t size = strlen(text);
    const struct schedule_now now = scheduled_now(scheduled, SCHEDULE_NEVER);
    if (size <= TIMETABLE_HEAD_MAX ||
        schedule_json_parse(text + TIMETABLE_HEAD_MAX, size - TIMETABLE_HEAD_MAX, &kept, detail) !=
            REASON_NONE)
        return false;
    if (schedule_resume(&scheduled->schedule, text, kept.timetable, &now,
                        scheduled->device->control.deadman_timeout_ns))
        return true;
    schedule_json_free(kept.timetable);
    return false;
}

void scheduled_init(struct scheduled *scheduled, const struct device *device, unsigned index,
                    struct state *state, struct health *health)
{
    char key[KEY_MAX];
    *scheduled =
        (struct scheduled){.device = device, .index = index, .state = state, .health = health};
    schedule_init(&scheduled->schedule);
    if (state == NULL)
        return;
    char *text = malloc(STATE_TEXT_MAX + 1);
    (void)put(scheduled, OFFERED, NULL); /* by a run that has not accepted it */
    key_of(scheduled, IN_FORCE, key);
    if (text != NULL && state_get(state, key, text, STATE_TEXT_MAX + 1) && !resume(scheduled, text))
        log_error("the schedule of the run before cannot be read: it is not carried out: send it "
                  "again device=%s",
                  device->name);
    free(text);
    note_revision(scheduled);
}

void scheduled_destroy(struct scheduled *scheduled)
{
    if (scheduled->pending != SCHEDULED_NO_OFFER)
        schedule_json_free(scheduled->offer.timetable);
    schedule_json_free(scheduled->schedule.table);
}

/* ---- one that is offered ---- */

bool scheduled_is_pending(const struct scheduled *scheduled)
{
    return scheduled->pending != SCHEDULED_NO_OFFER;
}

static void answer(const struct command *command, enum outcome_kind kind, enum reason reason,
                   const char *detail, struct outcome *outcome)
{
    *outcome = (struct outcome){
        .command = *command, .kind = kind, .reason = reason, .done_ns = clock_mono_ns()};
    outcome->command.timetable = NULL;
    (void)snprintf(outcome->detail, sizeof(outcome->detail), "%s", detail);
}

void scheduled_refuse(const struct command *command, enum reason reason, struct outcome *outcome)
{
    schedule_json_free(command->timetable);
    answer(command, OUTCOME_REFUSED, reason,
           reason == REASON_STALE_REVISION ? "one that came before is being accepted"
           : reason == REASON_NOT_STORED
               ? "what an earlier run has kept cannot be read yet: see the bridge's log"
               : "",
           outcome);
}

static void adopt(struct scheduled *scheduled, struct outcome *outcome)
{
    const struct schedule_now now = scheduled_now(scheduled, SCHEDULE_NEVER);
    scheduled->pending = SCHEDULED_NO_OFFER;
    schedule_json_free(schedule_adopt(&scheduled->schedule, scheduled->offer.timetable, &now));
    (void)keep(scheduled);
    answer(&scheduled->offer, OUTCOME_ACCEPTED, REASON_NONE, "", outcome);
}

bool scheduled_offer(struct scheduled *scheduled, const struct command *command,
                     struct outcome *outcome)
{
    char detail[DETAIL_MAX] = "";
    const enum reason reason = schedule_judge(&scheduled->schedule, command->timetable, detail);
    if (reason != REASON_NONE) {
        schedule_json_free(command->timetable);
        answer(command, OUTCOME_REFUSED, reason, detail, outcome);
        return true;
    }
    scheduled->offer = *command;
    scheduled->pending = SCHEDULED_OFFERED;
    scheduled->pending_ns = clock_awake_ns();
    const struct schedule schedule = offered(scheduled);
    if (!put(scheduled, OFFERED, &schedule)) {
        scheduled_end_pending(scheduled, OUTCOME_REFUSED, REASON_NOT_STORED,
                              "there is no room for it in the state file", outcome);
        return true;
    }
    return scheduled_tend(scheduled, outcome);
}

int64_t scheduled_tend_ns(const struct scheduled *scheduled)
{
    return scheduled->pending != SCHEDULED_NO_OFFER ? scheduled->look_ns : CLOCK_NEVER;
}

/* Whether all that was put before it is on disk. */
static bool is_kept(const struct scheduled *scheduled)
{
    return scheduled->state == NULL || state_is_kept(scheduled->state, scheduled->mark);
}

bool scheduled_tend(struct scheduled *scheduled, struct outcome *outcome)
{
    if (scheduled->pending == SCHEDULED_OFFERED && is_kept(scheduled)) {
        scheduled->pending = SCHEDULED_TAKES_OVER;
        (void)put(scheduled, OFFERED, NULL);
        (void)keep(scheduled);
    }
    if (scheduled->pending == SCHEDULED_TAKES_OVER && is_kept(scheduled)) {
        adopt(scheduled, outcome);
        return true;
    }
    scheduled->look_ns = clock_mono_ns() + LOOK_NS;
    if (scheduled->pending != SCHEDULED_OFFERED ||
        clock_awake_ns() - scheduled->pending_ns < SCHEDULED_PATIENCE_NS)
        return false;
    scheduled_end_pending(scheduled, OUTCOME_REFUSED, REASON_NOT_STORED,
                          "the disk has not taken it within 5 s: see the bridge's log", outcome);
    return true;
}

void scheduled_end_pending(struct scheduled *scheduled, enum outcome_kind kind, enum reason reason,
                           const char *detail, struct outcome *outcome)
{
    answer(&scheduled->offer, kind, reason, detail, outcome);
    schedule_json_free(scheduled->offer.timetable);
    scheduled->pending = SCHEDULED_NO_OFFER;
    (void)put(scheduled, OFFERED, NULL);
    (void)keep(scheduled); /* what was before it */
}

/* ---- what becomes of it ---- */

bool scheduled_take(struct scheduled *scheduled, const struct outcome *outcome, bool may_hold,
                    int64_t rest_ns)
{
    const struct schedule_now now = scheduled_now(scheduled, SCHEDULE_NEVER);
    const bool news = schedule_take(&scheduled->schedule, &now, outcome, may_hold, rest_ns);
    (void)keep(scheduled);
    return news;
}

void scheduled_give_way(struct scheduled *scheduled, int64_t until_ns)
{
    const struct schedule_now now = scheduled_now(scheduled, SCHEDULE_NEVER);
    if (scheduled->schedule.table == NULL)
        return;
    schedule_give_way(&scheduled->schedule, &now, until_ns);
    (void)keep(scheduled);
}

void scheduled_lose(struct scheduled *scheduled)
{
    const struct schedule_now now = scheduled_now(scheduled, SCHEDULE_NEVER);
    if (scheduled->schedule.table == NULL)
        return;
    schedule_lose(&scheduled->schedule, &now);
    (void)keep(scheduled);
}

void scheduled_stop(struct scheduled *scheduled)
{
    if (schedule_stop(&scheduled->schedule))
        (void)keep(scheduled);
}
