#include "devices/registers/device.h"

#include <string.h>

int64_t device_silence_ns(const struct device *device)
{
    return device->longest_silence_ns > device->poll_ns ? device->longest_silence_ns
                                                        : device->poll_ns;
}

int device_find_point(const struct device *device, const char *name)
{
    for (unsigned i = 0; i < device->n_points; i++)
        if (strcmp(device->points[i].name, name) == 0)
            return (int)i;
    return -1;
}

bool device_may_write(const struct device *device, unsigned point)
{
    const bool control =
        device_drive(device) ? (int)point == device->control.setpoint : device->controllable;
    return point < device->n_points && device->points[point].writable &&
           (control || device->points[point].commanded);
}

bool device_takes_commands(const struct device *device)
{
    for (unsigned i = 0; i < device->n_points; i++)
        if (device_may_write(device, i))
            return true;
    return false;
}
