/* spooler: the thread between outbox and disk.
 *
 * Moves samples that the broker has not taken within half a second to the
 * spool, brings them back when it is there again, and removes what was
 * delivered. Sleeps while everything is delivered in time. A disk that fails is
 * logged once; samples then stay in memory as far as they go, and it is tried
 * again each second.
 */
#ifndef BRIDGE_STORE_SPOOLER_H
#define BRIDGE_STORE_SPOOLER_H

#include "bridge/site/conf.h"
#include "bridge/store/layouts.h"
#include "bridge/store/outbox.h"

struct spooler;

/* Opens the spool of the configuration and starts. NULL with a logged reason. */
struct spooler *spooler_start(const struct conf *conf, struct layouts *layouts,
                              struct outbox *outbox);

/* By when the thread promised to be back (monotonic); for the supervisor. */
int64_t spooler_promise_ns(const struct spooler *spooler);

/* After the publisher: puts on disk what was not delivered, joins, frees. */
void spooler_stop(struct spooler *spooler);

#endif
