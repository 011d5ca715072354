#include "bridge/cli/types.h"

#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* DIRECTORY/TYPE.cfg -> TYPE */
static char *type_of(const char *path)
{
    const char *name = strrchr(path, '/') + 1;
    return strndup(name, strlen(name) - strlen(".cfg"));
}

char **types_list(const char *const *directories)
{
    glob_t files = {0};
    for (; *directories != NULL; directories++) {
        char pattern[PATH_MAX];
        snprintf(pattern, sizeof(pattern), "%s/*.cfg", *directories);
        glob(pattern, GLOB_APPEND, NULL, &files);
    }
    char **types = calloc(files.gl_pathc + 1, sizeof(*types));
    size_t n = 0;
    for (size_t i = 0; types != NULL && i < files.gl_pathc; i++) {
        char *type = type_of(files.gl_pathv[i]);
        if (type != NULL && !types_has(types, type))
            types[n++] = type;
        else
            free(type);
    }
    globfree(&files);
    if (types != NULL)
        qsort(types, n, sizeof(*types), compare);
    return types;
}

void types_free(char **types)
{
    for (size_t i = 0; types != NULL && types[i] != NULL; i++)
        free(types[i]);
    free(types);
}

bool types_has(char *const *types, const char *type)
{
    for (; *types != NULL; types++)
        if (strcmp(*types, type) == 0)
            return true;
    return false;
}
