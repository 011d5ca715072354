/* births: the metrics of a Sparkplug edge node and of its devices.
 *
 * What each is called, its alias, its datatype, and the value it has now. An alias
 * belongs to one metric of one device for as long as the configuration is the same;
 * births name them all, data says what has changed since it was last said.
 *
 * Metrics of a device: its points by name (numbers Double, raw integers and codes
 * Int64, labels and texts String, flags Boolean), what the bridge integrates, and for
 * each point that takes commands, or was asked to, Command/<point>/... with what came
 * of the last one.
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

/* Any thread: which point a metric of a command means, by its alias, or by its name on
 * this device. -1: none that could be commanded. */
int births_find(const struct births *births, unsigned device, uint64_t alias, const char *name);

/* Takes over the values of a sample of the device. */
void births_take(struct births *births, unsigned device, const struct sample *sample);

/* Takes over what came of a command. True when its metrics have not been born yet: then
 * the device has to be born anew before they are told. */
bool births_take_outcome(struct births *births, const struct outcome *outcome, int64_t ts_ms);

/* The metrics of the device's birth; or with `changed` those alone that have changed
 * since they were last told. At most births_most(). Valid until the values change.
 * Whoever has sent them says so by births_told(). */
unsigned births_metrics(struct births *births, unsigned device, bool changed, int64_t now_ms,
                        struct sparkplug_metric *metrics);
void births_told(struct births *births, unsigned device, bool birth);

/* The metrics of a sample that is history: every value it has, by alias. `values` has
 * room for births_most(). */
unsigned births_history(const struct births *births, unsigned device, const struct sample *sample,
                        struct sparkplug_metric *metrics, struct sparkplug_value *values);

/* The most metrics that any device has. */
unsigned births_most(const struct births *births);

#endif
