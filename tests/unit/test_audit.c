/* The order of disk and telling, and what happens when the disk says no. */
#include "bridge/commands/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include "bridge/base/clock.h"
#include "tests/unit/given.h"
#include "tests/unit/logged.h"

static const char path[] = "audit.jsonl";

/* ---- a disk under the test's control, in place of libc's calls ---- */

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool held;      /* a sync waits */
    bool waiting;   /* one does */
    bool full;      /* as statvfs() sees it */
    int error;      /* of every sync */
    unsigned syncs; /* so far */
} disk = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

static struct outbox *outbox;
static struct outbox_item item;

int fdatasync(int file)
{
    pthread_mutex_lock(&disk.mutex);
    disk.syncs++;
    disk.waiting = true;
    pthread_cond_broadcast(&disk.cond);
    while (disk.held)
        pthread_cond_wait(&disk.cond, &disk.mutex);
    disk.waiting = false;
    int error = disk.error;
    pthread_mutex_unlock(&disk.mutex);
    errno = error;
    return error ? -1 : (int)syscall(SYS_fdatasync, file);
}

int fstatvfs(int file, struct statvfs *status)
{
    (void)file;
    *status = (struct statvfs){.f_frsize = 1024, .f_blocks = 1000, .f_bavail = 64};
    pthread_mutex_lock(&disk.mutex);
    status->f_bavail -= disk.full;
    pthread_mutex_unlock(&disk.mutex);
    return 0;
}

#define SET(member, value)                                                                         \
    do {                                                                                           \
        pthread_mutex_lock(&disk.mutex);                                                           \
        disk.member = (value);                                                                     \
        pthread_cond_broadcast(&disk.cond);                                                        \
        pthread_mutex_unlock(&disk.mutex);                                                         \
    } while (0)

static void wait_for_sync(void)
{
    pthread_mutex_lock(&disk.mutex);
    while (!disk.waiting)
        pthread_cond_wait(&disk.cond, &disk.mutex);
    pthread_mutex_unlock(&disk.mutex);
}

/* ---- a scratch directory, an outbox, and stderr as a pipe, for each test ---- */

static struct logged logged;

static int set_up(void **state)
{
    if (given_directory(state) != 0 || !logged_begin(&logged))
        return -1;
    outbox = outbox_new(1, 4096, 4 << 20);
    outbox_resumed(outbox, 0);
    disk.held = disk.waiting = disk.full = false;
    disk.error = 0;
    disk.syncs = 0;
    return outbox ? 0 : -1;
}

static int tear_down(void **state)
{
    logged_free(&logged);
    outbox_free(outbox);
    return remove_directory(state);
}

static void assert_logged(const char *first, const char *second)
{
    assert_true(logged_find(&logged, first, second));
}

static void put(struct audit *audit, const char *line)
{
    audit_put(audit, &(struct audit_entry){.line = line, .topic = "result", .payload = line});
}

/* Waits for the next outcome that is told. */
static void assert_told(const char *topic, const char *payload)
{
    while (!outbox_take(outbox, 0, &item))
        outbox_wait(outbox, CLOCK_NEVER);
    assert_string_equal(item.topic, topic);
    assert_int_equal(item.payload_size, strlen(payload));
    assert_memory_equal(item.payload, payload, strlen(payload));
    outbox_ack(outbox, item.ticket, OUTBOX_DELIVERED);
}

static void assert_file(const char *name, const char *expected)
{
    char text[4096];
    FILE *file = fopen(name, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(text, expected);
}

/* ---- the tests ---- */

static void test_disk_first(void **state)
{
    (void)state;
    struct stat status;
    mode_t mask = umask(0);
    struct audit *audit = audit_start(path, outbox);
    umask(mask);
    assert_true(audit_available(audit));
    SET(held, true);
    put(audit, "one");
    wait_for_sync();
    assert_file(path, "one\n");
    assert_false(outbox_take(outbox, 0, &item));
    SET(held, false);
    assert_told("result", "one");
    put(audit, "two");
    assert_told("result", "two");
    assert_file(path, "one\ntwo\n");
    assert_int_equal(disk.syncs, 2);
    assert_true(audit_available(audit));
    audit_stop(audit);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0640);
}

/* What comes in while the disk is busy shares the next sync. */
static void test_one_sync_for_all(void **state)
{
    (void)state;
    struct audit *audit = audit_start(path, outbox);
    SET(held, true);
    put(audit, "0");
    wait_for_sync();
    put(audit, "1");
    put(audit, "2");
    put(audit, "3");
    SET(held, false);
    assert_told("result", "0");
    assert_told("result", "1");
    assert_told("result", "2");
    assert_told("result", "3");
    assert_int_equal(disk.syncs, 2);
    assert_file(path, "0\n1\n2\n3\n");
    audit_stop(audit);
}

