/* poller: commands first, whatever else is due. */
#include "bridge/battery/intent.h"
#include "poller_stage.h"

static const struct outcome *only_outcome(void)
{
    const struct outcome *found = NULL;
    for (unsigned i = 0; i < stage.n_outcomes; i++) {
        if (stage.outcomes[i].correction)
            continue;
        assert_null(found);
        found = &stage.outcomes[i];
    }
    assert_non_null(found);
    assert_string_equal(found->command.id, "d-1");
    return found;
}

/* A stop of what the register holds, before that call. */
static void stop_before(struct fake_rule call)
{
    stage.command.stop = true;
    stage.command.value = 0;
    stage.put_before = call;
}

/* It comes while the meter's first block is on its way, and is carried out
 * before the second. */
static void test_a_command_goes_between_two_transactions(void **state)
{
    (void)state;
    stage_begin(BOTH);
    stage.put_before = (struct fake_rule){.function = FAKE_READ, .address = 0, .from = 2};
    stage_run(1, 3);
    assert_int_equal(only_outcome()->kind, OUTCOME_CONFIRMED);
    assert_int_equal(stage.fake->n_writes, 1);
    assert_int_equal(stage.fake->registers[1][TARGET], 50);
    unsigned at = 0;
    for (unsigned seen = 0; seen < 2; at++)
        seen += stage.fake->calls[at].unit == 2 && stage.fake->calls[at].address == 0;
    const struct fake_call *calls = &stage.fake->calls[at];
    assert_int_equal(calls[0].unit, 1); /* the state, read for it */
    assert_int_equal(calls[0].function, FAKE_READ);
    assert_int_equal(calls[1].function, FAKE_WRITE);
    assert_int_equal(calls[1].unit, 1);
    assert_int_equal(calls[2].address, TARGET); /* read back */
    assert_int_equal(calls[3].unit, 2);         /* on with the scan */
    assert_int_equal(calls[3].address, 0x100);
    stage_end();
}

static void test_a_command_does_not_wait_for_retries(void **state)
{
    (void)state;
    stage_begin(BOTH);
    fake_rule_add(stage.fake,
                  (struct fake_rule){.unit = 2, .function = FAKE_READ, .fault = FAULT_TIMEOUT});
    stage.put_before = (struct fake_rule){.function = FAKE_READ, .address = 0, .from = 1};
    stage_run(0, 10);
    const struct outcome *outcome = only_outcome();
    assert_int_equal(outcome->kind, OUTCOME_CONFIRMED);
    /* After the one transaction that was under way. */
    const struct fake_call *silent = NULL;
    for (unsigned i = 0; silent == NULL; i++)
        silent = stage.fake->calls[i].unit == 2 ? &stage.fake->calls[i] : NULL;
    assert_true(outcome->done_ns - silent->at_ns < 5 * CLOCK_NS_PER_S + 10 * CLOCK_NS_PER_MS);
    stage_end();
}

/* Its neighbour is silent, with all its retries and timeouts: a stop waits for the
 * one request that is under way, whatever else is due. */
static void test_a_stop_waits_for_one_transaction_of_a_silent_neighbour(void **state)
{
    (void)state;
    for (unsigned from = 1; from <= 4; from++) {
        stage_begin(BOTH);
        fake_rule_add(stage.fake,
                      (struct fake_rule){.unit = 2, .function = FAKE_READ, .fault = FAULT_TIMEOUT});
        stop_before((struct fake_rule){.function = FAKE_READ, .address = 0, .from = from});
        stage_run(0, 300);
        const struct outcome *outcome = only_outcome();
        assert_int_equal(outcome->kind, OUTCOME_CONFIRMED);
        /* The timeout under way, then a connection. */
        assert_true(outcome->written_ns - stage.put_ns <= 5 * CLOCK_NS_PER_S + 2 * CLOCK_NS_PER_MS);
        assert_int_equal(stage.fake->registers[1][TARGET], 0);
        stage_end();
    }
}

/* A device of 0.8 s a transaction: the stop waits for one of them. */
static void test_a_stop_on_a_slow_device(void **state)
{
    (void)state;
    stage_begin(ONE_BATTERY);
    stage.fake->cost_ns = 800 * CLOCK_NS_PER_MS;
    stop_before((struct fake_rule){.function = FAKE_READ, .address = STATUS, .from = 2});
    stage_run(0, 5);
    const struct outcome *outcome = only_outcome();
    assert_int_equal(outcome->kind, OUTCOME_CONFIRMED);
    assert_int_equal(outcome->written_ns - stage.put_ns, 800 * CLOCK_NS_PER_MS);
    stage_end();
}

