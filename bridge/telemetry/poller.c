#include "bridge/telemetry/poller_inside.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

/* How long lines that were asked are waited for before others are. */
#define PATIENCE_NS (250 * CLOCK_NS_PER_MS / 1000)
enum { STACK_BYTES = 192 * 1024 };

/* ---- one scan, as far as it goes without waiting ---- */

static struct polled *next_unit(const struct poller_line *line)
{
    struct polled *next = line->units[0];
    for (unsigned i = 1; i < line->n_units; i++) {
        if (polled_due_ns(line->units[i]) < polled_due_ns(next))
            next = line->units[i];
    }
    return next;
}

static void set_due(struct poller *poller, struct poller_line *line, int64_t due_ns)
{
    line->due_ns = due_ns;
    agenda_set(poller->agenda, line->at, due_ns);
}

void poller_rest(struct poller *poller, struct poller_line *line)
{
    line->polled = NULL;
    set_due(poller, line, polled_due_ns(next_unit(line)));
}

/* Every point has its value or its fault. */
static void end_scan(struct poller *poller, struct poller_line *line)
{
    polled_end_scan(line->polled, &poller->desk, &line->scan, line->ts_ms, line->taken_ns,
                    line->link);
    poller_rest(poller, line);
}

static void end_attempt(struct poller *poller, struct poller_line *line, enum scan_step step,
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
        poller_rest(poller, line); /* cut short: says nothing of the device */
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
        poller_rest(poller, line);
    else
        end_scan(poller, line);
}

/* Sees to the link. FAULT_CONNECTION while it rests after a failure. */
static enum fault see_to_link(struct poller_line *line)
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

static enum scan_step take_step(struct poller_line *line, enum fault *fault)
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

static void go_on(struct poller *poller, struct poller_line *line)
{
    enum fault fault = FAULT_NONE;
    enum scan_step step = SCAN_MORE;
    do {
        if (line->polled->ends && !line->link->is_busy) {
            poller_rest(poller, line);
            return;
        }
        if (!line->link->is_busy) {
            poller_serve_beats(poller);
            line->link->no_later_ns = poller_beat_by_ns(poller);
        }
        poller_promise(poller, 2 * line->polled->device->modbus.timeout_ns);
        step = take_step(line, &fault);
        if (step == SCAN_BUSY) {
            set_due(poller, line, line->link->until_ns);
            return;
        }
        poller_serve_commands(poller);
        line->opening = true;
    } while (step == SCAN_MORE);
    end_attempt(poller, line, step, fault);
}

/* Begins an attempt at a whole scan. A value read before a failure is not kept
 * for the next attempt: what is published under one time was read at that time. */
static void begin(struct poller *poller, struct poller_line *line)
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
    struct poller_line *line = poller->lines[0];
    int64_t due_ns, now_ns = clock_mono_ns();
    (void)poller_fetch(poller);
    if (poller_first_battery(poller, now_ns, &due_ns) == NULL || due_ns > now_ns ||
        !link_withdraw(line->link))
        return;
    line->opening = true;
    set_due(poller, line, now_ns);
    poller_serve_commands(poller);
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
static struct poller_line *first_due(const struct poller *poller, int64_t *wake_ns)
{
    struct poller_line *line = poller->lines[agenda_first(poller->agenda, wake_ns)];
    if (line->polled == NULL && *wake_ns < poller->patience_ns && is_crowded(poller))
        *wake_ns = poller->patience_ns;
    return line;
}

/* Does what is due first, if it is; returns when there will be more. */
static int64_t work(struct poller *poller)
{
    int64_t wake_ns;
    struct poller_line *line = first_due(poller, &wake_ns);
    if (wake_ns > clock_mono_ns())
        return wake_ns;
    if (line->polled != NULL)
        go_on(poller, line); /* what it waited for has not come in time */
    else
        begin(poller, line);
    (void)first_due(poller, &wake_ns);
    return wake_ns;
}

/* Whether some of its units are asked on. */
static bool line_stays(const struct poller_line *line)
{
    bool stays = false;
    for (unsigned i = 0; i < line->n_units; i++)
        stays = stays || !line->units[i]->ends;
    return stays;
}

/* Whether one that ends has been asked, on a line that stays: its answer comes first, or its
 * timeout. To hang up would cost its neighbours their connection. */
