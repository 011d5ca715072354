#include "bridge/publish/node_history.h"

#include <stdlib.h>

/* Of one payload; the last scan may exceed them. */
enum { SCANS_MAX = 64, METRICS_MAX = 512, TEXTS_MAX = 16 * 1024 };

struct node_history {
    const struct births *births;
    struct scans *scans;
    struct scans_item item;
    struct value read[PROFILE_POINTS_MAX];
    struct sparkplug_metric *metrics;
    struct sparkplug_value *values;
    char *texts;
};

struct node_history *node_history_new(const struct births *births, struct scans *scans)
{
    const size_t most = births_most(births);
    struct node_history *history = calloc(1, sizeof(*history));
    if (history == NULL)
        return NULL;
    history->births = births;
    history->scans = scans;
    history->metrics = calloc(most + METRICS_MAX, sizeof(*history->metrics));
    history->values = calloc(most + METRICS_MAX, sizeof(*history->values));
    history->texts = malloc(TEXTS_MAX + most * BIRTHS_TEXT_MAX);
    if (history->metrics == NULL || history->values == NULL || history->texts == NULL) {
        node_history_free(history);
        return NULL;
    }
    return history;
}

void node_history_free(struct node_history *history)
{
    if (history == NULL)
        return;
    free(history->metrics);
    free(history->values);
    free(history->texts);
    free(history);
}

unsigned node_history_take(struct node_history *history, const bool *may, unsigned *device,
                           const struct sparkplug_metric **metrics)
{
    const struct scans_item *item = &history->item;
    unsigned n = 0;
    char *texts = history->texts;
    struct sample sample;
    *device = SCANS_ANY;
    for (unsigned i = 0; i < SCANS_MAX && n < METRICS_MAX && texts < history->texts + TEXTS_MAX;
         i++) {
        if (!scans_take_history(history->scans, may, device, &history->item))
            break;
        if (sample_unpack(item->layout, item->packed, item->size, &sample, history->read))
            n += births_history(history->births, *device, &sample, &history->metrics[n],
                                &history->values[n], &texts);
    }
    *metrics = history->metrics;
    return n;
}
