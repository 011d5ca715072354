/* driver: what is written in which order, the keepalive, and a stop. */
#include "driver_stage.h"

/* ---- what is written, and in which order ---- */

static void the_direct_interface(void **state)
{
    (void)state;
    direct("");
    assert_state(CONTROL_IDLE);
    bed_put(&bed, "a", 12.5);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "a", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), ENGAGED("AA55", "000030D4"));
    assert_true(bed_outcome(&bed, "a", 0)->readback == 12.5);
    assert_state(CONTROL_HELD);
    /* Once engaged: the other word, and the power; negative ones high word first. */
    bed_put(&bed, "b", -12.5);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "b", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), "1020=FFFFCF2C 1022=55AA");
    bed_end(&bed);
}

static void direction_and_size(void **state)
{
    (void)state;
    begin(DEVICE("sungrow-sh", "", "idle = \"release\";"));
    bed_put(&bed, "a", -4.5);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "a", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), "06:13050=00CC 06:13049=0002 13050=00AA1194");
    bed_put(&bed, "b", 2);
    bed_run(&bed, 10 * S); /* it needs no keepalive */
    bed_assert(&bed, "b", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), "13050=00BB07D0");
    assert_state(CONTROL_HELD);
    bed_put(&bed, "c", 0);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "c", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), "13050=00CC0000 06:13050=00CC 06:13051=0000 06:13049=0000");
    assert_state(CONTROL_IDLE);
    bed_end(&bed);
}

/* ---- the keepalive ---- */

static void it_beats_while_a_lease_lasts(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"10s\"; };");
    const int64_t begun_ns = fake_now_ns;
    held("a", 5);
    bed_run_until(&bed, begun_ns + 5 * S + 500 * MS);
    assert_string_equal(writes(), "1022=55AA 1022=AA55 1022=55AA 1022=AA55 1022=55AA");
    /* When the lease is over zero is written, and that is held on. */
    bed_run_until(&bed, begun_ns + 14 * S);
    assert_string_equal(writes(), "1022=AA55 1022=55AA 1022=AA55 1022=55AA 1022=AA55 "
                                  "1020=00000000 1022=55AA 1022=AA55 1022=55AA 1022=AA55");
    assert_state(CONTROL_HELD);
    assert_int_equal(health_get(&bed.health.devices[0].beats_late), 0);
    bed_end(&bed);
}

/* At the end of a lease zero is not confirmed: the beat ends all the same. */
static void it_does_not_beat_beyond_a_lease(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"4s\"; };");
    held("a", 5);
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITES,
                                               .address = POWER,
                                               .fault = FAULT_DEVICE_FAILURE});
    bed_run(&bed, 4 * S);
    (void)writes();
    bed_run(&bed, 6 * S);
    const char *text = writes(); /* nor with the attempts at zero */
    assert_non_null(strstr(text, "1020=00000000!"));
    assert_null(strstr(text, "1022="));
    bed_end(&bed);
}

static void a_late_beat_is_counted(void **state)
{
    (void)state;
    direct("");
    held("a", 5);
    fake_now_ns += 1600 * MS; /* the thread was kept from running */
    bed_run(&bed, 100 * MS);
    assert_string_equal(writes(), "1022=55AA");
    assert_int_equal(health_get(&bed.health.devices[0].beats_late), 1);
    bed_run(&bed, 3 * S);
    assert_int_equal(health_get(&bed.health.devices[0].beats_late), 1);
    bed_end(&bed);
}

/* After a beat without an answer the other word comes soon: one of the two counts. */
static void a_lost_beat_is_made_up_for(void **state)
{
    (void)state;
    direct("");
    held("a", 5);
    fake_rule_add(
        bed.fake,
        (struct fake_rule){
            .function = FAKE_WRITES, .address = BEAT, .from = 1, .to = 1, .fault = FAULT_TIMEOUT});
    bed_run(&bed, 3 * S);
    assert_string_equal(writes(), "1022=55AA! 1022=AA55 1022=55AA");
    bed_assert(&bed, "a", OUTCOME_CONFIRMED);
    assert_null(bed_outcome(&bed, "a", 1));
    bed_end(&bed);
}

