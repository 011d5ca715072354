/* ha_page: a discovery document in the making, for those who put components into it.
 *
 * Pure. What all components have in common: names, ids, availability. What is
 * announced is named after the device's id, so that a device that is renamed keeps its
 * entities; what people read follows its name.
 */
#ifndef BRIDGE_PUBLISH_HA_PAGE_H
#define BRIDGE_PUBLISH_HA_PAGE_H

#include <jansson.h>

#include "bridge/publish/ha_units.h"
#include "bridge/wire/topic.h"
#include "devices/registers/point.h"

enum {
    HA_PAGE_ID_MAX = CONF_NAME_MAX + DEVICE_ID_MAX + 32,
    HA_PAGE_KEY_MAX = POINT_NAME_MAX + 16 /* a point's name and what is put behind it */
};

struct ha_page {
    const struct conf *conf;
    const char *node; /* of its topics: a device's name, or "bridge" */
    char id[HA_PAGE_ID_MAX + 1];
    int expiry_s; /* of sensors that live as long as a state */
    json_t *components;
    bool failed;
};

/* What Home Assistant knows the bridge and a device by: letters, digits, - and _. */
void ha_page_bridge_id(char id[HA_PAGE_ID_MAX + 1], const struct conf *conf);
void ha_page_device_id(char id[HA_PAGE_ID_MAX + 1], const struct conf *conf, const char *device_id);

/* The text of the whole: what `root` has, the components, the device, which is taken
 * over. Malloc'ed; NULL when out of memory. */
char *ha_page_finish(struct ha_page *page, json_t *root, json_t *device);

/* Puts a member; takes the value over. */
void ha_page_put(struct ha_page *page, json_t *object, const char *key, json_t *value);

/* Adds a component and gives it a name of its own. The `key` of what is not a
 * point has a dash in it, which no point's name has. A sensor is unknown when it was
 * not told for the page's expiry. */
json_t *ha_page_add(struct ha_page *page, const char *platform, const char *key, const char *name);
json_t *ha_page_add_sensor(struct ha_page *page, const char *key);

/* A topic of this page's node, or of another. */
json_t *ha_page_topic(const struct ha_page *page, const char *node, const char *leaf);

/* What is there while the bridge is, and the node (NULL = the bridge alone). */
json_t *ha_page_availability(const struct ha_page *page, const char *node);

/* Connectivity of the page's node: the one entity that tells whether it is there. */
json_t *ha_page_add_connectivity(struct ha_page *page);

/* `show` when `test` holds for `v`, the member `key` of the sample's data; else `keep`
 * when it is a point's that is not in each sample, and is not in this one. */
json_t *ha_page_template(const struct point *point, const char *key, const char *show,
                         const char *test, const char *keep);

/* Its device class and unit. */
void ha_page_put_unit(struct ha_page *page, json_t *component, const struct point *point,
                      const struct ha_unit *quantity);

#endif
