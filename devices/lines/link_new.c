#include "devices/lines/link_new.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "devices/lines/bustime.h"
#include "devices/lines/line.h"

enum { NOBODY = -1 };
/* A connection on which so many answers in a row are missing is opened anew. */
enum { SILENT_MAX = 3 };
/* One for each table that may owe an answer, and one more. */
enum { PROBES_MAX = 5 };

/* A second answer would follow the first at once: it is there before the next request. */
static const int64_t GAP_WITHOUT_IDS_NS = 2000000;

/* Whether its owner is told to stop. */
static bool is_cut_short(const struct link *link)
{
    return link->stop != NULL && atomic_load(link->stop);
}

/* An answer that has not come may come yet. */
static void lose(struct line *line)
{
    if (line->phase != LINE_ASK)
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
        n = channel_receive(line->channel, line->buffer, line->room);
    while (n > 0);
    if (n == 0 || errno != EAGAIN) {
        const char *why = n == 0 ? "closed by the device" : strerror(errno);
        channel_close(line->channel, false);
        return link_fail(link, FAULT_CONNECTION, "%s: %s", channel_name(line->channel), why);
    }
    if (link_now_ns() < line->until_ns && !is_cut_short(link))
        return link_await(link, channel_fd(line->channel), POLLIN, line->until_ns);
    line->phase = LINE_IDLE;
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
    line->phase = LINE_DELAY;
    line->until_ns = line->link.until_ns = line->heard_ns + line->modbus.connect_delay_ns;
    return delay(line);
}

static enum fault line_open(struct link *link, int64_t timeout_ns)
{
    struct line *line = (struct line *)link;
    line->phase = LINE_IDLE;
    return opened(line, channel_begin(line->channel, link, timeout_ns));
}

static void line_close(struct link *link)
{
    struct line *line = (struct line *)link;
    lose(line); /* what is given up on the way */
    bool reset =
        line->phase == LINE_ASK || line->phase == LINE_PROBE || line->silent > 0 || line->has_lost;
    line->phase = LINE_IDLE;
    channel_close(line->channel, reset);
}

/* ---- asking ---- */

/* Leaves the link busy until the answer, or the end of the phase. */
static enum fault send_frame(struct line *line, const struct frame *frame)
{
    uint8_t bytes[FRAME_MAX];
    size_t n = frame_put(line_framing(line), frame, bytes);
    line->echo = line->modbus.echo ? n : 0;
    line->echoed = 0;
    memcpy(line->sent, bytes, line->echo);
    if (channel_send(line->channel, bytes, n))
        return link_await(&line->link, channel_fd(line->channel), POLLIN, line->until_ns);
    return link_fail(&line->link, FAULT_CONNECTION, "%s unit %u: send: %m",
                     channel_name(line->channel), frame->unit);
}

static enum fault ask(struct line *line)
{
    const int64_t now_ns = link_now_ns();
    line->asked.id++;
    line->phase = LINE_ASK;
    line->until_ns = now_ns + line->timeout_ns;
    if (line->step != NULL) {
        line->got = 0;
        line->asked_before = !line_is_in_step(line);
        step_ask(line->step, line->asked.unit, line->asked.pdu[0], link_get16(line->asked.pdu + 3),
                 now_ns, line->timeout_ns);
    }
    return send_frame(line, &line->asked);
}

/* Asks for something else, the answer to which would show the line in step. */
static enum fault probe(struct line *line)
{
    const uint8_t unit = line->asked.unit;
    const int64_t now_ns = link_now_ns();
    line->got = 0;
    line->phase = LINE_PROBE;
    if (line->n_probes == 0)
        line->probed_ns = now_ns;
    line->probe = step_probe(line->step, unit, line->asked.pdu[0], link_get16(line->asked.pdu + 3));
    line->probe_ended = line->probe.function == 0;
    line->until_ns = now_ns + line->timeout_ns;
    if (line->until_ns > line->probed_ns + 2 * line->timeout_ns)
        line->until_ns = line->probed_ns + 2 * line->timeout_ns;
    if (line->probe_ended)
        return link_await(&line->link, channel_fd(line->channel), POLLIN, line->until_ns);
    struct frame other = {.unit = unit, .size = 5, .pdu = {line->probe.function}};
    memcpy(other.pdu + 1, line->asked.pdu + 1, 2); /* the same address */
    link_put16(other.pdu + 3, line->probe.count);
    step_ask_probe(line->step, unit, line->probe, now_ns, line->timeout_ns);
    return send_frame(line, &other);
}

/* Waits for the silence in front of a request, and asks if the line is in step. */
static enum fault quiet(struct line *line)
{
    const char *why = "";
    if (line->gap_ns == 0)
        return ask(line); /* numbers tell answers apart, and nothing is to be waited for */
    if (!line_hear(line, &why))
        return line_failure(line, FAULT_CONNECTION, why);
    int64_t now_ns = link_now_ns(), ready_ns = line->heard_ns + line->gap_ns;
    if (ready_ns > line->until_ns)
        return line_failure(line, FAULT_BAD_REPLY, "the line does not fall silent");
    if (now_ns < ready_ns)
        return link_await(&line->link, channel_fd(line->channel), POLLIN, ready_ns);
    if (line->step == NULL || !line_is_read(line->asked.pdu[0]) || line_is_in_step(line))
        return ask(line);
    return probe(line);
}