/* Nobody answers any more: what has begun is not put off by attempts at a keepalive. */
static void a_beat_puts_off_no_read_back(void **state)
{
    (void)state;
    direct("");
    held("stop", 0);
    bed_put(&bed, "a", 5);
    while (bed.fake->registers[1][POWER + 1] == 0)
        bed_step(&bed);
    cut_the_line();
    for (unsigned i = 0; i < 20; i++)
        bed_step(&bed);
    bed_assert(&bed, "a", OUTCOME_UNKNOWN);
    bed_end(&bed);
}

/* Nor is what waits: they take turns. */
static void a_beat_puts_off_no_setpoint(void **state)
{
    (void)state;
    direct("");
    held("stop", 0);
    fake_now_ns += S;
    cut_the_line();
    bed_put(&bed, "a", 5);
    bed_step(&bed); /* the keepalive, whose time it is */
    assert_null(bed_outcome(&bed, "a", 0));
    bed_step(&bed);
    bed_assert_refused(&bed, "a", REASON_DEVICE_OFFLINE);
    bed_end(&bed);
}

/* Where it is refused it is tried again half a period later: before each poll it may be early,
 * and that is not. */
static void a_beat_that_is_refused_waits(void **state)
{
    (void)state;
    direct("");
    held("a", 5);
    fake_now_ns += S;
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITES,
                                               .address = BEAT,
                                               .fault = FAULT_DEVICE_FAILURE,
                                               .ignores = true});
    assert_true(battery_beats(bed.battery));
    bed_step(&bed);
    assert_string_equal(writes(), "1022=55AA!");
    fake_now_ns += 400 * MS;
    assert_false(battery_beats(bed.battery));
    fake_now_ns += 100 * MS;
    assert_true(battery_beats(bed.battery));
    bed_end(&bed);
}

/* What somebody else wrote meanwhile is not written over. */
static void a_rewrite_looks_first(void **state)
{
    (void)state;
    begin(DEVICE("victron-ess", "", ""));
    bed_put(&bed, "a", 2.5);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "a", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), "06:38=0000 06:39=0000 06:37=F63C");
    bed_run(&bed, 4 * S);
    assert_string_equal(writes(), "06:37=F63C 06:37=F63C");
    bed.fake->registers[1][GRID] = 0; /* another's stop */
    bed_run(&bed, 10 * S);
    assert_string_equal(writes(), "");
    bed_assert_corrected(&bed, "a", OUTCOME_LOST);
    assert_state(CONTROL_LOST);
    bed_end(&bed);
}

/* ---- a stop ---- */

static void a_stop_of_an_idle_battery(void **state)
{
    (void)state;
    direct("");
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), ENGAGED_AGAIN("AA55", "00000000"));
    /* It would go back to its own plan, so it is held. */
    bed_run(&bed, 3 * S);
    assert_string_equal(writes(), "1022=55AA 1022=AA55 1022=55AA");
    assert_state(CONTROL_HELD);
    bed_end(&bed);
}

static void a_stop_that_is_released(void **state)
{
    (void)state;
    direct("idle = \"release\";");
    held("a", 5);
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 5 * S);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), "1020=00000000 1022=55AA 1020=00000000 1000=0000");
    assert_state(CONTROL_IDLE);
    bed_end(&bed);
}

/* Who cannot tell whether it runs keeps nothing going that stands there from before. */
static void a_battery_whose_mode_is_not_read_may_be_running(void **state)
{
    (void)state;
    direct("");
    bed.fake->registers[1][MODE] = 1;
    bed.fake->registers[1][POWER] = 0xFFFF;
    bed.fake->registers[1][POWER + 1] = 0xEC78;
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_READ,
                                               .address = MODE,
                                               .to = 4,
                                               .from = 1,
                                               .fault = FAULT_DEVICE_FAILURE});
    bed_put(&bed, "a", 5);
    bed_run(&bed, 100 * MS);
    assert_string_equal(writes(), ENGAGED_AGAIN("AA55", "00001388"));
    bed_end(&bed);
}

static void put_a_stop(struct fake_link *fake, const struct fake_call *call)
{
    struct bed *context = fake->context;
    if (call->function == FAKE_WRITES && call->address == ACTIVE &&
        bed_outcome(context, "stop", 0) == NULL && fake->before != NULL) {
        fake->before = NULL;
        bed_put(context, "stop", 0);
    }
}

