#include "bridge/battery/own.h"

#include <inttypes.h>
#include <stdio.h>

#include "bridge/base/clock.h"
#include "bridge/battery/admit.h"

/* Of the battery's setpoint. */
static struct command make(const struct device *device, unsigned index, double value,
                           int64_t mono_ns, int64_t utc_ms)
{
    struct command command = {
        .placed = true,
        .device = index,
        .point = (unsigned)device->control.setpoint,
        .has_value = true,
        .value = value,
        .mono_ns = mono_ns,
        .utc_ms = utc_ms,
    };
    (void)snprintf(command.device_name, sizeof(command.device_name), "%s", device->name);
    (void)snprintf(command.point_name, sizeof(command.point_name), "%s",
                   device->points[command.point].name);
    return command;
}

void own_stop(const struct device *device, unsigned index, const char *id, const char *source,
              int64_t mono_ns, int64_t utc_ms, struct command *command)
{
    *command = make(device, index, 0.0, mono_ns, utc_ms);
    command->stop = true;
    command->expires_ns = CLOCK_NEVER;
    (void)snprintf(command->id, sizeof(command->id), "%s", id);
    (void)snprintf(command->source, sizeof(command->source), "%s", source);
}

enum reason own_write(const struct device *device, unsigned index, enum command_author author,
                      double value, const char *run, uint64_t number, int64_t mono_ns,
                      int64_t utc_ms, struct outcome *outcome)
{
    const struct admit_scene scene = {
        .device = device,
        .index = index,
        .point = device->control.setpoint,
        .utc_ms = utc_ms,
        .mono_ns = mono_ns,
        .last_write_ns = INT64_MIN,
    };
    const char *source = author == AUTHOR_DEADMAN ? "deadman" : "exit";
    struct command command = make(device, index, value, mono_ns, utc_ms);
    command.author = author;
    (void)snprintf(command.id, sizeof(command.id), "%s-%s-%" PRIu64, source, run, number);
    (void)snprintf(command.source, sizeof(command.source), "%s", source);
    *outcome = (struct outcome){.command = command, .kind = OUTCOME_REFUSED};
    outcome->reason = admit(&outcome->command, &scene, outcome->detail);
    return outcome->reason;
}

enum reason own_entry(const struct device *device, unsigned index, const struct own_entry *entry,
                      int64_t mono_ns, int64_t utc_ms, struct outcome *outcome)
{
    const struct admit_scene scene = {
        .device = device,
        .index = index,
        .point = device->control.setpoint,
        .utc_ms = utc_ms,
        .mono_ns = mono_ns,
        .last_write_ns = entry->last_write_ns,
        .audit_unavailable = entry->audit_unavailable,
    };
    struct command command = make(device, index, entry->value, mono_ns, utc_ms);
    command.author = AUTHOR_SCHEDULE;
    command.ttl_ns = entry->ttl_ns;
    (void)snprintf(command.id, sizeof(command.id), "schedule-%s-%" PRIu64, entry->run,
                   entry->number);
    (void)snprintf(command.source, sizeof(command.source), "schedule:%s", entry->id);
    *outcome = (struct outcome){.command = command, .kind = OUTCOME_REFUSED};
    outcome->reason = admit(&outcome->command, &scene, outcome->detail);
    return outcome->reason;
}
