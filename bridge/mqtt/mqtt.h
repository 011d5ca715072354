/* mqtt: one session with the broker, over MQTTAsync.
 *
 * The only file that includes <MQTTAsync.h>. It hides the two protocol
 * versions, TLS and the library's habits, and keeps to what the broker takes
 * (limits); it holds no queue and no policy: when to connect, what to send and
 * what to send again is the publisher's. The library's own buffering, persistence
 * and reconnecting are never used: they lose messages without a word.
 *
 * Calls: from the publisher thread only, which holds no lock while it calls:
 * the library takes its process-wide one. Callbacks: from the library's threads,
 * under that lock, or from the call itself; they copy and return, and never call
 * back into this module.
 */
#ifndef BRIDGE_MQTT_MQTT_H
#define BRIDGE_MQTT_MQTT_H

#include "bridge/mqtt/flights.h"
#include "bridge/site/conf.h"

enum { MQTT_WHY_MAX = LIMITS_WHY_MAX };

struct mqtt;

/* A message to be published. */
struct mqtt_message {
    const char *topic;
    const void *payload;
    size_t payload_size;
    int qos;
    bool retained;
    unsigned expiry_s;       /* 0 = none; version 5 only */
    const void *correlation; /* version 5 only */
    size_t correlation_size;
    bool foreign; /* somebody else has chosen the topic */
    bool plain;   /* its QoS is not raised to find out what ends sessions: its sender does */
};

/* A message that arrived; pointers are valid during the callback only. */
struct mqtt_arrival {
    const char *topic; /* NUL-terminated */
    const void *payload;
    size_t payload_size;
    bool retained;
    const char *response_topic; /* these are not NUL-terminated; NULL = none */
    size_t response_topic_size;
    const void *correlation;
    size_t correlation_size;
    const char *user_source; /* user properties "source" and "traceparent" */
    size_t user_source_size;
    const char *user_traceparent;
    size_t user_traceparent_size;
};

/* What became of a message. */
enum mqtt_fate {
    MQTT_DELIVERED, /* acknowledged; at QoS 0: written to the connection */
    MQTT_REFUSED,   /* the broker does not take it, now or ever */
    MQTT_LATER,     /* the broker has no room for it now (version 5) */
    MQTT_LOST,      /* the connection ended before it was acknowledged */
};

/* How an attempt or a connection ended. */
struct mqtt_end {
    /* The cause in words, as far as the broker or the library names it; NULL when
     * they do not (why an attempt failed can be asked of cause_broker()). */
    const char *why;
    enum {
        MQTT_TRY,       /* again after the usual pause */
        MQTT_TRY_NOW,   /* with what the broker has asked for, such as a lesser Will; with no
                           `why`: it was not asked, and the library has to be once more */
        MQTT_STAY_AWAY, /* the broker is busy */
        MQTT_ELSEWHERE, /* the broker says to use another */
    } advice;
    bool faulted;   /* messages under way may have caused it */
    bool convicted; /* one has, and is set aside */
    bool illegal;   /* it has sent what no broker may: none of ours is to blame */
    bool unasked;   /* the attempt ended before CONNECT was sent */
    bool overdue;   /* an answer did not come within 30 s */
    bool unproved;  /* the session was up, and the broker has acknowledged nothing in it */
};

struct mqtt_callbacks {
    void *context;
    void (*connected)(void *context);
    /* The attempt failed, or the connection is gone. */
    void (*down)(void *context, const struct mqtt_end *end);
    /* The fate of one message sent with this ticket: exactly once each, also
     * when the connection is lost. */
    void (*delivered)(void *context, uint64_t ticket, enum mqtt_fate fate);
    /* The broker refused a message for this topic, or a subscription to it, or it is
     * known that it would. */
    void (*refused)(void *context, const char *topic, const char *why);
    /* The broker has answered a subscription to this filter: by taking it or,
     * after refused(), by not taking it. Once for each that was asked for. */
    void (*answered)(void *context, const char *filter);
    /* It takes one now that it has refused before in this session. */
    void (*relented)(void *context, const char *filter);
    /* False: not taken, offer it again. Both are NULL for sessions without
     * subscriptions. */
    bool (*arrived)(void *context, const struct mqtt_arrival *arrival);
};

/* A reason code of version 5 in words, e.g. "not authorized"; and what CONNACK says, a
 * return code of 3.1.1 or such a reason code, as a sentence. */
