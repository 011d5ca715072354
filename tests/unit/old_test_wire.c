/* wire: samples and outcomes byte for byte; topics and payloads from anybody. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "bridge/base/clock.h"
#include "bridge/wire/command_json.h"
#include "bridge/wire/outcome_json.h"
#include "bridge/wire/status_json.h"
#include "bridge/wire/topic.h"
#include "devices/registers/codec.h"
#include "site.h"

static struct conf conf;
static struct device *battery;

static int read_site(void **state)
{
    (void)state;
    site_read(&conf, SITE_ONE(SITE_DISCHARGE) "meters = ( { id = \"m1\"; name = \"Grid-Meter\"; "
                                              "type = \"acuvim2\"; modbus: { host = \"h\"; "
                                              "address = 2; }; } );");
    battery = &conf.devices.devices[0];
    return 0;
}

static int free_site(void **state)
{
    (void)state;
    conf_free(&conf);
    return 0;
}

/* ---- outcomes ---- */

static struct outcome confirmed(void)
{
    return (struct outcome){.device = "Site-BESS-01",
                            .point = "target_power",
                            .has_id = true,
                            .has_value = true,
                            .id = "d-7f3a",
                            .value = 50,
                            .kind = OUTCOME_CONFIRMED,
                            .has_readback = true,
                            .readback = 50,
                            .ts_ms = 1763791200123,
                            .latency_ms = 8.4,
                            .source = "dispatch-a"};
}

static void assert_outcome(const struct outcome *outcome, const char *expected)
{
    char *text = outcome_json(outcome);
    assert_string_equal(text, expected);
    free(text);
}

static void test_outcomes(void **state)
{
    (void)state;
    struct outcome outcome = confirmed();
    assert_outcome(&outcome,
                   "{\"id\":\"d-7f3a\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\","
                   "\"value\":50,\"outcome\":\"confirmed\",\"readback\":50,\"ts\":1763791200123,"
                   "\"latency_ms\":8.4,\"source\":\"dispatch-a\"}");

    outcome.kind = OUTCOME_REFUSED;
    outcome.reason = REASON_SOE_LOW;
    outcome.has_readback = false;
    outcome.source[0] = '\0';
    strcpy(outcome.detail, "SOE 9.5 % is below soe_min 10 %");
    assert_outcome(&outcome,
                   "{\"id\":\"d-7f3a\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\","
                   "\"value\":50,\"outcome\":\"refused\",\"reason\":\"soe_low\","
                   "\"detail\":\"SOE 9.5 % is below soe_min 10 %\",\"ts\":1763791200123,"
                   "\"latency_ms\":8.4}");

    outcome.kind = OUTCOME_FAILED;
    outcome.fault = FAULT_ILLEGAL_VALUE;
    outcome.detail[0] = '\0';
    outcome.value = -0.1;
    outcome.latency_ms = 0.12345;
    assert_outcome(&outcome,
                   "{\"id\":\"d-7f3a\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\","
                   "\"value\":-0.1,\"outcome\":\"failed\",\"reason\":\"illegal_value\","
                   "\"ts\":1763791200123,\"latency_ms\":0.123}");
}

static void test_an_outcome_of_what_could_not_be_parsed(void **state)
{
    (void)state;
    struct outcome outcome = {.device = "x",
                              .point = "y",
                              .kind = OUTCOME_REFUSED,
                              .reason = REASON_MALFORMED,
                              .ts_ms = 1,
                              .value = 77,
                              .id = "no"};
    assert_outcome(&outcome, "{\"id\":null,\"device\":\"x\",\"point\":\"y\",\"value\":null,"
                             "\"outcome\":\"refused\",\"reason\":\"malformed\",\"ts\":1,"
                             "\"latency_ms\":0.0}");
}

static void test_an_outcome_survives_any_text(void **state)
{
    (void)state;
    struct outcome outcome = confirmed();
    strcpy(outcome.id, "\"\\\x01\xf0\x9f\x94\x8b");
    strcpy(outcome.device, "caf\xc3");      /* cut in the middle of a character */
    strcpy(outcome.point, "\xff\xfe\xfd-"); /* none at all */
    strcpy(outcome.detail, "cut \xe2\x82");
    char *text = outcome_json(&outcome);
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "id")), outcome.id);
    assert_string_equal(json_string_value(json_object_get(json, "device")), "caf");
    assert_true(json_is_null(json_object_get(json, "point")));
    assert_string_equal(json_string_value(json_object_get(json, "detail")), "cut ");
    json_decref(json);
    free(text);
}

