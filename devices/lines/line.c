#include "devices/lines/line.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

enum { EXCEPTION = 0x80, FUNCTION = 0x7f, WRITE_ANSWER = 5, ANSWER_MIN = 2 };

static bool is_datagram(const struct line *line)
{
    return line->modbus.transport == DEVICE_DATAGRAM;
}

static size_t read_answer_size(const uint8_t *request)
{
    size_t count = link_get16(request + 3);
    bool bits = request[0] == POINT_COIL || request[0] == POINT_DISCRETE;
    return 2 + (bits ? (count + 7) / 8 : 2 * count);
}

enum fault line_failure(struct line *line, enum fault fault, const char *why)
{
    return link_fail(&line->link, fault, "%s unit %u: %s", channel_name(line->channel),
                     line->asked.unit, why);
}

static void drop(struct line *line, size_t n)
{
    line->got -= n;
    if (n > 0 && n < line->room && line->got > 0)
        memmove(line->buffer, line->buffer + n, line->got);
}

/* The next frame out of what came. One that may be a question, but no answer, is broken. */
static enum frame_state take_frame(struct line *line, struct frame *frame, const char **why)
{
    size_t used;
    const enum frame_state state =
        frame_take(line_framing(line), line->buffer, line->got, &used, frame, why);
    drop(line, used);
    if (state != FRAME_WHOLE || frame->size >= ANSWER_MIN)
        return state;
    *why = "not an answer";
    return FRAME_BROKEN;
}

/* Whether the number is one of those whose answer may still come. */
static bool is_late(const struct line *line, uint16_t id)
{
    return line->has_lost && (uint16_t)(id - line->lost) <= (uint16_t)(line->asked.id - line->lost);
}

bool line_hear(struct line *line, const char **why)
{
    struct frame frame;
    for (;;) {
        ssize_t n =
            channel_receive(line->channel, line->buffer + line->got, line->room - line->got);
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
            const char *broken;
            state = take_frame(line, &frame, &broken);
            if (state == FRAME_WHOLE && line->step != NULL)
                step_hear(line->step, frame.unit, frame.pdu[0] & FUNCTION, line->heard_ns);
            else if (state != FRAME_PART && line->step == NULL && !is_datagram(line) &&
                     (state == FRAME_BROKEN || !is_late(line, frame.id)))
                return false;
        }
        if (state == FRAME_BROKEN || is_datagram(line) || line->got == line->room)
            line->got = 0;
    }
}

enum judgement { MINE, ANOTHERS, WRONG };

/* By its number. */
static enum judgement judge_id(const struct line *line, const struct frame *frame, const char **why)
{
    if (frame->id == line->asked.id) {
        *why = "answer from another unit";
        return frame->unit == line->asked.unit ? MINE : WRONG;
    }
    *why = "answer to another request";
    return is_late(line, frame->id) || is_datagram(line) ? ANOTHERS : WRONG;
}

/* An answer of the function that was asked instead. */
static void judge_probe(struct line *line, const struct frame *frame, bool refused)
{
    const struct step_probe probe = line->probe;
    uint8_t request[] = {probe.function, 0, 0, 0, 0};
    link_put16(request + 3, probe.count);
    bool data = !refused && frame->size == read_answer_size(request);
    if (data || (refused && !probe.by_length)) {
        step_answer_probe(line->step, frame->unit, probe, line->heard_ns);
        line->probe.function = 0;
        line->probe_ended = true;
    } else if (refused && frame->pdu[1] <= FAULT_ILLEGAL_VALUE) {
        step_refuse_length(line->step, frame->unit, probe.function, line->heard_ns);
        line->probe_ended = true;
        int64_t step_ns = step_until_ns(line->step, frame->unit);
        if (step_ns < line->until_ns)
            line->until_ns = line->link.until_ns = step_ns;
    } else if (probe.by_length) { /* busy, or what is owed */
        step_hear(line->step, frame->unit, probe.function, line->heard_ns);
    } /* else such as an echo of the question: shows nothing */
}

/* By its looks. What a read is answered by is owed by nobody else: see quiet(). */
static enum judgement judge_looks(struct line *line, const struct frame *frame, const char **why)
{
    const struct frame *asked = &line->asked;
    uint8_t function = frame->pdu[0] & FUNCTION;
    bool same = line->phase == LINE_ASK && frame->unit == asked->unit && function == asked->pdu[0];
    bool refused = (frame->pdu[0] & EXCEPTION) != 0;

    if (same && line_is_read(function)) {
        *why = "answer of another length";
        if (refused || frame->size == read_answer_size(asked->pdu))
            return MINE;
        return WRONG;
    }
    /* A write of before may be answered yet: the answer to this one repeats it. */
    if (same &&
        (!line->asked_before || (!refused && memcmp(frame->pdu, asked->pdu, WRITE_ANSWER) == 0)))
        return MINE;
    if (line->phase == LINE_PROBE && frame->unit == asked->unit && function == line->probe.function)
        judge_probe(line, frame, refused);
    else
        step_hear(line->step, frame->unit, function, line->heard_ns);
    return ANOTHERS;
}

bool line_is_in_step(const struct line *line)
{
    return !step_owes(line->step, line->asked.unit, line->asked.pdu[0], link_now_ns());
}

/* Takes the frames that are whole. `*answered`: the answer is among them. */
static enum fault take_frames(struct line *line, uint8_t *reply, size_t *reply_size, bool *answered)
{
    struct frame frame;
    enum frame_state state = FRAME_WHOLE;
    enum judgement verdict = ANOTHERS;
    const char *why = "";
    *answered = false;
    while (line->got > 0 && state == FRAME_WHOLE && verdict != WRONG) {
        state = take_frame(line, &frame, &why);
        if (state != FRAME_WHOLE)
            break;
        verdict =
            line->step == NULL ? judge_id(line, &frame, &why) : judge_looks(line, &frame, &why);
        if (line->phase == LINE_PROBE && (line->probe.function == 0 || line_is_in_step(line))) {
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
    if (bad || is_datagram(line) || line->got == line->room)
        line->got = 0;
    if (!bad || line->phase != LINE_ASK)
        return FAULT_NONE; /* a line that is out of step may say anything */
    return line_failure(line, FAULT_BAD_REPLY, why);
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

enum fault line_receive(struct line *line, uint8_t *reply, size_t *reply_size, bool *answered)
{
    struct link *link = &line->link;
    enum fault fault = FAULT_NONE;
    *answered = false;
    while (fault == FAULT_NONE && !*answered) {
        ssize_t n =
            channel_receive(line->channel, line->buffer + line->got, line->room - line->got);
        if (n == -1 && errno == EAGAIN && link_now_ns() < link->until_ns)
            return link_await(link, channel_fd(line->channel), POLLIN, line->until_ns);
        if (n == -1 && errno == EAGAIN)
            return link_fail(link, FAULT_TIMEOUT, "%s unit %u: no whole answer in time (%zu bytes)",
                             channel_name(line->channel), line->asked.unit, line->got);
        if (n <= 0)
            return line_failure(line, FAULT_CONNECTION,
                                n == 0 ? "closed by the device" : strerror(errno));
        line->heard_ns = link_now_ns();
        line->got += (size_t)n;
        if (take_echo(line))
            fault = take_frames(line, reply, reply_size, answered);
        else
            fault = line_failure(line, FAULT_BAD_REPLY, "what came back is not what was sent");
    }
    return fault;
}
