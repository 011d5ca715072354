/* What may happen to a spool: a kill costs nothing, damage what was there and no more. */
#include "tests/unit/spool_bed.h"

#include <signal.h>

/* ---- a kill ---- */

/* Writes batches for ever and says each number when it is on disk. */
static void write_until_killed(int out)
{
    struct spool *spool = open_spool(64 * MIB);
    unsigned char bytes[2][SAMPLE_PACKED_MAX];
    struct spool_sample samples[2] = {{.layout = layout_of("a", "power", "on"), .bytes = bytes[0]},
                                      {.layout = layout_of("b", "power", "on"), .bytes = bytes[1]}};
    for (int32_t i = 1;; i++) {
        for (int k = 0; k < 2; k++)
            samples[k].size = pack(samples[k].layout, i, bytes[k]);
        if (!spool_append(spool, samples, 2) || write(out, &i, sizeof i) != sizeof i)
            _exit(1);
    }
}

struct last {
    int a, b;
};

static bool check_no_gap(void *context, const struct spool_sample *read)
{
    struct last *last = context;
    struct value values[2];
    struct sample sample = {.ts_ms = 0};
    assert_non_null(read->layout);
    assert_true(sample_unpack(read->layout, read->bytes, read->size, &sample, values));
    int *number = read->layout->device[0] == 'a' ? &last->a : &last->b;
    assert_int_equal(values[0].number, *number + 1);
    *number = (int)values[0].number;
    return true;
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

/* ---- damage ---- */

/* What a file system can leave after a power cut. */
static void test_nothing_but_zeros_is_set_aside(void **state)
{
    (void)state;
    given_file("spool.db", "");
    assert_int_equal(truncate("spool.db", 9000), 0);
    assert_set_aside(0, 0, 0);
}

static void test_a_damaged_page_costs_its_samples_alone(void **state)
{
    (void)state;
    fill_file(4000); /* about four a page */
    overwrite(8192 + 500 * 4096, 4096);
    assert_set_aside(3980, 3999, 4000);
}

static void test_damaged_pages_cost_their_samples_alone(void **state)
{
    (void)state;
    struct stat file;
    fill_file(2000);
    assert_int_equal(stat("spool.db", &file), 0);
    for (long at = 8192 + 4096; at < file.st_size; at += 7 * 4096)
        overwrite(at, 4096);
    assert_set_aside(1000, 1990, 2000);
}

static void test_a_truncated_file_keeps_what_is_left(void **state)
{
    (void)state;
    fill_file(400);
    assert_int_equal(truncate("spool.db", 60 * 4096 + 100), 0);
    assert_set_aside(0, 399, 400);
}

static void test_damage_while_in_use_is_found_and_mended(void **state)
{
    (void)state;
    fill_file(2000); /* more than the cache holds */
    struct spool *spool = open_spool(64 * MIB);
    struct stat file;
    uint64_t n_lost = 0;
    assert_int_equal(stat("spool.db", &file), 0);
    for (long at = 8192 + 20 * 4096; at < file.st_size; at += 20 * 4096)
        overwrite(at, 4096);
    struct seen seen = {.text = ""};
    assert_false(spool_read(spool, 0, 3000, see, &seen));
    assert_true(spool_is_damaged(spool));
    assert_string_equal(spool_error(spool), "database disk image is malformed");
    assert_true(spool_renew(spool, count_lost, &n_lost));
    assert_int_equal(spool_count(spool) + n_lost, 2000);
    assert_in_range(n_lost, 10, 1000);
    assert_true(append(spool, "a", 1, NULL));
    spool_close(spool);
    assert_true(count_files("spool.db.damaged-*") >= 1);

    spool = open_spool(64 * MIB);
    assert_int_equal(spool_count(spool) + n_lost, 2001);
    spool_close(spool);
}

/* Of a million rows in front of those that wait, long delivered, none is lost. */
static void test_damage_at_the_front_costs_no_row_that_was_delivered(void **state)
{
    (void)state;
    fill_file(1);
    make_database("DELETE FROM sample; UPDATE sqlite_sequence SET seq = 1000000;");
    fill_file(2000);
    struct spool *spool = open_spool(64 * MIB);
    struct seen all = {.text = ""}, seen = {.text = ""};
    uint64_t n_lost = 0;
    assert_true(spool_read(spool, 0, 3000, see, &all)); /* of which the cache holds the last */
    assert_int_equal(all.last_row, 1002000);
    overwrite(4 * 4096, 4096); /* the first of the pages that have rows */
    assert_false(spool_read(spool, 0, 3000, see, &seen));
    assert_true(spool_renew(spool, count_lost, &n_lost));
    assert_int_equal(spool_count(spool) + n_lost, 2000);
    assert_in_range(n_lost, 1, 10);
    spool_close(spool);
}

/* ---- rows are input ---- */

/* The first one by a number that leaves none to the next, the others by one that is never
 * looked for. */
static void test_rows_with_numbers_that_are_none(void **state)
{
    (void)state;
    int64_t row;
    fill_file(2);
    make_database("INSERT INTO sample (id, device, payload) VALUES (9223372036854775807, 'a', "
                  "x'7b7d'), (0, 'a', x'7b7d'), (-1, 'a', x'7b7d'), "
                  "(-9223372036854775808, 'a', x'7b7d');");
    struct spool *spool = open_spool(MIB);
    assert_int_equal(spool_count(spool), 2);
    assert_int_equal(lost, 4);
    assert_true(append(spool, "b", 1, &row));
    assert_int_equal(row, 3);
    const int64_t rows[] = {1, 2, 3};
    assert_true(spool_remove(spool, rows, 3));
    assert_int_equal(spool_count(spool), 0);
    spool_close(spool);
}

/* Or is told to be none, where the file says which number was the last. */
static void test_a_last_number_that_is_none(void **state)
{
    (void)state;
    static const char *const numbers[] = {"9223372036854775807", "9223372036854775806", "1e300",
                                          "'z'", "x'00'"};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        char text[100];
        int64_t row;
        fill_file(2);
        (void)snprintf(text, sizeof text, "UPDATE sqlite_sequence SET seq = %s", numbers[i]);
        make_database(text);
        struct spool *spool = open_spool(MIB);
        assert_int_equal(spool_count(spool), 2);
        assert_int_equal(lost, 0);
        assert_true(append(spool, "b", 1, &row));
        assert_int_equal(row, 3);
        spool_discard(spool);
    }
}

