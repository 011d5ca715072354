/* node_commands: what a Sparkplug host asks of the node (NCMD) and its devices (DCMD).
 *
 * A metric of a DCMD is a struct command with the door of all others: whatever comes has
 * one outcome, also what is retained, too large, or names no device or metric of ours.
 * Called by the MQTT library's threads, one message at a time.
 */
#ifndef BRIDGE_PUBLISH_NODE_COMMANDS_H
#define BRIDGE_PUBLISH_NODE_COMMANDS_H

#include <stdatomic.h>

#include "bridge/commands/inbox.h"
#include "bridge/mqtt/mqtt.h"
#include "bridge/publish/births.h"

struct node_commands {
    const struct conf *conf;
    const struct births *births;
    struct inbox *inbox;
    atomic_uint n_put; /* metrics of a message that is offered again which are on their way */
};

/* A session begins: what the last one offered is not offered again. */
void node_commands_begin(struct node_commands *commands);

/* Whether an NCMD asks for a rebirth; all else in it is refused, and said. */
bool node_commands_ask_rebirth(const struct mqtt_arrival *arrival);

/* A DCMD. False: the inbox is full, offer it again. */
bool node_commands_take(struct node_commands *commands, const struct mqtt_arrival *arrival);

#endif
