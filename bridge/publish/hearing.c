#include "bridge/publish/hearing.h"

#include <stdio.h>

#include "bridge/base/clock.h"
#include "bridge/wire/topic.h"

typedef bool asker(struct mqtt *mqtt, const char *filter);

void hearing_init(struct hearing *hearing, const struct conf *conf)
{
    hearing->conf = conf;
    pthread_mutex_init(&hearing->mutex, NULL);
    clock_cond_init(&hearing->deafness);
}

void hearing_destroy(struct hearing *hearing)
{
    pthread_cond_destroy(&hearing->deafness);
    pthread_mutex_destroy(&hearing->mutex);
}

static void set_deaf(struct hearing *hearing)
{
    pthread_mutex_lock(&hearing->mutex);
    hearing->is_deaf = true;
    pthread_cond_signal(&hearing->deafness);
    pthread_mutex_unlock(&hearing->mutex);
}

/* One less is to be waited for. */
static bool count_answer(struct hearing *hearing)
{
    if (atomic_fetch_sub(&hearing->n_asked, 1) != 1)
        return false;
    const bool is_over = atomic_load(&hearing->is_over);
    if (is_over)
        set_deaf(hearing);
    return !is_over;
}

bool hearing_answered(struct hearing *hearing, const char *filter)
{
    char device[TOPIC_MAX + 1], point[TOPIC_MAX + 1];
    return topic_parse(hearing->conf, filter, device, point) && count_answer(hearing);
}

/* One filter more. */
static void for_filter(struct hearing *hearing, struct mqtt *mqtt, bool made, const char *filter,
                       asker *ask)
{
    atomic_fetch_add(&hearing->n_asked, 1);
    if (!made || !ask(mqtt, filter))
        atomic_fetch_sub(&hearing->n_asked, 1);
}

static void for_device(struct hearing *hearing, struct mqtt *mqtt, const struct device *device,
                       asker *ask)
{
    const struct conf *conf = hearing->conf;
    char filter[TOPIC_MAX + 1], leaf[TOPIC_MAX + 1];
    for (unsigned point = 0; point < device->n_points; point++) {
        if (!device_may_write(device, point))
            continue;
        snprintf(leaf, sizeof(leaf), "set/%s", device->points[point].name);
        for_filter(hearing, mqtt, topic_make(filter, conf, device->name, leaf), filter, ask);
    }
    if (device->controllable)
        for_filter(hearing, mqtt, topic_make(filter, conf, device->name, TOPIC_SCHEDULE_SET),
                   filter, ask);
}

/* Without any, nothing has to be waited for. */
static bool for_all(struct hearing *hearing, struct mqtt *mqtt, asker *ask)
{
    const struct device_list *list = &hearing->conf->devices;
    const bool wildcards = mqtt_has_wildcards(mqtt);
    char filter[TOPIC_MAX + 1];
    atomic_store(&hearing->n_asked, 1); /* until all have been asked for */
    if (wildcards) {
        for_filter(hearing, mqtt, topic_command_filter(filter, hearing->conf), filter, ask);
        for_filter(hearing, mqtt, topic_schedule_filter(filter, hearing->conf), filter, ask);
    }
    for (unsigned i = 0; !wildcards && i < list->n_devices; i++)
        for_device(hearing, mqtt, &list->devices[i], ask);
    return count_answer(hearing);
}

static bool subscribe(struct mqtt *mqtt, const char *filter)
{
    return mqtt_subscribe(mqtt, filter, MQTT_LIVE, 1);
}

bool hearing_begin(struct hearing *hearing, struct mqtt *mqtt)
{
    return !atomic_load(&hearing->is_over) && for_all(hearing, mqtt, subscribe);
}

void hearing_stop(struct hearing *hearing)
{
    atomic_store(&hearing->is_over, true);
}

void hearing_await_end(struct hearing *hearing, int64_t until_ns)
{
    pthread_mutex_lock(&hearing->mutex);
    while (!hearing->is_deaf && clock_mono_ns() < until_ns)
        clock_cond_wait(&hearing->deafness, &hearing->mutex, until_ns);
    pthread_mutex_unlock(&hearing->mutex);
}

void hearing_run(struct hearing *hearing, struct mqtt *mqtt)
{
    if (!atomic_load(&hearing->is_over) || hearing->is_ended)
        return;
    hearing->is_ended = true;
    if (mqtt != NULL)
        (void)for_all(hearing, mqtt, mqtt_unsubscribe);
    else
        set_deaf(hearing);
}
