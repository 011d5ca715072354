/* serial: a serial line, set up by libmodbus.
 *
 * The only file that includes <modbus.h>. libmodbus knows how to set a line; what
 * goes over it is framed and timed by link_new: libmodbus 3.1.6 takes a late answer
 * for the next one, waits with select() and lets an answer trickle in for ever. A
 * speed that it does not know is refused instead of run at 9600.
 *
 * The line is locked with flock() while it is open.
 */
#ifndef DEVICES_LINES_SERIAL_H
#define DEVICES_LINES_SERIAL_H

#include "devices/lines/link.h"

struct serial;

/* `modbus` must name a serial line. Not yet open. NULL when out of memory. */
struct serial *serial_new(struct link *link, const struct device_modbus *modbus);
void serial_free(struct serial *serial);

/* Opens without waiting. */
enum fault serial_open(struct serial *serial);

/* The open line, which does not block. */
int serial_fd(const struct serial *serial);

/* Drops what has not been sent: or closing would wait until a stalled line has
 * sent it all. */
void serial_close(struct serial *serial);

#endif
