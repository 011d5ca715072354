/* refusals: topics that the broker does not let us use. Each is said once, and that it
 * takes one after all, too.
 *
 * Callbacks put them in; the publisher says them. Never calls out while locked.
 */
#ifndef BRIDGE_PUBLISH_REFUSALS_H
#define BRIDGE_PUBLISH_REFUSALS_H

#include <pthread.h>
#include <stdatomic.h>

#include "bridge/mqtt/mqtt.h"
#include "bridge/wire/topic.h"

enum { REFUSALS_MAX = 64 };

struct refusal {
    char topic[TOPIC_MAX + 1];
    char why[MQTT_WHY_MAX];
    bool is_over; /* the broker takes a subscription to it now */
};

struct refusals {
    atomic_bool news; /* there may be one to be said */
    pthread_mutex_t mutex;
    unsigned n, n_said;
    struct refusal list[REFUSALS_MAX];
};

void refusals_init(struct refusals *refusals);
void refusals_destroy(struct refusals *refusals);

/* Any thread. */
void refusals_put(struct refusals *refusals, const char *topic, const char *why);
void refusals_end(struct refusals *refusals, const char *topic);

/* Writes to the log what has not been said yet. */
void refusals_say(struct refusals *refusals);

#endif
