/* What a spool is for: rows in their order, the room they have, and where it can be. */
#include "tests/unit/spool_bed.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

static bool append_text(struct spool *spool, const char *device, size_t size)
{
    return append_texts(spool, device, size, 1);
}

/* ---- samples ---- */

static void test_samples_come_back_in_order_and_go_when_removed(void **state)
{
    (void)state;
    int64_t rows[3];
    struct spool *spool = open_spool(MIB);
    assert_true(append(spool, "a", 1, &rows[0]));
    assert_true(append(spool, "b", 2, &rows[1]));
    assert_true(append(spool, "a", 3, &rows[2]));
    assert_holds(spool, "a=1 b=2 a=3 ");

    struct seen seen = {.text = ""};
    assert_true(spool_read(spool, rows[0], 1, see, &seen));
    assert_string_equal(seen.text, "b=2 ");
    assert_true(spool_remove(spool, (int64_t[]){rows[1], rows[1], 999}, 3));
    assert_holds(spool, "a=1 a=3 ");
    spool_close(spool);

    spool = open_spool(MIB);
    assert_holds(spool, "a=1 a=3 ");
    assert_true(spool_remove(spool, rows, 3));
    int64_t row;
    assert_true(append(spool, "a", 4, &row));
    assert_true(row > rows[2]); /* a row is never used twice */
    spool_close(spool);
}

static bool note_names(void *context, const struct spool_sample *read)
{
    strcat(context, read->layout->points[0].name);
    strcat(context, " ");
    assert_true(read->layout->points[0].scale == 0.5);
    assert_int_equal(read->layout->points[0].type, POINT_INT32);
    assert_int_equal(read->layout->points[1].table, POINT_COIL);
    return true;
}

static void test_what_waits_keeps_the_names_it_was_taken_with(void **state)
{
    (void)state;
    struct spool *spool = open_spool(MIB);
    unsigned char bytes[SAMPLE_PACKED_MAX];
    const struct layout *before = layout_of("a", "power", "on");
    const struct layout *after = layout_of("a", "active_power", "on");
    struct spool_sample sample = {.layout = before, .bytes = bytes, .size = pack(before, 1, bytes)};
    assert_true(spool_append(spool, &sample, 1));
    sample.layout = after;
    assert_true(spool_append(spool, &sample, 1));
    spool_close(spool);

    layouts_free(layouts);
    layouts = layouts_new(); /* another run, which knows neither */
    spool = open_spool(MIB);
    char names[100] = "";
    assert_true(spool_read(spool, 0, 10, note_names, names));
    assert_string_equal(names, "power active_power ");
    spool_close(spool);
}

struct dropped {
    unsigned a, b;
    int64_t last_row;
};

static void drop(void *context, const struct spool_sample *sample)
{
    struct dropped *dropped = context;
    assert_true(sample->row > dropped->last_row);
    dropped->last_row = sample->row;
    dropped->a += strcmp(sample->layout->device, "a") == 0;
    dropped->b += strcmp(sample->layout->device, "b") == 0;
}

static void test_the_oldest_give_way_and_the_file_stays_small(void **state)
{
    (void)state;
    enum { N = 4000 };
    struct spool *spool = open_spool(MIB);
    struct dropped dropped = {.a = 0};
    for (int i = 0; i < N; i += 100) {
        for (int k = 0; k < 4; k++)
            assert_true(append_texts(spool, k ? "a" : "b", 999, 25));
        assert_true(spool_trim(spool, drop, &dropped));
    }
    assert_true(dropped.a > 0);
    assert_int_equal(dropped.a + dropped.b + spool_count(spool), N);
    assert_in_range(dropped.a, 2 * dropped.b, 4 * dropped.b);
    struct seen seen = {.last_row = dropped.last_row};
    assert_true(spool_read(spool, 0, N, see, &seen)); /* all that is left is newer */
    assert_int_equal(seen.n, spool_count(spool));
    assert_true(spool_count(spool) > 500); /* most of the room is used */

    struct stat file, wal;
    assert_int_equal(stat("spool.db", &file), 0);
    assert_int_equal(stat("spool.db-wal", &wal), 0);
    assert_true(file.st_size < MIB + MIB / 2);
    assert_true(wal.st_size < 8 * MIB);
    spool_close(spool);
}

