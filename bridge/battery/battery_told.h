/* battery_told: what others know of a battery, a part of it.
 *
 * What the next run finds on disk (remember, recall), what whoever asked hears (outcomes),
 * and what health counts. In this order: what is owed, and the lease, are kept before an
 * outcome is told that rests on them.
 */
#ifndef BRIDGE_BATTERY_BATTERY_TOLD_H
#define BRIDGE_BATTERY_BATTERY_TOLD_H

#include "bridge/battery/battery_inside.h"

/* Stores what the next run must know. Called whenever something of it may have changed. */
void battery_remember(struct battery *battery);

/* Goes on with what the run before has kept. */
void battery_recall(struct battery *battery);

/* What is owed, and the lease, are on disk before whoever asked hears of it: so it is
 * told after battery_remember(). */
void battery_tell(struct battery *battery, const struct outcome *outcome);

/* That of a command that was never begun. */
void battery_tell_unbegun(struct battery *battery, const struct command *command,
                          enum outcome_kind kind, enum reason reason, const char *detail);

/* The same outcome for each of some stops; `correction`: they had another before. */
void battery_tell_stops(struct battery *battery, const struct outcome *outcome,
                        const struct intent_stops *stops, bool correction);

/* What a point was seen to hold before it is written anew: an outcome `unknown` may be
 * corrected. */
void battery_settle(struct battery *battery, unsigned point, const struct value *held);

/* A battery that has left what it was told: its lease is over, and nothing is written
 * before a newer command. */
void battery_tell_lost(struct battery *battery);

/* For health: whether the deadman writes, and how the battery is held. */
void battery_note_firing(struct battery *battery);
void battery_note_control(const struct battery *battery);

#endif
