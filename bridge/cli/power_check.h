/* power_check: does a meter's power fit its own voltage and current?
 *
 * Pure. A power in kW taken for W, or the other way round, is the commonest
 * mistake with a new meter, and looks like a plausible value.
 */
#ifndef BRIDGE_CLI_POWER_CHECK_H
#define BRIDGE_CLI_POWER_CHECK_H

#include "devices/registers/device.h"

/* The first power among `values` (as the device's points, known by the names
 * that the profiles share) that is about 1000 times as large or as small as
 * voltage times current. Its index, and *ratio = power / (voltage x current);
 * -1 when there is none, or nothing to compare it with. */
int power_check_find_misfit(const struct device *device, const struct value *values, double *ratio);

#endif
