/* command_json: payloads from anybody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/wire/command_json.h"
#include "bridge/wire/outcome_json.h"

static bool parse(const char *payload, size_t size, bool allow_bare, struct command *command)
{
    /* In a block of its own size, so that a sanitizer sees a byte too many. */
    char *copy = malloc(size + 1);
    memcpy(copy, payload, size);
    copy[size] = '}';
    char detail[DETAIL_MAX] = "";
    memset(command, 0, sizeof *command);
    bool good = command_json_parse(copy, size, allow_bare, command, detail);
    free(copy);
    assert_int_equal(command->has_value, good);
    if (!good)
        assert_string_not_equal(detail, "");
    return good;
}

static bool takes(const char *payload)
{
    struct command command;
    return parse(payload, strlen(payload), false, &command);
}

static void test_the_whole_command(void **state)
{
    (void)state;
    const char *payload = "{\"id\":\"d-7f3a\",\"value\":50.0,\"issued_at\":1763791200000,"
                          "\"ttl_s\":5,\"source\":\"dispatch-a\"}";
    struct command command;
    assert_true(parse(payload, strlen(payload), false, &command));
    assert_string_equal(command.id, "d-7f3a");
    assert_true(command.value == 50.0);
    assert_true(command.dated);
    assert_int_equal(command.issued_at_ms, 1763791200000);
    assert_int_equal(command.ttl_ns, 5 * CLOCK_NS_PER_S);
    assert_string_equal(command.source, "dispatch-a");
}

static void test_the_least_command(void **state)
{
    (void)state;
    const char *payload = " {\"value\":-7,\n\"id\":\"1\"}\r\n";
    struct command command;
    assert_true(parse(payload, strlen(payload), false, &command));
    assert_string_equal(command.id, "1");
    assert_true(command.value == -7.0);
    assert_false(command.dated);
    assert_string_equal(command.source, "");
}

static void test_values(void **state)
{
    (void)state;
    const struct {
        const char *text;
        double value;
    } good[] = {
        {"0", 0},
        {"-0", 0},
        {"-0.0", 0},
        {"0e0", 0},
        {"50", 50},
        {"50.0", 50},
        {"5e1", 50},
        {"5.0E+1", 50},
        {"50.0000001", 50.0000001},
        {"-250", -250},
        {"1e308", 1e308},
        {"1e-999", 0},
        {"9223372036854775807", 9223372036854775807.0},
        {"9223372036854775808", 9223372036854775808.0},
        {"-99999999999999999999", -1e20},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char payload[128];
        struct command command;
        snprintf(payload, sizeof payload, "{\"id\":\"1\",\"value\":%s}", good[i].text);
        assert_true(parse(payload, strlen(payload), false, &command));
        assert_true(command.value == good[i].value);
        assert_true(parse(good[i].text, strlen(good[i].text), true, &command));
        assert_true(command.value == good[i].value);
        assert_string_equal(command.id, "");
        assert_false(command.dated);
        assert_false(parse(good[i].text, strlen(good[i].text), false, &command));
    }
    const char *const bad[] = {
        "1e999",  "-1e999", "NaN",   "nan",  "Infinity", "-Infinity", "inf",
        "0x32",   "050",    "+50",   ".5",   "5.",       "5e",        "50,0",
        "\"50\"", "true",   "false", "null", "[50]",     "{}",        "{\"v\":50}",
        "",       "50 50",  "50;",   "--5",  "1_000",    "5\xc2\xa0",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char payload[128];
        struct command command;
        snprintf(payload, sizeof payload, "{\"id\":\"1\",\"value\":%s}", bad[i]);
        assert_false(parse(payload, strlen(payload), false, &command));
        assert_false(parse(bad[i], strlen(bad[i]), true, &command));
    }
}

