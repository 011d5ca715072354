/* link_modbus: Modbus RTU over a serial line, by libmodbus.
 *
 * The only file that includes <modbus.h>. Every trap of libmodbus 3.1.6 ends
 * here: no error recovery mode, byte timeout off so that the response timeout
 * is a total, descriptors above FD_SETSIZE refused, the raw reply checked by
 * link.c.
 */
#ifndef DEVICES_LINK_MODBUS_H
#define DEVICES_LINK_MODBUS_H

#include "devices/link.h"

/* `modbus` must name a serial line. */
struct link *link_modbus_new(const struct device_modbus *modbus);

#endif
