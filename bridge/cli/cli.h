/* cli: the commands an engineer uses at the site, beside the daemon.
 *
 * Each does one thing, prints to stdout, complains to stderr and returns the
 * exit code: 0 good, 1 failed at run time, 2 bad usage or configuration. They
 * use the daemon's own modules, so what they show is what the daemon would do.
 */
#ifndef BRIDGE_CLI_CLI_H
#define BRIDGE_CLI_CLI_H

#include "bridge/site/conf.h"

/* `fluxbridge write`: one command through the very rules, sequence, read-back
 * and audit log of a command over MQTT. Prints the outcome as JSON, and what a dry run
 * would do as text unless `json`. Refused while a daemon on this machine holds the device
 * (devices/lines/claim.h). */
int cli_write(const struct conf *conf, const char *device, const char *point, const char *value,
              bool dry_run, bool json);

struct cli_read_options {
    bool json; /* one JSON object in place of a table */
    bool raw;  /* with the registers and where they are */
    bool watch;
    int64_t period_ns; /* of --watch; 0 = as the device is polled */
};

/* `fluxbridge read`: one reading of a device, of the points in the
 * NULL-terminated list alone unless it is empty. Good when at least one value
 * could be read. With `watch` again and again; SIGINT and SIGTERM end the
 * process then, with 0. */
int cli_read(const struct conf *conf, const char *device, char *const *points,
             const struct cli_read_options *options);

/* `fluxbridge check`: every problem and warning of the configuration at `path`, and
 * of the files and devices that it names; online also what the devices say. As
 * lines, or as one JSON object. With `against`, the configuration that a bridge runs with
 * now, also what a reload would do. 2: the configuration is wrong; 1: something that it
 * names is not as it should be. */
int cli_check(const char *path, const char *against, bool online, bool json);

/* `fluxbridge forget`: clears what the broker retains of `device`, or of every device
 * that the configuration does not have, or, when no bridge of the site is in session,
 * of the whole site (device NULL). Refused for a device that a bridge in session has.
 * Prints the topics, a line each or as one JSON object. */
int cli_forget(const struct conf *conf, const char *device, bool dry_run, bool json);

/* `fluxbridge schedule`: what the bridge has kept of the schedule of a battery, what is
 * in force of it, and what would be written now. Only reads. */
int cli_schedule(const struct conf *conf, const char *device, bool json);

/* `fluxbridge points`: the rows of a device type. */
int cli_points(const char *type, bool json);

/* `fluxbridge scan`: which Modbus TCP devices there are in `cidr`, at `ports`
 * ("502" when NULL), by `units` ("1,255" when NULL), and what they may be. Or
 * which there are on the line `serial`, at `baud` ("9600") and `parity` ("none"),
 * by `units` ("1-247"). Only reads. SIGINT and SIGTERM end it early, with what was
 * found until then. */
struct cli_scan_options {
    const char *cidr, *ports, *units; /* cidr NULL: there has to be a serial line */
    const char *serial, *baud, *parity;
    bool json; /* one JSON object in place of table and configuration */
};
int cli_scan(const struct cli_scan_options *options);

/* The named device, or NULL after telling which there are. */
const struct device *cli_find_device(const struct conf *conf, const char *verb, const char *name);

#endif
