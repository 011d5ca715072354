#include "bridge/publish/ha_commands.h"

#include <math.h>
#include <stdio.h>

#include "bridge/base/clock.h"
#include "bridge/model/control_state.h"
#include "bridge/model/reason.h"
#include "bridge/wire/status_json.h"
#include "devices/registers/codec.h"

/* A whole command, with an id and a life of Home Assistant's own clock; `value` is what
 * was entered or, of a button, its payload. Its range() has a bound of 100000. */
static void put_command(struct ha_page *page, json_t *component, const struct device *device)
{
    char leaf[HA_PAGE_KEY_MAX + 1];
    snprintf(leaf, sizeof(leaf), "set/%s", device->points[device->control.setpoint].name);
    ha_page_put(page, component, "command_topic", ha_page_topic(page, page->node, leaf));
    ha_page_put(page, component, "command_template",
                json_sprintf("{\"id\":\"ha-{{ (now().timestamp() * 1000) | int }}-"
                             "{{ range(10000, 100000) | random }}\",\"value\":{{ value }},"
                             "\"issued_at\":{{ (now().timestamp() * 1000) | int }},\"ttl_s\":%.15g,"
                             "\"source\":\"home-assistant\"}",
                             (double)device->control.ttl_ns / (double)CLOCK_NS_PER_S));
}

/* Home Assistant goes on showing the last state when a number's is out of its
 * range; so it gets none then. */
static void add_setpoint(struct ha_page *page, const struct device *device)
{
    const struct device_control *control = &device->control;
    const struct point *point = &device->points[control->setpoint];
    struct ha_unit quantity = ha_units_of(point);
    char key[HA_PAGE_KEY_MAX + 1], test[96];
    double step = fmax(codec_step(point), 0.001); /* Home Assistant takes no finer one */
    snprintf(key, sizeof(key), "set-%s", point->name);
    snprintf(test, sizeof(test), "v is number and %.15g <= v <= %.15g", control->min_kw,
             control->max_kw);
    json_t *number = ha_page_add(page, "number", key, point->name);
    ha_page_put_unit(page, number, point, &quantity);
    put_command(page, number, device);
    ha_page_put(page, number, "value_template",
                ha_page_template(point, point->name, "v", test, "''"));
    ha_page_put(page, number, "min", json_real(control->min_kw));
    ha_page_put(page, number, "max", json_real(control->max_kw));
    ha_page_put(page, number, "step", json_real(step));
    ha_page_put(page, number, "mode", json_string("box"));
}

static void add_stop(struct ha_page *page, const struct device *device)
{
    json_t *button = ha_page_add(page, "button", "command-stop", "stop");
    put_command(page, button, device);
    ha_page_put(page, button, "payload_press", json_string("0"));
}

/* A component of the retained topic that tells who controls the device. */
static json_t *add_of_control(struct ha_page *page, const char *platform, const char *key,
                              const char *name, const char *value_template)
{
    json_t *component = ha_page_add(page, platform, key, name);
    ha_page_put(page, component, "state_topic", ha_page_topic(page, page->node, "control"));
    ha_page_put(page, component, "value_template", json_string(value_template));
    ha_page_put(page, component, "entity_category", json_string("diagnostic"));
    return component;
}

static void add_outcome(struct ha_page *page)
{
    json_t *words = json_array();
    json_t *outcome =
        add_of_control(page, "sensor", "command-outcome", "last_outcome",
                       "{{ value_json.last.outcome if value_json.last is mapping else 'None' }}");
    for (int i = 0; i < OUTCOME_COUNT; i++)
        json_array_append_new(words, json_string(outcome_word((enum outcome_kind)i)));
    ha_page_put(page, outcome, "device_class", json_string("enum"));
    ha_page_put(page, outcome, "options", words);
    ha_page_put(page, outcome, "json_attributes_topic", ha_page_topic(page, page->node, "control"));
    /* Of an empty message, by which the topic is cleared, there must be something as well. */
    ha_page_put(page, outcome, "json_attributes_template",
                json_string("{{ (value_json.last if value_json is defined and "
                            "value_json.last is mapping else {}) | tojson }}"));
    add_of_control(page, "sensor", "command-reason", "last_reason",
                   "{{ value_json.last.reason | default('none') if value_json.last is mapping "
                   "else 'None' }}");
}

