/* scheduled: a battery's schedule with its clocks and its place on disk.
 *
 * What is in force and what is to be written is schedule's, which is pure. This
 * keeps it: one that is offered is on disk before it is accepted, and what becomes
 * of it is kept beside it, so that a restart goes on with the entry that covers the
 * moment and with nothing that is over. Waits for no disk.
 *
 * Part of a battery, owned by the thread of its link.
 */
#ifndef BRIDGE_BATTERY_SCHEDULED_H
#define BRIDGE_BATTERY_SCHEDULED_H

#include "bridge/battery/schedule.h"
#include "bridge/model/health.h"
#include "bridge/store/state.h"
#include "devices/registers/device.h"

/* For so long the disk may take to accept one. */
#define SCHEDULED_PATIENCE_NS INT64_C(5000000000)

struct scheduled {
    struct schedule schedule;
    const struct device *device;
    unsigned index;
    struct state *state;   /* NULL = nothing survives a restart */
    struct health *health; /* NULL = the clock is trusted */
    /* One that was offered: its command has the timetable. First it goes to disk beside
     * the one in force, where no run ever carries it out, and may still be refused;
     * then in its place, and is not refused any more. */
    enum { SCHEDULED_NO_OFFER, SCHEDULED_OFFERED, SCHEDULED_TAKES_OVER } pending;
    struct command offer;
    uint64_t mark;               /* of the state store */
    int64_t pending_ns, look_ns; /* since when; and when to ask the disk again */
};

/* Goes on with what was kept. */
void scheduled_init(struct scheduled *scheduled, const struct device *device, unsigned index,
                    struct state *state, struct health *health);
void scheduled_destroy(struct scheduled *scheduled);

/* Now, as schedule has it; `lease_ns`: a live setpoint's lease ends then. */
struct schedule_now scheduled_now(const struct scheduled *scheduled, int64_t lease_ns);

/* When the clock is not to be trusted any more, unless it is synchronised before. */
int64_t scheduled_trust_end_ns(const struct scheduled *scheduled);

/* Takes one over. True when its outcome is known at once: then *outcome is to be told.
 * One that waited for the disk is superseded by it: scheduled_end_pending() first. */
bool scheduled_offer(struct scheduled *scheduled, const struct command *command,
                     struct outcome *outcome);
/* Ends a command that offers one and was not taken over. */
void scheduled_refuse(const struct command *command, enum reason reason, struct outcome *outcome);

bool scheduled_is_pending(const struct scheduled *scheduled);

/* Whether the pending one has come to its end: then *outcome is to be told. To be asked
 * again when scheduled_tend_ns() says. */
bool scheduled_tend(struct scheduled *scheduled, struct outcome *outcome);
int64_t scheduled_tend_ns(const struct scheduled *scheduled);

/* It ends so, and was never in force. */
void scheduled_end_pending(struct scheduled *scheduled, enum outcome_kind kind, enum reason reason,
                           const char *detail, struct outcome *outcome);

/* What schedule says, kept on disk. */
bool scheduled_take(struct scheduled *scheduled, const struct outcome *outcome, bool may_hold,
                    int64_t rest_ns);
void scheduled_give_way(struct scheduled *scheduled, int64_t until_ns);
void scheduled_lose(struct scheduled *scheduled);
void scheduled_stop(struct scheduled *scheduled);

#endif
