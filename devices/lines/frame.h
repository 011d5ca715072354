/* frame: a Modbus PDU as it travels: in TCP, RTU or ASCII framing.
 *
 * Pure: bytes in, bytes out. MODBUS Messaging on TCP/IP V1.0b, section 3.1;
 * MODBUS over Serial Line V1.02, sections 2.5.1 (RTU) and 2.5.2 (ASCII).
 */
#ifndef DEVICES_LINES_FRAME_H
#define DEVICES_LINES_FRAME_H

#include "devices/lines/link.h"

/* The longest: colon, two digits for each of unit, PDU and LRC, CR LF. */
enum { FRAME_MAX = 1 + 2 * (1 + LINK_PDU_MAX + 1) + 2 };

struct frame {
    uint16_t id; /* in TCP framing only */
    uint8_t unit;
    size_t size; /* of the PDU: a question may be its function alone, in TCP framing */
    uint8_t pdu[LINK_PDU_MAX];
};

/* Writes a frame; returns its size. */
size_t frame_put(enum device_framing framing, const struct frame *frame, uint8_t bytes[FRAME_MAX]);

enum frame_state {
    FRAME_PART,   /* so far it may become an answer */
    FRAME_WHOLE,  /* an answer, with the right checksum if it has one */
    FRAME_BROKEN, /* whatever comes behind it, this is none */
};

/* Looks at the first `n` bytes that came for an answer. `*used` of them are done
 * with: what is in front of an answer and none of it (bytes 00 or FF, as line
 * drivers make them, on a serial line), and the answer itself. What is broken has
 * its reason in `*why`. */
enum frame_state frame_take(enum device_framing framing, const uint8_t *bytes, size_t n,
                            size_t *used, struct frame *frame, const char **why);

#endif
