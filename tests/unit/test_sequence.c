/* sequence: what is refused is not written, and what is written is written once. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/battery/sequence.h"
#include "fake_clock.h"
#include "fake_link.h"
#include "site.h"

#define ANSWER_NS CLOCK_NS_PER_MS

/* Everything one command needs; `battery` may be changed before stage_run(). */
struct stage {
    struct conf conf;
    struct device *battery;
    struct fake_link *fake;
    struct command command;
    struct outcome outcome;
};

static struct stage stage_with(const char *devices)
{
    struct stage stage = {.fake = fake_link_new()};
    fake_clock_reset();
    site_read(&stage.conf, devices);
    stage.battery = &stage.conf.devices.devices[0];
    stage.fake->clock_ns = &fake_now_ns;
    stage.fake->cost_ns = ANSWER_NS;
    uint16_t *registers = stage.fake->registers[1];
    registers[STATUS] = 1;
    registers[TARGET] = 20;
    registers[SOURCE] = 2;
    registers[SOE] = 54;
    registers[BLOCKS] = 10;
    stage.command = (struct command){
        .point = (unsigned)stage.battery->control.setpoint, .has_value = true, .value = 50};
    return stage;
}

static struct stage stage(void)
{
    return stage_with(SITE_ONE(SITE_DISCHARGE));
}

static bool is_setpoint(const struct stage *stage)
{
    return (int)stage->command.point == stage->battery->control.setpoint;
}

/* One step; it makes one transaction at most, besides opening. */
static void stage_step(struct stage *stage, struct sequence *sequence)
{
    const unsigned calls = stage->fake->n_calls, opened = stage->fake->n_opened;
    const int64_t pause_ns = sequence_pause_ns(sequence);
    if (sequence_state(sequence) == SEQUENCE_PAUSE)
        fake_now_ns = pause_ns;
    sequence_step(sequence, &stage->fake->link);
    assert_true(stage->fake->n_calls - calls <= 1 + stage->fake->n_opened - opened);
    /* A write and opening are never one step. */
    if (stage->fake->n_opened != opened)
        assert_int_not_equal(stage->fake->calls[stage->fake->n_calls - 1].function, FAKE_WRITE);
}

static void stage_run(struct stage *stage)
{
    struct sequence *sequence = sequence_new(stage->battery, NULL);
    assert_non_null(sequence);
    assert_int_equal(sequence_state(sequence), SEQUENCE_IDLE);
    stage->command.stop = stage->command.value == 0.0 && is_setpoint(stage);
    stage->outcome = (struct outcome){.command = stage->command};
    sequence_begin(sequence, &stage->outcome, false, false);
    while (sequence_state(sequence) != SEQUENCE_ENDED)
        stage_step(stage, sequence);
    stage->outcome.done_ns = fake_now_ns;
    sequence_rest(sequence);
    assert_int_equal(sequence_state(sequence), SEQUENCE_IDLE);
    sequence_free(sequence);
}

static void stage_end(struct stage *stage)
{
    conf_free(&stage->conf);
    free(stage->fake);
}

static void assert_outcome(const struct stage *stage, enum outcome_kind outcome)
{
    assert_string_equal(outcome_word(stage->outcome.kind), outcome_word(outcome));
}

static void assert_refused(const struct stage *stage, enum reason reason)
{
    assert_outcome(stage, OUTCOME_REFUSED);
    assert_string_equal(reason_word(stage->outcome.reason), reason_word(reason));
    assert_int_equal(stage->fake->n_writes, 0);
    assert_int_equal(stage->outcome.written_ns, 0);
    assert_int_equal(stage->outcome.n_words, 0);
    assert_false(stage->outcome.has_readback);
}

