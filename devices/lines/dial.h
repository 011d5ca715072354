/* dial: a socket to a host: resolving its name, and connecting.
 *
 * A part of a link, which it leaves busy while there is something to wait for
 * (devices/lines/link.h). A name is resolved anew each time, and all its addresses
 * are tried, all of it within the one timeout.
 */
#ifndef DEVICES_LINES_DIAL_H
#define DEVICES_LINES_DIAL_H

#include "devices/lines/link.h"

struct dial;

/* For the host of `modbus`, by TCP or UDP. NULL when out of memory. */
struct dial *dial_new(struct link *link, const struct device_modbus *modbus);
void dial_free(struct dial *dial);

/* host:port, for messages. */
const char *dial_name(const struct dial *dial);

/* Begins to connect; goes on with it when what the link waits for may be there.
 * Done when the link is not busy. */
enum fault dial_begin(struct dial *dial, int64_t timeout_ns);
enum fault dial_go_on(struct dial *dial);

/* The connected socket, which does not block; -1 while there is none. */
int dial_fd(const struct dial *dial);

/* Gives up connecting, or the connection. With `reset` what has not yet gone out
 * never will: otherwise the kernel would go on delivering a setpoint that has long
 * been given up. */
void dial_close(struct dial *dial, bool reset);

#endif
