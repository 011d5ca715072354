/* battery_hold: how a battery that has a driver is held and let go, a part of it.
 *
 * Until when it may be held is the lease's, or the entry's that it is of; until then its
 * keepalive is sent, and once it is owed it is released. A stop goes before both.
 */
#ifndef BRIDGE_BATTERY_BATTERY_HOLD_H
#define BRIDGE_BATTERY_BATTERY_HOLD_H

#include "bridge/battery/battery_inside.h"

/* Whether what its setpoint reads is what it does: where the type says how it is commanded,
 * it may follow its own plan, or have left what it was told. */
bool battery_is_held(const struct battery *battery, const struct value *values);

/* From when on a keepalive may be sent: as soon as it is `due`, or before something else
 * is asked; CLOCK_NEVER = none may. */
int64_t battery_beat_from_ns(const struct battery *battery, bool due);

/* One transaction of it. */
void battery_beat(struct battery *battery, struct link *link);

/* When it is to be released; CLOCK_NEVER = it is not. */
int64_t battery_release_due_ns(const struct battery *battery);

/* A release: begun, one transaction of it, and its end. One that fails is tried again. */
void battery_begin_release(struct battery *battery, struct link *link);
void battery_go_on_releasing(struct battery *battery, struct link *link);
void battery_end_release(struct battery *battery, bool released);

#endif
