#include "bridge/publish/births.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/registers/codec.h"

/* What came of a point's last command. */
enum part {
    PART_ID,
    PART_REQUESTED,
    PART_OUTCOME,
    PART_REASON,
    PART_DETAIL,
    PART_READBACK,
    PART_COUNT,
    N_PARTS
};

static const struct {
    const char *name;
    enum sparkplug_type type;
} parts[N_PARTS] = {
    [PART_ID] = {"Id", SPARKPLUG_STRING},
    [PART_REQUESTED] = {"Requested", SPARKPLUG_DOUBLE},
    [PART_OUTCOME] = {"Outcome", SPARKPLUG_STRING},
    [PART_REASON] = {"Reason", SPARKPLUG_STRING},
    [PART_DETAIL] = {"Detail", SPARKPLUG_STRING},
    [PART_READBACK] = {"Readback", SPARKPLUG_DOUBLE},
    [PART_COUNT] = {"Count", SPARKPLUG_INT64},
};

enum kind { KIND_VALUE, KIND_CODE, KIND_CHARGED, KIND_DISCHARGED, KIND_COMMAND };

struct metric {
    char name[SPARKPLUG_NAME_MAX + 1];
    enum kind kind;
    enum part part; /* KIND_COMMAND */
    unsigned point;
    uint64_t alias;
    enum sparkplug_type type;
    const char *unit;
    /* as it is now */
    int64_t ts_ms;
    enum sparkplug_quality quality, told; /* told: as last sent */
    struct sparkplug_value value;
    bool changed;
};

struct node_device {
    const struct device *device;
    unsigned n;
    struct metric *metrics;
    bool *asked; /* by point: its Command metrics are part of a birth */
    bool reborn; /* asked has changed since the last birth */
};

struct births {
    unsigned n_devices, most;
    struct node_device devices[];
};

/* ---- what there is ---- */

static enum sparkplug_type type_of(const struct point *point)
{
    if (point->enumerated || point->type == POINT_STRING)
        return SPARKPLUG_STRING;
    if (point->type == POINT_BOOL)
        return SPARKPLUG_BOOLEAN;
    bool raw = codec_step(point) == 1.0 && point->offset == 0.0 && point->unit[0] == '\0' &&
               point->scale_row == 0 && point->type != POINT_UINT64;
    return raw ? SPARKPLUG_INT64 : SPARKPLUG_DOUBLE;
}

static void add(struct node_device *device, uint64_t *alias, enum kind kind, unsigned point,
                const char *name, const char *suffix, enum sparkplug_type type, const char *unit)
{
    struct metric *metric = &device->metrics[device->n++];
    *metric = (struct metric){
        .kind = kind,
        .point = point,
        .alias = ++*alias,
        .type = type,
        .unit = unit,
        .quality = SPARKPLUG_BAD,
        .value.is_null = true,
    };
    (void)snprintf(metric->name, sizeof(metric->name), "%s%s", name, suffix);
}

static void add_commands(struct node_device *device, uint64_t *alias, unsigned point)
{
    const struct point *row = &device->device->points[point];
    for (enum part part = 0; part < N_PARTS; part++) {
        char name[SPARKPLUG_NAME_MAX + 1];
        (void)snprintf(name, sizeof(name), "Command/%s/", row->name);
        bool number = parts[part].type == SPARKPLUG_DOUBLE;
        add(device, alias, KIND_COMMAND, point, name, parts[part].name, parts[part].type,
            number ? row->unit : NULL);
        device->metrics[device->n - 1].part = part;
        device->metrics[device->n - 1].quality = SPARKPLUG_NO_QUALITY;
    }
}

static bool fill(struct node_device *node, const struct device *device, bool has_energy,
                 uint64_t *alias)
{
    const unsigned per_point = 2 + N_PARTS;
    node->device = device;
    node->metrics = calloc(device->n_points * per_point + 2, sizeof(*node->metrics));
    node->asked = calloc(device->n_points, sizeof(*node->asked));
    if (node->metrics == NULL || node->asked == NULL)
        return false;
    for (unsigned i = 0; i < device->n_points; i++) {
        const struct point *point = &device->points[i];
        add(node, alias, KIND_VALUE, i, point->name, "", type_of(point), point->unit);
        if (point->enumerated)
            add(node, alias, KIND_CODE, i, point->name, "_code", SPARKPLUG_INT64, NULL);
        node->asked[i] = device_may_write(device, i);
    }
    if (has_energy) {
        add(node, alias, KIND_CHARGED, 0, SAMPLE_CHARGED, "", SPARKPLUG_DOUBLE, "kWh");
        add(node, alias, KIND_DISCHARGED, 0, SAMPLE_DISCHARGED, "", SPARKPLUG_DOUBLE, "kWh");
    }
    for (unsigned i = 0; i < device->n_points; i++)
        add_commands(node, alias, i);
    return true;
}

