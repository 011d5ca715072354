/* device_control: how one battery may be commanded, as its site says.
 *
 * The group `control` of a device: limits, rules, the deadman, and the rows of its type
 * that the control sequence reads and writes.
 */
#ifndef DEVICES_REGISTERS_DEVICE_CONTROL_H
#define DEVICES_REGISTERS_DEVICE_CONTROL_H

#include "devices/registers/device.h"

/* What holds without a control group too, for the commands that `writable` allows:
 * their life, and that no point is the setpoint. */
extern const struct device_control device_no_control;

/* Reads the group `control` of a device's group into a device that has its points, in a copy of its
 * own: finds the rows, by name or as the type says, and gives them the site's labels, sign and
 * limits. Problems are reported through `cfg`. */
void device_control_read(struct cfg *cfg, const struct cfg_setting *of_device,
                         struct device *device);

#endif
