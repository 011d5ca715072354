/* arrival: an MQTT message on its way from the callback into the inbox.
 *
 * Pure but for the two clocks, which are read here because the moment of
 * arrival is what a command's age is judged by. */
#ifndef BRIDGE_MQTT_ARRIVAL_H
#define BRIDGE_MQTT_ARRIVAL_H

#include "bridge/commands/inbox.h"
#include "bridge/mqtt/mqtt.h"

/* Copies it in. False when the inbox has no room now: it is to be offered again. */
bool arrival_put(const struct mqtt_arrival *arrival, struct inbox *inbox);

#endif
