#include "bridge/publish/ha_document.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/publish/ha_units.h"
#include "bridge/telemetry/energy.h"
#include "bridge/wire/sample_json.h"
#include "bridge/wire/status_json.h"
#include "devices/registers/codec.h"

enum {
    ID_MAX = CONF_NAME_MAX + DEVICE_NAME_MAX + 16,
    KEY_MAX = POINT_NAME_MAX + 16, /* a point's name and what is put behind it */
    LABEL_TEXT_MAX = ID_MAX + KEY_MAX + 32
};

enum { EXPIRY_TIMES = 3 };

/* Counters of bridge/health. */
static const struct {
    const char *key, *state_class;
} health_members[] = {
    {"samples", "total_increasing"},      {"drops", "total_increasing"},
    {"spool_depth", "measurement"},       {"reconnects", "total_increasing"},
    {"missed_ticks", "total_increasing"},
};

/* A document in the making. */
struct page {
    const struct conf *conf;
    const char *node;
    char id[ID_MAX + 1];
    int expiry_s;
    json_t *components;
    bool failed;
};

/* ---- names ---- */

static void object_id(char id[ID_MAX + 1], const struct conf *conf, const char *node)
{
    snprintf(id, ID_MAX + 1, "fluxbridge-%s-%s", conf->site, node);
}

bool ha_document_topic(char topic[TOPIC_MAX + 1], const struct conf *conf, const char *node)
{
    char id[ID_MAX + 1];
    object_id(id, conf, node);
    int length = snprintf(topic, TOPIC_MAX + 1, "%s/device/%s/config", conf->ha_prefix, id);
    return length <= TOPIC_MAX;
}

/* Whether the word at `word` is written in capitals: "l1", "n" and what people
 * know as an abbreviation. */
static bool is_abbreviation(const char *word, size_t length)
{
    static const char *const known[] = {"ac", "dc", "id", "ll", "ln", "soc", "soe", "soh"};
    if (length == 1 || (length > 1 && isdigit((unsigned char)word[1])))
        return true;
    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strlen(known[i]) == length && strncmp(word, known[i], length) == 0)
            return true;
    }
    return false;
}

/* For people: active_power_l1 becomes "Active power L1". */
static json_t *title(const char *key)
{
    char text[KEY_MAX + 1];
    size_t length = strlen(key);
    for (size_t at = 0, end; at < length; at = end + 1) {
        end = at + strcspn(key + at, "_");
        size_t capitals = is_abbreviation(key + at, end - at) ? end : at == 0;
        memcpy(text + at, key + at, end - at);
        for (size_t i = at; i < capitals; i++)
            text[i] = (char)toupper((unsigned char)text[i]);
        text[end] = ' ';
    }
    return json_stringn(text, length);
}

/* <platform>.<site>_<device>_<key> in the letters of entity ids: small ones,
 * digits, and single underscores in between. */
static json_t *entity_id(const struct page *page, const char *platform, const char *key)
{
    char from[LABEL_TEXT_MAX], text[LABEL_TEXT_MAX];
    size_t length = 0;
    snprintf(from, sizeof(from), "%s_%s_%s", page->conf->site, page->node, key);
    for (const char *at = from; *at != '\0'; at++) {
        if (isalnum((unsigned char)*at))
            text[length++] = (char)tolower((unsigned char)*at);
        else if (length > 0 && text[length - 1] != '_')
            text[length++] = '_';
    }
    while (length > 0 && text[length - 1] == '_')
        length--;
    return json_sprintf("%s.%.*s", platform, (int)length, text);
}

static json_t *topic_text(const struct page *page, const char *node, const char *leaf)
{
    char topic[TOPIC_MAX + 1];
    return topic_make(topic, page->conf, node, leaf) ? json_string(topic) : NULL;
}

/* ---- components ---- */

static void put(struct page *page, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0)
        page->failed = true;
}

/* Adds a component and gives it a name of its own. The `key` of what is not a
 * point has a dash in it, which no point's name has. */
