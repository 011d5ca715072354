#include "devices/lines/link_new.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "devices/lines/channel.h"
#include "devices/lines/frame.h"
#include "devices/lines/step.h"
#include "devices/registers/bustime.h"

enum { EXCEPTION = 0x80, FUNCTION = 0x7f, WRITE_ANSWER = 5, BUFFER = 2 * FRAME_MAX, NOBODY = -1 };
/* A connection on which so many answers in a row are missing is opened anew. */
enum { SILENT_MAX = 3 };
/* One for each table that may owe an answer, and one more. */
enum { PROBES_MAX = 5 };

/* A second answer would follow the first at once: it is there before the next request. */
static const int64_t GAP_WITHOUT_IDS_NS = 2000000;

enum phase {
    IDLE,
    DELAY, /* after connecting */
    QUIET, /* until the request may be sent */
    PROBE, /* until the line is in step: something else may have been asked */
    ASK,
};

struct line {
    struct link link;
    struct device_modbus modbus;
    struct channel *channel;
    struct step *step; /* NULL: answers bear the number of their request */
    int64_t gap_ns;    /* silence in front of a request */

    enum phase phase;
    int64_t until_ns;   /* of the phase */
    int64_t heard_ns;   /* the last byte */
    struct frame asked; /* the request under way; its number is that of the last one sent */
    int64_t timeout_ns;
    bool asked_before; /* so that an answer may be to the last request of this function */
    uint8_t probe;     /* the function that was asked instead; 0 = none */
    unsigned n_probes; /* for this request */
    uint16_t lost;     /* number of the first request without an answer on this connection */
    bool has_lost;
    unsigned silent;    /* answers missing in a row */
    int heard_units[2]; /* the last two units that answered on this connection */

    uint8_t sent[FRAME_MAX];
    size_t echo, echoed; /* what is to come back of it, and what has */
    size_t got;
    uint8_t buffer[BUFFER];
};

static enum device_framing framing_of(const struct line *line)
{
    return (enum device_framing)line->modbus.framing;
}

static bool is_datagram(const struct line *line)
{
    return line->modbus.transport == DEVICE_DATAGRAM;
}

static bool is_read(uint8_t function)
{
    return function >= POINT_COIL && function <= POINT_INPUT;
}

static size_t read_answer_size(const uint8_t *request)
{
    size_t count = link_get16(request + 3);
    bool bits = request[0] == POINT_COIL || request[0] == POINT_DISCRETE;
    return 2 + (bits ? (count + 7) / 8 : 2 * count);
}

/* Whether its owner is told to stop. */
static bool is_cut_short(const struct link *link)
{
    return link->stop != NULL && atomic_load(link->stop);
}

static enum fault failure(struct line *line, enum fault fault, const char *why)
{
    return link_fail(&line->link, fault, "%s unit %u: %s", channel_name(line->channel),
                     line->asked.unit, why);
}

/* An answer that has not come may come yet. */
static void lose(struct line *line)
{
    if (line->phase != ASK)
        return;
    if (line->step != NULL) {
        step_miss(line->step, line->asked.unit, line->asked.pdu[0], link_now_ns());
    } else if (!line->has_lost) {
        line->lost = line->asked.id;
        line->has_lost = true;
    }
}

/* ---- opening and closing ---- */

/* What comes in the pause after connecting is nobody's. */
static enum fault delay(struct line *line)
{
    struct link *link = &line->link;
    ssize_t n;
    do
        n = channel_receive(line->channel, line->buffer, BUFFER);
    while (n > 0);
    if (n == 0 || errno != EAGAIN) {
        const char *why = n == 0 ? "closed by the device" : strerror(errno);
        channel_close(line->channel, false);
        return link_fail(link, FAULT_CONNECTION, "%s: %s", channel_name(line->channel), why);
    }
    if (link_now_ns() < line->until_ns && !is_cut_short(link))
        return link_await(link, channel_fd(line->channel), POLLIN, line->until_ns);
    line->phase = IDLE;
    return FAULT_NONE;
}

