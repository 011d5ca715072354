/* Powers that fit voltage times current, and powers that do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/cli/power_check.h"

enum { VOLTAGE, CURRENT, POWER, VOLTAGE_AVG, CURRENT_AVG, POWER_L1, N };

static struct point points[N] = {
    [VOLTAGE] = {.name = "voltage_l1_n", .unit = "V"},
    [CURRENT] = {.name = "current_l1", .unit = "A"},
    [POWER] = {.name = "active_power_total", .unit = "W"},
    [VOLTAGE_AVG] = {.name = "voltage_ln_avg", .unit = "V"},
    [CURRENT_AVG] = {.name = "current_avg", .unit = "A"},
    [POWER_L1] = {.name = "active_power_l1", .unit = "W"},
};
static const struct device device = {.n_points = N, .points = points};

/* 0 stands for a point that was not read. */
static int misfit(const double numbers[N], double *ratio)
{
    struct value values[N] = {0};
    for (unsigned i = 0; i < N; i++)
        if (numbers[i] != 0)
            values[i] = (struct value){.state = VALUE_READ, .number = numbers[i]};
    return power_check_find_misfit(&device, values, ratio);
}

static void test_what_fits(void **state)
{
    static const double fits[][N] = {
        {230, 10, 6900},
        {230, 10, -6900},
        {230, 10, 100}, /* power factor, export */
        {230, 10, 690000},
        {230, 1, 690 * 149.0},
        {230, 1, 690 / 149.0}, /* unequal phases */
        {230, 0, 6900},
        {0, 10, 6900},
        {230, 10, 0}, /* nothing to compare */
        {230, 10, 0, 230, 10, 2300},
    };
    double ratio = 7;
    (void)state;
    for (size_t i = 0; i < sizeof fits / sizeof *fits; i++)
        assert_int_equal(misfit(fits[i], &ratio), -1);
    assert_true(ratio == 7);
}

static void test_what_does_not(void **state)
{
    double ratio;
    (void)state;
    assert_int_equal(misfit((const double[N]){230, 10, 6900e3}, &ratio), POWER);
    assert_true(ratio > 999.9 && ratio < 1000.1);
    assert_int_equal(misfit((const double[N]){230, 10, -6.9}, &ratio), POWER);
    assert_true(ratio > 0.000999 && ratio < 0.001001);
    assert_int_equal(misfit((const double[N]){230, 1, 690 * 151.0}, &ratio), POWER);
    assert_int_equal(misfit((const double[N]){230, 1, 690 / 151.0}, &ratio), POWER);
    /* The averages say more than one phase. */
    assert_int_equal(misfit((const double[N]){0, 0, 6900e3, 230, 10}, &ratio), POWER);
    /* One phase by itself is not times three. */
    assert_int_equal(misfit((const double[N]){230, 1, 0, 0, 0, 230 * 151}, &ratio), POWER_L1);
    assert_int_equal(misfit((const double[N]){230, 1, 0, 0, 0, 230 * 149}, &ratio), -1);
}

static void test_units_count(void **state)
{
    double ratio;
    (void)state;
    strcpy(points[POWER].unit, "kW");
    assert_int_equal(misfit((const double[N]){230, 10, 6.9}, &ratio), -1);
    assert_int_equal(misfit((const double[N]){230, 10, 6900}, &ratio), POWER);
    strcpy(points[POWER].unit, "hp"); /* who knows */
    assert_int_equal(misfit((const double[N]){230, 10, 6900e6}, &ratio), -1);
    strcpy(points[POWER].unit, "W");
}

static void test_every_phase(void **state)
{
    double ratio;
    (void)state;
    for (char phase = '1'; phase <= '3'; phase++) {
        points[VOLTAGE].name[9] = points[CURRENT].name[9] = points[POWER_L1].name[14] = phase;
        assert_int_equal(misfit((const double[N]){230, 1, 0, 0, 0, 230 * 149}, &ratio), -1);
        assert_int_equal(misfit((const double[N]){230, 1, 0, 0, 0, 230 * 151}, &ratio), POWER_L1);
    }
    points[VOLTAGE].name[9] = points[CURRENT].name[9] = points[POWER_L1].name[14] = '1';
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_fits),
        cmocka_unit_test(test_what_does_not),
        cmocka_unit_test(test_units_count),
        cmocka_unit_test(test_every_phase),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
