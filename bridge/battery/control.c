#include "bridge/battery/control.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "devices/lines/claim.h"
#include "devices/registers/codec.h"
#include "devices/registers/scan.h"

/* The contract with the dispatcher: read back until it agrees or this long. */
#define READ_BACK_NS INT64_C(1000000000)
/* Between two read-backs that disagree: a device may take a moment. */
#define READ_BACK_PAUSE_NS INT64_C(20000000)

struct control {
    const struct device *device;
    int claim;         /* the right to write; -1 = another program has it */
    struct plan *plan; /* the points the interlocks judge */
    struct value *state;
};

/* ---- the interlocks ---- */

static bool is_ready(const struct device_control *control, const struct value *status)
{
    for (unsigned i = 0; i < control->n_ready; i++) {
        if ((int64_t)status->raw == control->ready_status[i])
            return true;
    }
    return false;
}

/* The value of a state point; false with a detail when it was not read. */
static bool known(const struct device *device, const struct value *state, int index,
                  char detail[DETAIL_MAX])
{
    const struct value *value = &state[index];
    if (value->state == VALUE_READ)
        return true;
    (void)snprintf(detail, DETAIL_MAX, "%s could not be read: %s", device->points[index].name,
                   value->state == VALUE_FAULT ? fault_word((enum fault)value->fault) : "not read");
    return false;
}

static enum reason judge_soe(const struct device_control *control, double value_kw, double soe,
                             char detail[DETAIL_MAX])
{
    if (!(soe >= 0.0 && soe <= 100.0)) {
        (void)snprintf(detail, DETAIL_MAX, "SOE %g %% is no state of energy", soe);
        return value_kw > 0.0 ? REASON_SOE_LOW : REASON_SOE_HIGH;
    }
    if (value_kw > 0.0 && soe <= control->soe_min) {
        (void)snprintf(detail, DETAIL_MAX, "SOE %g %% is %s soe_min %g %%", soe,
                       soe < control->soe_min ? "below" : "at", control->soe_min);
        return REASON_SOE_LOW;
    }
    if (value_kw < 0.0 && soe >= control->soe_max) {
        (void)snprintf(detail, DETAIL_MAX, "SOE %g %% is %s soe_max %g %%", soe,
                       soe > control->soe_max ? "above" : "at", control->soe_max);
        return REASON_SOE_HIGH;
    }
    return REASON_NONE;
}

enum reason control_judge(const struct device *device, unsigned point, double value,
                          const struct value *state, char detail[DETAIL_MAX])
{
    const struct device_control *control = &device->control;
    const bool by_blocks = !isnan(control->kw_per_block);
    const bool by_step = !isnan(control->max_step_kw);

    if ((int)point != control->setpoint || command_is_stop(device, point, value))
        return REASON_NONE;
    if (!known(device, state, control->status, detail) ||
        !known(device, state, control->soe, detail) ||
        (by_blocks && !known(device, state, control->blocks, detail)) ||
        (by_step && !known(device, state, control->setpoint, detail)))
        return REASON_DEVICE_OFFLINE;

    if (!is_ready(control, &state[control->status])) {
        (void)snprintf(detail, DETAIL_MAX, "status is %g, not one of ready_status",
                       state[control->status].number);
        return REASON_NOT_READY;
    }
    enum reason reason = judge_soe(control, value, state[control->soe].number, detail);
    if (reason != REASON_NONE)
        return reason;
    if (by_blocks) {
        double most_kw = state[control->blocks].number * control->kw_per_block;
        if (!(fabs(value) <= most_kw)) {
            (void)snprintf(detail, DETAIL_MAX, "%g available blocks carry %g kW",
                           state[control->blocks].number, most_kw);
            return REASON_BLOCKS;
        }
    }
    if (by_step) {
        double step_kw = fabs(value - state[control->setpoint].number);
        /* The tolerance covers decimal fractions of a scaled register only. */
        if (!(step_kw <= control->max_step_kw + 1e-9)) {
            (void)snprintf(detail, DETAIL_MAX, "a step of %g kW from %g kW, max_step_kw is %g",
                           step_kw, state[control->setpoint].number, control->max_step_kw);
            return REASON_STEP_TOO_LARGE;
        }
    }
    return REASON_NONE;
}

/* ---- the sequence ---- */

