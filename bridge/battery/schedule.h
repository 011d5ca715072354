/* schedule: what of a dispatch schedule is in force, and what is to be written for it.
 *
 * Pure. An entry is in force from its start up to its end (half-open), as UTC has it,
 * as long as the schedule is valid, no live stop has ended it and the clock is to be
 * trusted. What is in force is written once; while it is refused it is judged again
 * each minute. Wherever no entry is in force, or the one that is could not be written,
 * what an earlier entry has left on the battery goes to zero, tried each second until
 * it is confirmed. A live setpoint goes before it: for its lease, or where there is no
 * deadman until the next change. Nothing that is over is ever written.
 *
 * Part of a battery, owned by the thread of its link. Small enough to be proved
 * (tests/proof).
 */
#ifndef BRIDGE_BATTERY_SCHEDULE_H
#define BRIDGE_BATTERY_SCHEDULE_H

#include "bridge/model/outcome.h"
#include "bridge/model/timetable.h"

#define SCHEDULE_RETRY_NS INT64_C(60000000000)
#define SCHEDULE_ZERO_NS  INT64_C(1000000000)
/* For so long a clock may be unsynchronised and is trusted all the same. */
#define SCHEDULE_TRUST_NS INT64_C(3600000000000)
#define SCHEDULE_NEVER    INT64_MIN /* no such entry, no such time */
#define SCHEDULE_OVER     INT64_MAX /* the entry of a schedule that is in force no more */

struct schedule {
    struct timetable *table; /* the last that was accepted; NULL = none */
    bool stopped;            /* a live stop has ended it */
    int64_t accepted_ms;     /* UTC */
    /* Up to this moment of UTC nothing of it is left on the battery. */
    int64_t settled_ms;
    /* A live setpoint goes before it until then: monotonic with a deadman, else UTC
     * (live_ns is SCHEDULE_NEVER then). */
    int64_t live_ms, live_ns;
    bool holds;      /* what the battery holds is, or may be, an entry's */
    double held_kw;  /* that value; NAN = not known */
    int64_t done_ms; /* the start of the entry that is carried out */
    int64_t lost_ms; /* and of one that the battery has left: not written again */
    /* The entry that was tried last, and when it and the zero are tried again. */
    int64_t entry_ms;
    bool failed;
    int64_t entry_ns, zero_ns;
    /* Of the attempt under way: the start of its entry; SCHEDULE_NEVER for the default. */
    int64_t begun_ms;
    /* How the last attempt ended, at a value and at zero; OUTCOME_COUNT = none yet. */
    struct schedule_told {
        enum outcome_kind kind;
        enum reason why;
    } told_value, told_zero;
};

/* A moment, by both clocks. */
struct schedule_now {
    int64_t utc_ms, mono_ns;
    bool trusted;     /* UTC is */
    int64_t lease_ns; /* a live setpoint's lease ends then; SCHEDULE_NEVER = there is none */
};

/* What is to be written. */
struct schedule_wish {
    double value;
    int64_t start_ms, end_ms; /* the entry's; SCHEDULE_NEVER for the default */
};

void schedule_init(struct schedule *schedule);

/* The entry in force, whoever goes before it; NULL = none. */
const struct timetable_entry *schedule_entry(const struct schedule *schedule,
                                             const struct schedule_now *now);

/* When UTC brings the next change; INT64_MAX = there is none. */
int64_t schedule_next_ms(const struct schedule *schedule, int64_t utc_ms);

/* When there is something to write, or to look at again: now or earlier, then *wish says
 * what, if anything (true); later; INT64_MAX. */
bool schedule_wants(const struct schedule *schedule, const struct schedule_now *now,
                    struct schedule_wish *wish, int64_t *due_ns);

/* That attempt begins. */
void schedule_begin(struct schedule *schedule, const struct schedule_wish *wish);

/* Whether what was begun may still be written. */
bool schedule_may_write(const struct schedule *schedule, const struct schedule_now *now);

/* What came of it; the next attempt is not before `rest_ns`. `may_hold`: the battery may hold
 * what was written, now or later, whatever the outcome says. Whether it is to be told: the
 * first attempt at an entry is, and then what differs from the one before. */
bool schedule_take(struct schedule *schedule, const struct schedule_now *now,
                   const struct outcome *outcome, bool may_hold, int64_t rest_ns);

/* A live setpoint was written, or one was found that is nobody's: it goes before until
 * its lease ends, or (SCHEDULE_NEVER: there is no deadman) until the next change. */
void schedule_give_way(struct schedule *schedule, const struct schedule_now *now, int64_t until_ns);

/* The battery has left by itself what it was told: nothing is left on it, and the entry in
 * force is not written any more. The next one is. */
void schedule_lose(struct schedule *schedule, const struct schedule_now *now);

/* Whether what the battery holds is the schedule's to end. */
bool schedule_answers_for(const struct schedule *schedule, double value_kw);

/* A live stop was accepted: false when there was nothing to end. */
bool schedule_stop(struct schedule *schedule);

/* Takes over an accepted one, in place of the last, which is returned to be freed. */
struct timetable *schedule_adopt(struct schedule *schedule, struct timetable *table,
                                 const struct schedule_now *now);

/* Whether this one may follow the last: REASON_NONE, or why not. */
enum reason schedule_judge(const struct schedule *schedule, const struct timetable *table,
                           char detail[DETAIL_MAX]);

/* Where it stands. */
void schedule_describe(const struct schedule *schedule, const struct schedule_now *now,
                       struct schedule_status *status);

/* What is kept with its text on disk, one line in front of it; and back, after a restart:
 * `table` was read from that text. A lease that was kept lasts for `lease_ns` at most. */
void schedule_print(const struct schedule *schedule, char head[TIMETABLE_HEAD_MAX]);
bool schedule_resume(struct schedule *schedule, const char *head, struct timetable *table,
                     const struct schedule_now *now, int64_t lease_ns);

#endif