static void a_stop_in_the_middle_of_engaging(void **state)
{
    (void)state;
    direct("");
    bed.fake->before = put_a_stop;
    bed_put(&bed, "a", 5);
    bed_run(&bed, 500 * MS);
    bed_assert(&bed, "a", OUTCOME_SUPERSEDED);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_string_equal(writes(),
                        "1024=000186A0 1026=000186A0 1001=0001 " ENGAGED_AGAIN("AA55", "00000000"));
    assert_state(CONTROL_HELD);
    bed_end(&bed);
}

static void a_stop_waits_for_no_beat(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"60s\"; };");
    held("a", 5);
    fake_now_ns += 1300 * MS; /* one is due, and overdue */
    bed_put(&bed, "stop", 0);
    bed_step(&bed);
    bed_step(&bed);
    bed_step(&bed);
    assert_string_equal(writes(), "1020=00000000 1022=55AA"); /* its own */
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    bed_end(&bed);
}

/* A device that does not know one of the registers can be told to stop all the same. */
static void a_stop_goes_on_past_a_refusal(void **state)
{
    (void)state;
    direct("");
    fake_rule_add(
        bed.fake,
        (struct fake_rule){.function = FAKE_WRITES, .address = UP, .fault = FAULT_ILLEGAL_ADDRESS});
    fake_rule_add(
        bed.fake,
        (struct fake_rule){.function = FAKE_WRITES, .address = ACTIVE, .fault = FAULT_TIMEOUT});
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 3 * S);
    assert_int_equal(fake_count(bed.fake, FAKE_WRITES, POWER) > 0, true);
    assert_int_equal(bed.fake->registers[1][POWER + 1], 0);
    bed_end(&bed);
}

/* Zero is refused by a battery that nobody commands: it is not taken over to do what
 * stands in its register from before. */
static void a_zero_that_is_refused_takes_nothing_over(void **state)
{
    (void)state;
    direct("");
    bed.fake->registers[1][POWER + 1] = 5000;
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITES,
                                               .address = POWER,
                                               .fault = FAULT_DEVICE_FAILURE});
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 5 * S);
    bed_assert(&bed, "stop", OUTCOME_FAILED);
    assert_int_equal(fake_count(bed.fake, FAKE_WRITES, MODE), 0);
    assert_int_equal(fake_count(bed.fake, FAKE_WRITES, BEAT), 0);
    bed.fake->n_rules = 0;
    bed_run(&bed, 2 * S);
    bed_assert_corrected(&bed, "stop", OUTCOME_CONFIRMED);
    bed_end(&bed);
}

/* ---- a request that the device has, and takes its time for ---- */

static void acknowledged(unsigned address, bool ignores, unsigned takes_at)
{
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITES,
                                               .address = address,
                                               .fault = FAULT_ACKNOWLEDGE,
                                               .ignores = ignores,
                                               .takes_at = takes_at});
}

/* Neither is what stands there from before kept going, nor is a battery taken over for it. */
static void a_zero_that_is_not_done_yet_keeps_nothing_going(void **state)
{
    (void)state;
    for (int is_held = 0; is_held < 2; is_held++) {
        direct("");
        bed.fake->registers[1][POWER + 1] = 5000;
        if (is_held)
            held("a", 5);
        const unsigned modes = fake_count(bed.fake, FAKE_WRITES, MODE);
        acknowledged(POWER, true, 0);
        bed_put(&bed, "stop", 0);
        bed_run(&bed, 5 * S);
        bed_assert(&bed, "stop", OUTCOME_MISMATCH);
        assert_true(bed_outcome(&bed, "stop", 0)->readback == 5);
        const char *text = writes();
        assert_non_null(strstr(text, "1020=00000000! "));
        assert_null(strstr(text, "1022="));
        assert_int_equal(fake_count(bed.fake, FAKE_WRITES, MODE), modes);
        bed.fake->n_rules = 0;
        bed_run(&bed, 2 * S);
        bed_assert_corrected(&bed, "stop", OUTCOME_CONFIRMED);
        bed_end(&bed);
    }
}

static void a_zero_that_takes_its_time(void **state)
{
    (void)state;
    direct("");
    held("a", 5);
    acknowledged(POWER, false, 4);
    bed_put(&bed, "stop", 0);
    const int64_t put_ns = fake_now_ns;
    while (fake_count(bed.fake, FAKE_WRITES, BEAT) < 2 && fake_now_ns < put_ns + 2 * S)
        bed_run(&bed, MS);
    assert_int_equal(bed.fake->registers[1][POWER + 1], 0); /* before the keepalive */
    bed_run(&bed, 900 * MS);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_non_null(strstr(writes(), "1020=00000000! 1022=55AA"));
    bed_end(&bed);
}

