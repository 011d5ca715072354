#include "bridge/poller.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "bridge/backoff.h"
#include "bridge/change.h"
#include "bridge/clock.h"
#include "bridge/log.h"
#include "bridge/schedule.h"
#include "bridge/wire.h"
#include "devices/codec.h"
#include "devices/link_new.h"
#include "devices/plausible.h"
#include "devices/scan.h"

/* A silent device on a shared link rests this many times as long as it made
 * the others wait: it takes at most a sixth of their time. */
enum { REST_FACTOR = 5 };
/* Pauses between attempts to open a link that cannot be opened. */
#define REOPEN_MIN_NS (CLOCK_NS_PER_S / 2)
#define REOPEN_MAX_NS (10 * CLOCK_NS_PER_S)
/* Enough for everything a poller calls, resolving a name included. */
enum { STACK_BYTES = 192 * 1024 };

/* A device and where its polling stands. */
struct unit {
    unsigned index; /* of the device in the configuration */
    const struct device *device;
    struct plan *plan;
    struct control *control; /* NULL: read-only */
    struct value *values;
    struct plausible *plausible; /* per point */
    struct change *change;
    struct schedule schedule;
    uint64_t scans; /* done */
    uint64_t seq;
    int64_t attempts; /* failed, of the scan under way */
    int64_t retry_ns; /* when the next attempt is due, with attempts > 0 */
    int64_t rest_ns;  /* not to be asked before this time */
    enum fault fault; /* of the last attempt that failed */
    bool down;        /* declared offline */
    bool seen;        /* has answered at least once */
    int64_t since_ns; /* of the last change of `down` */
    unsigned refused; /* points refused in the last scan */
    int64_t last_write_ns;
    int64_t ordered_ns;      /* when the last order ended */
    bool found;              /* the setpoint held at start has been reported */
    bool unsettled;          /* the last order ended as unknown: */
    struct report uncertain; /* its report */
};

struct poller {
    struct poller_setup setup;
    pthread_t thread;
    struct link *link;
    struct backoff reopen;
    int64_t reopen_ns; /* the link is not opened before this time */
    _Atomic int64_t promise_ns;
    atomic_bool stopping; /* waits of polling, not of orders, are cut short */
    char *text;           /* room for one sample */
    size_t text_size;
    unsigned n_units;
    struct unit units[];
};

static void promise(struct poller *poller, int64_t by_ns)
{
    atomic_store_explicit(&poller->promise_ns, by_ns, memory_order_relaxed);
}

/* ---- orders ---- */

static struct unit *unit_of(struct poller *poller, unsigned device)
{
    for (unsigned i = 0; i < poller->n_units; i++) {
        if (poller->units[i].index == device)
            return &poller->units[i];
    }
    return NULL;
}

/* Whether a newer write has made the bridge's own one pointless. */
static bool is_overtaken(const struct unit *unit, const struct order *order)
{
    return order->unless_ns != 0 && unit->last_write_ns > order->unless_ns;
}

/* Carries out the orders that wait now; those that come meanwhile have to let
 * a transaction of polling pass. Called between any two transactions. */
static void serve_orders(struct poller *poller)
{
    struct order order;
    for (unsigned n = mailbox_waiting(poller->setup.mailbox);
         n > 0 && mailbox_take(poller->setup.mailbox, &order); n--) {
        struct unit *unit = unit_of(poller, order.device);
        struct report report = {
            .order = order, .outcome = OUTCOME_SUPERSEDED, .done_ns = clock_mono_ns()};
        if (is_overtaken(unit, &order)) {
            inbox_put_report(poller->setup.inbox, &report);
            continue;
        }
        /* Open, state, source and write, each bounded by the timeout, and the
         * read-backs, each bounded by a second. */
        promise(poller,
                clock_mono_ns() + 16 * unit->device->modbus.timeout_ns + 2 * CLOCK_NS_PER_S);
        poller->link->stop = NULL;
        control_run(unit->control, poller->link, &order, &unit->last_write_ns, &report);
        poller->link->stop = &poller->stopping;
        if (report.written_ns != 0) {
            unit->unsettled = report.outcome == OUTCOME_UNKNOWN;
            unit->uncertain = report;
        }
        unit->ordered_ns = report.done_ns;
        inbox_put_report(poller->setup.inbox, &report);
    }
}

