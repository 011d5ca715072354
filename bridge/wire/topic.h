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

/* <base>/+/set/# */
bool topic_command_filter(char topic[TOPIC_MAX + 1], const struct conf *conf);

/* Takes <base>/<device>/set/<point> apart into copies (truncated to their
 * size); the point is "" for <base>/<device>/set. False when the topic is none. */
bool topic_parse(const struct conf *conf, const char *topic, char device[TOPIC_MAX + 1],
                 char point[TOPIC_MAX + 1]);

/* Whether an outcome may go to this response topic. A dispatcher must not borrow
 * the bridge's rights: not where bridges, Home Assistant's discovery, Sparkplug or
 * the broker itself speak, and not with more than 32 levels, which some brokers
 * call a protocol error. */
bool topic_may_answer(const struct conf *conf, const char *topic);

#endif