static void test_response_topic(void **state)
{
    (void)state;
    const unsigned char correlation[] = {0, 1, '\n', 0, 0xff};
    for (int with_file = 0; with_file < 2; with_file++) {
        struct audit *audit = audit_start(with_file ? path : "", outbox);
        audit_put(audit, &(struct audit_entry){.line = "line",
                                               .topic = "result",
                                               .payload = "{}",
                                               .response_topic = "answers/me",
                                               .correlation = correlation,
                                               .correlation_size = sizeof correlation});
        assert_told("result", "{}");
        assert_int_equal(item.correlation_size, 0);
        assert_told("answers/me", "{}");
        assert_int_equal(item.correlation_size, sizeof correlation);
        assert_memory_equal(item.correlation, correlation, sizeof correlation);
        audit_stop(audit);
    }
    assert_file(path, "line\n");
}

static void test_no_file(void **state)
{
    (void)state;
    struct audit *audit = audit_start("", outbox);
    SET(full, true);
    assert_true(audit_available(audit));
    put(audit, "one");
    assert_true(outbox_take(outbox, 0, &item)); /* at once: there is no thread */
    audit_reopen(audit);
    audit_stop(audit);
    assert_int_equal(disk.syncs, 0);
}

static void test_no_directory(void **state)
{
    (void)state;
    struct audit *audit = audit_start("not/yet", outbox);
    assert_logged("error: the audit log cannot be written: No such file or directory",
                  "make its directory; setpoints other than zero are refused until then "
                  "file=not/yet");
    assert_false(audit_available(audit));
    put(audit, "one");
    assert_told("result", "one");
    put(audit, "two");
    assert_told("result", "two");
    assert_false(audit_available(audit));
    assert_int_equal(mkdir("not", 0700), 0);
    assert_logged("info: the audit log is written again", "file=not/yet lost=0");
    assert_true(audit_available(audit));
    put(audit, "three");
    assert_told("result", "three");
    assert_file("not/yet", "one\ntwo\nthree\n");
    audit_stop(audit);
    assert_file("not/yet", "one\ntwo\nthree\n");
}

/* Nobody tries while nothing waits; a question is enough to try again. */
static void test_question_tries_again(void **state)
{
    (void)state;
    struct audit *audit = audit_start("not/yet", outbox);
    assert_int_equal(mkdir("not", 0700), 0);
    assert_false(audit_available(audit));
    assert_logged("the audit log is written again", "");
    assert_true(audit_available(audit));
    audit_stop(audit);
}

static void test_device_that_is_full(void **state)
{
    (void)state;
    struct audit *audit = audit_start("/dev/full", outbox);
    assert_logged("the audit log cannot be written: No space left on device", "make room");
    assert_false(audit_available(audit));
    put(audit, "one");
    assert_told("result", "one");
    assert_false(audit_available(audit));
    audit_stop(audit);
    assert_logged("the last outcomes are not in the audit log", "file=/dev/full");
}

static void test_device_that_cannot_sync(void **state)
{
    (void)state;
    SET(error, EINVAL);
    struct audit *audit = audit_start("/dev/null", outbox);
    put(audit, "one");
    assert_told("result", "one");
    assert_true(audit_available(audit));
    audit_stop(audit);
}

/* The line of a failed sync is taken back and written again, once. */
static void test_failed_sync(void **state)
{
    (void)state;
    struct audit *audit = audit_start(path, outbox);
    put(audit, "one");
    assert_told("result", "one");
    SET(error, EIO);
    put(audit, "two");
    assert_told("result", "two");
    assert_false(audit_available(audit));
    assert_logged("the audit log cannot be written: Input/output error", "check the disk");
    SET(error, 0);
    assert_logged("the audit log is written again", "lost=0");
    put(audit, "three");
    assert_told("result", "three");
    assert_file(path, "one\ntwo\nthree\n");
    assert_true(audit_available(audit));
    audit_stop(audit);
}

static void test_little_room(void **state)
{
    (void)state;
    struct audit *audit = audit_start(path, outbox);
    assert_true(audit_available(audit));
    SET(full, true);
    assert_false(audit_available(audit));
    assert_false(audit_available(audit));
    assert_logged("the audit log cannot be written: No space left on device", "make room");
    put(audit, "one"); /* it still fits */
    assert_told("result", "one");
    assert_file(path, "one\n");
    assert_false(audit_available(audit));
    SET(full, false);
    assert_true(audit_available(audit));
    audit_stop(audit);
    /* One line each way. */
    logged_end(&logged);
    assert_true(logged_next(&logged));
    assert_non_null(strstr(logged.line, "the audit log is written again"));
    assert_false(logged_next(&logged));
}

