/* subscriber: every command has exactly one outcome, whatever comes in between. */
#include "subscriber_stage.h"

/* ---- there and back ---- */

static void test_a_command_goes_to_its_poller_and_comes_back(void **state)
{
    (void)state;
    stage_begin("");
    struct inbox_message message = message_of(
        SETPOINT, "{\"id\":\"d-1\",\"value\":50.0,\"issued_at\":1763791200000,\"ttl_s\":5,"
                  "\"source\":\"dispatch-a\"}");
    message.utc_ms = 1763791201000;
    strcpy(message.address.response_topic, "dispatch/answers");
    message.address.correlation_size = 3;
    memcpy(message.address.correlation, "a\0b", 3);
    strcpy(message.user_source, "gateway");
    send_message(&message);

    struct command order = take();
    assert_int_equal(order.device, 0);
    assert_int_equal(order.point, stage.conf.devices.devices[0].control.setpoint);
    assert_true(order.value == 50.0);
    assert_int_equal(order.expires_ns, message.mono_ns + 4 * CLOCK_NS_PER_S);
    assert_int_equal(order.author, AUTHOR_DISPATCHER);
    assert_false(order.stop);
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(1);
    assert_answer(0, "d-1", "confirmed", "");
    const struct answer *answer = &stage.answers[0];
    assert_string_equal(answer->topic, "flux/demo/Site-BESS-01/result");
    assert_string_equal(answer->response_topic, "dispatch/answers");
    assert_int_equal(answer->correlation_size, 3);
    assert_memory_equal(answer->correlation, "a\0b", 3);
    assert_string_equal(text_of(0, "source"), "dispatch-a");
    assert_true(json_number_value(json_object_get(answer->json, "readback")) == 50.0);
    assert_true(json_integer_value(json_object_get(answer->json, "ts")) >= message.utc_ms);
    assert_non_null(strstr(answer->line, "\"user_source\":\"gateway\""));
    assert_null(strstr(answer->payload, "gateway"));
    assert_no_more(1);
    assert_int_equal(stage.health.commands, 2);
    assert_int_equal(stage.health.outcomes[OUTCOME_CONFIRMED], 1);
    stage_end();
}

static void test_what_a_poller_tells_is_one_outcome(void **state)
{
    (void)state;
    const struct {
        enum outcome_kind outcome;
        const char *word;
    } rows[] = {{OUTCOME_CONFIRMED, "confirmed"}, {OUTCOME_MISMATCH, "mismatch"},
                {OUTCOME_FAILED, "failed"},       {OUTCOME_REFUSED, "refused"},
                {OUTCOME_UNKNOWN, "unknown"},     {OUTCOME_CONFIRMED, "confirmed"}};
    const unsigned n = sizeof rows / sizeof *rows;
    stage_begin("");
    for (unsigned i = 0; i < n; i++) {
        char id[8];
        snprintf(id, sizeof id, "d-%u", i);
        ask(id, 50);
        struct command order = take();
        tell(&order, rows[i].outcome);
        wait_answers(i + 1);
        assert_string_equal(text_of(i, "id"), id);
        assert_string_equal(text_of(i, "outcome"), rows[i].word);
    }
    assert_no_more(n);
    stage_end();
}

/* ---- refused on arrival ---- */

