/* line: a link from the inside, and what comes on it.
 *
 * Private to link_new, which asks; here is told whether what comes is the answer.
 * Where answers bear numbers, by those; else by its looks and step.h.
 */
#ifndef DEVICES_LINES_LINE_H
#define DEVICES_LINES_LINE_H

#include "devices/lines/channel.h"
#include "devices/lines/frame.h"
#include "devices/lines/step.h"

/* What may come before it is looked at: two of the longest frames, of ASCII and of all others
 * (7 bytes of a TCP header and a PDU). */
enum { LINE_ROOM_ASCII = 2 * FRAME_MAX, LINE_ROOM = 2 * (7 + LINK_PDU_MAX) };

enum line_phase {
    LINE_IDLE,
    LINE_DELAY, /* after connecting */
    LINE_QUIET, /* until the request may be sent */
    LINE_PROBE, /* until the line is in step: something else may have been asked */
    LINE_ASK,
};

struct line {
    struct link link;
    struct device_modbus modbus;
    struct channel *channel;
    struct step *step; /* NULL: answers bear the number of their request */
    int64_t gap_ns;    /* silence in front of a request */

    enum line_phase phase;
    int64_t until_ns;   /* of the phase */
    int64_t heard_ns;   /* the last byte */
    struct frame asked; /* the request under way; its number is that of the last one sent */
    int64_t timeout_ns;
    bool asked_before;       /* so that an answer may be to the last request of this function */
    struct step_probe probe; /* what was asked instead; its function is 0 once it is answered */
    bool probe_ended;        /* be it that it was refused, and shows nothing */
    int64_t probed_ns;       /* the first time for this request */
    unsigned n_probes;       /* for this request, */
    bool missed_probe;       /* and whether one of them was not answered at all */
    uint16_t lost;           /* number of the first request without an answer on this connection */
    bool has_lost;
    unsigned silent;    /* answers missing in a row */
    int heard_units[2]; /* the last two units that answered on this connection */

    size_t echo, echoed; /* what is to come back of what was sent, and what has */
    size_t got, room;
    uint8_t *sent; /* FRAME_MAX bytes behind the buffer, where it comes back */
    uint8_t buffer[];
};

static inline enum device_framing line_framing(const struct line *line)
{
    return (enum device_framing)line->modbus.framing;
}

static inline bool line_is_read(uint8_t function)
{
    return function >= POINT_COIL && function <= POINT_INPUT;
}

/* Notes why, with the name of the line and the unit, and returns `fault`. */
enum fault line_failure(struct line *line, enum fault fault, const char *why);

/* Whether an answer to what is to be asked can only be the answer to that. */
bool line_is_in_step(const struct line *line);

/* Hears what comes while nothing is asked. False, with the reason in `*why`, when the
 * next answer read here might not be ours. */
bool line_hear(struct line *line, const char **why);

/* Takes what has come; the link is left busy while there is no answer, until
 * line->until_ns. `*answered`: it is in `reply`; or while the line is not in step, that
 * it is, or may be asked something else. */
enum fault line_receive(struct line *line, uint8_t *reply, size_t *reply_size, bool *answered);

#endif
