#include "bridge/telemetry/polled.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/wire/sample_json.h"
#include "devices/registers/codec.h"

bool polled_init(struct polled *unit, const struct device *device, unsigned index)
{
    *unit = (struct polled){
        .index = index,
        .device = device,
        .plan = plan_new(device, NULL),
        .control = device->controllable ? control_new(device) : NULL,
        .values = calloc(device->n_points, sizeof(struct value)),
        .plausible = calloc(device->n_points, sizeof(struct plausible)),
        .change = on_change_new(device),
        .last_write_ns = INT64_MIN,
    };
    if (unit->control != NULL && !control_is_sole(unit->control))
        log_warning("another fluxbridge writes to this device: commands are refused until it ends "
                    "device=%s",
                    device->name);
    return unit->plan != NULL && unit->values != NULL && unit->plausible != NULL &&
           unit->change != NULL && (unit->control != NULL || !device->controllable);
}

void polled_destroy(struct polled *unit)
{
    plan_free(unit->plan);
    control_free(unit->control);
    on_change_free(unit->change);
    free(unit->plausible);
    free(unit->values);
}

int64_t polled_due_ns(const struct polled *unit)
{
    return unit->attempts > 0 ? unit->retry_ns : unit->schedule.due_ns;
}

/* ---- orders ---- */

/* Whether a newer write has made the bridge's own one pointless. */
static bool is_overtaken(const struct polled *unit, const struct order *order)
{
    return order->unless_ns != 0 && unit->last_write_ns > order->unless_ns;
}

void polled_obey(struct polled *unit, const struct polled_desk *desk, struct link *link,
                 const struct order *order)
{
    struct report report = {
        .order = *order, .outcome = OUTCOME_SUPERSEDED, .done_ns = clock_mono_ns()};
    if (!is_overtaken(unit, order)) {
        control_run(unit->control, link, order, &unit->last_write_ns, &report);
        if (report.written_ns != 0) {
            unit->unsettled = report.outcome == OUTCOME_UNKNOWN;
            unit->uncertain = report;
        }
        unit->ordered_ns = report.done_ns;
    }
    inbox_put_report(desk->inbox, &report);
}

/* After an order that ended as unknown: the first poll that begins later and
 * reads the point tells what the device holds. */
static void settle(struct polled *unit, const struct polled_desk *desk, int64_t now_ns)
{
    struct report *report = &unit->uncertain;
    const struct value *value = &unit->values[report->order.point];
    if (!unit->unsettled || value->state != VALUE_READ)
        return;
    struct value written = codec_decode(&unit->device->points[report->order.point], report->words);
    unit->unsettled = false;
    report->kind = REPORT_CORRECTION;
    report->outcome = value->raw == written.raw ? OUTCOME_CONFIRMED : OUTCOME_MISMATCH;
    report->has_readback = true;
    report->readback = value->number;
    report->done_ns = now_ns;
    report->detail[0] = '\0';
    inbox_put_report(desk->inbox, report);
}

/* Once: which setpoint the battery holds when the bridge comes up. */
static void report_found(struct polled *unit, const struct polled_desk *desk, int64_t now_ns)
{
    if (unit->found || unit->control == NULL)
        return;
    const struct value *value = &unit->values[unit->device->control.setpoint];
    if (value->state != VALUE_READ)
        return;
    unit->found = true;
    inbox_put_report(desk->inbox, &(struct report){.kind = REPORT_FOUND,
                                                   .order = {.device = unit->index},
                                                   .has_readback = true,
                                                   .readback = value->number,
                                                   .done_ns = now_ns});
}

/* ---- one scan ---- */

/* What came of a scan, for whoever watches this device. */
static void count_values(const struct polled *unit, const struct polled_desk *desk,
                         int64_t taken_ns)
{
    struct health_device *counters = &desk->health->devices[unit->index];
    bool good = false;
    for (unsigned i = 0; i < unit->device->n_points; i++) {
        const struct value *value = &unit->values[i];
        good = good || value->state == VALUE_READ;
        if (value->state == VALUE_FAULT)
            health_count(&counters->errors[value->fault]);
    }
    if (good)
        atomic_store_explicit(&counters->last_good_ns, taken_ns, memory_order_relaxed);
}

