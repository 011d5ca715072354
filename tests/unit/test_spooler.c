/* From the outbox to the file and back, and what is not delivered that way. */
#include "tests/unit/spooler_bed.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>

static atomic_uint n_looks; /* at the file: libc's own, counted */

int stat(const char *path, struct stat *status)
{
    const char *end = strstr(path, "/spool.db");
    n_looks += end != NULL && strcmp(end, "/spool.db") == 0;
    return fstatat(AT_FDCWD, path, status, 0);
}

static void test_samples_outlive_a_stop(void **state)
{
    struct fixture *f = *state;
    start(f);
    put(f, 0, "a1");
    put(f, 1, "b1");
    put(f, 0, "a2");
    stop(f);
    start(f);
    assert_true(logged_find(&f->logged, "the spool holds samples of an earlier run", "samples=3"));
    drain(f, "a1 b1 a2");
    stop(f);

    start(f); /* nothing came twice, nothing is left */
    assert_int_equal(outbox_depth(f->outbox).backlog, 0);
    stop(f);
}

static void test_a_sample_is_on_disk_within_a_second(void **state)
{
    struct fixture *f = *state;
    start(f);
    int64_t taken_ns = clock_mono_ns();
    put(f, 0, "a1");
    wait_for(f, 1, 0);
    assert_true(clock_mono_ns() >= taken_ns + CLOCK_NS_PER_S / 2); /* the broker has its time */
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a1");
    stop(f);
}

static void test_a_loss_in_the_middle_sends_the_rest_again(void **state)
{
    struct fixture *f = *state;
    start(f);
    store(f, "a1 a2 a3");
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a1");
    expect(f, OUTBOX_BACKFILL, "a2");
    outbox_lost(f->outbox);
    outbox_lost(f->outbox);
    drain(f, "a2 a3");
    stop(f);
}

static void test_a_device_that_is_gone_is_delivered(void **state)
{
    struct fixture *f = *state;
    char why[256];
    uint64_t lost;
    f->layouts = layouts_new();
    struct spool *spool;
    assert_int_equal(spool_open(&(struct spool_setup){.path = f->conf.spool_path,
                                                      .max_bytes = 8 * MIB,
                                                      .layouts = f->layouts},
                                &spool, &lost, why),
                     SPOOL_OPENED);
    struct spool_sample sample = {
        .layout = text_layout(f, "Gone"), .bytes = (const unsigned char *)"{g}", .size = 3};
    assert_true(spool_append(spool, &sample, 1));
    spool_close(spool);
    layouts_free(f->layouts);
    start(f);
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "g");
    assert_string_equal(f->item.layout->device, "Gone");
    stop(f);
}

static void test_what_does_not_fit_is_counted(void **state)
{
    struct fixture *f = *state;
    enum { N = 40 };
    static char payload[OUTBOX_PAYLOAD_MAX];
    memset(payload, 'p', sizeof payload);
    payload[0] = '{';
    payload[sizeof payload - 1] = '}';
    f->conf.spool_max_size = MIB;
    start(f);
    for (int i = 0; i < N; i++) {
        outbox_put_sample(f->outbox, 1, clock_mono_ns() - CLOCK_NS_PER_S, text_layout(f, "Meter-B"),
                          payload, sizeof payload);
        struct outbox_depth depth;
        while (depth = outbox_depth(f->outbox), depth.waiting > 0)
            outbox_wait(f->outbox, clock_mono_ns() + 5 * CLOCK_NS_PER_MS);
    }
    struct outbox_depth depth;
    while (depth = outbox_depth(f->outbox), depth.dropped + depth.backlog != N)
        outbox_wait(f->outbox, clock_mono_ns() + 5 * CLOCK_NS_PER_MS);
    assert_true(depth.dropped > 20);
    assert_int_equal(outbox_dropped(f->outbox, 1), depth.dropped);
    assert_int_equal(outbox_dropped(f->outbox, 0), 0);

    /* As a reload does: it shrinks at once, and what gives way is counted. */
    const uint64_t backlog = depth.backlog, dropped = depth.dropped;
    struct halt *halt = spooler_halt(f->spooler);
    assert_true(halt_wait(halt, CLOCK_NEVER));
    f->conf.spool_max_size = MIB / 2;
    halt_release(halt);
    while (depth = outbox_depth(f->outbox), depth.backlog > backlog / 2 + 2)
        outbox_wait(f->outbox, clock_mono_ns() + 5 * CLOCK_NS_PER_MS);
    assert_int_equal(depth.dropped + depth.backlog, backlog + dropped);
    stop(f);
}

static void test_a_file_that_is_gone_is_replaced(void **state)
{
    struct fixture *f = *state;
    start(f);
    store(f, "a1");
    assert_int_equal(unlink(f->conf.spool_path), 0);
    put(f, 0, "a2");
    assert_true(logged_find(&f->logged, "the spool fails", "samples=1 why=\"it was removed"));
    assert_true(logged_find(&f->logged, "a new spool was begun", "saved=1 lost=0"));
    wait_for(f, 2, 0);
    drain(f, "a1 a2");
    stop(f);
}

/* All that is left goes into the new one. */
static void test_a_file_that_goes_just_before_the_end(void **state)
{
    struct fixture *f = *state;
    start(f);
    store(f, "a1");
    assert_int_equal(unlink(f->conf.spool_path), 0);
    put(f, 0, "a2");
    stop(f);
    start(f);
    assert_true(logged_find(&f->logged, "the spool holds samples of an earlier run", "samples=2"));
    stop(f);
}

