/* sequence: what is refused is not written, and what is written is written once. */
#include "sequence_stage.h"

/* ---- the sequence: what is refused is not written ---- */

static void test_the_state_is_read_for_this_very_command(void **state)
{
    (void)state;
    const struct {
        uint16_t address, word;
        double value;
        enum reason reason;
    } rows[] = {
        {STATUS, 0, 50, REASON_NOT_READY},      {SOE, 10, 50, REASON_SOE_LOW},
        {SOE, 90, -50, REASON_SOE_HIGH},        {BLOCKS, 3, 50, REASON_BLOCKS},
        {TARGET, 9, 50, REASON_STEP_TOO_LARGE}, {SOE, 0xffff, 50, REASON_STATE_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct stage s =
            stage_with(SITE_ONE(SITE_DISCHARGE "kw_per_block = 12.5; max_step_kw = 40;"));
        s.fake->registers[1][TARGET] = rows[i].value > 0 ? 20 : (uint16_t)-20;
        s.fake->registers[1][rows[i].address] = rows[i].word;
        s.command.value = rows[i].value;
        stage_run(&s);
        assert_refused(&s, rows[i].reason);
        assert_string_not_equal(s.outcome.detail, "");
        /* A moment later it is so no more: nothing is remembered. */
        s.fake->registers[1][STATUS] = 1;
        s.fake->registers[1][SOE] = 54;
        s.fake->registers[1][BLOCKS] = 10;
        s.fake->registers[1][TARGET] = rows[i].value > 0 ? 20 : (uint16_t)-20;
        stage_run(&s);
        assert_outcome(&s, OUTCOME_CONFIRMED);
        stage_end(&s);
    }
}

static void test_a_state_that_cannot_be_read_refuses(void **state)
{
    (void)state;
    const struct {
        struct fake_rule rule;
        enum reason reason; /* it answers, or nobody does */
    } rows[] = {
        {{.address = SOE, .fault = FAULT_ILLEGAL_ADDRESS}, REASON_STATE_UNKNOWN},
        {{.address = STATUS, .fault = FAULT_ILLEGAL_ADDRESS}, REASON_STATE_UNKNOWN},
        {{.address = SOE, .fault = FAULT_DEVICE_FAILURE}, REASON_STATE_UNKNOWN},
        {{.fault = FAULT_ILLEGAL_FUNCTION}, REASON_STATE_UNKNOWN},
        {{.fault = FAULT_BUSY}, REASON_STATE_UNKNOWN},
        {{.fault = FAULT_TIMEOUT}, REASON_DEVICE_OFFLINE},
        {{.fault = FAULT_BAD_REPLY}, REASON_DEVICE_OFFLINE},
        {{.fault = FAULT_CONNECTION}, REASON_DEVICE_OFFLINE},
        {{.fault = FAULT_GATEWAY_PATH}, REASON_DEVICE_OFFLINE},
        {{.fault = FAULT_GATEWAY_TARGET}, REASON_DEVICE_OFFLINE},
        {{.function = FAKE_OPEN, .fault = FAULT_CONNECTION}, REASON_DEVICE_OFFLINE},
        {{.function = FAKE_OPEN, .fault = FAULT_TIMEOUT}, REASON_DEVICE_OFFLINE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct stage s = stage();
        struct fake_rule rule = rows[i].rule;
        rule.function = rule.function != 0 ? rule.function : FAKE_READ;
        fake_rule_add(s.fake, rule);
        stage_run(&s);
        assert_refused(&s, rows[i].reason);
        assert_non_null(strstr(s.outcome.detail, fault_word(rule.fault)));
        stage_end(&s);
    }
}

/* What no sample would show is no state either: a battery with 65535 blocks,
 * the word of some types for "not known". */
static void test_a_state_that_is_not_believed_refuses(void **state)
{
    (void)state;
    for (int row = 0; row < 3; row++) {
        struct stage s = stage_with(SITE_ONE(SITE_DISCHARGE "kw_per_block = 12.5;"));
        struct point *blocks = &s.battery->points[s.battery->control.blocks];
        s.fake->registers[1][BLOCKS] = 65535;
        if (row == 0) {
            blocks->n_sentinels = 1;
            blocks->sentinels[0] = 65535;
        } else if (row == 1) {
            blocks->high = 100;
        } else {
            s.fake->registers[1][BLOCKS] = 4;
            blocks->low = 5;
        }
        stage_run(&s);
        assert_refused(&s, REASON_STATE_UNKNOWN);
        assert_non_null(strstr(s.outcome.detail, "available_blocks"));
        assert_non_null(strstr(s.outcome.detail, fault_word(FAULT_IMPLAUSIBLE)));
        s.command.value = 0; /* a stop is not judged */
        stage_run(&s);
        assert_outcome(&s, OUTCOME_CONFIRMED);
        stage_end(&s);
    }
}

/* The refused neighbour is not needed: the interlocks do not miss it. */
static void test_only_what_is_judged_must_be_readable(void **state)
{
    (void)state;
    struct stage s = stage();
    fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_READ,
                                             .address = BLOCKS,
                                             .fault = FAULT_ILLEGAL_ADDRESS});
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
    assert_wrote_once(&s, 50);
    stage_end(&s);
}

