/* topic: the names under which the bridge speaks and listens.
 *
 * Pure.
 */
#ifndef BRIDGE_WIRE_TOPIC_H
#define BRIDGE_WIRE_TOPIC_H

#include "bridge/site/conf.h"

enum { TOPIC_MAX = 512 };

/* <base>/<node>/<leaf>, e.g. flux/demo/Grid-Meter/state; node "bridge" is the
 * bridge itself. Always terminated; returns false when it does not fit. */
bool topic_make(char topic[TOPIC_MAX + 1], const struct conf *conf, const char *node,
                const char *leaf);

/* <base>/+/set/# and <base>/+/schedule/set */
bool topic_command_filter(char topic[TOPIC_MAX + 1], const struct conf *conf);
bool topic_schedule_filter(char topic[TOPIC_MAX + 1], const struct conf *conf);

/* How the topic of a schedule ends. */
#define TOPIC_SCHEDULE_SET "schedule/set"

enum topic_kind {
    TOPIC_NONE,
    TOPIC_COMMAND, /* <base>/<device>/set/<point>; the point is "" for <base>/<device>/set */
    TOPIC_SCHEDULE /* <base>/<device>/schedule/set; the point is "schedule" */
};

/* Takes a topic that the bridge subscribes to for commands apart into copies (truncated
 * to their size). */
enum topic_kind topic_parse(const struct conf *conf, const char *topic, char device[TOPIC_MAX + 1],
                            char point[TOPIC_MAX + 1]);

/* Whether an outcome may go to this response topic. A dispatcher must not borrow
 * the bridge's rights: not where bridges, Home Assistant's discovery, Sparkplug or
 * the broker itself speak, and not with more than 32 levels, which some brokers
 * call a protocol error. */
bool topic_may_answer(const struct conf *conf, const char *topic);

#endif
