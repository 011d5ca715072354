/* cause: why the broker cannot be reached.
 *
 * The MQTT library says that it could not connect, not why. After such a
 * failure this goes the same way once by itself, TCP, TLS, and says at which step
 * it ends and with which words of the system's or OpenSSL's. It is asked once for
 * all attempts in a row at most, and holds up its caller, a thread of its own
 * (lookup), for a few seconds at worst.
 */
#ifndef BRIDGE_MQTT_CAUSE_H
#define BRIDGE_MQTT_CAUSE_H

#include "bridge/site/conf.h"

/* Writes the cause in words into `why`, e.g. "connection refused" or
 * "certificate verify failed: certificate has expired"; `address` is the numeric one
 * that was tried. */
void cause_broker(const struct conf_mqtt *conf, const char *address, char *why, size_t size);

#endif
