/* Which type a device is taken for, and what it is asked for that. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/cli/recognise.h"
#include "tests/unit/fake_link.h"

#define HOLDING .table = POINT_HOLDING, .every = 1, .scale = 1

/* A type of eight registers in a row, and one of two floats and a coil. */
static struct point eight_points[8];
static struct profile eight = {
    .type = "eight", .max_registers = 125, .max_gap = 60, .n_points = 8, .points = eight_points};

static struct point float_points[] = {
    {.name = "v", .unit = "V", .address = 100, .type = POINT_FLOAT32, HOLDING},
    {.name = "f", .unit = "Hz", .address = 102, .type = POINT_FLOAT32, HOLDING},
    {.name = "on", .address = 7, .type = POINT_BOOL, .table = POINT_COIL, .every = 1},
};
static struct profile floats = {
    .type = "floats", .max_registers = 125, .max_gap = 60, .n_points = 3, .points = float_points};
static struct profile *profiles[] = {&eight, &floats};

static const struct device_modbus modbus = {.address = 1, .timeout_ns = 1000000};

static int set_up(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++)
        eight_points[i] = (struct point){.name = "p",
                                         .unit = "%",
                                         .address = (uint16_t)(2000 + i),
                                         .type = POINT_UINT16,
                                         HOLDING,
                                         .low = NAN,
                                         .high = NAN};
    for (unsigned i = 0; i < 3; i++)
        float_points[i].low = float_points[i].high = NAN;
    return 0;
}

static struct recognised judge(unsigned refused, unsigned nonsense, unsigned zeros)
{
    struct value values[8];
    for (unsigned i = 0; i < 8; i++) {
        values[i] = (struct value){.state = VALUE_READ, .number = 50};
        if (i < refused)
            values[i] = (struct value){.state = VALUE_FAULT, .fault = FAULT_ILLEGAL_ADDRESS};
        else if (i < refused + nonsense)
            values[i].number = 30000; /* percent */
        else if (i < refused + nonsense + zeros)
            values[i].number = 0;
    }
    return recognise_judge(&eight, values);
}

static void test_most_must_be_there(void **state)
{
    struct recognised guess = judge(0, 0, 0);
    (void)state;
    assert_true(recognise_fits(&guess));
    assert_true(guess.profile == &eight && guess.good == 8 && guess.telling == 8 && guess.of == 8);
    guess = judge(2, 0, 0);
    assert_true(recognise_fits(&guess));
    assert_int_equal(guess.good, 6);
    guess = judge(3, 0, 0);
    assert_false(recognise_fits(&guess));
}

static void test_little_may_be_nonsense(void **state)
{
    struct recognised guess = judge(0, 1, 0);
    (void)state;
    assert_true(recognise_fits(&guess));
    assert_int_equal(guess.wrong, 1);
    guess = judge(0, 2, 0);
    assert_false(recognise_fits(&guess));
}

static void test_zeros_tell_nothing(void **state)
{
    struct recognised guess = judge(0, 0, 7);
    (void)state;
    assert_true(recognise_fits(&guess));
    assert_int_equal(guess.telling, 1);
    guess = judge(0, 0, 8);
    assert_int_equal(guess.good, 8);
    assert_false(recognise_fits(&guess));
    guess = (struct recognised){0};
    assert_false(recognise_fits(&guess));
}

static void test_values_that_are_none_are_nonsense(void **state)
{
    struct value values[8] = {{.state = VALUE_FAULT, .fault = FAULT_IMPLAUSIBLE},
                              {.state = VALUE_FAULT, .fault = FAULT_NOT_FINITE},
                              {.state = VALUE_FAULT, .fault = FAULT_ILLEGAL_ADDRESS}};
    (void)state;
    const struct recognised guess = recognise_judge(&eight, values);
    assert_int_equal(guess.wrong, 2);
    assert_int_equal(guess.of, 3); /* the rest was not asked for */
}

static void test_what_a_unit_can_hold(void **state)
{
    const struct point volts = {.unit = "V", .type = POINT_FLOAT32};
    const struct point hertz = {.unit = "Hz", .type = POINT_UINT16};
    const struct point plain = {.unit = "", .type = POINT_FLOAT32};
    const struct point wide = {.unit = "", .type = POINT_FLOAT64};
    const struct point count = {.unit = "", .type = POINT_UINT32};
    (void)state;
    assert_true(recognise_is_believable(&volts, 230));
    assert_true(recognise_is_believable(&volts, 0));
    assert_false(recognise_is_believable(&volts, -230));
    assert_false(recognise_is_believable(&volts, 2e6));
    assert_true(recognise_is_believable(&hertz, 0));
    assert_true(recognise_is_believable(&hertz, 500));
    assert_false(recognise_is_believable(&hertz, 501));
    assert_true(recognise_is_believable(&plain, -0.98));
    assert_false(recognise_is_believable(&plain, 9e-41)); /* two small integers */
    assert_false(recognise_is_believable(&plain, -3e30));
    assert_false(recognise_is_believable(&wide, 5e-320));
    assert_true(recognise_is_believable(&count, 4e9));
    assert_true(recognise_is_believable(&count, 1e13)); /* no float */
}