static void a_setpoint_that_is_not_done_yet_takes_nothing_over(void **state)
{
    (void)state;
    const unsigned addresses[] = {UP, POWER};
    for (unsigned i = 0; i < 2; i++) {
        direct("");
        bed.fake->registers[1][POWER + 1] = 20000;
        acknowledged(addresses[i], true, 0);
        bed_put(&bed, "a", 5);
        bed_run(&bed, 3 * S);
        bed_assert(&bed, "a", i == 0 ? OUTCOME_FAILED : OUTCOME_MISMATCH);
        const char *text = writes();
        assert_null(strstr(text, "1000=0001"));
        bed_end(&bed);
    }
}

/* What is cut off before its registers are read has no value from before. */
static void what_was_not_read_back_has_no_value(void **state)
{
    (void)state;
    direct("");
    held("a", 5);
    acknowledged(POWER, true, 0);
    bed_put(&bed, "b", 7);
    bed_run(&bed, 50 * MS);
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "b", OUTCOME_UNKNOWN);
    assert_false(bed_outcome(&bed, "b", 0)->has_readback);
    bed_end(&bed);
}

/* ---- a fallback other than zero ---- */

static void a_fallback_is_no_lease(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"5s\"; value = 2; };");
    held("a", 2); /* the fallback's own value has a lease as well */
    assert_true(battery_lease(bed.battery).runs);
    bed_run(&bed, 4 * S);
    assert_string_not_equal(writes(), "");
    bed_run(&bed, 2 * S);
    (void)writes();
    bed_run(&bed, 10 * S);
    assert_string_equal(writes(), ""); /* the battery itself ends it */
    assert_state(CONTROL_IDLE);
    bed_end(&bed);
}

static void steps_and_limits(void **state)
{
    (void)state;
    begin(DEVICE("sungrow-sh", "", ""));
    struct command command = {.has_value = true, .value = 0.0005};
    char detail[DETAIL_MAX];
    const struct admit_scene scene = {
        .device = bed.device, .point = bed.device->control.setpoint, .last_write_ns = INT64_MIN};
    assert_int_equal(admit(&command, &scene, detail), REASON_OFF_STEP);
    command.value = 20.001;
    assert_int_equal(admit(&command, &scene, detail), REASON_OUT_OF_RANGE);
    command.value = 12.345;
    assert_int_equal(admit(&command, &scene, detail), REASON_NONE);
    bed_end(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_direct_interface),
        cmocka_unit_test(direction_and_size),
        cmocka_unit_test(it_beats_while_a_lease_lasts),
        cmocka_unit_test(it_does_not_beat_beyond_a_lease),
        cmocka_unit_test(a_late_beat_is_counted),
        cmocka_unit_test(a_lost_beat_is_made_up_for),
        cmocka_unit_test(a_beat_puts_off_no_read_back),
        cmocka_unit_test(a_beat_puts_off_no_setpoint),
        cmocka_unit_test(a_beat_that_is_refused_waits),
        cmocka_unit_test(a_rewrite_looks_first),
        cmocka_unit_test(a_stop_of_an_idle_battery),
        cmocka_unit_test(a_stop_that_is_released),
        cmocka_unit_test(a_stop_in_the_middle_of_engaging),
        cmocka_unit_test(a_battery_whose_mode_is_not_read_may_be_running),
        cmocka_unit_test(a_stop_waits_for_no_beat),
        cmocka_unit_test(a_stop_goes_on_past_a_refusal),
        cmocka_unit_test(a_zero_that_is_refused_takes_nothing_over),
        cmocka_unit_test(a_zero_that_is_not_done_yet_keeps_nothing_going),
        cmocka_unit_test(a_zero_that_takes_its_time),
        cmocka_unit_test(a_setpoint_that_is_not_done_yet_takes_nothing_over),
        cmocka_unit_test(what_was_not_read_back_has_no_value),
        cmocka_unit_test(a_fallback_is_no_lease),
        cmocka_unit_test(steps_and_limits),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests_name("driver", tests, NULL, NULL);
}
