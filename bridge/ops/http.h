/* http: /metrics and /healthz, for whoever watches the bridge.
 *
 * Off unless the configuration has an `http` group; never beyond the address
 * given there. Prometheus text format 0.0.4. libmicrohttpd is loaded when it is
 * wanted and not before: with the TLS library it brings it would cost more
 * resident memory than all the rest of the bridge. It serves from a thread of
 * its own, which only reads counters.
 */
#ifndef BRIDGE_OPS_HTTP_H
#define BRIDGE_OPS_HTTP_H

#include "bridge/model/health.h"
#include "bridge/publish/publisher.h"
#include "bridge/site/conf.h"
#include "bridge/store/outbox.h"

struct http;

struct http_setup {
    const struct conf *conf;
    const struct health *health;
    struct outbox *outbox;
    const struct publisher *publisher;
    const char *run;
};

/* NULL with a logged reason. */
struct http *http_start(const struct http_setup *setup);
void http_stop(struct http *http);

#endif
