/* node_flow: what a Sparkplug node says: births, then what changes, then what was missed.
 *
 * A device is born while it is online and its last scan gave something; it dies with
 * either, and nothing of it is sent while it is dead. What came of a command is data.
 * History goes in payloads of its own, oldest first, one at a time. Behind what is sent
 * goes a mark of QoS 1, whose acknowledgement tells that the broker has all before it.
 *
 * No birth can stop the flow: one that the broker does not take, or that has ended two
 * sessions in a row, is set aside, and with it its device, until the broker is another.
 *
 * The edge node's (bridge/publish/edge.h), on its thread, but for node_flow_delivered(),
 * which the MQTT library's threads call, and node_flow_put_outcome(), which any may.
 */
#ifndef BRIDGE_PUBLISH_NODE_FLOW_H
#define BRIDGE_PUBLISH_NODE_FLOW_H

#include "bridge/publish/births.h"
#include "bridge/publish/node_post.h"
#include "bridge/store/outbox.h"
#include "bridge/store/scans.h"

struct node_flow;

struct node_flow_setup {
    const struct conf *conf;
    struct births *births;
    struct node_post *post;
    struct outbox *outbox; /* says who is online */
    struct scans *scans;
    struct health *health;
};

/* NULL when out of memory. */
struct node_flow *node_flow_new(const struct node_flow_setup *setup);
void node_flow_free(struct node_flow *flow);

void node_flow_put_outcome(struct node_flow *flow, const struct outcome *outcome);

/* There can be no births now: what is read is taken note of. */
void node_flow_note(struct node_flow *flow);

/* Everything is to be said anew: the values of now, and what was not acknowledged, or not
 * sent, is history. With `session` the session is a new one. */
void node_flow_begin(struct node_flow *flow, bool session);

/* Says what is due as far as there is room; returns when to be called again. */
int64_t node_flow_run(struct node_flow *flow, int64_t now_ns);

/* The session is about to end: what waits a little to be told with more is told. */
void node_flow_finish(struct node_flow *flow, int64_t now_ns);

/* As of mqtt's callback. */
void node_flow_delivered(struct node_flow *flow, uint64_t ticket, enum mqtt_fate fate);

/* A session in which something was said has ended by itself. `may_blame`: what was said last may
 * be the reason. */
void node_flow_lost(struct node_flow *flow, bool may_blame);

/* What was learnt of the broker is forgotten. */
void node_flow_forget(struct node_flow *flow);

#endif
