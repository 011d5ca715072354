/* status_json: what the bridge says of itself and its devices.
 *
 * Pure but for memory. Texts are malloc'ed (free with free()); NULL when out of
 * memory.
 */
#ifndef BRIDGE_WIRE_STATUS_JSON_H
#define BRIDGE_WIRE_STATUS_JSON_H

#include "bridge/model/health.h"
#include "bridge/model/lease.h"
#include "bridge/site/conf.h"

enum { STATUS_JSON_HEALTH_S = 10 /* between two of bridge/health */ };

char *status_json_bridge(const struct conf *conf, const char *run, int64_t started_ms);
char *status_json_device(const struct device *device);

/* Who decides what a device does: the lease of its setpoint at `now_ns` (monotonic), which
 * is `utc_ms`, and the last outcome as it was published, NULL = none. */
char *status_json_control(const struct lease *lease, int64_t now_ns, int64_t utc_ms,
                          bool taken_over, const char *last);

/* `drops`: the samples dropped of each configured device. */
char *status_json_health(const struct conf *conf, const struct health *health,
                         const struct outbox_depth *depth, const uint64_t *drops, int64_t ts_ms,
                         int64_t uptime_ms);

#endif
