/* status_json: what the bridge says of itself and its devices. */
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

#include "bridge/base/log.h"
#include "bridge/wire/status_json.h"
#include "two_devices.h"

static void test_documents(void **state)
{
    (void)state;
    strcpy(conf.sha256, "9f2c");
    char *text = status_json_bridge(&conf, "5f3a9c1e", 1763791200000);
    assert_string_equal(text, "{\"version\":\"" FLUXBRIDGE_VERSION
                              "\",\"site\":\"demo\",\"run\":\"5f3a9c1e\",\"started\":1763791200000,"
                              "\"config_sha256\":\"9f2c\",\"devices\":[\"Site-BESS-01\",\"Grid-"
                              "Meter\"],\"ids\":[\"b1\",\"m1\"]}");
    free(text);

    text = status_json_device(&conf.devices.devices[0]);
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

    struct device read_only = conf.devices.devices[0];
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
    struct outbox_depth depth = {
        .backlog = 5, .dropped = 6, .set_aside = 7, .waiting = 9, .oldest_ms = 61999};
    health.set_aside = 1;
    health.not_told = 17;
    health.samples = 1000;
    health.samples_bad = 3;
    health.commands = 4;
    health.outcomes[OUTCOME_CONFIRMED] = 1;
    health.outcomes[OUTCOME_REFUSED] = 3;
    health.refusals[REASON_SOE_LOW] = 2;
    health.refusals[REASON_RETAINED] = 1;
    uint64_t drops[16] = {0, 4};
    assert_true(health_init(&health, conf.devices.n_devices));
    health.devices[0].schedule = 8; /* revision 7 */
    assert_true(conf.devices.n_devices >= 2 && conf.devices.n_devices <= 16);
    char *text = status_json_health(&conf, &health, &depth, drops, 1763791200000, 90061);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const char *const numbers[] = {"ts",        "uptime_s",        "samples",     "samples_bad",
                                   "publishes", "drops",           "spool_depth", "reconnects",
                                   "set_aside", "sparkplug_drops", "log_lost"};
    const json_int_t expected[] = {1763791200000, 90, 1000, 3, 0, 6, 5, 0, 8, 17, 0};
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
    json_t *schedules = json_object_get(json, "schedules");
    assert_int_equal(json_object_size(schedules), 1);
    assert_int_equal(json_integer_value(json_object_get(schedules, conf.devices.devices[0].name)),
                     7);
    assert_string_equal(json_string_value(json_object_get(json, "clock")), "synchronised");
    assert_int_equal(json_integer_value(json_object_get(json, "oldest_unacked_s")), 61);
    assert_true(json_is_null(json_object_get(json, "certificate_days")));
    assert_true(json_is_null(json_object_get(json, "last_error")));
    json_decref(json);
    free(text);
    health.unsynchronised_ns = 1;
    health.certificate_end_ms = 1763791200000 - 1; /* today */
    log_error("it is %s", "broken");
    text = status_json_health(&conf, &health, &depth, drops, 1763791200000, 90061);
    assert_non_null(strstr(text, "\"clock\":\"unsynchronised\""));
    assert_non_null(strstr(text, "\"certificate_days\":-1"));
    assert_non_null(strstr(text, "\"last_error\":\"it is broken\""));
    free(text);
    health_free(&health);
}

static void assert_control(struct lease lease, bool taken_over, const char *last,
                           const char *expected)
{
    char *text = status_json_control(&lease, 2000000000, 1763791200000, taken_over, last);
    assert_string_equal(text, expected);
    free(text);
}

static void test_control(void **state)
{
    (void)state;
    assert_control((struct lease){.value = 50, .end_ns = 1}, false, NULL,
                   "{\"lease\":null,\"taken_over\":false,\"last\":null}");
    assert_control((struct lease){.runs = true, .value = 50, .end_ns = 62123000000}, false,
                   "{\"id\":\"d-1\"}",
                   "{\"lease\":{\"value\":50,\"until\":1763791260123},\"taken_over\":false,"
                   "\"last\":{\"id\":\"d-1\"}}");
    /* It is over and not replaced yet; what it is of is not known after a restart. */
    assert_control((struct lease){.runs = true, .value = NAN, .end_ns = 1000000000}, true,
                   "no JSON",
                   "{\"lease\":{\"value\":null,\"until\":1763791199000},\"taken_over\":true,"
                   "\"last\":null}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_control),
        cmocka_unit_test(test_health),
    };
    return cmocka_run_group_tests(tests, read_site, free_site);
}
