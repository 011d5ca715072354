/* sequence: its steps one by one: connections, zero, command_source, and where it is cut. */
#include "sequence_stage.h"

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
