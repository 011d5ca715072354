/* session: one MQTT session that is kept up.
 *
 * Connects, and after every failure or loss connects again with growing pauses
 * (1 s to 60 s). The publisher owns all of them and drives each by
 * session_step(); the library's threads only leave word in it.
 */
#ifndef BRIDGE_MQTT_SESSION_H
#define BRIDGE_MQTT_SESSION_H

#include <pthread.h>
#include <stdatomic.h>

#include "bridge/base/backoff.h"
#include "bridge/mqtt/mqtt.h"
#include "bridge/store/outbox.h"

enum session_state { SESSION_DOWN, SESSION_CONNECTING, SESSION_UP };

enum session_event {
    SESSION_NOTHING,
    SESSION_CAME_UP,
    SESSION_LOST,   /* was up */
    SESSION_FAILED, /* an attempt to come up */
};

struct session_setup {
    const struct conf_mqtt *conf;
    struct outbox *outbox; /* its owner sleeps there, and is woken when there is news */
    atomic_bool *stirred;  /* set when there is news */
    void *owner;
    /* Without context, connected and down, which the session fills in: the
     * context of the others will be the session. */
    struct mqtt_callbacks callbacks;
    uint32_t seed; /* sets its pauses apart from those of others */
};

struct session {
    struct session_setup setup;
    struct mqtt *mqtt;
    enum session_state state; /* as last told by session_step() */
    struct backoff backoff;
    int64_t retry_ns; /* DOWN: when to connect */

    pthread_mutex_t mutex; /* guards the word left by the library */
    bool has_connected, has_ended;
    char why[MQTT_WHY_MAX];
};

/* False when out of memory. Call session_destroy() in either case. */
bool session_init(struct session *session, const struct session_setup *setup, const char *client_id,
                  const char *will_topic);
void session_destroy(struct session *session);

/* What has happened to it, one event at a time until SESSION_NOTHING. Begins to
 * connect when that is due, if it may. After LOST and FAILED `why` names the
 * cause; "" when it is not known. */
enum session_event session_step(struct session *session, int64_t now_ns, bool may_connect,
                                char why[MQTT_WHY_MAX]);

/* It need not wait any longer: when it is down it connects at the next step, and
 * its pauses begin with the shortest again. */
void session_retry(struct session *session, int64_t now_ns);

#endif