static void test_what_the_audit_log_knows_leads_back_to_the_outcome(void **state)
{
    (void)state;
    struct outcome outcome = confirmed();
    struct wire_trace trace = {.received_ms = 1,
                               .judged_ms = 2,
                               .written_ms = 3,
                               .n_words = 1,
                               .words = {50},
                               .user_source = "gateway",
                               .user_traceparent = "00-a"};
    char *payload = outcome_json(&outcome);
    char *line = outcome_json_audit(&outcome, &trace);
    assert_null(strchr(line, '\n'));
    assert_non_null(strstr(line, "\"received\":1,\"judged\":2,\"written\":3,\"registers\":[50],"
                                 "\"user_source\":\"gateway\",\"traceparent\":\"00-a\""));
    char device[COMMAND_NAME_MAX + 1], id[COMMAND_ID_MAX + 1], *again;
    int64_t ts_ms;
    assert_true(outcome_json_parse_audit(line, device, id, &ts_ms, &again));
    assert_string_equal(device, "Site-BESS-01");
    assert_string_equal(id, "d-7f3a");
    assert_int_equal(ts_ms, 1763791200123);
    assert_string_equal(again, payload);
    free(again);

    char *repeated = outcome_json_repeat(payload);
    assert_non_null(strstr(repeated, "\"outcome\":\"confirmed\""));
    assert_non_null(strstr(repeated, "\"duplicate\":true"));
    assert_false(outcome_json_parse_audit(repeated, device, id, &ts_ms, &again));
    free(repeated);
    free(payload);
    free(line);
}

static void test_a_broken_audit_line_is_passed_over(void **state)
{
    (void)state;
    const char *const lines[] = {
        "",
        "{",
        "null",
        "[]",
        "{}",
        "{\"device\":\"a\",\"id\":null,\"ts\":1}",
        "{\"device\":\"a\",\"id\":\"b\"}",
        "{\"device\":1,\"id\":\"b\",\"ts\":1}",
        "{\"device\":\"a\",\"id\":\"b\",\"ts\":1.5}",
        "{\"device\":\"a\",\"id\":\"b\",\"ts\":1",
    };
    char device[COMMAND_NAME_MAX + 1], id[COMMAND_ID_MAX + 1], *payload;
    int64_t ts_ms;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        assert_false(outcome_json_parse_audit(lines[i], device, id, &ts_ms, &payload));
    char longer[COMMAND_ID_MAX + 64];
    snprintf(longer, sizeof longer, "{\"device\":\"a\",\"id\":\"%0*d\",\"ts\":1}",
             COMMAND_ID_MAX + 1, 1);
    assert_false(outcome_json_parse_audit(longer, device, id, &ts_ms, &payload));
}

/* ---- documents ---- */

static void test_documents(void **state)
{
    (void)state;
    char *text = status_json_bridge(&conf, "5f3a9c1e", 1763791200000);
    assert_string_equal(text, "{\"version\":\"" FLUXBRIDGE_VERSION
                              "\",\"site\":\"demo\",\"run\":\"5f3a9c1e\",\"started\":1763791200000,"
                              "\"devices\":[\"Site-BESS-01\",\"Grid-Meter\"]}");
    free(text);

    text = status_json_device(battery);
    assert_string_equal(
        text, "{\"id\":\"b1\",\"name\":\"Site-BESS-01\",\"type\":\"powerpack\","
              "\"manufacturer\":\"PowerPack\",\"model\":\"BESS\",\"points\":["
              "{\"name\":\"status\",\"unit\":null,\"type\":\"uint16\",\"access\":\"r\"},"
              "{\"name\":\"target_power\",\"unit\":\"kW\",\"type\":\"int16\",\"access\":\"rw\","
              "\"min\":-250,\"max\":250},"
              "{\"name\":\"command_source\",\"unit\":null,\"type\":\"uint16\",\"access\":\"rw\"},"
              "{\"name\":\"soe\",\"unit\":\"%\",\"type\":\"uint16\",\"access\":\"r\"},"
              "{\"name\":\"available_blocks\",\"unit\":null,\"type\":\"uint16\",\"access\":\"r\"}"
              "]}");
    free(text);

    struct device read_only = *battery;
    read_only.controllable = false;
    text = status_json_device(&read_only);
    assert_null(strstr(text, "rw"));
    assert_null(strstr(text, "min"));
    free(text);
}

