#include "bridge/telemetry/due.h"

enum { FEW_LINKS = 128, FEW_AT_ONCE = 2, MANY_AT_ONCE = 4 };
static const int64_t STEP_NS = 200000; /* per link */

void due_init(struct due *schedule, int64_t period_ns, int64_t origin_ns,
              const struct due_place *place)
{
    const unsigned at_once = place->n_links <= FEW_LINKS ? FEW_AT_ONCE : MANY_AT_ONCE;
    int64_t step_ns = period_ns / (int64_t)place->n_links;
    if (step_ns > STEP_NS)
        step_ns = STEP_NS;
    *schedule = (struct due){
        .period_ns = period_ns,
        .due_ns = origin_ns + step_ns * (int64_t)(place->link / at_once * at_once) +
                  period_ns / (int64_t)place->n_units * (int64_t)place->unit,
    };
}

void due_served(struct due *schedule, int64_t now_ns)
{
    schedule->due_ns += schedule->period_ns;
    if (schedule->due_ns > now_ns)
        return;
    int64_t passed = (now_ns - schedule->due_ns) / schedule->period_ns + 1;
    schedule->missed += (uint64_t)passed;
    schedule->due_ns += passed * schedule->period_ns;
}
