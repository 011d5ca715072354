/* What arrives on stderr: whole lines of bounded length, which nothing from
 * outside can forge. */
#include "bridge/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { LINE_BYTES = 1024 };

/* A socket of packets: each write() stays one. */
static int said[2];
static int real_stderr;

static int open_socket(void **state)
{
    (void)state;
    real_stderr = dup(STDERR_FILENO);
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, said);
}

static int close_socket(void **state)
{
    (void)state;
    return close(said[0]) | close(said[1]) | close(real_stderr);
}

static int calm(void **state)
{
    (void)state;
    log_set_level(LOG_LEVEL_INFO);
    return unsetenv("JOURNAL_STREAM");
}

/* stderr is the socket only while something is logged. */
static void begin(void)
{
    dup2(said[1], STDERR_FILENO);
}

/* Takes the one packet; "" when nothing was written. */
static void end(char line[2 * LINE_BYTES])
{
    dup2(real_stderr, STDERR_FILENO);
    ssize_t size = recv(said[0], line, 2 * LINE_BYTES - 1, 0);
    line[size < 0 ? 0 : size] = '\0';
    char more;
    assert_int_equal(recv(said[0], &more, 1, 0), -1);
}

#define LOGGED(line, call) (begin(), call, end(line))

/* The text after the time and the level. */
static const char *text_of(const char *line, const char *level)
{
    const char *found = strstr(line, level);
    assert_non_null(found);
    return found + strlen(level);
}

static void test_line(void **state)
{
    (void)state;
    char line[2 * LINE_BYTES];
    struct timespec before, after;
    clock_gettime(CLOCK_REALTIME, &before);
    LOGGED(line, log_info("link lost link=%d after_s=%s", 7, "12"));
    clock_gettime(CLOCK_REALTIME, &after);
    struct tm utc = {0};
    char *rest = strptime(line, "%Y-%m-%dT%H:%M:%S", &utc);
    assert_non_null(rest);
    assert_true(timegm(&utc) >= before.tv_sec && timegm(&utc) <= after.tv_sec);
    assert_int_equal(rest[0], '.');
    assert_int_equal(strspn(rest + 1, "0123456789"), 3);
    assert_string_equal(rest + 4, "Z info: link lost link=7 after_s=12\n");
}

static void test_levels(void **state)
{
    (void)state;
    static void (*const verbs[])(const char *, ...) = {log_error, log_warning, log_info};
    char line[2 * LINE_BYTES];
    for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
        log_set_level((enum log_level)level);
        for (int verb = LOG_LEVEL_ERROR; verb <= LOG_LEVEL_INFO; verb++) {
            LOGGED(line, verbs[verb]("x"));
            assert_int_equal(strlen(line) > 0, verb <= level);
            if (verb <= level) {
                char end_of_line[32];
                snprintf(end_of_line, sizeof end_of_line, "Z %s: x\n", log_level_words[verb]);
                assert_non_null(strstr(line, end_of_line));
            }
        }
    }
    assert_null(log_level_words[LOG_LEVEL_DEBUG + 1]);
}

static void test_no_forged_line(void **state)
{
    (void)state;
    char line[2 * LINE_BYTES];
    LOGGED(line, log_info("topic=%s", "a\nb\rc\x1b[2Jd\te\x7f"
                                      "f\xc3\xa4"));
    assert_string_equal(text_of(line, "info: "), "topic=a?b?c?[2Jd?e?f\xc3\xa4\n");
}

static void test_cut(void **state)
{
    (void)state;
    char line[2 * LINE_BYTES], text[3000], fits[LINE_BYTES];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    LOGGED(line, log_info("%s", text));
    assert_int_equal(strlen(line), LINE_BYTES);
    assert_string_equal(line + LINE_BYTES - 5, "x...\n");

    /* A line of exactly the limit is whole, and one more byte is not. */
    LOGGED(line, log_info("%s", ""));
    size_t room = LINE_BYTES - strlen(line);
    snprintf(fits, sizeof fits, "%.*s", (int)room, text);
    LOGGED(line, log_info("%s", fits));
    assert_int_equal(strlen(line), LINE_BYTES);
    assert_string_equal(line + LINE_BYTES - 2, "x\n");
    LOGGED(line, log_info("%sy", fits));
    assert_int_equal(strlen(line), LINE_BYTES);
    assert_string_equal(line + LINE_BYTES - 5, "x...\n");
}

/* The cut falls on every byte of a character once. */
static void test_cut_utf8(void **state)
{
    (void)state;
    char line[2 * LINE_BYTES], text[4 * 500 + 1];
    for (size_t i = 0; i < sizeof text - 1; i += 4)
        strcpy(text + i, "\xf0\x9f\x94\x8b");
    for (size_t shift = 0; shift < 4; shift++) {
        LOGGED(line, log_info("%.*s%s", (int)shift, "abc", text));
        const char *characters = text_of(line, "info: ") + shift;
        size_t size = strlen(characters) - strlen("...\n");
        assert_int_equal(size % 4, 0);
        assert_memory_equal(characters, text, size);
        assert_string_equal(characters + size, "...\n");
        assert_in_range(strlen(line), LINE_BYTES - 3, LINE_BYTES);
    }
}

static void test_errno(void **state)
{
    (void)state;
    char line[2 * LINE_BYTES];
    begin();
    errno = ENOSPC;
    log_error("it failed: %m");
    int kept = errno;
    end(line);
    assert_string_equal(text_of(line, "error: "), "it failed: No space left on device\n");
    assert_int_equal(kept, ENOSPC);

    close(STDERR_FILENO);
    errno = ENOSPC;
    log_error("nobody reads this");
    kept = errno;
    dup2(real_stderr, STDERR_FILENO);
    assert_int_equal(kept, ENOSPC);
}

