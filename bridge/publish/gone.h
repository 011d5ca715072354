/* gone: topics that the bridge once announced and has no more, and which are to be cleared.
 *
 * What it announces is remembered in the state file; a run finds there, and in the
 * bridge/info of an earlier one, what this configuration does not have: devices that were
 * removed or renamed, another site or prefix. Each has an index; one that is there again
 * keeps its index, and has no topic any more.
 *
 * The publisher's; gone_keep_info() and gone_cleared() may be called by any thread.
 */
#ifndef BRIDGE_PUBLISH_GONE_H
#define BRIDGE_PUBLISH_GONE_H

#include "bridge/mqtt/mqtt.h"
#include "bridge/publish/retained.h"
#include "bridge/store/state.h"

struct gone;

/* `state` may be NULL: nothing is remembered. NULL when out of memory. */
struct gone *gone_new(const struct conf *conf, struct retained *retained, struct state *state);
void gone_free(struct gone *gone);

unsigned gone_count(struct gone *gone);

/* False when it is there again. */
bool gone_topic(struct gone *gone, unsigned index, char topic[TOPIC_MAX + 1]);

/* While the configuration still has the topic of this number: it may be gone with the next. Once
 * that is there: it has this one; and all that it has not is to be cleared. */
void gone_part(struct gone *gone, unsigned number);
void gone_renew(struct gone *gone, unsigned number);
void gone_renewed(struct gone *gone);

/* What was cleared is at the broker no more; true for what a Will may still come to, once: it is
 * to be cleared again, when that must have come. */
bool gone_cleared(struct gone *gone, unsigned index);

/* What earlier runs have announced is known from the state as soon as that is loaded; true once:
 * when that is now. */
bool gone_recall(struct gone *gone);

/* All that this run announces is remembered, before the first of it is. */
void gone_remember_all(struct gone *gone);

/* A bridge/info that was retained: the first since the last was looked at, for those that
 * follow it are our own. True when looking at it has found more. */
void gone_keep_info(struct gone *gone, const struct mqtt_arrival *arrival);
bool gone_look_at_info(struct gone *gone);

#endif
