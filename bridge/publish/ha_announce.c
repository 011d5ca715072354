#include "bridge/publish/ha_announce.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/publish/ha_document.h"

enum { INFO_MAX = 1 << 20, JITTER_MAX_MS = 2000 };

void ha_announce_init(struct ha_announce *announce, const struct conf *conf, struct mqtt *mqtt,
                      uint32_t seed)
{
    *announce =
        (struct ha_announce){.conf = conf, .mqtt = mqtt, .seed = seed, .due_ns = CLOCK_NEVER};
    pthread_mutex_init(&announce->mutex, NULL);
}

void ha_announce_destroy(struct ha_announce *announce)
{
    free(announce->info);
    free(announce->arrived);
    pthread_mutex_destroy(&announce->mutex);
}

void ha_announce_begin(struct ha_announce *announce)
{
    char topic[TOPIC_MAX + 1];
    if (!announce->conf->ha_enabled)
        return;
    announce->sent = 0;
    mqtt_subscribe(announce->mqtt, HA_DOCUMENT_BIRTH_TOPIC, false);
    if (topic_make(topic, announce->conf, "bridge", "info"))
        mqtt_subscribe(announce->mqtt, topic, true);
}

/* ---- what arrives ---- */

/* The first since the last was looked at: those that follow it are our own. */
static void keep_info(struct ha_announce *announce, const struct mqtt_arrival *arrival)
{
    char *copy =
        arrival->payload_size <= INFO_MAX ? strndup(arrival->payload, arrival->payload_size) : NULL;
    pthread_mutex_lock(&announce->mutex);
    if (announce->arrived == NULL) {
        announce->arrived = copy;
        copy = NULL;
    }
    pthread_mutex_unlock(&announce->mutex);
    free(copy);
}

bool ha_announce_arrived(struct ha_announce *announce, const struct mqtt_arrival *arrival)
{
    static const char online[] = "online";
    char topic[TOPIC_MAX + 1];
    if (!announce->conf->ha_enabled)
        return false;
    if (strcmp(arrival->topic, HA_DOCUMENT_BIRTH_TOPIC) == 0) {
        if (arrival->payload_size == strlen(online) &&
            memcmp(arrival->payload, online, strlen(online)) == 0)
            atomic_store(&announce->born, true);
        return true;
    }
    if (topic_make(topic, announce->conf, "bridge", "info") && strcmp(arrival->topic, topic) == 0) {
        keep_info(announce, arrival);
        return true;
    }
    return false;
}

/* ---- what is sent ---- */

static bool send_retained(struct ha_announce *announce, const char *topic, const char *text)
{
    return mqtt_publish(announce->mqtt,
                        &(struct mqtt_message){.topic = topic,
                                               .payload = text,
                                               .payload_size = strlen(text),
                                               .qos = 1,
                                               .retained = true},
                        0);
}

/* The bridge's document has the index 0. */
static bool send_document(struct ha_announce *announce, unsigned index)
{
    const struct conf *conf = announce->conf;
    const struct device *device = index > 0 ? &conf->devices.devices[index - 1] : NULL;
    char topic[TOPIC_MAX + 1];
    char *text = device != NULL ? ha_document_device(conf, device) : ha_document_bridge(conf);
    bool good = text != NULL &&
                ha_document_topic(topic, conf, device != NULL ? device->name : "bridge") &&
                send_retained(announce, topic, text);
    free(text);
    return good;
}

/* Takes the next step in removing what is gone; false when there is none now. */
static bool remove_next(struct ha_announce *announce)
{
    char topic[TOPIC_MAX + 1];
    unsigned next = announce->compared;
    if (announce->info == NULL) {
        pthread_mutex_lock(&announce->mutex);
        announce->info = announce->arrived;
        announce->arrived = NULL;
        pthread_mutex_unlock(&announce->mutex);
        announce->compared = 0;
        return announce->info != NULL;
    }
    if (!ha_document_next_gone(announce->conf, announce->info, &next, topic)) {
        free(announce->info);
        announce->info = NULL;
        return true;
    }
    if (!send_retained(announce, topic, ""))
        return false;
    announce->compared = next;
    return true;
}

int64_t ha_announce_run(struct ha_announce *announce, int64_t now_ns)
{
    if (!announce->conf->ha_enabled)
        return CLOCK_NEVER;
    if (atomic_exchange(&announce->born, false) && announce->due_ns == CLOCK_NEVER) {
        announce->seed = announce->seed * 1664525 + 1013904223; /* Numerical Recipes, ch. 7.1 */
        announce->due_ns = now_ns + (announce->seed >> 16) % JITTER_MAX_MS * CLOCK_NS_PER_MS;
    }
    if (now_ns >= announce->due_ns) {
        announce->due_ns = CLOCK_NEVER;
        announce->sent = 0;
    }
    while (mqtt_room(announce->mqtt) > 0 && remove_next(announce))
        ;
    while (announce->sent <= announce->conf->devices.n_devices && mqtt_room(announce->mqtt) > 0 &&
           send_document(announce, announce->sent))
        announce->sent++;
    return announce->due_ns;
}