/* Whether a little more silence will do; then it is waited for. Two timeouts are what a
 * request may take before it is asked. */
static bool will_be_in_step(struct line *line)
{
    int64_t step_ns = step_until_ns(line->step, line->asked.unit);
    if (step_ns <= link_now_ns() || step_ns >= line->probed_ns + 2 * line->timeout_ns)
        return false;
    line->until_ns = line->link.until_ns = step_ns;
    return true;
}

/* From one phase to the next, as far as it goes without waiting. */
static enum fault go_on(struct line *line, uint8_t *reply, size_t *reply_size)
{
    struct link *link = &line->link;
    const bool cut = is_cut_short(link);
    enum fault fault = FAULT_NONE;
    bool answered = false;

    while (fault == FAULT_NONE && !link->is_busy && !answered) {
        const enum line_phase phase = line->phase;
        if (cut && phase != LINE_ASK)
            fault = line_failure(line, FAULT_TIMEOUT, "given up");
        else
            fault = phase == LINE_QUIET ? quiet(line)
                                        : line_receive(line, reply, reply_size, &answered);
        if (phase == LINE_ASK || phase == LINE_QUIET || link->is_busy)
            continue;
        if (fault == FAULT_TIMEOUT && !cut && line_is_in_step(line)) {
            fault = FAULT_NONE; /* it was silent long enough */
            if (!line->probe_ended)
                step_miss_probe(line->step, line->asked.unit, line->probe, link_now_ns());
        } else if (fault == FAULT_TIMEOUT && !cut && phase == LINE_PROBE && will_be_in_step(line)) {
            fault = FAULT_NONE;
            continue;
        } else if (fault == FAULT_TIMEOUT && !cut && phase == LINE_PROBE && !line->probe_ended &&
                   !line->missed_probe) {
            fault = FAULT_NONE; /* it may have been asleep, or not know this question */
            line->missed_probe = true;
        }
        if (fault == FAULT_NONE && ++line->n_probes > PROBES_MAX)
            fault = line_failure(line, FAULT_TIMEOUT, "out of step");
        answered = false;
        line->until_ns = link_now_ns() + line->gap_ns + line->timeout_ns / 2;
        line->phase = fault == FAULT_NONE ? LINE_QUIET : phase;
    }
    return fault;
}

/* An exchange has ended, if it has. */
static enum fault ended(struct line *line, enum fault fault)
{
    struct link *link = &line->link;
    const int unit = line->asked.unit;
    if (link->is_busy) {
        link->is_waiting = line->phase != LINE_ASK;
        return FAULT_NONE;
    }
    if (fault == FAULT_NONE) {
        line->silent = 0;
        line->phase = LINE_IDLE;
        if (line->step != NULL)
            step_answer(line->step, line->asked.unit, line->asked.pdu[0], line->heard_ns);
        if (line->heard_units[0] != unit) {
            line->heard_units[1] = line->heard_units[0];
            line->heard_units[0] = unit;
        }
        return FAULT_NONE;
    }
    const bool heard = line->heard_units[0] == unit || line->heard_units[1] == unit;
    const bool others = (line->heard_units[0] != NOBODY && line->heard_units[0] != unit) ||
                        line->heard_units[1] != NOBODY;
    lose(line);
    line->phase = LINE_IDLE;
    line->silent += heard || !others; /* one that never answers says nothing of the others */
    /* A setpoint that was given up must not be delivered later. */
    const bool given_up = !line_is_read(line->asked.pdu[0]) && line->modbus.serial[0] == '\0';
    const bool known = fault == FAULT_TIMEOUT || (fault == FAULT_BAD_REPLY && line->step != NULL);
    link->stays_open = known && !given_up && line->silent < SILENT_MAX &&
                       (line->step != NULL || (others && line->got == 0)) &&
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
    line->phase = LINE_QUIET;
    line->n_probes = 0;
    line->missed_probe = false;
    line->until_ns = link->until_ns = link_now_ns() + line->gap_ns + timeout_ns / 2;
    return ended(line, go_on(line, reply, reply_size));
}

static enum fault line_go_on(struct link *link, uint8_t *reply, size_t *reply_size)
{
    struct line *line = (struct line *)link;
    if (link->is_open)
        return ended(line, go_on(line, reply, reply_size));
    if (line->phase == LINE_DELAY)
        return delay(line);
    return opened(line, channel_go_on(line->channel, link));
}

static bool line_is_stale(struct link *link)
{
    const char *why;
    return !line_hear((struct line *)link, &why);
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
    if (endpoint_has_ids(modbus))
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
    const size_t room = modbus->framing == DEVICE_ASCII ? LINE_ROOM_ASCII : LINE_ROOM;
    struct line *line = calloc(1, sizeof *line + room + (modbus->echo ? FRAME_MAX : 0));
    if (line == NULL)
        return NULL;
    line->room = room;
    line->sent = line->buffer + room;
    link_init(&line->link, &ops);
    line->modbus = *modbus;
    line->gap_ns = least_gap_ns(modbus);
    if (modbus->request_gap_ns > line->gap_ns)
        line->gap_ns = modbus->request_gap_ns;
    line->channel = channel_new(&line->link, &line->modbus);
    if (!endpoint_has_ids(modbus))
        line->step = calloc(1, sizeof *line->step);
    if (line->channel == NULL || (!endpoint_has_ids(modbus) && line->step == NULL)) {
        line_free(&line->link);
        return NULL;
    }
    return &line->link;
}
