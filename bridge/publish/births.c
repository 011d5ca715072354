#include "bridge/publish/births.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/publish/node_metrics.h"
#include "devices/registers/codec.h"

struct births {
    unsigned n_devices, most;
    struct node_device devices[];
};

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
        if (!node_device_fill(node, &list->devices[i], conf->ha_enabled && list->devices[i].battery,
                              &alias)) {
            births_free(births);
            return NULL;
        }
        const unsigned most = node->n + node->device->n_points * N_PARTS;
        if (most > births->most)
            births->most = most;
    }
    return births;
}

void births_free(struct births *births)
{
    if (births == NULL)
        return;
    for (unsigned i = 0; i < births->n_devices; i++)
        node_device_free(&births->devices[i]);
    free(births);
}

unsigned births_most(const struct births *births)
{
    return births->most;
}

int births_find_device(const struct births *births, const char *name)
{
    unsigned i = 0;
    while (i < births->n_devices && strcmp(births->devices[i].device->name, name) != 0)
        i++;
    return i < births->n_devices ? (int)i : -1;
}

int births_find(const struct births *births, unsigned device, uint64_t alias, const char *name)
{
    return node_device_find(&births->devices[device], alias, name);
}

/* ---- values ---- */

/* What a metric is in a sample; false when the sample says nothing of it. A text that is
 * not the row's own label is put into `room`, of BIRTHS_TEXT_MAX. */
static bool look_up(const struct metric *metric, const struct point *row,
                    const struct sample *sample, struct sparkplug_value *value, char *room)
{
    *value = (struct sparkplug_value){.is_null = false};
    if (metric->kind == KIND_CHARGED || metric->kind == KIND_DISCHARGED) {
        value->number = metric->kind == KIND_CHARGED ? sample->charged_kwh : sample->discharged_kwh;
        return sample->has_energy;
    }
    const struct value *read = &sample->values[metric->point];
    if (read->state == VALUE_ABSENT)
        return false;
    value->is_null = read->state != VALUE_READ;
    if (value->is_null)
        return true;
    value->integer = (int64_t)read->raw;
    if (metric->type == SPARKPLUG_DOUBLE) {
        char digits[CODEC_TEXT_MAX];
        codec_print(row, read, digits); /* as in JSON: 0.95, and not the float32 next to it */
        value->number = strtod(digits, NULL);
    }
    if (metric->type != SPARKPLUG_STRING)
        return true;
    value->text = row->enumerated ? point_label(row, value->integer) : NULL;
    if (value->text != NULL)
        return true;
    if (row->enumerated)
        (void)snprintf(room, BIRTHS_TEXT_MAX, "code_%lld", (long long)value->integer);
    else
        (void)snprintf(room, BIRTHS_TEXT_MAX, "%s", read->text);
    value->text = room;
    return true;
}

