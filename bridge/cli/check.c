#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bridge/base/clock.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/power_check.h"
#include "bridge/cli/reading.h"
#include "devices/lines/link_new.h"
#include "devices/registers/bustime.h"

enum { EXIT_USAGE = 2 };
/* Timed readings of a device: enough to see past one that was held up. */
enum { TIMED_READINGS = 4 };

/* A good configuration, and its file once more for the lines in it. */
struct check {
    struct cfg *cfg;
    const struct conf *conf;
    const struct cfg_setting *file;
};

/* Where a device stands in the file: batteries come first in the list. */
static const struct cfg_setting *place_of(const struct check *check, unsigned device)
{
    const struct cfg_setting *bess = cfg_lookup(check->file, "devices.bess");
    const struct cfg_setting *meters = cfg_lookup(check->file, "devices.meters");
    const unsigned n_bess = bess != NULL ? cfg_length(bess) : 0;
    const struct cfg_setting *group =
        device < n_bess ? cfg_element(bess, device) : cfg_element(meters, device - n_bess);
    return cfg_member(group, "modbus");
}

/* What the world may read is no secret. */
static void check_secret(const struct check *check, const char *path, const char *key)
{
    struct stat status;
    if (*path != '\0' && stat(path, &status) == 0 && (status.st_mode & S_IROTH) != 0)
        cfg_warning(check->cfg, cfg_lookup(check->file, key),
                    "%s can be read by every user of this machine: chmod o-r it", path);
}

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
        cfg_warning(check->cfg, place_of(check, first),
                    "the polls on %s take %.0f %% of the time there is, %s: poll less often",
                    modbus->serial[0] != '\0' ? modbus->serial : modbus->host, 100 * share, how);
}

static void check_speeds(const struct check *check)
{
    const struct device_list *list = &check->conf->devices;
    for (unsigned link = 0; link < list->n_links; link++) {
        double share = 0;
        for (unsigned i = 0; i < list->n_devices; i++) {
            struct plan *plan =
                list->devices[i].link == link ? plan_new(&list->devices[i], NULL) : NULL;
            if (plan != NULL)
                share += bustime_share(&list->devices[i], plan);
            plan_free(plan);
        }
        judge_link(check, link, share, "by its baud rate");
    }
}

/* ---- online ---- */

static void check_power(const struct check *check, unsigned index, const struct value *values)
{
    const struct device *device = &check->conf->devices.devices[index];
    double ratio;
    const int point = power_check_find_misfit(device, values, &ratio);
    if (point >= 0)
        cfg_warning(check->cfg, place_of(check, index),
                    "%s of '%s' is %.3g times voltage x current: wrong scale or unit?",
                    device->points[point].name, device->name, ratio);
}

/* Adds the share of the link's time that the device takes. False when it does
 * not answer. */
static bool try_device(const struct check *check, unsigned index, struct link *link, double *share)
{
    const struct device *device = &check->conf->devices.devices[index];
    struct reading reading;
    bool good = reading_init(&reading, device, NULL);
    /* The first reading opens the link and learns what the device refuses. */
    good = good && reading_take(&reading, link) == FAULT_NONE;
    if (good)
        check_power(check, index, reading.values);
    const int64_t begun_ns = clock_mono_ns();
    for (unsigned i = 0; good && i < TIMED_READINGS; i++) {
        reading.number++;
        good = reading_take(&reading, link) == FAULT_NONE;
    }
    if (good)
        *share += (double)(clock_mono_ns() - begun_ns) / TIMED_READINGS / (double)device->poll_ns;
    else
        cfg_problem(check->cfg, place_of(check, index), "device '%s' does not answer: %s",
                    device->name, link->error);
    reading_free(&reading);
    return good;
}

static bool check_online(const struct check *check)
{
    const struct device_list *list = &check->conf->devices;
    bool good = true;
    for (unsigned number = 0; number < list->n_links; number++) {
        struct link *link = NULL;
        double share = 0;
        for (unsigned i = 0; i < list->n_devices; i++) {
            if (list->devices[i].link != number)
                continue;
            if (link == NULL)
                link = link_new(&list->devices[i].modbus);
            good = link != NULL && try_device(check, i, link, &share) && good;
        }
        judge_link(check, number, share, "as measured");
        link_free(link);
    }
    return good;
}

static const char *plural(unsigned n)
{
    return n == 1 ? "" : "s";
}

int cli_check(const char *path, bool online)
{
    struct cfg cfg = {.out = stdout};
    struct conf conf;
    const struct cfg_setting *file = NULL;
    int code = EXIT_USAGE;

    if (!conf_read(&cfg, path, &conf) || !(file = cfg_open(&cfg, path)))
        goto done;
    const struct check check = {.cfg = &cfg, .conf = &conf, .file = file};
    check_secret(&check, conf.mqtt.password_file, "mqtt.password_file");
    check_secret(&check, conf.mqtt.key_file, "mqtt.tls.key_file");
    check_speeds(&check);
    code = !online || check_online(&check) ? EXIT_SUCCESS : EXIT_FAILURE;
    if (code == EXIT_SUCCESS)
        printf("%s: good: %u device%s on %u link%s\n", path, conf.devices.n_devices,
               plural(conf.devices.n_devices), conf.devices.n_links, plural(conf.devices.n_links));
done:
    cfg_close(file);
    conf_free(&conf);
    return code;
}
