/* limits: what a broker takes, and what its reason codes ask for.
 *
 * A broker of version 5 says in CONNACK what it does not take (MQTT 5.0, section
 * 3.2.2.3). One of 3.1.1 just ends the session, and so do some of version 5, over a
 * topic that they do not like. After such an end the topics that were under way, and
 * whatever is larger than all that the broker has taken, are sent alone: when the
 * session ends again, it is known why, and that is not sent again to that broker.
 * Pure; owned by mqtt, which locks.
 */
#ifndef BRIDGE_MQTT_LIMITS_H
#define BRIDGE_MQTT_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LIMITS_TOPICS_MAX = 64, LIMITS_WHY_MAX = 200 };

/* The largest packet that we take, which CONNECT announces: the largest command,
 * with its topics and properties, is far below. */
enum { LIMITS_OUR_PACKET_MAX = 64 * 1024 };

struct limits {
    /* As the last CONNACK said. */
    size_t packet_max; /* 0 = no limit */
    int qos_max;
    bool retain, wildcards;
    unsigned receive_max;
    unsigned keepalive_s; /* what the broker wants instead of ours; 0 = nothing else */

    /* Learnt. */
    size_t delivered_size; /* the largest that the broker has taken */
    size_t fatal_size;     /* this one has ended sessions; 0 = none has */
    bool is_wary;          /* a session has ended for a message, perhaps */
    unsigned n_suspects;
    struct limits_suspect {
        uint64_t topic; /* its hash */
        unsigned ends;  /* sessions that have ended while it flew alone */
    } suspects[LIMITS_TOPICS_MAX];
};

/* A packet to be sent. `foreign`: to a topic that somebody else has chosen; `plain`: it is
 * never suspected, its sender finds out by himself what ends sessions. */
struct limits_packet {
    const char *topic;
    size_t size;
    bool foreign, plain;
};

/* No limits; what was learnt is forgotten. */
void limits_init(struct limits *limits);

/* No limits are told, as with version 3.1.1; what was learnt stays. */
void limits_begin(struct limits *limits);

/* The size of a PUBLISH packet (MQTT 5.0, section 3.3); `properties_size` without
 * its length, SIZE_MAX for version 3.1.1, which has none. */
size_t limits_packet_size(size_t topic_size, size_t payload_size, int qos, size_t properties_size);

/* Whether it may be sent; else `why` says why not. */
bool limits_allow(const struct limits *limits, const struct limits_packet *packet,
                  char why[LIMITS_WHY_MAX]);

/* Whether it has to be sent alone, and so that it is acknowledged. */
bool limits_is_suspect(const struct limits *limits, const struct limits_packet *packet);

/* The broker has taken it; or has ended a session while it was under way, perhaps for
 * it; or while it was under way alone, for it. */
void limits_delivered(struct limits *limits, const struct limits_packet *packet);
void limits_suspect(struct limits *limits, const struct limits_packet *packet);
void limits_ended(struct limits *limits, const struct limits_packet *packet);

/* Whether a no of PUBACK or SUBACK (sections 3.4.2.1 and 3.9.3) may be a yes later. */
bool limits_is_transient(int reason);

/* Whether a session that ends with this DISCONNECT (section 3.14.2.1) ends for a
 * message that was sent in it. */
bool limits_is_fault(int reason);

/* What the next attempt to connect should do after such an answer to CONNECT
 * (section 3.2.2.2) or such a DISCONNECT. */
enum limits_advice { LIMITS_TRY, LIMITS_STAY_AWAY, LIMITS_GO_ELSEWHERE };
enum limits_advice limits_advise(int reason);

/* FNV-1a: hashes of topics and payloads that are only compared. */
uint64_t limits_hash(const void *bytes, size_t size);

#endif
