/* given: a configuration in a scratch directory, and what was said about it. */
#ifndef TESTS_UNIT_GIVEN_H
#define TESTS_UNIT_GIVEN_H

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "devices/registers/cfg.h"

/* Enters a new empty directory, so that files have short names in messages. */
static inline int given_directory(void **state)
{
    char *directory = strdup("/tmp/fluxbridge-test-XXXXXX");
    *state = directory;
    return mkdtemp(directory) && chdir(directory) == 0 ? 0 : -1;
}

static inline int remove_directory(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", (char *)*state);
    int result = chdir("/") == 0 ? system(command) : -1;
    free(*state);
    return result;
}

static inline void given_file(const char *name, const char *text)
{
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static inline size_t count_files(const char *pattern)
{
    glob_t found;
    size_t n = glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
    globfree(&found);
    return n;
}

/* A struct cfg that collects what it is told. */
struct given {
    struct cfg cfg;
    char *said;
    size_t size;
};

static inline void given_cfg(struct given *given)
{
    *given = (struct given){.cfg.file = "test.cfg"};
    given->cfg.out = open_memstream(&given->said, &given->size);
    assert_non_null(given->cfg.out);
}

/* Ends the collecting and compares it as a whole. */
static inline void assert_said(struct given *given, const char *expected)
{
    fclose(given->cfg.out);
    assert_string_equal(given->said, expected);
    free(given->said);
}

#endif
