/* The files of earlier runs and of other paths, which are read, and the state that goes first. */
#include "audit_bed.h"

#include <sys/resource.h>

#include "bridge/commands/audit_file.h"
#include "bridge/commands/audit_formers.h"

/* Until the file has these. */
static void wait_for_lines(const char *expected)
{
    char text[4096] = "";
    while (strcmp(text, expected) != 0) {
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        fclose(file);
    }
}

/* ---- earlier lines ---- */

static void assert_reads(const char *name, const char *expected)
{
    char *lines;
    assert_int_equal(audit_file_read(&name, 1, &lines), 0);
    if (expected == NULL)
        assert_null(lines);
    else
        assert_string_equal(lines, expected);
    free(lines);
}

/* A device that has no end, and a pipe that nobody writes to, end no start. */
static void test_earlier_lines(void **state)
{
    (void)state;
    assert_reads("/dev/full", NULL);
    assert_int_equal(mkfifo("pipe", 0600), 0);
    assert_reads("pipe", NULL);
    assert_reads("not-there", NULL);
    given_file(path, "three\nfour");
    given_file("audit.jsonl.1", "one\ntwo\n");
    assert_reads(path, "one\ntwo\nthree\nfour\n");
}

/* What cannot be opened now is not nothing: an id in there would be executed again. */
static void test_earlier_lines_without_descriptors(void **state)
{
    (void)state;
    struct rlimit usual;
    const char *const paths[] = {path};
    char *lines;
    given_file(path, "one\n");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = usual.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(audit_file_read(paths, 1, &lines), EMFILE);
    assert_null(lines);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
    assert_reads(path, "one\n");
}

/* Lines that are asked for while the disk is at something else are read behind it: an id
 * that nobody looks up would be executed again. */
static void test_earlier_lines_asked_for_in_between(void **state)
{
    (void)state;
    char *lines;
    struct audit *audit = audit_start(path, outbox, NULL);
    assert_true(audit_take_earlier(audit, &lines));
    assert_null(lines);
    SET(held, true);
    put(audit, "one");
    wait_for_sync();
    audit_read_earlier(audit); /* which waits no longer than the disk is silent */
    assert_false(audit_take_earlier(audit, &lines));
    assert_null(lines);
    SET(held, false);
    wait_until_available(audit, true);
    assert_true(audit_take_earlier(audit, &lines));
    assert_string_equal(lines, LINE("one"));
    free(lines);
    audit_stop(audit);
}

/* ---- another file ---- */

static void assert_replayed(struct audit *audit, const char *expected)
{
    char *lines;
    audit_read_earlier(audit);
    assert_true(audit_take_earlier(audit, &lines));
    assert_string_equal(lines, expected);
    free(lines);
}

/* What it was before is read, too, by the next run as well. */
static void test_another_file(void **unused)
{
    (void)unused;
    struct state *state = state_open("state.db", NULL);
    struct audit *audit = audit_start(path, outbox, state);
    put_audited(audit, "one");
    assert_true(audit_move(audit, "second"));
    assert_true(audit_available(audit));
    put_audited(audit, "two");
    assert_file(path, LINE("one"));
    assert_file("second", LINE("two"));
    assert_replayed(audit, LINE("one") LINE("two"));
    audit_stop(audit);
    audit = audit_start("second", outbox, state);
    assert_replayed(audit, LINE("one") LINE("two"));
    /* Back again: no line comes twice, and the latest file last. */
    assert_true(audit_move(audit, path));
    put_audited(audit, "three");
    assert_replayed(audit, LINE("two") LINE("one") LINE("three"));
    audit_stop(audit);
    state_close(state);
}

static void copy(const char *from, const char *to)
{
    char bytes[4096];
    FILE *in = fopen(from, "r"), *out = fopen(to, "w");
    assert_true(in != NULL && out != NULL);
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, in)) > 0;)
        assert_int_equal(fwrite(bytes, 1, n, out), n);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

