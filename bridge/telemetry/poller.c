#include "bridge/telemetry/poller.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bridge/base/backoff.h"
#include "bridge/base/clock.h"
#include "bridge/base/halt.h"
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
struct poller_line {
    struct link *link;
    struct backoff reopen;
    int64_t reopen_ns;    /* the link is not opened before this time */
    unsigned at;          /* its place among the poller's lines */
    int64_t due_ns;       /* as it stands in the agenda */
    unsigned link_number; /* in the configuration */
    unsigned n_units;
    struct polled **units;
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
    bool parting; /* a unit is to leave, though the bridge goes on */
    bool left;    /* the batteries have, and it was said */
    struct halt halt;
    struct polled_desk desk;
    const struct poller_line *latest[AT_ONCE]; /* those that began last; NULL = none has */
    unsigned turn;                             /* of the next among them */
    int64_t patience_ns;                       /* until when the others wait for these */
    unsigned n_lines;                          /* may be none while the thread is halted */
    struct poller_line **lines; /* each stays where it is: its link's descriptor knows it */
    unsigned agenda_room;
    struct agenda *agenda; /* of lines: its next scan, or the end of what it waits for */
    unsigned n_batteries;
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
    const struct poller_line *line = poller->lines[0];
    for (unsigned i = 0; i < line->n_units; i++) {
        if (line->units[i]->index == device)
            return line->units[i];
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
    const struct poller_line *line = poller->lines[0];
    struct polled *first = NULL;
    *due_ns = CLOCK_NEVER;
    for (unsigned i = 0; poller->n_batteries > 0 && i < line->n_units; i++) {
        struct polled *unit = line->units[i];
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

/* The bridge ends, or a unit is to be polled no more: what the batteries have to do
 * about it. */
static void leave(struct poller *poller)
{
    const struct poller_line *line = poller->lines[0];
    const bool all = !poller->left && mailbox_is_leaving(poller->setup.mailbox);
    bool left = true;
    if (poller->left || (!all && !poller->parting))
        return;
    for (unsigned i = 0; i < line->n_units; i++) {
        const struct polled *unit = line->units[i];
        if (unit->battery == NULL || (!all && !unit->parts))
            continue;
        battery_leave(unit->battery);
        left = left && battery_has_left(unit->battery);
    }
    poller->left = left;
    if (left)
        mailbox_has_left(poller->setup.mailbox);
}

/* By when the next keepalive of a battery has to have its turn; 0 = there is none. */
static int64_t beat_by_ns(const struct poller *poller)
{
    const struct poller_line *line = poller->lines[0];
    int64_t by_ns = CLOCK_NEVER;
    for (unsigned i = 0; i < line->n_units; i++) {
        const struct battery *battery = line->units[i]->battery;
        const int64_t its_ns = battery != NULL ? battery_beat_by_ns(battery) : CLOCK_NEVER;
        by_ns = its_ns < by_ns ? its_ns : by_ns;
    }
    return by_ns != CLOCK_NEVER ? by_ns : 0;
}

static void step(struct poller *poller, struct polled *unit)
{
    struct link *link = poller->lines[0]->link;
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
    const struct poller_line *line = poller->lines[0];
    for (unsigned i = 0; poller->n_batteries > 0 && i < line->n_units; i++) {
        struct battery *battery = line->units[i]->battery;
        /* One that looks first takes some transactions. */
        for (unsigned n = 0; n < BEAT_STEPS_MAX && battery != NULL && battery_beats(battery); n++)
            step(poller, line->units[i]);
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
        for (unsigned i = 0; i < poller->lines[0]->n_units; i++) {
            if (poller->lines[0]->units[i]->battery != NULL)
                battery_abandon(poller->lines[0]->units[i]->battery);
        }
    } while (poller->offered);
}

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

static void rest(struct poller *poller, struct poller_line *line)
{
    line->polled = NULL;
    set_due(poller, line, polled_due_ns(next_unit(line)));
}

/* Every point has its value or its fault. */
static void end_scan(struct poller *poller, struct poller_line *line)
{
    polled_end_scan(line->polled, &poller->desk, &line->scan, line->ts_ms, line->taken_ns,
                    line->link);
    rest(poller, line);
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
            rest(poller, line);
            return;
        }
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
    promise(poller, CLOCK_NEVER);
    halt_here(&poller->halt);
    promise(poller, clock_mono_ns());
}

static void end_lines(struct poller *poller)
{
    if (poller->n_lines == 0)
        return;
    for (unsigned i = 0; i < poller->n_lines; i++) {
        if (poller->lines[i]->link->is_busy)
            link_close(poller->lines[i]->link);
    }
    abandon_commands(poller);
    promise(poller, CLOCK_NEVER);
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
            serve_commands(poller);
        int64_t until_ns = work(poller), due_ns = CLOCK_NEVER;
        if (!poller->lines[0]->link->is_busy)
            (void)first_battery(poller, INT64_MIN, &due_ns);
        if (due_ns < until_ns)
            until_ns = due_ns;
        int64_t now_ns = clock_mono_ns();
        promise(poller, until_ns > now_ns ? until_ns : now_ns); /* what is overdue is so no less */
        int n = clock_epoll_wait(poller->epoll_fd, events, EVENTS, until_ns);
        for (int i = 0; i < n; i++) {
            struct poller_line *line = events[i].data.ptr; /* NULL: the mailbox */
            if (line != NULL && line->link->is_busy)
                go_on(poller, line);
        }
    }
    end_lines(poller);
    promise(poller, CLOCK_NEVER);
    return NULL;
}

/* ---- lines and units ---- */

static void free_line(struct poller_line *line)
{
    for (unsigned i = 0; i < line->n_units; i++) {
        polled_destroy(line->units[i]);
        free(line->units[i]);
    }
    link_free(line->link);
    free(line->units);
    free(line);
}

static void poller_free(struct poller *poller)
{
    for (unsigned i = 0; i < poller->n_lines; i++)
        free_line(poller->lines[i]);
    if (poller->epoll_fd != -1)
        close(poller->epoll_fd);
    halt_destroy(&poller->halt);
    free(poller->lines);
    agenda_free(poller->agenda);
    free(poller);
}

/* In the agenda, for one line more. False when out of memory. */
static bool make_room(struct poller *poller)
{
    const unsigned room = 2 * poller->n_lines + 1;
    if (poller->n_lines < poller->agenda_room)
        return true;
    struct agenda *agenda = agenda_new(room);
    if (agenda == NULL)
        return false;
    agenda_free(poller->agenda);
    poller->agenda = agenda;
    poller->agenda_room = room;
    for (unsigned i = 0; i < poller->n_lines; i++)
        agenda_set(agenda, i, poller->lines[i]->due_ns);
    return true;
}

/* A new one at the end, without units. NULL when out of memory. */
static struct poller_line *add_line(struct poller *poller, const struct device *device)
{
    const size_t n = poller->n_lines + 1;
    struct poller_line **lines = realloc(poller->lines, n * sizeof(struct poller_line *));
    if (lines != NULL)
        poller->lines = lines;
    struct poller_line *line = calloc(1, sizeof(*line));
    if (lines == NULL || line == NULL || !make_room(poller) ||
        (line->link = link_new(&device->modbus)) == NULL) {
        free(line);
        return NULL;
    }
    line->link->stop = &poller->stopping;
    line->link->epoll_fd = poller->epoll_fd;
    line->link->tag = line;
    line->link_number = device->link;
    backoff_init(&line->reopen, REOPEN_MIN_NS, REOPEN_MAX_NS, 0, device->link + 1);
    line->at = poller->n_lines;
    poller->lines[poller->n_lines++] = line;
    return line;
}

/* Where the device stands on its link, and the link among all. */
static struct due_place place_of(const struct device_list *devices, unsigned index)
{
    const unsigned link = devices->devices[index].link;
    struct due_place place = {.link = link, .n_links = devices->n_links};
    for (unsigned i = 0; i < devices->n_devices; i++) {
        place.n_units += devices->devices[i].link == link;
        place.unit += i < index && devices->devices[i].link == link;
    }
    return place;
}

static struct poller_line *line_of(const struct poller *poller, unsigned link_number)
{
    for (unsigned i = poller->n_lines; i-- > 0;) { /* mostly the last one */
        if (poller->lines[i]->link_number == link_number)
            return poller->lines[i];
    }
    return NULL;
}

bool poller_add(struct poller *poller, unsigned index)
{
    const struct device_list *devices = &poller->setup.conf->devices;
    const struct device *device = &devices->devices[index];
    const struct due_place place = place_of(devices, index);
    struct poller_line *line = line_of(poller, device->link);
    if (line == NULL && (line = add_line(poller, device)) == NULL)
        return false;
    struct polled **units = realloc(line->units, (line->n_units + 1) * sizeof(struct polled *));
    struct polled *unit = calloc(1, sizeof(*unit));
    if (units != NULL)
        line->units = units;
    if (units == NULL || unit == NULL) {
        free(unit);
        return false;
    }
    line->units[line->n_units++] = unit;
    const bool good = polled_init(unit, &poller->desk, device, index, place.n_units > 1);
    poller->n_batteries += unit->battery != NULL;
    due_init(&unit->schedule, device->poll_ns, poller->setup.origin_ns, &place);
    const int64_t passed = (clock_mono_ns() - unit->schedule.due_ns) / device->poll_ns;
    if (passed > 0) /* ticks that were never meant for it */
        unit->schedule.due_ns += passed * device->poll_ns;
    if (line->polled == NULL)
        rest(poller, line);
    return good;
}

void poller_part(struct poller *poller, unsigned device)
{
    struct polled *unit = unit_of(poller, device);
    if (unit == NULL || unit->battery == NULL)
        return;
    unit->parts = poller->parting = true;
    poller->left = false;
    mailbox_stay(poller->setup.mailbox);
}

static struct polled *find_unit(const struct poller *poller, unsigned device,
                                struct poller_line **line, unsigned *at)
{
    for (unsigned i = 0; i < poller->n_lines; i++) {
        *line = poller->lines[i];
        for (*at = 0; *at < (*line)->n_units; ++*at)
            if ((*line)->units[*at]->index == device)
                return (*line)->units[*at];
    }
    return NULL;
}

void poller_end(struct poller *poller, unsigned device)
{
    struct poller_line *line;
    unsigned at;
    struct polled *unit = find_unit(poller, device, &line, &at);
    if (unit == NULL)
        return;
    unit->ends = true;
    if (line->polled == NULL)
        rest(poller, line);
}

/* Whatever was meant for it gets its outcome. */
static void abandon(struct poller *poller, const struct polled *unit)
{
    struct command command;
    if (unit->battery == NULL)
        return;
    battery_abandon(unit->battery);
    if (poller->offered && poller->command.device == unit->index) {
        (void)battery_put(unit->battery, &poller->command);
        poller->offered = false;
    }
    while (mailbox_take_of(poller->setup.mailbox, unit->index, &command)) {
        battery_abandon(unit->battery);
        (void)battery_put(unit->battery, &command);
    }
    battery_abandon(unit->battery);
}

static void drop_line(struct poller *poller, struct poller_line *line)
{
    poller->n_lines--;
    for (unsigned i = line->at; i < poller->n_lines; i++) {
        poller->lines[i] = poller->lines[i + 1];
        poller->lines[i]->at = i;
        agenda_set(poller->agenda, i, poller->lines[i]->due_ns);
    }
    agenda_set(poller->agenda, poller->n_lines, CLOCK_NEVER);
    for (unsigned i = 0; i < AT_ONCE; i++)
        if (poller->latest[i] == line)
            poller->latest[i] = NULL;
    if (line->link->is_busy)
        link_close(line->link);
    link_close(line->link);
    free_line(line);
}

static void drop_unit(struct poller *poller, struct poller_line *line, unsigned at)
{
    struct polled *unit = line->units[at];
    abandon(poller, unit);
    if (line->polled == unit) { /* in the middle of an attempt */
        if (line->link->is_busy)
            link_close(line->link);
        line->polled = NULL;
    }
    poller->n_batteries -= unit->battery != NULL;
    polled_destroy(unit);
    free(unit);
    line->n_units--;
    for (unsigned i = at; i < line->n_units; i++)
        line->units[i] = line->units[i + 1];
    if (line->n_units == 0)
        drop_line(poller, line);
    else if (line->polled == NULL)
        rest(poller, line);
}

bool poller_drop(struct poller *poller, unsigned device)
{
    struct poller_line *line;
    unsigned at;
    if (find_unit(poller, device, &line, &at) != NULL) {
        drop_unit(poller, line, at);
        poller->left = poller->parting = false;
        mailbox_stay(poller->setup.mailbox);
    }
    return poller->n_lines > 0;
}

/* ---- start and stop ---- */

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

static struct poller *poller_new(const struct poller_setup *setup)
{
    struct poller *poller = calloc(1, sizeof(*poller));
    if (poller == NULL)
        return NULL;
    poller->setup = *setup;
    poller->epoll_fd = -1;
    halt_init(&poller->halt);
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
    promise(poller, CLOCK_NEVER);
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