static void test_ids(void **state)
{
    (void)state;
    char longest[64 * 4 + 1] = "", too_long[65 * 4 + 1] = "", payload[400];
    for (int i = 0; i < 64; i++)
        strcat(longest, "\xf0\x9f\x94\x8b");
    snprintf(too_long, sizeof too_long, "%s%s", longest, "x");
    char plain[66] = "";
    memset(plain, 'x', 65);
    const struct {
        const char *id;
        bool good;
    } rows[] = {
        {"a", true},
        {"", false},
        {" ", true},
        {"caf\xc3\xa9", true},
        {"\\u00e9", true},
        {longest, true},
        {too_long, false},
        {plain, false},
        {plain + 1, true},
        {"a\\\"b\\\\c", true},
        {"\\ud83d\\udd0b", true},
        {"\\u0000", false},
        {"a\\u0000b", false},
        {"\\n", false},
        {"\\t", false},
        {"\\u001f", false},
        {"\\u007f", false},
        {"\\u0080", false},
        {"\\u009f", false},
        {"\\u00a0", true},
        {"\xc2\x85", false},
        {"\x01", false},
        {"a\nb", false},
        {"\\ud800", false},
        {"\\udc00", false},
        {"\xff", false},
        {"\xc0\xaf", false},
        {"\xc3", false},
        {"\xed\xa0\x80", false},
        {"\xf4\x90\x80\x80", false},
        {"\\x41", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(payload, sizeof payload, "{\"id\":\"%s\",\"value\":1}", rows[i].id);
        assert_int_equal(takes(payload), rows[i].good);
        /* The same for who sends it. */
        snprintf(payload, sizeof payload, "{\"id\":\"1\",\"value\":1,\"source\":\"%s\"}",
                 rows[i].id);
        assert_int_equal(takes(payload), rows[i].good);
    }
}

static void test_dates(void **state)
{
    (void)state;
    const struct {
        const char *fields;
        bool good;
    } rows[] = {
        {"\"issued_at\":0,\"ttl_s\":1", true},
        {"\"issued_at\":9000000000000,\"ttl_s\":31536000", true},
        {"\"issued_at\":9000000000001,\"ttl_s\":1", false},
        {"\"issued_at\":9223372036854775807,\"ttl_s\":1", false},
        {"\"issued_at\":-1,\"ttl_s\":1", false},
        {"\"issued_at\":-9223372036854775808,\"ttl_s\":1", false},
        {"\"issued_at\":1763791200000.0,\"ttl_s\":1", true},
        {"\"issued_at\":1.7637912e12,\"ttl_s\":1", true},
        {"\"issued_at\":1763791200000.5,\"ttl_s\":1", false},
        {"\"issued_at\":9000000000000.5,\"ttl_s\":1", false},
        {"\"issued_at\":-1.0,\"ttl_s\":1", false},
        {"\"issued_at\":1e999,\"ttl_s\":1", false},
        {"\"issued_at\":\"1763791200000\",\"ttl_s\":1", false},
        {"\"issued_at\":null,\"ttl_s\":1", false},
        {"\"issued_at\":true,\"ttl_s\":1", false},
        {"\"issued_at\":1,\"ttl_s\":0.001", true},
        {"\"issued_at\":1,\"ttl_s\":0", false},
        {"\"issued_at\":1,\"ttl_s\":-0.0", false},
        {"\"issued_at\":1,\"ttl_s\":-1", false},
        {"\"issued_at\":1,\"ttl_s\":31536000.1", false},
        {"\"issued_at\":1,\"ttl_s\":1e308", false},
        {"\"issued_at\":1,\"ttl_s\":\"5\"", false},
        {"\"issued_at\":1,\"ttl_s\":null", false},
        {"\"issued_at\":1", false},
        {"\"ttl_s\":5", false},
        {"\"ttl_s\":5,\"issued_at\":1", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char payload[200];
        snprintf(payload, sizeof payload, "{\"id\":\"1\",\"value\":1,%s}", rows[i].fields);
        assert_int_equal(takes(payload), rows[i].good);
    }
}

static void test_what_is_no_command(void **state)
{
    (void)state;
    const char *const payloads[] = {
        "",
        " ",
        "{",
        "}",
        "{}",
        "[]",
        "[{\"id\":\"1\",\"value\":1}]",
        "null",
        "true",
        "\"50\"",
        "{\"id\":\"1\"}",
        "{\"value\":1}",
        "{\"id\":\"1\",\"value\":1",
        "{\"id\":\"1\",\"value\":1}}",
        "{\"id\":\"1\",\"value\":1}{\"id\":\"2\",\"value\":2}",
        "{\"id\":\"1\",\"value\":1} x",
        "{\"id\":\"1\",\"value\":1,}",
        "{id:\"1\",\"value\":1}",
        "{'id':'1','value':1}",
        "{\"id\":1,\"value\":1}",
        "{\"id\":null,\"value\":1}",
        "{\"id\":[\"1\"],\"value\":1}",
        "{\"id\":\"1\",\"value\":1,\"source\":7}",
        "{\"id\":\"1\",\"value\":1,\"source\":null}",
        /* Doubled: which one is meant? */
        "{\"id\":\"1\",\"value\":1,\"value\":250}",
        "{\"id\":\"1\",\"id\":\"2\",\"value\":1}",
        "{\"id\":\"1\",\"value\":1,\"valu\\u0065\":250}",
        /* Unknown, or nearly known. */
        "{\"id\":\"1\",\"value\":1,\"Value\":2}",
        "{\"id\":\"1\",\"value\":1,\"ttl\":5}",
        "{\"id\":\"1\",\"value\":1,\"\":0}",
        "{\"id\":\"1\",\"value \":1}",
        "{\"id\":\"1\",\"value\\u0000\":1}",
        "\xef\xbb\xbf{\"id\":\"1\",\"value\":1}", /* a byte order mark */
        "// comment\n{\"id\":\"1\",\"value\":1}",
        "{\"id\":\"1\",/**/\"value\":1}",
    };
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
        struct command command;
        assert_false(parse(payloads[i], strlen(payloads[i]), false, &command));
        assert_false(parse(payloads[i], strlen(payloads[i]), true, &command));
    }
}

static void test_bytes_that_are_no_text(void **state)
{
    (void)state;
    const char with_nul[] = "{\"id\":\"1\",\"value\":1}\0";
    const char nul_inside[] = "{\"id\":\"1\0\",\"value\":1}";
    const char nul_value[] = "{\"id\":\"1\",\"value\":1\0}";
    struct command command;
    assert_true(parse(with_nul, sizeof with_nul - 2, false, &command));
    assert_false(parse(with_nul, sizeof with_nul - 1, false, &command));
    assert_false(parse(nul_inside, sizeof nul_inside - 1, false, &command));
    assert_false(parse(nul_value, sizeof nul_value - 1, false, &command));
}

static void test_deep_and_long(void **state)
{
    (void)state;
    char payload[COMMAND_PAYLOAD_MAX + 1];
    struct command command;
    memset(payload, '[', COMMAND_PAYLOAD_MAX);
    assert_false(parse(payload, COMMAND_PAYLOAD_MAX, true, &command));
    memset(payload + COMMAND_PAYLOAD_MAX / 2, ']', COMMAND_PAYLOAD_MAX / 2);
    assert_false(parse(payload, COMMAND_PAYLOAD_MAX, true, &command));
    for (int i = 0; i + 5 <= COMMAND_PAYLOAD_MAX; i += 5)
        memcpy(payload + i, "{\"a\":", 5);
    assert_false(parse(payload, COMMAND_PAYLOAD_MAX, true, &command));
    memset(payload, '1', COMMAND_PAYLOAD_MAX); /* a number of 4096 digits */
    assert_false(parse(payload, COMMAND_PAYLOAD_MAX, true, &command));
    /* The largest good one is mostly white. */
    memset(payload, ' ', COMMAND_PAYLOAD_MAX);
    memcpy(payload, "{\"id\":\"1\",\"value\":1", 19);
    payload[COMMAND_PAYLOAD_MAX - 1] = '}';
    assert_true(parse(payload, COMMAND_PAYLOAD_MAX, false, &command));
}

/* The detail names the field, however long and wherever it is cut. */
static void test_an_unknown_field_is_named(void **state)
{
    (void)state;
    char payload[1000] = "{\"", detail[DETAIL_MAX];
    struct command command;
    for (int i = 0; i < 150; i++)
        strcat(payload, "\xe2\x82\xac");
    strcat(payload, "\":1}");
    assert_false(command_json_parse(payload, strlen(payload), false, &command, detail));
    assert_non_null(strstr(detail, "unknown field \"\xe2\x82\xac"));
    struct outcome outcome = {.kind = OUTCOME_REFUSED, .reason = REASON_MALFORMED};
    strcpy(outcome.detail, detail);
    char *text = outcome_json(&outcome);
    assert_non_null(strstr(text, "\"detail\":\"unknown field \\\"\xe2\x82\xac"));
    free(text);
}

/* Whose command it is, whatever else is wrong with it: its sender waits for an answer. */
static void test_the_id_of_what_is_malformed(void **state)
{
    (void)state;
    const struct {
        const char *payload, *id;
    } rows[] = {
        {"{\"id\":\"d-1\"}", "d-1"},
        {"{\"value\":1,\"unknown\":2,\"id\":\"d-1\"}", "d-1"},
        {"{\"value\":\"50\",\"id\":\"d-1\"}", "d-1"},
        {"{\"id\":\"d-1\",\"value\":1,\"ttl_s\":-1,\"issued_at\":1}", "d-1"},
        {"{\"id\":\"d-1\",\"value\":1,\"value\":2}", "d-1"},
        {"{\"id\":\"\",\"value\":1}", ""},
        {"{\"id\":7,\"value\":1}", ""},
        {"{\"value\":1}", ""},
        {"{\"id\":\"d-1\",\"value\":1", ""},
        {"[\"d-1\"]", ""},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct command command;
        assert_false(parse(rows[i].payload, strlen(rows[i].payload), false, &command));
        assert_string_equal(command.id, rows[i].id);
        assert_string_equal(command.source, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_whole_command),
        cmocka_unit_test(test_the_least_command),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_what_is_no_command),
        cmocka_unit_test(test_bytes_that_are_no_text),
        cmocka_unit_test(test_deep_and_long),
        cmocka_unit_test(test_an_unknown_field_is_named),
        cmocka_unit_test(test_the_id_of_what_is_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