/* ---- the sequence: what is written is written once ---- */

static void test_written_and_read_back(void **state)
{
    (void)state;
    struct stage s = stage();
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
    assert_wrote_once(&s, 50);
    assert_true(s.outcome.has_readback);
    assert_true(s.outcome.readback == 50.0);
    assert_int_equal(s.fake->registers[1][TARGET], 50);
    assert_int_equal(s.fake->registers[1][SOURCE], 2); /* not told to touch it */
    assert_true(s.outcome.judged_ns <= s.outcome.written_ns);
    assert_true(s.outcome.written_ns < s.outcome.done_ns);
    assert_string_equal(s.outcome.detail, "");
    /* Read first, then write, then read back. */
    const struct fake_call *last = &s.fake->calls[s.fake->n_calls - 1];
    assert_int_equal(last->function, FAKE_READ);
    assert_int_equal(last->address, TARGET);
    assert_int_equal(s.fake->calls[s.fake->n_calls - 2].function, FAKE_WRITE);
    stage_end(&s);
}

static void test_the_sign_on_the_wire(void **state)
{
    (void)state;
    const struct {
        const char *devices;
        double value;
        uint16_t word;
    } rows[] = {
        {SITE_ONE(SITE_DISCHARGE), 50, 50},   {SITE_ONE(SITE_DISCHARGE), -50, 0xffce},
        {SITE_ONE(SITE_CHARGE), 50, 0xffce},  {SITE_ONE(SITE_CHARGE), -50, 50},
        {SITE_ONE(SITE_DISCHARGE), 250, 250}, {SITE_ONE(SITE_DISCHARGE), -250, 0xff06},
        {SITE_ONE(SITE_CHARGE), 250, 0xff06}, {SITE_ONE(SITE_CHARGE), -250, 250},
        {SITE_ONE(SITE_DISCHARGE), -0.0, 0},  {SITE_ONE(SITE_CHARGE), 0, 0},
        {SITE_ONE(SITE_CHARGE), -0.0, 0},     {SITE_ONE(SITE_CHARGE), 1, 0xffff},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct stage s = stage_with(rows[i].devices);
        s.command.value = rows[i].value;
        stage_run(&s);
        assert_outcome(&s, OUTCOME_CONFIRMED);
        assert_wrote_once(&s, rows[i].word);
        assert_true(s.outcome.readback == rows[i].value);
        stage_end(&s);
    }
}

/* The interlocks judge what the battery does, not what its register says. */
static void test_the_interlocks_know_the_sign(void **state)
{
    (void)state;
    const char *const sites[] = {SITE_ONE(SITE_DISCHARGE "max_step_kw = 60;"),
                                 SITE_ONE(SITE_CHARGE "max_step_kw = 60;")};
    for (int charge = 0; charge < 2; charge++) {
        struct stage s = stage_with(sites[charge]);
        s.fake->registers[1][SOE] = 5;
        s.command.value = 50;
        stage_run(&s);
        assert_refused(&s, REASON_SOE_LOW);
        s.fake->registers[1][TARGET] = 0;
        s.command.value = -50;
        stage_run(&s);
        assert_outcome(&s, OUTCOME_CONFIRMED);
        /* The step from -50 is known with its sign, too. */
        s.fake->registers[1][SOE] = 54;
        s.command.value = 11;
        stage_run(&s);
        assert_outcome(&s, OUTCOME_REFUSED);
        assert_int_equal(s.outcome.reason, REASON_STEP_TOO_LARGE);
        s.command.value = 10;
        stage_run(&s);
        assert_outcome(&s, OUTCOME_CONFIRMED);
        stage_end(&s);
    }
}