static void test_journal(void **state)
{
    (void)state;
    char line[2 * LINE_BYTES], stream[64];
    struct stat status;
    assert_int_equal(fstat(said[1], &status), 0);
    snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)status.st_dev,
             (unsigned long long)status.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_set_level(LOG_LEVEL_DEBUG);
    LOGGED(line, log_error("x"));
    assert_string_equal(line, "<3>x\n");
    LOGGED(line, log_warning("x"));
    assert_string_equal(line, "<4>x\n");
    LOGGED(line, log_info("x"));
    assert_string_equal(line, "<6>x\n");

    /* Inherited, but stderr is something else now. */
    snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)status.st_dev,
             (unsigned long long)status.st_ino + 1);
    setenv("JOURNAL_STREAM", stream, 1);
    LOGGED(line, log_info("x"));
    assert_string_equal(text_of(line, "Z info: "), "x\n");
}

/* ---- with a thread of its own ---- */

static struct {
    int out, in;
    size_t filler; /* bytes that were in it before */
    char text[1 << 20];
    size_t size;
} stuck;

/* stderr is a pipe that is full. */
static void begin_stuck(void)
{
    int ends[2];
    char byte = '.';
    assert_int_equal(pipe(ends), 0);
    stuck.in = ends[0];
    stuck.out = ends[1];
    stuck.filler = stuck.size = 0;
    assert_int_equal(fcntl(stuck.out, F_SETFL, O_NONBLOCK), 0);
    while (write(stuck.out, &byte, 1) == 1)
        stuck.filler++;
    assert_int_equal(fcntl(stuck.out, F_SETFL, 0), 0);
    dup2(stuck.out, STDERR_FILENO);
}

/* Reads until `last` has come, which is looked for in whole lines. */
static void read_until(const char *last)
{
    char *found = NULL;
    while (found == NULL || strchr(found, '\n') == NULL) {
        assert_true(stuck.size < sizeof stuck.text - 1);
        ssize_t got = read(stuck.in, stuck.text + stuck.size, sizeof stuck.text - 1 - stuck.size);
        assert_true(got > 0);
        stuck.size += (size_t)got;
        stuck.text[stuck.size] = '\0';
        found = strstr(stuck.text, last);
    }
}

static void end_stuck(void)
{
    dup2(real_stderr, STDERR_FILENO);
    close(stuck.out);
    close(stuck.in);
}

/* Whoever says something does not wait; what fits is kept in its order, and the rest counted. */
static void test_nobody_waits_for_who_does_not_read(void **state)
{
    (void)state;
    enum { LINES = 20000 };
    begin_stuck();
    assert_true(log_start());
    for (int i = 0; i < LINES; i++)
        log_info("line=%d.", i);
    const uint64_t lost = log_lost();
    assert_true(lost > 0 && lost < LINES);
    read_until("lines of it were lost count=");
    log_info("what comes after");
    read_until("what comes after");
    log_stop();
    end_stuck();

    const char *at = stuck.text + stuck.filler;
    char expected[64];
    int last = -1;
    uint64_t n = 0;
    for (; (at = strstr(at, "Z info: line=")) != NULL; n++) {
        int line = -1;
        at += strlen("Z info: line=");
        assert_int_equal(sscanf(at, "%d.", &line), 1);
        assert_true(line > last && line < LINES);
        last = line;
    }
    assert_int_equal(n + lost, LINES);
    snprintf(expected, sizeof expected, "lines of it were lost count=%d\n", (int)lost);
    assert_non_null(strstr(stuck.text + stuck.filler, expected));
}

static void test_all_is_written_at_the_end(void **state)
{
    (void)state;
    begin_stuck();
    assert_int_equal(read(stuck.in, stuck.text, stuck.filler), stuck.filler);
    assert_true(log_start());
    for (int i = 0; i < 100; i++)
        log_warning("line=%d.", i);
    log_stop();
    log_warning("after the end"); /* by whoever says it */
    read_until("after the end");
    assert_non_null(strstr(stuck.text, "line=99.\n"));
    end_stuck();
}

/* Somebody else has made it so: it is waited for all the same. */
static void test_a_stderr_that_does_not_block(void **state)
{
    (void)state;
    begin_stuck();
    assert_int_equal(fcntl(STDERR_FILENO, F_SETFL, O_NONBLOCK), 0);
    assert_true(log_start());
    log_info("it came");
    read_until("it came");
    log_stop();
    end_stuck();
}

/* Last of all, for its thread stays where it is. */
static void test_the_end_waits_for_nobody_either(void **state)
{
    (void)state;
    begin_stuck();
    assert_true(log_start());
    log_info("nobody reads this");
    log_stop();
    log_info("nor this, and who says it does not wait");
    dup2(real_stderr, STDERR_FILENO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_line, calm),
        cmocka_unit_test_setup(test_levels, calm),
        cmocka_unit_test_setup(test_no_forged_line, calm),
        cmocka_unit_test_setup(test_cut, calm),
        cmocka_unit_test_setup(test_cut_utf8, calm),
        cmocka_unit_test_setup(test_errno, calm),
        cmocka_unit_test_setup(test_journal, calm),
        cmocka_unit_test_setup(test_nobody_waits_for_who_does_not_read, calm),
        cmocka_unit_test_setup(test_all_is_written_at_the_end, calm),
        cmocka_unit_test_setup(test_a_stderr_that_does_not_block, calm),
        cmocka_unit_test_setup(test_the_end_waits_for_nobody_either, calm),
    };
    return cmocka_run_group_tests(tests, open_socket, close_socket);
}
