/* unsettled: the last command that ended as unknown.
 *
 * Pure. Its register tells what came of it, once it can be read again; when it
 * is written over before, nobody will ever know. Either way one more outcome of
 * the same id corrects the first.
 */
#ifndef BRIDGE_BATTERY_UNSETTLED_H
#define BRIDGE_BATTERY_UNSETTLED_H

#include "bridge/model/outcome.h"
#include "devices/registers/device.h"

struct unsettled {
    bool waits;
    struct outcome outcome;
};

/* A command that was written has ended as unknown. */
void unsettled_note(struct unsettled *unsettled, const struct outcome *outcome);

/* Whether one of this point waits to be settled. */
bool unsettled_waits(const struct unsettled *unsettled, unsigned point);

/* Its point was seen to hold a value: true when that settles it, *corrected is
 * then to be told. */
bool unsettled_see(struct unsettled *unsettled, const struct device *device,
                   const struct value *held, int64_t now_ns, struct outcome *corrected);

/* A point was written anew: likewise, when it was the same. */
bool unsettled_overwrite(struct unsettled *unsettled, unsigned point, int64_t now_ns,
                         struct outcome *corrected);

#endif
