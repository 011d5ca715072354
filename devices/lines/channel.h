/* channel: bytes to a device and back, whatever carries them: TCP, with TLS or
 * without, UDP, or a serial line.
 *
 * A part of a link, which it leaves busy while it opens (devices/lines/link.h).
 */
#ifndef DEVICES_LINES_CHANNEL_H
#define DEVICES_LINES_CHANNEL_H

#include <sys/types.h>

#include "devices/lines/link.h"

struct channel;

/* Of the kind that `modbus` names, which must outlive it. NULL when out of memory. */
struct channel *channel_new(struct link *link, const struct device_modbus *modbus);
void channel_free(struct channel *channel);

/* host:port, or the serial line. */
const char *channel_name(const struct channel *channel);

/* Begins to open; goes on when what the link waits for may be there. Done when the
 * link is not busy. After a fault nothing is left open. */
enum fault channel_begin(struct channel *channel, struct link *link, int64_t timeout_ns);
enum fault channel_go_on(struct channel *channel, struct link *link);

/* What an open channel is waited for by. */
int channel_fd(const struct channel *channel);

/* True when all of it has been taken for sending; else errno. */
bool channel_send(struct channel *channel, const uint8_t *bytes, size_t n);

/* What has come, at most `n` bytes, of a datagram one: their number. 0 = closed by
 * the device; -1 with EAGAIN = nothing yet, with another errno = broken. */
ssize_t channel_receive(struct channel *channel, uint8_t *bytes, size_t n);

/* Whether all that was sent has arrived, as far as this machine can tell. */
bool channel_is_sent(const struct channel *channel);

/* Closes, or gives up opening. With `reset` what has not gone out never will. */
void channel_close(struct channel *channel, bool reset);

#endif
