/* peek: a state file is read while its owner has it locked, and stays as it is. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/store/peek.h"
#include "bridge/store/state.h"
#include "tests/unit/kept_state.h"

static char directory[64], path[96], text[STATE_TEXT_MAX + 1], why[PEEK_WHY_MAX];

static int begin(void **state)
{
    (void)state;
    strcpy(directory, "/tmp/fluxbridge-test-peek-XXXXXX");
    snprintf(path, sizeof path, "%s/state.db", mkdtemp(directory));
    return 0;
}

static int end(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", directory);
    return system(command);
}

static void test_while_it_is_in_use(void **state)
{
    (void)state;
    struct state *store = state_open(path, NULL);
    char wanted[32];
    /* So much that its log is moved into the file and begun anew, several times. */
    for (int i = 0; i < 300; i++) {
        static char large[100000];
        memset(large, 'a' + i % 26, sizeof large - 1);
        snprintf(wanted, sizeof wanted, "text %d", i);
        assert_true(state_put(store, "key", wanted));
        assert_true(state_put(store, "large", large));
        assert_true(state_sync(store, clock_awake_ns() + 60 * CLOCK_NS_PER_S));
        if (i % 10 != 9)
            continue;
        assert_int_equal(peek_text(path, "key", text, sizeof text, why), PEEK_FOUND);
        assert_string_equal(text, wanted);
        assert_int_equal(peek_text(path, "large", text, sizeof text, why), PEEK_FOUND);
        assert_string_equal(text, large);
    }
    assert_int_equal(peek_text(path, "nothing", text, sizeof text, why), PEEK_NOTHING);
    state_close(store);
    assert_int_equal(peek_text(path, "key", text, sizeof text, why), PEEK_FOUND);
    assert_string_equal(text, wanted);
}

static void test_what_is_no_state_file(void **state)
{
    (void)state;
    char other[128];
    struct stat before, after;
    snprintf(other, sizeof other, "%s/other", directory);
    assert_int_equal(peek_text(other, "key", text, sizeof text, why), PEEK_NOTHING);
    FILE *file = fopen(other, "w");
    for (int i = 0; i < 100; i++)
        fputs("this is no database at all\n", file);
    fclose(file);
    assert_int_equal(stat(other, &before), 0);
    why[0] = '\0';
    assert_int_equal(peek_text(other, "key", text, sizeof text, why), PEEK_FAILED);
    assert_true(why[0] != '\0');
    assert_int_equal(stat(other, &after), 0);
    assert_int_equal(before.st_size, after.st_size);
}

/* Nobody waits for whoever writes into a pipe, or for the end of a device. */
static void test_what_is_no_file(void **state)
{
    (void)state;
    char other[128], log[136];
    snprintf(other, sizeof other, "%s/other", directory);
    snprintf(log, sizeof log, "%s-wal", other);
    static const char *const kinds[] = {"/dev/null", "/tmp", NULL};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(kinds[i] != NULL ? symlink(kinds[i], other) : mkfifo(other, 0600), 0);
        assert_int_equal(peek_text(other, "key", text, sizeof text, why), PEEK_FAILED);
        assert_non_null(strstr(why, "is no plain file"));
        assert_int_equal(unlink(other), 0);
    }
    struct state *store = state_open(other, NULL);
    assert_true(state_sync(store, CLOCK_NEVER));
    state_close(store);
    assert_int_equal(mkfifo(log, 0600), 0);
    assert_int_equal(peek_text(other, "key", text, sizeof text, why), PEEK_FAILED);
    assert_non_null(strstr(why, "cannot read"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_while_it_is_in_use, begin, end),
        cmocka_unit_test_setup_teardown(test_what_is_no_state_file, begin, end),
        cmocka_unit_test_setup_teardown(test_what_is_no_file, begin, end),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
