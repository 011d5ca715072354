/* ha_commands: what Home Assistant shows of commands, and commands with.
 *
 * Pure. Of a device that takes any: what came of the last, and why. Of a battery under
 * control also its setpoint, as a number, and a button that stops it; with a deadman the
 * end of its lease, and whether the deadman has taken over.
 */
#ifndef BRIDGE_PUBLISH_HA_COMMANDS_H
#define BRIDGE_PUBLISH_HA_COMMANDS_H

#include "bridge/publish/ha_page.h"
#include "devices/registers/device.h"

void ha_commands_add(struct ha_page *page, const struct device *device);

#endif
