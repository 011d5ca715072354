/* link_tcp: Modbus TCP.
 *
 * MBAP framing over a socket of our own (MODBUS Messaging on TCP/IP V1.0b,
 * section 3.1). libmodbus is not used on TCP: its raw requests all carry
 * transaction id 0, so a doubled answer would pass for the next one; it does
 * not check the unit id or the length; its select() corrupts memory at
 * descriptor 1024. Here every request has a new transaction id, the whole
 * header is checked, one deadline bounds the whole answer, and poll() knows no
 * such limit.
 *
 * A connection closed after a failure is reset, not drained: otherwise the
 * kernel would go on delivering a setpoint that has long been given up.
 */
#ifndef DEVICES_LINES_LINK_TCP_H
#define DEVICES_LINES_LINK_TCP_H

#include "devices/lines/link.h"

/* `host` is a name, an IPv4 or an IPv6 address. Opening resolves it anew and
 * tries all its addresses, all of it within the one timeout. NULL when out of
 * memory. */
struct link *link_tcp_new(const char *host, uint16_t port);

#endif
