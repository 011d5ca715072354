#include "bridge/publish/ha_page.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "bridge/mqtt/limits.h"

enum { LABEL_TEXT_MAX = CONF_NAME_MAX + DEVICE_NAME_MAX + HA_PAGE_KEY_MAX + 8 };

/* ---- names ---- */

void ha_page_bridge_id(char id[HA_PAGE_ID_MAX + 1], const struct conf *conf)
{
    snprintf(id, HA_PAGE_ID_MAX + 1, "fluxbridge-%s-bridge", conf->site);
}

/* An id with other characters than these, or like the bridge's, is told apart by its hash. */
void ha_page_device_id(char id[HA_PAGE_ID_MAX + 1], const struct conf *conf, const char *device_id)
{
    const size_t length =
        (size_t)snprintf(id, HA_PAGE_ID_MAX + 1, "fluxbridge-%s-%s", conf->site, device_id);
    bool plain = strcmp(device_id, "bridge") != 0;
    for (char *at = id + length - strlen(device_id); *at != '\0'; at++) {
        if (isalnum((unsigned char)*at) || *at == '-' || *at == '_')
            continue;
        *at = '_';
        plain = false;
    }
    if (!plain)
        snprintf(id + length, HA_PAGE_ID_MAX + 1 - length, "-%08x",
                 (unsigned)limits_hash(device_id, strlen(device_id)));
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
    char text[HA_PAGE_KEY_MAX + 1];
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
static json_t *entity_id(const struct ha_page *page, const char *platform, const char *key)
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

json_t *ha_page_topic(const struct ha_page *page, const char *node, const char *leaf)
{
    char topic[TOPIC_MAX + 1];
    return topic_make(topic, page->conf, node, leaf) ? json_string(topic) : NULL;
}

/* ---- components ---- */

void ha_page_put(struct ha_page *page, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0)
        page->failed = true;
}

json_t *ha_page_add(struct ha_page *page, const char *platform, const char *key, const char *name)
{
    json_t *component = json_object();
    ha_page_put(page, component, "platform", json_string(platform));
    ha_page_put(page, component, "unique_id", json_sprintf("%s-%s", page->id, key));
    ha_page_put(page, component, "default_entity_id", entity_id(page, platform, name));
    ha_page_put(page, component, "name", title(name));
    ha_page_put(page, page->components, key, component);
    return component;
}

json_t *ha_page_availability(const struct ha_page *page, const char *node)
{
    json_t *list = json_array();
    json_array_append_new(list,
                          json_pack("{s:o}", "topic", ha_page_topic(page, "bridge", "status")));
    if (node != NULL)
        json_array_append_new(list,
                              json_pack("{s:o}", "topic", ha_page_topic(page, node, "status")));
    return list;
}

json_t *ha_page_add_connectivity(struct ha_page *page)
{
    json_t *component = ha_page_add(page, "binary_sensor", "device-connectivity", "connectivity");
    ha_page_put(page, component, "device_class", json_string("connectivity"));
    ha_page_put(page, component, "entity_category", json_string("diagnostic"));
    ha_page_put(page, component, "state_topic", ha_page_topic(page, page->node, "status"));
    ha_page_put(page, component, "payload_on", json_string("online"));
    ha_page_put(page, component, "payload_off", json_string("offline"));
    return component;
}

json_t *ha_page_add_sensor(struct ha_page *page, const char *key)
{
    json_t *sensor = ha_page_add(page, "sensor", key, key);
    ha_page_put(page, sensor, "expire_after", json_integer(page->expiry_s));
    return sensor;
}

json_t *ha_page_template(const struct point *point, const char *key, const char *show,
                         const char *test, const char *keep)
{
    if (point->every == 1)
        return json_sprintf("{%% set v = value_json.data['%s'] %%}{{ %s if %s else 'None' }}", key,
                            show, test);
    return json_sprintf("{%% set v = value_json.data['%s'] %%}"
                        "{{ %s if %s else %s if v is undefined else 'None' }}",
                        key, show, test, keep);
}

void ha_page_put_unit(struct ha_page *page, json_t *component, const struct point *point,
                      const struct ha_unit *quantity)
{
    if (quantity->device_class != NULL)
        ha_page_put(page, component, "device_class", json_string(quantity->device_class));
    if (point->unit[0] != '\0')
        ha_page_put(page, component, "unit_of_measurement", json_string(point->unit));
}

/* Home Assistant copies what stands in the root beside these three into every
 * component that does not say otherwise. */
char *ha_page_finish(struct ha_page *page, json_t *root, json_t *device)
{
    ha_page_put(page, root, "device", device);
    ha_page_put(page, root, "origin",
                json_pack("{s:s, s:s}", "name", "fluxbridge", "sw_version", FLUXBRIDGE_VERSION));
    ha_page_put(page, root, "qos", json_integer(1));
    ha_page_put(page, root, "components", page->components);
    char *text = page->failed ? NULL : json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(15));
    json_decref(root);
    return text;
}
