/* control: the interlocks at their limits; and a setpoint is written once or not at all. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/battery/control.h"
#include "fake_clock.h"
#include "fake_link.h"
#include "site.h"

#define ANSWER_NS CLOCK_NS_PER_MS

/* Everything one order needs; `battery` may be changed before stage_run(). */
struct stage {
    struct conf conf;
    struct device *battery;
    struct fake_link *fake;
    struct order order;
    int64_t last_write_ns;
    struct report report;
};

static struct stage stage_with(const char *devices)
{
    struct stage stage = {.fake = fake_link_new(), .last_write_ns = INT64_MIN};
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
    stage.order = (struct order){
        .token = 7,
        .point = (unsigned)stage.battery->control.setpoint,
        .value = 50,
        .expires_ns = CLOCK_NEVER,
    };
    return stage;
}

static struct stage stage(void)
{
    return stage_with(SITE_ONE(SITE_DISCHARGE));
}

static void stage_run(struct stage *stage)
{
    struct control *control = control_new(stage->battery);
    assert_non_null(control);
    control_run(control, &stage->fake->link, &stage->order, &stage->last_write_ns, &stage->report);
    control_free(control);
    assert_int_equal(stage->report.order.token, 7);
    assert_int_equal(stage->report.done_ns, fake_now_ns);
}

static void stage_end(struct stage *stage)
{
    conf_free(&stage->conf);
    free(stage->fake);
}

static void assert_outcome(const struct stage *stage, enum outcome_kind outcome)
{
    assert_string_equal(outcome_word(stage->report.outcome), outcome_word(outcome));
}

static void assert_refused(const struct stage *stage, enum reason reason)
{
    assert_outcome(stage, OUTCOME_REFUSED);
    assert_string_equal(reason_word(stage->report.reason), reason_word(reason));
    assert_int_equal(stage->fake->n_writes, 0);
    assert_int_equal(stage->report.written_ns, 0);
    assert_int_equal(stage->report.n_words, 0);
    assert_false(stage->report.has_readback);
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
    assert_int_equal(stage->report.n_words, 1);
    assert_int_equal(stage->report.words[0], word);
    assert_true(stage->report.written_ns >= FAKE_MONO_NS);
}

/* ---- the interlocks ---- */

enum { N_POINTS_MOST = 8 };

/* All there is to know about a battery at ease. */
static void at_ease(const struct device *battery, struct value *state)
{
    const struct device_control *control = &battery->control;
    for (unsigned i = 0; i < battery->n_points; i++)
        state[i] = (struct value){.state = VALUE_READ};
    state[control->status] = (struct value){.state = VALUE_READ, .number = 1, .raw = 1};
    state[control->soe].number = 54;
    state[control->blocks].number = 10;
    state[control->setpoint].number = 20;
}

static enum reason judge(const struct device *battery, double value, const struct value *state)
{
    char detail[DETAIL_MAX] = "";
    enum reason reason =
        control_judge(battery, (unsigned)battery->control.setpoint, value, state, detail);
    if (reason != REASON_NONE)
        assert_string_not_equal(detail, "");
    return reason;
}

static void test_soe_at_its_limits(void **state)
{
    (void)state;
    struct stage s = stage();
    const struct {
        double soe, value;
        enum reason reason;
    } rows[] = {
        {10, 1, REASON_SOE_LOW},
        {10, 250, REASON_SOE_LOW},
        {9.5, 50, REASON_SOE_LOW},
        {0, 50, REASON_SOE_LOW},
        {11, 50, REASON_NONE},
        {nextafter(10, 100), 50, REASON_NONE},
        {10, -50, REASON_NONE}, /* an empty battery may be charged */
        {0, -50, REASON_NONE},
        {90, -1, REASON_SOE_HIGH},
        {91, -50, REASON_SOE_HIGH},
        {100, -50, REASON_SOE_HIGH},
        {89, -50, REASON_NONE},
        {nextafter(90, 0), -50, REASON_NONE},
        {90, 50, REASON_NONE}, /* a full one may be discharged */
        {100, 50, REASON_NONE},
        /* What is no state of energy allows nothing. */
        {100.5, 50, REASON_SOE_LOW},
        {65535, 50, REASON_SOE_LOW},
        {-1, -50, REASON_SOE_HIGH},
        {NAN, 50, REASON_SOE_LOW},
        {NAN, -50, REASON_SOE_HIGH},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct value values[N_POINTS_MOST];
        at_ease(s.battery, values);
        values[s.battery->control.soe].number = rows[i].soe;
        assert_int_equal(judge(s.battery, rows[i].value, values), rows[i].reason);
        assert_int_equal(judge(s.battery, 0.0, values), REASON_NONE);
        assert_int_equal(judge(s.battery, -0.0, values), REASON_NONE);
    }
    stage_end(&s);
}

