#include "bridge/mqtt/sieve.h"

/* Packet types (MQTT 5.0, section 2.1.2). */
enum {
    CONNACK = 2,
    PUBLISH = 3,
    PUBACK = 4,
    PUBREL = 6,
    SUBACK = 9,
    UNSUBACK = 11,
    PINGRESP = 13,
    DISCONNECT = 14
};

/* What a broker may send to a client that publishes at QoS 0 and 1. */
static const unsigned allowed = 1U << CONNACK | 1U << PUBLISH | 1U << PUBACK | 1U << PUBREL |
                                1U << SUBACK | 1U << UNSUBACK | 1U << PINGRESP | 1U << DISCONNECT;

/* What stands before the properties of those that may end before them (version 5). */
static const unsigned char before[] = {[CONNACK] = 2, [PUBACK] = 3, [PUBREL] = 3, [DISCONNECT] = 1};

/* What properties hold (section 2.2.2.2): so many bytes, or one of these. */
enum { NUMBER = 5, TEXT = 6, PAIR = 7 };
static const unsigned char kinds[] = {
    [0x01] = 1, [0x02] = 4,    [0x03] = TEXT, [0x08] = TEXT, [0x09] = TEXT, [0x0b] = NUMBER,
    [0x11] = 4, [0x12] = TEXT, [0x13] = 2,    [0x15] = TEXT, [0x16] = TEXT, [0x17] = 1,
    [0x18] = 4, [0x19] = 1,    [0x1a] = TEXT, [0x1c] = TEXT, [0x1f] = TEXT, [0x21] = 2,
    [0x22] = 2, [0x23] = 2,    [0x24] = 1,    [0x25] = 1,    [0x26] = PAIR, [0x27] = 4,
    [0x28] = 1, [0x29] = 1,    [0x2a] = 1};

static const char unknown[] = "a packet";
static const char malformed[] = "a malformed packet";
const char sieve_old_answer[] = "an answer of version 3.1.1,";
static const char too_large[] = "a packet larger than our Maximum Packet Size,";

enum { NUMBER_BYTES_MAX = 4 };

static bool fail(struct sieve_packet *packet, const char *wrong)
{
    packet->next = SIEVE_SHUT;
    packet->wrong = wrong;
    return false;
}

static bool go_on(struct sieve_packet *packet, enum sieve_next next)
{
    packet->next = next;
    packet->n = 0;
    packet->number = 0;
    return true;
}

/* To what stands behind so many bytes. */
static bool skip(struct sieve_packet *packet, size_t bytes, enum sieve_next next)
{
    packet->skipped = bytes;
    return bytes <= packet->left ? go_on(packet, next) : fail(packet, malformed);
}

/* To the next packet: what is left of this one is not looked at. */
static bool pass_over(struct sieve_packet *packet)
{
    if (packet->type == SUBACK && packet->left == 0) /* without a code */
        return fail(packet, malformed);
    return skip(packet, packet->left, SIEVE_TYPE);
}

static bool begin_packet(struct sieve_packet *packet, const struct sieve_owner *owner,
                         unsigned char byte)
{
    const bool is_message = byte >> 4 == PUBLISH;
    packet->type = byte >> 4;
    packet->qos = byte >> 1 & 3;
    packet->is_left = packet->is_deaf && is_message;
    if ((allowed >> packet->type & 1) == 0 || (owner == NULL && packet->type != CONNACK))
        return fail(packet, unknown);
    if (is_message && !packet->is_left && packet->qos < 2)
        owner->begins(owner->context);
    return go_on(packet, SIEVE_LENGTH);
}

static bool begin_body(struct sieve_packet *packet)
{
    const unsigned type = packet->type;
    const size_t size = 1 + packet->n + packet->number;
    const bool is_v5 = packet->size_max > 0;
    packet->left = packet->number;
    if (is_v5 && size > packet->size_max)
        return fail(packet, too_large);
    if (type == SUBACK || type == UNSUBACK)
        return go_on(packet, SIEVE_IDENTIFIER);
    if (is_v5 && type == PUBLISH)
        return go_on(packet, SIEVE_TOPIC);
    if (!is_v5 || type == PINGRESP)
        return pass_over(packet);
    if (packet->left > before[type])
        return skip(packet, before[type], SIEVE_PROPERTIES);
    if (type == CONNACK)
        return fail(packet, packet->left == before[type] ? sieve_old_answer : malformed);
    return pass_over(packet);
}

