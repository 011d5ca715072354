/* device_drive: a site's part in how its battery is commanded.
 *
 * For types that say how that is done (devices/registers/drive.h): the keys of the
 * `control` group that their writes take values from, and the `device_timeout`.
 */
#ifndef DEVICES_REGISTERS_DEVICE_DRIVE_H
#define DEVICES_REGISTERS_DEVICE_DRIVE_H

#include "devices/registers/device.h"

/* What the writes take from keys of the group `control`. */
void device_drive_read_keys(struct cfg *cfg, const struct cfg_setting *group,
                            struct device *device);

/* After how long without a sign of life the battery stops by itself: the type's, or what
 * the device's group has for it; and whether that leaves room for three of them. */
void device_drive_read_timeout(struct cfg *cfg, const struct cfg_setting *of_device,
                               struct device *device);

#endif
