#include "devices/registers/device_drive.h"

#include <math.h>

#include "devices/registers/codec.h"

void device_drive_read_keys(struct cfg *cfg, const struct cfg_setting *group, struct device *device)
{
    const struct drive *drive = &device->profile->drive;
    const struct drive_list *lists[] = {&drive->engage, &drive->set, &drive->release};
    for (unsigned i = 0; i < drive->n_keys; i++) {
        double *number = &device->control.drive.keys[i];
        const struct cfg_setting *key = cfg_member(group, drive->keys[i]);
        bool given = key && cfg_number(key, number);
        for (unsigned k = 0; k < sizeof lists / sizeof *lists; k++) {
            for (unsigned n = 0; n < lists[k]->n; n++) {
                const struct drive_write *write = &lists[k]->writes[n];
                uint16_t words[POINT_NUMBER_WORDS_MAX];
                double written;
                if (write->value != DRIVE_KEY || write->key != i)
                    continue;
                if (!given && !isnan(write->number)) {
                    *number = write->number;
                    given = true;
                }
                if (given &&
                    drive_number(drive, &device->control.drive, device->points, NULL, write, 0, 0,
                                 &written) &&
                    codec_encode(&device->points[write->point], written, words) != CODEC_FITS)
                    cfg_problem(cfg, key ? key : group, "%s %g does not fit the register of %s",
                                drive->keys[i], *number, device->points[write->point].name);
            }
        }
        if (!given && !key)
            cfg_problem(cfg, group, "type '%s' needs %s", device->profile->type, drive->keys[i]);
    }
}

void device_drive_read_timeout(struct cfg *cfg, const struct cfg_setting *group,
                               struct device *device)
{
    const struct drive *drive = &device->profile->drive;
    struct drive_site *site = &device->control.drive;
    const struct cfg_setting *given = cfg_lookup(group, "modbus.device_timeout");
    const struct cfg_setting *where = given ? given : cfg_member(group, "type");
    const double every_s = (double)drive->every_ns / 1e9;
    uint16_t words[POINT_NUMBER_WORDS_MAX];
    site->timeout_s = drive->timeout_s;
    if (given && drive->timeout >= 0)
        site->timeout_s = (double)device->modbus.device_timeout_ns / 1e9;
    if (drive->timeout >= 0) {
        const struct point *point = &device->points[drive->timeout];
        if (codec_encode(point, drive_round(site->timeout_s * drive_per_s(point)), words) !=
            CODEC_FITS)
            cfg_problem(cfg, where, "device_timeout %g s does not fit the register of %s (%s)",
                        site->timeout_s, point->name, point->unit);
    }
    if (site->timeout_s > 0 && site->timeout_s < 3 * every_s)
        cfg_problem(cfg, where,
                    "device_timeout %g s must be at least three times the keepalive's %g s",
                    site->timeout_s, every_s);
}
