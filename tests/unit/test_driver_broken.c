/* driver: half done, lost, cut off, killed: what is left behind is let go, and told. */
#include "driver_stage.h"

/* ---- half done ---- */

static void a_step_that_is_refused(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"60s\"; };");
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITES,
                                               .address = TIMEOUT,
                                               .fault = FAULT_ILLEGAL_VALUE});
    bed_put(&bed, "a", 5);
    bed_run(&bed, 500 * MS);
    bed_assert(&bed, "a", OUTCOME_FAILED);
    assert_string_equal(outcome_why(bed_outcome(&bed, "a", 0)), "illegal_value");
    assert_string_equal(bed_outcome(&bed, "a", 0)->detail,
                        "engage, step 6 of 7, timeout_s = 10: illegal_value");
    assert_string_equal(writes(), "1024=000186A0 1026=000186A0 1001=0001 1022=AA55 1020=00001388 "
                                  "1023=000A! 1020=00000000 1000=0000");
    assert_state(CONTROL_IDLE);
    assert_false(battery_lease(bed.battery).runs);
    bed_run(&bed, 5 * S);
    assert_string_equal(writes(), "");
    bed_end(&bed);
}

/* In its order, also when a step fails; and again until it is done. */
static void a_release_that_fails(void **state)
{
    (void)state;
    begin(DEVICE("sungrow-sh", "", "idle = \"release\";"));
    held("a", 5);
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITE,
                                               .address = FORCED,
                                               .to = 1,
                                               .from = 1,
                                               .fault = FAULT_DEVICE_FAILURE});
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITE,
                                               .address = EMS,
                                               .to = 1,
                                               .from = 1,
                                               .fault = FAULT_DEVICE_FAILURE});
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 1100 * MS);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), "13050=00CC0000 06:13050=00CC 06:13051=0000! 06:13049=0000!");
    assert_state(CONTROL_RELEASING);
    bed_run(&bed, 3 * S);
    assert_string_equal(writes(), "06:13050=00CC 06:13051=0000 06:13049=0000");
    assert_state(CONTROL_IDLE);
    bed_end(&bed);
}

/* Killed while it engaged, and now nobody answers: a release and a stop are owed. */
static void begin_cut_off(void)
{
    direct("");
    bed_put(&bed, "a", 5);
    while (fake_count(bed.fake, FAKE_WRITES, POWER) == 0)
        bed_step(&bed);
    bed_kill(&bed);
    cut_the_line();
    bed_start(&bed);
    assert_state(CONTROL_RELEASING);
    bed_put(&bed, "stop", 0);
}

/* Nobody answers: neither the release nor the zero that is owed keeps a setpoint from its
 * outcome. */
static void a_release_puts_off_no_setpoint(void **state)
{
    (void)state;
    begin_cut_off();
    bed_put(&bed, "b", 6);
    for (unsigned i = 0; i < 40; i++)
        bed_step(&bed);
    bed_assert(&bed, "stop", OUTCOME_UNKNOWN);
    bed_assert_refused(&bed, "b", REASON_DEVICE_OFFLINE);
    bed_end(&bed);
}

/* Nor a command for another row, as a type of one's own may have. */
static void a_release_puts_off_no_other_point(void **state)
{
    (void)state;
    begin_cut_off();
    struct command command = bed_command(&bed, "other", 5, 60 * S);
    command.point = (unsigned)device_find_point(bed.device, "always_active");
    command.value = 1;
    assert_true(battery_put(bed.battery, &command));
    for (unsigned i = 0; i < 40; i++)
        bed_step(&bed);
    bed_assert(&bed, "stop", OUTCOME_UNKNOWN);
    bed_assert_refused(&bed, "other", REASON_DEVICE_OFFLINE);
    bed_end(&bed);
}

/* Power is taken, and what follows it is refused: a lease runs from the write all the same. */
static void a_setpoint_that_fails_behind_its_power(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"10s\"; };");
    held("stop", 0);
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITES,
                                               .address = BEAT,
                                               .from = 1,
                                               .to = 1,
                                               .fault = FAULT_DEVICE_FAILURE,
                                               .ignores = true});
    bed_put(&bed, "a", 5);
    const int64_t end_ns = fake_now_ns + 10 * S;
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "a", OUTCOME_FAILED);
    bed_run(&bed, 2 * S);
    bed_poll(&bed); /* shows that it does what it was told */
    assert_state(CONTROL_HELD);
    const struct lease lease = battery_lease(bed.battery);
    assert_true(lease.runs);
    assert_in_range(lease.end_ns, end_ns, end_ns + 100 * MS);
    bed_end(&bed);
}

