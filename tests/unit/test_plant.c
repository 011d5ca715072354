/* The plant's physics, with time as an argument. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/simulator/plant.h"

/* cmocka compares in single precision. */
#define assert_near(got, want, tolerance) assert_true(fabs((got) - (want)) <= (tolerance))

enum { BATTERY, GRID, PV, LOAD, N_DEVICES };
enum { STATUS, TARGET, SOE, BLOCKS, N_BATTERY_POINTS };

/* Rows of battery and meter; a test looks them up by name. */
static const struct point battery_points[] = {
    [STATUS] = {.name = "status", .scale = 1},
    [TARGET] = {.name = "target_power", .unit = "kW", .scale = 1, .writable = true},
    [SOE] = {.name = "soe", .unit = "%", .scale = 1},
    [BLOCKS] = {.name = "available_blocks", .scale = 1},
};
static const struct {
    const char *name, *unit;
} meter_rows[] = {
    {"frequency", "Hz"},
    {"voltage_l1_n", "V"},
    {"voltage_l2_n", "V"},
    {"voltage_l3_n", "V"},
    {"voltage_ln_avg", "V"},
    {"voltage_l1_l2", "V"},
    {"voltage_ll_avg", "V"},
    {"current_l1", "A"},
    {"current_l2", "A"},
    {"current_l3", "A"},
    {"current_avg", "A"},
    {"current_n", "A"},
    {"active_power_l1", "W"},
    {"active_power_l2", "W"},
    {"active_power_l3", "W"},
    {"active_power_total", "kW"},
    {"reactive_power_total", "kvar"},
    {"apparent_power_total", "kVA"},
    {"apparent_power_l1", "VA"},
    {"reactive_power_l1", "var"},
    {"power_factor_l1", ""},
    {"power_factor_total", ""},
    {"energy_import", "kWh"},
    {"energy_export", "kWh"},
    {"energy_net", "MWh"},
    {"reactive_energy_import", "kvarh"},
    {"apparent_energy", "kVAh"},
};
enum { N_METER_POINTS = sizeof meter_rows / sizeof *meter_rows };

struct site {
    struct device devices[N_DEVICES];
    struct point battery[N_BATTERY_POINTS];
    struct point meter[N_METER_POINTS];
    struct device_list list;
    struct plant *plant;
};

static struct device_control *site_describe(struct site *site)
{
    memset(site, 0, sizeof *site);
    memcpy(site->battery, battery_points, sizeof battery_points);
    for (unsigned i = 0; i < N_METER_POINTS; i++) {
        snprintf(site->meter[i].name, sizeof site->meter[i].name, "%s", meter_rows[i].name);
        snprintf(site->meter[i].unit, sizeof site->meter[i].unit, "%s", meter_rows[i].unit);
    }
    static const char *const names[] = {"Site-BESS-01", "Grid-Meter", "PV-Meter", "Hall-3"};
    for (unsigned i = 0; i < N_DEVICES; i++) {
        struct device *device = &site->devices[i];
        snprintf(device->name, sizeof device->name, "%s", names[i]);
        device->battery = i == BATTERY;
        device->points = device->battery ? site->battery : site->meter;
        device->n_points = device->battery ? (unsigned)N_BATTERY_POINTS : (unsigned)N_METER_POINTS;
    }
    site->list = (struct device_list){.n_devices = N_DEVICES, .devices = site->devices};
    struct device *battery = &site->devices[BATTERY];
    battery->controllable = true;
    battery->control = (struct device_control){
        .n_ready = 1, .ready_status = {1}, .min_kw = -250, .max_kw = 250, .kw_per_block = NAN};
    return &battery->control;
}

static void site_start(struct site *site, uint64_t seed)
{
    site->plant = plant_new(&site->list, seed);
    assert_non_null(site->plant);
}

static int setup(void **state)
{
    static struct site site;
    site_describe(&site);
    site_start(&site, 1);
    *state = &site;
    return 0;
}

static int teardown(void **state)
{
    plant_free(((struct site *)*state)->plant);
    return 0;
}

static double battery(const struct site *site, unsigned point)
{
    return plant_read(site->plant, BATTERY, point);
}