/* What a run would find that begins now, after a kill. */
static void assert_noted(const char *expected)
{
    char text[100] = "";
    copy("state.db", "copy.db");
    copy("state.db-wal", "copy.db-wal");
    struct state *state = state_open("copy.db", NULL);
    assert_true(state_get(state, "audit/formers", text, sizeof text));
    assert_string_equal(text, expected);
    state_close(state);
}

/* The site's state lies where another configuration had it. */
static void test_a_state_that_knows_of_no_log(void **unused)
{
    (void)unused;
    given_file(path, LINE("one"));
    for (unsigned i = 0; i < 2; i++) {
        struct state *state = state_open("state.db", NULL);
        struct audit *audit = audit_start(path, outbox, state);
        assert_replayed(audit, LINE("one"));
        if (i == 0)
            assert_logged("the audit log is older than the state file", path);
        audit_stop(audit);
        state_close(state);
    }
    logged_end(&logged);
    assert_false(logged_find(&logged, "the audit log is older", "")); /* the second time */
}

/* Paths that are longer than any, as the file of the state may have them. */
static void test_noted_paths_that_are_none(void **unused)
{
    (void)unused;
    char texts[AUDIT_FORMERS_SIZE] = "", found[AUDIT_FORMERS_SIZE];
    struct state *state = state_open("", NULL);
    memset(texts, 'x', sizeof texts - 1);
    memcpy(texts, "was\n", strlen("was\n"));
    assert_true(state_put(state, "audit/formers", texts));
    audit_formers_add(state, path);
    audit_formers_get(state, found);
    (void)snprintf(texts, sizeof texts, "was\n%s", path);
    assert_string_equal(found, texts);
    state_close(state);
}

/* However soon the bridge is killed, and whatever path the next run has. */
static void test_a_path_is_noted_before_its_first_line(void **unused)
{
    (void)unused;
    struct state *state = state_open("state.db", NULL);
    struct audit *audit = audit_start(path, outbox, state);
    put_audited(audit, "one");
    assert_noted("audit.jsonl");
    assert_true(audit_move(audit, "second"));
    put_audited(audit, "two");
    assert_noted("audit.jsonl\nsecond");
    audit_stop(audit);
    state_close(state);
    state = state_open("copy.db", NULL);
    audit = audit_start("third", outbox, state);
    assert_replayed(audit, LINE("one") LINE("two"));
    audit_stop(audit);
    state_close(state);
}

/* What the one file does not take goes into the other. */
static void test_another_file_than_one_that_fails(void **unused)
{
    (void)unused;
    struct state *state = state_open("state.db", NULL);
    struct audit *audit = audit_start("/dev/full", outbox, state);
    put(audit, "one");
    assert_unaudited("one");
    wait_until_available(audit, false);
    assert_true(audit_move(audit, path));
    wait_until_available(audit, true);
    wait_for_lines(LINE("one"));
    assert_true(audit_move(audit, "not/there"));
    wait_until_available(audit, false);
    audit_stop(audit);
    assert_logged("the audit log cannot be written", "file=not/there");
    state_close(state);
}

/* What is under way as it goes is in it; what follows is as if there had been none. */
static void test_a_file_that_comes_and_goes(void **unused)
{
    (void)unused;
    struct state *state = state_open("state.db", NULL);
    struct audit *audit = audit_start("", outbox, state);
    put_audited(audit, "one");
    assert_true(audit_move(audit, path));
    wait_until_available(audit, true);
    put_audited(audit, "two");
    SET(held, true);
    put(audit, "three");
    wait_for_sync();
    assert_true(audit_move(audit, ""));
    put(audit, "four");
    SET(held, false);
    assert_audited("three");
    assert_audited("four");
    assert_true(audit_available(audit));
    audit_stop(audit);
    assert_file(path, LINE("two") LINE("three"));
    /* And the next run knows where it was. */
    audit = audit_start("second", outbox, state);
    assert_replayed(audit, LINE("two") LINE("three"));
    audit_stop(audit);
    state_close(state);
}

