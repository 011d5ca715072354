/* simulated: a site's own configuration with simulated devices in place of the real.
 *
 * Takes over what `fluxbridge-sim --listen` prints: a line for each device that it
 * serves, and "ready". All or nothing: a configuration of which one device would
 * still be the real one is refused.
 */
#ifndef BRIDGE_CLI_SIMULATED_H
#define BRIDGE_CLI_SIMULATED_H

#include "devices/registers/device_list.h"

/* Reads it from the file `path`, "-" for standard input, up to "ready", and makes
 * every device of the list the simulated one. False after saying on stderr why not,
 * as `fluxbridge VERB`. */
bool simulated_take_over(const char *verb, const char *path, struct device_list *list);

#endif
