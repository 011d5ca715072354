/* outcome_json: what is published, byte for byte, and what the audit log leads back to. */
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
#include "bridge/wire/outcome_json.h"

/* Of a command that arrived at utc 1763791200115 and took 8.4 ms. */
static struct outcome confirmed(void)
{
    return (struct outcome){.command = {.device_name = "Site-BESS-01",
                                        .point_name = "target_power",
                                        .id = "d-7f3a",
                                        .has_value = true,
                                        .value = 50,
                                        .source = "dispatch-a",
                                        .mono_ns = 7 * CLOCK_NS_PER_S,
                                        .utc_ms = 1763791200115},
                            .kind = OUTCOME_CONFIRMED,
                            .has_readback = true,
                            .readback = 50,
                            .done_ns = 7 * CLOCK_NS_PER_S + 8400000};
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
    outcome.command.source[0] = '\0';
    strcpy(outcome.detail, "SOE 9.5 % is below soe_min 10 %");
    assert_outcome(&outcome,
                   "{\"id\":\"d-7f3a\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\","
                   "\"value\":50,\"outcome\":\"refused\",\"reason\":\"soe_low\","
                   "\"detail\":\"SOE 9.5 % is below soe_min 10 %\",\"ts\":1763791200123,"
                   "\"latency_ms\":8.4}");

    outcome.kind = OUTCOME_FAILED;
    outcome.reason = REASON_NONE;
    outcome.fault = FAULT_ILLEGAL_VALUE;
    outcome.detail[0] = '\0';
    outcome.command.value = -0.1;
    outcome.done_ns = outcome.command.mono_ns + 123450;
    assert_outcome(&outcome,
                   "{\"id\":\"d-7f3a\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\","
                   "\"value\":-0.1,\"outcome\":\"failed\",\"reason\":\"illegal_value\","
                   "\"ts\":1763791200115,\"latency_ms\":0.123}");
}

/* A rule that turned after a register was written: the rule's word. */
static void test_a_failure_by_a_rule(void **state)
{
    (void)state;
    struct outcome outcome = confirmed();
    outcome.kind = OUTCOME_FAILED;
    outcome.reason = REASON_NOT_READY;
    outcome.has_readback = false;
    outcome.correction = true;
    assert_outcome(&outcome,
                   "{\"id\":\"d-7f3a\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\","
                   "\"value\":50,\"outcome\":\"failed\",\"reason\":\"not_ready\","
                   "\"ts\":1763791200123,\"latency_ms\":8.4,\"source\":\"dispatch-a\","
                   "\"correction\":true}");
}

/* Its id is there when it could be read. */
static void test_an_outcome_of_what_could_not_be_parsed(void **state)
{
    (void)state;
    struct outcome outcome = {
        .command = {.device_name = "x", .point_name = "y", .value = 77, .utc_ms = 1},
        .kind = OUTCOME_REFUSED,
        .reason = REASON_MALFORMED,
        .detail = "why"};
    assert_outcome(&outcome, "{\"id\":null,\"device\":\"x\",\"point\":\"y\",\"value\":null,"
                             "\"outcome\":\"refused\",\"reason\":\"malformed\","
                             "\"detail\":\"why\",\"ts\":1,\"latency_ms\":0.0}");
    strcpy(outcome.command.id, "d-1");
    assert_outcome(&outcome, "{\"id\":\"d-1\",\"device\":\"x\",\"point\":\"y\",\"value\":null,"
                             "\"outcome\":\"refused\",\"reason\":\"malformed\","
                             "\"detail\":\"why\",\"ts\":1,\"latency_ms\":0.0}");
}

/* What to do, when there is no more to say. */
static void test_a_refusal_has_a_hint(void **state)
{
    (void)state;
    struct outcome outcome = confirmed();
    outcome.kind = OUTCOME_REFUSED;
    outcome.reason = REASON_RETAINED;
    char *text = outcome_json(&outcome);
    assert_non_null(strstr(text, reason_hint(REASON_RETAINED)));
    assert_string_not_equal(reason_hint(REASON_RETAINED), "");
    free(text);
}