static bool is_asking_last(const struct poller *poller)
{
    bool asking = false;
    for (unsigned i = 0; i < poller->n_lines; i++) {
        const struct poller_line *line = poller->lines[i];
        asking = asking || (line->polled != NULL && line->polled->ends && line->link->is_busy &&
                            line_stays(line));
    }
    return asking;
}

/* Between two of these nothing of the poller changes but by its own thread. */
static void halt_if_asked(struct poller *poller)
{
    if (!halt_is_asked(&poller->halt) || is_asking_last(poller))
        return;
    poller_promise(poller, CLOCK_NEVER);
    halt_here(&poller->halt);
    poller_promise(poller, 0);
}

static void end_lines(struct poller *poller)
{
    if (poller->n_lines == 0)
        return;
    for (unsigned i = 0; i < poller->n_lines; i++) {
        if (poller->lines[i]->link->is_busy)
            link_close(poller->lines[i]->link);
    }
    poller_abandon_commands(poller);
    poller_promise(poller, CLOCK_NEVER);
    for (unsigned i = 0; i < poller->n_lines; i++)
        link_close(poller->lines[i]->link);
}

static void *poller_thread(void *argument)
{
    struct poller *poller = argument;
    struct epoll_event events[EVENTS];
    for (;;) {
        halt_if_asked(poller);
        if (mailbox_is_stopped(poller->setup.mailbox))
            break;
        if (poller->lines[0]->link->is_busy)
            fetch_meanwhile(poller);
        else
            poller_serve_commands(poller);
        int64_t until_ns = work(poller), due_ns = CLOCK_NEVER;
        if (!poller->lines[0]->link->is_busy)
            (void)poller_first_battery(poller, INT64_MIN, &due_ns);
        if (due_ns < until_ns)
            until_ns = due_ns;
        int64_t now_ns = clock_mono_ns();
        /* What is overdue is so no less. */
        poller_promise(poller, until_ns == CLOCK_NEVER ? CLOCK_NEVER
                               : until_ns > now_ns     ? until_ns - now_ns
                                                       : 0);
        int n = clock_epoll_wait(poller->epoll_fd, events, EVENTS, until_ns);
        for (int i = 0; i < n; i++) {
            struct poller_line *line = events[i].data.ptr; /* NULL: the mailbox */
            if (line != NULL && line->link->is_busy)
                go_on(poller, line);
        }
    }
    end_lines(poller);
    poller_promise(poller, CLOCK_NEVER);
    return NULL;
}

/* ---- start and stop ---- */

static void poller_free(struct poller *poller)
{
    for (unsigned i = 0; i < poller->n_lines; i++)
        poller_free_line(poller->lines[i]);
    if (poller->epoll_fd != -1)
        close(poller->epoll_fd);
    halt_destroy(&poller->halt);
    free(poller->lines);
    agenda_free(poller->agenda);
    free(poller);
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
        if (device_is_there(&devices->devices[i]) &&
            devices->devices[i].poller == poller->setup.poller && !poller_add(poller, i))
            return false;
    }
    return poller->n_lines > 0;
}

void poller_rename(struct poller *poller)
{
    (void)snprintf(poller->who, sizeof(poller->who), "fluxbridge of site %s, process %d",
                   poller->setup.conf->site, (int)getpid());
}

static struct poller *poller_new(const struct poller_setup *setup)
{
    struct poller *poller = calloc(1, sizeof(*poller));
    if (poller == NULL)
        return NULL;
    poller->setup = *setup;
    poller->epoll_fd = -1;
    halt_init(&poller->halt);
    poller_rename(poller);
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
    poller_promise(poller, CLOCK_NEVER);
    if (!lines_init(poller)) {
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
    halt_release(&poller->halt);
    pthread_kill(poller->thread, LINK_STOP_SIGNAL);
    pthread_join(poller->thread, NULL);
    poller_free(poller);
}

struct halt *poller_halt(struct poller *poller)
{
    halt_ask(&poller->halt);
    mailbox_wake(poller->setup.mailbox);
    return &poller->halt;
}

int64_t poller_promise_ns(const struct poller *poller)
{
    return atomic_load_explicit(&poller->promise_ns, memory_order_relaxed);
}