static void test_soe_says_why(void **state)
{
    (void)state;
    struct stage s = stage();
    struct value values[N_POINTS_MOST];
    char detail[DETAIL_MAX];
    at_ease(s.battery, values);
    values[s.battery->control.soe].number = 9.5;
    control_judge(s.battery, s.order.point, 50, values, detail);
    assert_string_equal(detail, "SOE 9.5 % is below soe_min 10 %");
    values[s.battery->control.soe].number = 90;
    control_judge(s.battery, s.order.point, -50, values, detail);
    assert_string_equal(detail, "SOE 90 % is at soe_max 90 %");
    stage_end(&s);
}

static void test_only_a_ready_status(void **state)
{
    (void)state;
    struct stage s = stage();
    for (unsigned raw = 0; raw <= 8; raw++) {
        struct value values[N_POINTS_MOST];
        at_ease(s.battery, values);
        values[s.battery->control.status].raw = raw;
        values[s.battery->control.status].number = raw;
        bool ready = raw == 1 || raw == 7;
        assert_int_equal(judge(s.battery, 50, values), ready ? REASON_NONE : REASON_NOT_READY);
        assert_int_equal(judge(s.battery, 0, values), REASON_NONE);
    }
    stage_end(&s);
}

static void test_blocks_at_their_limit(void **state)
{
    (void)state;
    struct stage s = stage_with(SITE_ONE(SITE_DISCHARGE "kw_per_block = 12.5;"));
    const struct {
        double blocks, value;
        enum reason reason;
    } rows[] = {
        {4, 50, REASON_NONE},    {4, 51, REASON_BLOCKS},  {4, -50, REASON_NONE},
        {4, -51, REASON_BLOCKS}, {0, 1, REASON_BLOCKS},   {0, -1, REASON_BLOCKS},
        {0, 0, REASON_NONE},     {NAN, 1, REASON_BLOCKS},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct value values[N_POINTS_MOST];
        at_ease(s.battery, values);
        values[s.battery->control.blocks].number = rows[i].blocks;
        assert_int_equal(judge(s.battery, rows[i].value, values), rows[i].reason);
    }
    stage_end(&s);
}