void mqtt_reason_words(int code, char why[MQTT_WHY_MAX]);
void mqtt_login_words(const struct conf_mqtt *conf, int code, char why[MQTT_WHY_MAX]);

/* A session of its own with client id `client_id` and the Will "offline"
 * (retained, QoS 1) on `will_topic`, NULL = without one. NULL when out of memory. */
struct mqtt *mqtt_new(const struct conf_mqtt *conf, const char *client_id, const char *will_topic,
                      const struct mqtt_callbacks *callbacks);
void mqtt_free(struct mqtt *mqtt);

/* Another Will from the next connection on: bytes, which are copied, and whether the
 * broker is to retain them. Nothing changes when out of memory. */
void mqtt_set_will(struct mqtt *mqtt, const void *payload, size_t size, bool retained);

/* Begins to connect (clean start) to this address of the configured host:
 * connected or down will be called, within 15 s. Reads the password file and looks
 * for the certificates anew. False: it could not even begin, such as for want of one
 * of these files; `why` has the reason and no callback comes. */
bool mqtt_connect(struct mqtt *mqtt, const char *address, char why[MQTT_WHY_MAX]);

/* What was learnt of the broker is forgotten: it may be another. */
void mqtt_forget(struct mqtt *mqtt);

/* A sentence on what the broker does not take, "" when there is nothing to say. */
void mqtt_limits_words(struct mqtt *mqtt, char words[MQTT_WHY_MAX]);

/* Whether the broker takes subscriptions with wildcards. */
bool mqtt_has_wildcards(struct mqtt *mqtt);

/* What is handed over leaves at once: the library leaves Nagle's algorithm on,
 * which holds every second message back for the acknowledgement of the first. */
void mqtt_hurry(struct mqtt *mqtt);

/* Begins to subscribe, retain as published: to what is published from now on, with
 * what is retained there too, or (version 5) to what others publish from now on. An answer
 * that does not come within 30 s ends the session. A no that may be a yes later, as of a
 * cluster that has lost a node, is asked for again after 2, 4, 8 ... 60 s. */
enum mqtt_hearing { MQTT_LIVE, MQTT_RETAINED, MQTT_OTHERS };
bool mqtt_subscribe(struct mqtt *mqtt, const char *filter, enum mqtt_hearing hearing, int qos);

/* Ends a subscription; answered() is called for it when nothing more will arrive. */
bool mqtt_unsubscribe(struct mqtt *mqtt, const char *filter);

/* At the end. No message arrives any more once this returns, whatever the broker sends: what
 * comes from now on is left unacknowledged, and what has begun to come before is waited for,
 * until then at most. Any thread. */
void mqtt_deafen(struct mqtt *mqtt, int64_t until_ns);

/* How many messages mqtt_publish() would take now: MQTT_WINDOW when idle, less
 * where the broker wants less. Any thread, and from a callback. */
enum { MQTT_WINDOW = FLIGHTS_MAX };
unsigned mqtt_room(struct mqtt *mqtt);
unsigned mqtt_window(struct mqtt *mqtt);

/* Hands a message to the library, or tells at once that it is MQTT_REFUSED. False:
 * not taken, offer it again; delivered() is not called. */
bool mqtt_publish(struct mqtt *mqtt, const struct mqtt_message *message, uint64_t ticket);

/* To be called after publishing, and again at the time that it returns, both by the clock of the
 * machine awake (the broker says nothing while that sleeps). Ends a
 * session in which an answer is overdue: to CONNECT, to SUBSCRIBE, or to a message
 * for 30 s. Subscribes again where that is due. And wakes the library's sender, which
 * does not notice what it is handed in the moment before it falls asleep, and then
 * sleeps for a second (MQTTAsync_sendThread() looks at its queue and waits under two
 * different locks); with the whole window handed over in such a moment nothing more
 * would be. One packet of no consequence is sent when for 100 ms no message has been
 * acknowledged. */
int64_t mqtt_tend(struct mqtt *mqtt, int64_t now_ns);

/* Ends the session in order, waiting for what is in flight until about `until_ns`.
 * The Will is not sent, unless `with_will` or something is still in flight then
 * (version 5; 3.1.1 has no word for that). */
void mqtt_disconnect(struct mqtt *mqtt, int64_t until_ns, bool with_will);

#endif
