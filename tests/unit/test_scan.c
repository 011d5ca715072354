/* scan: one transaction a step; what is refused or silent stands alone. */
#include "scan_bed.h"

static void test_reads_everything_in_few_steps(void **state)
{
    (void)state;
    struct stage s;
    stage_begin(&s);
    assert_int_equal(scan_all(&s, 0), SCAN_DONE);
    for (unsigned i = 0; i < N_POINTS; i++)
        assert_read(&s, i);
    assert_int_equal(s.scan.read, N_POINTS);
    assert_int_equal(s.scan.failed, 0);
    assert_int_equal(fake_count(s.fake, FAKE_READ, 0), 2);
    stage_end(&s);
}

static void test_reads_what_is_due(void **state)
{
    (void)state;
    struct stage s;
    stage_begin(&s);
    s.points[1].every = 2;
    s.points[4].every = 3;
    for (uint64_t number = 0; number < 7; number++) {
        assert_int_equal(scan_all(&s, number), SCAN_DONE);
        for (unsigned i = 0; i < N_POINTS; i++) {
            bool due = number % s.points[i].every == 0;
            assert_int_equal(s.values[i].state, due ? VALUE_READ : VALUE_ABSENT);
        }
    }
    stage_end(&s);
}

static void test_a_refused_register_stands_alone(void **state)
{
    (void)state;
    const enum fault faults[] = {FAULT_ILLEGAL_ADDRESS, FAULT_ILLEGAL_VALUE, FAULT_DEVICE_FAILURE};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        for (unsigned refused = 0; refused < N_POINTS; refused++) {
            struct stage s;
            stage_begin(&s);
            fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_READ,
                                                     .address = s.points[refused].address,
                                                     .fault = faults[i]});
            assert_int_equal(scan_all(&s, 0), SCAN_DONE);
            for (unsigned j = 0; j < N_POINTS; j++) {
                if (j == refused)
                    assert_fault(&s, j, faults[i]);
                else
                    assert_read(&s, j);
            }
            assert_int_equal(s.scan.read, N_POINTS - 1);
            assert_int_equal(s.scan.failed, 1);
            assert_int_equal(s.fake->n_opened, 1);

            /* It is known now: the next scan asks for it but does not search. */
            unsigned before = s.fake->n_calls;
            unsigned faulty = s.fake->rules[0].seen;
            assert_int_equal(scan_all(&s, 1), SCAN_DONE);
            assert_int_equal(s.fake->rules[0].seen - faulty, 1);
            assert_true(s.fake->n_calls - before <= N_POINTS);
            stage_end(&s);
        }
    }
}

/* 04 may pass, and with it the cuts that it made; 02 is for good. */
static void test_blocks_grow_together_again_after_a_failure_that_passed(void **state)
{
    (void)state;
    const struct {
        enum fault fault;
        unsigned reads; /* of the second scan after it has passed */
    } rows[] = {{FAULT_DEVICE_FAILURE, 2}, {FAULT_ILLEGAL_ADDRESS, 3}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct stage s;
        stage_begin(&s);
        fake_rule_add(s.fake, (struct fake_rule){
                                  .function = FAKE_READ, .address = B, .fault = rows[i].fault});
        scan_all(&s, 0);
        s.fake->n_rules = 0;
        scan_all(&s, 1);
        for (unsigned j = 0; j < N_POINTS; j++)
            assert_read(&s, j);
        unsigned before = s.fake->n_calls;
        scan_all(&s, 2);
        assert_int_equal(s.fake->n_calls - before, rows[i].reads);
        stage_end(&s);
    }
}

static void test_what_no_split_can_help(void **state)
{
    (void)state;
    const enum fault faults[] = {FAULT_ILLEGAL_FUNCTION, FAULT_ACKNOWLEDGE, FAULT_BUSY};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct stage s;
        stage_begin(&s);
        fake_rule_add(s.fake,
                      (struct fake_rule){.function = FAKE_READ, .address = B, .fault = faults[i]});
        assert_int_equal(scan_all(&s, 0), SCAN_DONE);
        for (unsigned j = 0; j < 4; j++)
            assert_fault(&s, j, faults[i]);
        assert_read(&s, 4);
        assert_int_equal(fake_count(s.fake, FAKE_READ, 0), 2);
        stage_end(&s);
    }
}