static double meter(const struct site *site, unsigned device, const char *name)
{
    for (unsigned i = 0; i < N_METER_POINTS; i++)
        if (strcmp(meter_rows[i].name, name) == 0)
            return plant_read(site->plant, device, i);
    fail_msg("no row %s", name);
    return NAN;
}

/* kW of discharge, seen from outside: what the grid meter does not import. */
static double discharge_kw(const struct site *site, double load_kw)
{
    return load_kw - meter(site, GRID, "active_power_total");
}

/* The load of the site without its battery, while that rests. */
static double resting_load_kw(const struct site *site)
{
    return meter(site, GRID, "active_power_total");
}

static void at_rest_nothing_moves(void **state)
{
    struct site *site = *state;
    double soe = battery(site, SOE);
    assert_in_range((uintmax_t)soe, 45, 65);
    plant_step(site->plant, 3600);
    assert_near(battery(site, SOE), soe, 0);
    assert_near(battery(site, STATUS), 1, 0);
    assert_near(battery(site, TARGET), 0, 0);
    assert_near(battery(site, BLOCKS), 5, 0);
}

static void energy_follows_power(void **state)
{
    struct site *site = *state;
    double soe = battery(site, SOE);
    plant_write(site->plant, BATTERY, TARGET, 100);
    assert_near(battery(site, TARGET), 100, 0);
    plant_step(site->plant, 900);
    /* 100 kW for 900 s, less half of a ramp of 0.16 s, of 250 kWh */
    double used_kwh = 100 * (900 - 0.08) / 3600;
    assert_near(battery(site, SOE), soe - 100 * used_kwh / 250, 1e-6);
    plant_write(site->plant, BATTERY, TARGET, 0);
    plant_step(site->plant, 901);
    soe = battery(site, SOE);
    plant_write(site->plant, BATTERY, TARGET, -50);
    plant_step(site->plant, 1801);
    assert_near(battery(site, SOE), soe + 100 * 50 * (900 - 0.04) / 3600 / 250, 1e-6);
}

static void steps_of_any_length_agree(void **state)
{
    struct site *coarse = *state;
    static struct site fine;
    site_describe(&fine);
    site_start(&fine, 1);
    plant_write(coarse->plant, BATTERY, TARGET, 200);
    plant_write(fine.plant, BATTERY, TARGET, 200);
    plant_step(coarse->plant, 100);
    for (unsigned i = 1; i <= 10000; i++)
        plant_step(fine.plant, i * 0.01);
    assert_near(battery(&fine, SOE), battery(coarse, SOE), 1e-6);
    plant_free(fine.plant);
}

static void full_power_is_there_within_a_second(void **state)
{
    struct site *site = *state;
    double load_kw = resting_load_kw(site);
    plant_write(site->plant, BATTERY, TARGET, -250);
    plant_step(site->plant, 10);
    plant_write(site->plant, BATTERY, TARGET, 250);
    plant_step(site->plant, 10.4); /* half way of a full reversal */
    double half_kw = discharge_kw(site, load_kw);
    assert_true(half_kw > -60 && half_kw < 60); /* the load itself drifts */
    plant_step(site->plant, 11);
    double full_kw = discharge_kw(site, load_kw);
    assert_true(full_kw > 190 && full_kw < 310);
}

static void power_keeps_within_the_blocks(void **state)
{
    struct site *site = *state;
    double soe = battery(site, SOE);
    plant_write(site->plant, BATTERY, TARGET, 5000);
    plant_step(site->plant, 60);
    assert_near(battery(site, TARGET), 5000, 0); /* the register has it all the same */
    assert_near(battery(site, SOE), soe - 100 * 250 * (60 - 0.2) / 3600 / 250, 1e-6);
}

static void charging_keeps_within_them_too(void **state)
{
    struct site *site = *state;
    double soe = battery(site, SOE);
    plant_write(site->plant, BATTERY, TARGET, -5000);
    plant_step(site->plant, 60);
    assert_near(battery(site, SOE), soe + 100 * 250 * (60 - 0.2) / 3600 / 250, 1e-6);
}