static void test_health(void **state)
{
    (void)state;
    struct health health = {0};
    struct outbox_depth depth = {.backlog = 5, .dropped = 6, .set_aside = 7, .waiting = 9};
    health.set_aside = 1;
    health.samples = 1000;
    health.samples_bad = 3;
    health.commands = 4;
    health.outcomes[OUTCOME_CONFIRMED] = 1;
    health.outcomes[OUTCOME_REFUSED] = 3;
    health.refusals[REASON_SOE_LOW] = 2;
    health.refusals[REASON_RETAINED] = 1;
    uint64_t drops[16] = {0, 4};
    assert_true(conf.devices.n_devices >= 2 && conf.devices.n_devices <= 16);
    char *text = status_json_health(&conf, &health, &depth, drops, 1763791200000, 90061);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const char *const numbers[] = {"ts",    "uptime_s",    "samples",    "samples_bad", "publishes",
                                   "drops", "spool_depth", "reconnects", "set_aside"};
    const json_int_t expected[] = {1763791200000, 90, 1000, 3, 0, 6, 5, 0, 8};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        assert_true(json_is_integer(json_object_get(json, numbers[i])));
        assert_int_equal(json_integer_value(json_object_get(json, numbers[i])), expected[i]);
    }
    json_t *by_device = json_object_get(json, "drops_by_device");
    assert_int_equal(json_object_size(by_device), 1);
    assert_int_equal(json_integer_value(json_object_get(by_device, conf.devices.devices[1].name)),
                     4);
    json_t *commands = json_object_get(json, "commands");
    assert_int_equal(json_integer_value(json_object_get(commands, "received")), 4);
    for (int i = 0; i < OUTCOME_COUNT; i++)
        assert_true(json_is_integer(json_object_get(commands, outcome_word((enum outcome_kind)i))));
    json_t *refused = json_object_get(commands, "refused_by_reason");
    assert_int_equal(json_object_size(refused), 2);
    assert_int_equal(json_integer_value(json_object_get(refused, "soe_low")), 2);
    json_decref(json);
    free(text);
}

/* ---- topics ---- */

static void test_topics(void **state)
{
    (void)state;
    char topic[TOPIC_MAX + 1];
    assert_true(topic_make(topic, &conf, "Site-BESS-01", "state"));
    assert_string_equal(topic, "flux/demo/Site-BESS-01/state");
    assert_true(topic_command_filter(topic, &conf));
    assert_string_equal(topic, "flux/demo/+/set/#");

    char node[TOPIC_MAX + 1];
    memset(node, 'n', TOPIC_MAX);
    node[TOPIC_MAX] = '\0';
    assert_false(topic_make(topic, &conf, node, "state"));
    assert_true(strlen(topic) <= TOPIC_MAX);
    size_t frame = strlen("flux/demo//state");
    node[TOPIC_MAX - frame] = '\0';
    assert_true(topic_make(topic, &conf, node, "state"));
    assert_int_equal(strlen(topic), TOPIC_MAX);
}

