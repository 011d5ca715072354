/* ha_announce: announces bridge and devices to Home Assistant.
 *
 * Part of the publisher, in the bridge's session: at every connect, and again
 * when Home Assistant has started, sends the retained documents of discovery;
 * a little later then, because every bridge of a house hears that at once.
 * Removes what an earlier run announced and this one does not have: the
 * bridge/info that the broker has kept names the devices of that run.
 *
 * ha_announce_arrived() is called by the MQTT library's threads, copies and returns;
 * all else is the publisher's. Does nothing unless home_assistant is enabled.
 */
#ifndef BRIDGE_PUBLISH_HA_ANNOUNCE_H
#define BRIDGE_PUBLISH_HA_ANNOUNCE_H

#include <pthread.h>
#include <stdatomic.h>

#include "bridge/mqtt/mqtt.h"

struct ha_announce {
    const struct conf *conf;
    struct mqtt *mqtt;
    uint32_t seed;
    unsigned sent;  /* documents, of the bridge and every device */
    int64_t due_ns; /* when to send them all again; CLOCK_NEVER = not asked for */
    char *info;     /* an earlier bridge/info that is being compared with now */
    unsigned compared;

    atomic_bool born;      /* Home Assistant has said that it is there */
    pthread_mutex_t mutex; /* guards what follows */
    char *arrived;         /* a bridge/info not yet looked at */
};

/* `seed` sets its pauses apart from those of other bridges. */
void ha_announce_init(struct ha_announce *announce, const struct conf *conf, struct mqtt *mqtt,
                      uint32_t seed);
void ha_announce_destroy(struct ha_announce *announce);

/* The session has come up: begins to listen, and everything is to be sent. To
 * be called before this run's bridge/info is published. */
void ha_announce_begin(struct ha_announce *announce);

/* True when the message was for it; then ha_announce_run() has something to do. */
bool ha_announce_arrived(struct ha_announce *announce, const struct mqtt_arrival *arrival);

/* Sends what is due as long as the session takes messages;
 * returns when to be called again if nothing happens. */
int64_t ha_announce_run(struct ha_announce *announce, int64_t now_ns);

#endif
