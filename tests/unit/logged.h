/* logged: stderr as a pipe, read as lines. Reading waits: that is how a test
 * waits for what a thread logs. */
#ifndef TESTS_UNIT_LOGGED_H
#define TESTS_UNIT_LOGGED_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct logged {
    FILE *lines;
    int stderr_kept;
    char line[1100]; /* the last one read */
};

/* From now on. */
static inline bool logged_begin(struct logged *logged)
{
    int ends[2];
    if (pipe(ends) != 0)
        return false;
    logged->lines = fdopen(ends[0], "r");
    logged->stderr_kept = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    return logged->lines;
}

/* No more lines; what was written and not yet read stays readable. */
static inline void logged_end(struct logged *logged)
{
    dup2(logged->stderr_kept, STDERR_FILENO);
}

/* False at the end, which comes only after logged_end(). */
static inline bool logged_next(struct logged *logged)
{
    return fgets(logged->line, sizeof logged->line, logged->lines);
}

/* The next line that has both texts in it. */
static inline bool logged_find(struct logged *logged, const char *first, const char *second)
{
    while (logged_next(logged))
        if (strstr(logged->line, first) && strstr(logged->line, second))
            return true;
    return false;
}

static inline void logged_free(struct logged *logged)
{
    logged_end(logged);
    close(logged->stderr_kept);
    fclose(logged->lines);
}

#endif
