#include "bridge/commands/orders.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/battery/deadman.h"
#include "devices/registers/codec.h"

/* Per writable point: one order under way, one waiting, one of the bridge's own
 * waiting, one being put, one whose outcome was unknown. */
enum { OPEN_PER_POINT = 5 };

/* What is remembered of a device. */
struct seat {
    int64_t last_write_ns; /* of its setpoint; from reports */
    struct deadman deadman;
    enum outcome_kind own_outcome; /* of the deadman's last attempt; OUTCOME_COUNT = none yet */
};

struct orders {
    struct orders_setup setup;
    uint64_t own_ids;
    unsigned exits;     /* writes of on_exit still open */
    bool left;          /* they have been put */
    struct seat *seats; /* per device */
    unsigned n_open;
    struct open_command open[];
};

/* ---- answers ---- */

static int64_t utc_at(const struct open_command *open, int64_t mono_ns)
{
    return open->utc_ms + (mono_ns - open->mono_ns) / CLOCK_NS_PER_MS;
}

void orders_describe(const struct open_command *open, const char *device, const char *point,
                     int64_t now_ns, struct outcome *outcome, struct wire_trace *trace)
{
    (void)snprintf(outcome->device, sizeof(outcome->device), "%s", device);
    (void)snprintf(outcome->point, sizeof(outcome->point), "%s", point);
    (void)snprintf(outcome->id, sizeof(outcome->id), "%s", open->command.id);
    (void)snprintf(outcome->source, sizeof(outcome->source), "%s", open->command.source);
    outcome->has_id = open->command.id[0] != '\0';
    outcome->value = open->command.value;
    outcome->ts_ms = utc_at(open, now_ns);
    outcome->latency_ms = (double)(now_ns - open->mono_ns) / (double)CLOCK_NS_PER_MS;
    trace->received_ms = open->utc_ms;
    trace->user_source = open->user_source;
    trace->user_traceparent = open->user_traceparent;
}

static void answer_report(struct orders *orders, const struct report *report)
{
    const struct open_command *open = &orders->open[report->order.token];
    const struct device *device = &orders->setup.conf->devices.devices[open->device];
    struct outcome outcome = {
        .has_value = true,
        .kind = report->outcome,
        .reason = report->reason,
        .fault = report->fault,
        .has_readback = report->has_readback,
        .readback = codec_decimal(&device->points[open->point], report->readback),
        .correction = report->kind == REPORT_CORRECTION,
    };
    struct wire_trace trace = {
        .judged_ms = report->judged_ns != 0 ? utc_at(open, report->judged_ns) : 0,
        .written_ms = report->written_ns != 0 ? utc_at(open, report->written_ns) : 0,
        .n_words = report->n_words,
    };

    memcpy(trace.words, report->words, sizeof(trace.words));
    (void)snprintf(outcome.detail, sizeof(outcome.detail), "%s", report->detail);
    orders_describe(open, device->name, device->points[open->point].name, report->done_ns, &outcome,
                    &trace);
    answers_send(orders->setup.reply, device->name, &outcome, &trace, &open->address);
}

/* ---- orders ---- */

static bool is_setpoint(const struct device *device, unsigned point)
{
    return (int)point == device->control.setpoint;
}

/* Whether a write of the deadman for this device is on its way. */
static bool is_under_way(const struct orders *orders, unsigned device)
{
    for (unsigned i = 0; i < orders->n_open; i++) {
        const struct open_command *open = &orders->open[i];
        if (open->state == OPEN_WAITING && open->by == BY_DEADMAN && open->device == device)
            return true;
    }
    return false;
}

static struct open_command *open_free(struct orders *orders)
{
    for (unsigned i = 0; i < orders->n_open; i++) {
        if (orders->open[i].state == OPEN_FREE)
            return &orders->open[i];
    }
    return NULL; /* never: see OPEN_PER_POINT */
}