static bool begin_properties(struct sieve_packet *packet)
{
    if (packet->number > packet->left)
        return fail(packet, malformed);
    packet->behind = packet->left - packet->number;
    packet->left = packet->number;
    return go_on(packet, SIEVE_PROPERTY);
}

static bool begin_property(struct sieve_packet *packet, unsigned char identifier)
{
    const unsigned kind = identifier < sizeof(kinds) ? kinds[identifier] : 0;
    packet->texts = kind == PAIR ? 2 : 1;
    if (kind == 0)
        return fail(packet, malformed);
    if (kind == NUMBER)
        return go_on(packet, SIEVE_NUMBER);
    return kind < NUMBER ? skip(packet, kind, SIEVE_PROPERTY) : go_on(packet, SIEVE_TEXT);
}

/* A number of bytes with seven bits each, as far as it has come. */
static bool pass_number(struct sieve_packet *packet, unsigned char byte)
{
    packet->number |= (size_t)(byte & 0x7f) << 7 * packet->n++;
    if ((byte & 0x80) != 0)
        return packet->n < NUMBER_BYTES_MAX || fail(packet, malformed);
    if (packet->next == SIEVE_LENGTH)
        return begin_body(packet);
    return packet->next == SIEVE_PROPERTIES ? begin_properties(packet)
                                            : go_on(packet, SIEVE_PROPERTY);
}

/* Of two bytes: an identifier, or the size of a text. */
static bool pass_short(struct sieve_packet *packet, const struct sieve_owner *owner,
                       unsigned char byte)
{
    packet->number = packet->number << 8 | byte;
    if (++packet->n < 2)
        return true;
    if (packet->next == SIEVE_TOPIC)
        return skip(packet, packet->number + (packet->qos > 0 ? 2 : 0), SIEVE_PROPERTIES);
    if (packet->next == SIEVE_TEXT)
        return skip(packet, packet->number, --packet->texts > 0 ? SIEVE_TEXT : SIEVE_PROPERTY);
    if (owner->has_sent(owner->context, (unsigned)packet->number))
        return fail(packet, unknown);
    return packet->size_max > 0 ? go_on(packet, SIEVE_PROPERTIES) : pass_over(packet);
}

static bool pass_byte(struct sieve_packet *packet, const struct sieve_owner *owner,
                      unsigned char byte)
{
    switch (packet->next) {
    case SIEVE_TYPE:
        return begin_packet(packet, owner, byte);
    case SIEVE_PROPERTY:
        return begin_property(packet, byte);
    case SIEVE_LENGTH:
    case SIEVE_PROPERTIES:
    case SIEVE_NUMBER:
        return pass_number(packet, byte);
    default:
        return pass_short(packet, owner, byte);
    }
}

/* Where a packet, or its properties, have no more bytes. */
static bool settle(struct sieve_packet *packet)
{
    if (packet->next < SIEVE_TOPIC || packet->skipped > 0 || packet->left > 0)
        return true;
    if (packet->next != SIEVE_PROPERTY)
        return fail(packet, malformed);
    packet->left = packet->behind;
    return pass_over(packet);
}

bool sieve_pass(struct sieve_packet *packet, const struct sieve_owner *owner, const void *bytes,
                size_t size)
{
    const unsigned char *byte = bytes;
    bool good = packet->next != SIEVE_SHUT;
    while (good && size > 0) {
        size_t n = 1;
        if (packet->skipped > 0) {
            n = packet->skipped < size ? packet->skipped : size;
            packet->skipped -= n;
            packet->left -= n;
        } else {
            packet->left -= packet->next >= SIEVE_TOPIC ? 1 : 0;
            good = pass_byte(packet, owner, *byte);
        }
        good = good && settle(packet);
        byte += n;
        size -= n;
    }
    return good;
}