/* What an administrator's tool has put there does nothing with what is put or removed. */
static void test_a_trigger_is_not_pulled(void **state)
{
    (void)state;
    int64_t row;
    fill_file(1);
    make_database("CREATE TRIGGER t BEFORE INSERT ON sample BEGIN SELECT RAISE(IGNORE); END");
    struct spool *spool = open_spool(MIB);
    assert_true(append(spool, "b", 1, &row));
    assert_int_equal(row, 2);
    spool_close(spool);
}

static void test_rows_that_make_no_sense_are_told_as_such(void **state)
{
    (void)state;
    struct spool *spool = open_spool(64 * MIB);
    for (int i = 1; i <= 9; i++)
        assert_true(append(spool, "a", i, NULL));
    spool_close(spool);
    make_database("UPDATE sample SET checksum = checksum + 1 WHERE id = 1;"
                  "UPDATE sample SET layout = 77 WHERE id = 2;"
                  "UPDATE sample SET layout = NULL WHERE id = 3;"
                  "UPDATE sample SET payload = substr(payload, 1, 10) WHERE id = 4;"
                  "UPDATE sample SET payload = zeroblob(100000) WHERE id = 5;"
                  "UPDATE sample SET payload = zeroblob(5000000) WHERE id = 6;"
                  "UPDATE sample SET payload = 'text' WHERE id = 7;"
                  "UPDATE sample SET device = CAST(zeroblob(6000000) AS TEXT) WHERE id = 8;");
    spool = open_spool(8 * MIB);
    assert_holds(spool, "? ? ? ? ? ? ? ? a=9 ");

    struct seen one = {.text = ""}; /* also where the last that is asked for is too large */
    assert_true(spool_read(spool, 4, 2, see, &one));
    assert_string_equal(one.text, "? ? ");
    for (int64_t row = 1; row <= 8; row++)
        assert_true(spool_remove(spool, &row, 1));
    assert_holds(spool, "a=9 ");
    spool_close(spool);
}