static enum fault opened(struct line *line, enum fault fault)
{
    if (fault != FAULT_NONE || line->link.is_busy)
        return fault;
    line->got = 0;
    line->has_lost = false;
    line->silent = 0;
    line->heard_units[0] = line->heard_units[1] = NOBODY;
    line->heard_ns = link_now_ns();
    if (line->modbus.connect_delay_ns == 0)
        return FAULT_NONE;
    line->phase = DELAY;
    line->until_ns = line->link.until_ns = line->heard_ns + line->modbus.connect_delay_ns;
    return delay(line);
}

static enum fault line_open(struct link *link, int64_t timeout_ns)
{
    struct line *line = (struct line *)link;
    line->phase = IDLE;
    return opened(line, channel_begin(line->channel, link, timeout_ns));
}

static void line_close(struct link *link)
{
    struct line *line = (struct line *)link;
    lose(line); /* what is given up on the way */
    bool reset = line->phase == ASK || line->phase == PROBE || line->silent > 0;
    line->phase = IDLE;
    channel_close(line->channel, reset);
}

/* ---- what comes ---- */

static void drop(struct line *line, size_t n)
{
    line->got -= n;
    if (n > 0 && line->got > 0)
        memmove(line->buffer, line->buffer + n, line->got);
}

/* Whether the number is one of those whose answer may still come. */
static bool is_late(const struct line *line, uint16_t id)
{
    return line->has_lost && (uint16_t)(id - line->lost) <= (uint16_t)(line->asked.id - line->lost);
}

/* Hears what comes while nothing is asked. False, with the reason in `*why`, when the
 * next answer read here might not be ours. */
static bool hear(struct line *line, const char **why)
{
    struct frame frame;
    for (;;) {
        ssize_t n = channel_receive(line->channel, line->buffer + line->got, BUFFER - line->got);
        if (n == -1 && errno == EAGAIN)
            return true;
        *why = n == 0 ? "closed by the device" : strerror(errno);
        if (n <= 0)
            return false;
        line->heard_ns = link_now_ns();
        line->got += (size_t)n;
        *why = "an answer to nothing";
        if (line->step == NULL && !line->has_lost && !is_datagram(line))
            return false;
        enum frame_state state = FRAME_WHOLE;
        while (line->got > 0 && state == FRAME_WHOLE) {
            size_t used;
            const char *broken;
            state = frame_take(framing_of(line), line->buffer, line->got, &used, &frame, &broken);
            drop(line, used);
            if (state == FRAME_WHOLE && line->step != NULL)
                step_hear(line->step, frame.unit, frame.pdu[0] & FUNCTION, line->heard_ns);
            else if (state != FRAME_PART && line->step == NULL && !is_datagram(line) &&
                     (state == FRAME_BROKEN || !is_late(line, frame.id)))
                return false;
        }
        if (state == FRAME_BROKEN || is_datagram(line) || line->got == BUFFER)
            line->got = 0;
    }
}

enum verdict { MINE, ANOTHERS, WRONG };

/* By its number. */
static enum verdict judge_id(const struct line *line, const struct frame *frame, const char **why)
{
    if (frame->id == line->asked.id) {
        *why = "answer from another unit";
        return frame->unit == line->asked.unit ? MINE : WRONG;
    }
    *why = "answer to another request";
    return is_late(line, frame->id) || is_datagram(line) ? ANOTHERS : WRONG;
}

/* By its looks. What a read is answered by is owed by nobody else: see quiet(). */
static enum verdict judge_looks(struct line *line, const struct frame *frame, const char **why)
{
    const struct frame *asked = &line->asked;
    uint8_t function = frame->pdu[0] & FUNCTION;
    bool same = line->phase == ASK && frame->unit == asked->unit && function == asked->pdu[0];
    bool refused = (frame->pdu[0] & EXCEPTION) != 0;

