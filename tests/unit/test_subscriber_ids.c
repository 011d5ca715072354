/* subscriber: an id that had its outcome is answered with it again, across runs too. */
#include "subscriber_stage.h"

/* ---- the same id again ---- */

static void test_a_repeated_id_is_not_executed_again(void **state)
{
    (void)state;
    stage_begin("");
    ask("d-1", 50);
    struct command order = take();
    ask("d-1", 60); /* still under way */
    wait_answers(1);
    assert_answer(0, "d-1", "refused", "duplicate");
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    ask("d-1", 70);
    wait_answers(3);
    /* The first outcome, marked. */
    assert_string_equal(text_of(2, "outcome"), "confirmed");
    assert_true(json_is_true(json_object_get(stage.answers[2].json, "duplicate")));
    assert_int_equal(json_integer_value(json_object_get(stage.answers[2].json, "value")), 50);
    /* Zero is no exception, and a refused id is used up as well. */
    ask("d-1", 0);
    ask("d-2", 251);
    ask("d-2", 50);
    wait_answers(6);
    assert_true(json_is_true(json_object_get(stage.answers[3].json, "duplicate")));
    assert_answer(5, "d-2", "refused", "out_of_range");
    assert_true(json_is_true(json_object_get(stage.answers[5].json, "duplicate")));
    assert_no_more(6);
    stage_end();
}

/* Neither is what its id is remembered by: it may come again, put right. */
static void test_what_is_no_outcome_of_its_id(void **state)
{
    (void)state;
    stage_begin("");
    send_to(SETPOINT, "{\"id\":\"d-1\",\"value\":\"fifty\"}");
    wait_answers(1);
    assert_answer(0, "d-1", "refused", "malformed"); /* whose it is, is told */
    ask("d-1", 50);
    struct command order = take();
    ask("d-1", 50);
    wait_answers(2);
    assert_answer(1, "d-1", "refused", "duplicate"); /* no outcome of it either */
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(3);
    assert_answer(2, "d-1", "confirmed", "");
    ask("d-1", 50);
    wait_answers(4);
    assert_answer(3, "d-1", "confirmed", "");
    assert_true(json_is_true(json_object_get(stage.answers[3].json, "duplicate")));
    assert_no_more(4);
    stage_end();
}

/* While its id is under way somebody sends it retained, or to another point: what is said of
 * that is not what came of it. */
static void test_what_is_refused_aside_is_no_outcome_of_its_id(void **state)
{
    (void)state;
    struct inbox_message retained = message_of(SETPOINT, "{\"id\":\"d-1\",\"value\":50}");
    retained.retained = true;
    stage_begin("");
    ask("d-1", 50);
    struct command order = take();
    send_message(&retained);
    send_to("flux/demo/Site-BESS-01/set/nowhere", "{\"id\":\"d-1\",\"value\":50}");
    ask("d-1", 50);
    wait_answers(3);
    assert_answer(0, "d-1", "refused", "retained");
    assert_answer(1, "d-1", "refused", "unknown_point");
    assert_answer(2, "d-1", "refused", "duplicate");
    tell(&order, OUTCOME_CONFIRMED);
    ask("d-1", 50);
    wait_answers(5);
    assert_answer(3, "d-1", "confirmed", "");
    assert_answer(4, "d-1", "confirmed", "");
    assert_true(json_is_true(json_object_get(stage.answers[4].json, "duplicate")));
    send_message(&retained);
    wait_answers(6);
    ask("d-1", 50);
    wait_answers(7);
    assert_answer(6, "d-1", "confirmed", "");
    assert_no_more(7);
    stage_end();
}

/* Nor is it after a restart. */
static void test_what_was_refused_aside_in_an_earlier_run(void **state)
{
    (void)state;
    const char *const lines[] = {
        "{\"id\":\"old\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\",\"value\":1,"
        "\"outcome\":\"refused\",\"reason\":\"retained\",\"ts\":1763791200000,\"received\":1}",
        "{\"id\":\"old\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\",\"value\":1,"
        "\"outcome\":\"confirmed\",\"ts\":1763791200100,\"latency_ms\":1.0,\"received\":1}",
        NULL,
    };
    stage_open("");
    stage.replayed = lines;
    stage_start();
    ask("old", 50);
    wait_answers(1);
    assert_answer(0, "old", "confirmed", "");
    assert_no_more(1);
    stage_end();
}

/* Under way at the same time, answered each, and remembered each for itself. */
static void test_the_same_id_on_two_devices_is_two_commands(void **state)
{
    (void)state;
    static const char other[] = "flux/demo/Site-BESS-02/set/target_power";
    stage_begin("");
    ask("d-1", 50);
    struct command first = take();
    send_to(other, "{\"id\":\"d-1\",\"value\":60}");
    struct command second = take();
    assert_int_equal(first.device, 0);
    assert_int_equal(second.device, 1);
    tell(&second, OUTCOME_MISMATCH);
    wait_answers(1);
    ask("d-1", 50); /* the first is under way all the same */
    wait_answers(2);
    assert_answer(1, "d-1", "refused", "duplicate");
    tell(&first, OUTCOME_CONFIRMED);
    wait_answers(3);
    assert_string_equal(text_of(0, "device"), "Site-BESS-02");
    assert_string_equal(text_of(2, "device"), "Site-BESS-01");
    ask("d-1", 50);
    send_to(other, "{\"id\":\"d-1\",\"value\":60}");
    wait_answers(5);
    assert_answer(3, "d-1", "confirmed", "");
    assert_answer(4, "d-1", "mismatch", "");
    assert_no_more(5);
    stage_end();
}

