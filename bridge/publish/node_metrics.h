/* node_metrics: the metrics of a Sparkplug device: what each is called, its alias, its
 * datatype, and the room for the value it has now.
 *
 * The points by name (numbers Double, raw integers and codes Int64, labels and texts
 * String, flags Boolean), what the bridge integrates, and for each point that takes
 * commands, or was asked to change, Command/<point>/... with what came of the last one.
 * An alias is a matter of the configuration alone, so that it stays when answers come.
 *
 * What a metric is never changes; its value belongs to births (bridge/publish/births.h).
 */
#ifndef BRIDGE_PUBLISH_NODE_METRICS_H
#define BRIDGE_PUBLISH_NODE_METRICS_H

#include "bridge/site/conf.h"
#include "bridge/wire/sparkplug.h"

/* What came of a point's last command. */
enum part {
    PART_ID,
    PART_REQUESTED,
    PART_OUTCOME,
    PART_REASON,
    PART_DETAIL,
    PART_READBACK,
    PART_AUDITED,
    PART_COUNT,
    N_PARTS
};

enum metric_kind { KIND_VALUE, KIND_CODE, KIND_CHARGED, KIND_DISCHARGED };

struct metric {
    char *name;
    uint64_t alias;
    enum metric_kind kind;
    unsigned point;
    enum sparkplug_type type;
    const char *unit;
    /* as it is now */
    int64_t ts_ms;                        /* 0 = nothing is known yet */
    enum sparkplug_quality quality, told; /* told: as last sent */
    struct sparkplug_value value;
    char *text;   /* room of SPARKPLUG_TEXT_MAX + 1 for a String's; NULL for others */
    uint64_t raw; /* of what was read, so that the same again costs nothing */
    int exponent;
    bool changed;
};

/* What came of a point's last command. */
struct answer {
    struct metric parts[N_PARTS];
};

struct node_device {
    const struct device *device;
    unsigned n;
    struct metric *metrics;
    uint64_t answers_alias;  /* the last before those of the first point's answer */
    struct answer **answers; /* by point; NULL = it was never asked to change */
    bool is_due;             /* an answer is there that the last birth did not have */
};

/* Fills in a zeroed one; `*alias` is the last that is taken. False when out of memory:
 * free what there is. */
bool node_device_fill(struct node_device *node, const struct device *device, bool has_energy,
                      uint64_t *alias);
void node_device_free(struct node_device *node);

/* From now on the point has an answer. False when out of memory. */
bool node_device_add_answer(struct node_device *node, unsigned point);

/* The point that a metric tells the value or the code of, by its name, or by alias when
 * that is "". -1: none. */
int node_device_find(const struct node_device *node, uint64_t alias, const char *name);

#endif