static void test_the_ends_of_int16(void **state)
{
    (void)state;
    const struct {
        const char *sign;
        double value;
        uint16_t word; /* 0 = does not fit */
    } rows[] = {
        {"discharge", 32767, 0x7fff}, {"discharge", -32768, 0x8000}, {"discharge", 32768, 0},
        {"discharge", -32769, 0},     {"charge", 32768, 0x8000},     {"charge", -32767, 0x7fff},
        {"charge", -32768, 0},        {"charge", 65536, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct stage s =
            stage_with(rows[i].sign[0] == 'd' ? SITE_ONE(SITE_DISCHARGE) : SITE_ONE(SITE_CHARGE));
        s.command.value = rows[i].value;
        stage_run(&s);
        if (rows[i].word != 0) {
            assert_outcome(&s, OUTCOME_CONFIRMED);
            assert_wrote_once(&s, rows[i].word);
            assert_true(s.outcome.readback == rows[i].value);
        } else {
            assert_outcome(&s, OUTCOME_REFUSED);
            assert_int_equal(s.fake->n_writes, 0);
        }
        stage_end(&s);
    }
}

static void test_a_register_that_is_slow_to_take_it(void **state)
{
    (void)state;
    for (unsigned nth = 1; nth <= 20; nth++) {
        struct stage s = stage();
        fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_WRITE, .takes_at = nth});
        stage_run(&s);
        assert_outcome(&s, OUTCOME_CONFIRMED);
        assert_wrote_once(&s, 50);
        assert_true(s.outcome.readback == 50.0);
        assert_int_equal(fake_count(s.fake, FAKE_READ, TARGET), nth);
        stage_end(&s);
    }
}

static void test_a_register_that_does_not_take_it(void **state)
{
    (void)state;
    struct stage s = stage();
    fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_WRITE, .ignores = true});
    stage_run(&s);
    assert_outcome(&s, OUTCOME_MISMATCH);
    assert_wrote_once(&s, 50);
    assert_true(s.outcome.has_readback);
    assert_true(s.outcome.readback == 20.0);
    /* Asked again for a second, no shorter and not much longer. */
    int64_t spent_ns = s.outcome.done_ns - s.outcome.written_ns;
    assert_true(spent_ns >= CLOCK_NS_PER_S);
    assert_true(spent_ns < CLOCK_NS_PER_S + 50 * CLOCK_NS_PER_MS);
    assert_true(fake_count(s.fake, FAKE_READ, TARGET) > 10);
    stage_end(&s);
}

/* The reply to the write is lost, in every way; what the register holds
 * decides, and nothing is ever written again. */
static void test_a_lost_reply_is_settled_by_reading(void **state)
{
    (void)state;
    const enum fault faults[] = {FAULT_TIMEOUT, FAULT_CONNECTION, FAULT_BAD_REPLY};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        for (int ignores = 0; ignores < 2; ignores++) {
            struct stage s = stage();
            fake_rule_add(
                s.fake,
                (struct fake_rule){.function = FAKE_WRITE, .fault = faults[i], .ignores = ignores});
            stage_run(&s);
            assert_outcome(&s, ignores ? OUTCOME_MISMATCH : OUTCOME_CONFIRMED);
            assert_wrote_once(&s, 50);
            assert_true(s.outcome.readback == (ignores ? 20.0 : 50.0));
            assert_int_equal(s.fake->n_opened, 2); /* on a connection of its own */
            if (ignores)
                assert_non_null(strstr(s.outcome.detail, fault_word(faults[i])));
            stage_end(&s);
        }
    }
}

static void test_a_lost_reply_and_nothing_to_read_is_unknown(void **state)
{
    (void)state;
    const enum fault faults[] = {FAULT_TIMEOUT, FAULT_CONNECTION, FAULT_BAD_REPLY,
                                 FAULT_GATEWAY_TARGET, FAULT_GATEWAY_PATH};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct stage s = stage();
        fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_WRITE, .fault = faults[i]});
        fake_rule_add(s.fake,
                      (struct fake_rule){
                          .function = FAKE_READ, .address = TARGET, .from = 2, .fault = faults[i]});
        stage_run(&s);
        assert_outcome(&s, OUTCOME_UNKNOWN);
        assert_wrote_once(&s, 50);
        assert_false(s.outcome.has_readback);
        assert_int_equal(s.outcome.fault, faults[i]);
        stage_end(&s);
    }
}

