#include "bridge/cli/found_json.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

static void set(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

static void set_number(json_t *object, const char *key, double number)
{
    if (isnan(number))
        return;
    if (floor(number) == number && fabs(number) < 0x1p53)
        set(object, key, json_integer((json_int_t)number));
    else
        set(object, key, json_real(number));
}

static bool print(json_t *root)
{
    const bool good =
        root != NULL && json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(15)) == 0;
    if (good)
        putchar('\n');
    json_decref(root);
    return good;
}

/* ---- points ---- */

/* What the row may hold and is still no value, as register contents. */
static json_t *make_sentinels(const struct point *point)
{
    const unsigned bits = point_bits(point);
    json_t *list = json_array();
    for (unsigned i = 0; i < point->n_sentinels; i++)
        json_array_append_new(
            list, json_sprintf("0x%llX", (unsigned long long)(bits < 64 ? point->sentinels[i] &
                                                                              ((1ULL << bits) - 1)
                                                                        : point->sentinels[i])));
    return list;
}

static json_t *make_labels(const struct point *point)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < point->n_labels; i++)
        json_array_append_new(list,
                              json_pack("{s:I,s:s}", "value", (json_int_t)point->labels[i].value,
                                        "label", point->labels[i].label));
    return list;
}

static void set_numbers(json_t *entry, const struct profile *profile, const struct point *point)
{
    if (point->type == POINT_STRING)
        return;
    set_number(entry, "scale", point->scale);
    if (point->scale_row > 0)
        set(entry, "scale_register", json_string(profile->points[point->scale_row - 1].name));
    if (point->offset != 0)
        set_number(entry, "offset", point->offset);
    set_number(entry, "low", point->low);
    set_number(entry, "high", point->high);
    if (point->n_sentinels > 0)
        set(entry, "sentinels", make_sentinels(point));
    if (point->counter)
        set(entry, "counter", json_true());
}

static json_t *make_point(const struct profile *profile, const struct point *point)
{
    json_t *entry = json_object();
    set(entry, "name", json_string(point->name));
    set(entry, "address", json_integer(point->address));
    if (point->model > 0)
        set(entry, "sunspec_model", json_integer(point->model));
    set(entry, "table", json_string(point_table_word(point->table)));
    set(entry, "type", json_string(point_type_word(point->type)));
    set(entry, "registers", json_integer(point_width(point)));
    if (point->bits > 0)
        set(entry, "bits", json_pack("[i,i]", point->bit, point->bits));
    if (point->type == POINT_INT8 || point->type == POINT_UINT8)
        set(entry, "byte", json_string(point->high_byte ? "high" : "low"));
    if (point_has_registers(point))
        set(entry, "order", json_string(point_order_word(point->order)));
    if (point->unit[0] != '\0')
        set(entry, "unit", json_string(point->unit));
    set_numbers(entry, profile, point);
    set(entry, "access", json_string(point->writable ? "rw" : "r"));
    if (point->writable)
        set(entry, "write_function", json_integer(point_write_function(point)));
    set_number(entry, "min", point->min);
    set_number(entry, "max", point->max);
    set(entry, "every", json_integer(point->every));
    if (point->enumerated)
        set(entry, "labels", make_labels(point));
    return entry;
}

bool found_json_points(const struct profile *profile)
{
    json_t *root = json_object(), *points = json_array();
    set(root, "type", json_string(profile->type));
    set(root, "manufacturer", json_string(profile->manufacturer));
    set(root, "model", json_string(profile->model));
    for (unsigned i = 0; i < profile->n_points; i++)
        json_array_append_new(points, make_point(profile, &profile->points[i]));
    set(root, "points", points);
    return print(root);
}

/* ---- scan ---- */

static json_t *make_finding(const struct survey_setup *setup, const struct finding *finding)
{
    const struct recognised *guess = &finding->guess;
    json_t *entry = json_object();
    char address[RANGE_TEXT_MAX];
    if (setup->serial != NULL) {
        set(entry, "serial", json_string(setup->serial->serial));
    } else {
        address_range_print(finding->address, address);
        set(entry, "host", json_string(address));
        set(entry, "port", json_integer(finding->port));
    }
    set(entry, "unit", finding->unit > 0 ? json_integer(finding->unit) : json_null());
    set(entry, "type", guess->profile != NULL ? json_string(guess->profile->type) : json_null());
    if (guess->profile != NULL) {
        set(entry, "good", json_integer(guess->good));
        set(entry, "of", json_integer(guess->of));
    }
    return entry;
}

bool found_json_scan(const struct survey_setup *setup, const struct finding *findings, unsigned n,
                     bool whole)
{
    json_t *root = json_object(), *found = json_array();
    set(root, "whole", json_boolean(whole));
    for (unsigned i = 0; i < n; i++)
        json_array_append_new(found, make_finding(setup, &findings[i]));
    set(root, "found", found);
    return print(root);
}
