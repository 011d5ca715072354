/* poller: one sample a scan, and a dead neighbour costs little. */
#include "poller_stage.h"

#include <jansson.h>

#define ONE_METER "meters = ( " METER("") " );"

static json_int_t integer_of(const struct seen *sample, const char *key)
{
    json_t *json = json_loads(sample->text, 0, NULL);
    assert_non_null(json);
    json_t *value = json_object_get(json, key);
    if (value == NULL)
        value = json_object_get(json_object_get(json, "data"), key);
    assert_true(json_is_integer(value));
    json_int_t number = json_integer_value(value);
    json_decref(json);
    return number;
}

static void assert_has(const struct seen *sample, const char *part)
{
    if (strstr(sample->text, part) == NULL)
        fail_msg("no %s in %s", part, sample->text);
}

/* The i-th call of a function, from 0. */
static const struct fake_call *call_of(unsigned function, unsigned index)
{
    for (unsigned i = 0; i < stage.fake->n_calls; i++) {
        if (stage.fake->calls[i].function == function && index-- == 0)
            return &stage.fake->calls[i];
    }
    fail_msg("no such call");
    return NULL;
}

static double seconds(int64_t from_ns, int64_t to_ns)
{
    return (double)(to_ns - from_ns) / (double)CLOCK_NS_PER_S;
}

/* ---- samples ---- */

static void test_every_scan_is_one_sample(void **state)
{
    (void)state;
    stage_begin(ONE_BATTERY);
    stage_run(0, 50);
    assert_int_equal(stage.n_samples, 50);
    assert_int_equal(fake_count(stage.fake, FAKE_READ, 0), 50);
    assert_int_equal(stage.fake->n_opened, 1);
    assert_int_equal(stage.health.samples, 50);
    assert_int_equal(stage.health.samples_bad, 0);
    assert_int_equal(stage.health.missed_ticks, 0);
    for (unsigned i = 0; i < 50; i++) {
        const struct seen *sample = &stage.samples[i];
        assert_int_equal(integer_of(sample, "seq"), i + 1);
        /* When its first request was sent: on the tick, for ever. */
        assert_int_equal(integer_of(sample, "ts"), FAKE_UTC_MS + 1000 * i + (i == 0));
        assert_int_equal(sample->taken_ns, call_of(FAKE_READ, i)->at_ns);
        assert_int_equal(sample->online, true);
    }
    assert_string_equal(stage.samples[49].text,
                        "{\"ts\":1763791249000,\"run\":\"5f3a9c1e\",\"seq\":50,"
                        "\"quality\":\"good\",\"data\":{\"status\":\"ready\",\"status_code\":1,"
                        "\"target_power\":20,\"command_source\":2,\"soe\":54,"
                        "\"available_blocks\":10}}");
    stage_end();
}

static void test_devices_of_one_link_take_turns(void **state)
{
    (void)state;
    stage_begin(BOTH);
    stage_run(1, 10);
    json_int_t seq[2] = {0, 0};
    for (unsigned i = 0; i < stage.n_samples; i++) {
        const struct seen *sample = &stage.samples[i];
        assert_int_equal(sample->device, i % 2);
        assert_int_equal(integer_of(sample, "seq"), ++seq[sample->device]);
        /* The second has its turn in the middle of the first's period. */
        assert_true(integer_of(sample, "ts") / 500 % 2 == sample->device);
        assert_has(sample, sample->device == 0 ? "\"soe\":54" : "\"voltage_l1_n\":230");
    }
    assert_int_equal(stage.fake->n_opened, 1);
    stage_end();
}

static void test_a_refused_point_is_named_and_the_others_stay(void **state)
{
    (void)state;
    stage_begin(ONE_BATTERY);
    fake_rule_add(
        stage.fake,
        (struct fake_rule){.function = FAKE_READ, .address = SOE, .fault = FAULT_ILLEGAL_ADDRESS});
    stage_run(0, 3);
    for (unsigned i = 0; i < 3; i++) {
        const struct seen *sample = &stage.samples[i];
        assert_int_equal(integer_of(sample, "seq"), i + 1);
        assert_has(sample, "\"quality\":\"partial\"");
        assert_has(sample, "\"soe\":null");
        assert_has(sample, "\"target_power\":20");
        assert_has(sample, "\"errors\":{\"soe\":\"illegal_address\"}}");
        assert_int_equal(sample->online, true);
    }
    stage_end();
}

