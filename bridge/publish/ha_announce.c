#include "bridge/publish/ha_announce.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/publish/ha_document.h"

enum { INFO_MAX = 1 << 20, JITTER_MAX_MS = 2000 };

void herald_init(struct herald *herald, const struct conf *conf, struct mqtt *mqtt, uint32_t seed)
{
    *herald = (struct herald){.conf = conf, .mqtt = mqtt, .seed = seed, .due_ns = CLOCK_NEVER};
    pthread_mutex_init(&herald->mutex, NULL);
}

void herald_destroy(struct herald *herald)
{
    free(herald->info);
    free(herald->arrived);
    pthread_mutex_destroy(&herald->mutex);
}

void herald_begin(struct herald *herald)
{
    char topic[WIRE_TOPIC_MAX + 1];
    if (!herald->conf->ha_enabled)
        return;
    herald->sent = 0;
    mqtt_subscribe(herald->mqtt, DISCOVERY_BIRTH_TOPIC, false);
    if (wire_topic(topic, herald->conf, "bridge", "info"))
        mqtt_subscribe(herald->mqtt, topic, true);
}

/* ---- what arrives ---- */

/* The first since the last was looked at: those that follow it are our own. */
static void keep_info(struct herald *herald, const struct mqtt_arrival *arrival)
{
    char *copy =
        arrival->payload_size <= INFO_MAX ? strndup(arrival->payload, arrival->payload_size) : NULL;
    pthread_mutex_lock(&herald->mutex);
    if (herald->arrived == NULL) {
        herald->arrived = copy;
        copy = NULL;
    }
    pthread_mutex_unlock(&herald->mutex);
    free(copy);
}

bool herald_arrived(struct herald *herald, const struct mqtt_arrival *arrival)
{
    static const char online[] = "online";
    char topic[WIRE_TOPIC_MAX + 1];
    if (!herald->conf->ha_enabled)
        return false;
    if (strcmp(arrival->topic, DISCOVERY_BIRTH_TOPIC) == 0) {
        if (arrival->payload_size == strlen(online) &&
            memcmp(arrival->payload, online, strlen(online)) == 0)
            atomic_store(&herald->born, true);
        return true;
    }
    if (wire_topic(topic, herald->conf, "bridge", "info") && strcmp(arrival->topic, topic) == 0) {
        keep_info(herald, arrival);
        return true;
    }
    return false;
}

/* ---- what is sent ---- */

static bool send_retained(struct herald *herald, const char *topic, const char *text)
{
    return mqtt_publish(herald->mqtt,
                        &(struct mqtt_message){.topic = topic,
                                               .payload = text,
                                               .payload_size = strlen(text),
                                               .qos = 1,
                                               .retained = true},
                        0);
}

/* The bridge's document has the index 0. */
static bool send_document(struct herald *herald, unsigned index)
{
    const struct conf *conf = herald->conf;
    const struct device *device = index > 0 ? &conf->devices.devices[index - 1] : NULL;
    char topic[WIRE_TOPIC_MAX + 1];
    char *text = device != NULL ? discovery_device(conf, device) : discovery_bridge(conf);
    bool good = text != NULL &&
                discovery_topic(topic, conf, device != NULL ? device->name : "bridge") &&
                send_retained(herald, topic, text);
    free(text);
    return good;
}

/* Takes the next step in removing what is gone; false when there is none now. */
static bool remove_next(struct herald *herald)
{
    char topic[WIRE_TOPIC_MAX + 1];
    unsigned next = herald->compared;
    if (herald->info == NULL) {
        pthread_mutex_lock(&herald->mutex);
        herald->info = herald->arrived;
        herald->arrived = NULL;
        pthread_mutex_unlock(&herald->mutex);
        herald->compared = 0;
        return herald->info != NULL;
    }
    if (!discovery_next_gone(herald->conf, herald->info, &next, topic)) {
        free(herald->info);
        herald->info = NULL;
        return true;
    }
    if (!send_retained(herald, topic, ""))
        return false;
    herald->compared = next;
    return true;
}

int64_t herald_run(struct herald *herald, int64_t now_ns)
{
    if (!herald->conf->ha_enabled)
        return CLOCK_NEVER;
    if (atomic_exchange(&herald->born, false) && herald->due_ns == CLOCK_NEVER) {
        herald->seed = herald->seed * 1664525 + 1013904223; /* Numerical Recipes, ch. 7.1 */
        herald->due_ns = now_ns + (herald->seed >> 16) % JITTER_MAX_MS * CLOCK_NS_PER_MS;
    }
    if (now_ns >= herald->due_ns) {
        herald->due_ns = CLOCK_NEVER;
        herald->sent = 0;
    }
    while (mqtt_room(herald->mqtt) > 0 && remove_next(herald))
        ;
    while (herald->sent <= herald->conf->devices.n_devices && mqtt_room(herald->mqtt) > 0 &&
           send_document(herald, herald->sent))
        herald->sent++;
    return herald->due_ns;
}
