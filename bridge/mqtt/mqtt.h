/* mqtt: one session with the broker, over MQTTAsync.
 *
 * The only file that includes <MQTTAsync.h>. It hides the two protocol
 * versions, TLS and the library's habits; it holds no queue and no policy:
 * when to connect, what to send and what to send again is the publisher's.
 * The library's own buffering, persistence and reconnecting are never used:
 * they lose messages without a word.
 *
 * Calls: from the publisher thread only, which holds no lock while it calls:
 * the library takes its process-wide one. Callbacks: from the library's threads,
 * under that lock; they copy and return, and never call back into this module.
 */
#ifndef BRIDGE_MQTT_MQTT_H
#define BRIDGE_MQTT_MQTT_H

#include "bridge/site/conf.h"

enum { MQTT_WHY_MAX = 200 };

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
    MQTT_REFUSED,   /* the broker does not take it; version 5 only, 3.1.1 says nothing */
    MQTT_LOST,      /* the connection ended before it was acknowledged */
};

struct mqtt_callbacks {
    void *context;
    void (*connected)(void *context);
    /* The attempt failed, or the connection is gone. `why` names the cause in
     * words, as far as the broker or the library does; NULL when they do not
     * (why an attempt failed can be asked of cause_broker()). */
    void (*down)(void *context, const char *why);
    /* The fate of one message sent with this ticket: exactly once each, also
     * when the connection is lost. */
    void (*delivered)(void *context, uint64_t ticket, enum mqtt_fate fate);
    /* The broker refused a message for this topic, or a subscription to it. */
    void (*refused)(void *context, const char *topic, const char *why);
    /* The broker has answered a subscription to this filter: by taking it or,
     * after refused(), by not taking it. */
    void (*answered)(void *context, const char *filter);
    /* False: not taken, offer it again. Both are NULL for sessions without
     * subscriptions. */
    bool (*arrived)(void *context, const struct mqtt_arrival *arrival);
};

/* A session of its own with client id `client_id` and the Will "offline"
 * (retained, QoS 1) on `will_topic`. NULL when out of memory. */
struct mqtt *mqtt_new(const struct conf_mqtt *conf, const char *client_id, const char *will_topic,
                      const struct mqtt_callbacks *callbacks);
void mqtt_free(struct mqtt *mqtt);

/* Begins to connect (clean start): connected or down will be called. Reads the
 * password file and the certificates anew. False: it could not even begin,
 * `why` has the reason and no callback comes. */
bool mqtt_connect(struct mqtt *mqtt, char why[MQTT_WHY_MAX]);

/* What is handed over leaves at once: the library leaves Nagle's algorithm on,
 * which holds every second message back for the acknowledgement of the first. */
void mqtt_hurry(struct mqtt *mqtt);

/* Begins to subscribe at QoS 1, retain as published; with the messages that are
 * retained there or without. Up to MQTT_FILTERS_MAX different filters. */
enum { MQTT_FILTERS_MAX = 4 };
bool mqtt_subscribe(struct mqtt *mqtt, const char *filter, bool with_retained);

/* How many messages mqtt_publish() would take now: MQTT_WINDOW when idle, less
 * where the broker wants less. */
enum { MQTT_WINDOW = 64 };
unsigned mqtt_room(struct mqtt *mqtt);

/* Hands a message to the library. False: not taken, delivered() is not called. */
bool mqtt_publish(struct mqtt *mqtt, const struct mqtt_message *message, uint64_t ticket);

/* To be called after publishing, and again at the time that it returns. The
 * library's sender does not notice what it is handed in the moment before it
 * falls asleep, and then sleeps for a second (MQTTAsync_sendThread() looks at its
 * queue and waits under two different locks); with the whole window handed over
 * in such a moment nothing more would be. Sends one packet of no consequence when
 * for 100 ms no message has been acknowledged. */
int64_t mqtt_nudge(struct mqtt *mqtt, int64_t now_ns);

/* Ends the session in order (the Will is not sent), waiting for what is in
 * flight until `until_ns` at most. */
void mqtt_disconnect(struct mqtt *mqtt, int64_t until_ns);

#endif
