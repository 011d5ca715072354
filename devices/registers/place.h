/* place: where a device is reached, and how one talks there.
 *
 * The group `modbus` of a device (devices/lines/endpoint.h). Reading it refuses whatever
 * could not work as it is written: a key that has no meaning on this kind of
 * line, a host that no look-up could find.
 */
#ifndef DEVICES_REGISTERS_PLACE_H
#define DEVICES_REGISTERS_PLACE_H

#include "devices/lines/endpoint.h"
#include "devices/registers/cfg.h"
#include "devices/registers/point.h"

/* Reads the group `modbus`. False after a problem, which has been reported. */
bool place_read(struct cfg *cfg, const struct cfg_setting *group, struct device_modbus *place);

/* Makes it a simulated device's: plain Modbus TCP at that host and port, whatever it
 * was before. Unit id, timeout, attempts and pauses stay. */
void place_redirect(struct device_modbus *place, const char *host, uint16_t port);

/* Whether it is a rate of serial lines. */
bool place_is_baud(int64_t baud);

/* Whether both are reached by the same link; */
bool place_is_same_link(const struct device_modbus *a, const struct device_modbus *b);
/* and if so, the first key in which they differ and must not, or NULL. */
const char *place_difference(const struct device_modbus *a, const struct device_modbus *b);

#endif
