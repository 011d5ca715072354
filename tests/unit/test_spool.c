#include "tests/unit/given.h"

#include <fcntl.h>
#include <glob.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "bridge/store/spool.h"
#include "tests/unit/logged.h"

#define MIB (INT64_C(1) << 20)

/* What a reader has seen, as one text: "device=payload " for each. */
struct seen {
    char text[4096];
    size_t n;
    int64_t last_row;
};

static void see(void *context, const struct spool_sample *sample)
{
    struct seen *seen = context;
    assert_true(sample->row > seen->last_row);
    seen->last_row = sample->row;
    size_t used = strlen(seen->text);
    if (used < sizeof seen->text - 100)
        snprintf(seen->text + used, sizeof seen->text - used, "%s=%.*s ", sample->device,
                 (int)sample->payload_size, sample->payload);
    seen->n++;
}

static struct spool *open_spool(int64_t max_bytes)
{
    char why[256] = "";
    struct spool *spool = spool_open("spool.db", max_bytes, why);
    if (spool == NULL)
        fail_msg("%s", why);
    return spool;
}

static bool append(struct spool *spool, const char *device, const char *payload, int64_t *row)
{
    struct spool_sample sample = {
        .device = device, .payload = payload, .payload_size = strlen(payload)};
    bool good = spool_append(spool, &sample, 1);
    if (good && row)
        *row = sample.row;
    return good;
}

static void assert_holds(struct spool *spool, const char *expected)
{
    struct seen seen = {.text = ""};
    assert_true(spool_read(spool, 0, 1000, see, &seen));
    assert_string_equal(seen.text, expected);
    assert_int_equal(spool_count(spool), seen.n);
}

static size_t count_files(const char *pattern)
{
    glob_t found;
    size_t n = glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
    globfree(&found);
    return n;
}

/* ---- samples ---- */

static void test_samples_come_back_in_order_and_go_when_removed(void **state)
{
    (void)state;
    int64_t rows[3];
    struct spool *spool = open_spool(MIB);
    assert_true(append(spool, "a", "1", &rows[0]));
    assert_true(append(spool, "b", "2", &rows[1]));
    assert_true(append(spool, "a", "3", &rows[2]));
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
    assert_true(append(spool, "a", "4", &row));
    assert_true(row > rows[2]); /* a row is never used twice */
    spool_close(spool);
}

static void test_a_payload_is_any_bytes(void **state)
{
    (void)state;
    struct spool *spool = open_spool(MIB);
    struct spool_sample sample = {.device = "a", .payload = "x\0y", .payload_size = 3};
    assert_true(spool_append(spool, &sample, 1));
    assert_true(spool_append(spool, NULL, 0));
    struct seen seen = {.text = ""};
    assert_true(spool_read(spool, 0, 10, see, &seen));
    assert_int_equal(seen.n, 1);
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
    dropped->a += strcmp(sample->device, "a") == 0;
    dropped->b += strcmp(sample->device, "b") == 0;
}

