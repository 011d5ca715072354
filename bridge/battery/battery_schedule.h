/* battery_schedule: how a battery serves its schedule, a part of it.
 *
 * Joins what the schedule wants (schedule, scheduled) with the rest of the battery's mind:
 * a stop ends it, a live setpoint goes before it until the lease is over, and what came of
 * an entry hands the lease over to it. When an entry has its turn is battery_turns's.
 */
#ifndef BRIDGE_BATTERY_BATTERY_SCHEDULE_H
#define BRIDGE_BATTERY_BATTERY_SCHEDULE_H

#include "bridge/battery/battery_inside.h"

/* Goes on with what an earlier run has kept of it. */
void battery_begin_schedule(struct battery *battery);

/* The file of earlier runs may come late. A stop of this run ends a schedule of theirs, and
 * it and a setpoint are newer than whatever else they left. */
void battery_recall_late(struct battery *battery);

/* A live stop ends the schedule, and what has not become one yet. */
void battery_end_schedule(struct battery *battery);

/* A schedule is offered. What comes of it may be told later, when it is on disk. */
void battery_put_schedule(struct battery *battery, const struct command *command);

/* One that was offered may be on disk by now. */
void battery_tend_schedule(struct battery *battery);

/* What it wants now, and when there is something to do for it. Nothing while a stop is
 * not confirmed. A neighbour's time is not its own. */
bool battery_schedule_is_due(const struct battery *battery, struct schedule_wish *wish,
                             int64_t *due_ns);

/* The moment before the write: its time may be over, or the clock was set. */
bool battery_is_out_of_date(const struct battery *battery);

/* When the entry ends that the battery holds. */
int64_t battery_entry_end_ns(const struct battery *battery);

/* What came of an attempt for it; whether that is to be told. */
bool battery_take_entry(struct battery *battery, const struct outcome *outcome);

/* Until when a live setpoint that was written then goes before the schedule. */
int64_t battery_lease_end_ns(const struct battery *battery, int64_t written_ns);

#endif
