/* presence_inside: what the parts of presence share, and nobody else includes.
 *
 * presence.c     what the publisher calls
 * presence_end   what the library says: how a session comes up, and how it ends
 * presence_wait  the thread: what comes from the broker, and what is overdue
 */
#ifndef BRIDGE_MQTT_PRESENCE_INSIDE_H
#define BRIDGE_MQTT_PRESENCE_INSIDE_H

#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <pthread.h>
#include <stdatomic.h>

#include "bridge/mqtt/broker_tls.h"
#include "bridge/mqtt/presence.h"

/* A status is followed by another a second later at the earliest; and one says farewell. */
enum { PRESENCE_UNDER_WAY_MAX = 4, PRESENCE_OWN_MAX = 64 };

/* Of the thread, for one round: hundreds of TLS handshakes may be part of it. */
#define PRESENCE_PROMISE_NS INT64_C(10000000000)

enum { PRESENCE_UNSAID = -1 };

/* As cause_broker() says it of the bridge's own session, with the reason. */
#define PRESENCE_TLS_WORDS "TLS handshake failed"

struct presence {
    struct presences *all;
    unsigned place;
    char *client_id, *topic;
    struct mqtt_callbacks callbacks;
    /* A fresh one for each attempt: an old one keeps what was learnt of another broker.
     * NULL = neither connecting nor up. */
    struct mosquitto *handle;
    uint32_t attempt; /* no two have the same */
    bool is_up;
    int64_t begun_ns;
    int answer, end; /* what CONNACK said, and how it has ended; PRESENCE_UNSAID = not yet */
    uint8_t qos_max, retain;
    struct {
        int will_qos;
        bool will_retained;
    } offer; /* what CONNECT asks for; less when the broker wants that */
    unsigned n_under_way;
    struct {
        int mid;
        uint64_t ticket;
        int64_t sent_ns;
    } under_way[PRESENCE_UNDER_WAY_MAX];
};

struct presences {
    const struct conf_mqtt *conf;
    pthread_t thread;
    atomic_bool stopping;
    _Atomic int64_t promise_ns;
    int epoll_fd, wake_fd;

    pthread_mutex_t mutex; /* guards what follows, and every call of the library */
    pthread_cond_t landed;
    struct broker_tls tls;
    uint32_t attempts;
    char own[PRESENCE_OWN_MAX]; /* our end of the connections, numeric */
    unsigned n;
    struct presence **list;
};

/* All that follows: under the lock. */

bool presence_is_v5(const struct presence *presence);

/* The library is to call back. */
void presence_listen(struct mosquitto *handle);

/* What has become of the session in a call of the library's that returned `code`; not
 * every end has its callback. */
void presence_look(struct presence *presence, int code);

/* The session has ended, or the attempt. */
void presence_set_down(struct presence *presence, const struct mqtt_end *end);

/* Ends it without a word to its owner, but for the fate of what is under way. */
void presence_drop(struct presence *presence);

/* The thread; its argument are all of them. */
void *presence_wait(void *presences);

#endif