static void test_a_scan_with_nothing_due_changes_nothing(void **state)
{
    (void)state;
    stage_begin(ONE_BATTERY);
    for (unsigned i = 0; i < stage.conf.devices.devices[0].n_points; i++)
        stage.conf.devices.devices[0].points[i].every = 2;
    stage_run(0, 5);
    for (unsigned i = 0; i < 5; i++) {
        assert_has(&stage.samples[i], "\"quality\":\"good\"");
        assert_int_equal(stage.samples[i].online, i % 2 == 0 ? true : -1);
    }
    assert_int_equal(stage.health.samples_bad, 0);
    stage_end();
}

static void test_ticks_that_passed_are_counted(void **state)
{
    (void)state;
    stage_begin(ONE_BATTERY);
    stage.fake->cost_ns = 5 * CLOCK_NS_PER_S / 2; /* opening too: the first scan takes 5 s */
    stage_run(0, 3);
    assert_int_equal(stage.health.missed_ticks, 5 + 2 + 2);
    assert_int_equal(integer_of(&stage.samples[1], "seq"), 2);
    /* Back on the grid, not at once. */
    assert_int_equal(integer_of(&stage.samples[1], "ts"), FAKE_UTC_MS + 6000);
    assert_int_equal(integer_of(&stage.samples[2], "ts"), FAKE_UTC_MS + 9000);
    stage_end();
}

/* ---- retries ---- */

static void test_a_silent_device_is_asked_as_documented(void **state)
{
    (void)state;
    stage_begin(ONE_BATTERY);
    fake_rule_add(stage.fake,
                  (struct fake_rule){.function = FAKE_READ, .to = 5, .fault = FAULT_TIMEOUT});
    stage_run(0, 4);
    /* Three attempts, each of 5 s, with pauses of 1 s and 2 s; then it is said. */
    assert_true(seconds(call_of(FAKE_READ, 0)->at_ns, call_of(FAKE_READ, 1)->at_ns) >= 6.0);
    assert_true(seconds(call_of(FAKE_READ, 0)->at_ns, call_of(FAKE_READ, 1)->at_ns) < 6.1);
    assert_true(seconds(call_of(FAKE_READ, 1)->at_ns, call_of(FAKE_READ, 2)->at_ns) >= 7.0);
    assert_true(seconds(call_of(FAKE_READ, 1)->at_ns, call_of(FAKE_READ, 2)->at_ns) < 7.1);
    const bool online[] = {false, false, false, true};
    for (unsigned i = 0; i < 4; i++) {
        const struct seen *sample = &stage.samples[i];
        assert_int_equal(integer_of(sample, "seq"), i + 1);
        assert_int_equal(sample->online, online[i]);
        assert_has(sample, online[i] ? "\"quality\":\"good\"" : "\"quality\":\"bad\"");
        if (!online[i])
            assert_has(sample, "\"soe\":\"timeout\"");
    }
    /* Known to be down, it is asked once a scan: 3 + 1 + 1, then it answers, in the three
     * parts in which one that does was looked for. */
    assert_int_equal(fake_count(stage.fake, FAKE_READ, 0), 8);
    assert_int_equal(stage.health.samples_bad, 3);
    /* Under the time of the attempt that failed last, not of the first. */
    assert_int_equal(stage.samples[0].taken_ns, call_of(FAKE_READ, 2)->at_ns);
    stage_end();
}

static void test_one_good_attempt_in_time_is_a_good_sample(void **state)
{
    (void)state;
    stage_begin(ONE_BATTERY);
    fake_rule_add(stage.fake,
                  (struct fake_rule){.function = FAKE_READ, .to = 2, .fault = FAULT_TIMEOUT});
    stage_run(0, 1);
    assert_has(&stage.samples[0], "\"quality\":\"good\"");
    assert_int_equal(stage.samples[0].online, true);
    assert_int_equal(stage.samples[0].taken_ns, call_of(FAKE_READ, 2)->at_ns);
    stage_end();
}

/* What an attempt read before it broke is not mixed with the next one's. */
static void test_an_attempt_begins_from_nothing(void **state)
{
    (void)state;
    stage_begin(ONE_METER);
    fake_rule_add(stage.fake,
                  (struct fake_rule){
                      .function = FAKE_READ, .address = 0x100, .to = 1, .fault = FAULT_TIMEOUT});
    stage_run(0, 1);
    assert_has(&stage.samples[0], "\"quality\":\"good\"");
    assert_int_equal(fake_count(stage.fake, FAKE_READ, 0), 4);
    assert_int_equal(stage.samples[0].taken_ns, call_of(FAKE_READ, 2)->at_ns);
    stage_end();
}

