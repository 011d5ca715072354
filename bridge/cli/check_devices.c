#include "bridge/cli/check_devices.h"

#include <stdio.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/cli/power_check.h"
#include "bridge/cli/reading.h"
#include "bridge/cli/terminal.h"
#include "devices/lines/link_new.h"
#include "devices/registers/bus_share.h"

/* Timed readings of a device: enough to see past one that was held up. */
enum { TIMED_READINGS = 4, LIST_MAX = 800 };

/* ---- polls against the speed of the link ---- */

/* One warning for a link that cannot do in a second what is asked of it. */
static void judge_link(const struct check *check, unsigned link, double share, const char *how)
{
    const struct device_list *list = &check->conf->devices;
    unsigned first = 0;
    while (list->devices[first].link != link)
        first++;
    const struct device_modbus *modbus = &list->devices[first].modbus;
    if (share > 1)
        cfg_warning(check->cfg, check_place(check, first),
                    "the polls on %s take %.0f %% of the time there is, %s: poll less often",
                    modbus->serial[0] != '\0' ? modbus->serial : modbus->host, 100 * share, how);
}

void check_speeds(const struct check *check)
{
    const struct device_list *list = &check->conf->devices;
    for (unsigned link = 0; link < list->n_links; link++) {
        double share = 0;
        for (unsigned i = 0; i < list->n_devices; i++) {
            struct plan *plan =
                list->devices[i].link == link ? plan_new(&list->devices[i], NULL) : NULL;
            if (plan != NULL)
                share += bus_share(&list->devices[i], plan);
            plan_free(plan);
        }
        judge_link(check, link, share, "by its baud rate");
    }
}

/* ---- what a device says ---- */

static void check_power(const struct check *check, unsigned index, const struct value *values)
{
    const struct device *device = &check->conf->devices.devices[index];
    double ratio;
    const int point = power_check_find_misfit(device, values, &ratio);
    if (point >= 0)
        cfg_warning(check->cfg, check_place(check, index),
                    "%s of '%s' is %.3g times voltage x current: wrong scale or unit?",
                    device->points[point].name, device->name, ratio);
}

/* Whether registers came, and hold what cannot be; else the device has refused. */
static bool is_disbelieved(const struct value *value)
{
    return value->fault == FAULT_NOT_FINITE || value->fault == FAULT_IMPLAUSIBLE;
}

/* The points of one kind without a value, "soe (illegal_address), ...", as far as
 * there is room. Returns how many there are. */
static unsigned list_points(const struct device *device, const struct value *values,
                            bool disbelieved, char list[LIST_MAX])
{
    unsigned n = 0;
    size_t used = 0;
    list[0] = '\0';
    for (unsigned i = 0; i < device->n_points; i++) {
        if (values[i].state != VALUE_FAULT || is_disbelieved(&values[i]) != disbelieved)
            continue;
        if (used < LIST_MAX)
            used +=
                (size_t)snprintf(list + used, LIST_MAX - used, "%s%s (%s)", n > 0 ? ", " : "",
                                 device->points[i].name, fault_word((enum fault)values[i].fault));
        n++;
    }
    return n;
}

static void check_values(const struct check *check, unsigned index, const struct value *values)
{
    const struct device *device = &check->conf->devices.devices[index];
    const struct cfg_setting *where = check_place(check, index);
    char list[LIST_MAX];
    unsigned n = list_points(device, values, false, list);
    if (n > 0)
        cfg_problem(check->cfg, where, "device '%s' refuses %u of %u points: %s: is it a %s?",
                    device->name, n, device->n_points, list, device->profile->type);
    n = list_points(device, values, true, list);
    if (n > 0)
        cfg_warning(check->cfg, where, "device '%s' says what cannot be: %s", device->name, list);
    check_power(check, index, values);
}

/* Returns the share of the link's time that the device takes. */
static double try_device(const struct check *check, unsigned index, struct link *link)
{
    const struct device *device = &check->conf->devices.devices[index];
    struct reading reading;
    terminal_progress("reading %s (%u of %u)", device->name, index + 1,
                      check->conf->devices.n_devices);
    bool good = reading_init(&reading, device, NULL);
    /* The first reading opens the link and learns what the device refuses. */
    good = good && reading_take(&reading, link) == FAULT_NONE;
    if (good)
        check_values(check, index, reading.values);
    const int64_t begun_ns = clock_mono_ns();
    for (unsigned i = 0; good && i < TIMED_READINGS; i++) {
        reading.number++;
        good = reading_take(&reading, link) == FAULT_NONE;
    }
    const int64_t taken_ns = clock_mono_ns() - begun_ns;
    if (!good)
        cfg_problem(check->cfg, check_place(check, index), "device '%s' does not answer: %s",
                    device->name, link->error);
    reading_free(&reading);
    return good ? (double)taken_ns / TIMED_READINGS / (double)device->poll_ns : 0;
}

void check_link(const struct check *check, unsigned number)
{
    const struct device_list *list = &check->conf->devices;
    struct link *link = NULL;
    double share = 0;
    for (unsigned i = 0; i < list->n_devices; i++) {
        if (list->devices[i].link != number)
            continue;
        if (link == NULL)
            link = link_new(&list->devices[i].modbus);
        if (link != NULL)
            share += try_device(check, i, link);
        else
            cfg_problem(check->cfg, check_place(check, i), "out of memory");
    }
    judge_link(check, number, share, "as measured");
    link_free(link);
}
