/* trust: for how long the kernel has not called UTC synchronised.
 *
 * Schedules go by UTC. What is known of it is in health, for every thread: the
 * monotonic time since when it is not synchronised, which a restart of the bridge
 * within the same boot does not set back. Called by main, which alone owns it.
 */
#ifndef BRIDGE_BATTERY_TRUST_H
#define BRIDGE_BATTERY_TRUST_H

#include "bridge/model/health.h"
#include "bridge/store/state.h"

struct trust {
    bool is_distrusted; /* as last said in the log */
    bool is_recalled;   /* what a run before has known */
};

/* Looks at the clock: `synchronised` as the kernel says. To be called each few seconds,
 * and once before any battery begins. What the state knows counts from when that is
 * loaded; `state` NULL = nothing survives a restart. */
void trust_look(struct trust *trust, struct health *health, struct state *state, bool synchronised,
                int64_t now_ns);

#endif
