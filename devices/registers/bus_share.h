/* bus_share: how much of a serial line's time polling takes.
 *
 * Pure. A plan that needs more than the line has cannot be kept by any device.
 */
#ifndef DEVICES_REGISTERS_BUS_SHARE_H
#define DEVICES_REGISTERS_BUS_SHARE_H

#include "devices/registers/plan.h"

/* The share of the line's time that polling the device by this plan takes, on
 * average over its poll classes: 0.25 is a quarter. 0 on TCP. */
double bus_share(const struct device *device, const struct plan *plan);

#endif
