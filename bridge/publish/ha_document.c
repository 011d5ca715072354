#include "bridge/publish/ha_document.h"

#include <stdio.h>
#include <string.h>

#include "bridge/publish/ha_commands.h"
#include "bridge/publish/ha_page.h"
#include "bridge/telemetry/energy.h"
#include "bridge/wire/sample_json.h"
#include "bridge/wire/status_json.h"
#include "devices/registers/codec.h"

enum { EXPIRY_TIMES = 3 };

/* Counters of bridge/health. */
static const struct {
    const char *key, *state_class;
} health_members[] = {
    {"samples", "total_increasing"},      {"drops", "total_increasing"},
    {"spool_depth", "measurement"},       {"reconnects", "total_increasing"},
    {"missed_ticks", "total_increasing"},
};

/* ---- names ---- */

static bool put_topic(char topic[TOPIC_MAX + 1], const struct conf *conf, const char *id)
{
    return snprintf(topic, TOPIC_MAX + 1, "%s/device/%s/config", conf->ha_prefix, id) <= TOPIC_MAX;
}

bool ha_document_topic_bridge(char topic[TOPIC_MAX + 1], const struct conf *conf)
{
    char id[HA_PAGE_ID_MAX + 1];
    ha_page_bridge_id(id, conf);
    return put_topic(topic, conf, id);
}

bool ha_document_topic_device(char topic[TOPIC_MAX + 1], const struct conf *conf,
                              const char *device_id)
{
    char id[HA_PAGE_ID_MAX + 1];
    ha_page_device_id(id, conf, device_id);
    return put_topic(topic, conf, id);
}

bool ha_document_topic_by_name(char topic[TOPIC_MAX + 1], const struct conf *conf, const char *name)
{
    char id[CONF_NAME_MAX + DEVICE_NAME_MAX + 16];
    snprintf(id, sizeof(id), "fluxbridge-%s-%s", conf->site, name);
    return put_topic(topic, conf, id);
}

/* A sensor keeps its value when the template renders nothing, but not one of
 * text: that must be told what it is already. */
static const char *const keep_number = "''";
static const char *const keep_text = "(this.state if this.state not in ['unknown', 'unavailable'] "
                                     "else 'None')";

/* ---- points ---- */

static void add_number_sensor(struct ha_page *page, const struct point *point)
{
    struct ha_unit quantity = ha_units_of(point);
    json_t *sensor = ha_page_add_sensor(page, point->name);
    ha_page_put_unit(page, sensor, point, &quantity);
    ha_page_put(page, sensor, "suggested_display_precision", json_integer(quantity.precision));
    ha_page_put(page, sensor, "value_template",
                ha_page_template(point, point->name, "v", "v is number", keep_number));
    if (quantity.state_class != NULL)
        ha_page_put(page, sensor, "state_class", json_string(quantity.state_class));
    else
        ha_page_put(page, sensor, "entity_category", json_string("diagnostic"));
}

static void add_bool(struct ha_page *page, const struct point *point)
{
    json_t *sensor = ha_page_add(page, "binary_sensor", point->name, point->name);
    ha_page_put(page, sensor, "expire_after", json_integer(page->expiry_s));
    ha_page_put(page, sensor, "value_template",
                ha_page_template(point, point->name, "('ON' if v else 'OFF')", "v is boolean",
                                 keep_number));
}

/* No unit, no state class and no precision: each of them would make it a number. */
static void add_text(struct ha_page *page, const struct point *point)
{
    json_t *sensor = ha_page_add_sensor(page, point->name);
    ha_page_put(page, sensor, "value_template",
                ha_page_template(point, point->name, "v", "v is string", keep_text));
    ha_page_put(page, sensor, "entity_category", json_string("diagnostic"));
}

/* The labels without doubles: several codes may be called "ready". */
static json_t *labels(const struct point *point)
{
    json_t *seen = json_object();
    json_t *list = json_array();
    for (unsigned i = 0; i < point->n_labels; i++) {
        const char *label = point->labels[i].label;
        if (json_object_get(seen, label) == NULL)
            json_array_append_new(list, json_string(label));
        json_object_set_new(seen, label, json_true());
    }
    json_decref(seen);
    return list;
}

/* Its label while the code has one: of an enum sensor Home Assistant ignores a
 * state that is not among the options, and would go on showing the last one. */
static void put_label(struct ha_page *page, json_t *sensor, const struct point *point,
                      const char *code_key)
{
    char show[HA_PAGE_KEY_MAX + 32], test[POINT_LABELS_MAX * 24 + 16];
    size_t length = 0;
    for (unsigned i = 0; i < point->n_labels; i++)
        length += (size_t)snprintf(test + length, sizeof(test) - length, "%s%lld",
                                   i == 0 ? "v in [" : ", ", (long long)point->labels[i].value);
    snprintf(test + length, sizeof(test) - length, "]");
    snprintf(show, sizeof(show), "value_json.data['%s']", point->name);
    ha_page_put(page, sensor, "device_class", json_string("enum"));
    ha_page_put(page, sensor, "options", labels(point));
    ha_page_put(page, sensor, "value_template",
                ha_page_template(point, code_key, show, test, keep_text));
}

