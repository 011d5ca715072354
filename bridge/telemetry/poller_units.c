#include <stdlib.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/telemetry/poller_inside.h"
#include "devices/lines/link_new.h"

/* Pauses between attempts to open a link that cannot be opened. */
#define REOPEN_MIN_NS (CLOCK_NS_PER_S / 2)
#define REOPEN_MAX_NS (10 * CLOCK_NS_PER_S)

void poller_free_line(struct poller_line *line)
{
    for (unsigned i = 0; i < line->n_units; i++) {
        polled_destroy(line->units[i]);
        free(line->units[i]);
    }
    link_free(line->link);
    free(line->units);
    free(line);
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
        poller_rest(poller, line);
    return good;
}

void poller_part(struct poller *poller, unsigned device)
{
    struct polled *unit = poller_unit_of(poller, device);
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
        poller_rest(poller, line);
}

/* Whatever was meant for it gets its outcome. */
static void abandon(struct poller *poller, const struct polled *unit)
{
    struct command command;
    if (unit->battery == NULL)
        return;
    battery_abandon(unit->battery);
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
    poller_free_line(line);
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
        poller_rest(poller, line);
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
