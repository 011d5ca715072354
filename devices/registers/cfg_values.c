#include "devices/registers/cfg_values.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"

struct cfg_values {
    struct cfg_values *next;
    char *name, *text;
};

size_t cfg_values_name(const char *text)
{
    return strspn(text, NAME_CHARACTERS);
}

static const struct cfg_values *find(const struct cfg_values *values, const char *name, size_t size)
{
    while (values != NULL &&
           (strlen(values->name) != size || memcmp(values->name, name, size) != 0))
        values = values->next;
    return values;
}

bool cfg_values_set(struct cfg_values **values, const char *name, size_t name_size,
                    const char *text, size_t size)
{
    if (find(*values, name, name_size) != NULL)
        return true;
    struct cfg_values *value = calloc(1, sizeof(*value));
    if (value == NULL)
        return false;
    value->next = *values;
    *values = value;
    value->name = strndup(name, name_size);
    value->text = strndup(text, size);
    return value->name != NULL && value->text != NULL;
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

char *cfg_values_fill(const struct cfg_values *values, const char *text, size_t size,
                      const char **unknown)
{
    const char *end = text + size;
    char *filled = NULL;
    size_t room = 0;
    FILE *out = open_memstream(&filled, &room);
    *unknown = NULL;
    for (const char *at = text; out != NULL && at < end;) {
        const size_t mark = values != NULL ? mark_size(at, end) : 0;
        const struct cfg_values *value = mark > 0 ? find(values, at + 1, mark - 2) : NULL;
        if (mark > 0 && value == NULL && *unknown == NULL)
            *unknown = at + 1;
        if (value != NULL)
            (void)fputs(value->text, out);
        else
            (void)fputc(*at, out);
        at += value != NULL ? mark : 1;
    }
    if (out == NULL || fclose(out) != 0 || *unknown != NULL) {
        free(filled);
        return NULL;
    }
    return filled;
}