static void test_a_lost_reply_and_a_device_gone_for_good(void **state)
{
    (void)state;
    struct stage s = stage();
    fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_WRITE, .fault = FAULT_CONNECTION});
    fake_rule_add(s.fake,
                  (struct fake_rule){.function = FAKE_OPEN, .from = 2, .fault = FAULT_CONNECTION});
    stage_run(&s);
    assert_outcome(&s, OUTCOME_UNKNOWN);
    assert_wrote_once(&s, 50);
    stage_end(&s);
}

/* Taken, answered, and then silence: written, but nobody can say more. */
static void test_an_acknowledged_write_that_cannot_be_read_back(void **state)
{
    (void)state;
    struct stage s = stage();
    fake_rule_add(s.fake,
                  (struct fake_rule){
                      .function = FAKE_READ, .address = TARGET, .from = 2, .fault = FAULT_TIMEOUT});
    stage_run(&s);
    assert_outcome(&s, OUTCOME_UNKNOWN);
    assert_wrote_once(&s, 50);
    assert_string_not_equal(s.outcome.detail, "");
    stage_end(&s);
}

static void test_a_refusal_of_the_device_is_final(void **state)
{
    (void)state;
    const enum fault faults[] = {FAULT_ILLEGAL_FUNCTION, FAULT_ILLEGAL_ADDRESS, FAULT_ILLEGAL_VALUE,
                                 FAULT_DEVICE_FAILURE, FAULT_BUSY};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct stage s = stage();
        fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_WRITE, .fault = faults[i]});
        stage_run(&s);
        assert_outcome(&s, OUTCOME_FAILED);
        assert_int_equal(s.outcome.fault, faults[i]);
        assert_wrote_once(&s, 50);
        assert_int_equal(s.fake->registers[1][TARGET], 20);
        stage_end(&s);
    }
}

/* 05 says "later"; the gateway's codes say "no answer": the register decides. */
static void test_an_exception_that_settles_nothing(void **state)
{
    (void)state;
    const enum fault faults[] = {FAULT_ACKNOWLEDGE, FAULT_GATEWAY_PATH, FAULT_GATEWAY_TARGET};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        for (unsigned takes_at = 0; takes_at <= 5; takes_at += 5) {
            struct stage s = stage();
            fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_WRITE,
                                                     .fault = faults[i],
                                                     .takes_at = takes_at});
            stage_run(&s);
            assert_outcome(&s, takes_at ? OUTCOME_CONFIRMED : OUTCOME_FAILED);
            assert_int_equal(s.outcome.fault, faults[i]);
            assert_wrote_once(&s, 50);
            assert_int_equal(s.fake->n_opened, 1); /* the link is in step */
            stage_end(&s);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_state_is_read_for_this_very_command),
        cmocka_unit_test(test_a_state_that_cannot_be_read_refuses),
        cmocka_unit_test(test_a_state_that_is_not_believed_refuses),
        cmocka_unit_test(test_only_what_is_judged_must_be_readable),
        cmocka_unit_test(test_written_and_read_back),
        cmocka_unit_test(test_the_sign_on_the_wire),
        cmocka_unit_test(test_the_interlocks_know_the_sign),
        cmocka_unit_test(test_the_ends_of_int16),
        cmocka_unit_test(test_a_register_that_is_slow_to_take_it),
        cmocka_unit_test(test_a_register_that_does_not_take_it),
        cmocka_unit_test(test_a_lost_reply_is_settled_by_reading),
        cmocka_unit_test(test_a_lost_reply_and_nothing_to_read_is_unknown),
        cmocka_unit_test(test_a_lost_reply_and_a_device_gone_for_good),
        cmocka_unit_test(test_an_acknowledged_write_that_cannot_be_read_back),
        cmocka_unit_test(test_a_refusal_of_the_device_is_final),
        cmocka_unit_test(test_an_exception_that_settles_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
