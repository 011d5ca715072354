#include "bridge/cli/recognise.h"

#include <math.h>
#include <string.h>
#include <strings.h>

/* What no installation reaches, in units as the profiles write them. */
static const struct {
    const char *unit;
    double low, high;
} ranges[] = {
    {"V", 0, 1e6},         {"A", -1e5, 1e5},   {"Hz", 0, 500},       {"%", -100, 100},
    {"W", -1e9, 1e9},      {"var", -1e9, 1e9}, {"VA", -1e9, 1e9},    {"kW", -1e6, 1e6},
    {"kvar", -1e6, 1e6},   {"kVA", -1e6, 1e6}, {"kWh", -1e10, 1e10}, {"kvarh", -1e10, 1e10},
    {"kVAh", -1e10, 1e10},
};

/* Two small integers read as a float give numbers such as 9e-41. */
static const double LEAST_FLOAT = 1e-9, MOST_FLOAT = 1e12;

bool recognise_is_believable(const struct point *point, double number)
{
    if (point_is_float(point->type) && number != 0 &&
        (fabs(number) < LEAST_FLOAT || fabs(number) > MOST_FLOAT))
        return false;
    for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++)
        if (strcmp(ranges[i].unit, point->unit) == 0)
            return number >= ranges[i].low && number <= ranges[i].high;
    return true;
}

/* A text row called "manufacturer" tells a maker's device from others with the same
 * registers, as SunSpec's are. */
static bool is_good(const struct profile *profile, const struct point *point,
                    const struct value *value)
{
    if (point->type != POINT_STRING)
        return recognise_is_believable(point, value->number);
    return strcmp(point->name, "manufacturer") != 0 ||
           strncasecmp(value->text, profile->manufacturer, strlen(profile->manufacturer)) == 0;
}

struct recognised recognise_judge(const struct profile *profile, const struct value *values)
{
    struct recognised guess = {.profile = profile};
    for (unsigned i = 0; i < profile->n_points; i++) {
        const struct value *value = &values[i];
        if (value->state == VALUE_ABSENT)
            continue;
        const bool read = value->state == VALUE_READ;
        const bool good = read && is_good(profile, &profile->points[i], value);
        guess.of++;
        guess.good += good;
        guess.telling += good && (value->number != 0 || profile->points[i].type == POINT_STRING);
        guess.wrong += !good && (read || value->fault == FAULT_IMPLAUSIBLE ||
                                 value->fault == FAULT_NOT_FINITE);
    }
    return guess;
}

bool recognise_fits(const struct recognised *guess)
{
    return 4 * guess->good >= 3 * guess->of && 8 * guess->wrong <= guess->of && guess->telling > 0;
}

bool recognise_is_better(const struct recognised *a, const struct recognised *b)
{
    const unsigned share_a = a->good * b->of, share_b = b->good * a->of;
    return share_a != share_b ? share_a > share_b : a->telling > b->telling;
}

/* Reads what registers the type has, as long as it may still fit. */
static bool try_type(struct link *link, const struct device_modbus *modbus,
                     const struct profile *profile, struct recognised *guess)
{
    const struct device device = {
        .profile = profile,
        .n_points = profile->n_points,
        .points = profile->points,
        .modbus = *modbus,
    };
    bool wanted[PROFILE_POINTS_MAX];
    struct reading reading;

    for (unsigned i = 0; i < profile->n_points; i++) {
        const enum point_table table = profile->points[i].table;
        wanted[i] = table == POINT_HOLDING || table == POINT_INPUT;
    }
    bool fits = reading_init(&reading, &device, wanted);
    reading.most_failed = profile->n_points / 4;
    if (fits && reading_take(&reading, link) == FAULT_NONE &&
        reading.failed <= reading.most_failed) {
        *guess = recognise_judge(profile, reading.values);
        fits = recognise_fits(guess);
    } else {
        fits = false;
    }
    reading_free(&reading);
    return fits;
}

enum fault recognise_unit(struct link *link, const struct device_modbus *modbus,
                          struct profile *const *profiles, unsigned n_profiles,
                          struct recognised *best)
{
    uint16_t word;
    enum fault fault = link_open(link, modbus->timeout_ns);
    /* Any answer but a gateway's excuse will do: there is somebody. */
    if (fault == FAULT_NONE)
        fault = link_read(link, (uint8_t)modbus->address, POINT_HOLDING, 0, 1, &word,
                          modbus->timeout_ns);
    if (fault_is_silence(fault))
        return fault;
    *best = (struct recognised){0};
    for (unsigned i = 0; i < n_profiles; i++) {
        struct recognised guess;
        if (try_type(link, modbus, profiles[i], &guess) &&
            (best->profile == NULL || recognise_is_better(&guess, best)))
            *best = guess;
    }
    return FAULT_NONE;
}
