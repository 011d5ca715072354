#include "tests/unit/given.h"

#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "bridge/base/clock.h"
#include "bridge/store/state.h"
#include "tests/unit/kept_state.h"
#include "tests/unit/logged.h"
#include "tests/unit/slept.h"

#define SOON_NS (clock_awake_ns() + 20 * CLOCK_NS_PER_S)

static struct state *open_state(const char *path)
{
    struct state *state = state_open(path, NULL);
    assert_non_null(state);
    return state;
}

static void assert_text(struct state *state, const char *key, const char *expected)
{
    char text[64] = "untouched";
    assert_int_equal(state_get(state, key, text, sizeof text), expected != NULL);
    assert_string_equal(text, expected != NULL ? expected : "untouched");
}

/* ---- what it is for ---- */

static void test_what_was_put_is_there_in_the_next_run(void **unused)
{
    (void)unused;
    struct state *state = open_state("state.db");
    assert_text(state, "a", NULL);
    assert_true(state_put(state, "b", "2"));
    assert_true(state_put(state, "a", "1"));
    assert_true(state_put(state, "c", "3"));
    assert_true(state_put(state, "a", "one"));
    assert_true(state_put(state, "c", NULL));
    assert_text(state, "a", "one"); /* at once, wherever the thread stands */
    assert_text(state, "c", NULL);
    state_close(state);

    state = open_state("state.db");
    assert_text(state, "a", "one");
    assert_text(state, "b", "2");
    assert_text(state, "c", NULL);
    assert_true(state_put(state, "b", NULL));
    assert_true(state_put(state, "c", "again"));
    state_close(state);

    state = open_state("state.db");
    assert_text(state, "b", NULL);
    assert_text(state, "c", "again");
    state_close(state);
}

static void test_memory_alone_keeps_it_as_long_as_it_lasts(void **unused)
{
    (void)unused;
    struct state *state = open_state("");
    assert_true(state_put(state, "a", "1"));
    assert_true(state_sync(state, 0));
    assert_true(state_is_kept(state, state_mark(state)));
    assert_text(state, "a", "1");
    assert_true(state_promise_ns(state) == CLOCK_NEVER);
    state_close(state);
    assert_int_equal(count_files("*"), 0);
}

static void note(void *context, const char *key, const char *text)
{
    char *seen = context;
    sprintf(seen + strlen(seen), "%s=%s ", key, text);
}

static void test_keys_are_listed_by_their_beginning(void **unused)
{
    (void)unused;
    char seen[200] = "";
    struct state *state = open_state("");
    const char *const keys[] = {"lease/b", "lea", "leases", "lease/a", "lease/c", "lf"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_true(state_put(state, keys[i], "x"));
    assert_true(state_put(state, "lease/c", NULL));
    state_each(state, "lease/", note, seen);
    assert_string_equal(seen, "lease/a=x lease/b=x ");
    state_close(state);
}

static void test_what_is_too_long_is_refused_and_changes_nothing(void **unused)
{
    (void)unused;
    char key[STATE_KEY_MAX + 2], *text = malloc(STATE_TEXT_MAX + 2);
    memset(key, 'k', sizeof key);
    memset(text, 't', STATE_TEXT_MAX + 2);
    key[STATE_KEY_MAX + 1] = text[STATE_TEXT_MAX + 1] = '\0';
    struct state *state = open_state("state.db");
    assert_true(state_put(state, "a", "1"));
    assert_false(state_put(state, key, "1"));
    assert_false(state_put(state, "a", text));
    assert_text(state, "a", "1");
    text[STATE_TEXT_MAX] = key[STATE_KEY_MAX] = '\0';
    assert_true(state_put(state, key, text));
    state_close(state);

    state = open_state("state.db");
    char *read = malloc(STATE_TEXT_MAX + 1);
    assert_false(state_get(state, key, read, STATE_TEXT_MAX));
    assert_true(state_get(state, key, read, STATE_TEXT_MAX + 1));
    assert_string_equal(read, text);
    state_close(state);
    free(read);
    free(text);
}

static void test_a_kill_loses_nothing_that_was_waited_for(void **unused)
{
    (void)unused;
    int ends[2];
    char number[32], said[32] = "";
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        struct state *state = state_open("state.db", NULL);
        for (int i = 1;; i++) {
            snprintf(number, sizeof number, "%d", i);
            if (!state_put(state, "n", number) || !state_sync(state, SOON_NS) ||
                write(ends[1], number, sizeof number) != sizeof number)
                _exit(1);
        }
    }
    close(ends[1]);
    for (int i = 0; i < 20; i++)
        assert_int_equal(read(ends[0], said, sizeof said), sizeof said);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    while (read(ends[0], number, sizeof number) == sizeof number)
        memcpy(said, number, sizeof said);
    close(ends[0]);
    struct state *state = open_state("state.db");
    assert_true(state_get(state, "n", number, sizeof number));
    assert_true(atoi(number) >= atoi(said));
    state_close(state);
}