static void test_refused_registers_are_told(void **state)
{
    (void)state;
    struct stage s;
    unsigned n = 0;
    stage_begin(&s);
    silent_at(&s, A, FAULT_ILLEGAL_ADDRESS);
    silent_at(&s, B, FAULT_ILLEGAL_ADDRESS);
    assert_string_equal(
        learn(&s, 1, &n),
        "holding registers 100..101 (a to b): illegal_address while others are read: "
        "is \"address\" or \"function\" wrong in the type's file, or does this "
        "device have no such point?");
    stage_end(&s);

    stage_begin(&s);
    n = 0;
    silent_at(&s, C + 1, FAULT_ILLEGAL_ADDRESS);
    assert_non_null(strstr(learn(&s, 1, &n), "holding registers 103..109, between c and d,"));
    stage_end(&s);

    stage_begin(&s); /* no others are read then */
    n = 0;
    for (unsigned i = 0; i < N_POINTS; i++)
        silent_at(&s, s.points[i].address, FAULT_ILLEGAL_ADDRESS);
    assert_non_null(strstr(learn(&s, 1, &n), "(a to e): illegal_address: is \"address\""));
    stage_end(&s);
}

/* A connection that cannot be opened anew after a silent block ends the scan. */
static void test_the_line_goes_down_in_the_middle(void **state)
{
    (void)state;
    struct stage s;
    stage_begin(&s);
    silent_at(&s, E, FAULT_TIMEOUT);
    scan_all(&s, 0);
    fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_OPEN, .fault = FAULT_CONNECTION});
    link_close(&s.fake->link);
    assert_int_equal(scan_all(&s, 1), SCAN_BROKEN);
    assert_int_equal(s.fault, FAULT_CONNECTION);
    assert_fault(&s, 0, FAULT_CONNECTION);
    stage_end(&s);
}

static void test_a_scale_in_the_same_scan(void **state)
{
    (void)state;
    struct stage s;
    stage_begin(&s);
    s.points[0].scale_row = 5; /* far away, in a block of its own */
    s.points[4].type = POINT_INT16;
    s.fake->registers[1][E] = (uint16_t)-1;
    scan_all(&s, 0);
    assert_true(s.values[0].number == 100);
    s.fake->registers[1][E] = 0;
    scan_all(&s, 1);
    assert_true(s.values[0].number == 1000); /* at once */
    s.fake->registers[1][E] = 0x8000;        /* "not implemented" */
    scan_all(&s, 2);
    assert_fault(&s, 0, FAULT_IMPLAUSIBLE);
    silent_at(&s, E, FAULT_ILLEGAL_ADDRESS);
    scan_all(&s, 3);
    assert_fault(&s, 0, FAULT_ILLEGAL_ADDRESS);
    assert_read(&s, 1);

    /* Asked for alone, it brings its scale. */
    plan_free(s.plan);
    s.fake->n_rules = 0;
    s.fake->registers[1][E] = 1;
    s.plan = plan_new(&s.device, (const bool[]){true, false, false, false, false});
    scan_all(&s, 0);
    assert_true(s.values[0].number == 10000);
    assert_int_equal(s.values[1].state, VALUE_ABSENT);
    stage_end(&s);
}

static void put_chain(struct stage *stage, unsigned base, const uint16_t (*models)[2])
{
    uint16_t *at = &stage->fake->registers[1][base];
    at[0] = 0x5375;
    at[1] = 0x6e53;
    for (at += 2; (*models)[0] != 0xffff; at += 2 + (*models++)[1])
        memcpy(at, *models, sizeof *models);
    at[0] = 0xffff;
}

