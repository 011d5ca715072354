/* cfg: reading libconfig files by table.
 *
 * A group of a configuration is described by rows of `struct cfg_field`; one
 * function reads it, converts, checks ranges, and reports unknown, missing and
 * doubled keys. Every problem is printed as `FILE:LINE: message` and counted;
 * reading carries on, so that one run shows them all.
 *
 * The only module that includes <libconfig.h> besides those that walk lists of
 * groups (profile, device, conf). Not thread-safe; used before threads start.
 */
#ifndef DEVICES_REGISTERS_CFG_H
#define DEVICES_REGISTERS_CFG_H

#include <libconfig.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Where problems go. */
struct cfg {
    FILE *out;         /* NULL = count only */
    const char *file;  /* named when libconfig knows no better */
    unsigned problems; /* errors so far */
    unsigned warnings;
};

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
bool cfg_read(struct cfg *cfg, const config_setting_t *group, const struct cfg_field *fields,
              void *into);

/* Reports one problem at `where` (NULL: the file as a whole). */
void cfg_problem(struct cfg *cfg, const config_setting_t *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void cfg_warning(struct cfg *cfg, const config_setting_t *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Opens and parses a file; a syntax error or an unreadable file is reported as
 * a problem and false returned. @include is relative to the file's directory.
 * On true the caller ends with config_destroy(). */
bool cfg_open(struct cfg *cfg, config_t *config, const char *path);

/* A number, integer or float alike. False when the setting is no number. */
bool cfg_number(const config_setting_t *setting, double *number);

/* A whole number, also one written as 502.0. False when it is none. */
bool cfg_integer(const config_setting_t *setting, int64_t *integer);

/* True for a name of [A-Za-z0-9_-]{1,64}. */
bool cfg_is_name(const char *name);

#endif