/* After an order that ended as unknown: the first poll that begins later and
 * reads the point tells what the device holds. */
static void settle(struct poller *poller, struct unit *unit, int64_t now_ns)
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
    inbox_put_report(poller->setup.inbox, report);
}

/* Once: which setpoint the battery holds when the bridge comes up. */
static void report_found(struct poller *poller, struct unit *unit, int64_t now_ns)
{
    if (unit->found || unit->control == NULL)
        return;
    const struct value *value = &unit->values[unit->device->control.setpoint];
    if (value->state != VALUE_READ)
        return;
    unit->found = true;
    inbox_put_report(poller->setup.inbox, &(struct report){.kind = REPORT_FOUND,
                                                           .order = {.device = unit->index},
                                                           .has_readback = true,
                                                           .readback = value->number,
                                                           .done_ns = now_ns});
}

/* ---- one scan ---- */

/* What came of a scan, for whoever watches this device. */
static void count_values(const struct poller *poller, const struct unit *unit, int64_t taken_ns)
{
    struct health_device *counters = &poller->setup.health->devices[unit->index];
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

static void count_attempt(const struct poller *poller, const struct unit *unit, enum fault fault,
                          int64_t duration_ns)
{
    struct health_device *counters = &poller->setup.health->devices[unit->index];
    health_count(&counters->polls);
    if (fault == FAULT_NONE)
        health_duration(counters, duration_ns);
}

static void publish(struct poller *poller, struct unit *unit, int64_t ts_ms, int64_t taken_ns)
{
    struct energy_kwh energy;
    struct wire_sample sample = {
        .device = unit->device,
        .ts_ms = ts_ms,
        .run = poller->setup.run,
        .values = unit->values,
    };
    if (energy_note(poller->setup.energy, unit->index, taken_ns, unit->values, &energy))
        sample.energy = &energy;
    count_values(poller, unit, taken_ns);
    if (!change_is_news(unit->change, unit->values, taken_ns))
        return;
    sample.seq = ++unit->seq;
    size_t size = wire_sample(&sample, poller->text, poller->text_size);
    outbox_put_sample(poller->setup.outbox, unit->index, taken_ns, poller->text, size);
    health_count(&poller->setup.health->samples);
}

static void note_presence(struct poller *poller, struct unit *unit, const struct scan *scan,
                          int64_t now_ns)
{
    const char *name = unit->device->name;
    bool down = scan->read == 0;
    if (scan->read + scan->failed == 0)
        return; /* nothing was due: nothing is known anew */
    if (down) {
        health_count(&poller->setup.health->samples_bad);
        if (!unit->down) {
            log_warning("device offline device=%s fault=%s why=\"%s\"", name,
                        fault_word(unit->fault), poller->link->error);
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
    outbox_set_online(poller->setup.outbox, unit->index, !down);
}

static enum fault open_link(struct poller *poller, const struct unit *unit)
{
    if (!poller->link->is_open && clock_mono_ns() < poller->reopen_ns)
        return FAULT_CONNECTION;
    enum fault fault = link_open(poller->link, unit->device->modbus.timeout_ns);
    if (fault != FAULT_NONE)
        poller->reopen_ns = backoff_down(&poller->reopen, clock_mono_ns());
    return fault;
}

/* One attempt at the whole scan. A value read before a failure is not kept for
 * the next attempt: what is published under one time was read at that time. */
static enum fault attempt(struct poller *poller, struct unit *unit, struct scan *scan,
                          int64_t *ts_ms, int64_t *taken_ns)
{
    enum scan_step step = SCAN_MORE;
    enum fault fault = FAULT_NONE;

    scan_begin(scan, unit->plan, unit->device, unit->scans, unit->values);
    *ts_ms = 0;
    while (step == SCAN_MORE) {
        promise(poller, clock_mono_ns() + 2 * unit->device->modbus.timeout_ns);
        fault = open_link(poller, unit);
        if (*ts_ms == 0) {
            *ts_ms = clock_utc_ms();
            *taken_ns = clock_mono_ns();
        }
        if (fault != FAULT_NONE) {
            scan_break(scan, fault);
            return fault;
        }
        step = scan_step(scan, poller->link, &fault);
        serve_orders(poller);
    }
    for (unsigned i = 0; i < unit->device->n_points; i++)
        plausible_check(&unit->device->points[i], &unit->plausible[i], &unit->values[i]);
    if (step == SCAN_DONE) {
        backoff_up(&poller->reopen, clock_mono_ns());
        fault = scan->read > 0 || scan->failed == 0 ? FAULT_NONE : FAULT_DEVICE_FAILURE;
    }
    return fault;
}

static void poll_unit(struct poller *poller, struct unit *unit)
{
    const int64_t begun_ns = clock_mono_ns();
    struct scan scan;
    int64_t ts_ms = 0;
    int64_t taken_ns = begun_ns;

    if (begun_ns < unit->rest_ns) {
        /* Not asked now, so as not to keep its neighbours waiting. */
        scan_begin(&scan, unit->plan, unit->device, unit->scans, unit->values);
        scan_break(&scan, unit->fault);
        ts_ms = clock_utc_ms();
    } else {
        enum fault fault = attempt(poller, unit, &scan, &ts_ms, &taken_ns);
        if (fault != FAULT_NONE && atomic_load(&poller->stopping))
            return; /* cut short: says nothing of the device */
        int64_t now_ns = clock_mono_ns();
        count_attempt(poller, unit, fault, now_ns - taken_ns);
        if (fault != FAULT_NONE) {
            unit->fault = fault;
            if (poller->n_units > 1)
                unit->rest_ns = now_ns + REST_FACTOR * (now_ns - begun_ns);
            unit->attempts++;
            if (!unit->down && unit->attempts < unit->device->modbus.retry_count) {
                int64_t pause_ns = unit->attempts * CLOCK_NS_PER_S;
                unit->retry_ns = now_ns + pause_ns;
                if (unit->retry_ns < unit->rest_ns)
                    unit->retry_ns = unit->rest_ns;
                return;
            }
        }
    }
    int64_t now_ns = clock_mono_ns();
    uint64_t missed = unit->schedule.missed;
    unit->attempts = 0;
    unit->scans++;
    publish(poller, unit, ts_ms, taken_ns);
    note_presence(poller, unit, &scan, now_ns);
    /* A scan that an order came between may have read what was there before. */
    if (taken_ns >= unit->ordered_ns) {
        settle(poller, unit, now_ns);
        report_found(poller, unit, now_ns);
    }
    schedule_served(&unit->schedule, now_ns);
    atomic_fetch_add_explicit(&poller->setup.health->missed_ticks, unit->schedule.missed - missed,
                              memory_order_relaxed);
}

/* ---- the thread ---- */

static int64_t due_ns(const struct unit *unit)
{
    return unit->attempts > 0 ? unit->retry_ns : unit->schedule.due_ns;
}

static struct unit *next_unit(struct poller *poller)
{
    struct unit *next = &poller->units[0];
    for (unsigned i = 1; i < poller->n_units; i++) {
        if (due_ns(&poller->units[i]) < due_ns(next))
            next = &poller->units[i];
    }
    return next;
}

static void *poller_thread(void *argument)
{
    struct poller *poller = argument;
    for (;;) {
        struct unit *unit = next_unit(poller);
        promise(poller, due_ns(unit));
        bool going_on = mailbox_wait(poller->setup.mailbox, due_ns(unit));
        serve_orders(poller);
        if (!going_on)
            break;
        if (clock_mono_ns() >= due_ns(unit))
            poll_unit(poller, unit);
    }
    promise(poller, CLOCK_NEVER);
    link_close(poller->link);
    return NULL;
}

static void poller_free(struct poller *poller)
{
    for (unsigned i = 0; i < poller->n_units; i++) {
        plan_free(poller->units[i].plan);
        control_free(poller->units[i].control);
        change_free(poller->units[i].change);
        free(poller->units[i].plausible);
        free(poller->units[i].values);
    }
    link_free(poller->link);
    free(poller->text);
    free(poller);
}

static bool unit_init(struct unit *unit, const struct poller_setup *setup, unsigned index,
                      const struct schedule_place *place)
{
    const struct device *device = &setup->conf->devices.devices[index];
    *unit = (struct unit){
        .index = index,
        .device = device,
        .plan = plan_new(device, NULL),
        .control = device->controllable ? control_new(device) : NULL,
        .values = calloc(device->n_points, sizeof(struct value)),
        .plausible = calloc(device->n_points, sizeof(struct plausible)),
        .change = change_new(device),
        .last_write_ns = INT64_MIN,
    };
    schedule_init(&unit->schedule, device->poll_ns, setup->origin_ns, place);
    if (unit->control != NULL && !control_is_sole(unit->control))
        log_warning("another fluxbridge writes to this device: commands are refused until it ends "
                    "device=%s",
                    device->name);
    return unit->plan != NULL && unit->values != NULL && unit->plausible != NULL &&
           unit->change != NULL && (unit->control != NULL || !device->controllable);
}

static struct poller *poller_new(const struct poller_setup *setup)
{
    const struct device_list *devices = &setup->conf->devices;
    unsigned n_units = 0;
    size_t text_size = 0;
    bool good = true;

    for (unsigned i = 0; i < devices->n_devices; i++)
        n_units += devices->devices[i].link == setup->link;
    struct poller *poller = calloc(1, sizeof(*poller) + n_units * sizeof(struct unit));
    if (poller == NULL)
        return NULL;
    poller->setup = *setup;
    for (unsigned i = 0; i < devices->n_devices; i++) {
        const struct device *device = &devices->devices[i];
        if (device->link != setup->link)
            continue;
        const struct schedule_place place = {.unit = poller->n_units,
                                             .n_units = n_units,
                                             .link = setup->link,
                                             .n_links = devices->n_links};
        good = unit_init(&poller->units[poller->n_units++], setup, i, &place) && good;
        size_t size = wire_sample_room(device);
        text_size = size > text_size ? size : text_size;
    }
    poller->text_size = text_size < OUTBOX_PAYLOAD_MAX ? text_size : OUTBOX_PAYLOAD_MAX;
    poller->text = malloc(poller->text_size);
    poller->link = link_new(&poller->units[0].device->modbus);
    if (poller->link != NULL)
        poller->link->stop = &poller->stopping;
    backoff_init(&poller->reopen, REOPEN_MIN_NS, REOPEN_MAX_NS, 0, setup->link + 1);
    promise(poller, CLOCK_NEVER);
    if (!good || poller->text == NULL || poller->link == NULL) {
        poller_free(poller);
        return NULL;
    }
    return poller;
}

struct poller *poller_start(const struct poller_setup *setup)
{
    pthread_attr_t attributes;
    struct poller *poller = poller_new(setup);
    if (poller == NULL) {
        log_error("out of memory for the poller of link=%u", setup->link);
        return NULL;
    }
    pthread_attr_init(&attributes);
    size_t stack = STACK_BYTES > PTHREAD_STACK_MIN ? STACK_BYTES : (size_t)PTHREAD_STACK_MIN;
    pthread_attr_setstacksize(&attributes, stack);
    int error = pthread_create(&poller->thread, &attributes, poller_thread, poller);
    pthread_attr_destroy(&attributes);
    if (error != 0) {
        log_error("cannot start the poller thread of link=%u error=%d", setup->link, error);
        poller_free(poller);
        return NULL;
    }
    return poller;
}

void poller_stop(struct poller *poller)
{
    if (poller == NULL)
        return;
    atomic_store(&poller->stopping, true);
    pthread_kill(poller->thread, LINK_STOP_SIGNAL);
    pthread_join(poller->thread, NULL);
    poller_free(poller);
}

int64_t poller_promise_ns(const struct poller *poller)
{
    return atomic_load_explicit(&poller->promise_ns, memory_order_relaxed);
}
