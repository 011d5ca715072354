#include "devices/simulator/plant.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { PHASES = 3, TOTAL = PHASES, LINES = PHASES + 1 };

static const double PI = 3.14159265358979323846;
static const double DAY_S = 86400;
static const double HOUR_S = 3600;

/* PowerPack, "Specifications": 100-500 kWh, up to 250 kW, response under 1 s. */
static const double PACK_KW = 250;
static const double PACK_KWH = 200;
static const double PACK_KWH_MIN = 100;
static const double PACK_KWH_MAX = 500;
static const double PACK_KW_PER_BLOCK = 50;
static const double PACK_REVERSAL_S = 0.8; /* from full charge to full discharge */

/* What each kind of connection draws or yields on average. */
static const double SITE_W = 60e3;
static const double LOAD_W = 25e3;
static const double PV_W = 90e3;
static const double LOAD_TAN_PHI = 0.3; /* power factor 0.96 */
static const double INVERTER_TAN_PHI = 0.05;
static const double UNBALANCE[PHASES] = {0.03, -0.01, -0.02};

enum role { ROLE_BATTERY, ROLE_GRID, ROLE_PV, ROLE_LOAD };

/* Everything that a point can measure, in base units (W, Wh, V, A, Hz, %). The
 * last of four is the total of a power, else the average. */
struct readings {
    double soe, status, target_w, blocks;
    double energy_wh, capacity_wh, limit_w;
    double frequency;
    double volts_ln[LINES], volts_ll[LINES];
    double amps[LINES], amps_n;
    double p[LINES], q[LINES], s[LINES], pf[LINES];
    double p_in, p_out, p_net, q_in, q_out, s_sum; /* counters */
};

struct plant_battery {
    double capacity_wh, energy_wh;
    double limit_w;
    double blocks;
    double ready, standby; /* raw values of `status` */
};

/* What a point shows. */
struct slot {
    const struct measure *measure; /* NULL = not a known name */
    double factor;                 /* units of the point in a base unit */
};

struct unit {
    const struct device *device;
    enum role role;
    struct slot *slots; /* by point */
    struct plant_battery battery;
    struct readings now;
    double drift;
};

/* A drift wanders around 0 with standard deviation 1. */
struct plant {
    uint64_t random;
    double now_s;
    double volts_drift[PHASES], frequency_drift, load_drift;
    unsigned n_units;
    struct unit *units;
};

/* Known names: where the value is, and its base unit. */
struct measure {
    const char *name;
    const char *unit;
    size_t offset;
};
#define MEASURE(name, unit, field)                                                                 \
    {                                                                                              \
        name, unit, offsetof(struct readings, field)                                               \
    }
#define MEASURE_PHASES(name, unit, field)                                                          \
    MEASURE(name "_l1", unit, field[0]), MEASURE(name "_l2", unit, field[1]),                      \
        MEASURE(name "_l3", unit, field[2])
#define MEASURE_POWER(name, unit, field)                                                           \
    MEASURE_PHASES(name, unit, field), MEASURE(name "_total", unit, field[TOTAL])

static const struct measure measures[] = {
    MEASURE("soe", "%", soe),
    MEASURE("status", "", status),
    MEASURE("target_power", "W", target_w),
    MEASURE("available_blocks", "", blocks),
    MEASURE("accepted_power", "W", target_w),
    MEASURE("energy_remaining", "Wh", energy_wh),
    MEASURE("energy_full", "Wh", capacity_wh),
    MEASURE("energy_capacity", "Wh", capacity_wh),
    MEASURE("max_charge", "W", limit_w),
    MEASURE("max_discharge", "W", limit_w),
    MEASURE("frequency", "Hz", frequency),
    MEASURE("voltage_l1_n", "V", volts_ln[0]),
    MEASURE("voltage_l2_n", "V", volts_ln[1]),
    MEASURE("voltage_l3_n", "V", volts_ln[2]),
    MEASURE("voltage_ln_avg", "V", volts_ln[TOTAL]),
    MEASURE("voltage_l1_l2", "V", volts_ll[0]),
    MEASURE("voltage_l2_l3", "V", volts_ll[1]),
    MEASURE("voltage_l3_l1", "V", volts_ll[2]),
    MEASURE("voltage_ll_avg", "V", volts_ll[TOTAL]),
    MEASURE_PHASES("current", "A", amps),
    MEASURE("current_avg", "A", amps[TOTAL]),
    MEASURE("current_n", "A", amps_n),
    MEASURE_POWER("active_power", "W", p),
    MEASURE_POWER("reactive_power", "var", q),
    MEASURE_POWER("apparent_power", "VA", s),
    MEASURE_POWER("power_factor", "", pf),
    MEASURE("energy_import", "Wh", p_in),
    MEASURE("energy_export", "Wh", p_out),
    MEASURE("energy_net", "Wh", p_net),
    MEASURE("reactive_energy_import", "varh", q_in),
    MEASURE("reactive_energy_export", "varh", q_out),
    MEASURE("apparent_energy", "VAh", s_sum),
};

