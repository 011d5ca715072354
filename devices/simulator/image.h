/* image: the registers and coils of one simulated device, and its answers.
 *
 * Pure: a request PDU goes in, a reply PDU comes out (MODBUS Application
 * Protocol V1.1b3, sections 6 and 7). Functions 01-06, 15 and 16; any other is
 * exception 01. What the device has is what its points say: in each of the four
 * tables everything from the first to the last point can be read, gaps as 0,
 * except where the type calls registers unreadable; only registers and coils of
 * writable points can be written. Rows of SunSpec models stand in a chain from
 * register 40000. Everything else is exception 02; a wrong length, quantity or
 * coil value is exception 03, which is looked at first.
 *
 * Values are not judged: a setpoint far outside of what the plant can do stands
 * in the register, as in a real device. Not thread-safe.
 */
#ifndef DEVICES_SIMULATOR_IMAGE_H
#define DEVICES_SIMULATOR_IMAGE_H

#include "devices/lines/fault.h"
#include "devices/lines/link.h"
#include "devices/registers/device.h"

struct image;

/* The image of `device`, which must outlive it; everything reads 0. NULL when
 * out of memory. */
struct image *image_new(const struct device *device);
void image_free(struct image *image);

/* Answers one request of `size` >= 1 bytes into `reply` and returns the reply's
 * size. `*written` tells whether registers or coils were written. */
size_t image_answer(struct image *image, const uint8_t *request, size_t size,
                    uint8_t reply[LINK_PDU_MAX], bool *written);

/* The exception reply `exception` to `request`; returns its size. */
size_t image_refuse(const uint8_t *request, enum fault exception, uint8_t reply[LINK_PDU_MAX]);

/* Sets a point, in its unit, to the nearest value its register can hold. A
 * number beyond the register's range leaves it as it was; so does one for a point that is
 * made of others, which is VALUE_ABSENT below. */
void image_put(struct image *image, unsigned point, double number);

/* What the registers of a point hold now. */
struct value image_get(const struct image *image, unsigned point);

#endif