static void test_every_refusal_is_one_outcome_and_no_order(void **state)
{
    (void)state;
    const char *const good = "{\"id\":\"d\",\"value\":50}";
    const struct {
        const char *topic, *payload, *reason;
        bool retained, too_large, has_id, parsed;
    } rows[] = {
        {SETPOINT, good, "retained", true, false, true, true},
        {SETPOINT, good, "too_large", false, true, false, false},
        {SETPOINT, "{\"id\":\"d\"}", "malformed", false, false, true, false},
        {SETPOINT, "50", "malformed", false, false, false, false},
        {SETPOINT, "", "malformed", false, false, false, false},
        {"flux/demo/nobody/set/target_power", good, "unknown_device", false, false, true, true},
        {"flux/demo/site-bess-01/set/target_power", good, "unknown_device", false, false, true,
         true},
        {"flux/demo/bridge/set/target_power", good, "unknown_device", false, false, true, true},
        {"flux/demo//set/target_power", good, "unknown_device", false, false, true, true},
        {"flux/demo/Site-BESS-01/set/nothing", good, "unknown_point", false, false, true, true},
        {"flux/demo/Site-BESS-01/set/", good, "unknown_point", false, false, true, true},
        {"flux/demo/Site-BESS-01/set/target_power/x", good, "unknown_point", false, false, true,
         true},
        {"flux/demo/Site-BESS-01/set/soe", good, "not_writable", false, false, true, true},
        {"flux/demo/Grid-Meter/set/voltage_l1_n", good, "not_writable", false, false, true, true},
        {SETPOINT, "{\"id\":\"e\",\"value\":1,\"issued_at\":1000,\"ttl_s\":5}", "expired", false,
         false, true, true},
        {SETPOINT, "{\"id\":\"f\",\"value\":1,\"issued_at\":8999999999999,\"ttl_s\":5}",
         "future_dated", false, false, true, true},
        {SETPOINT, "{\"id\":\"g\",\"value\":251}", "out_of_range", false, false, true, true},
        {SETPOINT, "{\"id\":\"h\",\"value\":50.5}", "off_step", false, false, true, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        stage_begin("");
        struct inbox_message message = message_of(rows[i].topic, rows[i].payload);
        message.retained = rows[i].retained;
        message.too_large = rows[i].too_large;
        send_message(&message);
        wait_answers(1);
        assert_string_equal(text_of(0, "outcome"), "refused");
        assert_string_equal(text_of(0, "reason"), rows[i].reason);
        const json_t *json = stage.answers[0].json;
        assert_int_equal(json_is_string(json_object_get(json, "id")), rows[i].has_id);
        assert_int_equal(json_is_number(json_object_get(json, "value")), rows[i].parsed);
        assert_int_equal(json_is_null(json_object_get(json, "id")), !rows[i].has_id);
        assert_int_equal(json_is_null(json_object_get(json, "value")), !rows[i].parsed);
        /* To the result topic of the device that the topic names. */
        char result[200];
        const char *end = strstr(rows[i].topic, "/set/");
        snprintf(result, sizeof result, "%.*s/result", (int)(end - rows[i].topic), rows[i].topic);
        assert_string_equal(stage.answers[0].topic, result);
        assert_no_more(1);
        stage_end();
    }
}

static void test_without_an_audit_log_only_zero_passes(void **state)
{
    (void)state;
    stage_begin("");
    pthread_mutex_lock(&stage.mutex);
    stage.audit_unavailable = true;
    pthread_mutex_unlock(&stage.mutex);
    ask("d-1", 50);
    wait_answers(1);
    assert_answer(0, "d-1", "refused", "audit_unavailable");
    ask("d-2", 0);
    struct command order = take();
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    assert_answer(1, "d-2", "confirmed", "");
    assert_no_more(2);
    stage_end();
}

static void test_what_is_no_command_topic_is_passed_over(void **state)
{
    (void)state;
    stage_begin("");
    send_to("flux/demo/Site-BESS-01/state", "{\"id\":\"d\",\"value\":50}");
    send_to("flux/other/Site-BESS-01/set/target_power", "{\"id\":\"d\",\"value\":50}");
    send_to("", "");
    assert_no_more(0);
    assert_int_equal(stage.health.commands, 1);
    stage_end();
}

static void test_a_bare_number_where_it_is_allowed(void **state)
{
    (void)state;
    stage_begin("allow_bare = true;");
    send_to(SETPOINT, "-50");
    struct command order = take();
    assert_true(order.value == -50.0);
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(1);
    assert_true(json_is_null(json_object_get(stage.answers[0].json, "id")));
    assert_int_equal(json_integer_value(json_object_get(stage.answers[0].json, "value")), -50);
    send_to(SETPOINT, "-50"); /* no id, so no duplicate */
    order = take();
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    assert_no_more(2);
    stage_end();
}

static void test_min_interval_counts_from_the_last_write(void **state)
{
    (void)state;
    stage_begin("min_interval = \"60s\";");
    ask("d-1", 50);
    struct command order = take();
    tell(&order, OUTCOME_REFUSED); /* not written */
    wait_answers(1);
    ask("d-2", 50);
    order = take();
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    ask("d-3", 51);
    wait_answers(3);
    assert_answer(2, "d-3", "refused", "rate_limited");
    ask("d-4", 0);
    order = take();
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(4);
    assert_no_more(4);
    stage_end();
}

/* Intervals are measured on the clock that nobody sets. */
static void test_utc_set_back_does_not_make_rate_limited_last(void **state)
{
    (void)state;
    stage_begin("min_interval = \"60s\";");
    ask("d-1", 50);
    struct command order = take();
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(1);
    const int hours[] = {-5, 5};
    for (unsigned i = 0; i < 2; i++) {
        for (int64_t late = 0; late < 2; late++) {
            struct inbox_message message = message_of(
                SETPOINT, late ? "{\"id\":\"e\",\"value\":51}" : "{\"id\":\"f\",\"value\":51}");
            message.payload[7] = (char)('g' + 2 * i + (unsigned)late); /* an id of its own */
            message.utc_ms += hours[i] * INT64_C(3600000);
            message.mono_ns += late * 61 * CLOCK_NS_PER_S;
            send_message(&message);
            if (late) {
                order = take();
                tell(&order, OUTCOME_REFUSED); /* not written: the interval runs on */
            }
            wait_answers(2 + 2 * i + (unsigned)late);
            assert_string_equal(text_of(1 + 2 * i + (unsigned)late, "reason"),
                                late ? "none" : "rate_limited");
        }
    }
    assert_no_more(5);
    stage_end();
}

/* ---- many ---- */

/* It decides nothing: what replaces what is the battery's business. */
static void test_all_are_handed_on_in_their_order(void **state)
{
    (void)state;
    stage_begin("");
    ask("d-1", 10);
    ask("d-2", 0);
    ask("d-3", 30);
    const double values[] = {10, 0, 30};
    for (unsigned i = 0; i < 3; i++) {
        struct command order = take();
        assert_true(order.value == values[i]);
        assert_int_equal(order.stop, i == 1);
        tell(&order, i == 0 ? OUTCOME_SUPERSEDED : OUTCOME_CONFIRMED);
    }
    wait_answers(3);
    assert_answer(0, "d-1", "superseded", "");
    assert_answer(1, "d-2", "confirmed", "");
    assert_answer(2, "d-3", "confirmed", "");
    assert_no_more(3);
    stage_end();
}

/* A poller that takes nothing: no more than can be kept, but every stop. */
static void test_more_than_can_be_kept(void **state)
{
    (void)state;
    enum { STOPS = 100 };
    stage_begin("");
    char id[16];
    for (unsigned i = 0; i <= MAILBOX_COMMANDS; i++) {
        snprintf(id, sizeof id, "s%u", i);
        ask(id, 10);
    }
    wait_answers(1);
    snprintf(id, sizeof id, "s%u", MAILBOX_COMMANDS);
    assert_answer(0, id, "refused", "rate_limited");
    for (unsigned i = 0; i < STOPS; i++) {
        snprintf(id, sizeof id, "z%u", i);
        ask(id, 0);
    }
    /* In their places: first of the setpoints, then of the oldest stops. */
    const unsigned n = 1 + STOPS + MAILBOX_COMMANDS - MAILBOX_PLACES;
    wait_answers(n);
    for (unsigned i = 1; i < n; i++)
        assert_string_equal(text_of(i, "outcome"),
                            i <= MAILBOX_COMMANDS ? "superseded" : "unknown");
    assert_string_equal(text_of(n - 1, "id"), "z51");
    ask("z51", 0); /* answered, and no more under way */
    wait_answers(n + 1);
    assert_true(json_is_true(json_object_get(stage.answers[n].json, "duplicate")));
    for (unsigned i = STOPS - MAILBOX_PLACES; i < STOPS; i++) {
        struct command order = take();
        snprintf(id, sizeof id, "z%u", i);
        assert_string_equal(order.id, id);
        tell(&order, OUTCOME_CONFIRMED);
    }
    wait_answers(n + 1 + MAILBOX_PLACES);
    assert_no_more(n + 1 + MAILBOX_PLACES);
    stage_end();
}

/* One that came another way than as JSON passes the same door. */
static void test_a_ready_command_is_taken_like_any_other(void **state)
{
    (void)state;
    stage_begin("");
    struct command ready = {.author = AUTHOR_DISPATCHER,
                            .device_name = "Site-BESS-01",
                            .point_name = "target_power",
                            .id = "r-1",
                            .source = "elsewhere",
                            .has_value = true,
                            .value = 50,
                            .mono_ns = clock_mono_ns(),
                            .utc_ms = clock_utc_ms()};
    assert_true(inbox_put_command(stage.inbox, &ready));
    struct command order = take();
    assert_string_equal(order.id, "r-1");
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(1);
    assert_answer(0, "r-1", "confirmed", "");
    assert_true(inbox_put_command(stage.inbox, &ready)); /* the same id again */
    wait_answers(2);
    assert_true(json_is_true(json_object_get(stage.answers[1].json, "duplicate")));
    ready.has_value = false;
    strcpy(ready.id, "r-2");
    assert_true(inbox_put_command(stage.inbox, &ready));
    wait_answers(3);
    assert_answer(2, "r-2", "refused", "malformed");
    assert_no_more(3);
    stage_end();
}

static void test_another_point_replaces_nothing(void **state)
{
    (void)state;
    stage_begin("");
    ask("d-1", 10);
    send_to("flux/demo/Site-BESS-01/set/command_source", "{\"id\":\"d-2\",\"value\":5}");
    struct command first = take();
    struct command second = take();
    tell(&first, OUTCOME_CONFIRMED);
    tell(&second, OUTCOME_CONFIRMED);
    wait_answers(2);
    assert_answer(0, "d-1", "confirmed", "");
    assert_answer(1, "d-2", "confirmed", "");
    assert_no_more(2);
    stage_end();
}

enum { BURST = 900 };

/* Carries out commands as fast as they come. */
static void *fast_poller(void *argument)
{
    struct command order;
    (void)argument;
    while (bed_take(stage.mailbox, &order))
        tell(&order, OUTCOME_CONFIRMED);
    return NULL;
}

static void test_a_burst_has_one_outcome_each(void **state)
{
    (void)state;
    static unsigned seen[BURST];
    memset(seen, 0, sizeof seen);
    stage_open("");
    stage.conf.devices.devices[0].control.max_kw = BURST;
    for (unsigned i = 0; i < BURST; i++) {
        char id[16];
        snprintf(id, sizeof id, "%u", i);
        ask(id, i);
    }
    pthread_t poller;
    pthread_create(&poller, NULL, fast_poller, NULL);
    stage_start();
    wait_answers(BURST);
    mailbox_stop(stage.mailbox);
    pthread_join(poller, NULL);
    for (unsigned i = 0; i < BURST; i++) {
        bool confirmed = strcmp(text_of(i, "outcome"), "confirmed") == 0;
        assert_true(confirmed || strcmp(text_of(i, "reason"), "rate_limited") == 0);
        unsigned id = (unsigned)atoi(text_of(i, "id"));
        assert_true(id < BURST);
        seen[id]++;
    }
    for (unsigned i = 0; i < BURST; i++)
        assert_int_equal(seen[i], 1);
    assert_no_more(BURST);
    stage_end();
}

/* ---- a reload ---- */

static void halted(void (*act)(void))
{
    struct halt *halt = subscriber_halt(stage.subscriber);
    (void)halt_wait(halt, CLOCK_NEVER);
    act();
    halt_release(halt);
}

static void part(void)
{
    subscriber_part(stage.subscriber, 0);
}

static void renew(void)
{
    static const bool anew[3] = {true}, others[3] = {false};
    assert_true(subscriber_renew(stage.subscriber, anew, others, false));
}

/* Nobody takes what comes for a device between its end and its beginning. A stop waits for
 * what there is then, with the same poller or another; and is answered where there is none. */
static void test_a_stop_for_a_device_that_begins_anew(void **state)
{
    (void)state;
    enum { HERE, ELSEWHERE, ANOTHER_DEVICE, AFTERS };
    for (int after = 0; after < AFTERS; after++) {
        stage_begin("");
        struct mailbox *former = stage.mailbox;
        halted(part);
        ask("d-1", 50);
        ask("stop", 0);
        ask("d-2", 50);
        wait_answers(2);
        assert_answer(0, "d-1", "refused", "shutting_down");
        assert_answer(1, "d-2", "refused", "shutting_down");
        if (after == ELSEWHERE)
            stage.mailbox = mailbox_new(1);
        if (after == ANOTHER_DEVICE)
            strcpy(stage.conf.devices.devices[0].name, "Site-BESS-03");
        halted(renew);
        if (after == ANOTHER_DEVICE) {
            wait_answers(3);
            assert_answer(2, "stop", "refused", "shutting_down");
        } else {
            struct command stop = take();
            assert_true(stop.stop && strcmp(stop.id, "stop") == 0);
            ask("stop", 0);
            wait_answers(3);
            assert_answer(2, "stop", "refused", "duplicate"); /* it is under way */
            tell(&stop, OUTCOME_CONFIRMED);
            ask("d-3", 50);
            struct command order = take();
            assert_string_equal(order.id, "d-3");
        }
        if (after == ELSEWHERE)
            mailbox_free(former);
        stage_end();
    }
}

/* ---- the end ---- */

static void test_while_it_drains_it_refuses_and_still_answers(void **state)
{
    (void)state;
    stage_begin("");
    ask("d-1", 50);
    struct command order = take();
    subscriber_drain(stage.subscriber);
    ask("d-2", 0);
    wait_answers(1);
    assert_answer(0, "d-2", "refused", "shutting_down");
    tell(&order, OUTCOME_CONFIRMED);
    wait_answers(2);
    assert_answer(1, "d-1", "confirmed", "");
    assert_no_more(2);
    stage_end();
}

static void test_stopping_answers_what_is_left(void **state)
{
    (void)state;
    enum { LEFT = 50 };
    stage_open("");
    for (unsigned i = 0; i < LEFT; i++) {
        char id[16];
        snprintf(id, sizeof id, "%u", i);
        ask(id, 251);
    }
    stage_start();
    subscriber_stop(stage.subscriber);
    stage.subscriber = NULL;
    assert_int_equal(stage.n_answers, LEFT);
    for (unsigned i = 0; i < LEFT; i++)
        assert_int_equal(atoi(text_of(i, "id")), i);
    stage_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_command_goes_to_its_poller_and_comes_back),
        cmocka_unit_test(test_what_a_poller_tells_is_one_outcome),
        cmocka_unit_test(test_every_refusal_is_one_outcome_and_no_order),
        cmocka_unit_test(test_without_an_audit_log_only_zero_passes),
        cmocka_unit_test(test_what_is_no_command_topic_is_passed_over),
        cmocka_unit_test(test_a_bare_number_where_it_is_allowed),
        cmocka_unit_test(test_min_interval_counts_from_the_last_write),
        cmocka_unit_test(test_utc_set_back_does_not_make_rate_limited_last),
        cmocka_unit_test(test_all_are_handed_on_in_their_order),
        cmocka_unit_test(test_more_than_can_be_kept),
        cmocka_unit_test(test_a_ready_command_is_taken_like_any_other),
        cmocka_unit_test(test_another_point_replaces_nothing),
        cmocka_unit_test(test_a_burst_has_one_outcome_each),
        cmocka_unit_test(test_a_stop_for_a_device_that_begins_anew),
        cmocka_unit_test(test_while_it_drains_it_refuses_and_still_answers),
        cmocka_unit_test(test_stopping_answers_what_is_left),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
