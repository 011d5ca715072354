#include "bridge/telemetry/poller.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bridge/base/backoff.h"
#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/telemetry/agenda.h"
#include "bridge/telemetry/polled.h"
#include "devices/lines/claim.h"
#include "devices/lines/link_new.h"

/* Pauses between attempts to open a link that cannot be opened. */
#define REOPEN_MIN_NS (CLOCK_NS_PER_S / 2)
#define REOPEN_MAX_NS (10 * CLOCK_NS_PER_S)
/* So many lines are asked at once: whoever is due then waits until one of them has its
 * answer, but no longer than this; slow ones hold up nobody. Devices that answer quickly
 * are asked in one go, so that the thread, and those behind it, wake once for several.
 * The more at once the less a sample costs, and the longer it waits for the others to be
 * sent on (tests/bench/README.md has figures). */
enum { AT_ONCE = 4 };
#define PATIENCE_NS (250 * CLOCK_NS_PER_MS / 1000)
enum { EVENTS = 16, STACK_BYTES = 192 * 1024, BEAT_STEPS_MAX = 8 };

/* A link, and the attempt at a scan that is under way on it. */
struct line {
    struct link *link;
    struct backoff reopen;
    int64_t reopen_ns; /* the link is not opened before this time */
    unsigned n_units;
    struct polled *units;
    struct polled *polled; /* NULL = none is */
    bool opening;          /* before each transaction the link is seen to */
    struct scan scan;
    int64_t begun_ns;
    int64_t taken_ns, ts_ms; /* of the first request; ts_ms 0 = not yet sent */
};

struct poller {
    struct poller_setup setup;
    pthread_t thread;
    int epoll_fd;
    _Atomic int64_t promise_ns;
    atomic_bool stopping; /* waits of polling, not of commands, are cut short */
    char who[CLAIM_TEXT_MAX];
    bool offered; /* a command that its battery had no room for yet */
    struct command command;
    bool left; /* the batteries have, and it was said */
    struct polled_desk desk;
    const struct line *latest[AT_ONCE]; /* those that began last; NULL = none has */
    unsigned turn;                      /* of the next among them */
    int64_t patience_ns;                /* until when the others wait for these */
    unsigned n_lines;
    struct line *lines;
    struct agenda *agenda; /* of lines: its next scan, or the end of what it waits for */
    unsigned n_units, n_batteries;
    struct polled units[]; /* line by line */
};

static void promise(struct poller *poller, int64_t by_ns)
{
    atomic_store_explicit(&poller->promise_ns, by_ns, memory_order_relaxed);
}

/* ---- commands ----
 *
 * A line that takes commands is the only one of its poller. */

static struct polled *unit_of(struct poller *poller, unsigned device)
{
    for (unsigned i = 0; i < poller->n_units; i++) {
        if (poller->units[i].index == device)
            return &poller->units[i];
    }
    return NULL;
}

/* Brings what is in the mailbox to the batteries, as far as they have room. */
static void fetch(struct poller *poller)
{
    while (poller->n_batteries > 0) {
        if (!poller->offered && !mailbox_take(poller->setup.mailbox, &poller->command))
            return;
        struct battery *battery = unit_of(poller, poller->command.device)->battery;
        poller->offered = !battery_put(battery, &poller->command);
        if (poller->offered)
            return;
    }
}

/* The battery that goes first now: one that is to stop, else whose turn came first. */
static struct polled *first_battery(struct poller *poller, int64_t now_ns, int64_t *due_ns)
{
    struct polled *first = NULL;
    *due_ns = CLOCK_NEVER;
    for (unsigned i = 0; poller->n_batteries > 0 && i < poller->n_units; i++) {
        struct polled *unit = &poller->units[i];
        int64_t at_ns = unit->battery != NULL ? battery_due_ns(unit->battery) : CLOCK_NEVER;
        if (at_ns <= now_ns && battery_is_urgent(unit->battery)) {
            *due_ns = at_ns;
            return unit;
        }
        if (at_ns < *due_ns) {
            *due_ns = at_ns;
            first = unit;
        }
    }
    return first;
}

