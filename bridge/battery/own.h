/* own: the commands that the bridge itself gives.
 *
 * Pure. They are made here and pass the same door as everybody else's.
 */
#ifndef BRIDGE_BATTERY_OWN_H
#define BRIDGE_BATTERY_OWN_H

#include "bridge/model/outcome.h"
#include "devices/registers/device.h"

/* A stop of the battery `index`, whoever asked for it: with that id and source, if
 * they are known. Admitted: a stop always is. */
void own_stop(const struct device *device, unsigned index, const char *id, const char *source,
              int64_t mono_ns, int64_t utc_ms, struct command *command);

/* The `number`-th write of the deadman's or at exit in this run, and whether it
 * is admitted. */
enum reason own_write(const struct device *device, unsigned index, enum command_author author,
                      double value, const char *run, uint64_t number, int64_t mono_ns,
                      int64_t utc_ms, struct outcome *outcome);

/* The `number`-th of the schedule called `id`: an entry that lasts for `ttl_ns`, or zero;
 * likewise. It is judged by what every setpoint is judged by. */
struct own_entry {
    const char *id, *run;
    uint64_t number;
    double value;
    int64_t ttl_ns, last_write_ns;
    bool audit_unavailable;
};
enum reason own_entry(const struct device *device, unsigned index, const struct own_entry *entry,
                      int64_t mono_ns, int64_t utc_ms, struct outcome *outcome);

#endif
