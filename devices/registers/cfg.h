/* cfg: reading configuration files by table.
 *
 * A group of a configuration is described by rows of `struct cfg_field`; one
 * function reads it, converts, checks ranges, and reports unknown and missing
 * keys. Every problem is printed as `FILE:LINE: message` and counted; reading
 * carries on, so that one run shows them all.
 *
 * A struct cfg belongs to one thread.
 */
#ifndef DEVICES_REGISTERS_CFG_H
#define DEVICES_REGISTERS_CFG_H

#include "devices/registers/cfg_file.h"

enum cfg_kind {
    CFG_TEXT,     /* char[size]; longer is a problem, as are broken UTF-8 and control characters */
    CFG_NUMBER,   /* double; integers and floats alike */
    CFG_INTEGER,  /* int64_t */
    CFG_BOOLEAN,  /* bool */
    CFG_DURATION, /* int64_t nanoseconds from "500ms" "5s" "1m" "2h"; min/max in seconds */
    CFG_SIZE,     /* int64_t bytes from "64KiB" "256MiB" "2GiB" or a plain integer */
    CFG_CHOICE,   /* int: index into choices */
    CFG_OTHER,    /* known key that the caller reads itself */
};

struct cfg_field {
    const char *key;
    enum cfg_kind kind;
    size_t offset; /* into the structure that is filled */
    size_t size;   /* CFG_TEXT: sizeof the array */
    bool required;
    double min, max;            /* inclusive; both 0 = unbounded; a text's min 1: not empty */
    const char *const *choices; /* CFG_CHOICE, NULL-terminated */
};

#define CFG_END                                                                                    \
    {                                                                                              \
        .key = NULL                                                                                \
    }

/* Reads `group` into `into` by `fields` (ended by CFG_END). Keys that are
 * absent leave what is there: fill in defaults first. Returns true when this
 * group had no problem. */
bool cfg_read(struct cfg *cfg, const struct cfg_setting *group, const struct cfg_field *fields,
              void *into);

/* True for a name of [A-Za-z0-9_-]{1,64}. */
bool cfg_is_name(const char *name);

#endif