struct control *control_new(const struct device *device)
{
    const struct device_control *limits = &device->control;
    bool wanted[PROFILE_POINTS_MAX] = {false};
    struct control *control = calloc(1, sizeof(*control));
    if (control == NULL)
        return NULL;
    wanted[limits->status] = true;
    wanted[limits->soe] = true;
    if (!isnan(limits->kw_per_block))
        wanted[limits->blocks] = true;
    if (!isnan(limits->max_step_kw))
        wanted[limits->setpoint] = true;
    control->device = device;
    control->claim = claim_take(&device->modbus);
    control->plan = plan_new(device, wanted);
    control->state = calloc(device->n_points, sizeof(*control->state));
    if (control->plan == NULL || control->state == NULL) {
        control_free(control);
        return NULL;
    }
    return control;
}

void control_free(struct control *control)
{
    if (control == NULL)
        return;
    if (control->claim >= 0)
        close(control->claim);
    plan_free(control->plan);
    free(control->state);
    free(control);
}

bool control_is_sole(struct control *control)
{
    if (control->claim < 0)
        control->claim = claim_take(&control->device->modbus);
    return control->claim >= 0;
}

/* Reads the state for this command. A connection that had died unnoticed is
 * opened once more: reading twice harms nobody. */
static enum fault read_state(struct control *control, struct link *link)
{
    enum fault fault = FAULT_NONE;
    for (int attempt = 0; attempt < 2; attempt++) {
        bool was_open = link->is_open;
        struct scan scan;
        enum scan_step step = SCAN_MORE;

        fault = link_open(link, control->device->modbus.timeout_ns);
        if (fault != FAULT_NONE)
            return fault;
        scan_begin(&scan, control->plan, control->device, 0, control->state);
        while (step == SCAN_MORE)
            step = scan_step(&scan, link, &fault);
        if (step == SCAN_DONE)
            return FAULT_NONE;
        if (!was_open || fault != FAULT_CONNECTION)
            return fault;
    }
    return fault;
}

static void refuse(struct report *report, enum reason reason)
{
    report->outcome = OUTCOME_REFUSED;
    report->reason = reason;
}

static void refuse_offline(struct report *report, const struct link *link, enum fault fault)
{
    refuse(report, REASON_DEVICE_OFFLINE);
    (void)snprintf(report->detail, DETAIL_MAX, "%s: %s", fault_word(fault), link->error);
}

static bool is_expired(const struct order *order, struct report *report)
{
    if (clock_mono_ns() < order->expires_ns)
        return false;
    refuse(report, REASON_EXPIRED);
    (void)snprintf(report->detail, DETAIL_MAX, "its life ended before it could be written");
    return true;
}

/* One read of the written registers; true when it was read. */
static bool read_words(const struct device *device, struct link *link, const struct point *row,
                       uint16_t *words)
{
    return link_open(link, device->modbus.timeout_ns) == FAULT_NONE &&
           link_read(link, (uint8_t)device->modbus.address, row->table, row->address,
                     (uint16_t)point_width(row), words, device->modbus.timeout_ns) == FAULT_NONE;
}

/* Reads back until it agrees or READ_BACK_NS have passed. Returns whether it
 * agrees; the report gets the last value read. */
static bool read_back(const struct device *device, struct link *link, const struct point *row,
                      const uint16_t *words, struct report *report)
{
    int64_t until_ns = clock_mono_ns() + READ_BACK_NS;
    for (;;) {
        uint16_t now[4] = {0};
        if (read_words(device, link, row, now)) {
            struct value value = codec_decode(row, now);
            report->has_readback = value.state == VALUE_READ;
            report->readback = value.number;
            if (memcmp(now, words, point_width(row) * sizeof(words[0])) == 0)
                return true;
        }
        if (clock_mono_ns() >= until_ns)
            return false;
        clock_pause(READ_BACK_PAUSE_NS);
    }
}

/* Writes once and finds out what came of it. The device's own words decide
 * only when it plainly says no; else the register does. */
