/* last_outcomes: who decides what a battery does, and what is known after a restart. */
#include "bridge/commands/last_outcomes.h"

#include "tests/unit/given.h"
#include "tests/unit/late_state.h"
#include "two_devices.h"

static enum takeover takeover(enum command_author author, enum outcome_kind kind, bool correction)
{
    const struct device *battery = &conf.devices.devices[0];
    const struct outcome outcome = {
        .command = {.author = author, .placed = true, .point = (unsigned)battery->control.setpoint},
        .kind = kind,
        .correction = correction,
    };
    return takeover_by(battery, &outcome);
}

static void test_who_decides(void **state)
{
    (void)state;
    for (int kind = 0; kind < OUTCOME_COUNT; kind++) {
        const bool accepted =
            kind == OUTCOME_CONFIRMED || kind == OUTCOME_MISMATCH || kind == OUTCOME_UNKNOWN;
        assert_int_equal(takeover(AUTHOR_DEADMAN, (enum outcome_kind)kind, false), TAKEOVER_BEGINS);
        assert_int_equal(takeover(AUTHOR_EXIT, (enum outcome_kind)kind, false), TAKEOVER_STAYS);
        for (int author = 0; author <= AUTHOR_SCHEDULE; author++) {
            if (author == AUTHOR_DEADMAN || author == AUTHOR_EXIT)
                continue;
            assert_int_equal(takeover((enum command_author)author, (enum outcome_kind)kind, false),
                             accepted ? TAKEOVER_ENDS : TAKEOVER_STAYS);
        }
        assert_int_equal(takeover(AUTHOR_DISPATCHER, (enum outcome_kind)kind, true),
                         TAKEOVER_STAYS);
    }
}

static void test_only_the_setpoint_counts(void **state)
{
    const struct device *battery = &conf.devices.devices[0], *meter = &conf.devices.devices[1];
    struct outcome outcome = {.kind = OUTCOME_CONFIRMED, .command = {.placed = true}};
    (void)state;
    outcome.command.point = (unsigned)battery->control.setpoint;
    assert_int_equal(takeover_by(battery, &outcome), TAKEOVER_ENDS);
    assert_int_equal(takeover_by(meter, &outcome), TAKEOVER_STAYS);
    outcome.command.point++;
    assert_int_equal(takeover_by(battery, &outcome), TAKEOVER_STAYS);
    outcome.command.point--;
    outcome.command.placed = false; /* it names no point of the device */
    assert_int_equal(takeover_by(battery, &outcome), TAKEOVER_STAYS);
}

static void assert_last(struct last_outcomes *last, const char *payload, bool taken_over)
{
    bool taken;
    char *text = last_outcomes_get(last, 0, &taken);
    if (payload == NULL)
        assert_null(text);
    else
        assert_string_equal(text, payload);
    assert_int_equal(taken, taken_over);
    free(text);
}

static void test_a_restart(void **state)
{
    struct outbox *outbox = outbox_new(2, 4096, 4096);
    struct state *file = state_open("", NULL);
    struct last_outcomes *last = last_outcomes_new(&conf.devices, file, outbox);
    unsigned device = 0;
    (void)state;
    assert_last(last, NULL, false);
    assert_false(outbox_take_control(outbox, &device));
    last_outcomes_put(last, 0, "{\"id\":\"a\"}", TAKEOVER_BEGINS);
    last_outcomes_put(last, 0, "{\"id\":\"b\"}", TAKEOVER_STAYS);
    assert_last(last, "{\"id\":\"b\"}", true);
    assert_true(outbox_take_control(outbox, &device));
    assert_int_equal(device, 0);
    assert_false(outbox_take_control(outbox, &device)); /* once */
    last_outcomes_free(last);

    last = last_outcomes_new(&conf.devices, file, outbox);
    assert_last(last, "{\"id\":\"b\"}", true);
    last_outcomes_put(last, 0, "{\"id\":\"c\"}", TAKEOVER_ENDS);
    last_outcomes_free(last);
    last = last_outcomes_new(&conf.devices, file, outbox);
    assert_last(last, "{\"id\":\"c\"}", false);
    last_outcomes_free(last);

    (void)state_put(file, "outcome/b1", "nobody has written this");
    last = last_outcomes_new(&conf.devices, file, outbox);
    assert_last(last, NULL, false);
    last_outcomes_free(last);
    state_close(file);
    outbox_free(outbox);
}

/* What was put meanwhile is newer, but for who decides, when it says nothing of that. */
static void test_a_state_that_comes_late(void **state)
{
    struct outbox *outbox = outbox_new(2, 4096, 4096);
    assert_int_equal(given_directory(state), 0);
    struct state *file = given_late_state("outcome/b1", "taken-over {\"id\":\"old\"}");
    struct last_outcomes *last = last_outcomes_new(&conf.devices, file, outbox);
    struct last_outcomes *stays = last_outcomes_new(&conf.devices, file, outbox);
    struct last_outcomes *ends = last_outcomes_new(&conf.devices, file, outbox);
    last_outcomes_put(stays, 0, "{\"id\":\"new\"}", TAKEOVER_STAYS);
    last_outcomes_put(ends, 0, "{\"id\":\"new\"}", TAKEOVER_ENDS);
    assert_last(last, NULL, false);
    assert_last(stays, "{\"id\":\"new\"}", false);
    wait_late_state(file);
    assert_last(last, "{\"id\":\"old\"}", true);
    assert_last(stays, "{\"id\":\"new\"}", true);
    last_outcomes_free(last);
    last_outcomes_free(stays);
    last = last_outcomes_new(&conf.devices, file, outbox); /* it is kept, too */
    assert_last(last, "{\"id\":\"new\"}", true);
    assert_last(ends, "{\"id\":\"new\"}", false);
    last_outcomes_free(last);
    last_outcomes_free(ends);
    state_close(file);
    outbox_free(outbox);
    assert_int_equal(remove_directory(state), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_decides),
        cmocka_unit_test(test_only_the_setpoint_counts),
        cmocka_unit_test(test_a_restart),
        cmocka_unit_test(test_a_state_that_comes_late),
    };
    return cmocka_run_group_tests(tests, read_site, free_site);
}
