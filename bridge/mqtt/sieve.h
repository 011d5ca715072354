/* sieve: looks at what comes from the broker before the MQTT library has it.
 *
 * The library (1.3.12, 1.3.14) trusts the broker with its own memory. A PUBCOMP, or a PUBREC
 * that refuses, to a message at QoS 1, and a SUBACK with the identifier of a message, make it
 * free a text that it still has to do with; the PUBACK that follows frees what lies there by
 * then, such as a message that waits to be sent. A SUBACK without a code in version 3.1.1, and
 * a CONNACK without properties in version 5, make 1.3.12 free what it has never set, and
 * properties that are longer than their packet it reads on behind that. A message before
 * CONNACK is handed over as any other. A packet that only clients send is never freed. And what
 * stands behind a PINGRESP in the same TLS record is left there until something else comes: a
 * stop would wait for that. And it acknowledges a message before it hands it over: at the end
 * of the program, when nobody answers commands any more, a broker that still sends some would
 * take them for heard.
 *
 * It has no call for any of this. But it reads with recv() and SSL_read(), so this module has
 * the program's: each packet that the library's receiver reads is judged, and one that no
 * broker may send is not handed over: to the library the broker has hung up. A message that
 * comes to a connection that is deaf is read here, and the library never hears of it. All other
 * threads read what there is.
 *
 * sieve.c         connections, and what the library reads of them
 * sieve_packet.c  which packets may come
 */
#ifndef BRIDGE_MQTT_SIEVE_H
#define BRIDGE_MQTT_SIEVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a connection stands in the packet that comes. */
struct sieve_packet {
    size_t size_max; /* of any: version 5, by which this is announced; 0 = version 3.1.1 */
    enum sieve_next {
        SIEVE_TYPE,
        SIEVE_LENGTH,
        SIEVE_TOPIC,
        SIEVE_IDENTIFIER,
        SIEVE_PROPERTIES, /* their length */
        SIEVE_PROPERTY,
        SIEVE_NUMBER, /* of a property, as is a text */
        SIEVE_TEXT,
        SIEVE_SHUT
    } next;
    unsigned type, qos;
    bool is_deaf;      /* to messages, from the next one on */
    bool is_left;      /* this one is such a message */
    unsigned n;        /* bytes of what is next, so far */
    size_t number;     /* which they are */
    size_t skipped;    /* bytes that come before what is next */
    size_t left;       /* of the packet, or of its properties */
    size_t behind;     /* of the packet behind its properties */
    unsigned texts;    /* of this property */
    const char *wrong; /* SIEVE_SHUT: what it is; "of type <type>" belongs behind it */
};

/* Of a connection. `has_sent`: whether this is the identifier of a message that is under way;
 * `wrong`: this has come, and the connection is of no more use; `begins`: a message that the
 * library will hand over, at QoS 0 or 1. The library's receiver calls them, under the lock of
 * this module. */
struct sieve_owner {
    void *context;
    bool (*has_sent)(void *context, unsigned identifier);
    void (*wrong)(void *context, const struct sieve_packet *packet);
    void (*begins)(void *context);
};

/* Goes over these bytes; false: they belong to a packet that no broker may send, and so do
 * all that follow. Without an owner only CONNACK may come. Pure. */
bool sieve_pass(struct sieve_packet *packet, const struct sieve_owner *owner, const void *bytes,
                size_t size);

/* As `wrong`: the answer of a broker of version 3.1.1 to a CONNECT of version 5. */
extern const char sieve_old_answer[];

/* What all connections that begin from now on have agreed on: the `size_max` of a packet. */
void sieve_expect(size_t size_max);

/* Whether such an answer has come since. */
bool sieve_is_old(void);

/* Said by the library's receiver when it has read CONNACK: the connection that it has read
 * from last is this owner's. */
void sieve_watch(const struct sieve_owner *owner);

/* From now on no message that begins on the owner's connection comes to the library, and so
 * none is acknowledged. Any thread. */
void sieve_deafen(const void *context);

/* The owner's session has ended: of its connection nothing is read any more, for as long as
 * the library has it open. Any thread. */
void sieve_forget(const void *context);

#endif
