#include "bridge/commands/audit_formers.h"

#include <string.h>

#include "bridge/commands/audit_file.h"

#define KEY "audit/formers"

_Static_assert(AUDIT_FORMERS_MAX + 1 <= AUDIT_FILE_PATHS_MAX, "all of them are read");

void audit_formers_get(struct state *state, char formers[AUDIT_FORMERS_SIZE])
{
    formers[0] = '\0';
    if (state != NULL)
        (void)state_get(state, KEY, formers, AUDIT_FORMERS_SIZE);
}

void audit_formers_add(struct state *state, const char *path)
{
    const char *lines[AUDIT_FORMERS_MAX];
    char old[AUDIT_FORMERS_SIZE], formers[AUDIT_FORMERS_SIZE];
    char *rest = NULL, *end = formers;
    unsigned n = 0;
    if (state == NULL)
        return;
    audit_formers_get(state, old);
    for (char *line = strtok_r(old, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (strcmp(line, path) == 0 || strlen(line) > CONF_PATH_MAX)
            continue;
        if (n == AUDIT_FORMERS_MAX - 1)
            memmove(lines, lines + 1, --n * sizeof *lines);
        lines[n++] = line;
    }
    for (unsigned i = 0; i < n; i++)
        end = stpcpy(stpcpy(end, lines[i]), "\n");
    strcpy(end, path);
    (void)state_put(state, KEY, formers);
}

int audit_formers_read(char formers[AUDIT_FORMERS_SIZE], const char *path, char **lines)
{
    const char *paths[AUDIT_FORMERS_MAX + 1];
    char *rest = NULL;
    unsigned n = 0;
    for (char *former = strtok_r(formers, "\n", &rest); former && n < AUDIT_FORMERS_MAX;
         former = strtok_r(NULL, "\n", &rest))
        if (strcmp(former, path) != 0)
            paths[n++] = former;
    paths[n++] = path;
    return audit_file_read(paths, n, lines);
}