static void test_a_small_file_is_used_as_well(void **state)
{
    (void)state;
    struct spool *spool = open_spool(64 << 10);
    struct dropped dropped = {.a = 0};
    for (int i = 0; i < 500; i++) {
        assert_true(append_text(spool, "a", 1000));
        assert_true(spool_trim(spool, drop, &dropped));
        assert_int_equal(dropped.a + spool_count(spool), i + 1);
        assert_true(spool_count(spool) >= 35 || dropped.a == 0);
    }
    assert_true(dropped.a > 0);
    spool_close(spool);
}

static void test_an_empty_file_is_a_new_spool(void **state)
{
    (void)state;
    given_file("spool.db", "");
    struct spool *spool = open_spool(MIB);
    assert_true(append(spool, "a", 1, NULL));
    spool_close(spool);
    assert_int_equal(count_files("*.damaged-*"), 0);
}

/* ---- places where it cannot be ---- */

static void test_a_directory_that_is_not_there(void **state)
{
    (void)state;
    assert_refused("nowhere/spool.db", SPOOL_LATER,
                   "cannot open the spool nowhere/spool.db: unable to open "
                   "database file: its directory must exist and be writable");
}

/* Root may write everywhere, so a child becomes somebody else. */
static int open_as_nobody(void)
{
    pid_t child = fork();
    int status = -1;
    if (child == 0) {
        char why[256] = "it was opened";
        if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
            _exit(2);
        struct spool *spool;
        bool refused = try_open("spool.db", MIB, &spool, why) == SPOOL_LATER &&
                       strstr(why, "its directory must exist and be writable");
        if (!refused)
            fprintf(stderr, "%s\n", why);
        _exit(refused ? 0 : 1);
    }
    waitpid(child, &status, 0);
    return status;
}

static void test_a_directory_that_is_read_only(void **state)
{
    (void)state;
    assert_int_equal(chmod(".", 0555), 0);
    int empty = open_as_nobody();
    assert_int_equal(chmod(".", 0755), 0);
    fill_file(1);
    assert_int_equal(chmod("spool.db", 0444), 0);
    assert_int_equal(chmod(".", 0555), 0);
    int full = open_as_nobody();
    assert_int_equal(chmod(".", 0755), 0);
    assert_int_equal(empty, 0);
    assert_int_equal(full, 0);
    assert_int_equal(count_files("*.damaged-*"), 0);
}

/* In the child: a disk of 8 MiB; or, where that is not allowed, files of at most 4 MiB and false.
 */
static bool enter_small_disk(void)
{
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {4 * MIB, 4 * MIB};
    if (mkdir("small", 0755) == 0 && unshare(CLONE_NEWNS) == 0 &&
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("none", "small", "tmpfs", 0, "size=8m") == 0 && chdir("small") == 0)
        return true;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    return false;
}

static void use_a_full_disk(void)
{
    int n = 0;
    bool disk = enter_small_disk();
    struct spool *spool = open_spool(64 * MIB);
    while (append_text(spool, "a", 2000))
        n++;
    assert_true(n > 400);
    assert_false(spool_is_damaged(spool));
    assert_true(strstr(spool_error(spool), "full") || strstr(spool_error(spool), "I/O"));
    assert_int_equal(spool_count(spool), n);
    struct seen seen = {.text = ""};
    assert_true(spool_read(spool, 0, 100000, see, &seen));
    assert_int_equal(seen.n, n);
    if (!disk)
        return;

    /* What is there can be removed all the same, and with room on the disk it takes more. */
    for (int64_t row = 1; row <= n; row++)
        assert_true(spool_remove(spool, &row, 1));
    assert_holds(spool, "");
    assert_int_equal(chdir(".."), 0);
    assert_int_equal(mount("none", "small", "tmpfs", MS_REMOUNT, "size=16m"), 0);
    assert_int_equal(chdir("small"), 0);
    assert_true(append(spool, "a", 1, NULL));
    assert_holds(spool, "a=1 ");
    spool_close(spool);
}

static void test_a_full_disk_refuses_and_recovers(void **state)
{
    (void)state;
    int status;
    pid_t child = fork();
    if (child == 0) {
        use_a_full_disk();
        _exit(0);
    }
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_samples_come_back_in_order_and_go_when_removed),
        TEST(test_what_waits_keeps_the_names_it_was_taken_with),
        TEST(test_the_oldest_give_way_and_the_file_stays_small),
        TEST(test_a_small_file_is_used_as_well),
        TEST(test_an_empty_file_is_a_new_spool),
        TEST(test_a_directory_that_is_not_there),
        TEST(test_a_directory_that_is_read_only),
        TEST(test_a_full_disk_refuses_and_recovers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