static void write_once(const struct device *device, struct link *link, const struct point *row,
                       const uint16_t *words, struct report *report)
{
    const unsigned width = point_width(row);

    report->n_words = width;
    memcpy(report->words, words, width * sizeof(words[0]));
    report->written_ns = clock_mono_ns();
    enum fault fault = link_write(link, (uint8_t)device->modbus.address, row->table, row->address,
                                  (uint16_t)width, words, device->modbus.timeout_ns);
    bool settled = fault != FAULT_NONE && !fault_is_silence(fault) && fault != FAULT_ACKNOWLEDGE;

    report->fault = fault;
    if (settled) {
        report->outcome = OUTCOME_FAILED;
        return;
    }
    if (read_back(device, link, row, words, report)) {
        report->outcome = OUTCOME_CONFIRMED;
        return;
    }
    if (!report->has_readback)
        report->outcome = OUTCOME_UNKNOWN;
    else
        report->outcome = fault_is_exception(fault) ? OUTCOME_FAILED : OUTCOME_MISMATCH;
    if (fault != FAULT_NONE)
        (void)snprintf(report->detail, DETAIL_MAX, "the reply to the write: %s", fault_word(fault));
    else if (!report->has_readback)
        (void)snprintf(report->detail, DETAIL_MAX, "written, but it could not be read back");
}

/* Tells the battery who commands it. False when the device does not take it. A
 * stop does not wait to see that: it goes ahead either way. */
static bool write_source(const struct device *device, struct link *link, bool stop)
{
    if (device->control.command_source < 0)
        return true;
    const struct point *row = &device->points[device->control.source];
    struct report report = {.outcome = OUTCOME_FAILED};
    uint16_t words[4];
    if (codec_encode(row, (double)device->control.command_source, words) != CODEC_FITS)
        return stop;
    if (stop)
        (void)link_write(link, (uint8_t)device->modbus.address, row->table, row->address,
                         (uint16_t)point_width(row), words, device->modbus.timeout_ns);
    else
        write_once(device, link, row, words, &report);
    return stop || report.outcome == OUTCOME_CONFIRMED;
}

bool control_check(struct control *control, struct link *link, const struct order *order,
                   struct report *report)
{
    const struct device *device = control->device;
    const bool stop = command_is_stop(device, order->point, order->value);

    if (is_expired(order, report))
        return false;
    if (!control_is_sole(control) && !stop) {
        refuse(report, REASON_DEVICE_OFFLINE);
        (void)snprintf(report->detail, DETAIL_MAX,
                       "another fluxbridge on this machine writes to this device");
        return false;
    }
    if ((int)order->point == device->control.setpoint && !stop) {
        enum fault fault = read_state(control, link);
        if (fault != FAULT_NONE) {
            refuse_offline(report, link, fault);
            return false;
        }
        enum reason reason =
            control_judge(device, order->point, order->value, control->state, report->detail);
        if (reason != REASON_NONE) {
            refuse(report, reason);
            return false;
        }
    }
    report->judged_ns = clock_mono_ns();
    return true;
}

static void run(struct control *control, struct link *link, const struct order *order,
                struct report *report)
{
    const struct device *device = control->device;
    const struct point *row = &device->points[order->point];
    const bool stop = command_is_stop(device, order->point, order->value);
    uint16_t words[4];

    if (!control_check(control, link, order, report))
        return;
    enum fault fault = link_open(link, device->modbus.timeout_ns);
    if (fault == FAULT_NONE && (int)order->point == device->control.setpoint) {
        if (!write_source(device, link, stop)) {
            refuse(report, REASON_NOT_READY);
            (void)snprintf(report->detail, DETAIL_MAX, "the device does not take command_source %d",
                           (int)device->control.command_source);
            return;
        }
        /* That may have taken a while: the state is read and judged once more. */
        if (device->control.command_source >= 0 && !stop &&
            !control_check(control, link, order, report))
            return;
        fault = link_open(link, device->modbus.timeout_ns);
    }
    if (fault != FAULT_NONE) {
        refuse_offline(report, link, fault);
        return;
    }
    if (codec_encode(row, order->value, words) != CODEC_FITS) {
        refuse(report, REASON_OFF_STEP); /* unreachable after command_judge */
        return;
    }
    if (!is_expired(order, report))
        write_once(device, link, row, words, report);
}

void control_run(struct control *control, struct link *link, const struct order *order,
                 int64_t *last_write_ns, struct report *report)
{
    const struct device *device = control->device;
    *report = (struct report){.order = *order};
    if (!order->own &&
        command_too_soon(device, order->point, order->value, clock_mono_ns(), *last_write_ns))
        refuse(report, REASON_RATE_LIMITED);
    else
        run(control, link, order, report);
    if ((int)order->point == device->control.setpoint && report->written_ns != 0 &&
        report->outcome != OUTCOME_FAILED)
        *last_write_ns = report->written_ns;
    report->done_ns = clock_mono_ns();
}
