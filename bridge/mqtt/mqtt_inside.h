/* mqtt_inside: what the parts of mqtt share, and nobody else includes.
 *
 * mqtt.c         a session, and what is published on it
 * mqtt_connect   how it comes up, or why not
 * mqtt_subscribe what is subscribed to, and what arrives
 * mqtt_end       how it ends, and what is overdue
 * mqtt_words     what the broker says, in words
 * mqtt_paho      what the library makes necessary beside its calls
 *
 * What the library makes necessary, 1.3.12 and 1.3.14, and where it is done:
 * - When a connection ends it tells the fate of some messages, or of none, depending on how
 *   it ended: all that is under way is written down (flights), and mqtt_set_down() tells
 *   the rest, each once. No other module counts them: the outbox knows no more than where
 *   a record lies that it has handed out.
 * - It holds back what is beyond the broker's Receive Maximum, some of it for a second: the
 *   window of flights is no larger.
 * - A handle keeps what it never sent, and sends it on its next connection: each attempt
 *   has a fresh one (mqtt_connect).
 * - Its sender misses what is handed over in the moment before it falls asleep, for its
 *   condition is signalled without a flag: one packet wakes it (mqtt_nudge()).
 * - Its receiver naps after each second in which nothing came: nap.
 * - What no broker may send makes it free what is in use: sieve.
 * - It acknowledges what it has not handed over yet: mqtt_deafen().
 * - It does not look whether its threads began: has_threads() in mqtt_connect.
 * - It resolves names under its process-wide lock: address.
 * - What it has found wrong with a connection it may lay to the next one, when that is begun
 *   at once and has the same descriptor: then it is begun again, once (connect_failed()).
 * - It leaves Nagle's algorithm on, and has no call for that nor for its socket, so once a
 *   session all of ours are looked through (mqtt_hurry()).
 * - Of a disconnect it looks every 3 s whether it is done: mqtt_disconnect() destroys.
 * - 1.3.12 does not keep to a shorter keepalive of the broker's: the next attempt asks for it.
 */
#ifndef BRIDGE_MQTT_MQTT_INSIDE_H
#define BRIDGE_MQTT_MQTT_INSIDE_H

#include <MQTTAsync.h>
#include <pthread.h>

#include "bridge/mqtt/mqtt.h"

enum { MQTT_CONNECT_TIMEOUT_S = 10 };

/* Our own end of the connections to the broker, numeric. */
enum { MQTT_OWN_MAX = 64 };
void mqtt_own_address(const struct mqtt *mqtt, char text[MQTT_OWN_MAX]);

/* In IDLE the callbacks of the old handle are ignored. */
enum mqtt_state { IDLE, CONNECTING, UP };

/* Which messages under way a session may have ended for. */
enum blame { BLAME_NONE, BLAME_RECENT, BLAME_LATE };

/* What was subscribed to, kept while callbacks may name it. */
struct subscription {
    struct mqtt *mqtt;
    char *filter;
    enum mqtt_hearing hearing;
    int qos;
    bool is_wanted;   /* else it is ended */
    int64_t asked_ns; /* 0 = answered */
    int64_t again_ns; /* refused for now: when it is asked for again; 0 = it is not */
    int64_t pause_ns; /* before that; 0 = it was not refused since it was asked for */
    struct subscription *next;
};

struct mqtt {
    const struct conf_mqtt *conf;
    struct mqtt_callbacks callbacks;
    char *client_id, *will_topic;
    void *will;
    size_t will_size;
    bool will_retained;
    MQTTAsync handle; /* publisher only */

    pthread_mutex_t mutex; /* guards what follows; never held while calling out */
    pthread_cond_t landed;
    enum mqtt_state state;
    int64_t begun_ns; /* CONNECTING: since when */
    bool stumbled;    /* the attempt before was ended for what the one before it was */
    bool nudged;      /* since a message landed */
    bool is_proved;   /* UP: the broker has acknowledged a message in this session */
    /* When a message at QoS 0 was sent last that is larger than all that the broker is
     * known to take: it may end the session, and nothing acknowledges it. */
    int64_t unproved_ns;
    bool gone;         /* the library has ended the session for good: see leave() */
    const char *wrong; /* UP: what has come that no broker may send, as sieve says it, or NULL */
    unsigned wrong_type;
    unsigned n_coming; /* messages that the library has begun to read, and not handed over yet */
    struct subscription *subscriptions;
    struct flights flights;
    struct limits limits;
    struct {
        int will_qos;
        bool will_retained;
        unsigned keepalive_s;
    } offer; /* what CONNECT asks for; less when the broker wants that */
};

bool mqtt_is_v5(const struct mqtt *mqtt);

/* Frees the place of a message and tells its fate. Nothing happens when that has been
 * done before. */
void mqtt_tell(struct flight *flight, enum mqtt_fate fate, const char *why);

/* Whether a failure is the broker's no. The library leaves reasonCode
 * uninitialised in some failures of its own; those have a code below 0. */
bool mqtt_is_refusal(const MQTTAsync_failureData5 *data);

/* The session has ended, or the attempt: tells that, and the fate of all that was in
 * flight; those to blame are suspects, or convicted. */
void mqtt_set_down(struct mqtt *mqtt, struct mqtt_end end, enum blame blame);

/* Asks again for what the broker has refused for now, when that is due. */
void mqtt_subscribe_again(struct mqtt *mqtt, int64_t now_ns);

/* The library's callback for a message. */
int mqtt_on_arrived(void *context, char *topic, int topic_size, MQTTAsync_message *message);

/* A message of the broker's has been handed over, and taken. */
void mqtt_note_arrival(struct mqtt *mqtt);

/* From now on packets that no broker may send end the session: said by the receiver. */
void mqtt_sift(struct mqtt *mqtt);

/* See mqtt_tend(). Returns when to call it again. */
int64_t mqtt_nudge(struct mqtt *mqtt, int64_t now_ns);

#endif