/* What a point of an unknown name shows: a slow wave between low and high, or,
 * as a counter, so much per hour. */
struct habit {
    const char *unit;
    double low, high;
    double per_hour;
};
static const struct habit habits[] = {
    {"V", 227, 233, 0},   {"A", 5, 60, 0},         {"W", 1e3, 40e3, 0}, {"var", 0, 10e3, 0},
    {"VA", 1e3, 42e3, 0}, {"Hz", 49.95, 50.05, 0}, {"%", 30, 70, 0},    {"\u00b0C", 18, 32, 0},
    {"Wh", 0, 0, 10e3},   {"varh", 0, 0, 2e3},     {"VAh", 0, 0, 10e3}, {NULL, 0, 10, 0},
};

/* How many of the point's unit make one of `base`: 0.001 for "kW" and "W"; 0
 * when it is another unit altogether. */
static double unit_factor(const char *unit, const char *base)
{
    static const struct {
        char prefix;
        double factor;
    } prefixes[] = {{'m', 1e3}, {'k', 1e-3}, {'M', 1e-6}, {'G', 1e-9}};
    if (strcmp(unit, base) == 0)
        return 1;
    if (*base && *unit && strcmp(unit + 1, base) == 0)
        for (unsigned i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
            if (*unit == prefixes[i].prefix)
                return prefixes[i].factor;
    return 0;
}

/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
 * generators, 2014), as a number of 0 <= x < 1. */
static double random_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* Keeps `keep` of the old value and fills up with fresh noise, so that the
 * spread stays the same whatever the step. */
static void drift_step(double *drift, double keep, uint64_t *random)
{
    double fresh = (2 * random_next(random) - 1) * sqrt(3);
    *drift = keep * *drift + sqrt(1 - keep * keep) * fresh;
}

static double clamp(double number, double low, double high)
{
    return fmin(fmax(number, low), high);
}

static struct slot slot_find(const struct point *point)
{
    for (unsigned i = 0; i < sizeof measures / sizeof *measures; i++) {
        double factor = unit_factor(point->unit, measures[i].unit);
        if (factor != 0 && strcmp(point->name, measures[i].name) == 0)
            return (struct slot){&measures[i], factor};
    }
    return (struct slot){NULL, 0};
}

static bool control_is_ready(const struct device_control *control, int64_t status)
{
    for (unsigned i = 0; i < control->n_ready; i++)
        if (control->ready_status[i] == status)
            return true;
    return false;
}

static void battery_start(struct plant_battery *battery, const struct device *device,
                          uint64_t *random)
{
    double kw_per_block = PACK_KW_PER_BLOCK, capacity_kwh = PACK_KWH;
    int64_t ready = 1, standby = 0;
    if (device->controllable) {
        const struct device_control *control = &device->control;
        if (control->kw_per_block > 0) /* NAN is no */
            kw_per_block = control->kw_per_block;
        capacity_kwh = fmax(fabs(control->min_kw), fabs(control->max_kw));
        ready = control->n_ready > 0 ? control->ready_status[0] : ready;
        while (control_is_ready(control, standby))
            standby++;
    }
    battery->ready = (double)ready;
    battery->standby = (double)standby;
    battery->blocks = fmax(floor(PACK_KW / kw_per_block), 1);
    battery->limit_w = 1e3 * battery->blocks * kw_per_block;
    battery->capacity_wh = 1e3 * clamp(capacity_kwh, PACK_KWH_MIN, PACK_KWH_MAX);
    battery->energy_wh = battery->capacity_wh * (0.45 + 0.2 * random_next(random));
}

static bool unit_start(struct unit *unit, const struct device *device, bool first_meter,
                       uint64_t *random)
{
    unit->device = device;
    unit->role = device->battery              ? ROLE_BATTERY
                 : strstr(device->name, "PV") ? ROLE_PV
                 : first_meter                ? ROLE_GRID
                                              : ROLE_LOAD;
    unit->slots = calloc(device->n_points + 1u, sizeof *unit->slots);
    if (!unit->slots)
        return false;
    for (unsigned i = 0; i < device->n_points; i++)
        unit->slots[i] = slot_find(&device->points[i]);
    if (device->battery)
        battery_start(&unit->battery, device, random);
    struct readings *now = &unit->now;
    now->p_in = 20e6 + 80e6 * random_next(random);
    now->p_out = 5e6 * random_next(random);
    now->q_in = 0.3 * now->p_in;
    now->s_sum = 1.05 * (now->p_in + now->p_out);
    return true;
}