static void test_an_outcome_survives_any_text(void **state)
{
    (void)state;
    struct outcome outcome = confirmed();
    strcpy(outcome.command.id, "\"\\\x01\xf0\x9f\x94\x8b");
    strcpy(outcome.command.device_name, "caf\xc3");      /* cut in the middle of a character */
    strcpy(outcome.command.point_name, "\xff\xfe\xfd-"); /* none at all */
    strcpy(outcome.detail, "cut \xe2\x82");
    char *text = outcome_json(&outcome);
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "id")), outcome.command.id);
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
    struct command *command = &outcome.command;
    outcome.judged_ns = command->mono_ns + 2 * CLOCK_NS_PER_MS;
    outcome.written_ns = command->mono_ns + 3 * CLOCK_NS_PER_MS;
    outcome.n_words = 1;
    outcome.words[0] = 50;
    strcpy(command->user_source, "gateway");
    strcpy(command->user_traceparent, "00-a");
    strcpy(command->source, "deadman"); /* so it says */
    char *payload = outcome_json(&outcome);
    char *line = outcome_json_audit(&outcome);
    assert_null(strchr(line, '\n'));
    assert_non_null(strstr(line, "\"source\":\"deadman\",\"author\":\"dispatcher\","));
    assert_non_null(strstr(line, "\"received\":1763791200115,\"judged\":1763791200117,"
                                 "\"written\":1763791200118,\"registers\":[50],"
                                 "\"user_source\":\"gateway\",\"traceparent\":\"00-a\""));
    char device[COMMAND_NAME_MAX + 1], id[COMMAND_ID_MAX + 1], *again;
    int64_t ts_ms;
    assert_true(outcome_json_parse_audit(line, device, id, &ts_ms, &again));
    assert_string_equal(device, "Site-BESS-01");
    assert_string_equal(id, "d-7f3a");
    assert_int_equal(ts_ms, 1763791200123);
    assert_string_equal(again, payload);
    free(again);

    char told[OUTCOME_JSON_TOLD_MAX + 1];
    char *repeated = outcome_json_repeat(payload, told);
    assert_string_equal(told, "value=50 outcome=confirmed");
    assert_non_null(strstr(repeated, "\"outcome\":\"confirmed\""));
    assert_non_null(strstr(repeated, "\"duplicate\":true"));
    assert_false(outcome_json_parse_audit(repeated, device, id, &ts_ms, &again));
    free(repeated);
    free(payload);
    free(line);
}

/* An id is remembered by its first outcome: not by a correction of it, nor by what
 * is no outcome of it at all. */
static void test_what_is_not_what_an_id_is_remembered_by(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct outcome outcome = confirmed();
        char device[COMMAND_NAME_MAX + 1], id[COMMAND_ID_MAX + 1], *payload = NULL;
        int64_t ts_ms;
        outcome.correction = i == 0;
        outcome.kind = i > 0 ? OUTCOME_REFUSED : OUTCOME_CONFIRMED;
        outcome.reason = i == 1 ? REASON_DUPLICATE : i == 2 ? REASON_MALFORMED : REASON_NOT_READY;
        char *line = outcome_json_audit(&outcome);
        assert_int_equal(outcome_json_parse_audit(line, device, id, &ts_ms, &payload), i == 3);
        free(payload);
        free(line);
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outcomes),
        cmocka_unit_test(test_a_failure_by_a_rule),
        cmocka_unit_test(test_an_outcome_of_what_could_not_be_parsed),
        cmocka_unit_test(test_a_refusal_has_a_hint),
        cmocka_unit_test(test_an_outcome_survives_any_text),
        cmocka_unit_test(test_what_the_audit_log_knows_leads_back_to_the_outcome),
        cmocka_unit_test(test_what_is_not_what_an_id_is_remembered_by),
        cmocka_unit_test(test_a_broken_audit_line_is_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
