/* device_points: the rows of one device: its type's, and what its configuration changes.
 *
 * The keys `points`, `writable`, and of `modbus` the `word_order` and `address_shift`.
 */
#ifndef DEVICES_REGISTERS_DEVICE_POINTS_H
#define DEVICES_REGISTERS_DEVICE_POINTS_H

#include "devices/registers/device.h"

/* The device's points: its profile's rows, or its own copy where its group of the
 * configuration changes something in them, so that a site of hundreds of meters has
 * them once. Needs the device's profile and place. NULL when memory ran out; problems
 * are reported through `cfg`. */
void device_points_read(struct cfg *cfg, const struct cfg_setting *group, struct device *device);

#endif
