/* cfg_file: a configuration file as a tree of settings.
 *
 * libconfig's notation: groups { }, lists ( ) and arrays [ ] of texts, numbers and
 * booleans, and @include. A file that cannot be read or understood is one problem,
 * with file, line and what was likely meant; a name that stands twice in a group is
 * one each. Nothing in here ends the process or waits: it may run in a live daemon.
 *
 * A tree is read-only and may be shared; struct cfg belongs to one reader.
 */
#ifndef DEVICES_REGISTERS_CFG_FILE_H
#define DEVICES_REGISTERS_CFG_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Where problems go. */
struct cfg {
    FILE *out;         /* NULL = count only */
    const char *file;  /* named when there is no setting to name */
    unsigned problems; /* errors so far */
    unsigned warnings;
};

struct cfg_setting;

/* Reports one problem at `where` (NULL: the file as a whole). */
void cfg_problem(struct cfg *cfg, const struct cfg_setting *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void cfg_warning(struct cfg *cfg, const struct cfg_setting *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Reads and parses a file. @include is relative to the file's directory. Returns the
 * outermost group, or NULL after a problem. */
const struct cfg_setting *cfg_open(struct cfg *cfg, const char *path);
/* Gives back the whole tree of such a group. NULL is no tree. */
void cfg_close(const struct cfg_setting *root);

/* The setting `name` of a group; NULL when there is none, or it is no group. */
const struct cfg_setting *cfg_member(const struct cfg_setting *group, const char *name);
/* The same along a path such as "mqtt.tls.key_file". */
const struct cfg_setting *cfg_lookup(const struct cfg_setting *group, const char *path);

/* Settings in a group, elements of a list or array; 0 for anything else, and NULL. */
unsigned cfg_length(const struct cfg_setting *setting);
/* The index-th of them. Walk them with cfg_next(), NULL at the end. */
const struct cfg_setting *cfg_element(const struct cfg_setting *setting, unsigned index);
const struct cfg_setting *cfg_first(const struct cfg_setting *setting);
const struct cfg_setting *cfg_next(const struct cfg_setting *setting);

bool cfg_is_group(const struct cfg_setting *setting); /* { } */
bool cfg_is_list(const struct cfg_setting *setting);  /* ( ) */
bool cfg_is_row(const struct cfg_setting *setting);   /* [ ], or ( ) */

/* NULL for an element of a list or array. */
const char *cfg_name(const struct cfg_setting *setting);

/* A text, or NULL when the setting is none. */
const char *cfg_text(const struct cfg_setting *setting);

/* The functions below return false, and leave their result alone, when the setting
 * is no such thing. */
bool cfg_boolean(const struct cfg_setting *setting, bool *boolean);

/* A number, integer or float alike. */
bool cfg_number(const struct cfg_setting *setting, double *number);

/* A whole number of 64 bits, also one written as 502.0 or as a text, "0x1F6". */
bool cfg_integer(const struct cfg_setting *setting, int64_t *integer);

/* The content of at most 64 bits: from -2^63 to 2^64 - 1, as its two's complement. */
bool cfg_content(const struct cfg_setting *setting, uint64_t *content, bool *negative);

#endif
