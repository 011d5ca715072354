/* cause: why the broker cannot be reached.
 *
 * The MQTT library says that it could not connect, not why. After such a
 * failure this goes the same way once by itself, name, TCP, TLS, and says at
 * which step it ends and with which words of the system's or OpenSSL's. It is
 * asked once per failed attempt at most, and holds up its caller for a few
 * seconds at worst.
 */
#ifndef BRIDGE_MQTT_CAUSE_H
#define BRIDGE_MQTT_CAUSE_H

#include "bridge/site/conf.h"

/* Writes the cause in words into `why`, e.g. "connection refused" or
 * "certificate verify failed: certificate has expired". */
void cause_broker(const struct conf_mqtt *conf, char *why, size_t size);

#endif
