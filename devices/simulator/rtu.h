/* rtu: the slave's side of a serial line, MODBUS over Serial Line V1.02,
 * section 2.5.1: unit, PDU, CRC, between silences.
 *
 * Opening sets the line up; the rest is pure.
 */
#ifndef DEVICES_SIMULATOR_RTU_H
#define DEVICES_SIMULATOR_RTU_H

#include "devices/lines/link.h"

enum { RTU_CRC_SIZE = 2, RTU_SIZE_MIN = 4, RTU_SIZE_MAX = 1 + LINK_PDU_MAX + RTU_CRC_SIZE };

/* Opens the serial line as configured, not blocking. -1 with errno on failure;
 * EINVAL when the system knows no such baud rate. */
int rtu_open(const struct device_modbus *modbus);

/* Size of the request of which the first `n` bytes are in `frame`; RTU_SIZE_MAX
 * when its end cannot be told (yet) by looking at it, but only by silence. */
size_t rtu_request_size(const uint8_t *frame, size_t n);

/* Whether `frame` has the least size and ends with its CRC. */
bool rtu_is_whole(const uint8_t *frame, size_t n);

/* Appends the CRC to `n` bytes; returns the new size. */
size_t rtu_seal(uint8_t *frame, size_t n);

#endif
