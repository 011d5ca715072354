#include "bridge/schedule.h"

void schedule_init(struct schedule *schedule, int64_t period_ns, int64_t origin_ns, unsigned index,
                   unsigned count)
{
    *schedule = (struct schedule){
        .period_ns = period_ns,
        .due_ns = origin_ns + period_ns / (int64_t)count * (int64_t)index,
    };
}

void schedule_served(struct schedule *schedule, int64_t now_ns)
{
    schedule->due_ns += schedule->period_ns;
    if (schedule->due_ns > now_ns)
        return;
    int64_t passed = (now_ns - schedule->due_ns) / schedule->period_ns + 1;
    schedule->missed += (uint64_t)passed;
    schedule->due_ns += passed * schedule->period_ns;
}
