/* scan: one transaction a step; what is refused stands alone, what is silent ends it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "devices/registers/scan.h"
#include "fake_link.h"

enum { N_POINTS = 5, A = 100, B = 101, C = 102, D = 110, E = 300 };

static const struct profile profile = {.max_registers = 125, .max_gap = 60};

/* A device of five registers: A B C side by side, D not far, E far away. */
struct stage {
    struct point points[N_POINTS];
    struct device device;
    struct fake_link *fake;
    struct plan *plan;
    struct value values[N_POINTS];
    struct scan scan;
    enum fault fault;
};

static void stage_begin(struct stage *stage)
{
    static const uint16_t addresses[N_POINTS] = {A, B, C, D, E};
    memset(stage, 0, sizeof *stage);
    for (unsigned i = 0; i < N_POINTS; i++)
        stage->points[i] = (struct point){.address = addresses[i],
                                          .table = POINT_HOLDING,
                                          .type = POINT_UINT16,
                                          .every = 1,
                                          .scale = 1};
    stage->device = (struct device){.profile = &profile,
                                    .n_points = N_POINTS,
                                    .points = stage->points,
                                    .modbus = {.address = 1, .timeout_ns = 1000}};
    stage->fake = fake_link_new();
    for (unsigned i = 0; i < N_POINTS; i++)
        stage->fake->registers[1][addresses[i]] = (uint16_t)(addresses[i] * 10);
    stage->plan = plan_new(&stage->device, NULL);
    assert_int_equal(link_open(&stage->fake->link, 1000), FAULT_NONE);
}

static void stage_end(struct stage *stage)
{
    plan_free(stage->plan);
    free(stage->fake);
}

/* One whole scan, checked to make one transaction a step. */
static enum scan_step scan_all(struct stage *stage, uint64_t number)
{
    enum scan_step step;
    unsigned before = stage->fake->n_calls;
    scan_begin(&stage->scan, stage->plan, &stage->device, number, stage->values);
    do {
        unsigned calls = stage->fake->n_calls;
        stage->fault = FAULT_NONE;
        step = scan_step(&stage->scan, &stage->fake->link, &stage->fault);
        assert_int_equal(stage->fake->n_calls - calls, step == SCAN_DONE ? 0 : 1);
        assert_true(stage->fake->n_calls - before < 20);
    } while (step == SCAN_MORE);
    return step;
}

static void assert_read(const struct stage *stage, unsigned index)
{
    assert_int_equal(stage->values[index].state, VALUE_READ);
    assert_true(stage->values[index].number == stage->points[index].address * 10.0);
}

static void assert_fault(const struct stage *stage, unsigned index, enum fault fault)
{
    assert_int_equal(stage->values[index].state, VALUE_FAULT);
    assert_int_equal(stage->values[index].fault, fault);
}

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
    } rows[] = {{FAULT_DEVICE_FAILURE, 2}, {FAULT_ILLEGAL_ADDRESS, 5}};
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

static void test_silence_ends_the_scan(void **state)
{
    (void)state;
    const enum fault faults[] = {FAULT_TIMEOUT, FAULT_CONNECTION, FAULT_BAD_REPLY,
                                 FAULT_GATEWAY_PATH, FAULT_GATEWAY_TARGET};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        for (unsigned far = 0; far < 2; far++) {
            struct stage s;
            stage_begin(&s);
            fake_rule_add(s.fake, (struct fake_rule){.function = FAKE_READ,
                                                     .address = far ? E : A,
                                                     .fault = faults[i]});
            assert_int_equal(scan_all(&s, 0), SCAN_BROKEN);
            assert_int_equal(s.fault, faults[i]);
            for (unsigned j = 0; j < N_POINTS; j++) {
                if (far && j < 4)
                    assert_read(&s, j); /* read before: it stays */
                else
                    assert_fault(&s, j, faults[i]);
            }
            assert_int_equal(s.scan.read, far ? 4 : 0);
            assert_int_equal(s.scan.failed, far ? 1 : 5);
            /* Nobody else is asked: a gateway lives, all else is over. */
            assert_int_equal(fake_count(s.fake, FAKE_READ, 0), far ? 2 : 1);
            assert_int_equal(s.fake->link.is_open, fault_is_exception(faults[i]));
            stage_end(&s);
        }
    }
}

/* ---- in parts ---- */

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
    assert_int_equal(scan_in_parts(&s, 1), SCAN_BROKEN);
    assert_int_equal(s.fault, FAULT_TIMEOUT);
    assert_int_equal(now_ns, 1000);
    for (unsigned i = 0; i < N_POINTS; i++)
        assert_fault(&s, i, FAULT_TIMEOUT);
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
        cmocka_unit_test(test_silence_ends_the_scan),
        cmocka_unit_test(test_reads_everything_in_parts),
        cmocka_unit_test(test_a_refusal_in_parts),
        cmocka_unit_test(test_silence_in_parts),
        cmocka_unit_test(test_nothing_old_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
