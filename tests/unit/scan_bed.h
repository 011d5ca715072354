/* scan_bed: a device of a few rows on a fake link, and scans of it. */
#ifndef TESTS_UNIT_SCAN_BED_H
#define TESTS_UNIT_SCAN_BED_H

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

static inline void stage_begin(struct stage *stage)
{
    static const uint16_t addresses[N_POINTS] = {A, B, C, D, E};
    memset(stage, 0, sizeof *stage);
    for (unsigned i = 0; i < N_POINTS; i++)
        stage->points[i] = (struct point){.address = addresses[i],
                                          .name = {(char)('a' + i)},
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

static inline void stage_end(struct stage *stage)
{
    plan_free(stage->plan);
    free(stage->fake);
}

/* One whole scan, checked to make one transaction a step. */
static inline enum scan_step scan_all(struct stage *stage, uint64_t number)
{
    enum scan_step step;
    unsigned before = stage->fake->n_calls;
    scan_begin(&stage->scan, stage->plan, &stage->device, number, stage->values);
    do {
        unsigned reads = fake_count(stage->fake, FAKE_READ, 0);
        stage->fault = FAULT_NONE;
        step = scan_step(&stage->scan, &stage->fake->link, &stage->fault);
        assert_true(fake_count(stage->fake, FAKE_READ, 0) - reads <= 1);
        assert_true(stage->fake->n_calls - before < 20);
    } while (step == SCAN_MORE);
    return step;
}

static inline void assert_read(const struct stage *stage, unsigned index)
{
    assert_int_equal(stage->values[index].state, VALUE_READ);
    assert_true(stage->values[index].number == stage->points[index].address * 10.0);
}

static inline void assert_fault(const struct stage *stage, unsigned index, enum fault fault)
{
    assert_int_equal(stage->values[index].state, VALUE_FAULT);
    assert_int_equal(stage->values[index].fault, fault);
}

static const enum fault SILENCES[] = {FAULT_TIMEOUT, FAULT_CONNECTION, FAULT_BAD_REPLY,
                                      FAULT_GATEWAY_PATH, FAULT_GATEWAY_TARGET};
enum { N_SILENCES = sizeof SILENCES / sizeof *SILENCES };

static inline void silent_at(struct stage *stage, unsigned address, enum fault fault)
{
    fake_rule_add(stage->fake,
                  (struct fake_rule){.function = FAKE_READ, .address = address, .fault = fault});
}

static inline unsigned reads(const struct stage *stage)
{
    return fake_count(stage->fake, FAKE_READ, 0);
}

/* Scans until the plan has learned, and what it says then. */
static const char *learn(struct stage *stage, unsigned scans, unsigned *n)
{
    static char text[PLAN_EXPLANATION_MAX];
    char more[PLAN_EXPLANATION_MAX];
    bool told = false;
    for (unsigned i = 0; i < scans && !told; i++) {
        scan_all(stage, (*n)++);
        told = plan_explain(stage->plan, text);
    }
    assert_true(told);
    assert_false(plan_explain(stage->plan, more));
    return text;
}

#endif
