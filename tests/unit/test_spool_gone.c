/* A spool that goes away, in whole or in part: what is known of it without it. */
#include "tests/unit/spool_bed.h"

#include "bridge/store/spool_note.h"

/* ---- what is noted elsewhere ---- */

static int setup_notes(void **state)
{
    int result = setup(state);
    notes = state_open("state.db", NULL);
    return notes != NULL ? result : -1;
}

static int teardown_notes(void **state)
{
    state_close(notes);
    notes = NULL;
    return teardown(state);
}

#define NOTED(name) cmocka_unit_test_setup_teardown(name, setup_notes, teardown_notes)

/* The root of the table: nothing of it can be found any more. */
static void test_a_damaged_root_page_costs_what_is_counted(void **state)
{
    (void)state;
    fill_file(400);
    struct spool *spool = open_spool(64 * MIB);
    const int64_t rows[] = {1, 2, 3};
    assert_true(spool_remove(spool, rows, 3));
    spool_close(spool);
    overwrite(4096, 4096);
    assert_set_aside(0, 396, 0);
    assert_int_equal(lost, 0); /* the second time */
}

/* Returns how many it holds then. */
static uint64_t damaged_costs(uint64_t expected)
{
    int64_t row;
    struct spool *spool = open_spool(64 * MIB);
    assert_int_equal(spool_count(spool) + lost, expected);
    assert_true(append(spool, "a", 1, &row));
    assert_true(row > 400); /* a row is never used twice */
    spool_close(spool);
    assert_true(count_files("spool.db.damaged-*") >= 1);
    spool = open_spool(64 * MIB);
    assert_int_equal(lost, 0);
    const uint64_t left = spool_count(spool);
    spool_close(spool);
    return left;
}

static void test_whatever_page_is_damaged_all_is_counted(void **state)
{
    (void)state;
    for (long page = 0; page < 5; page++) {
        fill_file(400);
        struct spool *spool = open_spool(64 * MIB);
        const int64_t rows[] = {1, 2, 3};
        assert_true(spool_remove(spool, rows, 3));
        spool_close(spool);
        overwrite(page * 4096, 4096);
        const uint64_t left = damaged_costs(397);
        assert_int_equal(system("rm spool.db*"), 0);
        spool = open_spool(64 * MIB);
        assert_int_equal(lost, left);
        spool_close(spool);
        assert_int_equal(system("rm spool.db*"), 0);
        state_put(notes, "spool", NULL);
    }
}

static void test_a_file_that_is_gone_at_the_start_is_counted(void **state)
{
    (void)state;
    fill_file(20);
    assert_int_equal(unlink("spool.db"), 0);
    struct spool *spool = open_spool(MIB);
    assert_int_equal(lost, 20);
    int64_t row;
    assert_true(append(spool, "a", 1, &row));
    assert_int_equal(row, 1); /* its outbox has never heard of another */
    spool_close(spool);
    spool = open_spool(MIB);
    assert_int_equal(lost, 0);
    assert_int_equal(spool_count(spool), 1);
    spool_close(spool);
}

/* A note that was written over: nothing is known of the file then, and nobody counts to it. */
static void test_a_note_that_makes_no_sense_is_none(void **state)
{
    (void)state;
    static const char *const numbers[] = {
        "18446744073709551615 18446744073709551615 20",
        "20 18446744073709551615 20",
        "0 20 9223372036854775807",
        "0 20 -1",
        "20 19 20",
        "20 20",
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        char text[100];
        (void)snprintf(text, sizeof text, "0 0 %s", numbers[i]);
        assert_true(state_put(notes, "spool", text));
        struct spool *spool = open_spool(MIB);
        assert_int_equal(lost, 0);
        assert_true(append(spool, "a", 1, NULL));
        spool_discard(spool);
    }
}

/* Killed in the middle of something: nothing is lost, and nothing is said to be. */
static void test_a_note_from_before_a_change_is_no_loss(void **state)
{
    (void)state;
    fill_file(20);
    struct spool_note note;
    for (uint64_t off = 0; off < 2; off++) {
        assert_true(spool_note_find(notes, &note));
        assert_int_equal(note.least, 20);
        assert_int_equal(note.most, 20);
        note.least -= 5 * off;
        note.most += 5 * (1 - off);
        spool_note_keep(notes, "spool.db", &note, true);
        struct spool *spool = open_spool(MIB);
        assert_int_equal(lost, 0);
        assert_int_equal(spool_count(spool), 20);
        spool_close(spool);
    }
}

