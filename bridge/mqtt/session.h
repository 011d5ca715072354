/* session: one MQTT session that is kept up.
 *
 * Connects, and after every failure or loss connects again: first within
 * mqtt.reconnect_spread, then after growing pauses (anything up to 1 s ... 60 s), and
 * later when the broker says that it is busy. The publisher owns all of them and
 * drives each by session_step(); the library's threads only leave word in it.
 */
#ifndef BRIDGE_MQTT_SESSION_H
#define BRIDGE_MQTT_SESSION_H

#include <pthread.h>
#include <stdatomic.h>

#include "bridge/base/backoff.h"
#include "bridge/mqtt/mqtt.h"
#include "bridge/mqtt/presence.h"
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
    /* One of a device's, in this place of these; NULL = one of mqtt. */
    struct presences *presences;
    unsigned place;
};

struct session {
    struct session_setup setup;
    struct mqtt *mqtt;         /* one of both; */
    struct presence *presence; /* for a device's */
    enum session_state state;  /* as last told by session_step() */
    struct backoff backoff;
    int64_t retry_ns; /* DOWN: when to connect */

    int64_t tend_ns; /* when to look whether something is overdue */

    pthread_mutex_t mutex; /* guards the word left by the library */
    bool has_connected, has_ended;
    struct mqtt_end end;
    char why[MQTT_WHY_MAX];
};

/* False when out of memory. Call session_destroy() in either case. One of all zeroes is
 * no session. */
bool session_init(struct session *session, const struct session_setup *setup, const char *client_id,
                  const char *will_topic);
void session_destroy(struct session *session);
bool session_is_there(const struct session *session);

/* What has happened to it, one event at a time until SESSION_NOTHING. Begins to
 * connect to `address` when that is due; NULL = not now. After LOST and FAILED `end`
 * has the cause, `end->why` in `why`. */
enum session_event session_step(struct session *session, int64_t now_ns, const char *address,
                                char why[MQTT_WHY_MAX], struct mqtt_end *end);

/* Looks whether something is overdue, also after publishing: see mqtt_tend(), but by this
 * clock, and `tend_ns` has when to do so again. */
void session_tend(struct session *session, int64_t now_ns);

/* Begins to connect now. What has become of it is told by session_step(). */
void session_connect(struct session *session, const char *address);

/* It need not wait any longer: when it is down it connects at the next step, and
 * its pauses begin with the shortest again. */
void session_retry(struct session *session, int64_t now_ns);

/* As mqtt_forget(), mqtt_publish() and mqtt_disconnect(). */
void session_forget(struct session *session);
bool session_publish(struct session *session, const struct mqtt_message *message, uint64_t ticket);
void session_leave(struct session *session, int64_t until_ns, bool with_will);

/* Ends the session in order, with its Will (version 5); it connects again after a pause. */
void session_end(struct session *session, int64_t now_ns);

#endif
