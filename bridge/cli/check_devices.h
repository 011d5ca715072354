/* check_devices: what `fluxbridge check` finds wrong with polls and devices.
 *
 * By calculation, and with --online by reading: the daemon's own plan, links and
 * decoding. Never writes.
 */
#ifndef BRIDGE_CLI_CHECK_DEVICES_H
#define BRIDGE_CLI_CHECK_DEVICES_H

#include "bridge/cli/check_files.h"

/* A warning for each serial line that is too slow for its polls. */
void check_speeds(const struct check *check);

/* Reads every device of one link. A device that does not answer, and points that it
 * refuses, are problems; values that cannot be, power that does not fit voltage and
 * current, and polls that take too long are warnings. */
void check_link(const struct check *check, unsigned link);

#endif