/* Exactly one request to write went out, of this word to the setpoint. */
static void assert_wrote_once(const struct stage *stage, uint16_t word)
{
    assert_int_equal(stage->fake->n_writes, 1);
    assert_int_equal(fake_count(stage->fake, FAKE_WRITE, TARGET), 1);
    for (unsigned i = 0; i < stage->fake->n_calls; i++) {
        if (stage->fake->calls[i].function == FAKE_WRITE)
            assert_int_equal(stage->fake->calls[i].words[0], word);
    }
    assert_int_equal(stage->outcome.n_words, 1);
    assert_int_equal(stage->outcome.words[0], word);
    assert_true(stage->outcome.written_ns >= FAKE_MONO_NS);
}

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

/* ---- connections ---- */

static void test_a_stale_connection_is_renewed_before_the_reading(void **state)
{
    (void)state;
    struct stage s = stage();
    s.fake->link.is_open = true;
    s.fake->stale = true;
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
    assert_int_equal(s.fake->n_opened, 1);
    assert_wrote_once(&s, 50);
    stage_end(&s);
}

static void test_a_connection_that_breaks_while_reading_is_tried_once_more(void **state)
{
    (void)state;
    struct stage s = stage();
    s.fake->link.is_open = true;
    fake_rule_add(s.fake,
                  (struct fake_rule){.function = FAKE_READ, .to = 1, .fault = FAULT_CONNECTION});
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
    assert_wrote_once(&s, 50);
    stage_end(&s);

    /* But not twice, and not when it was opened for this very command. */
    for (int was_open = 0; was_open < 2; was_open++) {
        s = stage();
        s.fake->link.is_open = was_open;
        fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_READ, .fault = FAULT_CONNECTION});
        stage_run(&s);
        assert_refused(&s, REASON_DEVICE_OFFLINE);
        assert_int_equal(fake_count(s.fake, FAKE_READ, 0), was_open ? 2 : 1);
        stage_end(&s);
    }
}

/* ---- zero ---- */

static void test_zero_is_written_whatever_the_state(void **state)
{
    (void)state;
    struct stage s = stage_with(
        SITE_ONE(SITE_DISCHARGE "kw_per_block = 10; max_step_kw = 1; min_interval = \"60s\";"));
    s.fake->registers[1][STATUS] = 0;
    s.fake->registers[1][SOE] = 0xffff;
    s.fake->registers[1][BLOCKS] = 0;
    s.fake->registers[1][TARGET] = 200;
    fake_rule_add(
        s.fake,
        (struct fake_rule){.function = FAKE_READ, .address = SOE, .fault = FAULT_ILLEGAL_ADDRESS});
    s.command.value = 0;
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
    assert_wrote_once(&s, 0);
    /* No time is spent on a state that nobody judges. */
    assert_int_equal(s.fake->n_calls, 3); /* open, write, read back */
    stage_end(&s);
}

/* What cannot be reached is not refused: nobody knows what it does. */
static void test_zero_to_a_device_that_is_gone(void **state)
{
    (void)state;
    for (int source = 0; source < 2; source++) {
        struct stage s = stage_with(source ? SITE_ONE(SITE_DISCHARGE "command_source = 5;")
                                           : SITE_ONE(SITE_DISCHARGE));
        fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_OPEN, .fault = FAULT_CONNECTION});
        s.command.value = 0;
        stage_run(&s);
        assert_outcome(&s, OUTCOME_UNKNOWN);
        assert_int_equal(s.outcome.fault, FAULT_CONNECTION);
        assert_int_equal(s.outcome.written_ns, 0);
        assert_string_not_equal(s.outcome.detail, "");
        stage_end(&s);
    }
}

/* ---- command_source ---- */

#define WITH_SOURCE SITE_ONE(SITE_DISCHARGE "command_source = 5;")

static void test_the_source_is_written_before_the_setpoint(void **state)
{
    (void)state;
    for (int zero = 0; zero < 2; zero++) {
        struct stage s = stage_with(WITH_SOURCE);
        s.command.value = zero ? 0 : 50;
        stage_run(&s);
        assert_outcome(&s, OUTCOME_CONFIRMED);
        assert_int_equal(s.fake->n_writes, 2);
        assert_int_equal(fake_count(s.fake, FAKE_WRITE, SOURCE), 1);
        assert_int_equal(fake_count(s.fake, FAKE_WRITE, TARGET), 1);
        assert_int_equal(s.fake->registers[1][SOURCE], 5);
        assert_int_equal(s.fake->registers[1][TARGET], zero ? 0 : 50);
        bool source_written = false;
        for (unsigned i = 0; i < s.fake->n_calls; i++) {
            if (s.fake->calls[i].function != FAKE_WRITE)
                continue;
            assert_int_equal(s.fake->calls[i].address, source_written ? TARGET : SOURCE);
            source_written = true;
        }
        stage_end(&s);
    }
}

