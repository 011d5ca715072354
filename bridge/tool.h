/* tool: the commands an engineer uses at the site, beside the daemon.
 *
 * Each takes a validated configuration, does one thing on the devices over
 * Modbus, prints to stdout and returns the exit code: 0 good, 1 failed at run
 * time, 2 bad usage. They use the daemon's own modules, so what they show is
 * what the daemon would do.
 */
#ifndef BRIDGE_TOOL_H
#define BRIDGE_TOOL_H

#include "bridge/conf.h"

/* `fluxbridge write`: one command through the very rules, sequence, read-back
 * and audit log of a command over MQTT. Prints the outcome as JSON. Refused
 * while a daemon on this machine holds the device (devices/claim.h). */
int tool_write(const struct conf *conf, const char *device, const char *point, const char *value,
               bool dry_run);

/* The named device, or NULL after telling which there are. */
const struct device *tool_find_device(const struct conf *conf, const char *verb, const char *name);

#endif
