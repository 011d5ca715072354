#include "bridge/wire/sparkplug.h"

#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sparkplug.pb-c.h>

/* ---- out ---- */

enum { PROPERTIES_MAX = 2 };

/* All that one metric of a payload is made of. */
struct payload_parts {
    Sparkplug__Metric metric;
    Sparkplug__PropertySet properties;
    Sparkplug__PropertyValue values[PROPERTIES_MAX];
    Sparkplug__PropertyValue *value_list[PROPERTIES_MAX];
    char *keys[PROPERTIES_MAX];
};

/* The library takes texts that it only reads as char *. */
static char *text_of(const char *text)
{
    union {
        const char *given;
        char *taken;
    } same = {.given = text};
    return same.taken;
}

static Sparkplug__PropertyValue *add_property(struct payload_parts *parts, const char *key)
{
    size_t n = parts->properties.n_keys;
    parts->keys[n] = text_of(key);
    sparkplug__property_value__init(&parts->values[n]);
    parts->value_list[n] = &parts->values[n];
    parts->properties.n_keys = parts->properties.n_values = n + 1;
    parts->values[n].has_type = true;
    return &parts->values[n];
}

static void put_properties(struct payload_parts *parts, const struct sparkplug_metric *metric)
{
    sparkplug__property_set__init(&parts->properties);
    parts->properties.keys = parts->keys;
    parts->properties.values = parts->value_list;
    if (metric->quality != SPARKPLUG_NO_QUALITY) {
        Sparkplug__PropertyValue *quality = add_property(parts, "Quality");
        quality->type = SPARKPLUG_INT32;
        quality->has_int_value = true;
        quality->int_value = (uint32_t)metric->quality;
    }
    if (metric->unit != NULL && metric->unit[0] != '\0') {
        Sparkplug__PropertyValue *unit = add_property(parts, "engUnit");
        unit->type = SPARKPLUG_STRING;
        unit->string_value = text_of(metric->unit);
    }
    if (parts->properties.n_keys > 0)
        parts->metric.properties = &parts->properties;
}

static void put_value(Sparkplug__Metric *out, enum sparkplug_type type,
                      const struct sparkplug_value *value)
{
    if (value->is_null) {
        out->has_is_null = out->is_null = true;
        return;
    }
    switch (type) {
    case SPARKPLUG_INT32:
    case SPARKPLUG_INT64:
        out->has_long_value = true;
        out->long_value = (uint64_t)value->integer;
        break;
    case SPARKPLUG_DOUBLE:
        out->has_double_value = true;
        out->double_value = value->number;
        break;
    case SPARKPLUG_BOOLEAN:
        out->has_boolean_value = true;
        out->boolean_value = value->integer != 0;
        break;
    case SPARKPLUG_STRING:
        out->string_value = text_of(value->text);
        break;
    }
}

static void put_metric(struct payload_parts *parts, const struct sparkplug_metric *metric)
{
    Sparkplug__Metric *out = &parts->metric;
    sparkplug__metric__init(out);
    if (metric->name != NULL) {
        out->name = text_of(metric->name);
        out->has_datatype = true;
        out->datatype = (uint32_t)metric->type;
    }
    out->has_alias = metric->alias != 0;
    out->alias = metric->alias;
    out->has_timestamp = true;
    out->timestamp = (uint64_t)metric->ts_ms;
    out->has_is_historical = out->is_historical = metric->historical;
    put_value(out, metric->type, metric->value);
    put_properties(parts, metric);
}

void *sparkplug_encode(int64_t ts_ms, int seq, const struct sparkplug_metric *metrics, unsigned n,
                       size_t *size)
{
    Sparkplug__Payload payload = SPARKPLUG__PAYLOAD__INIT;
    struct payload_parts *parts = calloc(n + 1, sizeof(*parts));
    Sparkplug__Metric **list = calloc(n + 1, sizeof(Sparkplug__Metric *));
    void *bytes = NULL;
    if (parts == NULL || list == NULL)
        goto done;
    for (unsigned i = 0; i < n; i++) {
        put_metric(&parts[i], &metrics[i]);
        list[i] = &parts[i].metric;
    }
    payload.has_timestamp = true;
    payload.timestamp = (uint64_t)ts_ms;
    payload.has_seq = seq >= 0;
    payload.seq = seq >= 0 ? (uint64_t)seq : 0;
    payload.metrics = list;
    payload.n_metrics = n;
    *size = sparkplug__payload__get_packed_size(&payload);
    bytes = malloc(*size + 1); /* never nothing */
    if (bytes != NULL)
        (void)sparkplug__payload__pack(&payload, bytes);
done:
    free(list);
    free(parts);
    return bytes;
}

