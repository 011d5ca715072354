#include "devices/registers/drive.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is written ---- */

double drive_round(double number)
{
    char text[CODEC_NUMBER_MAX];
    if (!isfinite(number))
        return number;
    (void)snprintf(text, sizeof text, "%.12g", number);
    return strtod(text, NULL);
}

double drive_as_read(const struct point *row, double kw)
{
    return codec_decimal(row, drive_round(kw));
}

double drive_per_kw(const struct point *point)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {{"kW", 1}, {"W", 1e3}, {"MW", 1e-3}};
    for (unsigned i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(point->unit, units[i].unit) == 0)
            return units[i].factor;
    return 0;
}

double drive_per_s(const struct point *point)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {{"s", 1}, {"ms", 1e3}, {"min", 1.0 / 60}};
    for (unsigned i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(point->unit, units[i].unit) == 0)
            return units[i].factor;
    return 0;
}

enum drive_when drive_when_of(double kw)
{
    return kw > 0 ? DRIVE_DISCHARGE : kw < 0 ? DRIVE_CHARGE : DRIVE_STOP;
}

bool drive_applies(const struct drive_write *write, enum drive_when when)
{
    return write->when == DRIVE_ALWAYS || write->when == when;
}

/* A key in kW is written in its point's unit of power. */
static double key_factor(const char *key, const struct point *point)
{
    const size_t length = strlen(key);
    const bool kw = length > 3 && strcmp(key + length - 3, "_kw") == 0;
    return kw && drive_per_kw(point) != 0 ? drive_per_kw(point) : 1;
}

bool drive_number(const struct drive *drive, const struct drive_site *site,
                  const struct point *points, const struct value *values,
                  const struct drive_write *write, double kw, unsigned beat, double *number)
{
    const struct point *point = &points[write->point];
    double per_kw = drive_per_kw(point);
    switch (write->value) {
    case DRIVE_SETPOINT:
    case DRIVE_MAGNITUDE:
        if (write->of >= 0 && kw != 0) {
            const struct value *whole = values != NULL ? &values[write->of] : NULL;
            if (whole == NULL || whole->state != VALUE_READ || !(whole->number > 0))
                return false;
            per_kw = 100 * drive_per_kw(&points[write->of]) / whole->number;
        }
        *number = drive_round((write->value == DRIVE_MAGNITUDE ? fabs(kw) : kw) * per_kw);
        return true;
    case DRIVE_BEAT:
        *number = drive->beats[beat % drive->n_beats];
        return true;
    case DRIVE_TIMEOUT:
        *number = drive_round(site->timeout_s * drive_per_s(point));
        return true;
    case DRIVE_KEY:
        *number = drive_round(site->keys[write->key] * key_factor(drive->keys[write->key], point));
        return true;
    default:
        *number = write->number;
        return true;
    }
}

enum codec_fit drive_fits(const struct drive *drive, const struct point *points, double kw)
{
    const struct drive_list *lists[] = {&drive->engage, &drive->set};
    enum codec_fit fit = CODEC_FITS;
    for (unsigned k = 0; k < sizeof lists / sizeof *lists; k++) {
        for (unsigned i = 0; i < lists[k]->n && fit == CODEC_FITS; i++) {
            const struct drive_write *write = &lists[k]->writes[i];
            uint16_t words[POINT_NUMBER_WORDS_MAX];
            double number;
            if ((write->value == DRIVE_SETPOINT || write->value == DRIVE_MAGNITUDE) &&
                drive_applies(write, drive_when_of(kw)) &&
                drive_number(drive, NULL, points, NULL, write, kw, 0, &number))
                fit = codec_encode(&points[write->point], number, words);
        }
    }
    return fit;
}

bool drive_writes(const struct drive *drive, unsigned point)
{
    const struct drive_list *lists[] = {&drive->engage, &drive->set, &drive->release};
    for (unsigned k = 0; k < sizeof lists / sizeof *lists; k++)
        for (unsigned i = 0; i < lists[k]->n; i++)
            if (lists[k]->writes[i].point == point)
                return true;
    return drive->given && ((int)point == drive->beat || (int)point == drive->timeout);
}

bool drive_has_key(const struct drive *drive, const char *key)
{
    for (unsigned i = 0; i < drive->n_keys; i++)
        if (strcmp(drive->keys[i], key) == 0)
            return true;
    return false;
}

/* ---- what the registers hold ---- */

