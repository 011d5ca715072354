#include "devices/lines/frame.h"

#include <string.h>

/* The MBAP header: transaction, protocol (0), length of what follows, unit. */
enum { AT_ID = 0, AT_PROTOCOL = 2, AT_LENGTH = 4, AT_UNIT = 6, AT_PDU = 7 };
enum { LENGTH_MIN = 2, LENGTH_MAX = 1 + LINK_PDU_MAX };
enum { CRC_SIZE = 2, EXCEPTION = 0x80 };

/* ---- TCP ---- */

static size_t tcp_put(const struct frame *frame, uint8_t *bytes)
{
    link_put16(bytes + AT_ID, frame->id);
    link_put16(bytes + AT_PROTOCOL, 0);
    link_put16(bytes + AT_LENGTH, (unsigned)(1 + frame->size));
    bytes[AT_UNIT] = frame->unit;
    memcpy(bytes + AT_PDU, frame->pdu, frame->size);
    return AT_PDU + frame->size;
}

static enum frame_state tcp_take(const uint8_t *bytes, size_t n, size_t *used, struct frame *frame,
                                 const char **why)
{
    if (n < AT_PDU)
        return FRAME_PART;
    size_t length = link_get16(bytes + AT_LENGTH);
    *why = link_get16(bytes + AT_PROTOCOL) != 0 ? "not Modbus" : "impossible length";
    if (link_get16(bytes + AT_PROTOCOL) != 0 || length < LENGTH_MIN || length > LENGTH_MAX)
        return FRAME_BROKEN;
    if (n < AT_UNIT + length)
        return FRAME_PART;
    frame->id = link_get16(bytes + AT_ID);
    frame->unit = bytes[AT_UNIT];
    frame->size = length - 1;
    memcpy(frame->pdu, bytes + AT_PDU, frame->size);
    *used = AT_UNIT + length;
    return FRAME_WHOLE;
}

/* ---- RTU ---- */

/* Serial Line V1.02, 6.2.2: polynomial A001; over its own result it gives 0. */
static unsigned crc16(const uint8_t *bytes, size_t n)
{
    unsigned crc = 0xffff;
    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 1) != 0 ? crc >> 1 ^ 0xa001 : crc >> 1;
    }
    return crc;
}

static size_t rtu_put(const struct frame *frame, uint8_t *bytes)
{
    bytes[0] = frame->unit;
    memcpy(bytes + 1, frame->pdu, frame->size);
    unsigned crc = crc16(bytes, 1 + frame->size);
    bytes[1 + frame->size] = (uint8_t)crc;
    bytes[2 + frame->size] = (uint8_t)(crc >> 8);
    return 1 + frame->size + CRC_SIZE;
}

/* Size of the PDU of the answer that begins with these bytes; 0 when no answer
 * to what is asked here does. There are at least two. */
static size_t answer_size(const uint8_t *pdu)
{
    if ((pdu[0] & EXCEPTION) != 0)
        return 2;
    if (pdu[0] >= POINT_COIL && pdu[0] <= POINT_INPUT)
        return pdu[1] >= 1 && pdu[1] <= LINK_PDU_MAX - 2 ? 2U + pdu[1] : 0;
    return pdu[0] == 5 || pdu[0] == 6 || pdu[0] == 15 || pdu[0] == 16 ? 5 : 0;
}

static enum frame_state rtu_take(const uint8_t *bytes, size_t n, size_t *used, struct frame *frame,
                                 const char **why)
{
    while (*used < n && (bytes[*used] == 0x00 || bytes[*used] == 0xff))
        ++*used;
    bytes += *used;
    n -= *used;
    if (n < 3)
        return FRAME_PART;
    size_t size = answer_size(bytes + 1);
    *why = "not an answer";
    if (size == 0)
        return FRAME_BROKEN;
    if (n < 1 + size + CRC_SIZE)
        return FRAME_PART;
    *why = "damaged: wrong CRC";
    if (crc16(bytes, 1 + size + CRC_SIZE) != 0)
        return FRAME_BROKEN;
    frame->unit = bytes[0];
    frame->size = size;
    memcpy(frame->pdu, bytes + 1, size);
    *used += 1 + size + CRC_SIZE;
    return FRAME_WHOLE;
}

