/* What a broker sends: the sieve, which has it in pieces, comes to the same wherever it is cut,
 * and to what somebody says who has each packet whole and reads it by the standard. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/mqtt/sieve.h"

enum { SIZE_MAX_V5 = 300, BYTES_MAX = 2048 };
enum {
    CONNACK = 2,
    PUBLISH,
    PUBACK,
    PUBREL = 6,
    SUBACK = 9,
    UNSUBACK = 11,
    PINGRESP = 13,
    DISCONNECT
};

static void check(bool good)
{
    if (!good)
        abort();
}

/* ---- with the packet whole ---- */

struct whole {
    const uint8_t *at, *end;
};

static bool step(struct whole *packet, size_t n)
{
    if (n > (size_t)(packet->end - packet->at))
        return false;
    packet->at += n;
    return true;
}

static bool step_number(struct whole *packet, size_t *number)
{
    *number = 0;
    for (unsigned shift = 0; shift < 28; shift += 7) {
        if (packet->at == packet->end)
            return false;
        *number |= (size_t)(*packet->at & 0x7f) << shift;
        if ((*packet->at++ & 0x80) == 0)
            return true;
    }
    return false;
}

static bool step_text(struct whole *packet)
{
    const uint8_t *at = packet->at;
    return step(packet, 2) && step(packet, (size_t)at[0] << 8 | at[1]);
}

/* MQTT 5.0, table 2-4. */
static bool step_property(struct whole *packet)
{
    size_t ignored;
    switch (*packet->at++) {
    case 0x01:
    case 0x17:
    case 0x19:
    case 0x24:
    case 0x25:
    case 0x28:
    case 0x29:
    case 0x2a:
        return step(packet, 1);
    case 0x13:
    case 0x21:
    case 0x22:
    case 0x23:
        return step(packet, 2);
    case 0x02:
    case 0x11:
    case 0x18:
    case 0x27:
        return step(packet, 4);
    case 0x0b:
        return step_number(packet, &ignored);
    case 0x03:
    case 0x08:
    case 0x09:
    case 0x12:
    case 0x15:
    case 0x16:
    case 0x1a:
    case 0x1c:
    case 0x1f:
        return step_text(packet);
    case 0x26:
        return step_text(packet) && step_text(packet);
    default:
        return false;
    }
}

static bool step_properties(struct whole *packet)
{
    size_t size;
    if (!step_number(packet, &size) || size > (size_t)(packet->end - packet->at))
        return false;
    struct whole properties = {packet->at, packet->at + size};
    while (properties.at < properties.end)
        if (!step_property(&properties))
            return false;
    return step(packet, size);
}

/* Identifiers under way are the odd ones. */
static bool is_under_way(void *context, unsigned identifier)
{
    (void)context;
    return identifier % 2 == 1;
}

/* `at` is behind the fixed header. */
static bool is_good(unsigned first, struct whole packet, bool is_v5, bool has_owner)
{
    const unsigned type = first >> 4;
    const size_t size = (size_t)(packet.end - packet.at);
    const uint8_t *body = packet.at;
    if (!has_owner && type != CONNACK)
        return false;
    switch (type) {
    case PINGRESP:
        return true;
    case SUBACK:
    case UNSUBACK:
        return step(&packet, 2) && !is_under_way(NULL, (unsigned)body[0] << 8 | body[1]) &&
               (!is_v5 || step_properties(&packet)) && (type == UNSUBACK || packet.at < packet.end);
    case PUBLISH:
        return !is_v5 || (step_text(&packet) && step(&packet, (first >> 1 & 3) > 0 ? 2 : 0) &&
                          step_properties(&packet));
    case CONNACK:
        return !is_v5 || (step(&packet, 2) && step_properties(&packet));
    case PUBACK:
    case PUBREL:
        return !is_v5 || size <= 3 || (step(&packet, 3) && step_properties(&packet));
    case DISCONNECT:
        return !is_v5 || size <= 1 || (step(&packet, 1) && step_properties(&packet));
    default:
        return false;
    }
}

/* Whether all whole packets of these bytes are good, which end at `*good`; else the first that
 * is not ends at `*whole`. */
static bool judge(const uint8_t *bytes, size_t size, bool is_v5, bool has_owner, size_t *good,
                  size_t *whole)
{
    struct whole rest = {bytes, bytes + size};
    *good = *whole = 0;
    while (rest.at < rest.end) {
        const unsigned first = *rest.at++;
        size_t length;
        if (!step_number(&rest, &length) || length > (size_t)(rest.end - rest.at))
            return true; /* cut: nothing is known of it */
        struct whole packet = {rest.at, rest.at + length};
        *whole = (size_t)(packet.end - bytes);
        if ((is_v5 && *whole - *good > SIZE_MAX_V5) || !is_good(first, packet, is_v5, has_owner))
            return false;
        *good = *whole;
        rest.at = packet.end;
    }
    return true;
}

/* ---- in pieces ---- */

static void say_wrong(void *context, const struct sieve_packet *packet)
{
    (void)context;
    (void)packet;
}

static void count(void *context)
{
    ++*(unsigned *)context;
}

/* Bytes that have passed before the piece that did not, in pieces of these sizes, which are
 * taken one after the other; all of them: everything has passed. */
static size_t pass(struct sieve_packet *packet, const struct sieve_owner *owner,
                   const uint8_t *bytes, size_t size, const uint8_t sizes[4], size_t *piece)
{
    size_t done = 0;
    for (unsigned i = 0; done < size; i++) {
        *piece = 1U + sizes[i % 4];
        *piece = *piece < size - done ? *piece : size - done;
        if (!sieve_pass(packet, owner, bytes + done, *piece))
            break;
        done += *piece;
    }
    return done;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t single[4] = {0};
    if (size < 5)
        return 0;
    const bool is_v5 = (data[0] & 1) != 0, has_owner = (data[0] & 2) != 0;
    const uint8_t *sizes = data + 1;
    const struct sieve_packet fresh = {.size_max = is_v5 ? SIZE_MAX_V5 : 0,
                                       .is_deaf = (data[0] & 4) != 0};
    struct sieve_packet by_one = fresh, by_some = fresh;
    unsigned begun_by_one = 0, begun_by_some = 0;
    const struct sieve_owner one = {&begun_by_one, is_under_way, say_wrong, count};
    const struct sieve_owner some = {&begun_by_some, is_under_way, say_wrong, count};
    const uint8_t *bytes = data + 5;
    size_t piece, whole, good;
    size = size - 5 < BYTES_MAX ? size - 5 : BYTES_MAX;

    const size_t passed = pass(&by_one, has_owner ? &one : NULL, bytes, size, single, &piece);
    const size_t at = pass(&by_some, has_owner ? &some : NULL, bytes, size, sizes, &piece);
    check(begun_by_one == begun_by_some && (!fresh.is_deaf || begun_by_one == 0));
    check((passed == size) == (at == size));
    if (passed < size)
        check(at <= passed && passed < at + piece && by_one.wrong == by_some.wrong);
    else
        check(by_one.next == by_some.next && by_one.left == by_some.left &&
              by_one.skipped == by_some.skipped);

    const bool are_good = judge(bytes, size, is_v5, has_owner, &good, &whole);
    check(passed >= good && (are_good || passed < whole));
    return 0;
}