static void test_models_are_found(void **state)
{
    (void)state;
    static const uint16_t chain[][2] = {{1, 66}, {103, 50}, {203, 105}, {0xffff, 0}};
    static const unsigned bases[] = {40000, 0, 50000};
    for (unsigned i = 0; i < 3; i++) {
        struct stage s;
        stage_begin(&s);
        unsigned model = bases[i] + 2 + 68 + 52; /* of 203 */
        memset(s.fake->registers, 0, sizeof s.fake->registers);
        put_chain(&s, bases[i], chain);
        for (unsigned j = 0; j < i; j++)
            silent_at(&s, bases[j] != 0 ? bases[j] : 1, FAULT_ILLEGAL_ADDRESS);
        for (unsigned j = 0; j < N_POINTS; j++)
            s.points[j].model = 203;
        s.points[0].address = 2;
        s.points[1].address = 106;
        s.points[2].address = 107; /* behind its end */
        s.points[3].model = 203;
        s.points[3].address = 3;
        s.points[4].model = 160; /* there is none */
        s.fake->registers[1][model + 2] = 7;
        s.fake->registers[1][model + 106] = 8;
        plan_free(s.plan);
        s.plan = plan_new(&s.device, NULL);
        assert_int_equal(scan_all(&s, 0), SCAN_DONE);
        assert_true(s.values[0].state == VALUE_READ && s.values[0].number == 7);
        assert_true(s.values[1].state == VALUE_READ && s.values[1].number == 8);
        assert_fault(&s, 2, FAULT_ILLEGAL_ADDRESS);
        assert_fault(&s, 4, FAULT_ILLEGAL_ADDRESS);
        assert_int_equal(s.scan.failed, 2);

        unsigned before = reads(&s);
        scan_all(&s, 1);
        assert_int_equal(reads(&s) - before, 2); /* it is known now */

        /* After a silence somebody else may answer: the chain is walked anew. */
        fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_READ, .fault = FAULT_TIMEOUT});
        scan_all(&s, 2);
        for (unsigned j = 0; j < N_POINTS; j++)
            assert_fault(&s, j, FAULT_TIMEOUT);
        s.fake->n_rules--;
        put_chain(&s, bases[i], &chain[1]);
        s.fake->registers[1][bases[i] + 2 + 52 + 2] = 9;
        scan_all(&s, 3);
        assert_true(s.values[0].state == VALUE_READ && s.values[0].number == 9);
        stage_end(&s);
    }
}

static void test_a_device_without_models(void **state)
{
    (void)state;
    struct stage s;
    stage_begin(&s);
    s.points[4].model = 203;
    plan_free(s.plan);
    s.plan = plan_new(&s.device, NULL);
    assert_int_equal(scan_all(&s, 0), SCAN_DONE);
    assert_fault(&s, 4, FAULT_ILLEGAL_ADDRESS);
    for (unsigned j = 0; j < 4; j++)
        assert_read(&s, j); /* what is no model's */
    silent_at(&s, 40000, FAULT_BUSY);
    plan_free(s.plan);
    s.plan = plan_new(&s.device, NULL);
    scan_all(&s, 0);
    assert_fault(&s, 4, FAULT_BUSY); /* not "none": it is asked again */
    s.fake->n_rules = 0;
    put_chain(&s, 40000, (const uint16_t[][2]){{203, 500}, {0xffff, 0}});
    s.fake->registers[1][40002 + E] = 3000;
    assert_int_equal(scan_all(&s, 1), SCAN_DONE);
    assert_read(&s, 4);
    stage_end(&s);
}

static _Atomic int64_t now_ns;

/* Every answer takes 10 ns, of a timeout of 1000. */
static void answers_take_time(struct stage *stage)
{
    now_ns = 0;
    stage->fake->clock_ns = &now_ns;
    stage->fake->n_busy = UINT32_MAX;
    stage->fake->busy_ns = 10;
}

/* A whole scan by its parts; `n` transactions, each begun once. */
static enum scan_step scan_in_parts(struct stage *stage, unsigned n)
{
    unsigned before = stage->fake->n_calls;
    enum scan_step step = SCAN_MORE;
    scan_begin(&stage->scan, stage->plan, &stage->device, 0, stage->values);
    stage->fault = FAULT_NONE;
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(step, SCAN_MORE);
        step = scan_begin_step(&stage->scan, &stage->fake->link, &stage->fault);
        assert_int_equal(step, SCAN_BUSY);
        step = scan_go_on(&stage->scan, &stage->fake->link, &stage->fault); /* for nothing */
        assert_int_equal(step, SCAN_BUSY);
        assert_int_equal(stage->fake->n_calls - before, i + 1);
        now_ns = stage->fake->answers_ns < stage->fake->link.until_ns ? stage->fake->answers_ns
                                                                      : stage->fake->link.until_ns;
        step = scan_go_on(&stage->scan, &stage->fake->link, &stage->fault);
    }
    if (step == SCAN_MORE)
        step = scan_begin_step(&stage->scan, &stage->fake->link, &stage->fault);
    assert_int_equal(stage->fake->n_calls - before, n);
    return step;
}