static void test_the_mark_tells_when_it_is_kept(void **unused)
{
    (void)unused;
    struct state *state = open_state("state.db");
    assert_true(state_put(state, "a", "1"));
    uint64_t mark = state_mark(state);
    assert_true(state_sync(state, SOON_NS));
    assert_true(state_is_kept(state, mark));
    assert_true(state_put(state, "a", "1")); /* nothing new */
    assert_true(state_mark(state) == mark);
    state_close(state);
}

/* ---- what may happen to its file ---- */

/* The state of a run whose file has what it should. */
static void assert_kept(const char *path, const char *key, const char *expected)
{
    struct state *state = open_state(path);
    assert_text(state, key, expected);
    state_close(state);
}

static void test_a_directory_that_comes_later_is_waited_for(void **unused)
{
    (void)unused;
    struct logged logged;
    assert_true(logged_begin(&logged));
    assert_int_equal(mkdir("later", 0755), 0);
    struct state *state = open_state("later/state.db");
    assert_true(state_put(state, "old", "1"));
    assert_true(state_put(state, "both", "1"));
    state_close(state);
    assert_int_equal(rename("later", "away"), 0);

    state = open_state("later/state.db");
    assert_true(state_put(state, "both", "2"));
    assert_true(logged_find(&logged, "the state file cannot be used",
                            "its directory must exist and be writable"));
    assert_false(state_sync(state, clock_awake_ns()));
    assert_text(state, "both", "2");
    assert_text(state, "old", NULL);
    assert_int_equal(rename("away", "later"), 0);
    assert_true(state_sync(state, SOON_NS));
    assert_text(state, "old", "1");
    state_close(state);
    assert_kept("later/state.db", "both", "2");
    logged_free(&logged);
}

static void test_a_file_that_is_taken_away_is_written_anew(void **unused)
{
    (void)unused;
    struct state *state = open_state("state.db");
    assert_true(state_put(state, "a", "1"));
    assert_true(state_sync(state, SOON_NS));
    assert_int_equal(unlink("state.db"), 0);
    assert_true(state_put(state, "b", "2"));
    assert_true(state_sync(state, SOON_NS));
    state_close(state);
    assert_kept("state.db", "a", "1");
    assert_kept("state.db", "b", "2");
}

static void test_a_damaged_file_is_set_aside(void **unused)
{
    (void)unused;
    struct logged logged;
    assert_kept("state.db", "a", NULL);
    FILE *file = fopen("state.db", "r+");
    assert_int_equal(fseek(file, 4096, SEEK_SET), 0); /* the header still says whose it is */
    for (int i = 0; i < 4096; i++)
        fputc(0xa5, file);
    fclose(file);
    assert_true(logged_begin(&logged));
    struct state *state = open_state("state.db");
    assert_true(logged_find(&logged, "the state file is damaged: it was set aside",
                            "kept_as=state.db.damaged-"));
    assert_true(state_put(state, "a", "1"));
    state_close(state);
    assert_kept("state.db", "a", "1");
    assert_int_equal(count_files("state.db.damaged-*"), 1);
    logged_free(&logged);
}

/* The header says nothing any more, but the rest of the page does. */
static void test_a_damaged_header_is_still_ours(void **unused)
{
    (void)unused;
    assert_kept("state.db", "a", NULL);
    FILE *file = fopen("state.db", "r+");
    for (int i = 0; i < 100; i++)
        fputc(0xa5, file);
    fclose(file);
    struct state *state = open_state("state.db");
    assert_true(state_put(state, "a", "1"));
    state_close(state);
    assert_kept("state.db", "a", "1");
    assert_int_equal(count_files("state.db.damaged-*"), 1);
}

static void copy_file(const char *from, const char *to)
{
    char command[128];
    (void)snprintf(command, sizeof command, "cp '%s' '%s'", from, to);
    assert_int_equal(system(command), 0);
}

/* The disk had not got all pages of the log into the file: its first page says that there
 * are more than there are, or is still to come. */
