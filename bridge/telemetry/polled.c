#include "bridge/telemetry/polled.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "devices/registers/codec.h"

#define PRESENCE_DAMP_NS CLOCK_NS_PER_S

static void tell(void *context, const struct outcome *outcome)
{
    const struct polled_desk *desk = context;
    inbox_put_outcome(desk->inbox, outcome);
}

static bool is_recorded(void *context)
{
    const struct polled_desk *desk = context;
    return desk->audit == NULL || audit_was_available(desk->audit);
}

bool polled_init(struct polled *unit, const struct polled_desk *desk, const struct device *device,
                 unsigned index, bool shares_line)
{
    const bool commanded = device_takes_commands(device);
    const struct layout layout = sample_layout(device);
    *unit = (struct polled){
        .index = index,
        .device = device,
        .layout = layouts_keep(desk->layouts, &layout),
        .plan = plan_new(device, NULL),
        .values = calloc(device->n_points, sizeof(struct value)),
        .plausible = calloc(device->n_points, sizeof(struct plausible)),
        .change = on_change_new(device),
        .seq = latest_seq(desk->latest, index), /* one run goes on counting */
    };
    if (commanded)
        unit->scheduled = calloc(1, sizeof(*unit->scheduled));
    if (unit->scheduled != NULL)
        unit->battery = battery_new(&(struct battery_setup){
            .device = device,
            .index = index,
            .run = desk->run,
            .who = desk->who,
            .state = desk->state,
            .health = desk->health,
            .shares_line = shares_line,
            .tell = tell,
            .is_recorded = is_recorded,
            .context = (void *)(uintptr_t)desk,
        });
    return unit->plan != NULL && unit->layout != NULL && unit->values != NULL &&
           unit->plausible != NULL && unit->change != NULL && (unit->battery != NULL || !commanded);
}

void polled_destroy(struct polled *unit)
{
    plan_free(unit->plan);
    battery_free(unit->battery);
    free(unit->scheduled);
    on_change_free(unit->change);
    free(unit->plausible);
    free(unit->values);
}

int64_t polled_due_ns(const struct polled *unit)
{
    if (unit->ends)
        return CLOCK_NEVER;
    return unit->attempts > 0 ? unit->retry_ns : unit->schedule.due_ns;
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
    unsigned char packed[SAMPLE_PACKED_MAX];
    struct sample sample = {
        .layout = unit->layout,
        .ts_ms = ts_ms,
        .quality = sample_quality(unit->values, unit->device->n_points),
        .values = unit->values,
    };
    strcpy(sample.run, desk->run);
    sample.has_energy = energy_note(desk->energy, unit->index, taken_ns, unit->values, &energy);
    sample.charged_kwh = energy.charged;
    sample.discharged_kwh = energy.discharged;
    count_values(unit, desk, taken_ns);
    const bool news = on_change_is_news(unit->change, unit->values, taken_ns);
    const unsigned node = desk->scans != NULL ? scans_nodes(desk->scans) : 0;
    if (!news && node == unit->node)
        return;
    unit->node = node;
    sample.seq = ++unit->seq;
    const size_t size = sample_pack(&sample, packed, sizeof(packed));
    latest_put(desk->latest, unit->index, taken_ns, &sample, packed, size);
    if (desk->scans != NULL)
        scans_put(desk->scans, unit->index, unit->layout, packed, size);
    outbox_put_sample(desk->outbox, unit->index, taken_ns, unit->layout, packed, size);
    health_count(&desk->health->samples);
}

/* The first change at once, then one line a second at most, with how many there were. */
static void say_presence(struct polled *unit, int64_t now_ns, const char *why)
{
    const char *name = unit->device->name;
    char changes[32] = "";
    if (unit->changes == 0 || (unit->told_ns != 0 && now_ns - unit->told_ns < PRESENCE_DAMP_NS))
        return;
    if (unit->changes > 1)
        snprintf(changes, sizeof(changes), " changes=%u", unit->changes);
    if (unit->down)
        log_warning("device offline device=%s fault=%s why=\"%s\"%s", name, fault_word(unit->fault),
                    why, changes);
    else if (unit->since_ns != 0)
        log_info("device online again device=%s after_s=%lld%s", name,
                 (long long)((now_ns - unit->since_ns) / CLOCK_NS_PER_S), changes);
    else
        log_info("device online device=%s", name);
    unit->changes = 0;
    unit->told_ns = now_ns;
}

static void note_presence(struct polled *unit, const struct polled_desk *desk,
                          const struct scan *scan, int64_t now_ns, const char *why)
{
    bool down = scan->read == 0;
    if (scan->read + scan->failed == 0)
        return; /* nothing was due: nothing is known anew */
    if (down)
        health_count(&desk->health->samples_bad);
    if (down && !unit->down)
        unit->since_ns = now_ns;
    unit->changes += down != unit->down || (!down && !unit->seen);
    unit->seen = unit->seen || !down;
    unit->down = down;
    say_presence(unit, now_ns, why);
    /* Always said, not only at a change: the supervisor may have said otherwise. */
    outbox_set_online(desk->outbox, unit->index, !down);
}

/* What the device does not give, as the scans have found out: each once. */
static void explain(struct polled *unit)
{
    char text[PLAN_EXPLANATION_MAX];
    while (plan_explain(unit->plan, text))
        log_warning("%s device=%s type=%s", text, unit->device->name, unit->device->profile->type);
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
                     int64_t ts_ms, int64_t taken_ns, const struct link *link)
{
    int64_t now_ns = clock_mono_ns();
    uint64_t missed = unit->schedule.missed;
    unit->attempts = 0;
    unit->scans++;
    publish(unit, desk, ts_ms, taken_ns);
    note_presence(unit, desk, scan, now_ns, link->error);
    explain(unit);
    if (unit->battery != NULL)
        battery_see(unit->battery, link, unit->values, taken_ns);
    polled_tell_battery(unit, desk);
    due_served(&unit->schedule, now_ns);
    atomic_fetch_add_explicit(&desk->health->missed_ticks, unit->schedule.missed - missed,
                              memory_order_relaxed);
}

static void tell_schedule(struct polled *unit, const struct polled_desk *desk)
{
    struct schedule_status status;
    battery_describe_schedule(unit->battery, &status);
    if (schedule_status_same(&status, unit->scheduled))
        return;
    *unit->scheduled = status;
    latest_put_schedule(desk->latest, unit->index, &status);
    outbox_wake(desk->outbox);
}

void polled_tell_battery(struct polled *unit, const struct polled_desk *desk)
{
    if (unit->battery == NULL)
        return;
    tell_schedule(unit, desk);
    const struct lease lease = battery_lease(unit->battery);
    if (lease.runs == unit->lease.runs && lease.end_ns == unit->lease.end_ns &&
        lease.value == unit->lease.value)
        return;
    unit->lease = lease;
    latest_put_lease(desk->latest, unit->index, &lease);
    outbox_call_control(desk->outbox, unit->index);
}