/* Battery: ramp to the setpoint, then hold; stop where there is no energy or no
 * room left. */
static void battery_step(struct plant_battery *battery, struct readings *now, double dt_s)
{
    double from_w = now->p[TOTAL];
    double goal_w = clamp(now->target_w, -battery->limit_w, battery->limit_w);
    double slope = 2 * battery->limit_w / PACK_REVERSAL_S;
    double ramp_s = fmin(fabs(goal_w - from_w) / slope, dt_s);
    double to_w = from_w + copysign(slope * ramp_s, goal_w - from_w);
    double used_wh = ((from_w + to_w) / 2 * ramp_s + to_w * (dt_s - ramp_s)) / HOUR_S;
    double left_wh = battery->energy_wh - used_wh;

    battery->energy_wh = clamp(left_wh, 0, battery->capacity_wh);
    bool stopped = left_wh != battery->energy_wh;
    now->p[TOTAL] = stopped ? 0 : to_w;
    now->q[TOTAL] = INVERTER_TAN_PHI * fabs(now->p[TOTAL]);
    now->soe = 100 * battery->energy_wh / battery->capacity_wh;
    now->status = stopped ? battery->standby : battery->ready;
    now->blocks = battery->blocks;
    now->energy_wh = battery->energy_wh;
    now->capacity_wh = battery->capacity_wh;
    now->limit_w = battery->limit_w;
}

/* Spreads the total over the phases and derives everything else from that. */
static void electrics_step(struct readings *now, const struct plant *plant, double dt_s)
{
    double *v = now->volts_ln, *a = now->amps;
    now->frequency = 50 + 0.01 * plant->frequency_drift;
    now->s[TOTAL] = 0;
    for (unsigned i = 0; i < PHASES; i++) {
        v[i] = 230 + 1.2 * plant->volts_drift[i];
        now->p[i] = now->p[TOTAL] / PHASES * (1 + UNBALANCE[i]);
        now->q[i] = now->q[TOTAL] / PHASES * (1 + UNBALANCE[i]);
        now->s[i] = hypot(now->p[i], now->q[i]);
        now->s[TOTAL] += now->s[i];
        a[i] = now->s[i] / v[i];
    }
    for (unsigned i = 0; i < PHASES; i++) {
        double next = v[(i + 1) % PHASES];
        now->volts_ll[i] = sqrt(v[i] * v[i] + next * next + v[i] * next); /* 120 degrees apart */
    }
    for (unsigned i = 0; i < LINES; i++)
        now->pf[i] = now->s[i] > 0 ? now->p[i] / now->s[i] : 1;
    v[TOTAL] = (v[0] + v[1] + v[2]) / PHASES;
    now->volts_ll[TOTAL] = (now->volts_ll[0] + now->volts_ll[1] + now->volts_ll[2]) / PHASES;
    a[TOTAL] = (a[0] + a[1] + a[2]) / PHASES;
    now->amps_n = sqrt(
        fmax(a[0] * a[0] + a[1] * a[1] + a[2] * a[2] - a[0] * a[1] - a[1] * a[2] - a[2] * a[0], 0));

    double hours = dt_s / HOUR_S;
    now->p_in += fmax(now->p[TOTAL], 0) * hours;
    now->p_out += fmax(-now->p[TOTAL], 0) * hours;
    now->p_net = now->p_in - now->p_out;
    now->q_in += fmax(now->q[TOTAL], 0) * hours;
    now->q_out += fmax(-now->q[TOTAL], 0) * hours;
    now->s_sum += now->s[TOTAL] * hours;
}

/* The site's weather and mains. */
static void surroundings_step(struct plant *plant, double dt_s)
{
    double fast = exp(-dt_s / 20), slow = exp(-dt_s / 300);
    for (unsigned i = 0; i < PHASES; i++)
        drift_step(&plant->volts_drift[i], fast, &plant->random);
    drift_step(&plant->frequency_drift, fast, &plant->random);
    drift_step(&plant->load_drift, slow, &plant->random);
    for (unsigned i = 0; i < plant->n_units; i++)
        drift_step(&plant->units[i].drift, slow, &plant->random);
}