static void empty_and_full_stop_it(void **state)
{
    struct site *site = *state;
    plant_write(site->plant, BATTERY, TARGET, 250);
    plant_step(site->plant, 1000);
    assert_near(battery(site, STATUS), 1, 0);
    plant_step(site->plant, 3600);
    assert_near(battery(site, SOE), 0, 0);
    assert_near(battery(site, STATUS), 0, 0);
    assert_true(meter(site, GRID, "active_power_total") > -100); /* no discharge any more */
    plant_step(site->plant, 3700);
    assert_near(battery(site, SOE), 0, 0);
    assert_near(battery(site, STATUS), 0, 0);
    plant_write(site->plant, BATTERY, TARGET, 0); /* now it may run again */
    plant_step(site->plant, 3700.1);
    assert_near(battery(site, STATUS), 1, 0);
    plant_write(site->plant, BATTERY, TARGET, -250);
    plant_step(site->plant, 3800);
    assert_near(battery(site, STATUS), 1, 0);
    assert_true(battery(site, SOE) > 2);
    plant_step(site->plant, 10000);
    assert_near(battery(site, SOE), 100, 0);
    assert_near(battery(site, STATUS), 0, 0);
    plant_write(site->plant, BATTERY, TARGET, 10);
    plant_step(site->plant, 10010);
    assert_near(battery(site, STATUS), 1, 0);
    assert_true(battery(site, SOE) < 100);
}

static void only_the_setpoint_moves_it(void **state)
{
    struct site *site = *state;
    plant_write(site->plant, BATTERY, SOE, 250);
    plant_write(site->plant, GRID, 0, 250);
    assert_near(battery(site, TARGET), 0, 0);
}

static void the_configuration_shapes_the_battery(void **state)
{
    (void)state;
    static struct site site;
    static const struct {
        double min_kw, max_kw, kw_per_block, blocks, limit_kw, capacity_kwh;
    } cases[] = {
        {-150, 50, NAN, 5, 250, 150}, {-250, 250, 60, 4, 240, 250}, {-50, 50, 400, 1, 400, 100},
        {0, 300, 25, 10, 250, 300},   {-900, 900, 50, 5, 250, 500},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct device_control *control = site_describe(&site);
        control->n_ready = 4;
        memcpy(control->ready_status, (int64_t[]){4, 2, 0, 3}, 4 * sizeof(int64_t));
        control->min_kw = cases[i].min_kw;
        control->max_kw = cases[i].max_kw;
        control->kw_per_block = cases[i].kw_per_block;
        site_start(&site, i);
        assert_near(battery(&site, STATUS), 4, 0);
        assert_near(battery(&site, BLOCKS), cases[i].blocks, 0);
        double soe = battery(&site, SOE);
        plant_write(site.plant, BATTERY, TARGET, 1e5);
        plant_step(site.plant, 100.2);
        assert_near(battery(&site, SOE),
                    soe - 100 * cases[i].limit_kw * 100 / 3600 / cases[i].capacity_kwh, 1e-6);
        plant_step(site.plant, 1e5);
        assert_near(battery(&site, STATUS), 1, 0); /* the first number that is not ready */
        plant_free(site.plant);
    }
}

static void a_battery_without_control_is_ready_at_1(void **state)
{
    (void)state;
    static struct site site;
    site_describe(&site);
    site.devices[BATTERY].controllable = false;
    site.devices[BATTERY].control = (struct device_control){0};
    site_start(&site, 1);
    assert_near(battery(&site, STATUS), 1, 0);
    double soe = battery(&site, SOE);
    plant_write(site.plant, BATTERY, TARGET, 50);
    plant_step(site.plant, 720.04);
    assert_near(battery(&site, SOE), soe - 5, 1e-6); /* 10 of 200 kWh */
    plant_free(site.plant);
}

static void the_grid_takes_what_is_left(void **state)
{
    struct site *site = *state;
    for (unsigned i = 0; i < 100; i++) {
        double kw = i % 3 * 50.0;
        plant_write(site->plant, BATTERY, TARGET, kw);
        plant_step(site->plant, 10 * (i + 1));
        double base_kw = meter(site, GRID, "active_power_total") -
                         meter(site, LOAD, "active_power_total") +
                         meter(site, PV, "active_power_total") + kw;
        assert_true(base_kw > 20 && base_kw < 100);
        assert_true(meter(site, PV, "active_power_total") > 40);
        assert_true(meter(site, LOAD, "active_power_total") > 5);
    }
    plant_step(site->plant, 43200); /* midnight */
    assert_near(meter(site, PV, "active_power_total"), 0, 1e-9);
}