/* First bytes that say nothing: the rest of the page says whose it is, or the note. */
static void test_a_damaged_header_is_still_ours(void **state)
{
    (void)state;
    for (int noted = 0; noted < 2; noted++) {
        struct state *kept = notes;
        notes = noted ? kept : NULL;
        fill_file(20);
        overwrite(0, noted ? 4096 : 100);
        assert_set_aside(0, 0, 0);
        assert_int_equal(system("rm spool.db*"), 0);
        notes = kept;
    }
}

/* The note is of another file. */
static void test_a_file_in_the_place_of_ours_is_left_alone(void **state)
{
    (void)state;
    fill_file(20);
    assert_int_equal(rename("spool.db", "kept"), 0);
    int fd = open("spool.db", O_WRONLY | O_CREAT, 0644);
    close(fd);
    overwrite(0, 9000);
    assert_another_program_s();
    assert_int_equal(rename("kept", "spool.db"), 0);
    struct spool *spool = open_spool(MIB);
    assert_int_equal(lost, 0);
    spool_close(spool);
}

/* ---- while it is in use ---- */

static void test_a_file_that_was_moved_is_followed_by_its_samples(void **state)
{
    (void)state;
    struct spool *spool = open_spool(MIB);
    uint64_t n_lost = 0;
    int64_t rows[2];
    assert_true(append(spool, "a", 1, &rows[0]));
    assert_int_equal(rename("spool.db", "elsewhere"), 0);
    assert_false(append(spool, "a", 2, NULL));
    assert_true(spool_is_damaged(spool));
    assert_string_equal(spool_error(spool), "it was removed or renamed");
    assert_holds(spool, "a=1 "); /* as far as it goes */
    assert_true(spool_renew(spool, count_lost, &n_lost));
    assert_int_equal(n_lost, 0);
    assert_true(append(spool, "a", 3, &rows[1]));
    assert_true(rows[1] > rows[0]);
    assert_holds(spool, "a=1 a=3 ");
    /* The log of the new one is its own: it is still there without a clean end. */
    assert_int_equal(count_files("spool.db-wal"), 1);
    spool_close(spool);
    assert_int_equal(count_files("*.damaged-*"), 0);
}

static void test_a_directory_that_goes_away_is_waited_for(void **state)
{
    (void)state;
    char why[256] = "";
    uint64_t n_lost = 0;
    assert_int_equal(mkdir("there", 0755), 0);
    struct spool *spool;
    assert_int_equal(try_open("there/spool.db", MIB, &spool, why), SPOOL_OPENED);
    int64_t row;
    assert_true(append(spool, "a", 1, &row));
    assert_true(append(spool, "a", 2, NULL));
    assert_int_equal(system("rm -r there"), 0);
    assert_false(append(spool, "a", 3, NULL));
    assert_false(spool_renew(spool, count_lost, &n_lost));
    assert_holds(spool, "a=1 a=2 ");
    assert_true(spool_remove(spool, &row, 1)); /* delivered meanwhile */
    assert_false(append(spool, "a", 3, NULL));
    assert_int_equal(mkdir("there", 0755), 0);
    assert_true(spool_renew(spool, count_lost, &n_lost));
    assert_true(append(spool, "a", 3, NULL));
    assert_holds(spool, "a=2 a=3 ");
    assert_int_equal(n_lost, 0);
    spool_close(spool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NOTED(test_a_damaged_root_page_costs_what_is_counted),
        NOTED(test_whatever_page_is_damaged_all_is_counted),
        NOTED(test_a_file_that_is_gone_at_the_start_is_counted),
        NOTED(test_a_note_that_makes_no_sense_is_none),
        NOTED(test_a_note_from_before_a_change_is_no_loss),
        NOTED(test_a_damaged_header_is_still_ours),
        NOTED(test_a_file_in_the_place_of_ours_is_left_alone),
        TEST(test_a_file_that_was_moved_is_followed_by_its_samples),
        TEST(test_a_directory_that_goes_away_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