/* The bridge ends: what the batteries have to do about it. */
static void leave(struct poller *poller)
{
    bool left = true;
    if (poller->left || !mailbox_is_leaving(poller->setup.mailbox))
        return;
    for (unsigned i = 0; i < poller->n_units; i++) {
        if (poller->units[i].battery == NULL)
            continue;
        battery_leave(poller->units[i].battery);
        left = left && battery_has_left(poller->units[i].battery);
    }
    poller->left = left;
    if (left)
        mailbox_has_left(poller->setup.mailbox);
}

/* By when the next keepalive of a battery has to have its turn; 0 = there is none. */
static int64_t beat_by_ns(const struct poller *poller)
{
    int64_t by_ns = CLOCK_NEVER;
    for (unsigned i = 0; i < poller->n_units; i++) {
        const struct battery *battery = poller->units[i].battery;
        const int64_t its_ns = battery != NULL ? battery_beat_by_ns(battery) : CLOCK_NEVER;
        by_ns = its_ns < by_ns ? its_ns : by_ns;
    }
    return by_ns != CLOCK_NEVER ? by_ns : 0;
}

static void step(struct poller *poller, struct polled *unit)
{
    struct link *link = poller->lines[0].link;
    /* Opening, waiting until the line is in step, and one transaction, twice for
     * reading the state on a connection that had died. */
    promise(poller, clock_mono_ns() + 8 * unit->device->modbus.timeout_ns);
    link->stop = NULL;
    link->no_later_ns = beat_by_ns(poller);
    battery_step(unit->battery, link);
    link->stop = &poller->stopping;
    polled_tell_battery(unit, &poller->desk);
    if (battery_rest_ns(unit->battery) > unit->rest_ns)
        unit->rest_ns = battery_rest_ns(unit->battery);
}

/* Before something is asked that may take a while: the keepalives whose time comes soon. */
static void serve_beats(struct poller *poller)
{
    for (unsigned i = 0; i < poller->n_units; i++) {
        struct battery *battery = poller->units[i].battery;
        /* One that looks first takes some transactions. */
        for (unsigned n = 0; n < BEAT_STEPS_MAX && battery != NULL && battery_beats(battery); n++)
            step(poller, &poller->units[i]);
    }
}

/* Lets the batteries do what is due: all that is urgent, and what one other
 * command takes; then a transaction of polling has its turn. Between two
 * read-backs nothing but another command is done. */
static void serve_commands(struct poller *poller)
{
    struct epoll_event events[EVENTS];
    for (bool served = false;;) {
        int64_t due_ns, now_ns = clock_mono_ns();
        fetch(poller);
        leave(poller);
        struct polled *unit = first_battery(poller, now_ns, &due_ns);
        if (unit == NULL)
            return;
        const bool urgent = battery_is_urgent(unit->battery) || battery_beats(unit->battery);
        if (due_ns > now_ns && battery_is_busy(unit->battery)) {
            clock_epoll_wait(poller->epoll_fd, events, EVENTS, due_ns);
        } else if (due_ns > now_ns || (served && !urgent)) {
            return;
        } else {
            step(poller, unit);
            served = served || (!urgent && !battery_is_busy(unit->battery));
        }
    }
}

/* The thread ends: every command that was put gets its outcome. */
static void abandon_commands(struct poller *poller)
{
    do {
        fetch(poller);
        for (unsigned i = 0; i < poller->n_units; i++) {
            if (poller->units[i].battery != NULL)
                battery_abandon(poller->units[i].battery);
        }
    } while (poller->offered);
}

/* ---- one scan, as far as it goes without waiting ---- */

static struct polled *next_unit(const struct line *line)
{
    struct polled *next = &line->units[0];
    for (unsigned i = 1; i < line->n_units; i++) {
        if (polled_due_ns(&line->units[i]) < polled_due_ns(next))
            next = &line->units[i];
    }
    return next;
}

static void set_due(struct poller *poller, const struct line *line, int64_t due_ns)
{
    agenda_set(poller->agenda, (unsigned)(line - poller->lines), due_ns);
}

static void rest(struct poller *poller, struct line *line)
{
    line->polled = NULL;
    set_due(poller, line, polled_due_ns(next_unit(line)));
}

