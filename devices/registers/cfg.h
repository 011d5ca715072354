/* cfg: configuration files.
 *
 * libconfig reads them and holds their tree; cfg_lexer sees to it that nothing ends the
 * process or waits on the way, so that a live daemon may read one. A file that cannot be
 * read or understood is one problem, with file, line and what was likely meant; a name
 * that stands twice in a group is one each.
 *
 * A group is described by rows of `struct cfg_field`; one function reads it, converts,
 * checks ranges, and reports unknown and missing keys. Every problem is printed as
 * `FILE:LINE: message` and counted; reading carries on, so that one run shows them all.
 *
 * A tree is read-only and may be shared; struct cfg belongs to one reader. cfg.c alone
 * includes <libconfig.h>.
 */
#ifndef DEVICES_REGISTERS_CFG_H
#define DEVICES_REGISTERS_CFG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Where problems go. */
struct cfg {
    FILE *out;         /* NULL = count only */
    const char *file;  /* named when there is no setting to name */
    bool waits;        /* what may come later is no problem */
    bool lacks;        /* memory or descriptors, at a problem that may be gone the next time */
    unsigned problems; /* errors so far */
    unsigned outside;  /* of these: files that may come later */
    unsigned warnings;
};

struct cfg_setting;

/* Reports one problem at `where` (NULL: the file as a whole). */
void cfg_problem(struct cfg *cfg, const struct cfg_setting *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void cfg_warning(struct cfg *cfg, const struct cfg_setting *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* That there is no memory for what stands there. */
void cfg_no_memory(struct cfg *cfg, const struct cfg_setting *where);

/* Reads and parses a file. @include is relative to the file's directory. Returns the
 * outermost group, or NULL after a problem. */
const struct cfg_setting *cfg_open(struct cfg *cfg, const char *path);
/* Gives back the whole tree of such a group. NULL is no tree. */
void cfg_close(const struct cfg_setting *root);

/* Warns of what @let sets and nothing uses: mostly a slip, and what holds is the template's own. */
void cfg_warn_unused(struct cfg *cfg, const struct cfg_setting *root);

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

/* The SHA-256 of the files as they were read, each include in its place, in lower-case
 * hexadecimal; "" when it cannot be made. */
enum { CFG_SHA256_MAX = 64 };
void cfg_sha256(const struct cfg_setting *root, char text[CFG_SHA256_MAX + 1]);

/* A number that two settings share if and only if they say the same, blanks and comments
 * aside (64 bits of FNV-1a: never of what somebody may have chosen to be alike). NULL: 0. */
uint64_t cfg_hash(const struct cfg_setting *setting);

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