    if (same && is_read(function)) {
        *why = "answer of another length";
        if (refused || frame->size == read_answer_size(asked->pdu))
            return MINE;
        return WRONG;
    }
    /* A write of before may be answered yet: the answer to this one repeats it. */
    if (same &&
        (!line->asked_before || (!refused && memcmp(frame->pdu, asked->pdu, WRITE_ANSWER) == 0)))
        return MINE;
    if (line->phase == PROBE && frame->unit == asked->unit && function == line->probe) {
        const uint8_t one[] = {function, 0, 0, 0, 1};
        if (!refused && frame->size != read_answer_size(one))
            return ANOTHERS; /* such as an echo of the question: shows nothing */
        step_answer(line->step, frame->unit, function, line->heard_ns);
        line->probe = 0;
    } else
        step_hear(line->step, frame->unit, function, line->heard_ns);
    return ANOTHERS;
}

/* Whether the answer to what is to be asked can only be the answer to that. */
static bool is_in_step(const struct line *line)
{
    return !step_owes(line->step, line->asked.unit, line->asked.pdu[0], link_now_ns());
}

/* Takes the frames that are whole. `*answered`: the answer is among them. */
static enum fault take_frames(struct line *line, uint8_t *reply, size_t *reply_size, bool *answered)
{
    struct frame frame;
    enum frame_state state = FRAME_WHOLE;
    enum verdict verdict = ANOTHERS;
    const char *why = "";
    *answered = false;
    while (line->got > 0 && state == FRAME_WHOLE && verdict != WRONG) {
        size_t used;
        state = frame_take(framing_of(line), line->buffer, line->got, &used, &frame, &why);
        drop(line, used);
        if (state != FRAME_WHOLE)
            break;
        verdict =
            line->step == NULL ? judge_id(line, &frame, &why) : judge_looks(line, &frame, &why);
        if (line->phase == PROBE && (line->probe == 0 || is_in_step(line))) {
            *answered = true;
            return FAULT_NONE;
        }
        if (verdict == MINE && *answered) {
            why = "more than one answer";
            verdict = WRONG;
        } else if (verdict == MINE) {
            *answered = true;
            *reply_size = frame.size;
            memcpy(reply, frame.pdu, frame.size);
        }
    }
    if (*answered && line->got > 0 && verdict != WRONG && !line->has_lost) {
        why = "more than one answer";
        verdict = WRONG;
    }
    bool bad = state == FRAME_BROKEN || verdict == WRONG;
    if (bad || is_datagram(line) || line->got == BUFFER)
        line->got = 0;
    if (!bad || line->phase != ASK)
        return FAULT_NONE; /* a line that is out of step may say anything */
    return failure(line, FAULT_BAD_REPLY, why);
}

/* Takes what was sent and came back out of what came. */
static bool take_echo(struct line *line)
{
    size_t left = line->echo - line->echoed;
    size_t n = left < line->got ? left : line->got;
    bool same = memcmp(line->buffer, line->sent + line->echoed, n) == 0;
    line->echoed += n;
    drop(line, n);
    return same;
}

/* Takes what has come; the link is left busy while there is no answer. */
static enum fault receive(struct line *line, uint8_t *reply, size_t *reply_size, bool *answered)
{
    struct link *link = &line->link;
    enum fault fault = FAULT_NONE;
    *answered = false;
    while (fault == FAULT_NONE && !*answered) {
        ssize_t n = channel_receive(line->channel, line->buffer + line->got, BUFFER - line->got);
        if (n == -1 && errno == EAGAIN && link_now_ns() < link->until_ns)
            return link_await(link, channel_fd(line->channel), POLLIN, line->until_ns);
        if (n == -1 && errno == EAGAIN)
            return link_fail(link, FAULT_TIMEOUT, "%s unit %u: no whole answer in time (%zu bytes)",
                             channel_name(line->channel), line->asked.unit, line->got);
        if (n <= 0)
            return failure(line, FAULT_CONNECTION,
                           n == 0 ? "closed by the device" : strerror(errno));
        line->heard_ns = link_now_ns();
        line->got += (size_t)n;
        if (take_echo(line))
            fault = take_frames(line, reply, reply_size, answered);
        else
            fault = failure(line, FAULT_BAD_REPLY, "what came back is not what was sent");
    }
    return fault;
}

