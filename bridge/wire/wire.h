/* wire: topics and JSON, both ways: topics.md in code.
 *
 * Pure. Samples are on the hot path and are written straight into a buffer;
 * everything else goes through jansson.
 */
#ifndef BRIDGE_WIRE_WIRE_H
#define BRIDGE_WIRE_WIRE_H

#include "bridge/battery/command.h"
#include "bridge/battery/control.h"
#include "bridge/model/health.h"
#include "bridge/site/conf.h"
#include "bridge/store/outbox.h"
#include "bridge/telemetry/energy.h"

enum {
    WIRE_TOPIC_MAX = OUTBOX_TOPIC_MAX,
    WIRE_HEALTH_S = 10, /* between two of bridge/health */
};

/* <base>/<node>/<leaf>, e.g. flux/demo/Grid-Meter/state; node "bridge" is the
 * bridge itself. Always terminated; returns false when it does not fit. */
bool wire_topic(char topic[WIRE_TOPIC_MAX + 1], const struct conf *conf, const char *node,
                const char *leaf);

/* <base>/+/set/# */
bool wire_command_filter(char topic[WIRE_TOPIC_MAX + 1], const struct conf *conf);

/* After how many seconds a state is out of date: three times as long as a
 * healthy device may be silent, rounded up. */
unsigned wire_expiry_s(const struct device *device);

/* Takes <base>/<device>/set/<point> apart into copies (truncated to their
 * size); the point is "" for <base>/<device>/set. False when the topic is none. */
bool wire_parse_topic(const struct conf *conf, const char *topic, char device[WIRE_TOPIC_MAX + 1],
                      char point[WIRE_TOPIC_MAX + 1]);

/* Whether an outcome may go to this response topic: not to one that the bridge
 * itself speaks on, nor to the broker's own. A dispatcher must not borrow the
 * bridge's rights. */
bool wire_may_answer(const struct conf *conf, const char *topic);

/* One sample. `values` as the device's points. Returns its length, 0 when it
 * does not fit into `size`. */
struct wire_sample {
    const struct device *device;
    int64_t ts_ms;
    const char *run;
    uint64_t seq;
    const struct value *values;
    const struct energy_kwh *energy; /* NULL = none is counted */
};
size_t wire_sample(const struct wire_sample *sample, char *text, size_t size);

/* A size that every sample of the device fits into. */
size_t wire_sample_room(const struct device *device);

char *wire_bridge_info(const struct conf *conf, const char *run, int64_t started_ms);
char *wire_device_info(const struct device *device);

/* `drops`: the samples dropped of each configured device. */
char *wire_health(const struct conf *conf, const struct health *health,
                  const struct outbox_depth *depth, const uint64_t *drops, int64_t ts_ms,
                  int64_t uptime_ms);

#endif