static json_t *add(struct page *page, const char *platform, const char *key, const char *name)
{
    json_t *component = json_object();
    put(page, component, "platform", json_string(platform));
    put(page, component, "unique_id", json_sprintf("%s-%s", page->id, key));
    put(page, component, "default_entity_id", entity_id(page, platform, name));
    put(page, component, "name", title(name));
    put(page, page->components, key, component);
    return component;
}

/* What is there while the status of these nodes is `online`. */
static json_t *availability(struct page *page, const char *node)
{
    json_t *list = json_array();
    json_array_append_new(list, json_pack("{s:o}", "topic", topic_text(page, "bridge", "status")));
    if (node != NULL)
        json_array_append_new(list, json_pack("{s:o}", "topic", topic_text(page, node, "status")));
    return list;
}

static json_t *add_connectivity(struct page *page)
{
    json_t *component = add(page, "binary_sensor", "device-connectivity", "connectivity");
    put(page, component, "device_class", json_string("connectivity"));
    put(page, component, "entity_category", json_string("diagnostic"));
    put(page, component, "state_topic", topic_text(page, page->node, "status"));
    put(page, component, "payload_on", json_string("online"));
    put(page, component, "payload_off", json_string("offline"));
    return component;
}

static json_t *add_sensor(struct page *page, const char *key)
{
    json_t *sensor = add(page, "sensor", key, key);
    put(page, sensor, "expire_after", json_integer(page->expiry_s));
    return sensor;
}

/* `show` when `test` holds for `v`, the member `key` of the sample's data.
 * What is not in the sample renders as `keep`. */
static json_t *template_text(const struct point *point, const char *key, const char *show,
                             const char *test, const char *keep)
{
    if (point->every == 1)
        return json_sprintf("{%% set v = value_json.data['%s'] %%}{{ %s if %s else 'None' }}", key,
                            show, test);
    return json_sprintf("{%% set v = value_json.data['%s'] %%}"
                        "{{ %s if %s else %s if v is undefined else 'None' }}",
                        key, show, test, keep);
}

/* A sensor keeps its value when the template renders nothing, but not one of
 * text: that must be told what it is already. */
static const char *const keep_number = "''";
static const char *const keep_text = "(this.state if this.state not in ['unknown', 'unavailable'] "
                                     "else 'None')";

/* ---- points ---- */

static void put_unit(struct page *page, json_t *component, const struct point *point,
                     const struct ha_unit *quantity)
{
    if (quantity->device_class != NULL)
        put(page, component, "device_class", json_string(quantity->device_class));
    if (point->unit[0] != '\0')
        put(page, component, "unit_of_measurement", json_string(point->unit));
}

static void add_number_sensor(struct page *page, const struct point *point)
{
    struct ha_unit quantity = ha_units_of(point);
    json_t *sensor = add_sensor(page, point->name);
    put_unit(page, sensor, point, &quantity);
    put(page, sensor, "suggested_display_precision", json_integer(quantity.precision));
    put(page, sensor, "value_template",
        template_text(point, point->name, "v", "v is number", keep_number));
    if (quantity.state_class != NULL)
        put(page, sensor, "state_class", json_string(quantity.state_class));
    else
        put(page, sensor, "entity_category", json_string("diagnostic"));
}

static void add_bool(struct page *page, const struct point *point)
{
    json_t *sensor = add(page, "binary_sensor", point->name, point->name);
    put(page, sensor, "expire_after", json_integer(page->expiry_s));
    put(page, sensor, "value_template",
        template_text(point, point->name, "('ON' if v else 'OFF')", "v is boolean", keep_number));
}