static bool is_same(enum sparkplug_type type, const struct sparkplug_value *a,
                    const struct sparkplug_value *b)
{
    if (a->is_null || b->is_null)
        return a->is_null == b->is_null;
    switch (type) {
    case SPARKPLUG_STRING:
        return a->text != NULL && b->text != NULL && strcmp(a->text, b->text) == 0;
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
    metric->ts_ms = ts_ms;
    metric->value = *value;
    metric->value.text = metric->text;
    if (metric->type == SPARKPLUG_STRING && !value->is_null)
        (void)snprintf(metric->text, SPARKPLUG_TEXT_MAX + 1, "%s", value->text);
}

/* The same registers as before say the same: nothing has to be made of them anew. */
static bool is_as_before(const struct metric *metric, const struct sample *sample)
{
    const struct value *read = &sample->values[metric->point];
    return (metric->kind == KIND_VALUE || metric->kind == KIND_CODE) && read->state == VALUE_READ &&
           metric->quality == SPARKPLUG_GOOD && metric->raw == read->raw &&
           metric->exponent == read->exponent &&
           sample->layout->points[metric->point].type != POINT_STRING;
}

void births_take(struct births *births, unsigned device, const struct sample *sample)
{
    struct node_device *node = &births->devices[device];
    struct sparkplug_value value;
    char room[BIRTHS_TEXT_MAX];
    for (unsigned i = 0; i < node->n; i++) {
        struct metric *metric = &node->metrics[i];
        if (is_as_before(metric, sample)) {
            metric->ts_ms = sample->ts_ms;
        } else if (look_up(metric, &node->device->points[metric->point], sample, &value, room)) {
            set(metric, &value, value.is_null ? SPARKPLUG_BAD : SPARKPLUG_GOOD, sample->ts_ms);
            metric->raw = sample->values[metric->point].raw;
            metric->exponent = sample->values[metric->point].exponent;
        }
    }
}

void births_stale(struct births *births, unsigned device)
{
    struct node_device *node = &births->devices[device];
    for (unsigned i = 0; i < node->n; i++) {
        if (!node->metrics[i].value.is_null)
            node->metrics[i].quality = SPARKPLUG_STALE;
    }
}

static struct sparkplug_value part_of(const struct outcome *outcome, enum part part,
                                      const struct sparkplug_value *before)
{
    const struct command *command = &outcome->command;
    struct sparkplug_value value = {.is_null = false};
    switch (part) {
    case PART_ID:
        value.text = command->id;
        break;
    case PART_REQUESTED:
        value.number = command->value;
        value.is_null = !command->has_value;
        break;
    case PART_OUTCOME:
        value.text = outcome_word(outcome->kind);
        break;
    case PART_REASON:
        value.text = outcome_why(outcome);
        break;
    case PART_DETAIL:
        value.text = outcome->detail;
        break;
    case PART_READBACK:
        value.number = outcome->readback;
        value.is_null = !outcome->has_readback;
        break;
    case PART_AUDITED:
        value.integer = !outcome->unaudited;
        break;
    case PART_COUNT:
        value.integer = before->is_null ? 1 : before->integer + 1;
        break;
    case N_PARTS:
        break;
    }
    if (value.text != NULL)
        value.is_null = value.text[0] == '\0';
    return value;
}

void births_take_outcome(struct births *births, const struct outcome *outcome, int64_t ts_ms)
{
    const struct command *command = &outcome->command;
    struct node_device *node = &births->devices[command->device];
    if (node->answers[command->point] == NULL) {
        if (!node_device_add_answer(node, command->point))
            return;
        node->is_due = true;
    }
    for (enum part part = 0; part < N_PARTS; part++) {
        struct metric *metric = &node->answers[command->point]->parts[part];
        const struct sparkplug_value value = part_of(outcome, part, &metric->value);
        set(metric, &value, SPARKPLUG_NO_QUALITY, ts_ms);
        metric->changed = true; /* all of them together, in one message */
    }
}

bool births_is_due(const struct births *births, unsigned device)
{
    return births->devices[device].is_due;
}

/* ---- messages ---- */

/* A birth says all of a metric; data its alias, its value, and what is new of it. */
static unsigned put_metric(const struct metric *metric, bool changed, int64_t now_ms,
                           struct sparkplug_metric *out)
{
    if (changed && !metric->changed)
        return 0;
    *out = (struct sparkplug_metric){
        .name = changed ? NULL : metric->name,
        .alias = metric->alias,
        .ts_ms = metric->ts_ms != 0 ? metric->ts_ms : now_ms,
        .type = metric->type,
        .value = &metric->value,
        .quality =
            changed && metric->quality == metric->told ? SPARKPLUG_NO_QUALITY : metric->quality,
        .unit = changed ? NULL : metric->unit,
    };
    return 1;
}

static int by_time(const void *a, const void *b)
{
    const struct sparkplug_metric *one = a, *two = b;
    if (one->ts_ms != two->ts_ms)
        return one->ts_ms < two->ts_ms ? -1 : 1;
    return one->alias < two->alias ? -1 : one->alias > two->alias;
}

unsigned births_metrics(struct births *births, unsigned device, bool changed, int64_t now_ms,
                        struct sparkplug_metric *metrics)
{
    const struct node_device *node = &births->devices[device];
    unsigned n = 0;
    for (unsigned i = 0; i < node->n; i++)
        n += put_metric(&node->metrics[i], changed, now_ms, &metrics[n]);
    for (unsigned i = 0; i < node->device->n_points; i++) {
        const struct answer *answer = node->answers[i];
        for (unsigned part = 0; answer != NULL && part < N_PARTS; part++)
            n += put_metric(&answer->parts[part], changed, now_ms, &metrics[n]);
    }
    if (n > 1)
        qsort(metrics, n, sizeof(*metrics), by_time);
    return n;
}

static void tell(struct metric *metric)
{
    metric->changed = false;
    metric->told = metric->quality;
}

void births_told(struct births *births, unsigned device, bool birth)
{
    struct node_device *node = &births->devices[device];
    for (unsigned i = 0; i < node->n; i++)
        tell(&node->metrics[i]);
    for (unsigned i = 0; !birth && i < node->device->n_points; i++) {
        struct answer *answer = node->answers[i];
        for (unsigned part = 0; answer != NULL && part < N_PARTS; part++)
            tell(&answer->parts[part]);
    }
    if (birth)
        node->is_due = false;
}

unsigned births_history(const struct births *births, unsigned device, const struct sample *sample,
                        struct sparkplug_metric *metrics, struct sparkplug_value *values,
                        char **texts)
{
    const struct node_device *node = &births->devices[device];
    unsigned n = 0;
    for (unsigned i = 0; i < node->n; i++) {
        const struct metric *metric = &node->metrics[i];
        if (!look_up(metric, &node->device->points[metric->point], sample, &values[n], *texts))
            continue;
        if (values[n].text != NULL && values[n].text == *texts)
            *texts += strlen(*texts) + 1;
        metrics[n] = (struct sparkplug_metric){
            .alias = metric->alias,
            .ts_ms = sample->ts_ms,
            .type = metric->type,
            .historical = true,
            .value = &values[n],
            .quality = values[n].is_null                ? SPARKPLUG_BAD
                       : metric->told != SPARKPLUG_GOOD ? SPARKPLUG_GOOD
                                                        : SPARKPLUG_NO_QUALITY,
        };
        n++;
    }
    return n;
}