static void test_the_oldest_give_way_and_the_file_stays_small(void **state)
{
    (void)state;
    enum { N = 4000, BATCH = 100 };
    static char payload[1000];
    memset(payload, 'p', sizeof payload - 1);
    struct spool *spool = open_spool(MIB);
    struct dropped dropped = {.a = 0};
    for (int i = 0; i < N; i += BATCH) {
        struct spool_sample samples[BATCH];
        for (int k = 0; k < BATCH; k++)
            samples[k] = (struct spool_sample){.device = k % 4 ? "a" : "b",
                                               .payload = payload,
                                               .payload_size = sizeof payload - 1};
        assert_true(spool_append(spool, samples, BATCH));
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
    static char payload[1000];
    memset(payload, 'p', sizeof payload - 1);
    struct spool *spool = open_spool(64 << 10);
    struct dropped dropped = {.a = 0};
    for (int i = 0; i < 500; i++) {
        int64_t row;
        assert_true(append(spool, "a", payload, &row));
        assert_true(spool_trim(spool, drop, &dropped));
        assert_int_equal(dropped.a + spool_count(spool), i + 1);
        assert_true(spool_count(spool) >= 35 || dropped.a == 0);
    }
    assert_true(dropped.a > 0);
    spool_close(spool);
}

/* ---- what may happen to it ---- */

/* Writes batches for ever and says each number when it is on disk. */
static void write_until_killed(int out)
{
    struct spool *spool = open_spool(64 * MIB);
    for (int32_t i = 1;; i++) {
        char payload[200];
        snprintf(payload, sizeof payload, "%d", (int)i);
        struct spool_sample samples[2] = {
            {.device = "a", .payload = payload, .payload_size = sizeof payload},
            {.device = "b", .payload = payload, .payload_size = sizeof payload}};
        if (!spool_append(spool, samples, 2) || write(out, &i, sizeof i) != sizeof i)
            _exit(1);
    }
}

struct last {
    int a, b;
};

static void check_no_gap(void *context, const struct spool_sample *sample)
{
    struct last *last = context;
    int *number = sample->device[0] == 'a' ? &last->a : &last->b;
    int value = atoi(sample->payload);
    assert_int_equal(value, *number + 1);
    *number = value;
}

static void test_a_kill_loses_nothing_that_was_taken(void **state)
{
    (void)state;
    struct last last = {.a = 0};
    int32_t said = 0, number;
    for (int round = 0; round < 5; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0)
            write_until_killed(ends[1]);
        close(ends[1]);
        for (int n = 0; n < 7 + 11 * round; n++)
            assert_int_equal(read(ends[0], &said, sizeof said), sizeof said);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(ends[0], &number, sizeof number) == sizeof number)
            said = number;
        close(ends[0]);

        struct spool *spool = open_spool(64 * MIB);
        last = (struct last){.a = 0};
        assert_true(spool_read(spool, 0, SIZE_MAX >> 1, check_no_gap, &last));
        assert_true(last.a >= said); /* the one it could not say any more may be there */
        assert_int_equal(last.a, last.b);
        unlink("spool.db");
        spool_close(spool);
        unlink("spool.db-wal");
    }
    assert_int_equal(count_files("*.damaged-*"), 0);
}

static void fill_file(int samples)
{
    struct spool *spool = open_spool(64 * MIB);
    static char payload[900];
    memset(payload, 'p', sizeof payload - 1);
    for (int i = 0; i < samples; i++)
        assert_true(append(spool, "a", payload, NULL));
    spool_close(spool);
}

static void overwrite(long at, size_t size)
{
    int fd = open("spool.db", O_WRONLY);
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)(i * 181 + 7);
        assert_int_equal(pwrite(fd, &byte, 1, at + (long)i), 1);
    }
    close(fd);
}

static void assert_set_aside(void)
{
    struct logged logged;
    assert_true(logged_begin(&logged));
    struct spool *spool = open_spool(MIB);
    logged_end(&logged);
    assert_true(logged_find(&logged, "the spool is damaged: it was set aside and a new one begun",
                            "kept_as=spool.db.damaged-"));
    logged_free(&logged);
    assert_int_equal(spool_count(spool), 0);
    assert_true(append(spool, "a", "1", NULL));
    assert_holds(spool, "a=1 ");
    spool_close(spool);
    assert_int_equal(count_files("spool.db.damaged-*"), 1);
}

static void test_random_bytes_are_set_aside(void **state)
{
    (void)state;
    int fd = open("spool.db", O_WRONLY | O_CREAT, 0644);
    close(fd);
    overwrite(0, 9000);
    assert_set_aside();
}

static void test_a_damaged_page_is_set_aside(void **state)
{
    (void)state;
    fill_file(40);
    struct stat file;
    assert_int_equal(stat("spool.db", &file), 0);
    for (long at = 8192; at < file.st_size; at += 4096)
        overwrite(at, 64);
    assert_set_aside();
}

static void test_a_truncated_file_is_set_aside(void **state)
{
    (void)state;
    fill_file(40);
    assert_int_equal(truncate("spool.db", 3 * 4096 + 100), 0);
    assert_set_aside();
}

