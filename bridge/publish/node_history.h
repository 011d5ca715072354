/* node_history: what a Sparkplug host has missed, as payloads of many scans each.
 *
 * The edge node's, on its thread.
 */
#ifndef BRIDGE_PUBLISH_NODE_HISTORY_H
#define BRIDGE_PUBLISH_NODE_HISTORY_H

#include "bridge/publish/births.h"
#include "bridge/store/scans.h"

struct node_history;

/* NULL when out of memory. */
struct node_history *node_history_new(const struct births *births, struct scans *scans);
void node_history_free(struct node_history *history);

/* The metrics of the next payload, oldest first, of a device for which `may` says so:
 * how many, 0 = there is nothing. They are valid until the next call. */
unsigned node_history_take(struct node_history *history, const bool *may, unsigned *device,
                           const struct sparkplug_metric **metrics);

#endif
