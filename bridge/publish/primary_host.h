/* primary_host: what the host that the node is born for says of itself.
 *
 * Births wait for its STATE to be online, and when it says offline the node ends its
 * session (Sparkplug 3.0.0, section 5.4). A word that is older than the last is not
 * heeded. Within a session: the broker hands out the retained word anew in the next.
 *
 * Heard by the MQTT library's threads, asked by the publisher's.
 */
#ifndef BRIDGE_PUBLISH_PRIMARY_HOST_H
#define BRIDGE_PUBLISH_PRIMARY_HOST_H

#include <pthread.h>

#include "bridge/mqtt/mqtt.h"

struct primary_host {
    const char *id; /* "" = there is none: births wait for nobody */
    pthread_mutex_t mutex;
    bool online;
    bool fell;      /* it said offline, be it online again */
    int64_t ts_ms;  /* of its last word; -1 = none */
    bool told_of_2; /* that it speaks as version 2.2 does */
};

void primary_host_begin(struct primary_host *host, const char *id);
void primary_host_end(struct primary_host *host);

/* A session begins: nothing was heard in it. */
void primary_host_forget(struct primary_host *host);

void primary_host_hear(struct primary_host *host, const struct mqtt_arrival *arrival);

/* Its STATE came on the topic of version 2.2. */
void primary_host_hear_2(struct primary_host *host, const char *topic);

/* Whether there may be births; and whether it has been offline since this was asked
 * last. */
bool primary_host_is_online(struct primary_host *host);
bool primary_host_has_fallen(struct primary_host *host);

#endif