/* Nothing is refused for want of a log that is wanted no more. */
static void test_a_file_that_fails_goes(void **unused)
{
    (void)unused;
    struct audit *audit = audit_start("/dev/full", outbox, NULL);
    put(audit, "one");
    assert_unaudited("one");
    wait_until_available(audit, false);
    assert_true(audit_move(audit, ""));
    assert_true(audit_available(audit));
    put_audited(audit, "two");
    audit_stop(audit);
    assert_logged("the audit log ends before all of its lines were written", "");
}

/* Of many the oldest are forgotten. */
static void test_many_files(void **unused)
{
    (void)unused;
    enum { N = 20 };
    char expected[1024] = "";
    struct state *state = state_open("", NULL);
    struct audit *audit = audit_start("0", outbox, state);
    for (int i = 0; i <= N; i++) {
        char name[16], line[100];
        snprintf(name, sizeof name, "%d", i);
        snprintf(line, sizeof line, "%s\n", line_of(name));
        if (i > 0)
            assert_true(audit_move(audit, name));
        put_audited(audit, name);
        if (i >= N - 8)
            strcat(expected, line);
    }
    assert_replayed(audit, expected);
    audit_stop(audit);
    state_close(state);
}

/* ---- what is owed is on disk first ---- */

static void put_owed(struct audit *audit, struct state *state, const char *name)
{
    const char *line = line_of(name);
    state_put(state, "battery", name);
    audit_put(audit, &(struct audit_entry){.line = line,
                                           .topic = "result",
                                           .payload = line,
                                           .kept_mark = state_mark(state)});
}

static void test_the_state_first(void **unused)
{
    (void)unused;
    struct state *state = state_open("state.db", NULL);
    struct audit *audit = audit_start(path, outbox, state);
    SET(state_held, true);
    put_owed(audit, state, "one");
    wait_for_lines(LINE("one"));
    SET(held, true);
    put(audit, "two"); /* as the disk has this one, the first is done with */
    wait_for_sync();
    assert_false(outbox_take(outbox, 0, OUTBOX_BACKFILL, &item));
    SET(held, false);
    SET(state_held, false);
    assert_audited("one");
    assert_audited("two");
    audit_stop(audit);
    state_close(state);
}

static void test_the_state_first_without_a_file(void **unused)
{
    (void)unused;
    struct state *state = state_open("state.db", NULL);
    struct audit *audit = audit_start("", outbox, state);
    SET(state_held, true);
    put_owed(audit, state, "one");
    put(audit, "two");
    assert_false(outbox_take(outbox, 0, OUTBOX_BACKFILL, &item));
    SET(state_held, false);
    assert_audited("one");
    assert_audited("two");
    SET(state_held, true);
    put_owed(audit, state, "three");
    SET(state_held, false);
    audit_stop(audit); /* the end waits for it, too */
    assert_audited("three");
    state_close(state);
}

/* Nobody waits for a state that the disk refuses, nor for ever for one that hangs. */
static void test_a_state_that_is_not_kept(void **unused)
{
    (void)unused;
    struct state *refused = state_open("not/there/state.db", NULL);
    struct audit *audit = audit_start(path, outbox, refused);
    put_owed(audit, refused, "one");
    assert_audited("one");
    audit_stop(audit);
    state_close(refused);

    struct state *hanging = state_open("state.db", NULL);
    audit = audit_start(path, outbox, hanging);
    SET(state_held, true);
    put_owed(audit, hanging, "two");
    put(audit, "three");
    assert_audited("two");
    assert_audited("three");
    put_owed(audit, hanging, "four");
    audit_stop(audit);
    assert_audited("four");
    SET(state_held, false);
    state_close(hanging);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_earlier_lines),
        TEST(test_earlier_lines_without_descriptors),
        TEST(test_earlier_lines_asked_for_in_between),
        TEST(test_another_file),
        TEST(test_a_state_that_knows_of_no_log),
        TEST(test_noted_paths_that_are_none),
        TEST(test_a_path_is_noted_before_its_first_line),
        TEST(test_another_file_than_one_that_fails),
        TEST(test_a_file_that_comes_and_goes),
        TEST(test_a_file_that_fails_goes),
        TEST(test_many_files),
        TEST(test_the_state_first),
        TEST(test_the_state_first_without_a_file),
        TEST(test_a_state_that_is_not_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
