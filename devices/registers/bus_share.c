#include "devices/registers/bus_share.h"

#include "devices/lines/bustime.h"

enum { CLASSES_PERIOD = 240 }; /* scans: a multiple of most poll classes */

double bus_share(const struct device *device, const struct plan *plan)
{
    const struct device_modbus *modbus = &device->modbus;
    if (modbus->serial[0] == '\0')
        return 0;
    int64_t busy_ns = 0;
    for (uint64_t scan = 0; scan < CLASSES_PERIOD; scan++) {
        struct plan_block block;
        for (unsigned next = 0; plan_next(plan, next, scan, &block, &next);)
            busy_ns += bustime_read_ns(modbus, block.table, block.count);
    }
    return (double)busy_ns / CLASSES_PERIOD / (double)device->poll_ns;
}