struct births *births_new(const struct conf *conf)
{
    const struct device_list *list = &conf->devices;
    struct births *births =
        calloc(1, sizeof(*births) + list->n_devices * sizeof(struct node_device));
    uint64_t alias = 0;
    if (births == NULL)
        return NULL;
    births->n_devices = list->n_devices;
    for (unsigned i = 0; i < list->n_devices; i++) {
        struct node_device *node = &births->devices[i];
        if (!fill(node, &list->devices[i], conf->ha_enabled && list->devices[i].battery, &alias)) {
            births_free(births);
            return NULL;
        }
        if (node->n > births->most)
            births->most = node->n;
    }
    return births;
}

void births_free(struct births *births)
{
    if (births == NULL)
        return;
    for (unsigned i = 0; i < births->n_devices; i++) {
        free(births->devices[i].metrics);
        free(births->devices[i].asked);
    }
    free(births);
}

unsigned births_most(const struct births *births)
{
    return births->most;
}

int births_find(const struct births *births, unsigned device, uint64_t alias, const char *name)
{
    const struct node_device *node = &births->devices[device];
    for (unsigned i = 0; i < node->n; i++) {
        const struct metric *metric = &node->metrics[i];
        bool meant = alias != 0 ? metric->alias == alias : strcmp(metric->name, name) == 0;
        if (meant && metric->kind == KIND_VALUE)
            return (int)metric->point;
    }
    return -1;
}

/* ---- values ---- */

/* What a metric is in a sample; false when the sample says nothing of it. */
static bool look_up(const struct metric *metric, const struct point *row,
                    const struct sample *sample, struct sparkplug_value *value)
{
    *value = (struct sparkplug_value){.is_null = false};
    if (metric->kind == KIND_CHARGED || metric->kind == KIND_DISCHARGED) {
        value->number = metric->kind == KIND_CHARGED ? sample->charged_kwh : sample->discharged_kwh;
        return sample->has_energy;
    }
    const struct value *read = &sample->values[metric->point];
    if (metric->kind == KIND_COMMAND || read->state == VALUE_ABSENT)
        return false;
    value->is_null = read->state != VALUE_READ;
    if (value->is_null)
        return true;
    value->integer = (int64_t)read->raw;
    value->number = codec_decimal(row, read->number);
    if (metric->type != SPARKPLUG_STRING)
        return true;
    const char *label = row->enumerated ? point_label(row, value->integer) : read->text;
    if (label != NULL)
        (void)snprintf(value->text, sizeof(value->text), "%s", label);
    else
        (void)snprintf(value->text, sizeof(value->text), "code_%lld", (long long)value->integer);
    return true;
}

static bool is_same(enum sparkplug_type type, const struct sparkplug_value *a,
                    const struct sparkplug_value *b)
{
    if (a->is_null || b->is_null)
        return a->is_null == b->is_null;
    switch (type) {
    case SPARKPLUG_STRING:
        return strcmp(a->text, b->text) == 0;
    case SPARKPLUG_DOUBLE:
        return a->number == b->number;
    default:
        return a->integer == b->integer;
    }
}

static void set(struct metric *metric, const struct sparkplug_value *value,
                enum sparkplug_quality quality, int64_t ts_ms)
{
    metric->changed = metric->changed || quality != metric->quality ||
                      !is_same(metric->type, value, &metric->value);
    metric->quality = quality;
    metric->value = *value;
    metric->ts_ms = ts_ms;
}

void births_take(struct births *births, unsigned device, const struct sample *sample)
{
    struct node_device *node = &births->devices[device];
    struct sparkplug_value value;
    for (unsigned i = 0; i < node->n; i++) {
        struct metric *metric = &node->metrics[i];
        if (look_up(metric, &node->device->points[metric->point], sample, &value))
            set(metric, &value, value.is_null ? SPARKPLUG_BAD : SPARKPLUG_GOOD, sample->ts_ms);
    }
}