static void test_half_a_scan_to_the_end_is_a_partial_sample(void **state)
{
    (void)state;
    stage_begin(ONE_METER);
    fake_rule_add(stage.fake, (struct fake_rule){
                                  .function = FAKE_READ, .address = 0x100, .fault = FAULT_TIMEOUT});
    stage_run(0, 1);
    assert_has(&stage.samples[0], "\"quality\":\"partial\"");
    assert_has(&stage.samples[0], "\"voltage_l1_n\":230");
    assert_has(&stage.samples[0], "\"errors\":{\"energy_import\":\"timeout\"}}");
    assert_int_equal(stage.samples[0].online, true);
    assert_int_equal(fake_count(stage.fake, FAKE_READ, 0), 6);
    stage_end();
}

static void test_a_link_that_does_not_open(void **state)
{
    (void)state;
    stage_begin(ONE_BATTERY);
    fake_rule_add(stage.fake,
                  (struct fake_rule){.function = FAKE_OPEN, .to = 8, .fault = FAULT_CONNECTION});
    stage_run(0, 100);
    assert_has(&stage.samples[0], "\"soe\":\"connection\"");
    assert_int_equal(stage.samples[0].online, false);
    assert_int_equal(stage.samples[99].online, true);
    /* Knocked at with growing pauses of at most 12 s, while samples go on. */
    assert_int_equal(stage.fake->n_opened, 9);
    double longest = 0;
    for (unsigned i = 1; i < 9; i++) {
        double pause = seconds(call_of(FAKE_OPEN, i - 1)->at_ns, call_of(FAKE_OPEN, i)->at_ns);
        longest = pause > longest ? pause : longest;
    }
    assert_true(longest > 7 && longest < 13.1);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(integer_of(&stage.samples[i], "seq"), i + 1);
    stage_end();
}

/* ---- neighbours ---- */

static void test_a_dead_neighbour_takes_little_of_the_time(void **state)
{
    (void)state;
    stage_begin(BOTH);
    fake_rule_add(stage.fake,
                  (struct fake_rule){.unit = 2, .function = FAKE_READ, .fault = FAULT_TIMEOUT});
    stage_run(0, 300);
    int64_t lost_ns = 0;
    for (unsigned i = 0; i < stage.fake->n_calls; i++)
        lost_ns += stage.fake->calls[i].fault == FAULT_TIMEOUT ? 5 * CLOCK_NS_PER_S : 0;
    int64_t whole_ns = fake_now_ns - FAKE_MONO_NS;
    assert_true(lost_ns > 0);
    assert_true(lost_ns <= whole_ns / 5);
    /* And what is lost to it is counted. */
    assert_true(stage.health.missed_ticks > 0);
    unsigned bad = 0;
    json_int_t seq = 0;
    for (unsigned i = 0; i < stage.n_samples; i++) {
        const struct seen *sample = &stage.samples[i];
        if (sample->device == 0) {
            assert_has(sample, "\"quality\":\"good\"");
            assert_int_equal(sample->online, true);
        } else {
            assert_has(sample, "\"quality\":\"bad\"");
            assert_int_equal(integer_of(sample, "seq"), ++seq);
            bad++;
        }
    }
    assert_true(bad > 100); /* not asked, it is still reported as what it is */
    stage_end();
}

static void test_a_gateway_that_answers_for_a_dead_unit_keeps_the_link(void **state)
{
    (void)state;
    stage_begin(BOTH);
    fake_rule_add(stage.fake, (struct fake_rule){
                                  .unit = 2, .function = FAKE_READ, .fault = FAULT_GATEWAY_TARGET});
    stage_run(0, 30);
    assert_int_equal(stage.fake->n_opened, 1);
    bool was_bad = false;
    for (unsigned i = 0; i < stage.n_samples; i++) {
        if (stage.samples[i].device == 0)
            continue;
        assert_has(&stage.samples[i], "\"gateway_target\"");
        assert_int_equal(stage.samples[i].online, false);
        was_bad = true;
    }
    assert_true(was_bad);
    stage_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_scan_is_one_sample),
        cmocka_unit_test(test_devices_of_one_link_take_turns),
        cmocka_unit_test(test_a_refused_point_is_named_and_the_others_stay),
        cmocka_unit_test(test_a_scan_with_nothing_due_changes_nothing),
        cmocka_unit_test(test_ticks_that_passed_are_counted),
        cmocka_unit_test(test_a_silent_device_is_asked_as_documented),
        cmocka_unit_test(test_one_good_attempt_in_time_is_a_good_sample),
        cmocka_unit_test(test_an_attempt_begins_from_nothing),
        cmocka_unit_test(test_half_a_scan_to_the_end_is_a_partial_sample),
        cmocka_unit_test(test_a_link_that_does_not_open),
        cmocka_unit_test(test_a_dead_neighbour_takes_little_of_the_time),
        cmocka_unit_test(test_a_gateway_that_answers_for_a_dead_unit_keeps_the_link),
    };
    link_init_stop();
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
