/* subscriber: a schedule goes to its poller, or is refused for what is wrong with it. */
#include "subscriber_stage.h"

/* ---- schedules ---- */

#define SCHEDULE "flux/demo/Site-BESS-01/schedule/set"

static const char *schedule_of(const char *more, const char *entries)
{
    static char payload[2000];
    snprintf(payload, sizeof payload,
             "{\"id\":\"day\",\"revision\":7,\"valid_until\":%lld,\"entries\":[%s]%s}",
             (long long)clock_utc_ms() + 100000, entries, more);
    return payload;
}

static void test_a_schedule_goes_to_its_poller(void **state)
{
    (void)state;
    stage_begin("");
    /* An id that a command has, too. */
    ask("day", 50);
    const struct command order = take();
    send_to(SCHEDULE, schedule_of("", "{\"start\":1,\"end\":2,\"value\":250}"));
    struct command offer = take();
    assert_true(offer.offers);
    assert_int_equal(offer.device, 0);
    assert_int_equal(offer.revision, 7);
    assert_int_equal(offer.timetable->n, 1);
    schedule_json_free(offer.timetable);
    offer.timetable = NULL;
    tell(&offer, OUTCOME_ACCEPTED);
    wait_answers(1);
    assert_answer(0, "day", "accepted", "");
    assert_string_equal(text_of(0, "point"), "schedule");
    assert_int_equal(json_integer_value(json_object_get(stage.answers[0].json, "revision")), 7);
    assert_string_equal(stage.answers[0].topic, "flux/demo/Site-BESS-01/result");
    /* The command of that id is still under way, and a schedule is no command's outcome. */
    ask("day", 50);
    wait_answers(2);
    assert_answer(1, "day", "refused", "duplicate");
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(3);
    assert_answer(2, "day", "confirmed", "");
    assert_no_more(3);
    stage_end();
}

static void test_a_schedules_refusals(void **state)
{
    (void)state;
    const struct {
        const char *topic, *more, *entries, *reason;
        bool retained, too_large, unrecorded, unsynchronised;
    } rows[] = {
        {SCHEDULE, "", "7", "retained", .retained = true},
        {SCHEDULE, "", "", "too_large", .too_large = true},
        {SCHEDULE, "", "7", "malformed", .unrecorded = true},
        {SCHEDULE, ",\"x\":1", "", "malformed", .unrecorded = true},
        {SCHEDULE, "", "{\"start\":1,\"end\":3,\"value\":1},{\"start\":2,\"end\":4,\"value\":1}",
         "overlap", .unrecorded = true},
        {"flux/demo/nobody/schedule/set", "", "", "unknown_device", .unrecorded = true},
        {"flux/demo/Grid-Meter/schedule/set", "", "", "not_writable", .unrecorded = true},
        {SCHEDULE, ",\"issued_at\":9000000000000", "", "future_dated", .unrecorded = true},
        {SCHEDULE, ",\"valid_until\":1763791200000", "", "malformed",
         .unrecorded = false}, /* twice */
        {SCHEDULE, "", "", "audit_unavailable", .unrecorded = true, .unsynchronised = true},
        {SCHEDULE, "", "{\"start\":1,\"end\":2,\"value\":251}", "clock_unsynchronised",
         .unsynchronised = true},
        {SCHEDULE, "", "{\"start\":1,\"end\":2,\"value\":1},{\"start\":2,\"end\":3,\"value\":251}",
         "out_of_range", .retained = false},
        {SCHEDULE, "", "{\"start\":1,\"end\":2,\"value\":1.5}", "off_step", .retained = false},
    };
    stage_begin("");
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct inbox_message message =
            message_of(rows[i].topic, schedule_of(rows[i].more, rows[i].entries));
        message.retained = rows[i].retained;
        message.too_large = rows[i].too_large;
        pthread_mutex_lock(&stage.mutex);
        stage.audit_unavailable = rows[i].unrecorded;
        pthread_mutex_unlock(&stage.mutex);
        stage.health.unsynchronised_ns =
            rows[i].unsynchronised ? message.mono_ns - 3600 * CLOCK_NS_PER_S : 0;
        send_message(&message);
        wait_answers(i + 1);
        if (strcmp(text_of(i, "reason"), rows[i].reason) != 0)
            fail_msg("%u: %s", i, stage.answers[i].payload);
        assert_string_equal(text_of(i, "outcome"), "refused");
        assert_string_equal(text_of(i, "point"), "schedule");
    }
    stage.audit_unavailable = false;
    send_to(SCHEDULE, "{\"id\":\"day\",\"revision\":7,\"valid_until\":1763791200,"
                      "\"entries\":[]}");
    wait_answers(sizeof rows / sizeof *rows + 1);
    assert_answer(sizeof rows / sizeof *rows, "day", "refused", "expired");
    assert_non_null(strstr(text_of(sizeof rows / sizeof *rows, "detail"), "looks like seconds"));
    assert_no_more(sizeof rows / sizeof *rows + 1);
    stage_end();
}

/* What nobody takes any more is answered and freed. */
static void test_schedules_that_a_stop_takes_the_place_of(void **state)
{
    (void)state;
    stage_begin("");
    for (int i = 0; i < MAILBOX_COMMANDS; i++)
        send_to(SCHEDULE, schedule_of("", ""));
    send_to(SCHEDULE, schedule_of("", ""));
    wait_answers(1);
    assert_answer(0, "day", "refused", "rate_limited");
    for (int i = 0; i <= MAILBOX_PLACES - MAILBOX_COMMANDS; i++) {
        char id[16];
        snprintf(id, sizeof id, "stop-%d", i);
        ask(id, 0);
    }
    wait_answers(2);
    assert_answer(1, "day", "superseded", "");
    stage_end(); /* the others with the mailbox */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_schedule_goes_to_its_poller),
        cmocka_unit_test(test_a_schedules_refusals),
        cmocka_unit_test(test_schedules_that_a_stop_takes_the_place_of),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
