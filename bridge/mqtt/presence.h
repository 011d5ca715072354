/* presence: the devices' sessions with the broker, on libmosquitto.
 *
 * Each carries the status of one device and its Will, and is idle else; there may be
 * hundreds. The library of the other sessions polls the sockets of all of them for each
 * packet of any; this one leaves the waiting to its caller, so one thread waits for all
 * with epoll, and a session costs a ping now and then. They are sockets of this very
 * process: whatever ends it, the Wills are sent.
 *
 * Its files alone include <mosquitto.h>. Calls: from the publisher thread only, which
 * holds no lock while it calls. Callbacks: from the thread, or from the call itself, under
 * the lock of this module: they copy and return, and never call back into it. None of
 * this waits for the network.
 */
#ifndef BRIDGE_MQTT_PRESENCE_H
#define BRIDGE_MQTT_PRESENCE_H

#include "bridge/mqtt/mqtt.h"

/* The library does not take a shorter keepalive; only a broker may ask for one (version 5). */
enum { PRESENCE_KEEPALIVE_MIN_S = 5 };

struct presences; /* all of them */
struct presence;  /* one */

/* Room for `n` sessions, and the thread. NULL when out of memory or threads. */
struct presences *presences_new(const struct conf_mqtt *conf, unsigned n);
/* By when the thread promised to be back, of the machine awake; for the supervisor. NULL: never. */
int64_t presences_promise_ns(const struct presences *presences);
/* When none is left. NULL is ignored. */
void presences_free(struct presences *presences);

/* A session by this client id whose Will is "offline" (retained, QoS 1) on `topic`; it is
 * in this place of `presences` until it is freed. NULL when out of memory. */
struct presence *presence_new(struct presences *presences, unsigned place, const char *client_id,
                              const char *topic, const struct mqtt_callbacks *callbacks);
/* Ends it in order, without its Will. NULL is ignored. */
void presence_free(struct presence *presence);

/* As mqtt_connect(), mqtt_forget(), mqtt_publish() and mqtt_disconnect(). What is overdue,
 * an answer to CONNECT (10 s) or to a message (30 s), ends the session. */
bool presence_connect(struct presence *presence, const char *address, char why[MQTT_WHY_MAX]);
void presence_forget(struct presence *presence);
bool presence_publish(struct presence *presence, const struct mqtt_message *message,
                      uint64_t ticket);
void presence_disconnect(struct presence *presence, int64_t until_ns, bool with_will);

#endif
