/* The order of disk and telling, and what happens when the disk says no. */
#include "bridge/commands/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "bridge/base/clock.h"
#include "bridge/commands/audit_file.h"
#include "tests/unit/given.h"
#include "tests/unit/logged.h"
#include "tests/unit/slept.h"

static const char path[] = "audit.jsonl";

/* ---- a disk under the test's control, in place of libc's calls ---- */

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool held;       /* a sync waits */
    bool waiting;    /* one does */
    bool state_held; /* likewise of the state file, which counts in nothing else */
    bool full;       /* as statvfs() sees it */
    bool roomy;      /* likewise: there is more than enough */
    int error;       /* of every sync */
    unsigned syncs;  /* so far */
} disk = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

static struct outbox *outbox;
static struct outbox_item item;

static bool is_state(int file)
{
    char link[40], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t n = readlink(link, name, sizeof name - 1);
    name[n > 0 ? n : 0] = '\0';
    return strstr(name, "/state.db") != NULL;
}

int fdatasync(int file)
{
    pthread_mutex_lock(&disk.mutex);
    if (is_state(file)) {
        while (disk.state_held)
            pthread_cond_wait(&disk.cond, &disk.mutex);
        pthread_mutex_unlock(&disk.mutex);
        return 0;
    }
    disk.syncs++;
    disk.waiting = true;
    pthread_cond_broadcast(&disk.cond);
    while (disk.held)
        pthread_cond_wait(&disk.cond, &disk.mutex);
    disk.waiting = false;
    pthread_cond_broadcast(&disk.cond);
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
    status->f_bavail += disk.roomy ? 1 << 20 : 0;
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
    pthread_mutex_lock(&disk.mutex);
    disk.held = disk.waiting = disk.full = disk.roomy = disk.state_held = false;
    disk.error = 0;
    disk.syncs = 0;
    pthread_mutex_unlock(&disk.mutex);
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

/* A short line that the audit log takes for one of its own. */
static const char *line_of(const char *name)
{
    static char line[100];
    snprintf(line, sizeof line, "{\"id\":\"%s\"}", name);
    return line;
}

static void put(struct audit *audit, const char *name)
{
    const char *line = line_of(name);
    audit_put(audit, &(struct audit_entry){.line = line, .topic = "result", .payload = line});
}

/* Waits for the next outcome that is told. */
static void assert_told(const char *topic, const char *payload)
{
    while (!outbox_take(outbox, 0, OUTBOX_BACKFILL, &item))
        outbox_wait(outbox, CLOCK_NEVER);
    assert_string_equal(item.topic, topic);
    assert_int_equal(item.payload_size, strlen(payload));
    assert_memory_equal(item.payload, payload, strlen(payload));
    outbox_ack(outbox, item.ticket, OUTBOX_DELIVERED);
}

/* Its line was on disk before. */
static void assert_audited(const char *name)
{
    assert_told("result", line_of(name));
}

static void assert_unaudited(const char *name)
{
    char payload[100];
    snprintf(payload, sizeof payload, "{\"id\":\"%s\",\"audited\":false}", name);
    assert_told("result", payload);
}

/* Until the file has these. */
static void wait_for_lines(const char *expected)
{
    char text[4096] = "";
    while (strcmp(text, expected) != 0) {
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        fclose(file);
    }
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

#define LINE(name) "{\"id\":\"" name "\"}\n"

/* What was known a moment ago is not asked again at once. */
static void wait_until_available(struct audit *audit, bool available)
{
    while (audit_available(audit) != available)
        clock_pause(5 * CLOCK_NS_PER_MS);
}

/* ---- the tests ---- */

static void test_disk_first(void **state)
{
    (void)state;
    struct stat status;
    mode_t mask = umask(0);
    struct audit *audit = audit_start(path, outbox, NULL);
    umask(mask);
    assert_true(audit_available(audit));
    SET(held, true);
    put(audit, "one");
    wait_for_sync();
    assert_file(path, LINE("one"));
    assert_false(outbox_take(outbox, 0, OUTBOX_BACKFILL, &item));
    SET(held, false);
    assert_audited("one");
    put(audit, "two");
    assert_audited("two");
    assert_file(path, LINE("one") LINE("two"));
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
    struct audit *audit = audit_start(path, outbox, NULL);
    SET(held, true);
    put(audit, "0");
    wait_for_sync();
    put(audit, "1");
    put(audit, "2");
    put(audit, "3");
    SET(held, false);
    assert_audited("0");
    assert_audited("1");
    assert_audited("2");
    assert_audited("3");
    assert_int_equal(disk.syncs, 2);
    assert_file(path, LINE("0") LINE("1") LINE("2") LINE("3"));
    audit_stop(audit);
}

static void test_response_topic(void **state)
{
    (void)state;
    const unsigned char correlation[] = {0, 1, '\n', 0, 0xff};
    for (int with_file = 0; with_file < 2; with_file++) {
        struct audit *audit = audit_start(with_file ? path : "", outbox, NULL);
        audit_put(audit, &(struct audit_entry){.line = "{\"id\":\"line\"}",
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
    assert_file(path, LINE("line"));
}

static void test_no_file(void **state)
{
    (void)state;
    struct audit *audit = audit_start("", outbox, NULL);
    SET(full, true);
    assert_true(audit_available(audit));
    put(audit, "one");
    /* At once: no thread has to do anything. */
    assert_true(outbox_take(outbox, 0, OUTBOX_BACKFILL, &item));
    audit_reopen(audit);
    audit_stop(audit);
    assert_int_equal(disk.syncs, 0);
}

static void test_no_directory(void **state)
{
    (void)state;
    struct audit *audit = audit_start("not/yet", outbox, NULL);
    assert_logged("error: the audit log cannot be written: No such file or directory",
                  "make its directory; setpoints other than zero are refused until then "
                  "file=not/yet");
    assert_false(audit_available(audit));
    put(audit, "one");
    assert_unaudited("one");
    put(audit, "two");
    assert_unaudited("two");
    assert_false(audit_available(audit));
    assert_int_equal(mkdir("not", 0700), 0);
    assert_logged("info: the audit log is written again", "file=not/yet lost=0");
    assert_true(audit_available(audit));
    put(audit, "three");
    assert_audited("three");
    assert_file("not/yet", LINE("one") LINE("two") LINE("three"));
    audit_stop(audit);
    assert_file("not/yet", LINE("one") LINE("two") LINE("three"));
}

/* Nobody tries while nothing waits; a question is enough to try again. */
static void test_question_tries_again(void **state)
{
    (void)state;
    struct audit *audit = audit_start("not/yet", outbox, NULL);
    assert_int_equal(mkdir("not", 0700), 0);
    wait_until_available(audit, true);
    assert_logged("the audit log is written again", "");
    audit_stop(audit);
}

static void test_device_that_is_full(void **state)
{
    (void)state;
    struct audit *audit = audit_start("/dev/full", outbox, NULL);
    assert_logged("the audit log cannot be written: No space left on device", "make room");
    assert_false(audit_available(audit));
    put(audit, "one");
    assert_unaudited("one");
    assert_false(audit_available(audit));
    audit_stop(audit);
    assert_logged("the last outcomes are not in the audit log", "file=/dev/full");
}

static void test_device_that_cannot_sync(void **state)
{
    (void)state;
    SET(error, EINVAL);
    struct audit *audit = audit_start("/dev/null", outbox, NULL);
    put(audit, "one");
    assert_audited("one");
    assert_true(audit_available(audit));
    audit_stop(audit);
}

/* The line of a failed sync is taken back and written again, once. */
static void test_failed_sync(void **state)
{
    (void)state;
    struct audit *audit = audit_start(path, outbox, NULL);
    put(audit, "one");
    assert_audited("one");
    SET(error, EIO);
    put(audit, "two");
    assert_unaudited("two");
    assert_false(audit_available(audit));
    assert_logged("the audit log cannot be written: Input/output error", "check the disk");
    SET(error, 0);
    assert_logged("the audit log is written again", "lost=0");
    put(audit, "three");
    assert_audited("three");
    assert_file(path, LINE("one") LINE("two") LINE("three"));
    assert_true(audit_available(audit));
    audit_stop(audit);
}

static void test_little_room(void **state)
{
    (void)state;
    struct audit *audit = audit_start(path, outbox, NULL);
    assert_true(audit_available(audit));
    SET(full, true);
    wait_until_available(audit, false);
    assert_false(audit_available(audit));
    assert_logged("the audit log cannot be written: No space left on device", "make room");
    put(audit, "one"); /* it still fits */
    assert_audited("one");
    assert_file(path, LINE("one"));
    assert_false(audit_available(audit));
    SET(full, false);
    wait_until_available(audit, true);
    audit_stop(audit);
    /* One line each way. */
    logged_end(&logged);
    assert_true(logged_next(&logged));
    assert_non_null(strstr(logged.line, "the audit log is written again"));
    assert_false(logged_next(&logged));
}

static void put_idle(struct audit *audit)
{
    const char *line = line_of("refused");
    audit_put(audit, &(struct audit_entry){
                         .line = line, .topic = "result", .payload = line, .is_idle = true});
}

/* How many of these are told as audited; then what was written, which is each time. */
static int flood(struct audit *audit, int n)
{
    int audited = 0;
    for (int i = 0; i < n; i++)
        put_idle(audit);
    put(audit, "written");
    for (int i = 0; i <= n; i++) {
        while (!outbox_take(outbox, 0, OUTBOX_BACKFILL, &item))
            outbox_wait(outbox, CLOCK_NEVER);
        const size_t size = item.payload_size;
        const bool unaudited = memmem(item.payload, size, "\"audited\":false", 15) != NULL;
        if (memmem(item.payload, size, "written", 7) != NULL)
            assert_false(unaudited);
        else
            audited += !unaudited;
        outbox_ack(outbox, item.ticket, OUTBOX_DELIVERED);
    }
    return audited;
}

/* What is refused takes no room that the spool may need; what is written has its line. */
static void test_a_flood_leaves_room_to_the_spool(void **state)
{
    (void)state;
    enum { N = 100 };
    given_file("spool.db", "some samples");
    struct audit *audit = audit_start(path, outbox, NULL);
    assert_int_equal(flood(audit, N), N);
    audit_spare(audit, "spool.db", 1 << 20);
    put(audit, "one"); /* as that is written it is seen */
    assert_logged("there is no more room on the disk than the spool may need", path);
    assert_audited("one");
    const int64_t begun_ns = clock_awake_ns();
    const int audited = flood(audit, N);
    assert_in_range(audited, 1, 2 + (clock_awake_ns() - begun_ns) / CLOCK_NS_PER_S);
    SET(roomy, true);
    put(audit, "two");
    assert_audited("two");
    char left_out[40];
    snprintf(left_out, sizeof left_out, "left_out=%d", N - audited);
    assert_logged("there is room again", left_out);
    assert_int_equal(flood(audit, N), N);
    /* A spool elsewhere needs none of it. */
    SET(roomy, false);
    audit_spare(audit, "/proc/self/status", 1 << 20);
    put(audit, "three");
    assert_audited("three");
    assert_int_equal(flood(audit, N), N);
    audit_stop(audit);
}

/* A disk that hangs: setpoints stop after two seconds, outcomes are told after five
 * and say so, and the lines are there when it answers again. */
static void test_hanging_disk(void **state)
{
    (void)state;
    struct audit *audit = audit_start(path, outbox, NULL);
    assert_true(audit_available(audit));
    assert_true(audit_promise_ns(audit) == CLOCK_NEVER);
    SET(held, true);
    const int64_t begun_ns = clock_awake_ns();
    put(audit, "one");
    wait_for_sync();
    assert_in_range(audit_promise_ns(audit), begun_ns, clock_awake_ns());
    slept_s += 3600; /* which says nothing of the disk */
    assert_true(audit_was_available(audit) || clock_awake_ns() - begun_ns >= AUDIT_SILENCE_NS);
    put(audit, "two"); /* behind the one that hangs */
    while (audit_available(audit))
        clock_pause(20 * CLOCK_NS_PER_MS);
    assert_true(clock_awake_ns() - begun_ns >= AUDIT_SILENCE_NS); /* not before */
    assert_false(audit_was_available(audit));
    assert_unaudited("one");
    assert_true(clock_awake_ns() - begun_ns >= AUDIT_PATIENCE_NS); /* likewise */
    assert_unaudited("two");
    assert_false(audit_available(audit));
    SET(held, false);
    put(audit, "three");
    assert_audited("three"); /* and the others are not told again */
    assert_true(audit_available(audit));
    audit_stop(audit);
    assert_file(path, LINE("one") LINE("two") LINE("three"));
}

/* Nor does the end wait for it for ever. */
static void test_a_disk_that_hangs_at_the_end(void **state)
{
    (void)state;
    struct audit *audit = audit_start(path, outbox, NULL);
    SET(held, true);
    put(audit, "one");
    wait_for_sync();
    const int64_t begun_ns = clock_awake_ns();
    audit_stop(audit);
    assert_in_range(clock_awake_ns() - begun_ns, AUDIT_PATIENCE_NS - CLOCK_NS_PER_S,
                    AUDIT_PATIENCE_NS + 20 * CLOCK_NS_PER_S);
    assert_unaudited("one");
    assert_logged("the last outcomes are not in the audit log", path);
    SET(held, false); /* who was left behind touches nothing any more */
    pthread_mutex_lock(&disk.mutex);
    while (disk.waiting)
        pthread_cond_wait(&disk.cond, &disk.mutex);
    pthread_mutex_unlock(&disk.mutex);
}

/* Lines are kept up to a bound; beyond it outcomes are told at once. */
static void test_lines_that_find_no_room(void **state)
{
    (void)state;
    char line[64 * 1024];
    memset(line, 'x', sizeof line - 1);
    memcpy(line, "{\"id\":", 6);
    line[sizeof line - 1] = '\0';
    struct audit_entry entry = {.line = line, .topic = "result", .payload = "{\"id\":1}"};
    struct audit *audit = audit_start(path, outbox, NULL);
    SET(held, true);
    unsigned taken = 1;
    const int64_t begun_ns = clock_awake_ns();
    audit_put(audit, &entry);
    wait_for_sync();
    while (audit_available(audit)) {
        audit_put(audit, &entry);
        taken++;
    }
    /* Or the disk was silent for too long before. */
    assert_true(taken >= 6 || clock_awake_ns() - begun_ns >= AUDIT_SILENCE_NS);
    assert_true(taken <= 10);
    while (!outbox_take(outbox, 0, OUTBOX_BACKFILL, &item)) {
        audit_put(audit, &entry);
        taken++;
    }
    assert_in_range(taken, 12, 20);
    assert_string_equal(item.topic, "result");
    assert_memory_equal(item.payload, "{\"id\":1,\"audited\":false}", item.payload_size);
    assert_logged("the audit log loses lines", path);
    assert_false(audit_available(audit));
    SET(held, false);
    assert_logged("the audit log is written again", "lost=1");
    audit_stop(audit);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, (taken - 1) * sizeof line);
}

/* A file that holds something else. */
static void test_somebody_else_s_file(void **state)
{
    (void)state;
    static const char *const texts[] = {"notes\n", "SQLite format 3", "{\"key\":1}\n", "x"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        given_file(path, texts[i]);
        struct audit *audit = audit_start(path, outbox, NULL);
        assert_logged("the audit log cannot be written: File exists",
                      "name another path, or move it away; it was left as it is");
        put(audit, "one");
        assert_unaudited("one");
        assert_false(audit_available(audit));
        audit_stop(audit);
        assert_file(path, texts[i]);
    }
}

/* What is on disk takes no room any more. */
static void test_long_run(void **state)
{
    (void)state;
    char line[64 * 1024];
    struct stat status;
    memset(line, 'x', sizeof line - 1);
    memcpy(line, "{\"id\":", 6);
    line[sizeof line - 1] = '\0';
    struct audit *audit = audit_start(path, outbox, NULL);
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
    given_file(path, LINE("whole") "{\"id\":\"ha");
    struct audit *audit = audit_start(path, outbox, NULL);
    put(audit, "one");
    assert_audited("one");
    assert_file(path, LINE("whole") "{\"id\":\"ha\n" LINE("one"));
    audit_stop(audit);
    audit = audit_start(path, outbox, NULL);
    audit_stop(audit);
    assert_file(path, LINE("whole") "{\"id\":\"ha\n" LINE("one"));
}

static void test_rotation(void **state)
{
    (void)state;
    struct audit *audit = audit_start(path, outbox, NULL);
    put(audit, "one");
    assert_audited("one");
    assert_int_equal(rename(path, "old"), 0);
    put(audit, "two");
    assert_audited("two");
    audit_reopen(audit);
    put(audit, "three");
    assert_audited("three");
    assert_file("old", LINE("one") LINE("two"));
    assert_file(path, LINE("three"));
    /* One that was simply deleted is made anew without being told. */
    assert_int_equal(unlink(path), 0);
    put(audit, "four");
    assert_audited("four");
    assert_file(path, LINE("four"));
    audit_stop(audit);
}

static void test_stop_writes_what_waits(void **state)
{
    (void)state;
    struct audit *audit = audit_start("not/yet", outbox, NULL);
    put(audit, "one");
    assert_unaudited("one");
    assert_int_equal(mkdir("not", 0700), 0);
    put(audit, "two");
    audit_stop(audit);
    assert_file("not/yet", LINE("one") LINE("two"));
    assert_audited("two");
}

static void assert_reads(const char *name, const char *expected)
{
    char *lines;
    assert_int_equal(audit_file_read(&name, 1, &lines), 0);
    if (expected == NULL)
        assert_null(lines);
    else
        assert_string_equal(lines, expected);
    free(lines);
}

/* A device that has no end, and a pipe that nobody writes to, end no start. */
static void test_earlier_lines(void **state)
{
    (void)state;
    assert_reads("/dev/full", NULL);
    assert_int_equal(mkfifo("pipe", 0600), 0);
    assert_reads("pipe", NULL);
    assert_reads("not-there", NULL);
    given_file(path, "three\nfour");
    given_file("audit.jsonl.1", "one\ntwo\n");
    assert_reads(path, "one\ntwo\nthree\nfour\n");
}

/* A file that has a line at its beginning, one at its end, and nothing for so long between. */
static void given_long_file(const char *name, const char *first, off_t size, const char *last)
{
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    assert_true(fputs(first, file) >= 0);
    assert_int_equal(fseeko(file, size, SEEK_SET), 0);
    assert_true(fputs(last, file) >= 0);
    fclose(file);
}

/* However many files there were, and however long they are. */
static void test_no_more_earlier_lines_than_are_held(void **state)
{
    (void)state;
    enum { HALF = AUDIT_FILE_REPLAY_MAX / 2 };
    const char *const paths[] = {"first", "second", "third"};
    char *lines;
    given_long_file("first", "a\n", HALF, "b\n");
    given_long_file("second.1", "c\n", HALF, "d\n");
    given_long_file("second", "e\n", HALF, "f\n");
    given_file("third", "g\n");
    assert_int_equal(audit_file_read(paths, 3, &lines), 0);
    const size_t size = strlen(lines);
    assert_in_range(size, AUDIT_FILE_REPLAY_MAX, AUDIT_FILE_REPLAY_MAX + 6);
    char letters[16] = "";
    for (size_t i = 0, n = 0; i < size && n < sizeof letters - 1; i++)
        if (lines[i] != '\n')
            letters[n++] = lines[i];
    assert_string_equal(letters, "defg");
    free(lines);
}

/* What cannot be opened now is not nothing: an id in there would be executed again. */
static void test_earlier_lines_without_descriptors(void **state)
{
    (void)state;
    struct rlimit usual;
    const char *const paths[] = {path};
    char *lines;
    given_file(path, "one\n");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = usual.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(audit_file_read(paths, 1, &lines), EMFILE);
    assert_null(lines);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
    assert_reads(path, "one\n");
}

/* ---- another file ---- */

static void assert_replayed(struct audit *audit, const char *expected)
{
    char *lines;
    audit_read_earlier(audit);
    assert_true(audit_take_earlier(audit, &lines));
    assert_string_equal(lines, expected);
    free(lines);
}

/* Lines that are asked for while the disk is at something else are read behind it: an id
 * that nobody looks up would be executed again. */
static void test_earlier_lines_asked_for_in_between(void **state)
{
    (void)state;
    char *lines;
    struct audit *audit = audit_start(path, outbox, NULL);
    assert_true(audit_take_earlier(audit, &lines));
    assert_null(lines);
    SET(held, true);
    put(audit, "one");
    wait_for_sync();
    audit_read_earlier(audit); /* which waits no longer than the disk is silent */
    assert_false(audit_take_earlier(audit, &lines));
    assert_null(lines);
    SET(held, false);
    wait_until_available(audit, true);
    assert_true(audit_take_earlier(audit, &lines));
    assert_string_equal(lines, LINE("one"));
    free(lines);
    audit_stop(audit);
}

/* What it was before is read, too, by the next run as well. */
static void test_another_file(void **unused)
{
    (void)unused;
    struct state *state = state_open("state.db", NULL);
    struct audit *audit = audit_start(path, outbox, state);
    put(audit, "one");
    assert_audited("one");
    assert_true(audit_move(audit, "second"));
    assert_true(audit_available(audit));
    put(audit, "two");
    assert_audited("two");
    assert_file(path, LINE("one"));
    assert_file("second", LINE("two"));
    assert_replayed(audit, LINE("one") LINE("two"));
    audit_stop(audit);
    audit = audit_start("second", outbox, state);
    assert_replayed(audit, LINE("one") LINE("two"));
    /* Back again: no line comes twice, and the latest file last. */
    assert_true(audit_move(audit, path));
    put(audit, "three");
    assert_audited("three");
    assert_replayed(audit, LINE("two") LINE("one") LINE("three"));
    audit_stop(audit);
    state_close(state);
}

static void copy(const char *from, const char *to)
{
    char bytes[4096];
    FILE *in = fopen(from, "r"), *out = fopen(to, "w");
    assert_true(in != NULL && out != NULL);
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, in)) > 0;)
        assert_int_equal(fwrite(bytes, 1, n, out), n);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

/* What a run would find that begins now, after a kill. */
static void assert_noted(const char *expected)
{
    char text[100] = "";
    copy("state.db", "copy.db");
    copy("state.db-wal", "copy.db-wal");
    struct state *state = state_open("copy.db", NULL);
    assert_true(state_get(state, "audit/formers", text, sizeof text));
    assert_string_equal(text, expected);
    state_close(state);
}

/* However soon the bridge is killed, and whatever path the next run has. */
static void test_a_path_is_noted_before_its_first_line(void **unused)
{
    (void)unused;
    struct state *state = state_open("state.db", NULL);
    struct audit *audit = audit_start(path, outbox, state);
    put(audit, "one");
    assert_audited("one");
    assert_noted("audit.jsonl");
    assert_true(audit_move(audit, "second"));
    put(audit, "two");
    assert_audited("two");
    assert_noted("audit.jsonl\nsecond");
    audit_stop(audit);
    state_close(state);
    state = state_open("copy.db", NULL);
    audit = audit_start("third", outbox, state);
    assert_replayed(audit, LINE("one") LINE("two"));
    audit_stop(audit);
    state_close(state);
}

/* What the one file does not take goes into the other. */
static void test_another_file_than_one_that_fails(void **unused)
{
    (void)unused;
    struct state *state = state_open("state.db", NULL);
    struct audit *audit = audit_start("/dev/full", outbox, state);
    put(audit, "one");
    assert_unaudited("one");
    wait_until_available(audit, false);
    assert_true(audit_move(audit, path));
    wait_until_available(audit, true);
    wait_for_lines(LINE("one"));
    assert_true(audit_move(audit, "not/there"));
    wait_until_available(audit, false);
    audit_stop(audit);
    assert_logged("the audit log cannot be written", "file=not/there");
    state_close(state);
}

/* What is under way as it goes is in it; what follows is as if there had been none. */
static void test_a_file_that_comes_and_goes(void **unused)
{
    (void)unused;
    struct state *state = state_open("state.db", NULL);
    struct audit *audit = audit_start("", outbox, state);
    put(audit, "one");
    assert_audited("one");
    assert_true(audit_move(audit, path));
    wait_until_available(audit, true);
    put(audit, "two");
    assert_audited("two");
    SET(held, true);
    put(audit, "three");
    wait_for_sync();
    assert_true(audit_move(audit, ""));
    put(audit, "four");
    SET(held, false);
    assert_audited("three");
    assert_audited("four");
    assert_true(audit_available(audit));
    audit_stop(audit);
    assert_file(path, LINE("two") LINE("three"));
    /* And the next run knows where it was. */
    audit = audit_start("second", outbox, state);
    assert_replayed(audit, LINE("two") LINE("three"));
    audit_stop(audit);
    state_close(state);
}

/* Nothing is refused for want of a log that is wanted no more. */
static void test_a_file_that_fails_goes(void **unused)
{
    (void)unused;
    struct audit *audit = audit_start("/dev/full", outbox, NULL);
    put(audit, "one");
    assert_unaudited("one");
    wait_until_available(audit, false);
    assert_true(audit_move(audit, ""));
    assert_true(audit_available(audit));
    put(audit, "two");
    assert_audited("two");
    audit_stop(audit);
    assert_logged("the audit log ends before all of its lines were written", "");
}

/* Of many the oldest are forgotten. */
static void test_many_files(void **unused)
{
    (void)unused;
    enum { N = 20 };
    char expected[1024] = "";
    struct state *state = state_open("", NULL);
    struct audit *audit = audit_start("0", outbox, state);
    for (int i = 0; i <= N; i++) {
        char name[16], line[100];
        snprintf(name, sizeof name, "%d", i);
        snprintf(line, sizeof line, "%s\n", line_of(name));
        if (i > 0)
            assert_true(audit_move(audit, name));
        put(audit, name);
        assert_audited(name);
        if (i >= N - 8)
            strcat(expected, line);
    }
    assert_replayed(audit, expected);
    audit_stop(audit);
    state_close(state);
}

/* ---- what is owed is on disk first ---- */

static void put_owed(struct audit *audit, struct state *state, const char *name)
{
    const char *line = line_of(name);
    state_put(state, "battery", name);
    audit_put(audit, &(struct audit_entry){.line = line,
                                           .topic = "result",
                                           .payload = line,
                                           .kept_mark = state_mark(state)});
}

static void test_the_state_first(void **unused)
{
    (void)unused;
    struct state *state = state_open("state.db", NULL);
    struct audit *audit = audit_start(path, outbox, state);
    SET(state_held, true);
    put_owed(audit, state, "one");
    wait_for_lines(LINE("one"));
    SET(held, true);
    put(audit, "two"); /* as the disk has this one, the first is done with */
    wait_for_sync();
    assert_false(outbox_take(outbox, 0, OUTBOX_BACKFILL, &item));
    SET(held, false);
    SET(state_held, false);
    assert_audited("one");
    assert_audited("two");
    audit_stop(audit);
    state_close(state);
}

static void test_the_state_first_without_a_file(void **unused)
{
    (void)unused;
    struct state *state = state_open("state.db", NULL);
    struct audit *audit = audit_start("", outbox, state);
    SET(state_held, true);
    put_owed(audit, state, "one");
    put(audit, "two");
    assert_false(outbox_take(outbox, 0, OUTBOX_BACKFILL, &item));
    SET(state_held, false);
    assert_audited("one");
    assert_audited("two");
    SET(state_held, true);
    put_owed(audit, state, "three");
    SET(state_held, false);
    audit_stop(audit); /* the end waits for it, too */
    assert_audited("three");
    state_close(state);
}

/* Nobody waits for a state that the disk refuses, nor for ever for one that hangs. */
static void test_a_state_that_is_not_kept(void **unused)
{
    (void)unused;
    struct state *refused = state_open("not/there/state.db", NULL);
    struct audit *audit = audit_start(path, outbox, refused);
    put_owed(audit, refused, "one");
    assert_audited("one");
    audit_stop(audit);
    state_close(refused);

    struct state *hanging = state_open("state.db", NULL);
    audit = audit_start(path, outbox, hanging);
    SET(state_held, true);
    put_owed(audit, hanging, "two");
    put(audit, "three");
    assert_audited("two");
    assert_audited("three");
    put_owed(audit, hanging, "four");
    audit_stop(audit);
    assert_audited("four");
    SET(state_held, false);
    state_close(hanging);
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
        TEST(test_a_flood_leaves_room_to_the_spool),
        TEST(test_hanging_disk),
        TEST(test_a_disk_that_hangs_at_the_end),
        TEST(test_lines_that_find_no_room),
        TEST(test_somebody_else_s_file),
        TEST(test_long_run),
        TEST(test_torn_line),
        TEST(test_rotation),
        TEST(test_stop_writes_what_waits),
        TEST(test_earlier_lines),
        TEST(test_no_more_earlier_lines_than_are_held),
        TEST(test_earlier_lines_without_descriptors),
        TEST(test_earlier_lines_asked_for_in_between),
        TEST(test_another_file),
        TEST(test_a_path_is_noted_before_its_first_line),
        TEST(test_another_file_than_one_that_fails),
        TEST(test_a_file_that_comes_and_goes),
        TEST(test_a_file_that_fails_goes),
        TEST(test_many_files),
        TEST(test_the_state_first),
        TEST(test_the_state_first_without_a_file),
        TEST(test_a_state_that_is_not_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
