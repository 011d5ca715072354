#include "devices/registers/cfg_values.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"

size_t cfg_values_name(const char *text)
{
    return strspn(text, NAME_CHARACTERS);
}

struct cfg_values *cfg_values_find(struct cfg_values *values, const char *name, size_t size)
{
    while (values != NULL &&
           (strlen(values->name) != size || memcmp(values->name, name, size) != 0))
        values = values->next;
    return values;
}

struct cfg_values *cfg_values_set(struct cfg_values **values, const char *name, size_t size,
                                  const char *text)
{
    struct cfg_values *value = calloc(1, sizeof(*value));
    if (value == NULL)
        return NULL;
    value->name = strndup(name, size);
    value->text = strdup(text);
    if (value->name == NULL || value->text == NULL) {
        cfg_values_free(value);
        return NULL;
    }
    while (*values != NULL)
        values = &(*values)->next;
    *values = value;
    return value;
}

void cfg_values_free(struct cfg_values *values)
{
    while (values != NULL) {
        struct cfg_values *value = values;
        values = value->next;
        free(value->name);
        free(value->text);
        free(value);
    }
}

/* The size of a @name@ at the beginning of a text; 0 = there is none. */
static size_t mark_size(const char *at, const char *end)
{
    const size_t size = *at == '@' ? cfg_values_name(at + 1) : 0;
    return size > 0 && at + 1 + size < end && at[1 + size] == '@' ? size + 2 : 0;
}

char *cfg_values_fill(struct cfg_values *values, const char *text, size_t size,
                      const char **unknown)
{
    const char *end = text + size;
    char *filled = NULL;
    size_t room = 0;
    FILE *out = open_memstream(&filled, &room);
    *unknown = NULL;
    for (const char *at = text; out != NULL && at < end;) {
        const size_t mark = mark_size(at, end);
        struct cfg_values *value = mark > 0 ? cfg_values_find(values, at + 1, mark - 2) : NULL;
        if (mark > 0 && value == NULL && *unknown == NULL)
            *unknown = at + 1;
        if (value == NULL) {
            (void)fputc(*at++, out);
            continue;
        }
        (void)fputs(value->text, out);
        value->is_used = true;
        at += mark;
    }
    if (out == NULL || fclose(out) != 0 || *unknown != NULL) {
        free(filled);
        return NULL;
    }
    return filled;
}
