#include "bridge/telemetry/due.h"

enum { LINKS_AT_ONCE = 4 };
static const int64_t STEP_NS = 200000; /* per link */

void due_init(struct due *schedule, int64_t period_ns, int64_t origin_ns,
              const struct due_place *place)
{
    int64_t step_ns = period_ns / (int64_t)place->n_links;
    if (step_ns > STEP_NS)
        step_ns = STEP_NS;
    *schedule = (struct due){
        .period_ns = period_ns,
        .due_ns = origin_ns + step_ns * (int64_t)(place->link / LINKS_AT_ONCE * LINKS_AT_ONCE) +
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