/* ---- asking ---- */

static enum fault send_frame(struct line *line, const struct frame *frame)
{
    size_t n = frame_put(framing_of(line), frame, line->sent);
    line->echo = line->modbus.echo ? n : 0;
    line->echoed = 0;
    if (channel_send(line->channel, line->sent, n))
        return FAULT_NONE;
    return link_fail(&line->link, FAULT_CONNECTION, "%s unit %u: send: %m",
                     channel_name(line->channel), frame->unit);
}

static enum fault ask(struct line *line)
{
    const int64_t now_ns = link_now_ns();
    line->asked.id++;
    line->phase = ASK;
    line->until_ns = line->link.until_ns = now_ns + line->timeout_ns;
    if (line->step != NULL) {
        line->got = 0;
        line->asked_before = !is_in_step(line);
        step_ask(line->step, line->asked.unit, line->asked.pdu[0], now_ns, line->timeout_ns);
    }
    return send_frame(line, &line->asked);
}

/* Asks for something else, the answer to which would show the line in step. */
static enum fault probe(struct line *line)
{
    const uint8_t unit = line->asked.unit;
    const int64_t now_ns = link_now_ns(), step_ns = step_until_ns(line->step, unit);
    line->got = 0;
    line->phase = PROBE;
    line->probe = step_probe(line->step, unit, line->asked.pdu[0]);
    line->until_ns = step_ns > now_ns && step_ns < now_ns + 2 * line->timeout_ns
                         ? step_ns
                         : now_ns + line->timeout_ns;
    line->link.until_ns = line->until_ns;
    if (line->probe == 0)
        return FAULT_NONE;
    struct frame other = {.unit = unit, .size = 5, .pdu = {line->probe}};
    memcpy(other.pdu + 1, line->asked.pdu + 1, 2); /* the same address */
    link_put16(other.pdu + 3, 1);
    step_ask(line->step, unit, line->probe, now_ns, line->timeout_ns);
    return send_frame(line, &other);
}

/* Waits for the silence in front of a request, and asks if the line is in step. */
static enum fault quiet(struct line *line)
{
    const char *why = "";
    if (line->gap_ns == 0)
        return ask(line); /* numbers tell answers apart, and nothing is to be waited for */
    if (!hear(line, &why))
        return failure(line, FAULT_CONNECTION, why);
    int64_t now_ns = link_now_ns(), ready_ns = line->heard_ns + line->gap_ns;
    if (ready_ns > line->until_ns)
        return failure(line, FAULT_BAD_REPLY, "the line does not fall silent");
    if (now_ns < ready_ns)
        return link_await(&line->link, channel_fd(line->channel), POLLIN, ready_ns);
    if (line->step == NULL || !is_read(line->asked.pdu[0]) || is_in_step(line))
        return ask(line);
    return probe(line);
}

/* From one phase to the next, as far as it goes without waiting. */
static enum fault go_on(struct line *line, uint8_t *reply, size_t *reply_size)
{
    struct link *link = &line->link;
    const bool cut = is_cut_short(link);
    enum fault fault = FAULT_NONE;
    bool answered = false;

    while (fault == FAULT_NONE && !link->is_busy && !answered) {
        const enum phase phase = line->phase;
        if (cut && phase != ASK)
            fault = failure(line, FAULT_TIMEOUT, "given up");
        else
            fault = phase == QUIET ? quiet(line) : receive(line, reply, reply_size, &answered);
        if (phase == ASK || phase == QUIET || link->is_busy)
            continue;
        if (fault == FAULT_TIMEOUT && !cut && is_in_step(line)) {
            fault = FAULT_NONE; /* it was silent long enough */
            if (line->probe != 0)
                step_miss(line->step, line->asked.unit, line->probe, link_now_ns());
        }
        if (fault == FAULT_NONE && ++line->n_probes > PROBES_MAX)
            fault = failure(line, FAULT_TIMEOUT, "out of step");
        answered = false;
        line->until_ns = link_now_ns() + line->gap_ns + line->timeout_ns / 2;
        line->phase = fault == FAULT_NONE ? QUIET : phase;
    }
    return fault;
}