/* A dead battery, told to stop or fired at by its deadman, takes little of the time. */
static void test_a_dead_battery_takes_little_of_its_neighbours_time(void **state)
{
    (void)state;
    for (int lease = 0; lease < 2; lease++) {
        stage_begin(SITE_ONE(
            SITE_DISCHARGE
            "deadman: { timeout = \"1s\"; value = -20.0; };") " meters = ( " METER("") " );");
        if (!lease)
            stop_before((struct fake_rule){.function = FAKE_READ, .address = 0, .from = 10});
        /* It falls silent when it has been seen to hold 20 kW. */
        fake_rule_add(stage.fake,
                      (struct fake_rule){
                          .unit = 1, .function = FAKE_READ, .from = 4, .fault = FAULT_TIMEOUT});
        fake_rule_add(stage.fake, (struct fake_rule){.unit = 1,
                                                     .function = FAKE_WRITE,
                                                     .fault = FAULT_TIMEOUT,
                                                     .ignores = true});
        stage_run(1, 300);
        int64_t lost_ns = 0;
        for (unsigned i = 0; i < stage.fake->n_calls; i++)
            lost_ns += stage.fake->calls[i].fault == FAULT_TIMEOUT ? 5 * CLOCK_NS_PER_S : 0;
        assert_true(stage.fake->n_writes > 1);
        /* A sixth for its polls, a sixth for what is written to it. */
        assert_true(lost_ns <= (fake_now_ns - FAKE_MONO_NS) * 2 / 5);
        stage_end();
    }
}

#define TWO_BATTERIES                                                                              \
    "bess = ( " SITE_BATTERY("b1", "Site-BESS-01", "1", SITE_DISCHARGE) ", " SITE_BATTERY(         \
        "b2", "Site-BESS-02", "3",                                                                 \
        SITE_DISCHARGE "deadman: { timeout = \"2s\"; value = 0.0; };") " );"
#define FLOOD_NS (15 * CLOCK_NS_PER_S)

/* Setpoints for the first battery, for both, stops for it, more of them than it has room for. */
enum { FLOOD_ONE, FLOOD_BOTH, FLOOD_STOPS, FLOOD_MANY_STOPS, FLOODS } kind_of_flood;

static void put_one_more(unsigned device)
{
    static unsigned n;
    struct command replaced, command = stage.command;
    command.device = device;
    command.mono_ns = fake_now_ns;
    snprintf(command.id, sizeof command.id, "flood-%u", n++);
    mailbox_put(stage.mailbox, &command, &replaced);
}

/* There is always another command for the first battery; at 4 s the second is to stop. */
static void flood(struct fake_link *fake, const struct fake_call *call)
{
    const bool stops = stage.command.stop;
    const int64_t now_ns = fake_now_ns - FAKE_MONO_NS;
    const bool begins = stops ? call->function == FAKE_WRITE
                              : call->function == FAKE_READ && call->address == STATUS;
    (void)fake;
    if (now_ns > (kind_of_flood == FLOOD_MANY_STOPS ? FLOOD_NS / 3 : FLOOD_NS) ||
        (kind_of_flood != FLOOD_BOTH && (call->unit != 1 || !begins)))
        return;
    for (unsigned i = 0; i < (kind_of_flood == FLOOD_MANY_STOPS ? INTENT_STOPS_MAX + 2 : 1); i++)
        put_one_more(0);
    if (kind_of_flood == FLOOD_BOTH)
        put_one_more(1);
    if (!stops || stage.put_ns != -1 || now_ns < 4 * CLOCK_NS_PER_S)
        return;
    stage.put_ns = fake_now_ns;
    put_one_more(1);
}

/* Nobody on a line waits for ever behind another who is told something all the time: neither
 * the deadman, nor a setpoint that newer ones replace, nor a stop behind stops. */
static void test_a_neighbour_that_is_commanded_all_the_time(void **state)
{
    (void)state;
    for (kind_of_flood = FLOOD_ONE; kind_of_flood < FLOODS; kind_of_flood++) {
        const bool stops = kind_of_flood >= FLOOD_STOPS;
        stage_begin(TWO_BATTERIES);
        uint16_t *registers = stage.fake->registers[3];
        registers[STATUS] = 1;
        registers[TARGET] = stops ? 0 : 20;
        registers[SOE] = 54;
        stage.fake->cost_ns = 100 * CLOCK_NS_PER_MS;
        stage.fake->before = flood;
        stage.command.stop = stops;
        stage.command.value = stops ? 0 : 50;
        put_one_more(0);
        stage.until_ns = FLOOD_NS + CLOCK_NS_PER_S;
        stage_run(0, UINT32_MAX);
        const struct fake_call *write = NULL;
        const uint16_t word = kind_of_flood == FLOOD_BOTH ? 50 : 0;
        for (unsigned i = 0; write == NULL && i < stage.fake->n_calls; i++) {
            const struct fake_call *call = &stage.fake->calls[i];
            if (call->unit == 3 && call->function == FAKE_WRITE && call->words[0] == word)
                write = call;
        }
        assert_non_null(write);
        if (stops) /* after the one under way, and one that came with it */
            assert_true(write->at_ns - stage.put_ns <= 4 * stage.fake->cost_ns);
        else
            assert_true(write->at_ns - FAKE_MONO_NS < FLOOD_NS);
        stage_end();
    }
}

