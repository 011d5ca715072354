#include "bridge/publish/ha_units.h"

#include <math.h>
#include <string.h>

#include "devices/registers/codec.h"

/* Device classes with the units and state classes that they take:
 * developers.home-assistant.io/docs/core/entity/sensor. */
struct ha_row {
    const char *unit;
    const char *name;         /* how the point's name begins; "" = any */
    const char *device_class; /* NULL = none that takes this unit */
    const char *state_class;  /* "total" becomes "total_increasing" for counters */
    int precision;            /* most decimals worth showing */
};

/* The first that fits is taken. */
static const struct ha_row rows[] = {
    {"%", "soe", "battery", "measurement", 1},
    {"%", "", NULL, "measurement", 1},
    {"", "power_factor", "power_factor", "measurement", 3},
    {"mV", "", "voltage", "measurement", 0},
    {"V", "", "voltage", "measurement", 1},
    {"kV", "", "voltage", "measurement", 3},
    {"mA", "", "current", "measurement", 0},
    {"A", "", "current", "measurement", 2},
    {"W", "", "power", "measurement", 0},
    {"kW", "", "power", "measurement", 2},
    {"MW", "", "power", "measurement", 3},
    {"var", "", "reactive_power", "measurement", 0},
    {"kvar", "", "reactive_power", "measurement", 2},
    {"VA", "", "apparent_power", "measurement", 0},
    {"kVA", "", "apparent_power", "measurement", 2},
    {"Hz", "", "frequency", "measurement", 3},
    {"Wh", "", "energy", "total", 0},
    {"kWh", "", "energy", "total", 2},
    {"MWh", "", "energy", "total", 3},
    {"varh", "", "reactive_energy", "total", 0},
    {"kvarh", "", "reactive_energy", "total", 2},
    {"VAh", "", NULL, "total", 0},
    {"kVAh", "", NULL, "total", 2},
    {"\u00b0C", "", "temperature", "measurement", 1},
};
static const struct ha_row any_row = {"", "", NULL, "measurement", 3};

static const struct ha_row *find_row(const struct point *point)
{
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(point->unit, rows[i].unit) == 0 &&
            strncmp(point->name, rows[i].name, strlen(rows[i].name)) == 0)
            return &rows[i];
    }
    return &any_row;
}

static int precision(const struct point *point, int most)
{
    double step = codec_step(point);
    int digits = 0;
    if (step == 0 || point->scale_row != 0) /* the device says how fine it is */
        return most;
    while (digits < most && fabs(step - round(step)) > 1e-6 * step) {
        step *= 10;
        digits++;
    }
    return digits;
}

struct ha_unit ha_units_of(const struct point *point)
{
    const struct ha_row *row = find_row(point);
    struct ha_unit quantity = {
        .device_class = row->device_class,
        .state_class = row->state_class,
        .precision = precision(point, row->precision),
    };
    if (strcmp(row->state_class, "total") == 0 && point->counter)
        quantity.state_class = "total_increasing";
    if (row == &any_row && point->unit[0] == '\0' && point->writable)
        quantity.state_class = NULL;
    return quantity;
}
