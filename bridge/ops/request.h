/* request: whether somebody may set a point over HTTP.
 *
 * Pure. Judges the head of a request alone, before any of its body is looked at;
 * the command itself passes the one door of all commands (bridge/battery/admit.h).
 * A browser sends requests for any page that it shows, and any name may lead to
 * this address: so who asks (Origin) and whom (Host) has to be right as well as the
 * token.
 */
#ifndef BRIDGE_OPS_REQUEST_H
#define BRIDGE_OPS_REQUEST_H

#include <stdbool.h>

/* Header fields as they came; NULL = not there. */
struct request {
    const char *host;
    const char *origin;
    const char *authorization;
    const char *content_type;
    bool repeated; /* one of these stands there twice */
};

/* What is wrong with it: an HTTP status, a word and a sentence. */
struct request_fault {
    unsigned status; /* 0 = nothing */
    const char *reason, *detail;
};

/* `listen`: the address listened on, IPv6 without brackets. `token` NULL: none is
 * configured; "": it cannot be read. */
struct request_fault request_judge(const struct request *request, const char *listen,
                                   const char *token);

#endif
