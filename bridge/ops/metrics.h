/* metrics: /metrics and /healthz, for programs that watch the bridge.
 *
 * Prometheus text format 0.0.4. Only reads counters.
 */
#ifndef BRIDGE_OPS_METRICS_H
#define BRIDGE_OPS_METRICS_H

#include "bridge/ops/view.h"

void metrics_put(FILE *out, const struct view *view);

/* Whether every thread moves; and that in words, with the state of the broker. */
bool metrics_are_healthy(const struct view *view);
void metrics_put_health(FILE *out, const struct view *view);

#endif