/* An exchange has ended, if it has. */
static enum fault ended(struct line *line, enum fault fault)
{
    struct link *link = &line->link;
    const int unit = line->asked.unit;
    if (link->is_busy)
        return FAULT_NONE;
    if (fault == FAULT_NONE) {
        line->silent = 0;
        line->phase = IDLE;
        if (line->step != NULL)
            step_answer(line->step, line->asked.unit, line->asked.pdu[0], line->heard_ns);
        if (line->heard_units[0] != unit) {
            line->heard_units[1] = line->heard_units[0];
            line->heard_units[0] = unit;
        }
        return FAULT_NONE;
    }
    const bool others = (line->heard_units[0] != NOBODY && line->heard_units[0] != unit) ||
                        (line->heard_units[1] != NOBODY && line->heard_units[1] != unit);
    lose(line);
    line->phase = IDLE;
    line->silent++;
    link->stays_open =
        (fault == FAULT_TIMEOUT || (fault == FAULT_BAD_REPLY && line->step != NULL)) &&
        (line->step != NULL || (others && line->got == 0)) && line->silent < SILENT_MAX &&
        channel_is_sent(line->channel);
    return fault;
}

static enum fault line_exchange(struct link *link, uint8_t unit, const uint8_t *request,
                                size_t request_size, uint8_t *reply, size_t *reply_size,
                                int64_t timeout_ns)
{
    struct line *line = (struct line *)link;
    line->asked.unit = unit;
    line->asked.size = request_size;
    memcpy(line->asked.pdu, request, request_size);
    line->timeout_ns = timeout_ns;
    line->phase = QUIET;
    line->n_probes = 0;
    line->until_ns = link->until_ns = link_now_ns() + line->gap_ns + timeout_ns / 2;
    return ended(line, go_on(line, reply, reply_size));
}

static enum fault line_go_on(struct link *link, uint8_t *reply, size_t *reply_size)
{
    struct line *line = (struct line *)link;
    if (link->is_open)
        return ended(line, go_on(line, reply, reply_size));
    if (line->phase == DELAY)
        return delay(line);
    return opened(line, channel_go_on(line->channel, link));
}

static bool line_is_stale(struct link *link)
{
    const char *why;
    return !hear((struct line *)link, &why);
}

static void line_free(struct link *link)
{
    struct line *line = (struct line *)link;
    channel_free(line->channel);
    free(line->step);
    free(line);
}

/* The silence that a line wants by itself. */
static int64_t least_gap_ns(const struct device_modbus *modbus)
{
    if (place_has_ids(modbus))
        return 0;
    int64_t gap_ns = modbus->framing == DEVICE_RTU ? bustime_gap_ns(modbus) : 0;
    return gap_ns > GAP_WITHOUT_IDS_NS ? gap_ns : GAP_WITHOUT_IDS_NS;
}

struct link *link_new(const struct device_modbus *modbus)
{
    static const struct link_ops ops = {
        .open = line_open,
        .exchange = line_exchange,
        .go_on = line_go_on,
        .is_stale = line_is_stale,
        .close = line_close,
        .free = line_free,
    };
    struct line *line = calloc(1, sizeof *line);
    if (line == NULL)
        return NULL;
    link_init(&line->link, &ops);
    line->modbus = *modbus;
    line->gap_ns = least_gap_ns(modbus);
    if (modbus->request_gap_ns > line->gap_ns)
        line->gap_ns = modbus->request_gap_ns;
    line->channel = channel_new(&line->link, &line->modbus);
    if (!place_has_ids(modbus))
        line->step = calloc(1, sizeof *line->step);
    if (line->channel == NULL || (!place_has_ids(modbus) && line->step == NULL)) {
        line_free(&line->link);
        return NULL;
    }
    return &line->link;
}