static void test_another_schema_is_set_aside(void **state)
{
    (void)state;
    sqlite3 *file;
    assert_int_equal(sqlite3_open("spool.db", &file), SQLITE_OK);
    assert_int_equal(sqlite3_exec(file,
                                  "CREATE TABLE sample (x TEXT); INSERT INTO sample VALUES (1)",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(file);
    assert_set_aside();
}

static void test_an_empty_file_is_a_new_spool(void **state)
{
    (void)state;
    given_file("spool.db", "");
    struct spool *spool = open_spool(MIB);
    assert_true(append(spool, "a", "1", NULL));
    spool_close(spool);
    assert_int_equal(count_files("*.damaged-*"), 0);
}

static void test_damage_while_in_use_is_found_and_mended(void **state)
{
    (void)state;
    fill_file(2000); /* more than the cache holds */
    struct spool *spool = open_spool(64 * MIB);
    struct stat file;
    assert_int_equal(stat("spool.db", &file), 0);
    for (long at = 8192; at < file.st_size; at += 4096)
        overwrite(at, 64);
    struct seen seen = {.text = ""};
    assert_false(spool_read(spool, 0, 3000, see, &seen));
    assert_true(spool_is_damaged(spool));
    assert_string_equal(spool_error(spool), "database disk image is malformed");
    assert_true(spool_renew(spool));
    assert_holds(spool, "");
    assert_true(append(spool, "a", "1", NULL));
    assert_holds(spool, "a=1 ");
    spool_close(spool);
    assert_int_equal(count_files("spool.db.damaged-*"), 1);
}

static void test_a_file_that_was_moved_takes_no_more(void **state)
{
    (void)state;
    struct spool *spool = open_spool(MIB);
    assert_true(append(spool, "a", "1", NULL));
    assert_int_equal(rename("spool.db", "elsewhere"), 0);
    assert_false(append(spool, "a", "2", NULL));
    assert_true(spool_is_damaged(spool));
    assert_string_equal(spool_error(spool), "it was removed or renamed");
    assert_true(spool_renew(spool));
    assert_true(append(spool, "a", "3", NULL));
    assert_holds(spool, "a=3 ");
    spool_close(spool);
}

/* ---- places where it cannot be ---- */

static void assert_refused(const char *path, const char *expected)
{
    char why[256] = "";
    assert_null(spool_open(path, MIB, why));
    assert_string_equal(why, expected);
}

static void test_two_at_once_are_refused(void **state)
{
    (void)state;
    struct spool *spool = open_spool(MIB);
    int status;
    pid_t child = fork();
    if (child == 0) {
        char why[256] = "";
        bool refused = spool_open("spool.db", MIB, why) == NULL &&
                       strcmp(why, "cannot open the spool spool.db: another program uses it") == 0;
        _exit(refused ? 0 : 1);
    }
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_true(append(spool, "a", "1", NULL));
    spool_close(spool);
}

static void test_a_directory_that_is_not_there(void **state)
{
    (void)state;
    assert_refused("nowhere/spool.db", "cannot open the spool nowhere/spool.db: unable to open "
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
        bool refused = spool_open("spool.db", MIB, why) == NULL &&
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
    static char payload[2000];
    int n = 0;
    memset(payload, 'p', sizeof payload - 1);
    bool disk = enter_small_disk();
    struct spool *spool = open_spool(64 * MIB);
    while (append(spool, "a", payload, NULL))
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
    assert_true(append(spool, "a", "1", NULL));
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, given_directory, remove_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_samples_come_back_in_order_and_go_when_removed),
        TEST(test_a_payload_is_any_bytes),
        TEST(test_the_oldest_give_way_and_the_file_stays_small),
        TEST(test_a_small_file_is_used_as_well),
        TEST(test_a_kill_loses_nothing_that_was_taken),
        TEST(test_random_bytes_are_set_aside),
        TEST(test_a_damaged_page_is_set_aside),
        TEST(test_a_truncated_file_is_set_aside),
        TEST(test_another_schema_is_set_aside),
        TEST(test_an_empty_file_is_a_new_spool),
        TEST(test_damage_while_in_use_is_found_and_mended),
        TEST(test_a_file_that_was_moved_takes_no_more),
        TEST(test_two_at_once_are_refused),
        TEST(test_a_directory_that_is_not_there),
        TEST(test_a_directory_that_is_read_only),
        TEST(test_a_full_disk_refuses_and_recovers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