static void test_step_at_its_limit(void **state)
{
    (void)state;
    struct stage s = stage_with(SITE_ONE(SITE_DISCHARGE "max_step_kw = 30;"));
    const struct {
        double from, value;
        enum reason reason;
    } rows[] = {
        {20, 50, REASON_NONE},
        {20, 51, REASON_STEP_TOO_LARGE},
        {20, -10, REASON_NONE},
        {20, -11, REASON_STEP_TOO_LARGE},
        {-20, 10, REASON_NONE},
        {-20, 11, REASON_STEP_TOO_LARGE},
        {200, 0, REASON_NONE}, /* down to zero from anywhere */
        {200, 50, REASON_STEP_TOO_LARGE},
        {NAN, 1, REASON_STEP_TOO_LARGE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct value values[N_POINTS_MOST];
        at_ease(s.battery, values);
        values[s.battery->control.setpoint].number = rows[i].from;
        assert_int_equal(judge(s.battery, rows[i].value, values), rows[i].reason);
    }
    stage_end(&s);
}

static void test_rules_that_are_off_refuse_nothing(void **state)
{
    (void)state;
    struct stage s = stage();
    struct value values[N_POINTS_MOST];
    at_ease(s.battery, values);
    values[s.battery->control.blocks] = (struct value){.state = VALUE_FAULT, .fault = FAULT_BUSY};
    values[s.battery->control.setpoint] = (struct value){.state = VALUE_ABSENT};
    assert_int_equal(judge(s.battery, 250, values), REASON_NONE);
    stage_end(&s);
}

/* Any number of things wrong at once: the first in the order is the reason. */
static void test_the_first_interlock_in_the_order_wins(void **state)
{
    (void)state;
    struct stage s = stage_with(SITE_ONE(SITE_DISCHARGE "kw_per_block = 12.5; max_step_kw = 5;"));
    const struct device_control *control = &s.battery->control;
    const enum reason order[] = {REASON_DEVICE_OFFLINE, REASON_NOT_READY, REASON_SOE_LOW,
                                 REASON_BLOCKS, REASON_STEP_TOO_LARGE};
    for (unsigned set = 0; set < 32; set++) {
        struct value values[N_POINTS_MOST];
        at_ease(s.battery, values);
        values[control->setpoint].number = 50;
        if (set & 2)
            values[control->status].raw = 3;
        if (set & 4)
            values[control->soe].number = 10;
        if (set & 8)
            values[control->blocks].number = 3;
        if (set & 16)
            values[control->setpoint].number = 56;
        for (int unread = 0; unread < 4; unread++) {
            const int points[] = {control->status, control->soe, control->blocks,
                                  control->setpoint};
            struct value known = values[points[unread]];
            if (set & 1)
                values[points[unread]] =
                    (struct value){.state = VALUE_FAULT, .fault = FAULT_ILLEGAL_ADDRESS};
            enum reason first = REASON_NONE;
            for (unsigned i = 5; i-- > 0;)
                first = set >> i & 1 ? order[i] : first;
            assert_int_equal(judge(s.battery, 50, values), first);
            assert_int_equal(judge(s.battery, 0, values), REASON_NONE);
            values[points[unread]] = known;
        }
    }
    stage_end(&s);
}

static void test_other_points_have_no_interlocks(void **state)
{
    (void)state;
    struct stage s = stage();
    struct value values[N_POINTS_MOST] = {{.state = VALUE_ABSENT}};
    char detail[DETAIL_MAX];
    assert_int_equal(
        control_judge(s.battery, (unsigned)s.battery->control.source, 1, values, detail),
        REASON_NONE);
    stage_end(&s);
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
        {TARGET, 9, 50, REASON_STEP_TOO_LARGE}, {SOE, 0xffff, 50, REASON_SOE_LOW},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct stage s =
            stage_with(SITE_ONE(SITE_DISCHARGE "kw_per_block = 12.5; max_step_kw = 40;"));
        s.fake->registers[1][TARGET] = rows[i].value > 0 ? 20 : (uint16_t)-20;
        s.fake->registers[1][rows[i].address] = rows[i].word;
        s.order.value = rows[i].value;
        stage_run(&s);
        assert_refused(&s, rows[i].reason);
        assert_string_not_equal(s.report.detail, "");
        assert_int_equal(s.last_write_ns, INT64_MIN);
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
    const struct fake_rule rows[] = {
        {.function = FAKE_READ, .address = SOE, .fault = FAULT_ILLEGAL_ADDRESS},
        {.function = FAKE_READ, .address = STATUS, .fault = FAULT_ILLEGAL_ADDRESS},
        {.function = FAKE_READ, .address = SOE, .fault = FAULT_DEVICE_FAILURE},
        {.function = FAKE_READ, .fault = FAULT_ILLEGAL_FUNCTION},
        {.function = FAKE_READ, .fault = FAULT_BUSY},
        {.function = FAKE_READ, .fault = FAULT_TIMEOUT},
        {.function = FAKE_READ, .fault = FAULT_BAD_REPLY},
        {.function = FAKE_READ, .fault = FAULT_CONNECTION},
        {.function = FAKE_READ, .fault = FAULT_GATEWAY_PATH},
        {.function = FAKE_READ, .fault = FAULT_GATEWAY_TARGET},
        {.function = FAKE_OPEN, .fault = FAULT_CONNECTION},
        {.function = FAKE_OPEN, .fault = FAULT_TIMEOUT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct stage s = stage();
        fake_rule_add(s.fake, rows[i]);
        stage_run(&s);
        assert_refused(&s, REASON_DEVICE_OFFLINE);
        assert_non_null(strstr(s.report.detail, fault_word(rows[i].fault)));
        assert_int_equal(s.last_write_ns, INT64_MIN);
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

static void test_an_expired_order_is_not_even_begun(void **state)
{
    (void)state;
    const int64_t ends_ns[] = {FAKE_MONO_NS, FAKE_MONO_NS - 1, 0};
    for (size_t i = 0; i < sizeof ends_ns / sizeof *ends_ns; i++) {
        for (int zero = 0; zero < 2; zero++) {
            struct stage s = stage();
            s.order.expires_ns = ends_ns[i];
            s.order.value = zero ? 0 : 50;
            stage_run(&s);
            assert_refused(&s, REASON_EXPIRED);
            assert_int_equal(s.fake->n_calls, 0);
            stage_end(&s);
        }
    }
}

/* The reading takes so long that the order's life ends before its write. */
static void test_an_order_that_expires_in_between_is_not_written(void **state)
{
    (void)state;
    struct stage s = stage();
    stage_run(&s);
    int64_t until_write_ns = s.report.written_ns - FAKE_MONO_NS;
    assert_true(until_write_ns > 0);
    stage_end(&s);

    for (int64_t spare_ns = 0; spare_ns <= 1; spare_ns++) {
        s = stage();
        s.order.expires_ns = FAKE_MONO_NS + until_write_ns + spare_ns;
        stage_run(&s);
        if (spare_ns == 0) {
            assert_refused(&s, REASON_EXPIRED);
            assert_true(s.fake->n_calls > 0);
            assert_true(s.report.judged_ns > 0);
        } else {
            assert_outcome(&s, OUTCOME_CONFIRMED);
        }
        stage_end(&s);
    }
}

static void test_too_soon_after_the_last_write(void **state)
{
    (void)state;
    const int64_t interval_ns = 5 * CLOCK_NS_PER_S;
    struct stage s = stage_with(SITE_ONE(SITE_DISCHARGE "min_interval = \"5s\";"));
    s.last_write_ns = FAKE_MONO_NS - interval_ns + 1;
    stage_run(&s);
    assert_refused(&s, REASON_RATE_LIMITED);
    assert_int_equal(s.fake->n_calls, 0);
    assert_int_equal(s.last_write_ns, FAKE_MONO_NS - interval_ns + 1);
    stage_end(&s);

    s = stage_with(SITE_ONE(SITE_DISCHARGE "min_interval = \"5s\";"));
    s.last_write_ns = FAKE_MONO_NS - interval_ns;
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
    assert_int_equal(s.last_write_ns, s.report.written_ns);
    s.order.value = 0; /* at once after it */
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
    s.order.value = 10;
    s.order.own = true; /* the bridge's own writes are not limited */
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
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
    assert_true(s.report.has_readback);
    assert_true(s.report.readback == 50.0);
    assert_int_equal(s.fake->registers[1][TARGET], 50);
    assert_int_equal(s.fake->registers[1][SOURCE], 2); /* not told to touch it */
    assert_int_equal(s.last_write_ns, s.report.written_ns);
    assert_true(s.report.judged_ns <= s.report.written_ns);
    assert_true(s.report.written_ns < s.report.done_ns);
    assert_string_equal(s.report.detail, "");
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
        s.order.value = rows[i].value;
        stage_run(&s);
        assert_outcome(&s, OUTCOME_CONFIRMED);
        assert_wrote_once(&s, rows[i].word);
        assert_true(s.report.readback == rows[i].value);
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
        s.order.value = 50;
        stage_run(&s);
        assert_refused(&s, REASON_SOE_LOW);
        s.fake->registers[1][TARGET] = 0;
        s.order.value = -50;
        stage_run(&s);
        assert_outcome(&s, OUTCOME_CONFIRMED);
        /* The step from -50 is known with its sign, too. */
        s.fake->registers[1][SOE] = 54;
        s.order.value = 11;
        stage_run(&s);
        assert_outcome(&s, OUTCOME_REFUSED);
        assert_int_equal(s.report.reason, REASON_STEP_TOO_LARGE);
        s.order.value = 10;
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
        s.order.value = rows[i].value;
        stage_run(&s);
        if (rows[i].word != 0) {
            assert_outcome(&s, OUTCOME_CONFIRMED);
            assert_wrote_once(&s, rows[i].word);
            assert_true(s.report.readback == rows[i].value);
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
        assert_true(s.report.readback == 50.0);
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
    assert_true(s.report.has_readback);
    assert_true(s.report.readback == 20.0);
    /* Asked again for a second, no shorter and not much longer. */
    int64_t spent_ns = s.report.done_ns - s.report.written_ns;
    assert_true(spent_ns >= CLOCK_NS_PER_S);
    assert_true(spent_ns < CLOCK_NS_PER_S + 50 * CLOCK_NS_PER_MS);
    assert_true(fake_count(s.fake, FAKE_READ, TARGET) > 10);
    assert_int_equal(s.last_write_ns, s.report.written_ns);
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
            assert_true(s.report.readback == (ignores ? 20.0 : 50.0));
            assert_int_equal(s.fake->n_opened, 2); /* on a connection of its own */
            if (ignores)
                assert_non_null(strstr(s.report.detail, fault_word(faults[i])));
            assert_int_equal(s.last_write_ns, s.report.written_ns);
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
        assert_false(s.report.has_readback);
        assert_int_equal(s.report.fault, faults[i]);
        assert_int_equal(s.last_write_ns, s.report.written_ns); /* it may have been one */
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
    assert_string_not_equal(s.report.detail, "");
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
        assert_int_equal(s.report.fault, faults[i]);
        assert_wrote_once(&s, 50);
        assert_int_equal(s.fake->registers[1][TARGET], 20);
        assert_int_equal(s.last_write_ns, INT64_MIN); /* nothing was written */
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
            assert_int_equal(s.report.fault, faults[i]);
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
    s.last_write_ns = FAKE_MONO_NS - 1;
    s.order.value = 0;
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
    assert_wrote_once(&s, 0);
    /* No time is spent on a state that nobody judges. */
    assert_int_equal(s.fake->n_calls, 3); /* open, write, read back */
    stage_end(&s);
}

static void test_zero_to_a_device_that_is_gone(void **state)
{
    (void)state;
    struct stage s = stage();
    fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_OPEN, .fault = FAULT_CONNECTION});
    s.order.value = 0;
    stage_run(&s);
    assert_refused(&s, REASON_DEVICE_OFFLINE);
    stage_end(&s);
}

/* ---- two writers ---- */

static void test_a_second_writer_may_only_stop_the_battery(void **state)
{
    (void)state;
    struct stage s = stage();
    struct control *other = control_new(s.battery);
    assert_true(control_is_sole(other));
    stage_run(&s);
    assert_refused(&s, REASON_DEVICE_OFFLINE);
    assert_string_not_equal(s.report.detail, "");
    assert_int_equal(s.fake->n_calls, 0);
    s.order.value = 0;
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
    control_free(other);
    s.order.value = 50;
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
    stage_end(&s);
}

/* A refusal at the first try is not for ever. */
static void test_the_claim_passes_on(void **state)
{
    (void)state;
    struct stage s = stage();
    struct control *first = control_new(s.battery);
    struct control *second = control_new(s.battery);
    assert_false(control_is_sole(second));
    control_free(first);
    assert_true(control_is_sole(second));
    control_free(second);
    stage_end(&s);
}

/* ---- command_source ---- */

#define WITH_SOURCE SITE_ONE(SITE_DISCHARGE "command_source = 5;")

static void test_the_source_is_written_before_the_setpoint(void **state)
{
    (void)state;
    for (int zero = 0; zero < 2; zero++) {
        struct stage s = stage_with(WITH_SOURCE);
        s.order.value = zero ? 0 : 50;
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
    s.order.value = 0;
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
    assert_int_equal(s.report.written_ns - FAKE_MONO_NS, 2 * ANSWER_NS); /* open, source */
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
    assert_outcome(&s, OUTCOME_REFUSED);
    assert_int_equal(s.report.reason, REASON_NOT_READY);
    assert_int_equal(fake_count(s.fake, FAKE_WRITE, TARGET), 0);
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
            s.order.value = zero ? 0 : 50;
            stage_run(&s);
            assert_int_equal(fake_count(s.fake, FAKE_WRITE, SOURCE), 1);
            assert_int_equal(fake_count(s.fake, FAKE_WRITE, TARGET), zero ? 1 : 0);
            assert_outcome(&s, zero ? OUTCOME_CONFIRMED : OUTCOME_REFUSED);
            if (!zero)
                assert_int_equal(s.report.reason, REASON_NOT_READY);
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
    s.order.point = (unsigned)s.battery->control.source;
    s.order.value = 3;
    s.last_write_ns = FAKE_MONO_NS - 1;
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
    assert_int_equal(s.fake->n_writes, 1);
    assert_int_equal(s.fake->registers[1][SOURCE], 3);
    assert_int_equal(s.last_write_ns, FAKE_MONO_NS - 1); /* of the setpoint alone */
    stage_end(&s);
}

/* A setpoint of two registers goes out whole, with function 16. */
static void test_a_setpoint_of_two_registers(void **state)
{
    (void)state;
    struct stage s = stage();
    s.battery->points[s.order.point].type = POINT_FLOAT32;
    s.order.value = 50.5;
    stage_run(&s);
    assert_outcome(&s, OUTCOME_CONFIRMED);
    assert_true(s.report.readback == 50.5);
    assert_int_equal(s.fake->n_writes, 1);
    assert_int_equal(fake_count(s.fake, FAKE_WRITES, TARGET), 1);
    assert_int_equal(s.report.n_words, 2);
    assert_int_equal(s.report.words[0], 0x424a);
    assert_int_equal(s.report.words[1], 0x0000);
    assert_int_equal(s.fake->registers[1][TARGET], 0x424a);
    stage_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_soe_at_its_limits),
        cmocka_unit_test(test_soe_says_why),
        cmocka_unit_test(test_only_a_ready_status),
        cmocka_unit_test(test_blocks_at_their_limit),
        cmocka_unit_test(test_step_at_its_limit),
        cmocka_unit_test(test_rules_that_are_off_refuse_nothing),
        cmocka_unit_test(test_the_first_interlock_in_the_order_wins),
        cmocka_unit_test(test_other_points_have_no_interlocks),
        cmocka_unit_test(test_the_state_is_read_for_this_very_command),
        cmocka_unit_test(test_a_state_that_cannot_be_read_refuses),
        cmocka_unit_test(test_only_what_is_judged_must_be_readable),
        cmocka_unit_test(test_an_expired_order_is_not_even_begun),
        cmocka_unit_test(test_an_order_that_expires_in_between_is_not_written),
        cmocka_unit_test(test_too_soon_after_the_last_write),
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
        cmocka_unit_test(test_a_second_writer_may_only_stop_the_battery),
        cmocka_unit_test(test_the_claim_passes_on),
        cmocka_unit_test(test_the_source_is_written_before_the_setpoint),
        cmocka_unit_test(test_the_source_does_not_hold_up_a_stop),
        cmocka_unit_test(test_the_state_is_judged_again_behind_the_source),
        cmocka_unit_test(test_without_its_source_only_zero_is_written),
        cmocka_unit_test(test_a_refused_setpoint_leaves_the_source_alone),
        cmocka_unit_test(test_another_point_is_written_once_without_interlocks),
        cmocka_unit_test(test_a_setpoint_of_two_registers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
