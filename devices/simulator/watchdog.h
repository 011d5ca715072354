/* watchdog: a simulated battery that stops by itself, as its type says.
 *
 * Pure: time is an argument, of the real clock however fast the plant runs. For batteries
 * whose type says how they are commanded (devices/registers/drive.h): one does what its
 * setpoint says while it is taken over and a sign of life is no older than its timeout: of
 * a keepalive a value that it does not hold yet, else any write. Then it lets go: what the
 * type's `release` writes stands in its registers.
 */
#ifndef DEVICES_SIMULATOR_WATCHDOG_H
#define DEVICES_SIMULATOR_WATCHDOG_H

#include "devices/registers/device.h"

struct watchdog {
    const struct device *device;
    bool runs;
    double beat; /* the last that counted; NAN = none */
    double alive_s;
};

void watchdog_init(struct watchdog *watchdog, const struct device *device);

/* Something was written; `values` are what its points hold now. Returns the kW that it
 * does from now on. */
double watchdog_written(struct watchdog *watchdog, const struct value *values, double now_s);

/* Whether it stops by itself now: once each time. */
bool watchdog_expires(struct watchdog *watchdog, const struct value *values, double now_s);

#endif