static void the_electrics_agree_with_each_other(void **state)
{
    struct site *site = *state;
    double lowest = 1000, highest = 0;
    for (unsigned i = 1; i <= 500; i++) {
        plant_step(site->plant, 7 * i);
        unsigned device = GRID + i % 3;
        double v = meter(site, device, "voltage_l1_n");
        double p = meter(site, device, "active_power_l1");
        double q = meter(site, device, "reactive_power_l1");
        double s = meter(site, device, "apparent_power_l1");
        lowest = fmin(lowest, v);
        highest = fmax(highest, v);
        assert_near(s * s, p * p + q * q, 1e-3 * s * s);
        assert_near(meter(site, device, "current_l1"), s / v, 1e-3);
        assert_near(meter(site, device, "power_factor_l1"), p / s, 1e-6);
        assert_near(p + meter(site, device, "active_power_l2") +
                        meter(site, device, "active_power_l3"),
                    1e3 * meter(site, device, "active_power_total"), 1e-3);
        assert_near(meter(site, device, "voltage_ll_avg"),
                    sqrt(3) * meter(site, device, "voltage_ln_avg"), 0.1);
        assert_near(meter(site, device, "voltage_l1_l2"), 1.732 * 230, 12);
        double f = meter(site, device, "frequency");
        assert_true(f > 49.9 && f < 50.1);
        assert_true(meter(site, device, "current_n") < meter(site, device, "current_avg"));
    }
    assert_true(lowest > 220 && lowest < 229 && highest > 231 && highest < 240); /* noise */
}

static void counters_integrate(void **state)
{
    struct site *site = *state;
    plant_step(site->plant, 3600);
    double in = meter(site, GRID, "energy_import"), out = meter(site, GRID, "energy_export");
    double s_sum = meter(site, GRID, "apparent_energy");
    double q_sum = meter(site, GRID, "reactive_energy_import");
    assert_true(in > 0);
    plant_write(site->plant, BATTERY, TARGET, 250); /* now the site exports */
    plant_step(site->plant, 3660);
    double kw = meter(site, GRID, "active_power_total");
    assert_true(kw < -100);
    assert_true(meter(site, GRID, "power_factor_total") < 0);
    assert_near(meter(site, GRID, "energy_export"), out - kw / 60, 1e-6);
    assert_near(meter(site, GRID, "energy_import"), in, 0);
    assert_near(meter(site, GRID, "apparent_energy"),
                s_sum + meter(site, GRID, "apparent_power_total") / 60, 1e-6);
    assert_near(meter(site, GRID, "reactive_energy_import"),
                q_sum + meter(site, GRID, "reactive_power_total") / 60, 1e-6);
    assert_near(meter(site, GRID, "energy_net"), (in - meter(site, GRID, "energy_export")) / 1e3,
                1e-9);
    double pv = meter(site, PV, "energy_import");
    plant_step(site->plant, 3720);
    assert_near(meter(site, PV, "energy_import"), pv + meter(site, PV, "active_power_total") / 60,
                1e-6);
}

static void a_seed_decides_everything(void **state)
{
    struct site *site = *state;
    static struct site same, other;
    site_describe(&same);
    site_start(&same, 1);
    site_describe(&other);
    site_start(&other, 2);
    assert_true(meter(&other, GRID, "voltage_l1_n") != meter(site, GRID, "voltage_l1_n"));
    for (unsigned i = 1; i < 50; i++) {
        plant_step(site->plant, i);
        plant_step(same.plant, i);
        plant_step(other.plant, i);
        for (unsigned d = GRID; d < N_DEVICES; d++)
            for (unsigned p = 0; p < N_METER_POINTS; p++)
                assert_near(plant_read(same.plant, d, p), plant_read(site->plant, d, p), 0);
    }
    assert_true(meter(&other, GRID, "voltage_l1_n") != meter(site, GRID, "voltage_l1_n"));
    plant_free(same.plant);
    plant_free(other.plant);
}

