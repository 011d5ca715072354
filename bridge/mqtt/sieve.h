/* sieve: looks at what comes from the broker before the MQTT library has it.
 *
 * The library (1.3.12, 1.3.14) trusts the broker with its own memory. A PUBCOMP, or a PUBREC
 * that refuses, to a message at QoS 1, and a SUBACK with the identifier of a message, make it
 * free a text that it still has to do with; the PUBACK that follows frees what lies there by
 * then, such as a message that waits to be sent. A packet that only clients send is never
 * freed. And what stands behind a PINGRESP in the same TLS record is left there until
 * something else comes: a stop would wait for that. And it acknowledges a message before it
 * hands it over: at the end of the program, when nobody answers commands any more, a broker
 * that still sends some would take them for heard.
 *
 * It has no call for any of this. But it reads with recv() and SSL_read(), so this module has
 * the program's: of a connection that is watched each packet is judged by its head, and one
 * that no broker may send is not read: to the library the connection is broken. A message
 * that comes to a connection that is deaf is read here, and the library never hears of it.
 * All other connections, and all other threads, read what there is.
 */
#ifndef BRIDGE_MQTT_SIEVE_H
#define BRIDGE_MQTT_SIEVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of a connection. `has_sent`: whether this is the identifier of a message that is under way;
 * `wrong`: what came is of this type, and the connection is of no more use; `begins`: a message
 * that the library will hand over, at QoS 0 or 1. The library's receiver calls them, under the
 * lock of this module. */
struct sieve_owner {
    void *context;
    bool (*has_sent)(void *context, unsigned identifier);
    void (*wrong)(void *context, unsigned type);
    void (*begins)(void *context);
};

/* Where a connection stands in the packet that comes. */
struct sieve_packet {
    enum { SIEVE_TYPE, SIEVE_LENGTH, SIEVE_IDENTIFIER, SIEVE_REST, SIEVE_SHUT } next;
    unsigned type, identifier;
    bool is_deaf; /* to messages, from the next one on */
    bool is_left; /* this one is such a message */
    unsigned n;   /* bytes of what is next, so far */
    size_t left;  /* bytes of what follows the length */
};

/* Goes over these bytes; false: they belong to a packet that no broker may send, and so do
 * all that follow. Pure. */
bool sieve_pass(struct sieve_packet *packet, const struct sieve_owner *owner, const void *bytes,
                size_t size);

/* Said by the library's receiver when it has read CONNACK: the connection that it has read
 * from last is watched, in place of another of this owner. */
void sieve_watch(const struct sieve_owner *owner);

/* From now on no message that begins on the owner's connection comes to the library, and so
 * none is acknowledged. Any thread. */
void sieve_deafen(const void *context);

/* The owner's connection has ended. Any thread. */
void sieve_forget(const void *context);

#endif
