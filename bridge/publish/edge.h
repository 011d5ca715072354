/* edge: the site as a Sparkplug B edge node, each device a Sparkplug device.
 *
 * Beside JSON, in an MQTT session of its own, because a session has one Will: the
 * node's NDEATH. Part of the publisher, which runs it. Says births when commands are
 * heard and the primary host, if there is one, is there; then what changes; then what a
 * host has missed, as history. A device is born while it is online and its last scan gave
 * something; nothing of it is sent while it is not. A birth that has ended sessions, or
 * is larger than the broker takes, is set aside, and with it its device. The assertions of the
 * specification (Sparkplug 3.0.0) that it keeps are named in tests/integration/sparkplug.py.
 *
 * edge_put_outcome() may be called by any thread, all else by the publisher's; what
 * arrives comes from the MQTT library's threads and is copied.
 */
#ifndef BRIDGE_PUBLISH_EDGE_H
#define BRIDGE_PUBLISH_EDGE_H

#include "bridge/commands/inbox.h"
#include "bridge/mqtt/session.h"
#include "bridge/store/scans.h"
#include "bridge/store/state.h"

struct edge;

struct edge_setup {
    const struct conf *conf;
    struct outbox *outbox; /* where the publisher sleeps, and who is online */
    struct scans *scans;
    struct health *health;
    struct state *state; /* keeps bdSeq; NULL = as long as the process */
    struct inbox *inbox; /* commands go there */
    uint32_t seed;
};

/* NULL when out of memory. */
struct edge *edge_new(const struct edge_setup *setup);
void edge_free(struct edge *edge);

/* What came of a command, of whoever's. */
void edge_put_outcome(struct edge *edge, const struct outcome *outcome);

/* Does what is due. `address`: of the broker the bridge is connected to, NULL = it is
 * not. Returns when to be called again if nothing happens. */
int64_t edge_run(struct edge *edge, int64_t now_ns, const char *address);

/* A new beginning is asked for: what was learnt of the broker is forgotten, and a session
 * that is down need not wait. */
void edge_retry(struct edge *edge, int64_t now_ns);

/* The bridge ends: says NDEATH and ends the session. */
void edge_farewell(struct edge *edge, int64_t until_ns);

#endif
