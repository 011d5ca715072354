/* ha_units: how Home Assistant shows a point's number.
 *
 * Pure, and one table. Home Assistant refuses a sensor whose unit does not fit
 * its device class, so a unit without a class of its own gets none.
 */
#ifndef BRIDGE_PUBLISH_HA_UNITS_H
#define BRIDGE_PUBLISH_HA_UNITS_H

#include "devices/registers/point.h"

struct ha_unit {
    const char *device_class; /* NULL = none */
    const char *state_class;  /* NULL: a setting without a unit, no quantity at all */
    int precision;            /* decimals: those of the register, if worth showing */
};

struct ha_unit ha_units_of(const struct point *point);

#endif
