/* bustime: how long a serial line is busy.
 *
 * Pure. Counts the characters of the frames and the silence between them
 * (MODBUS over Serial Line V1.02, section 2.5.1), at the line's own speed; the
 * time that a device takes to think is not in it.
 */
#ifndef DEVICES_LINES_BUSTIME_H
#define DEVICES_LINES_BUSTIME_H

#include "devices/lines/endpoint.h"

/* The silence that must pass between two frames: 3.5 characters, and 1.75 ms
 * above 19200 baud (section 2.5.1.1). */
int64_t bustime_gap_ns(const struct device_modbus *modbus);

/* One read of `count` registers (or bits): request, answer, and both silences. */
int64_t bustime_read_ns(const struct device_modbus *modbus, enum point_table table, uint16_t count);

#endif