static void test_a_power_cut_on_the_way_from_the_log_costs_nothing(void **unused)
{
    static char text[STATE_TEXT_MAX + 1], found[STATE_TEXT_MAX + 1];
    (void)unused;
    memset(text, 'x', STATE_TEXT_MAX);
    for (int is_blank = 0; is_blank < 2; is_blank++) {
        struct state *state = open_state("state.db");
        assert_true(state_put(state, "a", "1"));
        assert_true(state_put(state, "long", text));
        assert_true(state_sync(state, CLOCK_NEVER));
        copy_file("state.db-wal", "wal");
        state_close(state);
        copy_file("wal", "state.db-wal");
        assert_int_equal(truncate("state.db", is_blank ? 0 : 8192), 0);
        assert_int_equal(truncate("state.db", 8192), 0);
        state = open_state("state.db");
        assert_text(state, "a", "1");
        assert_true(state_get(state, "long", found, sizeof found));
        assert_string_equal(found, text);
        state_close(state);
        assert_int_equal(count_files("state.db.damaged-*"), 0);
        assert_int_equal(system("rm state.db*"), 0);
    }
}

/* In what SQLite has beside a file before there is a log: that it had no page. */
static void test_a_power_cut_as_it_is_made_costs_nothing(void **unused)
{
    static const unsigned char journal[512] = {0xd9, 0xd5, 0x05, 0xf9,     0x20,
                                               0xa1, 0x63, 0xd7, [22] = 2, [26] = 0x10};
    (void)unused;
    FILE *file = fopen("state.db-journal", "w");
    assert_int_equal(fwrite(journal, 1, sizeof journal, file), sizeof journal);
    assert_int_equal(fclose(file), 0);
    given_file("state.db", "");
    assert_int_equal(truncate("state.db", 4096), 0);
    struct state *state = open_state("state.db");
    assert_true(state_put(state, "a", "1"));
    state_close(state);
    assert_kept("state.db", "a", "1");
    assert_int_equal(count_files("state.db.damaged-*"), 0);
}

/* The bytes of a file; of nothing beside it. */
static void read_file(char bytes[1 << 16], size_t *size)
{
    FILE *file = fopen("state.db", "r");
    assert_non_null(file);
    *size = fread(bytes, 1, 1 << 16, file);
    fclose(file);
    assert_int_equal(count_files("*"), 1);
}

static void assert_left_alone(const char *why)
{
    static char before[1 << 16], after[1 << 16];
    size_t size_before, size_after;
    struct logged logged;
    read_file(before, &size_before);
    assert_true(logged_begin(&logged));
    struct state *state = open_state("state.db");
    assert_true(logged_find(&logged, "the state file cannot be used", why));
    assert_true(state_put(state, "a", "1"));
    assert_text(state, "a", "1");
    assert_false(state_sync(state, clock_awake_ns()));
    state_close(state);
    logged_free(&logged);
    read_file(after, &size_after);
    assert_int_equal(size_before, size_after);
    assert_memory_equal(before, after, size_before);
}