/* Reads all that was logged; how many lines have both texts in them. */
static unsigned count_logged(struct fixture *f, const char *first, const char *second)
{
    unsigned n = 0;
    logged_end(&f->logged);
    while (logged_find(&f->logged, first, second))
        n++;
    return n;
}

/* With each try, in every second, it would be news to nobody. */
static void test_what_cannot_be_replaced_is_said_once(void **state)
{
    struct fixture *f = *state;
    start(f);
    store(f, "a1");
    assert_int_equal(unlink(f->conf.spool_path), 0);
    assert_int_equal(mkfifo(f->conf.spool_path, 0600), 0);
    put(f, 0, "a2");
    assert_true(logged_find(&f->logged, "the spool fails", "why=\"it was removed"));
    assert_true(logged_find(&f->logged, "the spool cannot be used", "another program's file"));
    for (const unsigned before = n_looks; n_looks < before + 10;) /* some tries */
        sched_yield();
    assert_int_equal(unlink(f->conf.spool_path), 0);
    assert_true(logged_next(&f->logged));
    assert_non_null(strstr(f->logged.line, "a new spool was begun"));
    drain(f, "a1 a2");
    stop(f);
}

static void test_a_loss_at_the_end_is_said(void **state)
{
    struct fixture *f = *state;
    snprintf(f->conf.spool_path, sizeof f->conf.spool_path, "%s/never/spool.db", f->directory);
    start(f);
    put(f, 0, "a1");
    put(f, 1, "b1");
    stop(f);
    assert_int_equal(count_logged(f, "samples are lost", "neither delivered nor on disk samples=2"),
                     1);
}

static void test_no_loss_at_the_end_is_not(void **state)
{
    struct fixture *f = *state;
    snprintf(f->conf.spool_path, sizeof f->conf.spool_path, "%s/never/spool.db", f->directory);
    start(f);
    stop(f);
    assert_int_equal(count_logged(f, "samples are lost", ""), 0);
}

static void spoil_rows(struct fixture *f)
{
    sqlite3 *file;
    assert_int_equal(sqlite3_open(f->conf.spool_path, &file), SQLITE_OK);
    assert_int_equal(sqlite3_exec(file, "UPDATE sample SET payload = 'x'", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(file);
}

/* They are counted, hold up nothing, and fill no log. */
static void test_any_number_of_rows_that_make_no_sense(void **state)
{
    struct fixture *f = *state;
    enum { N = 5000 };
    char text[16];
    start(f);
    for (int i = 0; i < N; i++) {
        snprintf(text, sizeof text, "%d", i);
        put(f, 0, text);
    }
    stop(f);
    spoil_rows(f);
    start(f);
    put(f, 0, "a1");
    wait_for(f, N + 1, 0);
    drain(f, "a1");
    const struct outbox_depth depth = outbox_depth(f->outbox);
    assert_int_equal(depth.dropped, N);
    assert_int_equal(depth.set_aside, N);
    stop(f);
    /* At once, and what is left of them later: here at the end. */
    assert_in_range(count_logged(f, "rows that make no sense", "first="), 1, 2);
}

/* Such as a disk that is mounted late: what was taken until then is stored. */
static void test_a_directory_that_comes_later_is_waited_for(void **state)
{
    struct fixture *f = *state;
    char directory[sizeof f->directory + 8];
    snprintf(directory, sizeof directory, "%s/late", f->directory);
    snprintf(f->conf.spool_path, sizeof f->conf.spool_path, "%s/spool.db", directory);
    start(f);
    put(f, 0, "a1");
    assert_true(logged_find(&f->logged, "cannot open the spool",
                            "its directory must exist and be writable; samples stay in memory"));
    assert_int_equal(mkdir(directory, 0755), 0);
    assert_true(logged_find(&f->logged, "the spool works again", "/late/spool.db"));
    wait_for(f, 1, 0);
    drain(f, "a1");
    stop(f);
}

static void test_somebody_else_s_file_ends_the_start(void **state)
{
    struct fixture *f = *state;
    FILE *file = fopen(f->conf.spool_path, "w");
    assert_non_null(file);
    fputs("theirs", file);
    fclose(file);
    f->layouts = layouts_new();
    f->outbox = outbox_new(2, MIB, MIB);
    assert_null(spooler_start(&f->conf, f->layouts, f->outbox, NULL));
    assert_true(logged_find(&f->logged, "cannot open the spool", "it is another program's file"));
    outbox_free(f->outbox);
    layouts_free(f->layouts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_samples_outlive_a_stop),
        TEST(test_a_sample_is_on_disk_within_a_second),
        TEST(test_a_loss_in_the_middle_sends_the_rest_again),
        TEST(test_a_device_that_is_gone_is_delivered),
        TEST(test_what_does_not_fit_is_counted),
        TEST(test_a_file_that_is_gone_is_replaced),
        TEST(test_a_file_that_goes_just_before_the_end),
        TEST(test_what_cannot_be_replaced_is_said_once),
        TEST(test_a_loss_at_the_end_is_said),
        TEST(test_no_loss_at_the_end_is_not),
        TEST(test_any_number_of_rows_that_make_no_sense),
        TEST(test_a_directory_that_comes_later_is_waited_for),
        TEST(test_somebody_else_s_file_ends_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
