/* What is tight: the disk's room, and the memory that lines may take. */
#include "audit_bed.h"

#include "bridge/commands/audit_file.h"

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
    put_audited(audit, "two");
    char left_out[40];
    snprintf(left_out, sizeof left_out, "left_out=%d", N - audited);
    assert_logged("there is room again", left_out);
    assert_int_equal(flood(audit, N), N);
    /* A spool elsewhere needs none of it. */
    SET(roomy, false);
    audit_spare(audit, "/proc/self/status", 1 << 20);
    put_audited(audit, "three");
    assert_int_equal(flood(audit, N), N);
    audit_stop(audit);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_device_that_is_full),
        TEST(test_little_room),
        TEST(test_a_flood_leaves_room_to_the_spool),
        TEST(test_lines_that_find_no_room),
        TEST(test_long_run),
        TEST(test_no_more_earlier_lines_than_are_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
