/* address: which of its addresses a broker's name stands for.
 *
 * The MQTT library asks getaddrinfo() for the name under its process-wide lock, and
 * takes the first IPv4 address of the answer, always. With TLS the name cannot be
 * kept from it, because it also compares the certificate with it. So this module
 * has the program's getaddrinfo(): asked by the library for the pinned name, it
 * answers at once with the pinned address; all else goes to the C library.
 */
#ifndef BRIDGE_MQTT_ADDRESS_H
#define BRIDGE_MQTT_ADDRESS_H

#include <stdbool.h>

#include "bridge/site/conf.h"

enum { ADDRESS_TEXT_MAX = 64, ADDRESS_MAX = 8 };

/* Numeric, IPv6 without brackets: what the log says and the library connects to. */
struct address {
    char text[ADDRESS_TEXT_MAX];
};

struct address_list {
    unsigned n;
    struct address list[ADDRESS_MAX];
};

/* The addresses of a name or a numeric address, in the system's order, each once,
 * ADDRESS_MAX at most. False: none, `why` has the reason. Takes as long as it takes. */
bool address_resolve(const char *host, struct address_list *addresses, const char **why);

/* From now on the library finds this address under this name. Any thread. */
void address_pin(const char *host, const char *text);

#endif
