/* births: the metrics of a Sparkplug edge node and of its devices.
 *
 * What each is called, its alias, its datatype, and the value it has now. An alias
 * belongs to one metric of one device for as long as the configuration is the same;
 * births name them all, data says what has changed since it was last said. A value that
 * outlives its device's death is stale until it is read again.
 *
 * What a metric is never changes once births_new() has returned, so that any thread may
 * look one up; their values belong to the edge node's thread.
 */
#ifndef BRIDGE_PUBLISH_BIRTHS_H
#define BRIDGE_PUBLISH_BIRTHS_H

#include "bridge/model/outcome.h"
#include "bridge/model/sample.h"
#include "bridge/site/conf.h"
#include "bridge/wire/sparkplug.h"

struct births;

/* NULL when out of memory. */
struct births *births_new(const struct conf *conf);
void births_free(struct births *births);

/* Any thread: the index of the device of this name, -1: there is none. */
int births_find_device(const struct births *births, const char *name);

/* Any thread: which point a metric of a command means, by its name on this device, or where
 * that is "" by its alias: one of an earlier birth may be another's by now. <point>_code
 * means the point as well. -1: there is no such metric. */
int births_find(const struct births *births, unsigned device, uint64_t alias, const char *name);

/* Takes over the values of a sample of the device. */
void births_take(struct births *births, unsigned device, const struct sample *sample);

/* The device has died. */
void births_stale(struct births *births, unsigned device);

/* Takes over what came of a command. */
void births_take_outcome(struct births *births, const struct outcome *outcome, int64_t ts_ms);

/* Whether the device has metrics by now that its last birth did not have. */
bool births_is_due(const struct births *births, unsigned device);

/* The metrics of the device's birth, in order of their time; or with `changed` those
 * alone that have changed since they were last told. At most births_most(). Valid until
 * the values change. Whoever has sent them says so by births_told(): a birth is no
 * answer to a command, which is told as data all the same. */
unsigned births_metrics(struct births *births, unsigned device, bool changed, int64_t now_ms,
                        struct sparkplug_metric *metrics);
void births_told(struct births *births, unsigned device, bool birth);

/* The metrics of a sample that is history: every value it has, by alias. `values` has
 * room for births_most(); `*texts` for BIRTHS_TEXT_MAX of each point, and is moved on. */
enum { BIRTHS_TEXT_MAX = POINT_TEXT_MAX + 1 };
unsigned births_history(const struct births *births, unsigned device, const struct sample *sample,
                        struct sparkplug_metric *metrics, struct sparkplug_value *values,
                        char **texts);

/* The most metrics that any device has. */
unsigned births_most(const struct births *births);

#endif