/* No unit, no state class and no precision: each of them would make it a number. */
static void add_text(struct page *page, const struct point *point)
{
    json_t *sensor = add_sensor(page, point->name);
    put(page, sensor, "value_template",
        template_text(point, point->name, "v", "v is string", keep_text));
    put(page, sensor, "entity_category", json_string("diagnostic"));
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
static void put_label(struct page *page, json_t *sensor, const struct point *point,
                      const char *code_key)
{
    char show[KEY_MAX + 32], test[POINT_LABELS_MAX * 24 + 16];
    size_t length = 0;
    for (unsigned i = 0; i < point->n_labels; i++)
        length += (size_t)snprintf(test + length, sizeof(test) - length, "%s%lld",
                                   i == 0 ? "v in [" : ", ", (long long)point->labels[i].value);
    snprintf(test + length, sizeof(test) - length, "]");
    snprintf(show, sizeof(show), "value_json.data['%s']", point->name);
    put(page, sensor, "device_class", json_string("enum"));
    put(page, sensor, "options", labels(point));
    put(page, sensor, "value_template", template_text(point, code_key, show, test, keep_text));
}

static void add_enumeration(struct page *page, const struct point *point)
{
    char code_key[KEY_MAX + 1];
    json_t *sensor = add_sensor(page, point->name);
    snprintf(code_key, sizeof(code_key), "%s_code", point->name);
    json_t *code = add_sensor(page, code_key);
    if (point->n_labels > 0)
        put_label(page, sensor, point, code_key);
    else
        put(page, sensor, "value_template",
            template_text(point, point->name, "v", "v is string", keep_text));
    put(page, code, "entity_category", json_string("diagnostic"));
    put(page, code, "suggested_display_precision", json_integer(0));
    put(page, code, "value_template",
        template_text(point, code_key, "v", "v is number", keep_number));
}

/* Home Assistant goes on showing the last state when a number's is out of its
 * range; so it gets none then. Its range() has a bound of 100000. */
static void add_setpoint(struct page *page, const struct device *device)
{
    const struct device_control *control = &device->control;
    const struct point *point = &device->points[control->setpoint];
    struct ha_unit quantity = ha_units_of(point);
    char key[KEY_MAX + 1], leaf[KEY_MAX + 1], test[96];
    double step = fmax(codec_step(point), 0.001); /* Home Assistant takes no finer one */
    snprintf(key, sizeof(key), "set-%s", point->name);
    snprintf(leaf, sizeof(leaf), "set/%s", point->name);
    snprintf(test, sizeof(test), "v is number and %.15g <= v <= %.15g", control->min_kw,
             control->max_kw);
    json_t *number = add(page, "number", key, point->name);
    put_unit(page, number, point, &quantity);
    put(page, number, "command_topic", topic_text(page, page->node, leaf));
    put(page, number, "command_template",
        json_sprintf("{\"id\":\"ha-{{ (now().timestamp() * 1000) | int }}-"
                     "{{ range(10000, 100000) | random }}\",\"value\":{{ value }},"
                     "\"issued_at\":{{ (now().timestamp() * 1000) | int }},\"ttl_s\":%.15g,"
                     "\"source\":\"home-assistant\"}",
                     (double)control->ttl_ns / (double)CLOCK_NS_PER_S));
    put(page, number, "value_template", template_text(point, point->name, "v", test, keep_number));
    put(page, number, "min", json_real(control->min_kw));
    put(page, number, "max", json_real(control->max_kw));
    put(page, number, "step", json_real(step));
    put(page, number, "mode", json_string("box"));
}

static void add_point(struct page *page, const struct point *point)
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
static void add_energy(struct page *page, const char *name)
{
    struct point point = {
        .unit = "kWh", .type = POINT_FLOAT64, .scale = 1, .every = 1, .counter = true};
    snprintf(point.name, sizeof(point.name), "%s", name);
    add_point(page, &point);
}

/* ---- documents ---- */

static void begin(struct page *page, const struct conf *conf, const char *node, int expiry_s)
{
    *page = (struct page){.conf = conf, .node = node, .expiry_s = expiry_s};
    object_id(page->id, conf, node);
    page->components = json_object();
}

/* Home Assistant copies what stands in the root beside these three into every
 * component that does not say otherwise. */
static char *finish(struct page *page, json_t *root, json_t *device)
{
    put(page, root, "device", device);
    put(page, root, "origin",
        json_pack("{s:s, s:s}", "name", "fluxbridge", "sw_version", FLUXBRIDGE_VERSION));
    put(page, root, "qos", json_integer(1));
    put(page, root, "components", page->components);
    char *text = page->failed ? NULL : json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(15));
    json_decref(root);
    return text;
}

