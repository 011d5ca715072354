/* http: metrics for programs, and the page for people.
 *
 * Off unless the configuration has an `http` group; never beyond the address
 * given there. One thread serves it all. It reads what others keep for it, and
 * puts commands into the inbox; no other thread ever waits for it.
 *
 * An address that is not there yet, or a port that somebody else has, is waited for.
 *
 * Connections that ask nothing, or a request that does not come to its end, are
 * bounded: beyond that the one that has waited longest is hung up, so nobody can
 * keep others out by holding connections. Streams and commands under way have
 * places of their own.
 */
#ifndef BRIDGE_OPS_HTTP_H
#define BRIDGE_OPS_HTTP_H

#include "bridge/base/halt.h"
#include "bridge/commands/inbox.h"
#include "bridge/ops/view.h"

struct http;

/* Whether it could be started with this configuration: else why not. `is_there`: it listens on
 * this port already, on whatever address. */
enum { HTTP_WHY_MAX = 320 };
bool http_try(const struct conf *conf, bool is_there, char why[HTTP_WHY_MAX]);

/* NULL with a logged reason. */
struct http *http_start(const struct view *view, struct inbox *inbox);
void http_stop(struct http *http);

/* Asks the thread to halt; halt_wait() and halt_release() it. While it is halted, all
 * that its view points to may change. */
struct halt *http_halt(struct http *http);

/* By when the thread promised to be back, of the machine awake; for the supervisor. NULL:
 * never. */
int64_t http_promise_ns(const struct http *http);

#endif