static void add_enumeration(struct ha_page *page, const struct point *point)
{
    char code_key[HA_PAGE_KEY_MAX + 1];
    json_t *sensor = ha_page_add_sensor(page, point->name);
    snprintf(code_key, sizeof(code_key), "%s_code", point->name);
    json_t *code = ha_page_add_sensor(page, code_key);
    if (point->n_labels > 0)
        put_label(page, sensor, point, code_key);
    else
        ha_page_put(page, sensor, "value_template",
                    ha_page_template(point, point->name, "v", "v is string", keep_text));
    ha_page_put(page, code, "entity_category", json_string("diagnostic"));
    ha_page_put(page, code, "suggested_display_precision", json_integer(0));
    ha_page_put(page, code, "value_template",
                ha_page_template(point, code_key, "v", "v is number", keep_number));
}

static void add_point(struct ha_page *page, const struct point *point)
{
    if (point->enumerated)
        add_enumeration(page, point);
    else if (point->type == POINT_BOOL)
        add_bool(page, point);
    else if (point->type == POINT_STRING)
        add_text(page, point);
    else
        add_number_sensor(page, point);
}

/* The two counters as if they were points. */
static void add_energy(struct ha_page *page, const char *name)
{
    struct point point = {
        .unit = "kWh", .type = POINT_FLOAT64, .scale = 1, .every = 1, .counter = true};
    snprintf(point.name, sizeof(point.name), "%s", name);
    add_point(page, &point);
}

/* ---- documents ---- */

static void begin(struct ha_page *page, const struct conf *conf, const char *node, int expiry_s)
{
    *page = (struct ha_page){.conf = conf, .node = node, .expiry_s = expiry_s};
    page->components = json_object();
}

char *ha_document_bridge(const struct conf *conf)
{
    struct ha_page page;
    json_t *root = json_object();
    begin(&page, conf, "bridge", EXPIRY_TIMES * STATUS_JSON_HEALTH_S);
    ha_page_bridge_id(page.id, conf);
    ha_page_add_connectivity(&page); /* always there */
    ha_page_put(&page, root, "state_topic", ha_page_topic(&page, "bridge", "health"));
    for (unsigned i = 0; i < sizeof(health_members) / sizeof(health_members[0]); i++) {
        const char *key = health_members[i].key;
        json_t *sensor = ha_page_add_sensor(&page, key);
        ha_page_put(&page, sensor, "availability", ha_page_availability(&page, NULL));
        ha_page_put(&page, sensor, "entity_category", json_string("diagnostic"));
        ha_page_put(&page, sensor, "state_class", json_string(health_members[i].state_class));
        ha_page_put(&page, sensor, "suggested_display_precision", json_integer(0));
        ha_page_put(&page, sensor, "value_template", json_sprintf("{{ value_json['%s'] }}", key));
    }
    return ha_page_finish(&page, root,
                          json_pack("{s:[s], s:o, s:s, s:s, s:s}", "identifiers", page.id, "name",
                                    json_sprintf("fluxbridge %s", conf->site), "manufacturer",
                                    "fluxbridge", "model", "Modbus to MQTT bridge", "sw_version",
                                    FLUXBRIDGE_VERSION));
}

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

char *ha_document_device(const struct conf *conf, const struct device *device)
{
    struct ha_page page;
    struct energy_source source;
    const struct profile *profile = device->profile;
    char bridge_id[HA_PAGE_ID_MAX + 1];
    json_t *root = json_object();
    begin(&page, conf, device->name, (int)sample_json_expiry_s(device));
    ha_page_device_id(page.id, conf, device->id);
    ha_page_bridge_id(bridge_id, conf);
    ha_page_put(&page, root, "state_topic", ha_page_topic(&page, device->name, "state"));
    ha_page_put(&page, root, "availability", ha_page_availability(&page, device->name));
    ha_page_put(&page, root, "availability_mode", json_string("all"));

    json_t *connectivity = ha_page_add_connectivity(&page);
    ha_page_put(&page, connectivity, "availability", ha_page_availability(&page, NULL));
    for (unsigned i = 0; i < device->n_points; i++)
        add_point(&page, &device->points[i]);
    if (energy_source(device, &source)) {
        add_energy(&page, SAMPLE_CHARGED);
        add_energy(&page, SAMPLE_DISCHARGED);
    }
    ha_commands_add(&page, device);
    return ha_page_finish(
        &page, root,
        json_pack("{s:[s], s:s, s:s*, s:s*, s:s, s:s}", "identifiers", page.id, "name",
                  device->name, "manufacturer", or_null(profile->manufacturer), "model",
                  or_null(profile->model), "model_id", profile->type, "via_device", bridge_id));
}

/* ---- what an earlier run has announced ---- */

bool ha_document_next_former(const char *info, unsigned *index, char name[DEVICE_NAME_MAX + 1],
                             char id[DEVICE_ID_MAX + 1])
{
    json_t *root = json_loads(info, 0, NULL);
    const json_t *devices = json_object_get(root, "devices"), *ids = json_object_get(root, "ids");
    bool found = false;
    while (!found && *index < json_array_size(devices)) {
        const char *of = json_string_value(json_array_get(devices, *index));
        const char *its = json_string_value(json_array_get(ids, (*index)++));
        /* What is no name of ours must not become a topic. */
        found = of != NULL && cfg_is_name(of) && strcmp(of, "bridge") != 0 &&
                strlen(of) <= DEVICE_NAME_MAX && (its == NULL || strlen(its) <= DEVICE_ID_MAX);
        if (found) {
            memcpy(name, of, strlen(of) + 1);
            snprintf(id, DEVICE_ID_MAX + 1, "%s", its != NULL ? its : "");
        }
    }
    json_decref(root);
    return found;
}