/* Every point has its value or its fault. */
static void end_scan(struct poller *poller, struct line *line)
{
    polled_end_scan(line->polled, &poller->desk, &line->scan, line->ts_ms, line->taken_ns,
                    line->link);
    rest(poller, line);
}

static void end_attempt(struct poller *poller, struct line *line, enum scan_step step,
                        enum fault fault)
{
    struct polled *unit = line->polled;
    int64_t now_ns = clock_mono_ns();
    polled_check_values(unit);
    if (step == SCAN_DONE) {
        backoff_up(&line->reopen, now_ns);
        /* What was lost on the way, another attempt may bring. */
        fault =
            line->scan.read > 0 || line->scan.failed == 0 ? line->scan.lost : FAULT_DEVICE_FAILURE;
    }
    if (fault != FAULT_NONE && atomic_load(&poller->stopping)) {
        rest(poller, line); /* cut short: says nothing of the device */
        return;
    }
    polled_count_attempt(unit, &poller->desk, fault, now_ns - line->taken_ns);
    if (fault == FAULT_NONE) {
        end_scan(poller, line);
        return;
    }
    if (line->n_units > 1 &&
        line->scan.read == 0) /* a silent one takes at most a sixth of the others' time */
        unit->rest_ns = now_ns + link_rest_ns(now_ns - line->begun_ns);
    if (polled_fail_attempt(unit, fault, now_ns))
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
        return SCAN_MORE; /* a command that came meanwhile goes first */
    line->opening = false;
    if (line->ts_ms == 0) {
        line->ts_ms = clock_utc_ms();
        line->taken_ns = clock_mono_ns();
    }
    if (*fault == FAULT_NONE)
        return scan_begin_step(&line->scan, line->link, fault);
    return scan_give_up(&line->scan, fault);
}

static void go_on(struct poller *poller, struct line *line)
{
    enum fault fault = FAULT_NONE;
    enum scan_step step;
    do {
        if (!line->link->is_busy) {
            serve_beats(poller);
            line->link->no_later_ns = beat_by_ns(poller);
        }
        promise(poller, clock_mono_ns() + 2 * line->polled->device->modbus.timeout_ns);
        step = take_step(line, &fault);
        if (step == SCAN_BUSY) {
            set_due(poller, line, line->link->until_ns);
            return;
        }
        serve_commands(poller);
        line->opening = true;
    } while (step == SCAN_MORE);
    end_attempt(poller, line, step, fault);
}

/* Begins an attempt at a whole scan. A value read before a failure is not kept
 * for the next attempt: what is published under one time was read at that time. */
static void begin(struct poller *poller, struct line *line)
{
    struct polled *unit = next_unit(line);
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
    poller->latest[poller->turn] = line;
    poller->turn = (poller->turn + 1) % AT_ONCE;
    poller->patience_ns = now_ns + PATIENCE_NS;
    go_on(poller, line);
}

/* ---- the thread ---- */

/* What is wanted is known at once, and done when the transaction under way has ended.
 * A read that only waits for its line to be in step is none yet: it begins anew. */
static void fetch_meanwhile(struct poller *poller)
{
    struct line *line = &poller->lines[0];
    int64_t due_ns, now_ns = clock_mono_ns();
    fetch(poller);
    if (first_battery(poller, now_ns, &due_ns) == NULL || due_ns > now_ns ||
        !link_withdraw(line->link))
        return;
    line->opening = true;
    set_due(poller, line, now_ns);
    serve_commands(poller);
}

/* Whether as many as may be asked at once wait for their answers. */
static bool is_crowded(const struct poller *poller)
{
    unsigned n_busy = 0;
    for (unsigned i = 0; i < AT_ONCE; i++)
        n_busy += poller->latest[i] != NULL && poller->latest[i]->link->is_busy;
    return n_busy == AT_ONCE;
}

/* The line that is due first, and when there is something to do for it: it may have to
 * wait its turn. */
static struct line *first_due(const struct poller *poller, int64_t *wake_ns)
{
    struct line *line = &poller->lines[agenda_first(poller->agenda, wake_ns)];
    if (line->polled == NULL && *wake_ns < poller->patience_ns && is_crowded(poller))
        *wake_ns = poller->patience_ns;
    return line;
}

