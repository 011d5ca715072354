/* Whose a file is: another program's, another release's, or one that somebody else has open. */
#include "tests/unit/spool_bed.h"

#include <sys/prctl.h>

/* ---- somebody else's ---- */

/* Somebody else's. */
static void test_random_bytes_are_left_alone(void **state)
{
    (void)state;
    struct stat before, after;
    int fd = open("spool.db", O_WRONLY | O_CREAT, 0644);
    close(fd);
    overwrite(0, 9000);
    assert_int_equal(stat("spool.db", &before), 0);
    assert_another_program_s();
    assert_int_equal(stat("spool.db", &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(before.st_size, after.st_size);
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
    assert_int_equal(count_files("*"), 1);
}

static void test_another_schema_is_left_alone(void **state)
{
    (void)state;
    make_database("CREATE TABLE sample (x TEXT); INSERT INTO sample VALUES (1)");
    assert_another_program_s();
    assert_int_equal(count_files("*"), 1);
}

/* Nothing of it may be lost either. */
static void test_somebody_else_s_file_in_its_place_is_left_alone(void **state)
{
    (void)state;
    struct spool *spool = open_spool(MIB);
    uint64_t n_lost = 0;
    assert_true(append(spool, "a", 1, NULL));
    assert_int_equal(unlink("spool.db"), 0);
    given_file("spool.db", "theirs");
    assert_false(append(spool, "a", 2, NULL));
    assert_false(spool_renew(spool, count_lost, &n_lost));
    assert_string_equal(spool_error(spool), "it is another program's file");
    assert_holds(spool, "a=1 ");
    spool_close(spool);
    FILE *file = fopen("spool.db", "r");
    char text[16] = "";
    assert_int_equal(fread(text, 1, sizeof text, file), 6);
    assert_string_equal(text, "theirs");
    fclose(file);
}

/* Who owns the directory would have it write elsewhere. */
static void test_root_follows_no_link(void **state)
{
    (void)state;
    static const char *const links[] = {"spool.db", "spool.db-wal"};
    static const char *const whys[] = {
        "cannot open the spool spool.db: it is a symbolic link, and this is root: name the file "
        "that it leads to, or run as the service's user",
        "cannot open the spool spool.db: what has the name of its log is no file: "
        "move away what has its name with -wal or -journal behind it"};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(symlink("elsewhere", links[i]), 0);
        if (geteuid() == 0) {
            assert_refused("spool.db", SPOOL_LATER, whys[i]);
            assert_int_equal(access("elsewhere", F_OK), -1);
        } else if (i == 0) { /* anybody else does */
            spool_close(open_spool(MIB));
            assert_int_equal(access("elsewhere", F_OK), 0);
        }
        assert_int_equal(system("rm -f spool.db* elsewhere*"), 0);
    }
}

/* SQLite would wait for ever at a pipe that has the name of its log. */
static void test_what_has_the_name_of_its_log(void **state)
{
    (void)state;
    static const char *const names[] = {"spool.db-wal", "spool.db-journal"};
    for (size_t i = 0; i < 4; i++) {
        if (i < 2) /* also where there is no file yet */
            assert_int_equal(system("rm -f spool.db*"), 0);
        else
            fill_file(1);
        assert_int_equal(mkfifo(names[i % 2], 0600), 0);
        assert_refused("spool.db", SPOOL_LATER,
                       "cannot open the spool spool.db: what has the name of its log is no file: "
                       "move away what has its name with -wal or -journal behind it");
        assert_int_equal(unlink(names[i % 2]), 0);
        spool_close(open_spool(MIB));
    }
}

/* ---- another release's ---- */

static void test_a_newer_release_s_file_is_left_alone(void **state)
{
    (void)state;
    fill_file(1);
    make_database("PRAGMA user_version = 2");
    assert_refused("spool.db", SPOOL_REFUSED,
                   "cannot open the spool spool.db: a newer release has written it: install that "
                   "release again, or move the file away; it was left as it is");
}

/* As that release makes and fills it. */
static const char *const first_release = "PRAGMA journal_mode = WAL;"
                                         "CREATE TABLE IF NOT EXISTS sample ("
                                         "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
                                         "  device TEXT NOT NULL,"
                                         "  payload BLOB NOT NULL);";

static void test_the_first_release_s_samples_are_read(void **state)
{
    (void)state;
    make_database(first_release);
    make_database("INSERT INTO sample (device, payload) VALUES"
                  " ('Grid-Meter', CAST('{\"ts\":1}' AS BLOB)),"
                  " ('gone', CAST('{\"ts\":2}' AS BLOB)), ('a/b', CAST('{}' AS BLOB)),"
                  " ('Grid-Meter', CAST('no json' AS BLOB)), ('a', CAST('{\n}' AS BLOB))");
    struct spool *spool = open_spool(MIB);
    assert_int_equal(lost, 0);
    assert_true(append(spool, "a", 3, NULL));
    assert_holds(spool, "Grid-Meter={\"ts\":1} gone={\"ts\":2} ? ? ? a=3 ");
    spool_close(spool);
    assert_int_equal(count_files("*.damaged-*"), 0);

    spool = open_spool(MIB); /* and once more, now that it is of this version */
    assert_holds(spool, "Grid-Meter={\"ts\":1} gone={\"ts\":2} ? ? ? a=3 ");
    spool_close(spool);
}

/* All of it may still be in the log when that release is killed. */
static void test_the_first_release_s_log_is_read(void **state)
{
    (void)state;
    int status;
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *file;
        bool good =
            sqlite3_open("spool.db", &file) == SQLITE_OK &&
            sqlite3_exec(file, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL) == SQLITE_OK &&
            sqlite3_exec(file, first_release, NULL, NULL, NULL) == SQLITE_OK &&
            sqlite3_exec(file,
                         "INSERT INTO sample (device, payload) VALUES"
                         " ('a', CAST('{1}' AS BLOB))",
                         NULL, NULL, NULL) == SQLITE_OK;
        _exit(good ? 0 : 1);
    }
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    struct stat file;
    assert_int_equal(stat("spool.db", &file), 0);
    assert_true(file.st_size <= 4096);
    struct spool *spool = open_spool(MIB);
    assert_holds(spool, "a={1} ");
    spool_close(spool);
}

