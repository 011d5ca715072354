#include "bridge/mqtt/limits.h"

#include <stdio.h>
#include <string.h>

enum { ENDS_MAX = 2 }; /* then a topic is not used any more */

void limits_init(struct limits *limits)
{
    *limits = (struct limits){.n_suspects = 0};
    limits_begin(limits);
}

void limits_begin(struct limits *limits)
{
    limits->packet_max = 0;
    limits->qos_max = 2;
    limits->retain = limits->wildcards = true;
    limits->receive_max = UINT16_MAX;
    limits->keepalive_s = 0;
}

/* Of a variable byte integer (section 1.5.5). */
static size_t size_of_length(size_t length)
{
    size_t size = 1;
    while ((length >>= 7) > 0)
        size++;
    return size;
}

size_t limits_packet_size(size_t topic_size, size_t payload_size, int qos, size_t properties_size)
{
    size_t size = 2 + topic_size + (qos > 0 ? 2 : 0) + payload_size;
    if (properties_size != SIZE_MAX)
        size += size_of_length(properties_size) + properties_size;
    return 1 + size_of_length(size) + size;
}

/* The number of the entry of a topic; n_suspects when there is none. */
static unsigned find(const struct limits *limits, uint64_t topic)
{
    unsigned i = 0;
    while (i < limits->n_suspects && limits->suspects[i].topic != topic)
        i++;
    return i;
}

static uint64_t hash_of(const struct limits_packet *packet)
{
    return limits_hash(packet->topic, strlen(packet->topic));
}

bool limits_allow(const struct limits *limits, const struct limits_packet *packet,
                  char why[LIMITS_WHY_MAX])
{
    if (limits->packet_max > 0 && packet->size > limits->packet_max) {
        snprintf(why, LIMITS_WHY_MAX, "%zu bytes are more than its Maximum Packet Size of %zu",
                 packet->size, limits->packet_max);
        return false;
    }
    if (limits->fatal_size > 0 && packet->size >= limits->fatal_size) {
        snprintf(why, LIMITS_WHY_MAX, "%zu bytes, and one of %zu bytes has ended sessions",
                 packet->size, limits->fatal_size);
        return false;
    }
    if (limits->n_suspects == 0)
        return true;
    unsigned i = find(limits, hash_of(packet));
    if (i < limits->n_suspects && limits->suspects[i].ends >= ENDS_MAX) {
        snprintf(why, LIMITS_WHY_MAX, "others to this topic have ended sessions");
        return false;
    }
    return true;
}

bool limits_is_suspect(const struct limits *limits, const struct limits_packet *packet)
{
    if (packet->plain)
        return false;
    return limits->is_wary && (packet->size > limits->delivered_size ||
                               find(limits, hash_of(packet)) < limits->n_suspects);
}

void limits_delivered(struct limits *limits, const struct limits_packet *packet)
{
    if (packet->size > limits->delivered_size)
        limits->delivered_size = packet->size;
    if (limits->n_suspects == 0)
        return;
    unsigned i = find(limits, hash_of(packet));
    if (i < limits->n_suspects)
        limits->suspects[i] = limits->suspects[--limits->n_suspects];
}

/* When there are too many, one that has ended no session yet gives way. */
void limits_suspect(struct limits *limits, const struct limits_packet *packet)
{
    uint64_t topic = hash_of(packet);
    unsigned i = find(limits, topic);
    limits->is_wary = true;
    if (i < limits->n_suspects)
        return;
    for (i = 0; limits->n_suspects == LIMITS_TOPICS_MAX && i < LIMITS_TOPICS_MAX; i++) {
        if (limits->suspects[i].ends == 0)
            limits->suspects[i] = limits->suspects[--limits->n_suspects];
    }
    if (limits->n_suspects < LIMITS_TOPICS_MAX)
        limits->suspects[limits->n_suspects++] = (struct limits_suspect){.topic = topic};
}

/* Its size can be the reason only when nothing as large has been taken, and a topic
 * of somebody else's choice is always the likelier one. Else it may be what is in it:
 * its topic is not given up before a second one. */
void limits_ended(struct limits *limits, const struct limits_packet *packet)
{
    limits->is_wary = true;
    if (!packet->foreign && packet->size > limits->delivered_size) {
        limits->fatal_size = packet->size;
        return;
    }
    limits_suspect(limits, packet);
    unsigned i = find(limits, hash_of(packet));
    if (i < limits->n_suspects)
        limits->suspects[i].ends += packet->foreign ? ENDS_MAX : 1;
}

/* Of these a PUBACK or SUBACK may only say the first four, and some brokers say others. */
bool limits_is_transient(int reason)
{
    switch (reason) {
    case 0x80: /* unspecified error */
    case 0x83: /* implementation specific error */
    case 0x91: /* packet identifier in use: the next attempt has another */
    case 0x97: /* quota exceeded */
    case 0x88: /* server unavailable */
    case 0x89: /* server busy */
    case 0x93: /* receive maximum exceeded */
    case 0x96: /* message rate too high */
        return true;
    default:
        return false;
    }
}

bool limits_is_fault(int reason)
{
    static const unsigned char faults[] = {
        0x80, /* unspecified error */
        0x81, /* malformed packet */
        0x82, /* protocol error */
        0x83, /* implementation specific error */
        0x87, /* not authorized */
        0x90, /* topic name invalid */
        0x94, /* topic alias invalid */
        0x95, /* packet too large */
        0x99, /* payload format invalid */
        0x9a, /* retain not supported */
        0x9b, /* QoS not supported */
    };
    return reason > 0 && reason < 0x100 && memchr(faults, reason, sizeof(faults)) != NULL;
}

enum limits_advice limits_advise(int reason)
{
    switch (reason) {
    case 0x89: /* server busy */
    case 0x97: /* quota exceeded */
    case 0x9f: /* connection rate exceeded */
        return LIMITS_STAY_AWAY;
    case 0x9c: /* use another server */
    case 0x9d: /* server moved */
        return LIMITS_GO_ELSEWHERE;
    default:
        return LIMITS_TRY;
    }
}

uint64_t limits_hash(const void *bytes, size_t size)
{
    const unsigned char *byte = bytes;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    while (size-- > 0)
        hash = (hash ^ *byte++) * UINT64_C(0x100000001b3);
    return hash;
}
