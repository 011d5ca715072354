/* ha_document: what Home Assistant is told about the bridge and its devices.
 *
 * Pure. One retained document per device, in the form of device discovery
 * (home-assistant.io/integrations/mqtt, "Device discovery payload"): the
 * bridge's first, to which all others refer. Its root is closed: one key too
 * many and Home Assistant drops it whole.
 *
 *   number          sensor with what quantity says of it
 *   enumeration     enum sensor of its labels, unknown when the code has none;
 *                   <name>_code tells the code then. Without any label: plain text
 *   bool            binary sensor
 *   target_power    of a battery under control: a number as well, and what ha_commands adds
 *   status          connectivity; there while the bridge is. All else is there
 *                   while both the bridge and the device are
 *
 * A value that is null is unknown. One that is not in this sample (its poll
 * class is not due) stays as it is.
 */
#ifndef BRIDGE_PUBLISH_HA_DOCUMENT_H
#define BRIDGE_PUBLISH_HA_DOCUMENT_H

#include "bridge/wire/topic.h"

/* Here Home Assistant says `online` when it has started: then everything is
 * announced again. This topic does not follow the discovery prefix. */
#define HA_DOCUMENT_BIRTH_TOPIC "homeassistant/status"

/* Where the documents go: that of a device by its id, so that one which is renamed keeps
 * its entities; an earlier release went by its name. False when it does not fit. */
bool ha_document_topic_bridge(char topic[TOPIC_MAX + 1], const struct conf *conf);
bool ha_document_topic_device(char topic[TOPIC_MAX + 1], const struct conf *conf,
                              const char *device_id);
bool ha_document_topic_by_name(char topic[TOPIC_MAX + 1], const struct conf *conf,
                               const char *name);

/* JSON texts, malloc'ed (free with free()); NULL when out of memory. */
char *ha_document_bridge(const struct conf *conf);
char *ha_document_device(const struct conf *conf, const struct device *device);

/* A bridge/info of an earlier run names the devices that were announced then. From
 * `*index` on, the next one: its name, and its id, "" where that release named its
 * documents after the device's name. False when there is none. */
bool ha_document_next_former(const char *info, unsigned *index, char name[DEVICE_NAME_MAX + 1],
                             char id[DEVICE_ID_MAX + 1]);

#endif