static void time_never_goes_back(void **state)
{
    struct site *site = *state;
    plant_write(site->plant, BATTERY, TARGET, 100);
    plant_step(site->plant, 100);
    double soe = battery(site, SOE), volts = meter(site, GRID, "voltage_l1_n");
    plant_step(site->plant, 50);
    plant_step(site->plant, 100);
    plant_step(site->plant, NAN);
    assert_near(battery(site, SOE), soe, 0);
    assert_near(meter(site, GRID, "voltage_l1_n"), volts, 0);
}

/* A setpoint in W, whatever the profile's unit. */
static void units_of_the_setpoint_count(void **state)
{
    (void)state;
    static struct site site;
    site_describe(&site);
    strcpy(site.battery[TARGET].unit, "W");
    site_start(&site, 1);
    double soe = battery(&site, SOE);
    plant_write(site.plant, BATTERY, TARGET, 250000);
    assert_near(battery(&site, TARGET), 250000, 0);
    plant_step(site.plant, 360.2);
    assert_near(battery(&site, SOE), soe - 10, 1e-6);
    plant_free(site.plant);
}

static void any_other_point_is_believable(void **state)
{
    (void)state;
    static struct site site;
    static const struct {
        struct point point;
        double low, high;
    } cases[] = {
        {{.name = "volts", .unit = "kV", .min = NAN, .max = NAN}, 0.2, 0.25},
        {{.name = "cell", .unit = "\u00b0C", .min = NAN, .max = NAN}, 10, 40},
        {{.name = "soe", .unit = "kWh", .min = NAN, .max = NAN}, 0, 1}, /* not a known unit of it */
        {{.name = "bounded", .unit = "V", .min = -3, .max = 4}, -3, 4},
        {{.name = "bare", .min = NAN, .max = NAN}, 0, 10},
        {{.name = "flag", .type = POINT_BOOL, .min = NAN, .max = NAN}, 0, 1},
    };
    enum { N = sizeof cases / sizeof *cases };
    struct point points[N + 3];
    for (unsigned i = 0; i < N; i++)
        points[i] = cases[i].point;
    points[N] = (struct point){.min = 5, .max = 9, .writable = true};
    points[N + 1] = (struct point){.min = NAN, .max = NAN, .writable = true};
    points[N + 2] = (struct point){.min = NAN,
                                   .max = NAN,
                                   .scale = 1,
                                   .n_labels = 1,
                                   .labels = (const struct point_label[]){{7, "on"}}};
    site_describe(&site);
    site.devices[LOAD].points = points;
    site.devices[LOAD].n_points = N + 3;
    site_start(&site, 1);
    double least[N], most[N];
    for (unsigned t = 0; t < 240; t++) {
        plant_step(site.plant, t);
        for (unsigned i = 0; i < N; i++) {
            double number = plant_read(site.plant, LOAD, i);
            assert_true(number >= cases[i].low && number <= cases[i].high + 1000 * (i == 2));
            least[i] = t ? fmin(least[i], number) : number;
            most[i] = t ? fmax(most[i], number) : number;
        }
    }
    for (unsigned i = 0; i < N; i++)
        assert_true(most[i] > least[i]);
    assert_near(plant_read(site.plant, LOAD, N), 5, 0);
    assert_near(plant_read(site.plant, LOAD, N + 1), 0, 0);
    assert_near(plant_read(site.plant, LOAD, N + 2), 7, 0);
    plant_free(site.plant);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(at_rest_nothing_moves),
        TEST(energy_follows_power),
        TEST(steps_of_any_length_agree),
        TEST(full_power_is_there_within_a_second),
        TEST(power_keeps_within_the_blocks),
        TEST(charging_keeps_within_them_too),
        TEST(empty_and_full_stop_it),
        TEST(only_the_setpoint_moves_it),
        cmocka_unit_test(the_configuration_shapes_the_battery),
        cmocka_unit_test(a_battery_without_control_is_ready_at_1),
        TEST(the_grid_takes_what_is_left),
        TEST(the_electrics_agree_with_each_other),
        TEST(counters_integrate),
        TEST(a_seed_decides_everything),
        TEST(time_never_goes_back),
        cmocka_unit_test(units_of_the_setpoint_count),
        cmocka_unit_test(any_other_point_is_believable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