static void add_deadman(struct ha_page *page)
{
    json_t *taken_over =
        add_of_control(page, "binary_sensor", "deadman-took-over", "deadman_took_over",
                       "{{ 'ON' if value_json.taken_over else 'OFF' }}");
    ha_page_put(page, taken_over, "device_class", json_string("problem"));
    json_t *end = add_of_control(
        page, "sensor", "lease-end", "lease_end",
        "{{ (value_json.lease.until / 1000) | as_datetime if value_json.lease is mapping "
        "else 'None' }}");
    ha_page_put(page, end, "device_class", json_string("timestamp"));
}

/* A component of the retained topic that tells where the schedule stands. */
static json_t *add_of_schedule(struct ha_page *page, const char *key, const char *name,
                               const char *value_template)
{
    json_t *sensor = ha_page_add(page, "sensor", key, name);
    ha_page_put(page, sensor, "state_topic", ha_page_topic(page, page->node, "schedule"));
    ha_page_put(page, sensor, "value_template", json_string(value_template));
    return sensor;
}

/* The entry in force, with all else of the schedule as attributes, and the next change. */
static void add_schedule(struct ha_page *page, const struct device *device)
{
    const struct point *point = &device->points[device->control.setpoint];
    struct ha_unit quantity = ha_units_of(point);
    json_t *entry = add_of_schedule(page, "schedule-entry", "schedule_entry",
                                    "{{ value_json.current.value if value_json is defined and "
                                    "value_json.current is mapping else 'None' }}");
    ha_page_put_unit(page, entry, point, &quantity);
    ha_page_put(page, entry, "suggested_display_precision", json_integer(quantity.precision));
    ha_page_put(page, entry, "json_attributes_topic", ha_page_topic(page, page->node, "schedule"));
    ha_page_put(page, entry, "json_attributes_template",
                json_string("{{ (value_json if value_json is defined else {}) | tojson }}"));
    json_t *next = add_of_schedule(page, "schedule-next", "schedule_next_change",
                                   "{{ (value_json.next.at / 1000) | as_datetime if value_json is "
                                   "defined and value_json.next is mapping else 'None' }}");
    ha_page_put(page, next, "device_class", json_string("timestamp"));
}

/* Whether the bridge holds the battery: one word of its health. */
static void add_control_state(struct ha_page *page, const struct device *device)
{
    json_t *sensor = ha_page_add(page, "sensor", "control-state", "control_state");
    json_t *options = json_array();
    for (int i = CONTROL_NONE + 1; i < CONTROL_STATES; i++)
        json_array_append_new(options, json_string(control_state_word((enum control_state)i)));
    ha_page_put(page, sensor, "expire_after", json_integer(3 * STATUS_JSON_HEALTH_S));
    ha_page_put(page, sensor, "availability", ha_page_availability(page, NULL));
    ha_page_put(page, sensor, "entity_category", json_string("diagnostic"));
    ha_page_put(page, sensor, "device_class", json_string("enum"));
    ha_page_put(page, sensor, "options", options);
    ha_page_put(page, sensor, "state_topic", ha_page_topic(page, "bridge", "health"));
    ha_page_put(page, sensor, "value_template",
                json_sprintf("{{ value_json.control['%s'] | default('None') }}", device->name));
}

void ha_commands_add(struct ha_page *page, const struct device *device)
{
    if (device->controllable) {
        add_setpoint(page, device);
        add_stop(page, device);
        add_schedule(page, device);
    }
    if (device_takes_commands(device))
        add_outcome(page);
    if (device->controllable && device->control.deadman_timeout_ns > 0)
        add_deadman(page);
    if (device_drive(device) != NULL)
        add_control_state(page, device);
}