/* A disk that hangs: setpoints stop long before lines are lost, and outcomes
 * are told though their lines are lost. */
static void test_hanging_disk(void **state)
{
    (void)state;
    char line[64 * 1024];
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    struct audit_entry entry = {.line = line, .topic = "result", .payload = "{}"};
    struct audit *audit = audit_start(path, outbox);
    SET(held, true);
    unsigned taken = 0;
    audit_put(audit, &entry);
    wait_for_sync();
    while (audit_available(audit)) {
        audit_put(audit, &entry);
        taken++;
    }
    assert_in_range(taken, 5, 9);
    assert_false(outbox_take(outbox, 0, &item));
    unsigned more = 0;
    while (!outbox_take(outbox, 0, &item)) {
        audit_put(audit, &entry);
        more++;
    }
    assert_in_range(more, 5, 10);
    assert_logged("the audit log loses lines", path);
    assert_false(audit_available(audit));
    audit_put(audit, &entry);
    SET(held, false);
    assert_true(logged_next(&logged));
    assert_non_null(strstr(logged.line, "the audit log is written again"));
    assert_non_null(strstr(logged.line, "lost=2"));
    audit_stop(audit);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, (taken + more) * sizeof line);
}

/* What is on disk takes no room any more. */
static void test_long_run(void **state)
{
    (void)state;
    char line[64 * 1024];
    struct stat status;
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    struct audit *audit = audit_start(path, outbox);
    for (int i = 0; i < 40; i++) {
        audit_put(audit, &(struct audit_entry){.line = line, .topic = "result", .payload = "{}"});
        assert_told("result", "{}");
    }
    audit_stop(audit);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, 40 * sizeof line);
}

static void test_torn_line(void **state)
{
    (void)state;
    given_file(path, "whole\nha");
    struct audit *audit = audit_start(path, outbox);
    put(audit, "one");
    assert_told("result", "one");
    assert_file(path, "whole\nha\none\n");
    audit_stop(audit);
    audit = audit_start(path, outbox);
    audit_stop(audit);
    assert_file(path, "whole\nha\none\n");
}

static void test_rotation(void **state)
{
    (void)state;
    struct audit *audit = audit_start(path, outbox);
    put(audit, "one");
    assert_told("result", "one");
    assert_int_equal(rename(path, "old"), 0);
    put(audit, "two");
    assert_told("result", "two");
    audit_reopen(audit);
    put(audit, "three");
    assert_told("result", "three");
    assert_file("old", "one\ntwo\n");
    assert_file(path, "three\n");
    /* One that was simply deleted is made anew without being told. */
    assert_int_equal(unlink(path), 0);
    put(audit, "four");
    assert_told("result", "four");
    assert_file(path, "four\n");
    audit_stop(audit);
}

static void test_stop_writes_what_waits(void **state)
{
    (void)state;
    struct audit *audit = audit_start("not/yet", outbox);
    put(audit, "one");
    assert_told("result", "one");
    assert_int_equal(mkdir("not", 0700), 0);
    put(audit, "two");
    audit_stop(audit);
    assert_file("not/yet", "one\ntwo\n");
    assert_told("result", "two");
}

static void count_line(void *context, const char *text)
{
    (void)text;
    ++*(unsigned *)context;
}

/* A device that has no end, and a pipe that nobody writes to, end no start. */
static void test_replay(void **state)
{
    (void)state;
    unsigned lines = 0;
    audit_replay("/dev/full", count_line, &lines);
    assert_int_equal(mkfifo("pipe", 0600), 0);
    audit_replay("pipe", count_line, &lines);
    audit_replay("not-there", count_line, &lines);
    assert_int_equal(lines, 0);
    given_file(path, "one\ntwo\n");
    audit_replay(path, count_line, &lines);
    assert_int_equal(lines, 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_disk_first),
        TEST(test_one_sync_for_all),
        TEST(test_response_topic),
        TEST(test_no_file),
        TEST(test_no_directory),
        TEST(test_question_tries_again),
        TEST(test_device_that_is_full),
        TEST(test_device_that_cannot_sync),
        TEST(test_failed_sync),
        TEST(test_little_room),
        TEST(test_hanging_disk),
        TEST(test_long_run),
        TEST(test_torn_line),
        TEST(test_rotation),
        TEST(test_stop_writes_what_waits),
        TEST(test_replay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
