#include "bridge/cli/power_check.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* Powers and what they are made of, over so many phases. */
static const struct {
    const char *power, *voltage, *current;
    int phases;
} sums[] = {
    {"active_power_total", "voltage_ln_avg", "current_avg", 3},
    {"active_power_total", "voltage_l1_n", "current_l1", 3},
    {"apparent_power_total", "voltage_ln_avg", "current_avg", 3},
    {"apparent_power_total", "voltage_l1_n", "current_l1", 3},
    {"active_power_l1", "voltage_l1_n", "current_l1", 1},
    {"active_power_l2", "voltage_l2_n", "current_l2", 1},
    {"active_power_l3", "voltage_l3_n", "current_l3", 1},
};

/* Unequal phases and a poor power factor explain a factor of 100, not more. */
static const double MISFIT = 150;

/* W, kW, MW and the like; 0 for what is no power. */
static double factor(const char *unit)
{
    static const struct {
        const char *unit;
        double factor;
    } factors[] = {{"W", 1}, {"VA", 1},   {"kW", 1e3}, {"kVA", 1e3}, {"MW", 1e6}, {"MVA", 1e6},
                   {"V", 1}, {"kV", 1e3}, {"A", 1},    {"mA", 1e-3}, {"kA", 1e3}};
    for (size_t i = 0; i < sizeof(factors) / sizeof(*factors); i++)
        if (strcmp(factors[i].unit, unit) == 0)
            return factors[i].factor;
    return 0;
}

/* The size of a point in W, V or A; 0 when it was not read. */
static double size_of(const struct device *device, const struct value *values, int point)
{
    if (point < 0 || values[point].state != VALUE_READ)
        return 0;
    return fabs(values[point].number) * factor(device->points[point].unit);
}

int power_check_find_misfit(const struct device *device, const struct value *values, double *ratio)
{
    for (size_t i = 0; i < sizeof(sums) / sizeof(*sums); i++) {
        const int point = device_find_point(device, sums[i].power);
        const double power = size_of(device, values, point);
        const double product = sums[i].phases *
                               size_of(device, values, device_find_point(device, sums[i].voltage)) *
                               size_of(device, values, device_find_point(device, sums[i].current));
        if (power == 0 || product == 0)
            continue;
        if (power / product > MISFIT || power / product < 1 / MISFIT) {
            *ratio = power / product;
            return point;
        }
    }
    return -1;
}
