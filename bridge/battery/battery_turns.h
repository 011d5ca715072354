/* battery_turns: whose turn it is at a battery, a part of it.
 *
 * Stops go first, then a release, the schedule, a write of the bridge's own, and whatever
 * command has waited longest; who could put off another for ever takes turns with it. Begins
 * what is next, and says when that is.
 */
#ifndef BRIDGE_BATTERY_BATTERY_TURNS_H
#define BRIDGE_BATTERY_BATTERY_TURNS_H

#include "bridge/battery/battery_inside.h"

/* Begins what is next, if anything is. */
void battery_begin_next(struct battery *battery, struct link *link);

#endif
