#include "bridge/model/health.h"

#include <stdlib.h>

const uint32_t health_class_us[HEALTH_CLASSES] = {500,   1000,   2500,   5000,    10000,  25000,
                                                  50000, 100000, 250000, 1000000, 5000000};

bool health_init(struct health *health, unsigned n_devices)
{
    health->devices = calloc(n_devices, sizeof(*health->devices));
    return health->devices != NULL;
}

void health_free(struct health *health)
{
    free(health->devices);
}

void health_duration(struct health_device *device, int64_t duration_ns)
{
    const uint64_t us = (uint64_t)(duration_ns / 1000);
    unsigned class = 0;
    while (class < HEALTH_CLASSES && us > health_class_us[class])
        class ++;
    health_count(&device->durations[class]);
    atomic_fetch_add_explicit(&device->duration_us, us, memory_order_relaxed);
}

void health_renew(struct health *health, unsigned device)
{
    struct health_device *counters = &health->devices[device];
    atomic_store(&counters->polls, 0);
    for (unsigned i = 0; i < FAULT_COUNT; i++)
        atomic_store(&counters->errors[i], 0);
    for (unsigned i = 0; i <= HEALTH_CLASSES; i++)
        atomic_store(&counters->durations[i], 0);
    atomic_store(&counters->duration_us, 0);
    atomic_store(&counters->last_good_ns, 0);
    atomic_store(&counters->schedule, 0);
    atomic_store(&counters->control, CONTROL_NONE);
    atomic_store(&counters->beats_late, 0);
}