/* Whether all that tells a direction from the others reads so. */
static bool is_direction(const struct drive_list *set, const struct value *values,
                         enum drive_when when)
{
    for (unsigned i = 0; i < set->n; i++) {
        const struct drive_write *write = &set->writes[i];
        if (write->value == DRIVE_NUMBER && drive_applies(write, when) &&
            (values[write->point].state != VALUE_READ ||
             values[write->point].number != write->number))
            return false;
    }
    return true;
}

/* The kW that a direction's own write holds. */
static bool size_of(const struct drive *drive, const struct point *points,
                    const struct value *values, enum drive_when when, double *kw)
{
    for (unsigned i = 0; i < drive->set.n; i++) {
        const struct drive_write *write = &drive->set.writes[i];
        const bool size = write->value == DRIVE_SETPOINT || write->value == DRIVE_MAGNITUDE;
        if (!size || !drive_applies(write, when))
            continue;
        double per_kw = drive_per_kw(&points[write->point]);
        if (write->of >= 0)
            per_kw = 100 * drive_per_kw(&points[write->of]) / values[write->of].number;
        /* 33.3, and not the float32 next to it. */
        const double number =
            codec_decimal(&points[write->point], values[write->point].number) / per_kw;
        const bool negative = write->value == DRIVE_MAGNITUDE && when == DRIVE_CHARGE;
        *kw = drive_round(negative ? -number : number);
        return isfinite(*kw);
    }
    *kw = 0;
    return when == DRIVE_STOP;
}

static struct value known(double number)
{
    struct value value = {.state = VALUE_READ, .number = number == 0 ? 0 : number};
    memcpy(&value.raw, &value.number, sizeof value.raw);
    return value;
}

/* Why what some points have to give is not known; VALUE_READ when it may be. */
static struct value excuse(const struct drive *drive, const struct value *values)
{
    struct value value = {.state = VALUE_READ};
    for (unsigned i = 0; i < drive->set.n; i++) {
        const struct drive_write *write = &drive->set.writes[i];
        const struct value *needed[] = {&values[write->point],
                                        write->of >= 0 ? &values[write->of] : NULL};
        for (unsigned k = 0; k < 2; k++)
            if (write->value <= DRIVE_MAGNITUDE && needed[k] != NULL &&
                needed[k]->state != VALUE_READ)
                value = (struct value){.state = needed[k]->state, .fault = needed[k]->fault};
    }
    return value;
}

struct value drive_held(const struct drive *drive, const struct point *points,
                        const struct value *values)
{
    static const enum drive_when order[] = {DRIVE_DISCHARGE, DRIVE_CHARGE, DRIVE_STOP};
    const struct value unknown = {.state = VALUE_FAULT, .fault = FAULT_IMPLAUSIBLE};
    struct value value = excuse(drive, values);
    double largest = 0;
    if (value.state != VALUE_READ)
        return value;
    for (unsigned i = 0; i < sizeof order / sizeof *order; i++) {
        double size = 0;
        if (!size_of(drive, points, values, order[i], &size))
            return unknown;
        if (is_direction(&drive->set, values, order[i]))
            return known(order[i] == DRIVE_STOP ? 0 : size);
        largest = fmax(largest, fabs(size));
    }
    /* No direction that it is ever told; of nothing there is none. */
    return largest == 0 ? known(0) : unknown;
}

void drive_make(const struct drive *drive, const struct point *points, struct value *values)
{
    if (!drive->given)
        return;
    if (points[drive->setpoint].made)
        values[drive->setpoint] = drive_held(drive, points, values);
    if (drive->soe < 0 || !points[drive->soe].made)
        return;
    const struct value *energy = &values[drive->energy], *full = &values[drive->full];
    if (energy->state != VALUE_READ || full->state != VALUE_READ)
        values[drive->soe] = energy->state != VALUE_READ ? *energy : *full;
    else if (!(full->number > 0))
        values[drive->soe] = (struct value){.state = VALUE_FAULT, .fault = FAULT_IMPLAUSIBLE};
    else
        values[drive->soe] = known(drive_round(round(1e4 * energy->number / full->number) / 100));
}

bool drive_needs(const struct drive *drive, unsigned made, unsigned point)
{
    if (!drive->given)
        return false;
    if ((int)made == drive->soe)
        return (int)point == drive->energy || (int)point == drive->full;
    for (unsigned i = 0; i < drive->set.n; i++) {
        const struct drive_write *write = &drive->set.writes[i];
        if ((int)made == drive->setpoint && write->value <= DRIVE_MAGNITUDE &&
            (write->point == point || write->of == (int)point))
            return true;
    }
    return false;
}
