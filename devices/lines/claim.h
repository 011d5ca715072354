/* claim: at most one program on this machine writes to a device.
 *
 * Two writers must not interleave their check, write and read-back. A claim is
 * a socket in the abstract namespace, named after where the device is: no file
 * is left behind, and it is gone when its holder is, however that ends. It
 * does not reach across machines, containers with a network of their own, or
 * two names for one host.
 */
#ifndef DEVICES_LINES_CLAIM_H
#define DEVICES_LINES_CLAIM_H

#include "devices/registers/device.h"

/* A descriptor that holds the claim until it is closed, or -1: errno is
 * EADDRINUSE when another program has it. */
int claim_take(const struct device_modbus *modbus);

#endif