static void test_the_better_guess(void **state)
{
    const struct recognised whole = {.good = 4, .of = 4, .telling = 3};
    const struct recognised most = {.good = 30, .of = 36, .telling = 30};
    const struct recognised large = {.good = 36, .of = 36, .telling = 30};
    (void)state;
    assert_true(recognise_is_better(&whole, &most));
    assert_false(recognise_is_better(&most, &whole));
    assert_true(recognise_is_better(&large, &whole));
    assert_false(recognise_is_better(&whole, &large));
    assert_false(recognise_is_better(&whole, &whole));
}

static void put_float(struct fake_link *fake, unsigned address, uint32_t bits)
{
    fake->registers[1][address] = (uint16_t)(bits >> 16);
    fake->registers[1][address + 1] = (uint16_t)bits;
}

static void test_a_unit_is_asked(void **state)
{
    struct fake_link *fake = fake_link_new();
    struct recognised best;
    (void)state;
    put_float(fake, 100, 0x43660000); /* 230 V */
    put_float(fake, 102, 0x42480000); /* 50 Hz */
    assert_int_equal(recognise_unit(&fake->link, &modbus, profiles, 2, &best), FAULT_NONE);
    assert_true(best.profile == &floats);
    assert_int_equal(best.good, 2);
    assert_int_equal(best.of, 2);
    assert_int_equal(fake->n_writes, 0);
    for (unsigned i = 0; i < fake->n_calls; i++) /* and not the coil */
        assert_true(fake->calls[i].function == FAKE_OPEN || fake->calls[i].function == FAKE_READ);
    link_free(&fake->link);
    free(fake);
}

static void test_the_best_of_several_types(void **state)
{
    struct profile *orders[][2] = {{&eight, &floats}, {&floats, &eight}};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct fake_link *fake = fake_link_new();
        struct recognised best;
        put_float(fake, 100, 0x43660000);
        put_float(fake, 102, 0x42480000);
        for (unsigned k = 0; k < 8; k++)
            fake->registers[1][2000 + k] = 50;
        assert_int_equal(recognise_unit(&fake->link, &modbus, orders[i], 2, &best), FAULT_NONE);
        assert_true(best.profile == &eight); /* both fit, and this tells more */
        fake->registers[1][2000] = 30000;
        assert_int_equal(recognise_unit(&fake->link, &modbus, orders[i], 2, &best), FAULT_NONE);
        assert_true(best.profile == &floats); /* of this nothing is wrong */
        link_free(&fake->link);
        free(fake);
    }
}

static void test_registers_that_are_not_there(void **state)
{
    struct fake_link *fake = fake_link_new();
    struct recognised best;
    (void)state;
    fake_rule_add(fake, (struct fake_rule){.function = FAKE_READ, .fault = FAULT_ILLEGAL_ADDRESS});
    assert_int_equal(recognise_unit(&fake->link, &modbus, profiles, 2, &best), FAULT_NONE);
    assert_null(best.profile);
    /* Given up at the third register of eight, and at the first of two: the
     * first contact, 8 4 2 1 1 2 1, and 4 2. */
    assert_int_equal(fake_count(fake, FAKE_READ, 0), 10);
    link_free(&fake->link);
    free(fake);
}

static void test_nobody(void **state)
{
    static const enum fault faults[] = {FAULT_TIMEOUT, FAULT_CONNECTION, FAULT_BAD_REPLY,
                                        FAULT_GATEWAY_TARGET, FAULT_GATEWAY_PATH};
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct fake_link *fake = fake_link_new();
        struct recognised best = {.of = 77};
        fake_rule_add(fake, (struct fake_rule){.function = FAKE_READ, .fault = faults[i]});
        assert_int_equal(recognise_unit(&fake->link, &modbus, profiles, 2, &best), faults[i]);
        assert_int_equal(best.of, 77);
        assert_int_equal(fake_count(fake, FAKE_READ, 0), 1);
        link_free(&fake->link);
        free(fake);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_most_must_be_there),
        cmocka_unit_test(test_little_may_be_nonsense),
        cmocka_unit_test(test_zeros_tell_nothing),
        cmocka_unit_test(test_values_that_are_none_are_nonsense),
        cmocka_unit_test(test_what_a_unit_can_hold),
        cmocka_unit_test(test_the_better_guess),
        cmocka_unit_test(test_a_unit_is_asked),
        cmocka_unit_test(test_the_best_of_several_types),
        cmocka_unit_test(test_registers_that_are_not_there),
        cmocka_unit_test(test_nobody),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