/* ---- two at once ---- */

static void test_two_at_once_are_refused(void **state)
{
    (void)state;
    struct spool *spool = open_spool(MIB);
    int status;
    pid_t child = fork();
    if (child == 0) {
        char why[256] = "";
        struct spool *other;
        bool refused = try_open("spool.db", MIB, &other, why) == SPOOL_REFUSED &&
                       strcmp(why, "cannot open the spool spool.db: another program uses it: "
                                   "end that program, or name another path") == 0;
        _exit(refused ? 0 : 1);
    }
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_true(append(spool, "a", 1, NULL));
    spool_close(spool);
}

/* Another program in a transaction, until a byte comes. Never returns. */
static void hold_in_a_transaction(const int told[2], const int go[2])
{
    sqlite3 *file;
    char byte = 0;
    prctl(PR_SET_NAME, "sqlite3");
    const bool good =
        sqlite3_open("spool.db", &file) == SQLITE_OK &&
        sqlite3_exec(file, "BEGIN; SELECT count(*) FROM sample", NULL, NULL, NULL) == SQLITE_OK &&
        write(told[1], &byte, 1) == 1 && read(go[0], &byte, 1) == 1;
    _exit(good ? 0 : 1);
}

/* Such as an administrator's who looks at it. */
static void test_a_program_that_has_it_locked_is_waited_for(void **state)
{
    (void)state;
    int told[2], go[2], status;
    char byte = 0;
    struct spool *spool = open_spool(MIB);
    assert_true(append(spool, "a", 1, NULL));
    spool_close(spool);
    assert_int_equal(pipe(told), 0);
    assert_int_equal(pipe(go), 0);
    pid_t child = fork();
    if (child == 0)
        hold_in_a_transaction(told, go);
    assert_int_equal(read(told[0], &byte, 1), 1);
    assert_refused("spool.db", SPOOL_LATER,
                   "cannot open the spool spool.db: another program uses it: "
                   "end that program, or name another path");
    assert_int_equal(write(go[1], &byte, 1), 1);
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    spool = open_spool(MIB);
    assert_holds(spool, "a=1 ");
    spool_close(spool);
    for (int i = 0; i < 2; i++) {
        close(told[i]);
        close(go[i]);
    }
}

/* The other way round it is that program that has to wait. */
static void test_nobody_else_gets_in_while_it_is_in_use(void **state)
{
    (void)state;
    int status;
    struct spool *spool = open_spool(MIB);
    assert_true(append(spool, "a", 1, NULL));
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *file;
        _exit(sqlite3_open("spool.db", &file) == SQLITE_OK &&
                      sqlite3_exec(file, "SELECT count(*) FROM sample", NULL, NULL, NULL) ==
                          SQLITE_BUSY &&
                      sqlite3_exec(file, "BEGIN EXCLUSIVE", NULL, NULL, NULL) == SQLITE_BUSY
                  ? 0
                  : 1);
    }
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_true(append(spool, "a", 2, NULL));
    assert_holds(spool, "a=1 a=2 ");
    spool_close(spool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_random_bytes_are_left_alone),
        TEST(test_another_schema_is_left_alone),
        TEST(test_somebody_else_s_file_in_its_place_is_left_alone),
        TEST(test_root_follows_no_link),
        TEST(test_what_has_the_name_of_its_log),
        TEST(test_a_newer_release_s_file_is_left_alone),
        TEST(test_the_first_release_s_samples_are_read),
        TEST(test_the_first_release_s_log_is_read),
        TEST(test_two_at_once_are_refused),
        TEST(test_a_program_that_has_it_locked_is_waited_for),
        TEST(test_nobody_else_gets_in_while_it_is_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
