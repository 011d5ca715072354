/* A spool that moves, goes, and comes: another file, as a reload names it. */
#include "tests/unit/spooler_bed.h"

#include <sys/stat.h>

/* As a reload does it. */
static void move(struct fixture *f, const char *path)
{
    struct halt *halt = spooler_halt(f->spooler);
    assert_true(halt_wait(halt, CLOCK_NEVER));
    assert_true(spooler_can_move(f->spooler, "elsewhere"));
    (void)snprintf(f->conf.spool_path, sizeof f->conf.spool_path, "%s/%s", f->directory, path);
    assert_false(spooler_can_move(f->spooler, "elsewhere"));
    halt_release(halt);
}

static bool is_there(struct fixture *f, const char *path)
{
    char whole[sizeof f->directory + 32];
    (void)snprintf(whole, sizeof whole, "%s/%s", f->directory, path);
    return access(whole, F_OK) == 0;
}

/* What has been sent and not yet answered is not sent again: it has the same row. */
static void test_all_of_it_moves(void **state)
{
    struct fixture *f = *state;
    start(f);
    store(f, "a1 b1 a2");
    resume(f);
    const uint64_t first = expect(f, OUTBOX_BACKFILL, "a1");
    move(f, "other.db");
    assert_true(logged_find(&f->logged, "the spool was moved", "saved=3 lost=0"));
    assert_false(is_there(f, "spool.db"));
    assert_true(is_there(f, "other.db"));
    outbox_ack(f->outbox, first, OUTBOX_DELIVERED);
    deliver(f, OUTBOX_BACKFILL, "b1");
    outbox_lost(f->outbox);
    put(f, 1, "b2");
    wait_for(f, 2, 0);
    stop(f);
    start(f);
    drain(f, "a2 b2");
    assert_int_equal(outbox_depth(f->outbox).dropped, 0);
    stop(f);
}

static void test_it_moves_as_soon_as_it_can(void **state)
{
    struct fixture *f = *state;
    char directory[sizeof f->directory + 8];
    (void)snprintf(directory, sizeof directory, "%s/late", f->directory);
    start(f);
    store(f, "a1");
    move(f, "late/spool.db");
    assert_true(logged_find(&f->logged, "the spool cannot be moved", "/late/spool.db why="));
    put(f, 0, "a2");
    wait_for(f, 2, 0);
    assert_int_equal(mkdir(directory, 0755), 0);
    assert_true(logged_find(&f->logged, "the spool was moved", "saved=2 lost=0"));
    assert_false(is_there(f, "spool.db"));
    drain(f, "a1 a2");
    stop(f);
}

/* Else who is killed on the way would leave behind what nobody looks for. */
static void test_it_moves_when_it_is_noted_where_it_was(void **state)
{
    struct fixture *f = *state;
    char path[sizeof f->directory + 16];
    (void)snprintf(path, sizeof path, "%s/late/state.db", f->directory);
    struct state *kept = state_open(path, NULL);
    start_with(f, kept);
    store(f, "a1");
    spooler_note_former(kept, f->conf.spool_path);
    move(f, "other.db");
    assert_true(logged_find(&f->logged, "the spool cannot be moved", "the state file"));
    assert_false(is_there(f, "other.db"));
    *strrchr(path, '/') = '\0';
    assert_int_equal(mkdir(path, 0755), 0);
    assert_true(logged_find(&f->logged, "the spool was moved", "saved=1 lost=0"));
    stop(f);
    state_close(kept);
}

/* A run that was killed on the way. */
static void test_what_was_left_behind_is_taken_over(void **state)
{
    struct fixture *f = *state;
    char former[CONF_PATH_MAX + 1];
    struct state *kept = state_open("", NULL);
    start(f);
    store(f, "a1 b1");
    stop(f);
    strcpy(former, f->conf.spool_path);
    spooler_note_former(kept, former);
    (void)snprintf(f->conf.spool_path, sizeof f->conf.spool_path, "%s/other.db", f->directory);
    for (unsigned i = 0; i < 2; i++) { /* the second finds nothing of it any more */
        start_with(f, kept);
        wait_for(f, i == 0 ? 2 : 0, 0);
        drain(f, i == 0 ? "a1 b1" : "");
        stop(f);
        assert_false(is_there(f, "spool.db"));
    }
    state_close(kept);
}

/* As a reload does it: "" = there is to be none. */
static void change(struct fixture *f, struct state *state, const char *path)
{
    struct halt *halt = spooler_halt(f->spooler);
    assert_true(halt_wait(halt, CLOCK_NEVER));
    assert_true(spooler_can_move(f->spooler, path));
    if (f->conf.spool_path[0] != '\0')
        spooler_note_former(state, f->conf.spool_path);
    strcpy(f->conf.spool_path, path);
    /* Of one that is not to be there nobody says how large it may be. */
    f->conf.spool_max_size = path[0] != '\0' ? 64 * MIB : 1;
    halt_release(halt);
}

