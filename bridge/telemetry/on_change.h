/* on_change: whether a scan says anything new.
 *
 * Pure. For slow links a device may be published on change only: when a point
 * has moved by more than its deadband, is read again or no longer, or when the
 * longest silence is over. Off by default: then every scan is published.
 */
#ifndef BRIDGE_TELEMETRY_ON_CHANGE_H
#define BRIDGE_TELEMETRY_ON_CHANGE_H

#include "devices/registers/device.h"

struct on_change;

/* NULL when out of memory. */
struct on_change *on_change_new(const struct device *device);
void on_change_free(struct on_change *change);

/* Whether these values are to be published now; then they are what the next
 * ones are compared with. */
bool on_change_is_news(struct on_change *change, const struct value *values, int64_t now_ns);

#endif
