/* admit: the one door that every write passes, whoever wants it.
 *
 * Pure. Judges a command by all that can be known without asking the device,
 * in the order of topics.md, and notes in it what was understood. What the
 * device has to say is judged later, just before the write (interlock).
 */
#ifndef BRIDGE_BATTERY_ADMIT_H
#define BRIDGE_BATTERY_ADMIT_H

#include "bridge/model/outcome.h"
#include "bridge/model/timetable.h"
#include "devices/registers/device.h"

/* What is known at the moment of judging. */
struct admit_scene {
    const struct device *device; /* NULL: no such device */
    unsigned index;              /* its number in the configuration */
    int point;                   /* -1: no such point */
    bool retained;
    bool too_large;
    bool malformed;
    bool duplicate;
    bool shutting_down;
    bool audit_unavailable;
    bool crowded;          /* more commands than can be kept or remembered */
    int64_t utc_ms;        /* now */
    int64_t mono_ns;       /* now */
    int64_t last_write_ns; /* monotonic time of the last write to the setpoint; INT64_MIN = never */
};

/* The first check that fails, from `retained` to `off_step`, or REASON_NONE.
 * Then the command has its device, point, stop and expires_ns. `detail` says in
 * words what a human can act on; "" when there is nothing to add; with
 * `malformed` it is left as it is. */
enum reason admit(struct command *command, const struct admit_scene *scene,
                  char detail[DETAIL_MAX]);

/* The same of a schedule, which was parsed as `parsed` says: from `retained` to
 * `off_step`, every entry's value by itself. Then the command has its device. `trusted`:
 * the clock is. Whether its revision is newer, the battery knows. */
enum reason admit_schedule(struct command *command, const struct admit_scene *scene,
                           enum reason parsed, bool trusted, char detail[DETAIL_MAX]);

/* `rate_limited`, apart because it is looked at again just before the write. */
bool admit_is_too_soon(const struct device *device, const struct command *command, int64_t mono_ns,
                       int64_t last_write_ns);

#endif
