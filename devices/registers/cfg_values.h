/* cfg_values: what stands for @name@ in a configuration that serves many sites.
 *
 * `@let site = "north"` sets one, for all that is read after it. The first that is set
 * stands: what a template sets itself is what holds where a site says nothing. Pure but
 * for memory; part of cfg_lexer.
 */
#ifndef DEVICES_REGISTERS_CFG_VALUES_H
#define DEVICES_REGISTERS_CFG_VALUES_H

#include <stdbool.h>
#include <stddef.h>

struct cfg_source;

/* One that is set. */
struct cfg_values {
    struct cfg_values *next; /* set after it */
    char *name, *text;
    const struct cfg_source *source; /* where it is set */
    unsigned line;
    bool is_used; /* something has it */
};

/* Letters, digits and _ at the beginning of a text: the size of a name, 0 = there is none. */
size_t cfg_values_name(const char *text);

/* The one of that name; NULL = it is not set. */
struct cfg_values *cfg_values_find(struct cfg_values *values, const char *name, size_t size);

/* Sets one that is not set, with a copy of `text` as it stands between quotes. NULL: out of
 * memory. */
struct cfg_values *cfg_values_set(struct cfg_values **values, const char *name, size_t size,
                                  const char *text);
void cfg_values_free(struct cfg_values *values);

/* A malloc'ed copy of a text with each @name@ replaced. NULL: out of memory, or there is a
 * @name@ that is not set, which `*unknown` then points to. */
char *cfg_values_fill(struct cfg_values *values, const char *text, size_t size,
                      const char **unknown);

#endif
