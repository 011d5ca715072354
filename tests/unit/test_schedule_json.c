/* schedule_json: what is no schedule is refused, with the word and a sentence for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "bridge/wire/schedule_json.h"

#define HEAD  "\"id\":\"day-1\",\"revision\":7,\"valid_until\":1763877600000"
#define ENTRY "{\"start\":1763791200000,\"end\":1763794800000,\"value\":50.5}"
#define NEXT  "{\"start\":1763794800000,\"end\":1763798400000,\"value\":-30}"

static struct command command;
static char detail[DETAIL_MAX];

static enum reason parse(const char *text)
{
    memset(&command, 0, sizeof command);
    detail[0] = '\0';
    enum reason reason = schedule_json_parse(text, strlen(text), &command, detail);
    assert_int_equal(reason == REASON_NONE, command.timetable != NULL);
    assert_int_equal(reason == REASON_NONE, detail[0] == '\0');
    return reason;
}

static void done(void)
{
    schedule_json_free(command.timetable);
}

static void test_a_whole_one(void **state)
{
    (void)state;
    const char *text = "{" HEAD ",\"issued_at\":1763791100000,\"source\":\"desk\","
                       "\"default\":\"release\",\"entries\":[" ENTRY "," NEXT "]}";
    assert_int_equal(parse(text), REASON_NONE);
    const struct timetable *table = command.timetable;
    assert_string_equal(table->id, "day-1");
    assert_string_equal(table->source, "desk");
    assert_int_equal(table->revision, 7);
    assert_true(table->dated && table->issued_at_ms == 1763791100000);
    assert_int_equal(table->valid_until_ms, 1763877600000);
    assert_true(table->releases);
    assert_int_equal(table->n, 2);
    assert_int_equal(table->entries[0].start_ms, 1763791200000);
    assert_int_equal(table->entries[0].end_ms, 1763794800000);
    assert_true(table->entries[0].value == 50.5);
    assert_true(table->entries[1].value == -30);
    assert_string_equal(table->text + TIMETABLE_HEAD_MAX, text);
    assert_string_equal(command.id, "day-1");
    assert_string_equal(command.source, "desk");
    assert_int_equal(command.revision, 7);
    done();
}

static void test_the_least(void **state)
{
    (void)state;
    assert_int_equal(parse("{" HEAD ",\"entries\":[]}"), REASON_NONE);
    assert_int_equal(command.timetable->n, 0);
    assert_false(command.timetable->releases || command.timetable->dated);
    done();
    assert_int_equal(parse("{" HEAD ",\"default\":0.0,\"entries\":[]}"), REASON_NONE);
    assert_false(command.timetable->releases);
    done();
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum reason reason;
        const char *detail;
        bool has_id;
    } rows[] = {
        {"", REASON_MALFORMED, "not JSON", false},
        {"7", REASON_MALFORMED, "not JSON", false},
        {"[]", REASON_MALFORMED, "not a JSON object", false},
        {"{}", REASON_MALFORMED, "id is missing", false},
        {"{\"id\":\"a\",\"revision\":1,\"valid_until\":1}", REASON_MALFORMED, "entries is missing",
         true},
        {"{\"id\":\"a\",\"revision\":1,\"entries\":[]}", REASON_MALFORMED, "valid_until is missing",
         true},
        {"{\"id\":\"a\",\"valid_until\":1,\"entries\":[]}", REASON_MALFORMED, "revision is missing",
         true},
        {"{\"revision\":1,\"valid_until\":1,\"entries\":[]}", REASON_MALFORMED, "id is missing",
         false},
        {"{" HEAD ",\"entries\":{}}", REASON_MALFORMED, "entries is not a list", true},
        {"{" HEAD ",\"entries\":null}", REASON_MALFORMED, "entries is not a list", true},
        {"{" HEAD ",\"entries\":[],\"note\":1}", REASON_MALFORMED, "unknown field \"note\"", true},
        {"{" HEAD ",\"revision\":8,\"entries\":[]}", REASON_MALFORMED, "not JSON", true},
        {"{\"id\":7,\"revision\":1,\"valid_until\":1,\"entries\":[]}", REASON_MALFORMED,
         "id is not a text", false},
        {"{\"id\":\"a\",\"revision\":-1,\"valid_until\":1,\"entries\":[]}", REASON_MALFORMED,
         "revision is not a whole number", true},
        {"{\"id\":\"a\",\"revision\":1.5,\"valid_until\":1,\"entries\":[]}", REASON_MALFORMED,
         "revision is not a whole number", true},
        {"{\"id\":\"a\",\"revision\":9007199254740992,\"valid_until\":1,\"entries\":[]}",
         REASON_MALFORMED, "revision is not a whole number", true},
        {"{\"id\":\"a\",\"revision\":1,\"valid_until\":1.5,\"entries\":[]}", REASON_MALFORMED,
         "valid_until is not a time", true},
        {"{" HEAD ",\"default\":1,\"entries\":[]}", REASON_MALFORMED, "default is neither", true},
        {"{" HEAD ",\"default\":\"hold\",\"entries\":[]}", REASON_MALFORMED, "default is neither",
         true},
        {"{" HEAD ",\"default\":null,\"entries\":[]}", REASON_MALFORMED, "default is neither",
         true},
        {"{" HEAD ",\"issued_at\":\"now\",\"entries\":[]}", REASON_MALFORMED,
         "issued_at is not a time", true},
        {"{" HEAD ",\"source\":\"\",\"entries\":[]}", REASON_MALFORMED, "source is not a text",
         true},
        {"{" HEAD ",\"entries\":[7]}", REASON_MALFORMED, "entry 0 is not an object", true},
        {"{" HEAD ",\"entries\":[" ENTRY ",{\"start\":1763794800000,\"end\":1763798400000}]}",
         REASON_MALFORMED, "entry 1 is not an object", true},
        {"{" HEAD ",\"entries\":[{\"start\":1,\"end\":2,\"value\":\"3\"}]}", REASON_MALFORMED,
         "entry 0: value is not a number", true},
        {"{" HEAD ",\"entries\":[{\"start\":1.5,\"end\":2,\"value\":3}]}", REASON_MALFORMED,
         "entry 0: start is not a time", true},
        {"{" HEAD ",\"entries\":[{\"value\":3,\"start\":1,\"end\":\"2\"}]}", REASON_MALFORMED,
         "entry 0: end is not a time", true},
        {"{" HEAD ",\"entries\":[{\"start\":1,\"end\":2,\"value\":3,\"kw\":3}]}", REASON_MALFORMED,
         "entry 0: unknown field \"kw\"", true},
        {"{" HEAD ",\"entries\":[{\"start\":2,\"end\":2,\"value\":3}]}", REASON_MALFORMED,
         "entry 0 ends before", true},
        {"{" HEAD ",\"entries\":[" NEXT "," ENTRY "]}", REASON_MALFORMED,
         "entry 1 begins before the one before it", true},
        {"{" HEAD ",\"entries\":[" ENTRY "," ENTRY "]}", REASON_OVERLAP,
         "entry 1 begins before the one before it ends", true},
        {"{" HEAD ",\"entries\":[" ENTRY
         ",{\"start\":1763794799999,\"end\":1763798400000,\"value\":1}]}",
         REASON_OVERLAP, "entry 1", true},
        {"{" HEAD ",\"entries\":[{\"start\":0,\"end\":604800001,\"value\":1}]}", REASON_TOO_LARGE,
         "more than 7 days", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const enum reason reason = parse(rows[i].text);
        if (reason != rows[i].reason || strstr(detail, rows[i].detail) == NULL)
            fail_msg("%s: %s \"%s\"", rows[i].text, reason_word(reason), detail);
        assert_int_equal(command.id[0] != '\0', rows[i].has_id);
    }
    assert_int_equal(parse("{" HEAD ",\"entries\":[{\"start\":0,\"end\":604800000,\"value\":1}]}"),
                     REASON_NONE);
    done();
    const char nul[] = "{" HEAD ",\"entries\":[]}\0";
    assert_int_equal(schedule_json_parse(nul, sizeof nul - 1, &command, detail), REASON_MALFORMED);
}

static void test_how_many_entries(void **state)
{
    (void)state;
    for (unsigned n = TIMETABLE_ENTRIES_MAX; n <= TIMETABLE_ENTRIES_MAX + 1; n++) {
        json_t *entries = json_array();
        for (unsigned i = 0; i < n; i++)
            json_array_append_new(entries,
                                  json_pack("{s:i,s:i,s:i}", "start", i, "end", i + 1, "value", 1));
        json_t *root = json_pack("{s:s,s:i,s:I,s:o}", "id", "a", "revision", 1, "valid_until",
                                 (json_int_t)1763877600000, "entries", entries);
        char *text = json_dumps(root, JSON_COMPACT);
        assert_true(strlen(text) < TIMETABLE_PAYLOAD_MAX);
        assert_int_equal(parse(text), n > TIMETABLE_ENTRIES_MAX ? REASON_TOO_LARGE : REASON_NONE);
        done();
        free(text);
        json_decref(root);
    }
}

static void test_the_words_of_its_states(void **state)
{
    (void)state;
    for (int i = 0; i < SCHEDULE_STATES; i++)
        assert_true(strlen(schedule_json_word((enum schedule_state)i)) > 0);
}

static void test_where_it_stands(void **state)
{
    (void)state;
    struct schedule_status status = {.state = SCHEDULE_NONE, .revision = -1};
    char *text = schedule_json_status(&status);
    assert_string_equal(text, "{\"id\":null,\"revision\":null,\"state\":\"none\",\"current\":null,"
                              "\"next\":null,\"default\":null,\"valid_until\":null,"
                              "\"reason\":null}");
    free(text);
    status = (struct schedule_status){
        .state = SCHEDULE_PENDING,
        .revision = 7,
        .id = "day-1",
        .source = "desk",
        .valid_until_ms = 9,
        .has_entry = true,
        .entry = {1, 5, 50.5},
        .changes = true,
        .next_ms = 5,
        .why = "soe_low",
    };
    text = schedule_json_status(&status);
    assert_string_equal(text, "{\"id\":\"day-1\",\"revision\":7,\"state\":\"pending\","
                              "\"current\":{\"start\":1,\"end\":5,\"value\":50.5},"
                              "\"next\":{\"at\":5,\"value\":0},\"default\":0,\"valid_until\":9,"
                              "\"reason\":\"soe_low\",\"source\":\"desk\"}");
    free(text);
    status.releases = true;
    text = schedule_json_status(&status);
    assert_non_null(
        strstr(text, "\"next\":{\"at\":5,\"value\":\"release\"},\"default\":\"release\""));
    free(text);
    status.next_has_value = true;
    status.next_value = -30;
    text = schedule_json_status(&status);
    assert_non_null(strstr(text, "\"next\":{\"at\":5,\"value\":-30}"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_whole_one),
        cmocka_unit_test(test_the_least),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_how_many_entries),
        cmocka_unit_test(test_the_words_of_its_states),
        cmocka_unit_test(test_where_it_stands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
