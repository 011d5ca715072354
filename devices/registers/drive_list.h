/* drive_list: the rows that a group `control` names, and its lists of writes; a part of
 * drive.
 *
 *     set = ( { point = "mode"; value = 2; }, { block = ( ... ); } );
 *
 * Problems are reported through the reader's `cfg`. For drive_read.c, which reads the rest
 * of the group.
 */
#ifndef DEVICES_REGISTERS_DRIVE_LIST_H
#define DEVICES_REGISTERS_DRIVE_LIST_H

#include "devices/registers/drive.h"

/* What is being read. */
struct drive_reader {
    struct cfg *cfg;
    struct point *points;
    unsigned n_points;
    struct drive *drive;
};

/* A write, a ratio or a timeout as written. */
struct drive_entry {
    char point[POINT_NAME_MAX + 1], of[POINT_NAME_MAX + 1];
    double number;
    int when;
};

/* The row of this name; -1. */
int drive_look_up(const struct drive_reader *reader, const char *name);

/* A row by its name. -1 and a problem when there is none. */
int drive_find(const struct drive_reader *reader, const struct cfg_setting *where,
               const char *name);

/* The same of one that is written: it needs access = "rw". */
int drive_find_written(const struct drive_reader *reader, const struct cfg_setting *where,
                       const char *name);

/* Another row, without registers of its own. -1 and a problem when there is one. */
int drive_make_point(struct drive_reader *reader, const struct cfg_setting *where, const char *name,
                     const char *unit);

/* A number that stands there for a point: it must fit. */
void drive_check_fits(const struct drive_reader *reader, const struct cfg_setting *where, int index,
                      double number);

/* The list of writes that the group has under this key, if it has one. */
void drive_read_list(struct drive_reader *reader, const struct cfg_setting *group, const char *key,
                     struct drive_list *list);

#endif
