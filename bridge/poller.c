#include "bridge/poller.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

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
/* Lines begin one after the other: whoever is due waits so long for the answer
 * to the request before his. Devices that answer quickly are asked in one go, for
 * which the thread wakes once each; slow ones hold up nobody. */
#define PATIENCE_NS (250 * CLOCK_NS_PER_MS / 1000)
enum { EVENTS = 16, STACK_BYTES = 192 * 1024 };

/* A device and where its polling stands. */
struct unit {
    unsigned index; /* of the device in the configuration */
    const struct device *device;
    struct line *line;
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

/* A link, and the attempt at a scan that is under way on it. */
struct line {
    struct link *link;
    struct backoff reopen;
    int64_t reopen_ns; /* the link is not opened before this time */
    unsigned n_units;
    struct unit *units;
    struct unit *polled; /* NULL = none is */
    bool opening;        /* before each transaction the link is seen to */
    struct scan scan;
    int64_t begun_ns;
    int64_t taken_ns, ts_ms; /* of the first request; ts_ms 0 = not yet sent */
};

struct poller {
    struct poller_setup setup;
    pthread_t thread;
    int epoll_fd;
    _Atomic int64_t promise_ns;
    atomic_bool stopping; /* waits of polling, not of orders, are cut short */
    char *text;           /* room for one sample */
    size_t text_size;
    const struct line *latest; /* of all the one that began last, and until when */
    int64_t patience_ns;       /* the others wait for it */
    unsigned n_lines;
    struct line *lines;
    int64_t *due_ns; /* per line: its next scan, or the end of what it waits for */
    unsigned n_units;
    struct unit units[]; /* line by line */
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
 * a transaction of polling pass. Called between any two transactions: a line
 * that takes orders is the only one of its poller. */
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
        unit->line->link->stop = NULL;
        control_run(unit->control, unit->line->link, &order, &unit->last_write_ns, &report);
        unit->line->link->stop = &poller->stopping;
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

static void note_presence(struct poller *poller, struct unit *unit, int64_t now_ns)
{
    const struct scan *scan = &unit->line->scan;
    const char *name = unit->device->name;
    bool down = scan->read == 0;
    if (scan->read + scan->failed == 0)
        return; /* nothing was due: nothing is known anew */
    if (down) {
        health_count(&poller->setup.health->samples_bad);
        if (!unit->down) {
            log_warning("device offline device=%s fault=%s why=\"%s\"", name,
                        fault_word(unit->fault), unit->line->link->error);
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

/* ---- one scan, as far as it goes without waiting ---- */

static int64_t due_ns(const struct unit *unit)
{
    return unit->attempts > 0 ? unit->retry_ns : unit->schedule.due_ns;
}

static struct unit *next_unit(const struct line *line)
{
    struct unit *next = &line->units[0];
    for (unsigned i = 1; i < line->n_units; i++) {
        if (due_ns(&line->units[i]) < due_ns(next))
            next = &line->units[i];
    }
    return next;
}

static void rest(struct poller *poller, struct line *line)
{
    line->polled = NULL;
    poller->due_ns[line - poller->lines] = due_ns(next_unit(line));
}

/* Every point has its value or its fault. */
static void end_scan(struct poller *poller, struct line *line)
{
    struct unit *unit = line->polled;
    int64_t now_ns = clock_mono_ns();
    uint64_t missed = unit->schedule.missed;
    unit->attempts = 0;
    unit->scans++;
    publish(poller, unit, line->ts_ms, line->taken_ns);
    note_presence(poller, unit, now_ns);
    /* A scan that an order came between may have read what was there before. */
    if (line->taken_ns >= unit->ordered_ns) {
        settle(poller, unit, now_ns);
        report_found(poller, unit, now_ns);
    }
    schedule_served(&unit->schedule, now_ns);
    atomic_fetch_add_explicit(&poller->setup.health->missed_ticks, unit->schedule.missed - missed,
                              memory_order_relaxed);
    rest(poller, line);
}

/* Whether the device is to be asked once more before the scan counts as failed. */
static bool fail_attempt(struct line *line, enum fault fault, int64_t now_ns)
{
    struct unit *unit = line->polled;
    unit->fault = fault;
    if (line->n_units > 1)
        unit->rest_ns = now_ns + REST_FACTOR * (now_ns - line->begun_ns);
    unit->attempts++;
    if (unit->down || unit->attempts >= unit->device->modbus.retry_count)
        return false;
    unit->retry_ns = now_ns + unit->attempts * CLOCK_NS_PER_S;
    if (unit->retry_ns < unit->rest_ns)
        unit->retry_ns = unit->rest_ns;
    return true;
}

static void end_attempt(struct poller *poller, struct line *line, enum scan_step step,
                        enum fault fault)
{
    struct unit *unit = line->polled;
    int64_t now_ns = clock_mono_ns();
    for (unsigned i = 0; i < unit->device->n_points; i++)
        plausible_check(&unit->device->points[i], &unit->plausible[i], &unit->values[i]);
    if (step == SCAN_DONE) {
        backoff_up(&line->reopen, now_ns);
        fault = line->scan.read > 0 || line->scan.failed == 0 ? FAULT_NONE : FAULT_DEVICE_FAILURE;
    }
    if (fault != FAULT_NONE && atomic_load(&poller->stopping)) {
        rest(poller, line); /* cut short: says nothing of the device */
        return;
    }
    count_attempt(poller, unit, fault, now_ns - line->taken_ns);
    if (fault != FAULT_NONE && fail_attempt(line, fault, now_ns))
        rest(poller, line);
    else
        end_scan(poller, line);
}

/* Sees to the link. FAULT_CONNECTION while it rests after a failure. */
static enum fault see_to_link(struct line *line)
{
    struct link *link = line->link;
    if (!link->is_open && !link->is_busy && clock_mono_ns() < line->reopen_ns)
        return FAULT_CONNECTION;
    enum fault fault = link->is_busy
                           ? link_go_on(link, NULL)
                           : link_begin_open(link, line->polled->device->modbus.timeout_ns);
    if (fault != FAULT_NONE)
        line->reopen_ns = backoff_down(&line->reopen, clock_mono_ns());
    return fault;
}

static enum scan_step take_step(struct line *line, enum fault *fault)
{
    if (!line->opening)
        return scan_go_on(&line->scan, line->link, fault);
    bool waited = line->link->is_busy;
    *fault = see_to_link(line);
    if (line->link->is_busy)
        return SCAN_BUSY;
    if (waited && *fault == FAULT_NONE)
        return SCAN_MORE; /* an order that came meanwhile goes first */
    line->opening = false;
    if (line->ts_ms == 0) {
        line->ts_ms = clock_utc_ms();
        line->taken_ns = clock_mono_ns();
    }
    if (*fault == FAULT_NONE)
        return scan_begin_step(&line->scan, line->link, fault);
    scan_break(&line->scan, *fault);
    return SCAN_BROKEN;
}

static void go_on(struct poller *poller, struct line *line)
{
    enum fault fault = FAULT_NONE;
    enum scan_step step;
    do {
        /* A serial line waits on the spot. */
        promise(poller, clock_mono_ns() + 2 * line->polled->device->modbus.timeout_ns);
        step = take_step(line, &fault);
        if (step == SCAN_BUSY) {
            poller->due_ns[line - poller->lines] = line->link->until_ns;
            return;
        }
        serve_orders(poller);
        line->opening = true;
    } while (step == SCAN_MORE);
    end_attempt(poller, line, step, fault);
}

/* Begins an attempt at a whole scan. A value read before a failure is not kept
 * for the next attempt: what is published under one time was read at that time. */
static void begin(struct poller *poller, struct line *line)
{
    struct unit *unit = next_unit(line);
    int64_t now_ns = clock_mono_ns();
    line->polled = unit;
    line->begun_ns = line->taken_ns = now_ns;
    line->ts_ms = 0;
    line->opening = true;
    scan_begin(&line->scan, unit->plan, unit->device, unit->scans, unit->values);
    if (now_ns < unit->rest_ns) {
        /* Not asked now, so as not to keep its neighbours waiting. */
        scan_break(&line->scan, unit->fault);
        line->ts_ms = clock_utc_ms();
        end_scan(poller, line);
        return;
    }
    poller->latest = line;
    poller->patience_ns = now_ns + PATIENCE_NS;
    go_on(poller, line);
}

/* ---- the thread ---- */

static struct line *first_due(const struct poller *poller)
{
    unsigned first = 0;
    for (unsigned i = 1; i < poller->n_lines; i++) {
        if (poller->due_ns[i] < poller->due_ns[first])
            first = i;
    }
    return &poller->lines[first];
}

/* When there is something to do: what is due first may have to wait its turn. */
static int64_t wake_ns(const struct poller *poller)
{
    const struct line *line = first_due(poller);
    int64_t line_ns = poller->due_ns[line - poller->lines];
    bool waits = line->polled == NULL && poller->latest != NULL && poller->latest->link->is_busy &&
                 line_ns < poller->patience_ns;
    return waits ? poller->patience_ns : line_ns;
}

/* Does what is due first, if it is; returns when there will be more. */
static int64_t work(struct poller *poller)
{
    if (wake_ns(poller) <= clock_mono_ns()) {
        struct line *line = first_due(poller);
        if (line->polled != NULL)
            go_on(poller, line); /* what it waited for has not come in time */
        else
            begin(poller, line);
    }
    return wake_ns(poller);
}

static void *poller_thread(void *argument)
{
    struct poller *poller = argument;
    struct epoll_event events[EVENTS];
    while (!mailbox_is_stopped(poller->setup.mailbox)) {
        if (!poller->lines[0].link->is_busy)
            serve_orders(poller);
        int64_t until_ns = work(poller);
        int64_t now_ns = clock_mono_ns();
        promise(poller, until_ns > now_ns ? until_ns : now_ns); /* what is overdue is so no less */
        int n = clock_epoll_wait(poller->epoll_fd, events, EVENTS, until_ns);
        for (int i = 0; i < n; i++) {
            struct line *line = events[i].data.ptr; /* NULL: the mailbox */
            if (line != NULL && line->link->is_busy)
                go_on(poller, line);
        }
    }
    for (unsigned i = 0; i < poller->n_lines; i++) {
        if (poller->lines[i].link->is_busy)
            link_close(poller->lines[i].link);
    }
    serve_orders(poller);
    promise(poller, CLOCK_NEVER);
    for (unsigned i = 0; i < poller->n_lines; i++)
        link_close(poller->lines[i].link);
    return NULL;
}

/* ---- start and stop ---- */

static void poller_free(struct poller *poller)
{
    for (unsigned i = 0; i < poller->n_units; i++) {
        plan_free(poller->units[i].plan);
        control_free(poller->units[i].control);
        change_free(poller->units[i].change);
        free(poller->units[i].plausible);
        free(poller->units[i].values);
    }
    for (unsigned i = 0; i < poller->n_lines; i++)
        link_free(poller->lines[i].link);
    if (poller->epoll_fd != -1)
        close(poller->epoll_fd);
    free(poller->lines);
    free(poller->due_ns);
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

/* The line of a link with all its units. False when out of memory. */
static bool line_init(struct poller *poller, struct line *line, unsigned link)
{
    const struct device_list *devices = &poller->setup.conf->devices;
    struct schedule_place place = {.link = link, .n_links = devices->n_links};
    bool good = true;

    *line = (struct line){.units = &poller->units[poller->n_units]};
    backoff_init(&line->reopen, REOPEN_MIN_NS, REOPEN_MAX_NS, 0, link + 1);
    for (unsigned i = 0; i < devices->n_devices; i++)
        place.n_units += devices->devices[i].link == link;
    for (unsigned i = 0; i < devices->n_devices; i++) {
        if (devices->devices[i].link != link)
            continue;
        struct unit *unit = &poller->units[poller->n_units++];
        place.unit = line->n_units++;
        good = unit_init(unit, &poller->setup, i, &place) && good;
        unit->line = line;
    }
    line->link = link_new(&line->units[0].device->modbus);
    if (line->link == NULL)
        return false;
    line->link->stop = &poller->stopping;
    line->link->epoll_fd = poller->epoll_fd;
    line->link->tag = line;
    rest(poller, line);
    return good;
}

static bool lines_init(struct poller *poller)
{
    const struct device_list *devices = &poller->setup.conf->devices;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};

    poller->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (poller->epoll_fd == -1 ||
        epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, mailbox_fd(poller->setup.mailbox), &event) != 0)
        return false;
    for (unsigned i = 0; i < devices->n_devices; i++) {
        if (devices->devices[i].poller == poller->setup.poller && device_is_first(devices, i) &&
            !line_init(poller, &poller->lines[poller->n_lines++], devices->devices[i].link))
            return false;
    }
    return true;
}

static struct poller *poller_new(const struct poller_setup *setup)
{
    const struct device_list *devices = &setup->conf->devices;
    unsigned n_units = 0, n_lines = 0;
    size_t text_size = 1; /* never nothing */

    for (unsigned i = 0; i < devices->n_devices; i++) {
        if (devices->devices[i].poller != setup->poller)
            continue;
        size_t size = wire_sample_room(&devices->devices[i]);
        text_size = size > text_size ? size : text_size;
        n_units++;
        n_lines += device_is_first(devices, i);
    }
    if (n_lines == 0 || text_size == 0)
        return NULL; /* no such poller */
    struct poller *poller = calloc(1, sizeof(*poller) + n_units * sizeof(struct unit));
    if (poller == NULL)
        return NULL;
    poller->setup = *setup;
    poller->epoll_fd = -1;
    poller->text_size = text_size < OUTBOX_PAYLOAD_MAX ? text_size : OUTBOX_PAYLOAD_MAX;
    poller->text = malloc(poller->text_size);
    poller->lines = calloc(n_lines, sizeof(*poller->lines));
    poller->due_ns = calloc(n_lines, sizeof(*poller->due_ns));
    promise(poller, CLOCK_NEVER);
    if (poller->text == NULL || poller->lines == NULL || poller->due_ns == NULL ||
        !lines_init(poller)) {
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
        log_error("out of memory or descriptors for poller=%u", setup->poller);
        return NULL;
    }
    pthread_attr_init(&attributes);
    size_t stack = STACK_BYTES > PTHREAD_STACK_MIN ? STACK_BYTES : (size_t)PTHREAD_STACK_MIN;
    pthread_attr_setstacksize(&attributes, stack);
    int error = pthread_create(&poller->thread, &attributes, poller_thread, poller);
    pthread_attr_destroy(&attributes);
    if (error != 0) {
        log_error("cannot start the poller thread poller=%u error=%d", setup->poller, error);
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
