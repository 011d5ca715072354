#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/telemetry/poller_inside.h"

enum { BEAT_STEPS_MAX = 8 };
/* For so long commands go before a scan that is due. */
#define STARVED_NS CLOCK_NS_PER_S

/* A line that takes commands is the only one of its poller. */

struct polled *poller_unit_of(struct poller *poller, unsigned device)
{
    const struct poller_line *line = poller->lines[0];
    for (unsigned i = 0; i < line->n_units; i++) {
        if (line->units[i]->index == device)
            return line->units[i];
    }
    return NULL;
}

/* Brings what is in the mailbox to the batteries; what one has no room for waits there and
 * is in no other's way, as does what is for a device that a reload has still to add. Whether
 * all had room. */
bool poller_fetch(struct poller *poller)
{
    const struct poller_line *line = poller->lines[0];
    struct command *command = &poller->command;
    bool all = true;
    for (unsigned i = 0; poller->n_batteries > 0 && i < line->n_units; i++) {
        const struct polled *unit = line->units[i];
        if (unit->battery == NULL)
            continue;
        while (battery_has_room(unit->battery) &&
               mailbox_take_of(poller->setup.mailbox, unit->index, command))
            (void)battery_put(unit->battery, command);
        all = all && battery_has_room(unit->battery);
    }
    return all;
}

/* The battery that goes first now: one that is to stop, else, or among several, whose turn
 * came first. */
struct polled *poller_first_battery(struct poller *poller, int64_t now_ns, int64_t *due_ns)
{
    const struct poller_line *line = poller->lines[0];
    struct polled *first = NULL;
    bool is_urgent = false;
    *due_ns = CLOCK_NEVER;
    for (unsigned i = 0; poller->n_batteries > 0 && i < line->n_units; i++) {
        struct polled *unit = line->units[i];
        int64_t at_ns = unit->battery != NULL ? battery_due_ns(unit->battery) : CLOCK_NEVER;
        const bool stops = at_ns <= now_ns && battery_is_urgent(unit->battery);
        if (stops == is_urgent ? at_ns < *due_ns : stops) {
            *due_ns = at_ns;
            first = unit;
            is_urgent = stops;
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
int64_t poller_beat_by_ns(const struct poller *poller)
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
    poller_promise(poller, 8 * unit->device->modbus.timeout_ns);
    link->stop = NULL;
    link->no_later_ns = poller_beat_by_ns(poller);
    battery_step(unit->battery, link);
    link->stop = &poller->stopping;
    polled_tell_battery(unit, &poller->desk);
    if (battery_rest_ns(unit->battery) > unit->rest_ns)
        unit->rest_ns = battery_rest_ns(unit->battery);
}

/* Before something is asked that may take a while: the keepalives whose time comes soon. */
void poller_serve_beats(struct poller *poller)
{
    const struct poller_line *line = poller->lines[0];
    for (unsigned i = 0; poller->n_batteries > 0 && i < line->n_units; i++) {
        struct battery *battery = line->units[i]->battery;
        /* One that looks first takes some transactions. */
        for (unsigned n = 0; n < BEAT_STEPS_MAX && battery != NULL && battery_beats(battery); n++)
            step(poller, line->units[i]);
    }
}

/* Whether polling has waited for long: commands that never end would put it off for ever. */
static bool is_starved(const struct poller *poller, int64_t now_ns)
{
    const struct poller_line *line = poller->lines[0];
    return now_ns - (line->polled != NULL ? line->begun_ns : line->due_ns) > STARVED_NS;
}

/* Lets the batteries do what is due: all that is urgent, and what the commands for one other
 * take, or where polling is starved one of them; then a transaction of polling has its turn.
 * Between two read-backs nothing but another command is done. */
void poller_serve_commands(struct poller *poller)
{
    struct epoll_event events[EVENTS];
    for (bool served = false;;) {
        int64_t due_ns, now_ns = clock_mono_ns();
        (void)poller_fetch(poller);
        leave(poller);
        struct polled *unit = poller_first_battery(poller, now_ns, &due_ns);
        if (unit == NULL)
            return;
        const bool urgent = battery_is_urgent(unit->battery) || battery_beats(unit->battery);
        if (due_ns > now_ns && battery_is_busy(unit->battery)) {
            clock_epoll_wait(poller->epoll_fd, events, EVENTS, due_ns);
        } else if (due_ns > now_ns || (served && !urgent)) {
            return;
        } else {
            step(poller, unit);
            const struct battery *battery = unit->battery;
            served =
                served ||
                (!urgent && (!battery_is_busy(battery) || (battery_has_settled(battery) &&
                                                           is_starved(poller, clock_mono_ns()))));
        }
    }
}

/* The thread ends: every command that was put gets its outcome. */
void poller_abandon_commands(struct poller *poller)
{
    bool all;
    do {
        all = poller_fetch(poller);
        for (unsigned i = 0; i < poller->lines[0]->n_units; i++) {
            if (poller->lines[0]->units[i]->battery != NULL)
                battery_abandon(poller->lines[0]->units[i]->battery);
        }
    } while (!all);
}