static struct sparkplug_value part_of(const struct outcome *outcome, enum part part,
                                      const struct sparkplug_value *before)
{
    const struct command *command = &outcome->command;
    struct sparkplug_value value = {.is_null = false};
    switch (part) {
    case PART_ID:
        (void)snprintf(value.text, sizeof(value.text), "%s", command->id);
        value.is_null = command->id[0] == '\0';
        break;
    case PART_REQUESTED:
        value.number = command->value;
        value.is_null = !command->has_value;
        break;
    case PART_OUTCOME:
        (void)snprintf(value.text, sizeof(value.text), "%s", outcome_word(outcome->kind));
        break;
    case PART_REASON:
        (void)snprintf(value.text, sizeof(value.text), "%s", outcome_why(outcome));
        value.is_null = value.text[0] == '\0';
        break;
    case PART_DETAIL:
        (void)snprintf(value.text, sizeof(value.text), "%s", outcome->detail);
        value.is_null = value.text[0] == '\0';
        break;
    case PART_READBACK:
        value.number = outcome->readback;
        value.is_null = !outcome->has_readback;
        break;
    case PART_COUNT:
        value.integer = before->is_null ? 1 : before->integer + 1;
        break;
    case N_PARTS:
        break;
    }
    return value;
}

bool births_take_outcome(struct births *births, const struct outcome *outcome, int64_t ts_ms)
{
    const struct command *command = &outcome->command;
    struct node_device *node = &births->devices[command->device];
    for (unsigned i = 0; i < node->n; i++) {
        struct metric *metric = &node->metrics[i];
        if (metric->kind != KIND_COMMAND || metric->point != command->point)
            continue;
        const struct sparkplug_value value = part_of(outcome, metric->part, &metric->value);
        set(metric, &value, SPARKPLUG_NO_QUALITY, ts_ms);
        metric->changed = true; /* all of them together, in one message */
    }
    node->reborn = node->reborn || !node->asked[command->point];
    node->asked[command->point] = true;
    return node->reborn;
}

/* ---- messages ---- */

static bool is_born(const struct node_device *node, const struct metric *metric)
{
    return metric->kind != KIND_COMMAND || node->asked[metric->point];
}

unsigned births_metrics(struct births *births, unsigned device, bool changed, int64_t now_ms,
                        struct sparkplug_metric *metrics)
{
    const struct node_device *node = &births->devices[device];
    unsigned n = 0;
    for (unsigned i = 0; i < node->n; i++) {
        const struct metric *metric = &node->metrics[i];
        if (!is_born(node, metric) || (changed && !metric->changed))
            continue;
        metrics[n++] = (struct sparkplug_metric){
            .name = changed ? NULL : metric->name,
            .alias = metric->alias,
            .ts_ms = metric->ts_ms != 0 ? metric->ts_ms : now_ms,
            .type = metric->type,
            .value = &metric->value,
            .quality =
                changed && metric->quality == metric->told ? SPARKPLUG_NO_QUALITY : metric->quality,
            .unit = changed ? NULL : metric->unit,
        };
    }
    return n;
}

void births_told(struct births *births, unsigned device, bool birth)
{
    struct node_device *node = &births->devices[device];
    for (unsigned i = 0; i < node->n; i++) {
        struct metric *metric = &node->metrics[i];
        metric->changed = metric->changed && !is_born(node, metric);
        metric->told = metric->quality;
    }
    if (birth)
        node->reborn = false;
}

unsigned births_history(const struct births *births, unsigned device, const struct sample *sample,
                        struct sparkplug_metric *metrics, struct sparkplug_value *values)
{
    const struct node_device *node = &births->devices[device];
    unsigned n = 0;
    for (unsigned i = 0; i < node->n; i++) {
        const struct metric *metric = &node->metrics[i];
        if (!look_up(metric, &node->device->points[metric->point], sample, &values[n]))
            continue;
        metrics[n] = (struct sparkplug_metric){
            .alias = metric->alias,
            .ts_ms = sample->ts_ms,
            .type = metric->type,
            .historical = true,
            .value = &values[n],
            .quality = values[n].is_null ? SPARKPLUG_BAD : SPARKPLUG_NO_QUALITY,
        };
        n++;
    }
    return n;
}