/* Whatever becomes of the source, a stop does not wait for more than the one
 * answer to it. */
static void test_the_source_does_not_hold_up_a_stop(void **state)
{
    (void)state;
    struct stage s = stage_with(WITH_SOURCE);
    fake_rule_add(s.fake,
                  (struct fake_rule){.function = FAKE_WRITE, .address = SOURCE, .ignores = true});
    s.command.value = 0;
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
    assert_int_equal(s.outcome.written_ns - FAKE_MONO_NS, 2 * ANSWER_NS); /* open, source */
    stage_end(&s);
}

/* A battery that leaves its ready state when it hears who commands it. */
static void leave_ready_at_source(struct fake_link *fake, const struct fake_call *call)
{
    if (call->function == FAKE_WRITE && call->address == SOURCE)
        fake->registers[1][STATUS] = 0;
}

static void test_the_state_is_judged_again_behind_the_source(void **state)
{
    (void)state;
    struct stage s = stage_with(WITH_SOURCE);
    s.fake->before = leave_ready_at_source;
    stage_run(&s);
    assert_outcome(&s, OUTCOME_FAILED); /* `refused` is where no register was written */
    assert_int_equal(s.outcome.reason, REASON_NOT_READY);
    assert_int_equal(fake_count(s.fake, FAKE_WRITE, TARGET), 0);
    assert_int_equal(fake_count(s.fake, FAKE_WRITE, SOURCE), 1);
    stage_end(&s);
}

