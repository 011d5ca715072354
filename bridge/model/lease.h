/* lease: how long a battery may hold a setpoint without a fresh one.
 *
 * Plain data.
 */
#ifndef BRIDGE_MODEL_LEASE_H
#define BRIDGE_MODEL_LEASE_H

#include <stdbool.h>
#include <stdint.h>

struct lease {
    bool runs;
    double value;   /* kW; NaN = of the run before, and not read back yet */
    int64_t end_ns; /* monotonic; in the past until the deadman's own write is confirmed */
};

#endif