static void units_step(struct plant *plant, double dt_s)
{
    /* The grid meter is last: it measures what all others leave. */
    double sun = fmax(cos(2 * PI * plant->now_s / DAY_S), 0); /* time 0 is noon */
    double grid_w = SITE_W * (1 + 0.15 * plant->load_drift);
    double grid_var = LOAD_TAN_PHI * grid_w;
    struct unit *grid = NULL;
    for (unsigned i = 0; i < plant->n_units; i++) {
        struct unit *unit = &plant->units[i];
        double sign = -1;
        switch (unit->role) {
        case ROLE_GRID:
            grid = unit;
            continue;
        case ROLE_BATTERY:
            battery_step(&unit->battery, &unit->now, dt_s);
            break;
        case ROLE_PV:
            unit->now.p[TOTAL] = PV_W * sun * (1 + 0.1 * unit->drift);
            unit->now.q[TOTAL] = INVERTER_TAN_PHI * unit->now.p[TOTAL];
            break;
        case ROLE_LOAD:
            unit->now.p[TOTAL] = LOAD_W * (1 + 0.2 * unit->drift);
            unit->now.q[TOTAL] = LOAD_TAN_PHI * unit->now.p[TOTAL];
            sign = 1;
            break;
        }
        electrics_step(&unit->now, plant, dt_s);
        grid_w += sign * unit->now.p[TOTAL];
        grid_var += unit->now.q[TOTAL];
    }
    if (grid) {
        grid->now.p[TOTAL] = grid_w;
        grid->now.q[TOTAL] = grid_var;
        electrics_step(&grid->now, plant, dt_s);
    }
}

struct plant *plant_new(const struct device_list *list, uint64_t seed)
{
    struct plant *plant = calloc(1, sizeof *plant);
    if (!plant)
        return NULL;
    plant->random = seed;
    plant->n_units = list->n_devices;
    plant->units = calloc(list->n_devices + 1u, sizeof *plant->units);
    bool good = plant->units;
    bool first_meter = true;
    for (unsigned i = 0; good && i < list->n_devices; i++) {
        good = unit_start(&plant->units[i], &list->devices[i], first_meter, &plant->random);
        if (plant->units[i].role == ROLE_GRID)
            first_meter = false;
    }
    if (!good) {
        plant_free(plant);
        return NULL;
    }
    surroundings_step(plant, INFINITY);
    units_step(plant, 0);
    return plant;
}

void plant_free(struct plant *plant)
{
    if (!plant)
        return;
    for (unsigned i = 0; plant->units && i < plant->n_units; i++)
        free(plant->units[i].slots);
    free(plant->units);
    free(plant);
}

void plant_step(struct plant *plant, double now_s)
{
    double dt_s = now_s - plant->now_s;
    if (!(dt_s > 0))
        return;
    plant->now_s = now_s;
    surroundings_step(plant, dt_s);
    units_step(plant, dt_s);
}

/* A point that is no known measurement. */
static double habit_read(const struct plant *plant, unsigned device, unsigned index)
{
    const struct point *point = &plant->units[device].device->points[index];
    bool limited = isfinite(point->min) && isfinite(point->max);
    if (point->writable)
        return limited ? clamp(0, point->min, point->max) : 0;
    if (point->n_labels > 0)
        return (double)point->labels[0].value * point->scale + point->offset;
    double period_s = 120 + 17 * (index % 16), phase = device + 0.7 * index;
    double wave = (1 + sin(2 * PI * plant->now_s / period_s + phase)) / 2;
    if (point->type == POINT_BOOL)
        return wave > 0.5;
    if (limited)
        return point->min + (point->max - point->min) * wave;
    const struct habit *habit = habits;
    while (habit->unit && unit_factor(point->unit, habit->unit) == 0)
        habit++;
    double factor = habit->unit ? unit_factor(point->unit, habit->unit) : 1;
    return factor * (habit->low + (habit->high - habit->low) * wave +
                     habit->per_hour * plant->now_s / HOUR_S);
}

double plant_read(const struct plant *plant, unsigned device, unsigned point)
{
    const struct unit *unit = &plant->units[device];
    const struct slot *slot = &unit->slots[point];
    if (!slot->measure)
        return habit_read(plant, device, point);
    double number;
    memcpy(&number, (const char *)&unit->now + slot->measure->offset, sizeof number);
    return number * slot->factor;
}

void plant_steer(struct plant *plant, unsigned device, double kw)
{
    plant->units[device].now.target_w = 1e3 * kw;
}

void plant_write(struct plant *plant, unsigned device, unsigned point, double number)
{
    struct unit *unit = &plant->units[device];
    const struct slot *slot = &unit->slots[point];
    if (slot->measure && slot->measure->offset == offsetof(struct readings, target_w))
        unit->now.target_w = number / slot->factor;
}