char *ha_document_bridge(const struct conf *conf)
{
    struct page page;
    json_t *root = json_object();
    begin(&page, conf, "bridge", EXPIRY_TIMES * STATUS_JSON_HEALTH_S);
    add_connectivity(&page); /* always there */
    put(&page, root, "state_topic", topic_text(&page, "bridge", "health"));
    for (unsigned i = 0; i < sizeof(health_members) / sizeof(health_members[0]); i++) {
        const char *key = health_members[i].key;
        json_t *sensor = add_sensor(&page, key);
        put(&page, sensor, "availability", availability(&page, NULL));
        put(&page, sensor, "entity_category", json_string("diagnostic"));
        put(&page, sensor, "state_class", json_string(health_members[i].state_class));
        put(&page, sensor, "suggested_display_precision", json_integer(0));
        put(&page, sensor, "value_template", json_sprintf("{{ value_json['%s'] }}", key));
    }
    return finish(&page, root,
                  json_pack("{s:[s], s:o, s:s, s:s, s:s}", "identifiers", page.id, "name",
                            json_sprintf("fluxbridge %s", conf->site), "manufacturer", "fluxbridge",
                            "model", "Modbus to MQTT bridge", "sw_version", FLUXBRIDGE_VERSION));
}

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

char *ha_document_device(const struct conf *conf, const struct device *device)
{
    struct page page;
    struct energy_source source;
    const struct profile *profile = device->profile;
    char bridge_id[ID_MAX + 1];
    json_t *root = json_object();
    begin(&page, conf, device->name, (int)sample_json_expiry_s(device));
    object_id(bridge_id, conf, "bridge");
    put(&page, root, "state_topic", topic_text(&page, device->name, "state"));
    put(&page, root, "availability", availability(&page, device->name));
    put(&page, root, "availability_mode", json_string("all"));

    json_t *connectivity = add_connectivity(&page);
    put(&page, connectivity, "availability", availability(&page, NULL));
    for (unsigned i = 0; i < device->n_points; i++)
        add_point(&page, &device->points[i]);
    if (energy_source(device, &source)) {
        add_energy(&page, SAMPLE_CHARGED);
        add_energy(&page, SAMPLE_DISCHARGED);
    }
    if (device->controllable)
        add_setpoint(&page, device);
    return finish(&page, root,
                  json_pack("{s:[s], s:s, s:s*, s:s*, s:s, s:s}", "identifiers", page.id, "name",
                            device->name, "manufacturer", or_null(profile->manufacturer), "model",
                            or_null(profile->model), "model_id", profile->type, "via_device",
                            bridge_id));
}

/* ---- devices that are gone ---- */

static bool is_device(const struct conf *conf, const char *name)
{
    for (unsigned i = 0; i < conf->devices.n_devices; i++) {
        if (strcmp(conf->devices.devices[i].name, name) == 0)
            return true;
    }
    return false;
}

bool ha_document_next_gone(const struct conf *conf, const char *info, unsigned *index,
                           char name[TOPIC_MAX + 1])
{
    json_t *root = json_loads(info, 0, NULL);
    const json_t *devices = json_object_get(root, "devices");
    bool found = false;
    while (!found && *index < json_array_size(devices)) {
        const char *gone = json_string_value(json_array_get(devices, (*index)++));
        /* What is no name of ours must not become a topic. */
        found = gone != NULL && cfg_is_name(gone) && strcmp(gone, "bridge") != 0 &&
                !is_device(conf, gone);
        if (found)
            snprintf(name, TOPIC_MAX + 1, "%s", gone);
    }
    json_decref(root);
    return found;
}
