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
    if (point->made)
        set(entry, "made", json_true());
    else
        set(entry, "address", json_integer(point->address));
    if (point->model > 0)
        set(entry, "sunspec_model", json_integer(point->model));
    if (!point->made)
        set(entry, "table", json_string(point_table_word(point->table)));
    set(entry, "type", json_string(point_type_word(point->type)));
    set(entry, "registers", json_integer(point->made ? 0 : point_width(point)));
    if (point->bits > 0)
        set(entry, "bits", json_pack("[i,i]", point->bit, point->bits));
    if (point->type == POINT_INT8 || point->type == POINT_UINT8)
        set(entry, "byte", json_string(point->high_byte ? "high" : "low"));
    if (point_has_registers(point) && !point->made)
        set(entry, "order", json_string(point_order_word(point->order)));
    if (point->unit[0] != '\0')
        set(entry, "unit", json_string(point->unit));
    set_numbers(entry, profile, point);
    set(entry, "access", json_string(point->writable ? "rw" : "r"));
    if (point->writable && !point->made)
        set(entry, "write_function", json_integer(point_write_function(point)));
    set_number(entry, "min", point->min);
    set_number(entry, "max", point->max);
    set(entry, "every", json_integer(point->every));
    if (point->enumerated)
        set(entry, "labels", make_labels(point));
    return entry;
}

static json_t *make_writes(const struct profile *profile, const struct drive_list *list)
{
    const struct drive *drive = &profile->drive;
    json_t *writes = json_array();
    for (unsigned i = 0; i < list->n; i++) {
        const struct drive_write *write = &list->writes[i];
        json_t *entry = json_object();
        set(entry, "point", json_string(profile->points[write->point].name));
        if (write->value == DRIVE_NUMBER)
            set_number(entry, "value", write->number);
        else
            set(entry, "value",
                json_string(write->value == DRIVE_KEY ? drive->keys[write->key]
                                                      : drive_value_word(write->value)));
        if (write->value == DRIVE_KEY)
            set_number(entry, "default", write->number);
        if (write->of >= 0)
            set(entry, "of", json_string(profile->points[write->of].name));
        if (write->when != DRIVE_ALWAYS)
            set(entry, "when", json_string(drive_when_word(write->when)));
        if (write->joined)
            set(entry, "joined", json_true());
        json_array_append_new(writes, entry);
    }
    return writes;
}

static json_t *make_name(const struct profile *profile, int point)
{
    return point >= 0 ? json_string(profile->points[point].name) : json_null();
}

static json_t *make_control(const struct profile *profile)
{
    const struct drive *drive = &profile->drive;
    json_t *control = json_object(), *beats = json_array(), *proof = json_array();
    set(control, "setpoint", make_name(profile, drive->setpoint));
    set(control, "status", make_name(profile, drive->status));
    set(control, "soe", make_name(profile, drive->soe));
    if (drive->energy >= 0)
        set(control, "soe_of",
            json_pack("[o,o]", make_name(profile, drive->energy), make_name(profile, drive->full)));
    set(control, "blocks", make_name(profile, drive->blocks));
    set(control, "engage", make_writes(profile, &drive->engage));
    set(control, "set", make_writes(profile, &drive->set));
    set(control, "release", make_writes(profile, &drive->release));
    for (unsigned i = 0; i < drive->n_beats; i++)
        json_array_append_new(beats, json_real(drive->beats[i]));
    if (drive->every_ns > 0)
        set(control, "keepalive",
            json_pack("{s:o, s:o, s:b, s:f}", "point", make_name(profile, drive->beat), "values",
                      beats, "rewrite", drive->rewrite, "every_s", (double)drive->every_ns / 1e9));
    else
        json_decref(beats);
    if (drive->timeout_s > 0)
        set(control, "device_timeout",
            json_pack("{s:o, s:f}", "point", make_name(profile, drive->timeout), "s",
                      drive->timeout_s));
    for (unsigned i = 0; i < drive->n_proofs; i++)
        json_array_append_new(proof, make_name(profile, (int)drive->proofs[i]));
    set(control, "proof", proof);
    set(control, "idle", json_string(drive->idle_release ? "release" : "hold"));
    return control;
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
    if (profile->drive.given)
        set(root, "control", make_control(profile));
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
