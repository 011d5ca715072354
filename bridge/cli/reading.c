#include "bridge/cli/reading.h"

#include <limits.h>
#include <stdlib.h>

bool reading_init(struct reading *reading, const struct device *device, const bool *wanted)
{
    const size_t n = device->n_points;
    *reading = (struct reading){.device = device, .most_failed = UINT_MAX};
    reading->plan = plan_new(device, wanted);
    reading->values = calloc(n, sizeof(*reading->values));
    reading->words = calloc(n, sizeof(*reading->words));
    reading->plausible = calloc(n, sizeof(*reading->plausible));
    return reading->plan != NULL && reading->values != NULL && reading->words != NULL &&
           reading->plausible != NULL;
}

void reading_free(struct reading *reading)
{
    plan_free(reading->plan);
    free(reading->values);
    free(reading->words);
    free(reading->plausible);
}

enum fault reading_take(struct reading *reading, struct link *link)
{
    const struct device *device = reading->device;
    enum scan_step step = SCAN_MORE;
    struct scan scan;

    scan_begin(&scan, reading->plan, device, reading->number, reading->values);
    scan.words = reading->words;
    enum fault fault = link_open(link, device->modbus.timeout_ns);
    if (fault != FAULT_NONE)
        scan_break(&scan, fault);
    while (fault == FAULT_NONE && step == SCAN_MORE && scan.failed <= reading->most_failed)
        step = scan_step(&scan, link, &fault);
    for (unsigned i = 0; i < device->n_points; i++)
        plausible_check(&device->points[i], &reading->plausible[i], &reading->values[i]);
    reading->read = scan.read;
    reading->failed = scan.failed;
    return fault;
}
