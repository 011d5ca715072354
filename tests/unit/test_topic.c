/* topic: the names under which the bridge speaks and listens; from anybody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/wire/topic.h"
#include "two_devices.h"

static void test_topics(void **state)
{
    (void)state;
    char topic[TOPIC_MAX + 1];
    assert_true(topic_make(topic, &conf, "Site-BESS-01", "state"));
    assert_string_equal(topic, "flux/demo/Site-BESS-01/state");
    assert_true(topic_command_filter(topic, &conf));
    assert_string_equal(topic, "flux/demo/+/set/#");
    assert_true(topic_schedule_filter(topic, &conf));
    assert_string_equal(topic, "flux/demo/+/schedule/set");

    char node[TOPIC_MAX + 1];
    memset(node, 'n', TOPIC_MAX);
    node[TOPIC_MAX] = '\0';
    assert_false(topic_make(topic, &conf, node, "state"));
    assert_true(strlen(topic) <= TOPIC_MAX);
    size_t frame = strlen("flux/demo//state");
    node[TOPIC_MAX - frame] = '\0';
    assert_true(topic_make(topic, &conf, node, "state"));
    assert_int_equal(strlen(topic), TOPIC_MAX);
    node[TOPIC_MAX - frame] = 'n';
    for (size_t more = 1; more <= sizeof("/state"); more++) { /* cut at each of these */
        node[TOPIC_MAX - frame + more] = '\0';
        assert_false(topic_make(topic, &conf, node, "state"));
        assert_int_equal(strlen(topic), TOPIC_MAX);
        assert_memory_equal(topic, "flux/demo/nnn", 13);
        node[TOPIC_MAX - frame + more] = 'n';
    }
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

static void test_schedule_topics(void **state)
{
    (void)state;
    const struct {
        const char *topic;
        enum topic_kind kind;
    } rows[] = {
        {"flux/demo/Site-BESS-01/schedule/set", TOPIC_SCHEDULE},
        {"flux/demo/+/schedule/set", TOPIC_SCHEDULE}, /* the filter */
        {"flux/demo/a/schedule", TOPIC_NONE},
        {"flux/demo/a/schedule/set/", TOPIC_NONE},
        {"flux/demo/a/schedule/set/x", TOPIC_NONE},
        {"flux/demo/a/schedules/set", TOPIC_NONE},
        {"flux/demo/a/set/schedule", TOPIC_COMMAND},
        {"flux/demo/a/set/schedule/set", TOPIC_COMMAND},
        {"flux/demo/schedule/set", TOPIC_COMMAND}, /* a device of that name */
        {"flux/demo/schedule/set/x", TOPIC_COMMAND},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char device[TOPIC_MAX + 1] = "", point[TOPIC_MAX + 1] = "";
        assert_int_equal(topic_parse(&conf, rows[i].topic, device, point), rows[i].kind);
        if (rows[i].kind == TOPIC_SCHEDULE)
            assert_string_equal(point, "schedule");
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

static void test_outcomes_go_nowhere_the_bridge_speaks(void **state)
{
    static const struct {
        const char *topic;
        bool may;
    } cases[] = {
        {"reply/dispatch-a", true},
        {"fluxes/demo/x", true},
        {"flux", false},
        {"flux/", false},
        {"flux/demo2/x", false}, /* another bridge's */
        {"flux/demo/bridge/status", false},
        {"flux/demo/nobody/set/target_power", false},
        {"$SYS/x", false},
        {"$share/a/b", false},
        {"", false},
        {"homeassistant", false},
        {"homeassistant/device/x/config", false}, /* whether discovery is on or not */
        {"homeassistants/x", true},
        {"spBv1.0/group/NCMD/node", false},
        {"spBv1.0", false},
        {"spBv1.01/x", true},
    };
    struct conf site = {.site = "demo", .ha_enabled = false};
    (void)state;
    strcpy(site.mqtt.prefix, "flux");
    strcpy(site.ha_prefix, "homeassistant");
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_int_equal(topic_may_answer(&site, cases[i].topic), cases[i].may);
}

/* 201 of them are a protocol error to mosquitto, which ends the session. */
static void test_an_answer_has_at_most_32_levels(void **state)
{
    char topic[TOPIC_MAX + 1] = "a";
    struct conf site = {.site = "demo"};
    (void)state;
    strcpy(site.mqtt.prefix, "flux");
    strcpy(site.ha_prefix, "homeassistant");
    for (unsigned levels = 1; levels < 202; levels++, strcat(topic, "/b"))
        assert_int_equal(topic_may_answer(&site, topic), levels <= 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topics),
        cmocka_unit_test(test_command_topics),
        cmocka_unit_test(test_schedule_topics),
        cmocka_unit_test(test_a_topic_longer_than_any),
        cmocka_unit_test(test_outcomes_go_nowhere_the_bridge_speaks),
        cmocka_unit_test(test_an_answer_has_at_most_32_levels),
    };
    return cmocka_run_group_tests(tests, read_site, free_site);
}
