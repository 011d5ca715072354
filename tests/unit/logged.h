/* logged: stderr as a pipe, read as lines. Reading waits: that is how a test
 * waits for what a thread logs. It is done by read() alone, which the thread
 * sanitizer knows to come after the write(). */
#ifndef TESTS_UNIT_LOGGED_H
#define TESTS_UNIT_LOGGED_H

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

struct logged {
    int in, stderr_kept;
    char line[1100]; /* the last one read */
};

/* From now on. */
static inline bool logged_begin(struct logged *logged)
{
    int ends[2];
    if (pipe(ends) != 0)
        return false;
    logged->in = ends[0];
    logged->stderr_kept = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    return true;
}

/* No more lines; what was written and not yet read stays readable. */
static inline void logged_end(struct logged *logged)
{
    dup2(logged->stderr_kept, STDERR_FILENO);
}

/* False at the end, which comes only after logged_end(). */
static inline bool logged_next(struct logged *logged)
{
    size_t size = 0;
    do {
        if (size == sizeof logged->line - 1 || read(logged->in, logged->line + size, 1) != 1)
            return false;
    } while (logged->line[size++] != '\n');
    logged->line[size] = '\0';
    return true;
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
    close(logged->in);
}

#endif