/* What waits in the file is sent first, all of it, and nothing is put there any more. */
static void test_one_that_goes(void **state)
{
    struct fixture *f = *state;
    char path[CONF_PATH_MAX + 1];
    strcpy(path, f->conf.spool_path);
    start(f);
    store(f, "a1 b1");
    change(f, NULL, "");
    assert_true(
        logged_find(&f->logged, "the spool goes once what waits in it is sent", "samples=2"));
    put(f, 0, "a2");
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a1");
    const uint64_t last = expect(f, OUTBOX_BACKFILL, "b1");
    assert_true(is_there(f, "spool.db"));
    outbox_ack(f->outbox, last, OUTBOX_DELIVERED);
    deliver(f, OUTBOX_BACKFILL, "a2");
    assert_true(logged_find(&f->logged, "the spool has gone", "spool.db"));
    assert_false(is_there(f, "spool.db"));
    assert_int_equal(outbox_depth(f->outbox).dropped, 0);

    /* And one comes: its file is a new one. */
    outbox_lost(f->outbox);
    put(f, 0, "a3");
    change(f, NULL, path);
    wait_for(f, 1, 0);
    assert_true(is_there(f, "spool.db"));
    stop(f);
    start(f);
    drain(f, "a3");
    assert_int_equal(outbox_depth(f->outbox).dropped, 0);
    stop(f);
}

/* It comes back, or goes elsewhere, before all of it was sent. */
static void test_one_that_goes_and_comes_back(void **state)
{
    struct fixture *f = *state;
    char path[CONF_PATH_MAX + 1];
    strcpy(path, f->conf.spool_path);
    start(f);
    store(f, "a1");
    change(f, NULL, "");
    assert_true(logged_find(&f->logged, "the spool goes once", "samples=1"));
    put(f, 0, "a2");
    change(f, NULL, path);
    wait_for(f, 2, 0);
    change(f, NULL, "");
    strcat(path, ".other");
    change(f, NULL, path);
    assert_true(logged_find(&f->logged, "the spool was moved", "saved=2 lost=0"));
    assert_false(is_there(f, "spool.db"));
    drain(f, "a1 a2");
    stop(f);
}

/* The run ends before that: the next one, which has no spool, sends it. */
static void test_what_one_that_went_has_left(void **state)
{
    struct fixture *f = *state;
    char path[CONF_PATH_MAX + 1];
    (void)snprintf(path, sizeof path, "%s/state.db", f->directory);
    struct state *kept = state_open(path, NULL);
    assert_non_null(kept);
    start_with(f, kept);
    store(f, "a1 b1");
    change(f, kept, "");
    assert_true(logged_find(&f->logged, "the spool goes once", "samples=2"));
    stop(f);
    assert_true(logged_find(&f->logged, "samples stay in the file of the spool", "samples=2"));
    state_close(kept);

    kept = state_open(path, NULL);
    start_with(f, kept);
    assert_true(logged_find(&f->logged, "the spool holds samples of an earlier run", "samples=2"));
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a1");
    deliver(f, OUTBOX_BACKFILL, "b1");
    assert_true(logged_find(&f->logged, "the spool has gone", "spool.db"));
    stop(f);
    start_with(f, kept); /* and now it is forgotten */
    char text[CONF_PATH_MAX + 1];
    assert_false(state_get(kept, "spool/former", text, sizeof text));
    put(f, 0, "a2");
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a2");
    stop(f);
    assert_false(is_there(f, "spool.db"));
    state_close(kept);
}

static void test_where_it_may_move(void **state)
{
    struct fixture *f = *state;
    char why[SPOOL_WHY_MAX], other[CONF_PATH_MAX + 1];
    start(f);
    assert_false(spool_try(f->conf.spool_path, why));
    assert_non_null(strstr(why, "another program uses it"));
    store(f, "a1");
    stop(f);
    assert_false(spool_try(f->conf.spool_path, why));
    assert_non_null(strstr(why, "an earlier run"));
    (void)snprintf(other, sizeof other, "%s/other.db", f->directory);
    assert_true(spool_try(other, why));
    assert_false(is_there(f, "other.db"));
    FILE *file = fopen(other, "w");
    assert_non_null(file);
    (void)fputs("theirs", file);
    (void)fclose(file);
    assert_false(spool_try(other, why));
    assert_non_null(strstr(why, "another program's file"));
    assert_true(is_there(f, "other.db"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_all_of_it_moves),
        TEST(test_it_moves_as_soon_as_it_can),
        TEST(test_it_moves_when_it_is_noted_where_it_was),
        TEST(test_what_was_left_behind_is_taken_over),
        TEST(test_one_that_goes),
        TEST(test_one_that_goes_and_comes_back),
        TEST(test_what_one_that_went_has_left),
        TEST(test_where_it_may_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
