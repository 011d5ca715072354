/* link_rtu: Modbus RTU over a serial line, by libmodbus.
 *
 * The only file that includes <modbus.h>. Every trap of libmodbus 3.1.6 ends
 * here: no error recovery mode, byte timeout off so that the response timeout
 * is a total, descriptors above FD_SETSIZE refused, a speed that it does not
 * know refused instead of run at 9600, the raw reply checked by link.c.
 *
 * The line is locked with flock() while it is open. Each request waits for the
 * silence that the specification wants between frames, and drops what came in
 * before. RTU answers carry no number, so a unit that let a request time out
 * is not asked again before half of that time has passed once more.
 */
#ifndef DEVICES_LINES_LINK_RTU_H
#define DEVICES_LINES_LINK_RTU_H

#include "devices/lines/link.h"

/* `modbus` must name a serial line. */
struct link *link_rtu_new(const struct device_modbus *modbus);

#endif
