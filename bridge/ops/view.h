/* view: what the thread of http may look at, and change nothing of.
 *
 * Plain data; all that it points to may be read from any thread.
 */
#ifndef BRIDGE_OPS_VIEW_H
#define BRIDGE_OPS_VIEW_H

#include "bridge/commands/audit.h"
#include "bridge/commands/recent.h"
#include "bridge/model/health.h"
#include "bridge/publish/publisher.h"
#include "bridge/site/conf.h"
#include "bridge/store/outbox.h"
#include "bridge/telemetry/latest.h"

struct view {
    const struct conf *conf;
    const struct health *health;
    struct outbox *outbox;
    struct latest *latest;
    struct recent *recent;
    const struct audit *audit;
    const struct publisher *publisher;
    const char *run;
    int64_t started_ns;
};

#endif