static void test_without_its_source_only_zero_is_written(void **state)
{
    (void)state;
    const struct fake_rule rows[] = {
        {.function = FAKE_WRITE, .address = SOURCE, .fault = FAULT_ILLEGAL_ADDRESS},
        {.function = FAKE_WRITE, .address = SOURCE, .ignores = true},
        {.function = FAKE_WRITE, .address = SOURCE, .fault = FAULT_TIMEOUT, .ignores = true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (int zero = 0; zero < 2; zero++) {
            struct stage s = stage_with(WITH_SOURCE);
            fake_rule_add(s.fake, rows[i]);
            s.command.value = zero ? 0 : 50;
            stage_run(&s);
            assert_int_equal(fake_count(s.fake, FAKE_WRITE, SOURCE), 1);
            assert_int_equal(fake_count(s.fake, FAKE_WRITE, TARGET), zero ? 1 : 0);
            assert_outcome(&s, zero ? OUTCOME_CONFIRMED : OUTCOME_FAILED);
            if (!zero)
                assert_int_equal(s.outcome.reason, i == 0 ? REASON_NONE : REASON_NOT_READY);
            if (!zero && i == 0)
                assert_int_equal(s.outcome.fault, FAULT_ILLEGAL_ADDRESS);
            stage_end(&s);
        }
    }
}

static void test_a_refused_setpoint_leaves_the_source_alone(void **state)
{
    (void)state;
    struct stage s = stage_with(WITH_SOURCE);
    s.fake->registers[1][SOE] = 10;
    stage_run(&s);
    assert_refused(&s, REASON_SOE_LOW);
    stage_end(&s);
}

/* ---- other points ---- */

static void test_another_point_is_written_once_without_interlocks(void **state)
{
    (void)state;
    struct stage s =
        stage_with(SITE_ONE(SITE_DISCHARGE "command_source = 5; min_interval = \"60s\";"));
    s.fake->registers[1][STATUS] = 0;
    s.command.point = (unsigned)s.battery->control.source;
    s.command.value = 3;
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
    assert_int_equal(s.fake->n_writes, 1);
    assert_int_equal(s.fake->registers[1][SOURCE], 3);
    stage_end(&s);
}

/* A setpoint of two registers goes out whole, with function 16. */
static void test_a_setpoint_of_two_registers(void **state)
{
    (void)state;
    struct stage s = stage();
    s.battery->points[s.command.point].type = POINT_FLOAT32;
    s.command.value = 50.5;
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
    assert_true(s.outcome.readback == 50.5);
    assert_int_equal(s.fake->n_writes, 1);
    assert_int_equal(fake_count(s.fake, FAKE_WRITES, TARGET), 1);
    assert_int_equal(s.outcome.n_words, 2);
    assert_int_equal(s.outcome.words[0], 0x424a);
    assert_int_equal(s.outcome.words[1], 0x0000);
    assert_int_equal(s.fake->registers[1][TARGET], 0x424a);
    stage_end(&s);
}

/* ---- not run to its end ---- */

/* Begins, and goes on until just before the n-th transaction to come. */
static struct sequence *begun(struct stage *s, unsigned transactions, bool look, bool judge_only)
{
    struct sequence *sequence = sequence_new(s->battery, NULL);
    s->command.stop = s->command.value == 0.0 && is_setpoint(s);
    s->outcome = (struct outcome){.command = s->command};
    sequence_begin(sequence, &s->outcome, look, judge_only);
    while (transactions > 0 && sequence_state(sequence) != SEQUENCE_ENDED) {
        const unsigned calls = s->fake->n_calls - s->fake->n_opened;
        stage_step(s, sequence);
        transactions -= s->fake->n_calls - s->fake->n_opened - calls;
    }
    return sequence;
}

static void test_it_can_be_cut_wherever_it_stands(void **state)
{
    (void)state;
    /* With a source: state, source, its read-back, state, write, read-backs. */
    const enum outcome_kind ends[] = {OUTCOME_SUPERSEDED, OUTCOME_SUPERSEDED, OUTCOME_SUPERSEDED,
                                      OUTCOME_SUPERSEDED, OUTCOME_SUPERSEDED, OUTCOME_UNKNOWN,
                                      OUTCOME_MISMATCH};
    for (unsigned n = 0; n < sizeof ends / sizeof *ends; n++) {
        struct stage s = stage_with(WITH_SOURCE);
        fake_rule_add(
            s.fake, (struct fake_rule){.function = FAKE_WRITE, .address = TARGET, .ignores = true});
        struct sequence *sequence = begun(&s, n, false, false);
        sequence_cut(sequence);
        assert_int_equal(sequence_state(sequence), SEQUENCE_ENDED);
        assert_outcome(&s, ends[n]);
        assert_int_equal(s.outcome.written_ns != 0, n > 4);
        assert_int_equal(fake_count(s.fake, FAKE_WRITE, TARGET), n > 4);
        sequence_free(sequence);
        stage_end(&s);
    }
}

/* It is replaced by nothing; only the bridge's own zero gives way to one. */
static void test_a_stop_that_is_cut_is_not_superseded(void **state)
{
    (void)state;
    for (int own = 0; own < 2; own++) {
        struct stage s = stage();
        s.command.value = 0;
        s.command.author = own ? AUTHOR_DEADMAN : AUTHOR_DISPATCHER;
        struct sequence *sequence = begun(&s, 0, false, false);
        sequence_cut(sequence);
        assert_outcome(&s, own ? OUTCOME_SUPERSEDED : OUTCOME_UNKNOWN);
        assert_int_equal(s.fake->n_writes, 0);
        sequence_free(sequence);
        stage_end(&s);
    }
}

static void test_refused_means_that_no_register_was_written(void **state)
{
    (void)state;
    for (unsigned n = 0; n <= 4; n++) {
        struct stage s = stage_with(WITH_SOURCE);
        struct sequence *sequence = begun(&s, n, false, false);
        sequence_refuse(sequence, REASON_EXPIRED, "too late");
        assert_outcome(&s, s.fake->n_writes > 0 ? OUTCOME_FAILED : OUTCOME_REFUSED);
        assert_int_equal(s.outcome.reason, REASON_EXPIRED);
        assert_string_equal(s.outcome.detail, "too late");
        sequence_free(sequence);
        stage_end(&s);
    }
}

static void test_it_looks_first_where_that_is_asked_for(void **state)
{
    (void)state;
    for (int silent = 0; silent < 2; silent++) {
        struct stage s = stage();
        struct value held = {.number = -1};
        if (silent)
            fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_READ,
                                                     .address = TARGET,
                                                     .to = 1,
                                                     .fault = FAULT_ILLEGAL_ADDRESS});
        struct sequence *sequence = begun(&s, 1, true, false);
        assert_int_equal(sequence_looked(sequence, &held), !silent);
        assert_true(held.number == (silent ? -1 : 20));
        while (sequence_state(sequence) != SEQUENCE_ENDED)
            stage_step(&s, sequence);
        assert_outcome(&s, OUTCOME_CONFIRMED); /* not known is no harm */
        assert_wrote_once(&s, 50);
        sequence_free(sequence);
        stage_end(&s);
    }
}

