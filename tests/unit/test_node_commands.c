/* node_commands: what of a Sparkplug host's DCMD is put into the inbox. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/publish/node_commands.h"
#include "two_devices.h"

enum { WISHES_MAX = 4 };

static struct stage {
    struct births *births;
    struct inbox *inbox;
    struct node_commands commands;
    struct sparkplug_value values[WISHES_MAX];
    struct sparkplug_metric metrics[WISHES_MAX];
    unsigned n;
} stage;

static void begin(void)
{
    memset(&stage, 0, sizeof stage);
    stage.births = births_new(&conf);
    stage.inbox = inbox_new();
    assert_true(stage.births != NULL && stage.inbox != NULL);
    stage.commands =
        (struct node_commands){.conf = &conf, .births = stage.births, .inbox = stage.inbox};
}

static void end(void)
{
    births_free(stage.births);
    inbox_free(stage.inbox);
}

static struct sparkplug_value *wish(const char *name, uint64_t alias, enum sparkplug_type type)
{
    const unsigned i = stage.n++;
    stage.metrics[i] = (struct sparkplug_metric){.name = name,
                                                 .alias = alias,
                                                 .ts_ms = 1763791200000 + i,
                                                 .type = type,
                                                 .value = &stage.values[i],
                                                 .quality = SPARKPLUG_NO_QUALITY};
    return &stage.values[i];
}

/* All of these in one message; whether it was taken. */
static bool send(void)
{
    size_t size;
    void *bytes = sparkplug_encode(1763791200000, -1, stage.metrics, stage.n, &size);
    const struct mqtt_arrival arrival = {
        .topic = "spBv1.0/flux/DCMD/demo/Site-BESS-01", .payload = bytes, .payload_size = size};
    assert_non_null(bytes);
    const bool taken = node_commands_take(&stage.commands, &arrival);
    free(bytes);
    return taken;
}

static bool take(struct command *command)
{
    static struct inbox_message message;
    static struct outcome outcome;
    const bool found = inbox_take(stage.inbox, 0, &message, &outcome) == INBOX_COMMAND;
    *command = outcome.command;
    return found;
}

static uint64_t alias_of(const char *name)
{
    const int point = device_find_point(&conf.devices.devices[0], name);
    uint64_t alias = 1;
    while (births_find(stage.births, 0, alias, "") != point)
        alias++;
    return alias;
}

/* An alias of an earlier birth may be another metric's by now: the name says what is meant. */
static void test_the_name_counts_and_without_one_the_alias(void **state)
{
    (void)state;
    struct command command;
    begin();
    const uint64_t alias = alias_of("command_source");
    wish("target_power", alias, SPARKPLUG_DOUBLE)->number = 50;
    wish(NULL, alias, SPARKPLUG_DOUBLE)->number = 3;
    wish("target_power", 9999, SPARKPLUG_DOUBLE)->number = 20;
    wish("nothing", alias, SPARKPLUG_DOUBLE)->number = 7;
    assert_true(send());
    const char *const points[] = {"target_power", "command_source", "target_power", "nothing"};
    const double numbers[] = {50, 3, 20, 7};
    for (unsigned i = 0; i < 4; i++) {
        assert_true(take(&command));
        assert_string_equal(command.point_name, points[i]);
        assert_true(command.has_value && command.value == numbers[i]);
    }
    assert_false(take(&command));
    end();
}

/* `true` is no kilowatt. */
static void test_a_flag_is_no_power(void **state)
{
    (void)state;
    struct command command;
    begin();
    wish("target_power", 0, SPARKPLUG_BOOLEAN)->integer = 1;
    assert_true(send());
    assert_true(take(&command));
    assert_false(command.has_value);
    end();
}

/* The inbox is full in the middle of a message, and the session ends on it: of the next one
 * nothing is passed over. */
static void test_a_message_that_was_taken_half(void **state)
{
    (void)state;
    struct command command = {.flaw = REASON_NONE};
    begin();
    while (inbox_put_command(stage.inbox, &command))
        ;
    assert_true(take(&command)); /* room for one */
    for (int i = 0; i < 3; i++)
        wish("target_power", 0, SPARKPLUG_DOUBLE)->number = 10 + i;
    assert_false(send());
    while (take(&command))
        ;
    assert_true(command.value == 10);
    if (*state == NULL) { /* it is offered again */
        assert_true(send());
        for (int i = 1; i < 3; i++)
            assert_true(take(&command) && command.value == 10 + i);
    }
    assert_false(take(&command));
    node_commands_begin(&stage.commands);
    stage.n = 0;
    wish("target_power", 0, SPARKPLUG_DOUBLE)->number = 0;
    assert_true(send());
    assert_true(take(&command) && command.value == 0);
    assert_false(take(&command));
    end();
}

int main(void)
{
    static int lost;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_name_counts_and_without_one_the_alias),
        cmocka_unit_test(test_a_flag_is_no_power),
        cmocka_unit_test(test_a_message_that_was_taken_half),
        cmocka_unit_test_prestate(test_a_message_that_was_taken_half, &lost),
    };
    return cmocka_run_group_tests(tests, read_site, free_site);
}