static void given_database(const char *text)
{
    sqlite3 *file;
    assert_int_equal(sqlite3_open("state.db", &file), SQLITE_OK);
    assert_int_equal(sqlite3_exec(file, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(file);
}

static void test_another_programs_file_is_left_alone(void **unused)
{
    (void)unused;
    given_file("state.db", "[main]\nkey = value\n");
    assert_left_alone("it is another program's file");
}

static void test_another_programs_database_is_left_alone(void **unused)
{
    (void)unused;
    given_database("PRAGMA journal_mode = WAL; CREATE TABLE state (key TEXT, text TEXT);"
                   "INSERT INTO state VALUES ('a', 'theirs')");
    assert_left_alone("it is another program's file");
}

static void test_a_newer_releases_file_is_left_alone(void **unused)
{
    (void)unused;
    assert_kept("state.db", "a", NULL);
    given_database("PRAGMA user_version = 99");
    assert_left_alone("a newer release has written it");
}

static void test_two_at_once_are_refused(void **unused)
{
    (void)unused;
    struct logged logged;
    int status, go[2];
    char byte = 0;
    assert_int_equal(pipe(go), 0);
    assert_true(logged_begin(&logged));
    pid_t child = fork(); /* before there are threads */
    if (child == 0) {
        if (read(go[0], &byte, 1) == 1)
            state_close(state_open("state.db", NULL));
        _exit(0);
    }
    struct state *state = open_state("state.db");
    assert_int_equal(write(go[1], &byte, 1), 1);
    waitpid(child, &status, 0);
    close(go[0]);
    close(go[1]);
    assert_true(logged_find(&logged, "another program uses it", "end that program"));
    logged_free(&logged);
    state_close(state);
}

static void test_it_lies_beside_the_spool_or_else_the_audit_log(void **unused)
{
    (void)unused;
    static struct conf conf = {.site = "demo"};
    char path[CONF_PATH_MAX + 1];
    state_path(&conf, path);
    assert_string_equal(path, "");
    strcpy(conf.audit_path, "/dev/null");
    state_path(&conf, path);
    assert_string_equal(path, "");
    strcpy(conf.audit_path, "/nowhere/a/audit.jsonl");
    state_path(&conf, path);
    assert_string_equal(path, "/nowhere/a/state-demo.db");
    strcpy(conf.spool_path, "spool.db");
    state_path(&conf, path);
    assert_string_equal(path, "./state-demo.db");
}

/* ---- another file ---- */

static void test_it_can_move(void **unused)
{
    (void)unused;
    struct state *state = open_state("state.db");
    assert_true(state_put(state, "a", "1"));
    assert_true(state_put(state, "b", "2"));
    assert_true(state_sync(state, SOON_NS));
    assert_true(state_can_move(state));
    mkdir("other", 0700);
    assert_true(state_move(state, "other/state.db"));
    assert_true(state_put(state, "b", NULL));
    assert_true(state_sync(state, SOON_NS));
    assert_text(state, "a", "1");
    state_close(state);
    assert_int_equal(count_files("state.db*"), 0);

    state = open_state("other/state.db");
    assert_text(state, "a", "1");
    assert_text(state, "b", NULL);
    state_close(state);
}

/* Until all of it is where it is to be, the file of before stays. */
static void test_it_moves_as_soon_as_it_can(void **unused)
{
    (void)unused;
    struct state *state = open_state("state.db");
    assert_true(state_put(state, "a", "1"));
    assert_true(state_sync(state, SOON_NS));
    assert_true(state_move(state, "later/state.db"));
    state_settle(state, state_mark(state), SOON_NS);
    assert_false(state_can_move(state));
    assert_int_equal(count_files("state.db"), 1);
    mkdir("later", 0700);
    assert_true(state_sync(state, SOON_NS));
    state_close(state);
    assert_int_equal(count_files("state.db"), 0);
    state = open_state("later/state.db");
    assert_text(state, "a", "1");
    state_close(state);
}

static void test_it_moves_from_memory_and_back(void **unused)
{
    (void)unused;
    struct state *state = open_state("");
    assert_true(state_put(state, "a", "1"));
    assert_true(state_can_move(state));
    assert_true(state_move(state, "state.db"));
    assert_true(state_sync(state, SOON_NS));
    assert_int_equal(count_files("state.db"), 1);
    assert_true(state_move(state, ""));
    while (!state_can_move(state))
        state_settle(state, state_mark(state), SOON_NS);
    assert_int_equal(count_files("state.db*"), 0);
    assert_text(state, "a", "1");
    assert_true(state_put(state, "b", "2"));
    assert_true(state_is_kept(state, state_mark(state)));
    assert_true(state_move(state, "third.db"));
    state_close(state);
    state = open_state("third.db");
    assert_text(state, "b", "2");
    state_close(state);
}

static void test_where_it_may_move(void **unused)
{
    (void)unused;
    char why[STATE_WHY_MAX];
    assert_true(state_try("state.db", why));
    assert_int_equal(count_files("*"), 0); /* nothing is left behind */
    struct state *state = open_state("state.db");
    assert_false(state_try("state.db", why));
    assert_non_null(strstr(why, "another program uses it"));
    assert_true(state_put(state, "a", "1"));
    state_close(state);
    assert_false(state_try("state.db", why));
    assert_non_null(strstr(why, "an earlier run"));
    assert_false(state_try("nowhere/state.db", why));
    state = open_state("state.db");
    assert_text(state, "a", "1");
    assert_true(state_put(state, "a", NULL));
    state_close(state);
    assert_true(state_try("state.db", why)); /* there is nothing in it */
    assert_int_equal(count_files("state.db"), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, given_directory, remove_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_was_put_is_there_in_the_next_run),
        TEST(test_memory_alone_keeps_it_as_long_as_it_lasts),
        TEST(test_keys_are_listed_by_their_beginning),
        TEST(test_what_is_too_long_is_refused_and_changes_nothing),
        TEST(test_a_kill_loses_nothing_that_was_waited_for),
        TEST(test_the_mark_tells_when_it_is_kept),
        TEST(test_a_directory_that_comes_later_is_waited_for),
        TEST(test_a_file_that_is_taken_away_is_written_anew),
        TEST(test_a_damaged_file_is_set_aside),
        TEST(test_a_damaged_header_is_still_ours),
        TEST(test_a_power_cut_on_the_way_from_the_log_costs_nothing),
        TEST(test_a_power_cut_as_it_is_made_costs_nothing),
        TEST(test_another_programs_file_is_left_alone),
        TEST(test_another_programs_database_is_left_alone),
        TEST(test_a_newer_releases_file_is_left_alone),
        TEST(test_two_at_once_are_refused),
        TEST(test_it_lies_beside_the_spool_or_else_the_audit_log),
        TEST(test_it_can_move),
        TEST(test_it_moves_as_soon_as_it_can),
        TEST(test_it_moves_from_memory_and_back),
        TEST(test_where_it_may_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
