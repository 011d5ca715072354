#include "bridge/publish/node_metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/model/sample.h"
#include "devices/registers/codec.h"

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
    [PART_AUDITED] = {"Audited", SPARKPLUG_BOOLEAN},
    [PART_COUNT] = {"Count", SPARKPLUG_INT64},
};

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

static bool make(struct metric *metric, const char *before, const char *name, const char *behind)
{
    char whole[SPARKPLUG_NAME_MAX + 1];
    (void)snprintf(whole, sizeof(whole), "%s%s%s", before, name, behind);
    metric->name = strdup(whole);
    metric->text = metric->type == SPARKPLUG_STRING ? calloc(1, SPARKPLUG_TEXT_MAX + 1) : NULL;
    metric->value = (struct sparkplug_value){.is_null = true, .text = metric->text};
    return metric->name != NULL && (metric->text != NULL || metric->type != SPARKPLUG_STRING);
}

static void unmake(struct metric *metric)
{
    free(metric->name);
    free(metric->text);
}

static bool add(struct node_device *node, uint64_t *alias, enum metric_kind kind, unsigned point,
                const char *name)
{
    const struct point *row = &node->device->points[point];
    struct metric *metric = &node->metrics[node->n++];
    *metric = (struct metric){
        .kind = kind,
        .point = point,
        .alias = ++*alias,
        .type = kind == KIND_VALUE  ? type_of(row)
                : kind == KIND_CODE ? SPARKPLUG_INT64
                                    : SPARKPLUG_DOUBLE,
        .unit = kind == KIND_VALUE  ? row->unit
                : kind == KIND_CODE ? NULL
                                    : "kWh",
        .quality = SPARKPLUG_BAD,
    };
    return make(metric, "", name, kind == KIND_CODE ? "_code" : "");
}

static void drop_answer(struct answer *answer)
{
    for (unsigned part = 0; answer != NULL && part < N_PARTS; part++)
        unmake(&answer->parts[part]);
    free(answer);
}

bool node_device_add_answer(struct node_device *node, unsigned point)
{
    const struct point *row = &node->device->points[point];
    char before[SPARKPLUG_NAME_MAX + 1];
    struct answer *answer = calloc(1, sizeof(*answer));
    bool good = answer != NULL;
    (void)snprintf(before, sizeof(before), "Command/%s/", row->name);
    for (unsigned part = 0; good && part < N_PARTS; part++) {
        struct metric *metric = &answer->parts[part];
        *metric = (struct metric){
            .point = point,
            .alias = node->answers_alias + (uint64_t)point * N_PARTS + part + 1,
            .type = parts[part].type,
            .unit = parts[part].type == SPARKPLUG_DOUBLE ? row->unit : NULL,
            .quality = SPARKPLUG_NO_QUALITY,
            .told = SPARKPLUG_NO_QUALITY,
        };
        good = make(metric, before, parts[part].name, "");
    }
    if (!good) {
        drop_answer(answer);
        return false;
    }
    node->answers[point] = answer;
    return true;
}

bool node_device_fill(struct node_device *node, const struct device *device, bool has_energy,
                      uint64_t *alias)
{
    node->device = device;
    node->metrics = calloc(2 * device->n_points + 2, sizeof(*node->metrics));
    node->answers = calloc(device->n_points, sizeof(struct answer *));
    bool good = node->metrics != NULL && node->answers != NULL;
    for (unsigned i = 0; good && i < device->n_points; i++) {
        const struct point *point = &device->points[i];
        good = add(node, alias, KIND_VALUE, i, point->name) &&
               (!point->enumerated || add(node, alias, KIND_CODE, i, point->name));
    }
    if (good && has_energy)
        good = add(node, alias, KIND_CHARGED, 0, SAMPLE_CHARGED) &&
               add(node, alias, KIND_DISCHARGED, 0, SAMPLE_DISCHARGED);
    node->answers_alias = *alias;
    *alias += (uint64_t)device->n_points * N_PARTS;
    for (unsigned i = 0; good && i < device->n_points; i++)
        good = !device_may_write(device, i) || node_device_add_answer(node, i);
    return good;
}

void node_device_free(struct node_device *node)
{
    for (unsigned i = 0; node->metrics != NULL && i < node->n; i++)
        unmake(&node->metrics[i]);
    for (unsigned i = 0; node->answers != NULL && i < node->device->n_points; i++)
        drop_answer(node->answers[i]);
    free(node->metrics);
    free(node->answers);
}

int node_device_find(const struct node_device *node, uint64_t alias, const char *name)
{
    for (unsigned i = 0; i < node->n; i++) {
        const struct metric *metric = &node->metrics[i];
        bool meant = name[0] != '\0' ? strcmp(metric->name, name) == 0 : metric->alias == alias;
        if (meant && (metric->kind == KIND_VALUE || metric->kind == KIND_CODE))
            return (int)metric->point;
    }
    return -1;
}