/* Power is refused by a battery that is held: what it held is held on. */
static void a_setpoint_that_is_refused(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"60s\"; };");
    held("a", 5);
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITES,
                                               .address = POWER,
                                               .from = 1,
                                               .to = 1,
                                               .fault = FAULT_ILLEGAL_VALUE});
    bed_put(&bed, "b", 6);
    bed_run(&bed, 2500 * MS);
    bed_assert(&bed, "b", OUTCOME_FAILED);
    assert_string_equal(writes(), "1020=00001770! 1022=55AA 1022=AA55");
    assert_state(CONTROL_HELD);
    assert_true(battery_lease(bed.battery).value == 5);
    bed_end(&bed);
}

/* Nobody knows what came of it: nothing is kept going before a poll tells. */
static void a_setpoint_in_doubt(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"60s\"; };");
    held("a", 5);
    fake_rule_add(
        bed.fake,
        (struct fake_rule){
            .function = FAKE_WRITES, .address = POWER, .from = 1, .to = 1, .fault = FAULT_TIMEOUT});
    fake_rule_add(
        bed.fake,
        (struct fake_rule){
            .function = FAKE_READ, .address = POWER, .from = 2, .to = 6, .fault = FAULT_TIMEOUT});
    bed_put(&bed, "b", 6);
    bed_run(&bed, 9 * S);
    bed_assert(&bed, "b", OUTCOME_UNKNOWN);
    assert_state(CONTROL_ENGAGING);
    (void)writes();
    bed_run(&bed, 2 * S);
    assert_string_equal(writes(), "");
    bed.fake->n_rules = 0;
    bed_poll(&bed);
    bed_assert_corrected(&bed, "b", OUTCOME_CONFIRMED);
    assert_state(CONTROL_HELD);
    bed_run(&bed, 1500 * MS);
    assert_string_not_equal(writes(), "");
    bed_end(&bed);
}

/* ---- lost ---- */

static void a_battery_that_leaves_its_mode(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"10s\"; };");
    held("a", 5);
    bed_poll(&bed);
    assert_null(bed_outcome(&bed, "a", 1));
    bed.fake->registers[1][MODE] = 0;
    bed_poll(&bed);
    bed_poll(&bed);
    bed_assert_corrected(&bed, "a", OUTCOME_LOST);
    assert_string_equal(bed_outcome(&bed, "a", 1)->detail, "mode reads 0, not 1");
    assert_state(CONTROL_LOST);
    /* Neither a beat nor the deadman, nor another setpoint's lease. */
    bed_run(&bed, 30 * S);
    bed_poll(&bed);
    bed_run(&bed, 30 * S);
    assert_string_equal(writes(), "");
    assert_false(battery_lease(bed.battery).runs);
    /* A newer command engages it from the beginning. */
    bed_put(&bed, "b", 5);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "b", OUTCOME_CONFIRMED);
    assert_non_null(strstr(writes(), "1020=00001388 1023=000A 1000=0001"));
    assert_state(CONTROL_HELD);
    bed_end(&bed);
}

/* It was restarted, and a command finds that out: the one before is lost first. */
static void a_command_finds_it_lost(void **state)
{
    (void)state;
    direct("");
    held("a", 5);
    bed.fake->registers[1][TIMEOUT] = 60;
    bed_put(&bed, "b", 6);
    bed_run(&bed, 100 * MS);
    bed_assert_corrected(&bed, "a", OUTCOME_LOST);
    bed_assert(&bed, "b", OUTCOME_CONFIRMED);
    assert_non_null(strstr(writes(), "1020=00001770 1022=55AA 1023=000A 1000=0001"));
    assert_true(bed_outcome(&bed, "a", 1) < bed_outcome(&bed, "b", 0));
    bed_end(&bed);
}

/* No beat got through for the whole timeout: it has stopped, and another would start it. */
static void a_cable_that_was_cut(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"60s\"; };");
    held("a", 5);
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITES, .fault = FAULT_TIMEOUT});
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_READ, .fault = FAULT_TIMEOUT});
    bed_run(&bed, 12 * S);
    bed_assert_corrected(&bed, "a", OUTCOME_LOST);
    assert_false(battery_lease(bed.battery).runs);
    bed.fake->n_rules = 0;
    (void)writes();
    bed_poll(&bed);
    bed_run(&bed, 60 * S);
    assert_string_equal(writes(), "");
    bed_end(&bed);
}

/* The machine slept: what woke up does not go on as if nothing were. */
static void a_freeze(void **state)
{
    (void)state;
    direct("");
    held("a", 5);
    fake_now_ns += 11 * S;
    bed_run(&bed, 5 * S);
    bed_assert_corrected(&bed, "a", OUTCOME_LOST);
    assert_string_equal(writes(), "");
    bed_end(&bed);
}

/* ---- a restart of the bridge ---- */

