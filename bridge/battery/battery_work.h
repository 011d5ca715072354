/* battery_work: what is under way at a battery, a part of it.
 *
 * The one sequence, from the claim on the device and what forbids a command early, over the
 * last moment before the write, to its outcome. A stop cuts it off wherever it stands.
 */
#ifndef BRIDGE_BATTERY_BATTERY_WORK_H
#define BRIDGE_BATTERY_BATTERY_WORK_H

#include "bridge/battery/battery_inside.h"

/* Whether this program is the only one on the machine that writes to the device,
 * which its link must have reached for that; tries to become it. */
bool battery_holds_claim(struct battery *battery, const struct link *link,
                         char holder[CLAIM_TEXT_MAX]);

/* Begins with a command that was admitted. */
void battery_begin(struct battery *battery, const struct command *command, struct link *link);

/* The sequence has ended: tells everybody what came of it. */
void battery_finish(struct battery *battery);

/* Goes on with what is under way: one transaction at most. */
void battery_go_on(struct battery *battery, struct link *link);

/* Whether a stop waits, and what is under way is no stop itself. */
bool battery_is_preceded(const struct battery *battery);

/* A device that others wait for was silent for so long. */
void battery_rest_after(struct battery *battery, int64_t silence_ns, int64_t now_ns);

#endif