void orders_put(struct orders *orders, const struct open_command *judged, int64_t expires_ns)
{
    struct open_command *open = open_free(orders);
    const struct device *device = &orders->setup.conf->devices.devices[judged->device];
    struct order replaced;

    *open = *judged;
    open->state = OPEN_WAITING;
    struct order order = {
        .token = (uint32_t)(open - orders->open),
        .device = open->device,
        .point = open->point,
        .value = open->command.value,
        .expires_ns = expires_ns,
        .own = open->by != BY_DISPATCHER,
        .unless_ns = open->by == BY_DEADMAN ? open->mono_ns : 0,
    };
    if (mailbox_put(orders->setup.mailboxes[device->poller], &order, &replaced)) {
        struct report report = {
            .order = replaced,
            .outcome = OUTCOME_SUPERSEDED,
            .done_ns = clock_mono_ns(),
        };
        orders_take_report(orders, &report);
    }
}

/* A write of the bridge's own: deadman or exit. */
static void put_own(struct orders *orders, unsigned index, enum order_author by, double value)
{
    const struct device *device = &orders->setup.conf->devices.devices[index];
    const char *source = by == BY_DEADMAN ? "deadman" : "exit";
    struct open_command own = {
        .by = by,
        .device = index,
        .point = (unsigned)device->control.setpoint,
        .command.value = value,
        .mono_ns = clock_mono_ns(),
        .utc_ms = clock_utc_ms(),
    };

    (void)snprintf(own.command.id, sizeof(own.command.id), "%s-%s-%llu", source, orders->setup.run,
                   (unsigned long long)++orders->own_ids);
    (void)snprintf(own.command.source, sizeof(own.command.source), "%s", source);
    orders_put(orders, &own, CLOCK_NEVER);
}

/* Refused for the device's state, not for being unreachable: the fallback is
 * not allowed now, but zero is. */
static bool is_forbidden(const struct report *report)
{
    return report->outcome == OUTCOME_REFUSED && report->reason != REASON_DEVICE_OFFLINE &&
           report->order.value != 0.0;
}

/* An attempt of the deadman has ended. It is told when it is confirmed, and
 * else when it ends otherwise than the attempt before. */
static void take_deadman_report(struct orders *orders, unsigned index, const struct report *report)
{
    struct seat *seat = &orders->seats[index];
    if (report->outcome == OUTCOME_SUPERSEDED)
        return; /* a setpoint was written meanwhile: its own report says what follows */
    if (is_forbidden(report))
        deadman_refused(&seat->deadman, clock_mono_ns());
    if (report->outcome != seat->own_outcome)
        answer_report(orders, report);
    seat->own_outcome = report->outcome;
    if (report->outcome != OUTCOME_CONFIRMED)
        return;
    deadman_done(&seat->deadman);
    log_info("deadman: the fallback is confirmed device=%s value_kw=%g",
             orders->setup.conf->devices.devices[index].name, report->readback);
}

static void take_exit_report(struct orders *orders, unsigned index, const struct report *report)
{
    answer_report(orders, report);
    if (is_forbidden(report))
        put_own(orders, index, BY_EXIT, 0.0);
    else
        orders->exits--;
}

/* An unknown outcome waits for its correction until the point is written again. */
static void forget_unsettled(struct orders *orders, unsigned device, unsigned point)
{
    for (unsigned i = 0; i < orders->n_open; i++) {
        struct open_command *open = &orders->open[i];
        if (open->state == OPEN_UNSETTLED && open->device == device && open->point == point)
            open->state = OPEN_FREE;
    }
}

void orders_take_report(struct orders *orders, const struct report *report)
{
    struct open_command *open = &orders->open[report->order.token];
    const unsigned index = report->order.device;
    const struct device *device = &orders->setup.conf->devices.devices[index];
    struct seat *seat = &orders->seats[index];
    bool setpoint = report->kind == REPORT_FOUND || is_setpoint(device, report->order.point);
    bool unknown = report->kind == REPORT_OUTCOME && report->outcome == OUTCOME_UNKNOWN;

    if (report->kind != REPORT_FOUND) {
        if (report->written_ns != 0 && report->kind == REPORT_OUTCOME)
            forget_unsettled(orders, index, report->order.point);
        if (setpoint && report->written_ns != 0 && report->outcome != OUTCOME_FAILED)
            seat->last_write_ns = report->written_ns;
        if (open->by == BY_DEADMAN)
            take_deadman_report(orders, index, report);
        else if (open->by == BY_EXIT)
            take_exit_report(orders, index, report);
        else
            answer_report(orders, report);
        open->state = unknown ? OPEN_UNSETTLED : OPEN_FREE;
    }
    if (!setpoint || (report->kind != REPORT_FOUND && open->by != BY_DISPATCHER))
        return;
    const struct point *row = &device->points[device->control.setpoint];
    const double held =
        report->has_readback ? codec_decimal(row, report->readback) : report->order.value;
    if (report->kind == REPORT_FOUND || report->outcome == OUTCOME_CONFIRMED)
        deadman_holds(&seat->deadman, held, report->done_ns);
    else if (report->written_ns != 0)
        deadman_may_hold(&seat->deadman, held, report->done_ns);
}

