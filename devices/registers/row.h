/* row: one row of a device type, as it is written.
 *
 * A group of `points` in a profile becomes a struct point; whatever cannot be meant is
 * refused with its place. Labels and sentinels are written in the same way where a
 * device's configuration changes them. devices/README.md describes every key.
 */
#ifndef DEVICES_REGISTERS_ROW_H
#define DEVICES_REGISTERS_ROW_H

#include "devices/registers/cfg.h"
#include "devices/registers/point.h"

/* What the file says once for all of its rows. */
struct row_defaults {
    int order; /* enum point_order */
    int64_t function, sunspec_model;
};

/* Reads a row, judged for itself alone: its neighbours and the limits of its file are
 * the profile's. False when not even name, address and type could be read. Problems are
 * reported through `cfg`. */
bool row_read(struct cfg *cfg, const struct cfg_setting *group, const struct row_defaults *file,
              struct point *point);

/* Refuses what would do nothing in a row or an override: keys of quantities for bits and
 * enumerations, a `low` or `high` that no register reaches. */
void row_check_meaning(struct cfg *cfg, const struct cfg_setting *group, const struct point *point);

/* Makes a new array of the point's labels, those of a list (NULL = none) of
 * `{ value = 0; label = "standby"; }` behind, and room for `spare` more. Doubled values
 * and labels, and values that the point cannot have, are problems. The former array is
 * left alone; the new one is freed by whoever owns the point. */
bool row_read_labels(struct cfg *cfg, const struct cfg_setting *list, unsigned spare,
                     struct point *point);

/* Reads the `sentinels` of a row or an override into the point, if given. */
bool row_read_sentinels(struct cfg *cfg, const struct cfg_setting *group, struct point *point);

#endif