void polled_count_attempt(const struct polled *unit, const struct polled_desk *desk,
                          enum fault fault, int64_t duration_ns)
{
    struct health_device *counters = &desk->health->devices[unit->index];
    health_count(&counters->polls);
    if (fault == FAULT_NONE)
        health_duration(counters, duration_ns);
}

static void publish(struct polled *unit, const struct polled_desk *desk, int64_t ts_ms,
                    int64_t taken_ns)
{
    struct energy_kwh energy = {0};
    const struct layout layout = sample_layout(unit->device);
    struct sample sample = {
        .layout = &layout,
        .ts_ms = ts_ms,
        .quality = sample_quality(unit->values, unit->device->n_points),
        .values = unit->values,
    };
    strcpy(sample.run, desk->run);
    sample.has_energy = energy_note(desk->energy, unit->index, taken_ns, unit->values, &energy);
    sample.charged_kwh = energy.charged;
    sample.discharged_kwh = energy.discharged;
    count_values(unit, desk, taken_ns);
    if (!on_change_is_news(unit->change, unit->values, taken_ns))
        return;
    sample.seq = ++unit->seq;
    size_t size = sample_json(&sample, desk->text, desk->text_size);
    outbox_put_sample(desk->outbox, unit->index, taken_ns, desk->text, size);
    health_count(&desk->health->samples);
}

static void note_presence(struct polled *unit, const struct polled_desk *desk,
                          const struct scan *scan, int64_t now_ns, const char *why)
{
    const char *name = unit->device->name;
    bool down = scan->read == 0;
    if (scan->read + scan->failed == 0)
        return; /* nothing was due: nothing is known anew */
    if (down) {
        health_count(&desk->health->samples_bad);
        if (!unit->down) {
            log_warning("device offline device=%s fault=%s why=\"%s\"", name,
                        fault_word(unit->fault), why);
            unit->since_ns = now_ns;
        }
    } else if (unit->down) {
        log_info("device online again device=%s after_s=%lld", name,
                 (long long)((now_ns - unit->since_ns) / CLOCK_NS_PER_S));
    } else if (!unit->seen) {
        log_info("device online device=%s", name);
    }
    if (!down && scan->failed != unit->refused) {
        log_warning("points not read device=%s refused=%u of=%u", name, scan->failed,
                    scan->failed + scan->read);
        unit->refused = scan->failed;
    }
    unit->seen = unit->seen || !down;
    unit->down = down;
    /* Always said, not only at a change: the supervisor may have said otherwise. */
    outbox_set_online(desk->outbox, unit->index, !down);
}

void polled_check_values(struct polled *unit)
{
    for (unsigned i = 0; i < unit->device->n_points; i++)
        plausible_check(&unit->device->points[i], &unit->plausible[i], &unit->values[i]);
}

bool polled_fail_attempt(struct polled *unit, enum fault fault, int64_t now_ns)
{
    unit->fault = fault;
    unit->attempts++;
    if (unit->down || unit->attempts >= unit->device->modbus.retry_count)
        return false;
    unit->retry_ns = now_ns + unit->attempts * CLOCK_NS_PER_S;
    if (unit->retry_ns < unit->rest_ns)
        unit->retry_ns = unit->rest_ns;
    return true;
}

void polled_end_scan(struct polled *unit, const struct polled_desk *desk, const struct scan *scan,
                     int64_t ts_ms, int64_t taken_ns, const char *why)
{
    int64_t now_ns = clock_mono_ns();
    uint64_t missed = unit->schedule.missed;
    unit->attempts = 0;
    unit->scans++;
    publish(unit, desk, ts_ms, taken_ns);
    note_presence(unit, desk, scan, now_ns, why);
    /* A scan that an order came between may have read what was there before. */
    if (taken_ns >= unit->ordered_ns) {
        settle(unit, desk, now_ns);
        report_found(unit, desk, now_ns);
    }
    due_served(&unit->schedule, now_ns);
    atomic_fetch_add_explicit(&desk->health->missed_ticks, unit->schedule.missed - missed,
                              memory_order_relaxed);
}