static void test_a_dry_run_ends_before_the_write(void **state)
{
    (void)state;
    for (int row = 0; row < 3; row++) {
        struct stage s = stage_with(WITH_SOURCE);
        s.command.value = row == 1 ? 0 : 50;
        if (row == 2)
            s.fake->registers[1][SOE] = 5;
        struct sequence *sequence = begun(&s, 9, false, true);
        assert_refused(&s, row == 2 ? REASON_SOE_LOW : REASON_NONE);
        assert_int_equal(fake_count(s.fake, FAKE_READ, 0) > 0, row != 1);
        sequence_free(sequence);
        stage_end(&s);
    }
}

static void test_it_knows_how_long_it_waited_in_vain(void **state)
{
    (void)state;
    struct stage s = stage();
    fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_READ, .fault = FAULT_TIMEOUT});
    struct sequence *sequence = begun(&s, 9, false, false);
    assert_refused(&s, REASON_DEVICE_OFFLINE);
    assert_true(sequence_silence_ns(sequence) >= 5 * CLOCK_NS_PER_S);
    assert_true(sequence_silence_ns(sequence) < 5 * CLOCK_NS_PER_S + 10 * CLOCK_NS_PER_MS);
    sequence_free(sequence);
    s.fake->n_rules = 0;
    sequence = begun(&s, 99, false, false);
    assert_int_equal(sequence_silence_ns(sequence), 0);
    sequence_free(sequence);
    stage_end(&s);
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
        cmocka_unit_test(test_a_stale_connection_is_renewed_before_the_reading),
        cmocka_unit_test(test_a_connection_that_breaks_while_reading_is_tried_once_more),
        cmocka_unit_test(test_zero_is_written_whatever_the_state),
        cmocka_unit_test(test_zero_to_a_device_that_is_gone),
        cmocka_unit_test(test_the_source_is_written_before_the_setpoint),
        cmocka_unit_test(test_the_source_does_not_hold_up_a_stop),
        cmocka_unit_test(test_the_state_is_judged_again_behind_the_source),
        cmocka_unit_test(test_without_its_source_only_zero_is_written),
        cmocka_unit_test(test_a_refused_setpoint_leaves_the_source_alone),
        cmocka_unit_test(test_another_point_is_written_once_without_interlocks),
        cmocka_unit_test(test_a_setpoint_of_two_registers),
        cmocka_unit_test(test_it_can_be_cut_wherever_it_stands),
        cmocka_unit_test(test_a_stop_that_is_cut_is_not_superseded),
        cmocka_unit_test(test_refused_means_that_no_register_was_written),
        cmocka_unit_test(test_it_looks_first_where_that_is_asked_for),
        cmocka_unit_test(test_a_dry_run_ends_before_the_write),
        cmocka_unit_test(test_it_knows_how_long_it_waited_in_vain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