static void killed_in_the_middle_of_engaging(void **state)
{
    (void)state;
    direct("");
    bed_put(&bed, "a", 5);
    while (fake_count(bed.fake, FAKE_WRITES, POWER) == 0)
        bed_step(&bed);
    bed_kill(&bed);
    (void)writes();
    bed_start(&bed);
    assert_state(CONTROL_RELEASING);
    bed_run(&bed, 500 * MS);
    assert_string_equal(writes(), "1020=00000000 1000=0000");
    assert_state(CONTROL_IDLE);
    bed_kill(&bed);
    bed_start(&bed);
    bed_run(&bed, 5 * S);
    assert_string_equal(writes(), "");
    bed_end(&bed);
}

/* The battery's own timeout ends what it holds; a zero is held on. */
static void killed_while_it_holds(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"60s\"; };");
    held("a", 5);
    bed_kill(&bed);
    bed_start(&bed);
    bed_poll(&bed);
    bed_run(&bed, 30 * S);
    assert_string_equal(writes(), ""); /* the lease goes on, the beat does not */
    held("b", 0);
    bed_kill(&bed);
    bed_start(&bed);
    bed_run(&bed, 100 * MS);
    assert_non_null(strstr(writes(), "1020=00000000"));
    assert_state(CONTROL_HELD);
    assert_null(bed_outcome(&bed, "b", 1));
    bed_end(&bed);
}

static void the_end_of_the_bridge(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"60s\"; }; on_exit = \"fallback\"; idle = \"release\";");
    held("a", 5);
    battery_leave(bed.battery);
    while (!battery_has_left(bed.battery))
        bed_step(&bed);
    assert_string_equal(writes(), "1020=00000000 1022=55AA 1020=00000000 1000=0000");
    bed_end(&bed);
}

/* The bridge ends in the middle: what it has begun is undone. */
static void the_end_in_the_middle_of_engaging(void **state)
{
    (void)state;
    direct("");
    bed_put(&bed, "a", 5);
    while (fake_count(bed.fake, FAKE_WRITES, ACTIVE) == 0)
        bed_step(&bed);
    battery_leave(bed.battery);
    bed_assert(&bed, "a", OUTCOME_FAILED);
    while (!battery_has_left(bed.battery))
        bed_step(&bed);
    assert_string_equal(writes(), "1024=000186A0 1026=000186A0 1001=0001 1020=00000000 1000=0000");
    bed_end(&bed);
}

/* What another program keeps going is not taken from it; what has no timeout of its own, and
 * is nobody's, is brought to rest. */
static void an_orphan(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"5s\"; };");
    bed.fake->registers[1][MODE] = 1;
    bed.fake->registers[1][TIMEOUT] = 10;
    bed.fake->registers[1][POWER + 1] = 5000;
    bed_poll(&bed);
    bed_run(&bed, 30 * S);
    bed_poll(&bed);
    assert_string_equal(writes(), "");
    assert_false(battery_lease(bed.battery).runs);
    bed_end(&bed);
    begin(DEVICE("sungrow-sh", "", "deadman: { timeout = \"5s\"; }; idle = \"release\";"));
    bed.fake->registers[1][EMS] = 0; /* its own plan */
    bed.fake->registers[1][COMMAND] = 0xAA;
    bed.fake->registers[1][FORCED] = 5000;
    bed_poll(&bed);
    bed_run(&bed, 30 * S);
    assert_string_equal(writes(), "");
    bed.fake->registers[1][EMS] = 2;
    bed_poll(&bed);
    bed_run(&bed, 30 * S);
    assert_string_equal(writes(), "06:13050=00CC 06:13049=0002 13050=00CC0000 "
                                  "06:13050=00CC 06:13051=0000 06:13049=0000");
    assert_state(CONTROL_IDLE);
    bed_end(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_that_is_refused),
        cmocka_unit_test(a_release_that_fails),
        cmocka_unit_test(a_release_puts_off_no_setpoint),
        cmocka_unit_test(a_release_puts_off_no_other_point),
        cmocka_unit_test(a_setpoint_that_fails_behind_its_power),
        cmocka_unit_test(a_setpoint_that_is_refused),
        cmocka_unit_test(a_setpoint_in_doubt),
        cmocka_unit_test(a_battery_that_leaves_its_mode),
        cmocka_unit_test(a_command_finds_it_lost),
        cmocka_unit_test(a_cable_that_was_cut),
        cmocka_unit_test(a_freeze),
        cmocka_unit_test(killed_in_the_middle_of_engaging),
        cmocka_unit_test(killed_while_it_holds),
        cmocka_unit_test(the_end_of_the_bridge),
        cmocka_unit_test(the_end_in_the_middle_of_engaging),
        cmocka_unit_test(an_orphan),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests_name("driver", tests, NULL, NULL);
}