/* ---- the bridge's own writes ---- */

int64_t orders_run_deadmen(struct orders *orders)
{
    const struct device_list *list = &orders->setup.conf->devices;
    const int64_t now_ns = clock_mono_ns();
    int64_t next_ns = CLOCK_NEVER;
    uint_fast64_t firing = 0;

    for (unsigned i = 0; i < list->n_devices; i++) {
        struct seat *seat = &orders->seats[i];
        bool was_firing = seat->deadman.state == DEADMAN_FIRING;
        /* An attempt can take longer than the pause: the next one follows its end. */
        bool busy = deadman_next_ns(&seat->deadman) <= now_ns && is_under_way(orders, i);
        double value;
        if (!busy && deadman_due(&seat->deadman, now_ns, &value)) {
            if (!was_firing) {
                log_warning("deadman: no fresh setpoint, writing the fallback device=%s "
                            "value_kw=%g",
                            list->devices[i].name, value);
                seat->own_outcome = OUTCOME_COUNT;
            }
            put_own(orders, i, BY_DEADMAN, value);
        }
        firing += seat->deadman.state == DEADMAN_FIRING;
        if (!busy && deadman_next_ns(&seat->deadman) < next_ns)
            next_ns = deadman_next_ns(&seat->deadman);
    }
    atomic_store_explicit(&orders->setup.health->deadman_firing, firing, memory_order_relaxed);
    return next_ns;
}

bool orders_leave(struct orders *orders)
{
    const struct device_list *list = &orders->setup.conf->devices;
    for (unsigned i = 0; i < list->n_devices && !orders->left; i++) {
        const struct device *device = &list->devices[i];
        if (!device->controllable || device->control.on_exit != DEVICE_FALLBACK)
            continue;
        orders->exits++;
        put_own(orders, i, BY_EXIT, device->control.deadman_value);
    }
    orders->left = true;
    return orders->exits == 0;
}

/* ---- what is open ---- */

int64_t orders_last_write_ns(const struct orders *orders, unsigned device)
{
    return orders->seats[device].last_write_ns;
}

bool orders_has_id(const struct orders *orders, unsigned device, const char *id)
{
    for (unsigned i = 0; i < orders->n_open; i++) {
        const struct open_command *open = &orders->open[i];
        if (open->state == OPEN_WAITING && open->device == device &&
            strcmp(open->command.id, id) == 0)
            return true;
    }
    return false;
}

static bool seats_init(struct orders *orders)
{
    const struct device_list *list = &orders->setup.conf->devices;
    orders->seats = calloc(list->n_devices, sizeof(struct seat));
    for (unsigned i = 0; i < list->n_devices && orders->seats != NULL; i++) {
        const struct device_control *control = &list->devices[i].control;
        orders->seats[i].last_write_ns = INT64_MIN;
        if (list->devices[i].controllable)
            deadman_init(&orders->seats[i].deadman, control->deadman_timeout_ns,
                         control->deadman_value);
    }
    return orders->seats != NULL;
}

struct orders *orders_new(const struct orders_setup *setup)
{
    const struct device_list *list = &setup->conf->devices;
    unsigned n_open = 0;
    for (unsigned i = 0; i < list->n_devices; i++) {
        for (unsigned j = 0; j < list->devices[i].n_points; j++)
            n_open += device_may_write(&list->devices[i], j) ? OPEN_PER_POINT : 0;
    }
    struct orders *orders = calloc(1, sizeof(*orders) + n_open * sizeof(struct open_command));
    if (orders == NULL)
        return NULL;
    orders->setup = *setup;
    orders->n_open = n_open;
    if (!seats_init(orders)) {
        orders_free(orders);
        return NULL;
    }
    return orders;
}

void orders_free(struct orders *orders)
{
    if (orders == NULL)
        return;
    free(orders->seats);
    free(orders);
}
