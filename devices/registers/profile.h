/* profile: a device type, read from a file.
 *
 * Profiles are libconfig files named <type>.cfg; devices/README.md describes
 * every key. Found first in the site's own directory, then in the data
 * directory. Read once at start, never changed afterwards.
 */
#ifndef DEVICES_REGISTERS_PROFILE_H
#define DEVICES_REGISTERS_PROFILE_H

#include "devices/registers/cfg.h"
#include "devices/registers/drive.h"
#include "devices/registers/point.h"

enum {
    PROFILE_ROWS_MAX = 256,                                 /* of a file */
    PROFILE_POINTS_MAX = PROFILE_ROWS_MAX + DRIVE_MADE_MAX, /* with those that are made */
    PROFILE_RANGES_MAX = 32
};

/* Registers first..last that may not be read through when they lie in a gap. */
struct profile_range {
    enum point_table table;
    uint16_t first, last;
    uint16_t model; /* the file's sunspec_model, from which they count; 0 */
};

struct profile {
    char type[POINT_NAME_MAX + 1];
    uint64_t hash; /* of all that the file says: cfg_hash() */
    char manufacturer[64];
    char model[64];
    unsigned max_registers; /* most registers in one read, 1..125 */
    unsigned max_gap;       /* unneeded registers worth reading to save a request */
    unsigned n_points;
    struct point *points;
    unsigned n_unreadable;
    struct profile_range unreadable[PROFILE_RANGES_MAX];
    struct drive drive; /* how a battery of this type is commanded */
};

/* Reads the profile of `type` from the first directory of `directories`
 * (NULL-terminated) that has <type>.cfg. Problems are reported through `cfg`,
 * at `where` when no directory has the file (the message names them all).
 * Returns NULL after a problem. Free with profile_free(). */
struct profile *profile_read(struct cfg *cfg, const struct cfg_setting *where,
                             const char *const *directories, const char *type);
void profile_free(struct profile *profile);

/* The same from one named file. */
struct profile *profile_read_file(struct cfg *cfg, const char *path, const char *type);

/* NULL-terminated list of directories searched for profiles: $FLUXBRIDGE_PROFILES,
 * the site's own /etc/fluxbridge/profiles, the source tree's when the running
 * program stands in its build tree, the installed data directory. Static, made
 * anew by each call. */
const char *const *profile_directories(void);

#endif