/* The same layout is made anew for what comes: a=3. Removes the file. */
static void assert_holds_and_takes_more(const char *before, const char *after)
{
    struct spool *spool = open_spool(MIB);
    assert_holds(spool, before);
    assert_true(append(spool, "a", 3, NULL));
    assert_holds(spool, after);
    spool_close(spool);
    unlink("spool.db");
}

/* With a name that is none, and with one that is another's. */
static void test_a_layout_that_makes_no_sense_takes_its_rows_with_it(void **state)
{
    (void)state;
    const char *const changes[] = {"POWER", "qower"};
    for (unsigned i = 0; i < 2; i++) {
        char sql[256];
        struct spool *spool = open_spool(MIB);
        assert_true(append(spool, "a", 1, NULL));
        assert_true(append(spool, "b", 2, NULL));
        spool_close(spool);
        snprintf(sql, sizeof sql,
                 "UPDATE layout SET body = replace(body, CAST('power' AS BLOB), CAST('%s' AS BLOB))"
                 " WHERE id = 1",
                 changes[i]);
        make_database(sql);
        assert_holds_and_takes_more("? b=2 ", "? b=2 a=3 ");
    }
}

/* With a number that no layout has, and all else right. */
static void renumber_layout(int64_t id)
{
    sqlite3 *file = NULL;
    sqlite3_stmt *statement = NULL;
    char sql[256];
    uint64_t sum = UINT64_C(0xcbf29ce484222325) ^ (uint64_t)id;
    assert_int_equal(sqlite3_open("spool.db", &file), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(file, "SELECT body FROM layout WHERE id = 1", -1, &statement, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    const unsigned char *body = sqlite3_column_blob(statement, 0);
    for (int i = 0; i < sqlite3_column_bytes(statement, 0); i++)
        sum = (sum ^ body[i]) * UINT64_C(0x100000001b3);
    sqlite3_finalize(statement);
    sqlite3_close(file);
    snprintf(sql, sizeof sql, "UPDATE layout SET id = %lld, checksum = %lld WHERE id = 1",
             (long long)id, (long long)sum);
    make_database(sql);
}

static void test_a_layout_whose_number_is_none(void **state)
{
    (void)state;
    const int64_t ids[] = {2, 0, -1, 8192, INT64_C(1) << 40, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct spool *spool = open_spool(MIB);
        assert_true(append(spool, "a", 1, NULL));
        spool_close(spool);
        renumber_layout(ids[i]);
        assert_holds_and_takes_more("? ", "? a=3 ");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_kill_loses_nothing_that_was_taken),
        TEST(test_nothing_but_zeros_is_set_aside),
        TEST(test_a_damaged_page_costs_its_samples_alone),
        TEST(test_damaged_pages_cost_their_samples_alone),
        TEST(test_a_truncated_file_keeps_what_is_left),
        TEST(test_damage_while_in_use_is_found_and_mended),
        TEST(test_damage_at_the_front_costs_no_row_that_was_delivered),
        TEST(test_rows_with_numbers_that_are_none),
        TEST(test_a_last_number_that_is_none),
        TEST(test_a_trigger_is_not_pulled),
        TEST(test_rows_that_make_no_sense_are_told_as_such),
        TEST(test_a_layout_that_makes_no_sense_takes_its_rows_with_it),
        TEST(test_a_layout_whose_number_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
