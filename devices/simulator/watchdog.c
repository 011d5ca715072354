#include "devices/simulator/watchdog.h"

#include <math.h>

void watchdog_init(struct watchdog *watchdog, const struct device *device)
{
    *watchdog = (struct watchdog){.device = device, .beat = NAN};
}

/* Whether what engage writes for good, and the proof names, stands there. */
static bool is_engaged(const struct drive *drive, const struct value *values)
{
    for (unsigned i = 0; i < drive->engage.n; i++) {
        const struct drive_write *write = &drive->engage.writes[i];
        bool proves = false;
        for (unsigned k = 0; k < drive->n_proofs; k++)
            proves = proves || drive->proofs[k] == write->point;
        if (proves && write->value == DRIVE_NUMBER &&
            (values[write->point].state != VALUE_READ ||
             values[write->point].number != write->number))
            return false;
    }
    return true;
}

static bool is_sign_of_life(struct watchdog *watchdog, const struct value *values)
{
    const struct drive *drive = &watchdog->device->profile->drive;
    if (drive->beat < 0)
        return true;
    const double beat = values[drive->beat].number;
    bool counts = false;
    for (unsigned i = 0; i < drive->n_beats; i++)
        counts = counts || (beat == drive->beats[i] && beat != watchdog->beat);
    if (counts)
        watchdog->beat = beat;
    return counts;
}

double watchdog_written(struct watchdog *watchdog, const struct value *values, double now_s)
{
    const struct drive *drive = &watchdog->device->profile->drive;
    const bool engaged = is_engaged(drive, values);
    const bool lives = is_sign_of_life(watchdog, values);
    if (lives || (engaged && !watchdog->runs))
        watchdog->alive_s = now_s;
    watchdog->runs = engaged;
    const struct value held = drive_held(drive, watchdog->device->points, values);
    return engaged && held.state == VALUE_READ ? held.number : 0;
}

bool watchdog_expires(struct watchdog *watchdog, const struct value *values, double now_s)
{
    const struct drive *drive = &watchdog->device->profile->drive;
    double timeout_s = drive->timeout_s;
    if (drive->timeout >= 0 && values[drive->timeout].number > 0)
        timeout_s =
            values[drive->timeout].number / drive_per_s(&watchdog->device->points[drive->timeout]);
    if (!watchdog->runs || drive->every_ns == 0 || timeout_s == 0 ||
        now_s - watchdog->alive_s < timeout_s)
        return false;
    watchdog->runs = false;
    return true;
}
