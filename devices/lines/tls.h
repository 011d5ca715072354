/* tls: a connection that nobody else reads or alters: Modbus/TCP Security
 * (MODBUS/TCP Security Protocol Specification V2.1).
 *
 * A part of a link, on a connected socket. TLS 1.2 at least; the device must have a
 * certificate for the host it is called by, and we show our own if we have one.
 * The files are read at each connection: a renewed one needs no restart.
 * The only file of this room that includes OpenSSL.
 */
#ifndef DEVICES_LINES_TLS_H
#define DEVICES_LINES_TLS_H

#include <sys/types.h>

#include "devices/lines/link.h"

struct tls;

/* With the files of `modbus`, which must outlive it. `name` is for messages. NULL
 * when out of memory. */
struct tls *tls_new(struct link *link, const struct device_modbus *modbus, const char *name);
void tls_free(struct tls *tls);

/* The handshake: begins; goes on when what the link waits for may be there. Done
 * when the link is not busy. */
enum fault tls_begin(struct tls *tls, int fd, int64_t deadline_ns);
enum fault tls_go_on(struct tls *tls);

/* As send(2) and recv(2) on a socket that does not block. */
ssize_t tls_send(struct tls *tls, const uint8_t *bytes, size_t n);
ssize_t tls_receive(struct tls *tls, uint8_t *bytes, size_t n);

/* Says good-bye, unless `reset`. The socket is the caller's. */
void tls_close(struct tls *tls, bool reset);

#endif