/* ---- ASCII ---- */

static uint8_t *put_hex(uint8_t *at, uint8_t byte)
{
    static const char digits[] = "0123456789ABCDEF";
    *at++ = (uint8_t)digits[byte >> 4];
    *at++ = (uint8_t)digits[byte & 15];
    return at;
}

static size_t ascii_put(const struct frame *frame, uint8_t *bytes)
{
    uint8_t *at = bytes;
    unsigned sum = frame->unit;
    *at++ = ':';
    at = put_hex(at, frame->unit);
    for (size_t i = 0; i < frame->size; i++) {
        at = put_hex(at, frame->pdu[i]);
        sum += frame->pdu[i];
    }
    at = put_hex(at, (uint8_t)-sum); /* the LRC */
    *at++ = '\r';
    *at++ = '\n';
    return (size_t)(at - bytes);
}

/* -1 when it is none. A line of eight bits may carry a parity bit in the eighth. */
static int hex_digit(uint8_t byte)
{
    int c = byte & 0x7f;
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What stands between the colon and CR LF. */
static enum frame_state ascii_decode(const uint8_t *text, size_t n, struct frame *frame,
                                     const char **why)
{
    uint8_t bytes[1 + LINK_PDU_MAX + 1];
    unsigned sum = 0;
    *why = "not an answer";
    if (n % 2 != 0 || n / 2 < 4 || n / 2 > sizeof bytes)
        return FRAME_BROKEN;
    for (size_t i = 0; i < n / 2; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return FRAME_BROKEN;
        bytes[i] = (uint8_t)(high << 4 | low);
        sum += bytes[i];
    }
    *why = "damaged: wrong LRC";
    if ((sum & 0xff) != 0)
        return FRAME_BROKEN;
    frame->unit = bytes[0];
    frame->size = n / 2 - 2;
    memcpy(frame->pdu, bytes + 1, frame->size);
    return FRAME_WHOLE;
}

static enum frame_state ascii_take(const uint8_t *bytes, size_t n, size_t *used,
                                   struct frame *frame, const char **why)
{
    bool begun = false;
    for (size_t i = 0; i < n; i++) {
        int c = bytes[i] & 0x7f;
        if (c == ':') { /* begins a frame wherever it stands (2.5.2.1) */
            *used = i;
            begun = true;
        } else if (begun && c == '\n' && i > *used + 1 && (bytes[i - 1] & 0x7f) == '\r') {
            size_t at = *used + 1;
            *used = i + 1;
            return ascii_decode(bytes + at, i - 1 - at, frame, why);
        }
    }
    if (!begun)
        *used = n;
    *why = "longer than any answer";
    return n - *used > FRAME_MAX ? FRAME_BROKEN : FRAME_PART;
}

/* ---- all three ---- */

size_t frame_put(enum device_framing framing, const struct frame *frame, uint8_t bytes[FRAME_MAX])
{
    switch (framing) {
    case DEVICE_RTU:
        return rtu_put(frame, bytes);
    case DEVICE_ASCII:
        return ascii_put(frame, bytes);
    case DEVICE_TCP:
        break;
    }
    return tcp_put(frame, bytes);
}

enum frame_state frame_take(enum device_framing framing, const uint8_t *bytes, size_t n,
                            size_t *used, struct frame *frame, const char **why)
{
    *used = 0;
    switch (framing) {
    case DEVICE_RTU:
        return rtu_take(bytes, n, used, frame, why);
    case DEVICE_ASCII:
        return ascii_take(bytes, n, used, frame, why);
    case DEVICE_TCP:
        break;
    }
    return tcp_take(bytes, n, used, frame, why);
}