/* Does what is due first, if it is; returns when there will be more. */
static int64_t work(struct poller *poller)
{
    int64_t wake_ns;
    struct line *line = first_due(poller, &wake_ns);
    if (wake_ns > clock_mono_ns())
        return wake_ns;
    if (line->polled != NULL)
        go_on(poller, line); /* what it waited for has not come in time */
    else
        begin(poller, line);
    (void)first_due(poller, &wake_ns);
    return wake_ns;
}

static void *poller_thread(void *argument)
{
    struct poller *poller = argument;
    struct epoll_event events[EVENTS];
    while (!mailbox_is_stopped(poller->setup.mailbox)) {
        if (poller->lines[0].link->is_busy)
            fetch_meanwhile(poller);
        else
            serve_commands(poller);
        int64_t until_ns = work(poller), due_ns = CLOCK_NEVER;
        if (!poller->lines[0].link->is_busy)
            (void)first_battery(poller, INT64_MIN, &due_ns);
        if (due_ns < until_ns)
            until_ns = due_ns;
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
    abandon_commands(poller);
    promise(poller, CLOCK_NEVER);
    for (unsigned i = 0; i < poller->n_lines; i++)
        link_close(poller->lines[i].link);
    return NULL;
}

/* ---- start and stop ---- */

static void poller_free(struct poller *poller)
{
    for (unsigned i = 0; i < poller->n_units; i++)
        polled_destroy(&poller->units[i]);
    for (unsigned i = 0; i < poller->n_lines; i++)
        link_free(poller->lines[i].link);
    if (poller->epoll_fd != -1)
        close(poller->epoll_fd);
    free(poller->lines);
    agenda_free(poller->agenda);
    free(poller);
}

/* The line of a link with all its units. False when out of memory. */
static bool line_init(struct poller *poller, struct line *line, unsigned link)
{
    const struct device_list *devices = &poller->setup.conf->devices;
    struct due_place place = {.link = link, .n_links = devices->n_links};
    bool good = true;

    *line = (struct line){.units = &poller->units[poller->n_units]};
    backoff_init(&line->reopen, REOPEN_MIN_NS, REOPEN_MAX_NS, 0, link + 1);
    for (unsigned i = 0; i < devices->n_devices; i++)
        place.n_units += devices->devices[i].link == link;
    for (unsigned i = 0; i < devices->n_devices; i++) {
        if (devices->devices[i].link != link)
            continue;
        struct polled *unit = &poller->units[poller->n_units++];
        place.unit = line->n_units++;
        good = polled_init(unit, &poller->desk, &devices->devices[i], i, place.n_units > 1) && good;
        poller->n_batteries += unit->battery != NULL;
        due_init(&unit->schedule, unit->device->poll_ns, poller->setup.origin_ns, &place);
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

    for (unsigned i = 0; i < devices->n_devices; i++) {
        if (devices->devices[i].poller != setup->poller)
            continue;
        n_units++;
        n_lines += device_is_first(devices, i);
    }
    if (n_lines == 0)
        return NULL; /* no such poller */
    struct poller *poller = calloc(1, sizeof(*poller) + n_units * sizeof(struct polled));
    if (poller == NULL)
        return NULL;
    poller->setup = *setup;
    poller->epoll_fd = -1;
    (void)snprintf(poller->who, sizeof(poller->who), "fluxbridge of site %s, process %d",
                   setup->conf->site, (int)getpid());
    poller->desk = (struct polled_desk){
        .outbox = setup->outbox,
        .inbox = setup->inbox,
        .audit = setup->audit,
        .health = setup->health,
        .energy = setup->energy,
        .scans = setup->scans,
        .state = setup->state,
        .run = setup->run,
        .who = poller->who,
        .layouts = setup->layouts,
        .latest = setup->latest,
    };
    poller->lines = calloc(n_lines, sizeof(*poller->lines));
    poller->agenda = agenda_new(n_lines);
    promise(poller, CLOCK_NEVER);
    if (poller->lines == NULL || poller->agenda == NULL || !lines_init(poller)) {
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
