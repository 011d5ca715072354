/* The order of disk and telling, and what happens when the disk says no. */
#include "audit_bed.h"

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
    put_audited(audit, "two");
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
    put_audited(audit, "three");
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

static void test_device_that_cannot_sync(void **state)
{
    (void)state;
    SET(error, EINVAL);
    struct audit *audit = audit_start("/dev/null", outbox, NULL);
    put_audited(audit, "one");
    assert_true(audit_available(audit));
    audit_stop(audit);
}

/* The line of a failed sync is taken back and written again, once. */
static void test_failed_sync(void **state)
{
    (void)state;
    struct audit *audit = audit_start(path, outbox, NULL);
    put_audited(audit, "one");
    SET(error, EIO);
    put(audit, "two");
    assert_unaudited("two");
    assert_false(audit_available(audit));
    assert_logged("the audit log cannot be written: Input/output error", "check the disk");
    SET(error, 0);
    assert_logged("the audit log is written again", "lost=0");
    put_audited(audit, "three");
    assert_file(path, LINE("one") LINE("two") LINE("three"));
    assert_true(audit_available(audit));
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

static void test_torn_line(void **state)
{
    (void)state;
    given_file(path, LINE("whole") "{\"id\":\"ha");
    struct audit *audit = audit_start(path, outbox, NULL);
    put_audited(audit, "one");
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
    put_audited(audit, "one");
    assert_int_equal(rename(path, "old"), 0);
    put_audited(audit, "two");
    audit_reopen(audit);
    put_audited(audit, "three");
    assert_file("old", LINE("one") LINE("two"));
    assert_file(path, LINE("three"));
    /* One that was simply deleted is made anew without being told. */
    assert_int_equal(unlink(path), 0);
    put_audited(audit, "four");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_disk_first),
        TEST(test_one_sync_for_all),
        TEST(test_response_topic),
        TEST(test_no_file),
        TEST(test_no_directory),
        TEST(test_question_tries_again),
        TEST(test_device_that_cannot_sync),
        TEST(test_failed_sync),
        TEST(test_hanging_disk),
        TEST(test_a_disk_that_hangs_at_the_end),
        TEST(test_somebody_else_s_file),
        TEST(test_torn_line),
        TEST(test_rotation),
        TEST(test_stop_writes_what_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