static void test_an_id_of_an_earlier_run_is_known(void **state)
{
    (void)state;
    const char *const lines[] = {
        "{\"id\":\"old\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\",\"value\":1,"
        "\"outcome\":\"confirmed\",\"ts\":1763791200000,\"latency_ms\":1.0,\"received\":1}",
        "{\"id\":\"old\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\",\"value\":1,"
        "\"outcome\":\"mismatch\",\"ts\":1763791200500,\"latency_ms\":1.0,\"received\":1,"
        "\"correction\":true}",
        "{\"id\":\"twice\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\",\"value\":1,"
        "\"outcome\":\"refused\",\"reason\":\"duplicate\",\"ts\":1763791200500,\"received\":1}",
        "no JSON",
        "{\"id\":\"other\",\"device\":\"gone\",\"outcome\":\"confirmed\",\"ts\":1763791200000}",
        NULL,
    };
    stage_open("");
    stage.replayed = lines;
    stage_start();
    ask("old", 50);
    wait_answers(1);
    assert_answer(0, "old", "confirmed", ""); /* its first outcome */
    assert_true(json_is_true(json_object_get(stage.answers[0].json, "duplicate")));
    const char *const others[] = {"other", "twice"}; /* of another device; none at all */
    for (unsigned i = 0; i < 2; i++) {
        ask(others[i], 50);
        struct command order = take();
        tell(&order, OUTCOME_CONFIRMED);
        wait_answers(2 + i);
        assert_answer(1 + i, others[i], "confirmed", "");
    }
    assert_no_more(3);
    stage_end();
}

/* Written before the clock was set back: it is no younger than what follows it. */
static void test_a_line_of_the_future_is_as_old_as_the_next(void **state)
{
    (void)state;
    enum { LINES = ANSWERED_LAST + 1 };
    static char text[LINES][160];
    static const char *lines[LINES + 1];
    for (unsigned i = 0; i < LINES; i++) {
        snprintf(text[i], sizeof text[i],
                 "{\"id\":\"n-%u\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\","
                 "\"value\":1,\"outcome\":\"confirmed\",\"ts\":%lld}",
                 i,
                 i == 0           ? 9000000000000LL
                 : i == LINES - 1 ? (long long)clock_utc_ms()
                                  : 1763791200000LL);
        lines[i] = text[i];
    }
    stage_open("");
    stage.replayed = lines;
    stage_start();
    ask("n-0", 50); /* not among the last thousand, and not of the last minutes */
    struct command order = take();
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(1);
    assert_null(json_object_get(stage.answers[0].json, "duplicate"));
    ask("n-1000", 50);
    wait_answers(2);
    assert_true(json_is_true(json_object_get(stage.answers[1].json, "duplicate")));
    stage_end();
}

/* With nothing behind it nobody knows how old it is: it counts as new. */
static void test_a_last_line_of_the_future_is_known(void **state)
{
    (void)state;
    const char *const lines[] = {
        "{\"id\":\"next\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\",\"value\":1,"
        "\"outcome\":\"confirmed\",\"ts\":9000000000000}",
        "{\"id\":\"last\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\",\"value\":1,"
        "\"outcome\":\"confirmed\",\"ts\":9223372036854775807}",
        "{\"id\":\"never\",\"device\":\"Site-BESS-01\",\"point\":\"target_power\",\"value\":1,"
        "\"outcome\":\"confirmed\",\"ts\":-9223372036854775808}",
        NULL,
    };
    static const char *const ids[] = {"next", "last", "never"};
    stage_open("");
    stage.replayed = lines;
    stage_start();
    for (unsigned i = 0; i < 3; i++) {
        ask(ids[i], 50);
        wait_answers(i + 1);
        assert_true(json_is_true(json_object_get(stage.answers[i].json, "duplicate")));
    }
    stage_end();
}

static void test_a_later_poll_corrects_an_unknown_outcome(void **state)
{
    (void)state;
    stage_begin("");
    ask("d-1", 50);
    struct command order = take();
    tell(&order, OUTCOME_UNKNOWN);
    wait_answers(1);
    inbox_put_outcome(stage.inbox, &(struct outcome){.command = order,
                                                     .kind = OUTCOME_CONFIRMED,
                                                     .correction = true,
                                                     .has_readback = true,
                                                     .readback = 50,
                                                     .written_ns = 1,
                                                     .done_ns = clock_mono_ns()});
    wait_answers(2);
    assert_answer(0, "d-1", "unknown", "");
    assert_answer(1, "d-1", "confirmed", "");
    assert_true(json_is_true(json_object_get(stage.answers[1].json, "correction")));
    assert_int_equal(stage.health.outcomes[OUTCOME_CONFIRMED], 0); /* one command, one count */
    ask("d-1", 50); /* the first outcome is what it is remembered by */
    wait_answers(3);
    assert_answer(2, "d-1", "unknown", "");
    assert_no_more(3);
    stage_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_repeated_id_is_not_executed_again),
        cmocka_unit_test(test_what_is_no_outcome_of_its_id),
        cmocka_unit_test(test_what_is_refused_aside_is_no_outcome_of_its_id),
        cmocka_unit_test(test_what_was_refused_aside_in_an_earlier_run),
        cmocka_unit_test(test_the_same_id_on_two_devices_is_two_commands),
        cmocka_unit_test(test_an_id_of_an_earlier_run_is_known),
        cmocka_unit_test(test_a_line_of_the_future_is_as_old_as_the_next),
        cmocka_unit_test(test_a_last_line_of_the_future_is_known),
        cmocka_unit_test(test_a_later_poll_corrects_an_unknown_outcome),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
