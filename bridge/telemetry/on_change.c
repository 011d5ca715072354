#include "bridge/telemetry/on_change.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct on_change {
    const struct device *device;
    int64_t until_ns; /* the end of the longest silence */
    bool begun;
    struct value last[]; /* as published; none where every scan is */
};

struct on_change *on_change_new(const struct device *device)
{
    const unsigned n_last = device->longest_silence_ns != 0 ? device->n_points : 0;
    struct on_change *change = calloc(1, sizeof(*change) + n_last * sizeof(change->last[0]));
    if (change != NULL)
        change->device = device;
    return change;
}

void on_change_free(struct on_change *change)
{
    free(change);
}

static bool differs(const struct point *point, const struct value *last, const struct value *now)
{
    if (now->state == VALUE_ABSENT)
        return false; /* not due in this scan: nothing new of it */
    if (now->state != last->state || now->fault != last->fault)
        return true;
    if (now->state == VALUE_READ && point->type == POINT_STRING)
        return now->raw != last->raw;
    return now->state == VALUE_READ && fabs(now->number - last->number) > point->deadband;
}

bool on_change_is_news(struct on_change *change, const struct value *values, int64_t now_ns)
{
    const struct device *device = change->device;
    if (device->longest_silence_ns == 0)
        return true;
    bool news = !change->begun || now_ns >= change->until_ns;
    for (unsigned i = 0; i < device->n_points && !news; i++)
        news = differs(&device->points[i], &change->last[i], &values[i]);
    if (!news)
        return false;
    change->begun = true;
    change->until_ns = now_ns + device->longest_silence_ns;
    for (unsigned i = 0; i < device->n_points; i++) {
        if (values[i].state != VALUE_ABSENT)
            change->last[i] = values[i];
    }
    return true;
}
