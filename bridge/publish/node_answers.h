/* node_answers: what came of commands, until a Sparkplug host is told.
 *
 * A few of them: when it is full the oldest gives way, as JSON has it. Any thread puts,
 * the edge node takes.
 */
#ifndef BRIDGE_PUBLISH_NODE_ANSWERS_H
#define BRIDGE_PUBLISH_NODE_ANSWERS_H

#include "bridge/publish/births.h"

struct node_answers;

/* NULL when out of memory. */
struct node_answers *node_answers_new(const struct births *births);
void node_answers_free(struct node_answers *answers);

/* One that names no metric of this node is not taken. */
void node_answers_put(struct node_answers *answers, const struct outcome *outcome);

/* False: there is none. Its device and point are known. */
bool node_answers_take(struct node_answers *answers, struct outcome *outcome);

#endif
