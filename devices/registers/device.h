/* device: one configured device, as plain data.
 *
 * What it is (type), where it is (modbus), when it is read (poll), what may be
 * written to it (control). Read from the `devices` group of the configuration
 * and fixed from then on: threads share it read-only.
 */
#ifndef DEVICES_REGISTERS_DEVICE_H
#define DEVICES_REGISTERS_DEVICE_H

#include <stdint.h>

#include "devices/registers/place.h"
#include "devices/registers/point.h"
#include "devices/registers/profile.h"

enum { DEVICE_NAME_MAX = 64, DEVICE_ID_MAX = 64, DEVICE_STATUSES_MAX = 16 };

enum device_on_exit { DEVICE_HOLD, DEVICE_FALLBACK };

/* The `control` group of a battery: without it the battery is read-only. */
struct device_control {
    unsigned n_ready;
    int64_t ready_status[DEVICE_STATUSES_MAX]; /* raw values of `status` */
    double min_kw, max_kw;                     /* + discharges, - charges */
    double soe_min, soe_max;                   /* percent: 10, 90 */
    int64_t ttl_ns;                            /* 10 s: life of a command without its own */
    int64_t max_clock_skew_ns;                 /* 2 s */
    bool allow_bare;                           /* false: only JSON commands */
    int on_exit;                               /* enum device_on_exit */
    double kw_per_block;                       /* NAN = rule off */
    double max_step_kw;                        /* NAN = rule off */
    int64_t min_interval_ns;                   /* 0 = rule off */
    int64_t command_source;                    /* -1 = not written */
    int64_t deadman_timeout_ns;                /* 0 = no deadman */
    double deadman_value;                      /* kW */
    /* Indices into `points` of the rows that the control sequence reads and
     * writes: as the type's own control group says, else found by name: status soe
     * target_power available_blocks command_source. -1 = the type has none. */
    int status, soe, setpoint, blocks, source;
    struct drive_site drive; /* with a type that says how it is commanded: the site's part */
};

struct device {
    uint64_t hash; /* of all that is configured of it, its type's file included */
    char id[DEVICE_ID_MAX + 1];
    char name[DEVICE_NAME_MAX + 1];
    bool battery; /* from devices.bess; false: from devices.meters */
    const struct profile *profile;
    unsigned n_points;
    struct point *points; /* the profile's own rows, or a copy with this device's scales, labels,
                             sign, limits */
    struct device_modbus modbus;
    int64_t poll_ns;
    int64_t longest_silence_ns;    /* 0: every scan is published; else on change, and after this */
    bool controllable;             /* has a `control` group */
    struct device_control control; /* without the group its defaults, and all rows -1 */
    unsigned link;                 /* index of its link: devices with equal `link` share one */
    unsigned poller;               /* index of the thread that owns that link */
};

/* False for a place in a list that holds no device: see bridge/site/change.h. */
static inline bool device_is_there(const struct device *device)
{
    return device->name[0] != '\0';
}

/* The longest that a healthy device goes without a sample. */
int64_t device_silence_ns(const struct device *device);

/* Index of the point called `name`, or -1. */
int device_find_point(const struct device *device, const char *name);

/* Whether a command may name this point: it is writable in the type, and the
 * device has a `control` group or names it in `writable`. Where the type says how it is
 * commanded, the first is the setpoint alone. */
bool device_may_write(const struct device *device, unsigned point);
/* Whether its battery is commanded as its type's control group says. */
static inline const struct drive *device_drive(const struct device *device)
{
    return device->controllable && device->profile->drive.given ? &device->profile->drive : NULL;
}
/* Whether a command may name any of its points. */
bool device_takes_commands(const struct device *device);

#endif