/* As between the two ends of a reload that adds it. */
static void test_a_command_for_a_device_that_is_still_to_come(void **state)
{
    (void)state;
    struct command replaced, command;
    stage_begin(ONE_BATTERY);
    command = stage.command;
    command.device = 1;
    mailbox_put(stage.mailbox, &command, &replaced);
    mailbox_put(stage.mailbox, &stage.command, &replaced);
    stage_run(0, 3);
    assert_int_equal(only_outcome()->kind, OUTCOME_CONFIRMED);
    assert_true(mailbox_take(stage.mailbox, &command));
    assert_int_equal(command.device, 1);
    stage_end();
}

static void test_what_waits_at_the_end_is_told(void **state)
{
    (void)state;
    struct command replaced;
    for (int stop = 0; stop < 2; stop++) {
        stage_begin(BOTH);
        stage.command.stop = stop;
        stage.command.value = stop ? 0 : 50;
        mailbox_put(stage.mailbox, &stage.command, &replaced);
        end_script();
        stage_run(0, 1);
        /* There is no time for it any more: the next run owes the stop. */
        assert_int_equal(only_outcome()->kind, stop ? OUTCOME_UNKNOWN : OUTCOME_REFUSED);
        if (!stop)
            assert_int_equal(only_outcome()->reason, REASON_SHUTTING_DOWN);
        assert_int_equal(stage.n_samples, 0);
        stage_end();
    }
}

/* Asked to leave, it carries out what waits of stops, and says when it has. */
static void test_asked_to_leave_it_carries_out_a_stop(void **state)
{
    (void)state;
    struct command replaced;
    stage_begin(BOTH);
    stage.until_left = true;
    stage.command.stop = true;
    stage.command.value = 0;
    mailbox_put(stage.mailbox, &stage.command, &replaced);
    mailbox_leave(stage.mailbox);
    stage_run(0, UINT32_MAX);
    assert_int_equal(only_outcome()->kind, OUTCOME_CONFIRMED);
    assert_int_equal(stage.fake->registers[1][TARGET], 0);
    stage_end();
}

/* ---- what polls tell of the setpoint ---- */

/* With available_blocks refused a scan has two parts; TARGET is in the first. */
static void in_two_parts(void)
{
    fake_rule_add(stage.fake, (struct fake_rule){.function = FAKE_READ,
                                                 .address = BLOCKS,
                                                 .fault = FAULT_ILLEGAL_ADDRESS});
}

static void test_an_unknown_outcome_is_settled_by_the_next_scan(void **state)
{
    (void)state;
    for (int taken = 0; taken < 2; taken++) {
        stage_begin(ONE_BATTERY);
        in_two_parts();
        fake_rule_add(
            stage.fake,
            (struct fake_rule){.function = FAKE_WRITE, .fault = FAULT_TIMEOUT, .ignores = !taken});
        /* Reads of TARGET: two scans, the state, then the read-back. */
        stage.put_before = (struct fake_rule){.function = FAKE_READ, .address = BLOCKS, .from = 2};
        fake_rule_add(stage.fake, (struct fake_rule){.function = FAKE_READ,
                                                     .address = TARGET,
                                                     .from = 4,
                                                     .to = 4,
                                                     .fault = FAULT_TIMEOUT});
        stage_run(0, 5);
        const struct outcome *outcome = only_outcome();
        assert_int_equal(outcome->kind, OUTCOME_UNKNOWN);
        assert_int_equal(stage.fake->n_writes, 1);
        assert_int_equal(stage.n_outcomes, 2);
        const struct outcome *correction = &stage.outcomes[1];
        assert_true(correction->correction);
        assert_string_equal(correction->command.id, "d-1");
        assert_int_equal(correction->kind, taken ? OUTCOME_CONFIRMED : OUTCOME_MISMATCH);
        assert_true(correction->readback == (taken ? 50.0 : 20.0));
        assert_true(correction->done_ns > outcome->done_ns);
        stage_end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_command_goes_between_two_transactions),
        cmocka_unit_test(test_a_command_does_not_wait_for_retries),
        cmocka_unit_test(test_a_stop_waits_for_one_transaction_of_a_silent_neighbour),
        cmocka_unit_test(test_a_stop_on_a_slow_device),
        cmocka_unit_test(test_a_dead_battery_takes_little_of_its_neighbours_time),
        cmocka_unit_test(test_a_neighbour_that_is_commanded_all_the_time),
        cmocka_unit_test(test_a_command_for_a_device_that_is_still_to_come),
        cmocka_unit_test(test_what_waits_at_the_end_is_told),
        cmocka_unit_test(test_asked_to_leave_it_carries_out_a_stop),
        cmocka_unit_test(test_an_unknown_outcome_is_settled_by_the_next_scan),
    };
    link_init_stop();
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