static void test_reads_everything_in_parts(void **state)
{
    (void)state;
    struct stage s;
    stage_begin(&s);
    answers_take_time(&s);
    assert_int_equal(scan_in_parts(&s, 2), SCAN_DONE);
    for (unsigned i = 0; i < N_POINTS; i++)
        assert_read(&s, i);
    assert_int_equal(s.scan.read, N_POINTS);
    stage_end(&s);
}

static void test_a_refusal_in_parts(void **state)
{
    (void)state;
    struct stage s;
    stage_begin(&s);
    answers_take_time(&s);
    fake_rule_add(s.fake,
                  (struct fake_rule){.function = FAKE_READ, .address = E, .fault = FAULT_BUSY});
    assert_int_equal(scan_in_parts(&s, 2), SCAN_DONE);
    for (unsigned i = 0; i < 4; i++)
        assert_read(&s, i);
    assert_fault(&s, 4, FAULT_BUSY);
    fake_rule_add(s.fake, (struct fake_rule){
                              .function = FAKE_READ, .address = B, .fault = FAULT_ILLEGAL_ADDRESS});
    /* A B C D, its two halves, A, B: the position stays until all of it is read. */
    scan_begin(&s.scan, s.plan, &s.device, 0, s.values);
    enum scan_step step = SCAN_MORE;
    while (step != SCAN_DONE) {
        step = step == SCAN_BUSY ? scan_go_on(&s.scan, &s.fake->link, &s.fault)
                                 : scan_begin_step(&s.scan, &s.fake->link, &s.fault);
        now_ns += 10;
        assert_true(s.fake->n_calls < 20);
    }
    assert_read(&s, 0);
    assert_fault(&s, 1, FAULT_ILLEGAL_ADDRESS);
    assert_read(&s, 2);
    assert_read(&s, 3);
    stage_end(&s);
}

static void test_silence_in_parts(void **state)
{
    (void)state;
    struct stage s;
    stage_begin(&s);
    answers_take_time(&s);
    s.fake->busy_ns = INT64_MAX;
    plan_free(s.plan);
    s.plan = plan_new(&s.device, (const bool[]){true, true, true, true, false});
    assert_int_equal(scan_in_parts(&s, 1), SCAN_BROKEN);
    assert_int_equal(s.fault, FAULT_TIMEOUT);
    assert_int_equal(now_ns, 1000);
    for (unsigned i = 0; i < N_POINTS; i++)
        assert_true(i == 4 || s.values[i].fault == FAULT_TIMEOUT);
    assert_false(s.fake->link.is_open || s.fake->link.is_busy);
    stage_end(&s);
}

/* A value of the scan before never passes for one of this scan. */
static void test_nothing_old_is_left(void **state)
{
    (void)state;
    struct stage s;
    stage_begin(&s);
    scan_all(&s, 0);
    scan_begin(&s.scan, s.plan, &s.device, 1, s.values);
    for (unsigned i = 0; i < N_POINTS; i++)
        assert_int_equal(s.values[i].state, VALUE_ABSENT);
    scan_break(&s.scan, FAULT_CONNECTION);
    for (unsigned i = 0; i < N_POINTS; i++)
        assert_fault(&s, i, FAULT_CONNECTION);
    assert_int_equal(s.scan.failed, N_POINTS);
    stage_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_everything_in_few_steps),
        cmocka_unit_test(test_reads_what_is_due),
        cmocka_unit_test(test_a_refused_register_stands_alone),
        cmocka_unit_test(test_blocks_grow_together_again_after_a_failure_that_passed),
        cmocka_unit_test(test_what_no_split_can_help),
        cmocka_unit_test(test_refused_registers_are_told),
        cmocka_unit_test(test_the_line_goes_down_in_the_middle),
        cmocka_unit_test(test_a_scale_in_the_same_scan),
        cmocka_unit_test(test_models_are_found),
        cmocka_unit_test(test_a_device_without_models),
        cmocka_unit_test(test_reads_everything_in_parts),
        cmocka_unit_test(test_a_refusal_in_parts),
        cmocka_unit_test(test_silence_in_parts),
        cmocka_unit_test(test_nothing_old_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