static void test_command_topics(void **state)
{
    (void)state;
    const struct {
        const char *topic, *device, *point; /* NULL: not a command's */
    } rows[] = {
        {"flux/demo/Site-BESS-01/set/target_power", "Site-BESS-01", "target_power"},
        {"flux/demo/bridge/set/x", "bridge", "x"},
        {"flux/demo//set/x", "", "x"},
        {"flux/demo/a/set/", "a", ""},
        {"flux/demo/a/set/b/c", "a", "b/c"},
        {"flux/demo/a/set/set/set/", "a", "set/set/"},
        {"flux/demo/set/set/x", "set", "x"},
        {"flux/demo/a/set", "a", ""},
        {"flux/demo/a/SET/x", NULL, NULL},
        {"flux/demo/a/b/set/x", NULL, NULL},
        {"flux/demo/a/result", NULL, NULL},
        {"flux/demo/set/x", NULL, NULL},
        {"flux/demo/", NULL, NULL},
        {"flux/demo", NULL, NULL},
        {"flux/demo2/a/set/x", NULL, NULL},
        {"Flux/demo/a/set/x", NULL, NULL},
        {"/flux/demo/a/set/x", NULL, NULL},
        {"flux", NULL, NULL},
        {"", NULL, NULL},
        {"/", NULL, NULL},
        {"////////", NULL, NULL},
        {"$SYS/flux/demo/a/set/x", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char device[TOPIC_MAX + 1] = "", point[TOPIC_MAX + 1] = "";
        bool good = topic_parse(&conf, rows[i].topic, device, point);
        assert_int_equal(good, rows[i].device != NULL);
        if (good) {
            assert_string_equal(device, rows[i].device);
            assert_string_equal(point, rows[i].point);
        }
    }
}

static void test_a_topic_longer_than_any(void **state)
{
    (void)state;
    char *topic = malloc(70000);
    char device[TOPIC_MAX + 1], point[TOPIC_MAX + 1];
    memset(topic, 'x', 69999);
    topic[69999] = '\0';
    assert_false(topic_parse(&conf, topic, device, point));
    memcpy(topic, "flux/demo/a/set/", 16);
    assert_true(topic_parse(&conf, topic, device, point));
    assert_int_equal(strlen(point), TOPIC_MAX);
    memcpy(topic, "flux/demo/xxxxxx", 16);
    memcpy(topic + 60000, "/set/", 5);
    assert_true(topic_parse(&conf, topic, device, point));
    assert_int_equal(strlen(device), TOPIC_MAX);
    free(topic);
}

/* ---- commands ---- */

static bool parse(const char *payload, size_t size, bool allow_bare, struct command *command)
{
    /* In a block of its own size, so that a sanitizer sees a byte too many. */
    char *copy = malloc(size + 1);
    memcpy(copy, payload, size);
    copy[size] = '}';
    char detail[DETAIL_MAX] = "";
    struct command untouched;
    memset(command, 0x55, sizeof *command);
    memset(&untouched, 0x55, sizeof untouched);
    bool good = command_json_parse(copy, size, allow_bare, command, detail);
    free(copy);
    if (!good) {
        assert_memory_equal(command, &untouched, sizeof untouched);
        assert_string_not_equal(detail, "");
    }
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
    struct outcome outcome = confirmed();
    strcpy(outcome.detail, detail);
    char *text = outcome_json(&outcome);
    assert_non_null(strstr(text, "\"detail\":\"unknown field \\\"\xe2\x82\xac"));
    free(text);
}

static void test_outcomes_go_nowhere_the_bridge_speaks(void **state)
{
    static const struct {
        const char *topic;
        bool may;
    } cases[] = {
        {"reply/dispatch-a", true},
        {"flux/demo2/x", true},
        {"flux", true},
        {"flux/demo", false},
        {"flux/demo/bridge/status", false},
        {"flux/demo/bridge", false},
        {"flux/demo/Grid-Meter/state", false},
        {"flux/demo/Grid-Meter/anything", false},
        {"flux/demo/Grid-Meter", false},
        {"flux/demo/nobody/set", false},
        {"flux/demo/nobody/set/target_power", false},
        {"flux/demo/nobody/sets", true},
        {"flux/demo/Grid-Meters/state", true},
        {"flux/demo/replies/dispatch-a", true},
        {"$SYS/x", false},
        {"homeassistant/device/x/config", false},
        {"homeassistants/x", true},
    };
    struct device meter = {.name = "Grid-Meter"};
    struct conf site = {
        .site = "demo", .ha_enabled = true, .devices = {.devices = &meter, .n_devices = 1}};
    (void)state;
    strcpy(site.mqtt.prefix, "flux");
    strcpy(site.ha_prefix, "homeassistant");
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_int_equal(topic_may_answer(&site, cases[i].topic), cases[i].may);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outcomes),
        cmocka_unit_test(test_an_outcome_of_what_could_not_be_parsed),
        cmocka_unit_test(test_an_outcome_survives_any_text),
        cmocka_unit_test(test_what_the_audit_log_knows_leads_back_to_the_outcome),
        cmocka_unit_test(test_a_broken_audit_line_is_passed_over),
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_health),
        cmocka_unit_test(test_topics),
        cmocka_unit_test(test_command_topics),
        cmocka_unit_test(test_outcomes_go_nowhere_the_bridge_speaks),
        cmocka_unit_test(test_a_topic_longer_than_any),
        cmocka_unit_test(test_the_whole_command),
        cmocka_unit_test(test_the_least_command),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_what_is_no_command),
        cmocka_unit_test(test_bytes_that_are_no_text),
        cmocka_unit_test(test_deep_and_long),
        cmocka_unit_test(test_an_unknown_field_is_named),
    };
    return cmocka_run_group_tests(tests, read_site, free_site);
}