/* ---- in ---- */

/* The number that the other side had in mind: 0.1, and not the float next to it. */
static double from_float(float number)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "%.*g", FLT_DIG, (double)number);
    const double decimal = strtod(text, NULL);
    return (float)decimal == number ? decimal : (double)number;
}

/* Section 6.4.16. */
enum { TYPE_UINT8 = 5, TYPE_UINT64 = 8 };

/* Whole numbers travel without a sign, in two's complement: of their type's own width
 * (Eclipse Tahu's library for Python), or of the field's (its libraries for C and Java).
 * Without a type that says, and of a larger one, it is the field's. False for what the type
 * cannot hold. */
static bool take_whole(const Sparkplug__Metric *metric, uint64_t content, unsigned field,
                       double *number)
{
    static const unsigned widths[] = {0, 8, 16, 32, 64, 8, 16, 32, 64};
    const uint32_t type =
        metric->has_datatype && metric->datatype <= TYPE_UINT64 ? metric->datatype : 0;
    const unsigned width = widths[type] == 0 || widths[type] > field ? field : widths[type];
    const int64_t whole = (int64_t)(content << (64 - field)) >> (64 - field);
    const int64_t part = (int64_t)(content << (64 - width)) >> (64 - width);
    const bool fits = width == 64 || content >> width == 0;
    *number = type >= TYPE_UINT8 ? (double)content : (double)part;
    return fits || (type < TYPE_UINT8 && part == whole);
}

static void take_value(const Sparkplug__Metric *metric, struct sparkplug_wish *wish)
{
    bool good = true;
    wish->kind = SPARKPLUG_NUMBER;
    if (metric->has_is_null && metric->is_null) {
        wish->kind = SPARKPLUG_NOTHING;
    } else if (metric->string_value != NULL ||
               (metric->has_datatype && metric->datatype > SPARKPLUG_BOOLEAN)) {
        wish->kind = SPARKPLUG_WORDS; /* or a time, a set, a template: no number */
    } else if (metric->has_double_value) {
        wish->number = metric->double_value;
    } else if (metric->has_float_value) {
        wish->number = from_float(metric->float_value);
    } else if (metric->has_long_value) {
        good = take_whole(metric, metric->long_value, 64, &wish->number);
    } else if (metric->has_int_value) {
        good = take_whole(metric, metric->int_value, 32, &wish->number);
    } else if (metric->has_boolean_value) {
        wish->kind = SPARKPLUG_FLAG;
        wish->number = metric->boolean_value ? 1.0 : 0.0;
    } else {
        wish->kind = SPARKPLUG_NOTHING;
    }
    if (!good || !isfinite(wish->number)) {
        wish->kind = SPARKPLUG_NOTHING;
        wish->number = 0.0;
    }
}

bool sparkplug_decode(const void *bytes, size_t size, struct sparkplug_wish *wishes, unsigned most,
                      unsigned *n)
{
    Sparkplug__Payload *payload = sparkplug__payload__unpack(NULL, size, bytes);
    if (payload == NULL)
        return false;
    *n = (unsigned)payload->n_metrics;
    for (unsigned i = 0; i < *n && i < most; i++) {
        const Sparkplug__Metric *metric = payload->metrics[i];
        struct sparkplug_wish *wish = &wishes[i];
        const uint64_t ts_ms = metric->has_timestamp ? metric->timestamp : payload->timestamp;
        *wish = (struct sparkplug_wish){
            .alias = metric->has_alias ? metric->alias : 0,
            .has_ts = metric->has_timestamp || payload->has_timestamp,
        };
        if (metric->name != NULL)
            (void)snprintf(wish->name, sizeof(wish->name), "%s", metric->name);
        if (wish->has_ts)
            wish->ts_ms = ts_ms < INT64_MAX ? (int64_t)ts_ms : INT64_MAX; /* never to come */
        take_value(metric, wish);
    }
    sparkplug__payload__free_unpacked(payload, NULL);
    return true;
}

bool sparkplug_decode_state(const void *bytes, size_t size, bool *online, int64_t *ts_ms)
{
    json_t *root = json_loadb(bytes, size, 0, NULL);
    const json_t *said = json_object_get(root, "online");
    const json_t *timestamp = json_object_get(root, "timestamp");
    const bool good = json_is_boolean(said) && json_is_integer(timestamp);
    if (good) {
        *online = json_is_true(said);
        *ts_ms = json_integer_value(timestamp);
    }
    json_decref(root);
    return good;
}
