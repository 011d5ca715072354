/* http: /metrics and /healthz, for whoever watches the bridge.
 *
 * Off unless the configuration has an `http` group; never beyond the address
 * given there. Prometheus text format 0.0.4. libmicrohttpd is loaded when it is
 * wanted and not before: with the TLS library it brings it would cost more
 * resident memory than all the rest of the bridge. It serves from a thread of
 * its own, which only reads counters.
 *
 * Connections that ask nothing, or a request that does not come to its end, are
 * bounded: beyond that the one that has waited longest is hung up, so nobody can
 * keep others out by holding connections.
 */
#ifndef BRIDGE_OPS_HTTP_H
#define BRIDGE_OPS_HTTP_H

#include "bridge/commands/audit.h"
#include "bridge/model/health.h"
#include "bridge/publish/publisher.h"
#include "bridge/site/conf.h"
#include "bridge/store/outbox.h"

struct http;

struct http_setup {
    const struct conf *conf;
    const struct health *health;
    struct outbox *outbox;
    const struct audit *audit;
    const struct publisher *publisher;
    const char *run;
};

/* NULL with a logged reason. */
struct http *http_start(const struct http_setup *setup);
void http_stop(struct http *http);

#endif
