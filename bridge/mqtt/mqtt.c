#include "bridge/mqtt/mqtt.h"

#include <MQTTAsync.h>
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bridge/base/clock.h"
#include "bridge/mqtt/address.h"
#include "bridge/mqtt/credentials.h"
#include "bridge/mqtt/nap.h"

enum { CONNECT_TIMEOUT_S = 10 };

#define NUDGE_NS (100 * CLOCK_NS_PER_MS) /* a broker far away takes half of it */
/* The library looks every 3 s whether CONNECT_TIMEOUT_S is over. */
#define CONNECT_LATE_NS ((CONNECT_TIMEOUT_S + 5) * CLOCK_NS_PER_S)
/* A broker that ends the session for a message does so at once. */
#define BLAME_NS   (5 * CLOCK_NS_PER_S)
#define GOODBYE_NS (100 * CLOCK_NS_PER_MS)

/* In IDLE the callbacks of the old handle are ignored. */
enum state { IDLE, CONNECTING, UP };

/* Which messages under way a session may have ended for. */
enum blame { BLAME_NONE, BLAME_RECENT, BLAME_LATE };

/* What was subscribed to, kept while callbacks may name it. */
struct subscription {
    struct mqtt *mqtt;
    char *filter;
    int64_t asked_ns; /* 0 = answered */
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
    enum state state;
    int64_t begun_ns; /* CONNECTING: since when */
    bool nudged;      /* since a message landed */
    /* When a message at QoS 0 was sent last that is larger than all that the broker is
     * known to take: it may end the session, and nothing acknowledges it. */
    int64_t unproved_ns;
    bool gone; /* the library has ended the session for good: see leave() */
    struct subscription *subscriptions;
    struct flights flights;
    struct limits limits;
    struct {
        int will_qos;
        bool will_retained;
        unsigned keepalive_s;
    } offer; /* what CONNECT asks for; less when the broker wants that */
};

static void set_offer(struct mqtt *mqtt)
{
    mqtt->offer.will_qos = 1;
    mqtt->offer.will_retained = mqtt->will_retained;
    mqtt->offer.keepalive_s = (unsigned)(mqtt->conf->keepalive_ns / CLOCK_NS_PER_S);
}

struct mqtt *mqtt_new(const struct conf_mqtt *conf, const char *client_id, const char *will_topic,
                      const struct mqtt_callbacks *callbacks)
{
    static const char offline[] = "offline";
    MQTTAsync_init_options start = MQTTAsync_init_options_initializer;
    struct mqtt *mqtt = calloc(1, sizeof(*mqtt));
    if (mqtt == NULL)
        return NULL;
    start.do_openssl_init = conf->tls; /* without TLS it is 1.4 MiB for nothing */
    MQTTAsync_global_init(&start);
    /* Or it writes a line to memory on every call and packet, for nobody to read: a
     * fifth of the processor time of a message. */
    MQTTAsync_setTraceLevel(MQTTASYNC_TRACE_ERROR);
    mqtt->conf = conf;
    mqtt->callbacks = *callbacks;
    pthread_mutex_init(&mqtt->mutex, NULL);
    clock_cond_init(&mqtt->landed);
    flights_init(&mqtt->flights, mqtt);
    limits_init(&mqtt->limits);
    mqtt->client_id = strdup(client_id);
    mqtt->will_topic = will_topic != NULL ? strdup(will_topic) : NULL;
    mqtt_set_will(mqtt, offline, strlen(offline), true);
    if (mqtt->client_id == NULL || mqtt->will == NULL ||
        (will_topic != NULL && mqtt->will_topic == NULL)) {
        mqtt_free(mqtt);
        return NULL;
    }
    return mqtt;
}

void mqtt_set_will(struct mqtt *mqtt, const void *payload, size_t size, bool retained)
{
    void *copy = malloc(size);
    if (copy == NULL)
        return;
    memcpy(copy, payload, size);
    free(mqtt->will);
    mqtt->will = copy;
    mqtt->will_size = size;
    mqtt->will_retained = retained;
    set_offer(mqtt);
}

void mqtt_free(struct mqtt *mqtt)
{
    if (mqtt == NULL)
        return;
    mqtt_disconnect(mqtt, 0, false);
    pthread_cond_destroy(&mqtt->landed);
    pthread_mutex_destroy(&mqtt->mutex);
    free(mqtt->client_id);
    free(mqtt->will_topic);
    free(mqtt->will);
    while (mqtt->subscriptions != NULL) {
        struct subscription *subscription = mqtt->subscriptions;
        mqtt->subscriptions = subscription->next;
        free(subscription->filter);
        free(subscription);
    }
    free(mqtt);
}

/* ---- messages in flight ------------------------------------------------ */

/* Frees the place of a message and tells its fate. Nothing happens when that has been
 * done before. */
static void tell_fate(struct flight *flight, enum mqtt_fate fate, bool is_proved, const char *why)
{
    struct mqtt *mqtt = flight->owner;
    const struct mqtt_callbacks *callbacks = &mqtt->callbacks;
    pthread_mutex_lock(&mqtt->mutex);
    const struct flight copy = *flight;
    char *topic = flights_land(&mqtt->flights, flight, clock_mono_ns());
    const struct limits_packet packet = {topic, copy.size, copy.foreign};
    mqtt->nudged = false;
    if (topic != NULL && is_proved)
        limits_delivered(&mqtt->limits, &packet);
    if (topic != NULL && mqtt->flights.n == 0)
        pthread_cond_signal(&mqtt->landed);
    pthread_mutex_unlock(&mqtt->mutex);
    if (topic == NULL)
        return;
    if (why != NULL)
        callbacks->refused(callbacks->context, topic, why);
    callbacks->delivered(callbacks->context, copy.ticket, fate);
    free(topic);
}

static void tell(struct flight *flight, enum mqtt_fate fate, const char *why)
{
    tell_fate(flight, fate, fate == MQTT_DELIVERED, why);
}

unsigned mqtt_room(struct mqtt *mqtt)
{
    pthread_mutex_lock(&mqtt->mutex);
    unsigned room = mqtt->state == UP ? flights_room(&mqtt->flights) : 0;
    pthread_mutex_unlock(&mqtt->mutex);
    return room;
}

unsigned mqtt_window(struct mqtt *mqtt)
{
    pthread_mutex_lock(&mqtt->mutex);
    unsigned window = mqtt->flights.window;
    pthread_mutex_unlock(&mqtt->mutex);
    return window;
}

bool mqtt_has_wildcards(struct mqtt *mqtt)
{
    pthread_mutex_lock(&mqtt->mutex);
    bool wildcards = mqtt->limits.wildcards;
    pthread_mutex_unlock(&mqtt->mutex);
    return wildcards;
}

void mqtt_forget(struct mqtt *mqtt)
{
    pthread_mutex_lock(&mqtt->mutex);
    limits_init(&mqtt->limits);
    set_offer(mqtt);
    pthread_mutex_unlock(&mqtt->mutex);
}

/* ---- words ---------------------------------------------------------------- */

/* A reason code of version 5 in words, e.g. "not authorized". */
static void reason_words(enum MQTTReasonCodes code, char why[MQTT_WHY_MAX])
{
    const char *words = MQTTReasonCode_toString(code);
    if (words == NULL)
        snprintf(why, MQTT_WHY_MAX, "reason code 0x%02x", (unsigned)code);
    else
        snprintf(why, MQTT_WHY_MAX, "%c%s", tolower((unsigned char)words[0]), words + 1);
}

/* The answer to CONNECT: return codes of MQTT 3.1.1 (table 3.1), reason codes
 * of version 5 (section 3.2.2.2). */
static void connack_words(const struct mqtt *mqtt, int code, char why[MQTT_WHY_MAX])
{
    static const char *const words[] = {
        "accepted",           "unacceptable protocol version", "client id rejected",
        "server unavailable", "bad user name or password",     "not authorized"};
    char reason[MQTT_WHY_MAX] = "";
    if (mqtt->conf->version >= MQTTVERSION_5)
        reason_words((enum MQTTReasonCodes)code, reason);
    else if ((size_t)code < sizeof(words) / sizeof(words[0]))
        snprintf(reason, sizeof(reason), "%s", words[code]);
    else
        snprintf(reason, sizeof(reason), "return code %d", code);
    snprintf(why, MQTT_WHY_MAX, "the broker refuses the login: %.100s", reason);
}

void mqtt_limits_words(struct mqtt *mqtt, char words[MQTT_WHY_MAX])
{
    pthread_mutex_lock(&mqtt->mutex);
    const struct limits limits = mqtt->limits;
    const unsigned asked_s = (unsigned)(mqtt->conf->keepalive_ns / CLOCK_NS_PER_S);
    const unsigned keepalive_s = mqtt->offer.keepalive_s;
    const bool lesser = mqtt->offer.will_qos < 1, fleeting = !mqtt->offer.will_retained;
    pthread_mutex_unlock(&mqtt->mutex);
    size_t n = 0;
    words[0] = '\0';
    if (limits.packet_max > 0)
        n += (size_t)snprintf(words + n, MQTT_WHY_MAX - n, " max_packet_size=%zu",
                              limits.packet_max);
    if (limits.qos_max < 1)
        n += (size_t)snprintf(words + n, MQTT_WHY_MAX - n, " max_qos=%d", limits.qos_max);
    if (!limits.retain)
        n += (size_t)snprintf(words + n, MQTT_WHY_MAX - n, " retain=no");
    if (limits.receive_max < MQTT_WINDOW)
        n += (size_t)snprintf(words + n, MQTT_WHY_MAX - n, " receive_max=%u", limits.receive_max);
    if (!limits.wildcards)
        n += (size_t)snprintf(words + n, MQTT_WHY_MAX - n, " wildcards=no");
    if (keepalive_s < asked_s)
        n += (size_t)snprintf(words + n, MQTT_WHY_MAX - n, " keepalive_s=%u", keepalive_s);
    if (lesser)
        n += (size_t)snprintf(words + n, MQTT_WHY_MAX - n, " will_qos=0");
    if (fleeting)
        snprintf(words + n, MQTT_WHY_MAX - n, " will_retain=no");
}

/* ---- callbacks of the library ------------------------------------------ */

/* Whether a message may be why the session has ended. */
static bool is_blamed(const struct flight *flight, enum blame blame, int64_t now_ns)
{
    int64_t age_ns = now_ns - flight->sent_ns;
    return (blame == BLAME_RECENT && age_ns < BLAME_NS) ||
           (blame == BLAME_LATE && age_ns >= FLIGHTS_LATE_NS);
}

/* The fate of a message when the session has ended, and whether it may be why. When it
 * was under way alone, for an earlier session had ended so, it is. */
static bool settle(struct flight *flight, enum blame blame, char why[MQTT_WHY_MAX])
{
    struct mqtt *mqtt = flight->owner;
    pthread_mutex_lock(&mqtt->mutex);
    const struct limits_packet packet = {flight->topic, flight->size, flight->foreign};
    bool blamed = flight->topic != NULL && is_blamed(flight, blame, clock_mono_ns());
    bool convicted = blamed && flight->alone;
    if (convicted) {
        limits_ended(&mqtt->limits, &packet);
        snprintf(why, MQTT_WHY_MAX,
                 "the broker ends the session on a message of %zu bytes to %.120s", flight->size,
                 flight->topic);
    } else if (blamed) {
        limits_suspect(&mqtt->limits, &packet);
    }
    pthread_mutex_unlock(&mqtt->mutex);
    if (convicted)
        tell(flight, MQTT_REFUSED, "two sessions in a row have ended on it");
    else
        tell(flight, MQTT_LOST, NULL);
    return blamed;
}

static void set_down(struct mqtt *mqtt, struct mqtt_end end, enum blame blame)
{
    char why[MQTT_WHY_MAX] = "";
    pthread_mutex_lock(&mqtt->mutex);
    bool was_idle = mqtt->state == IDLE;
    mqtt->state = IDLE;
    end.faulted = blame == BLAME_RECENT && mqtt->unproved_ns != 0 &&
                  clock_mono_ns() - mqtt->unproved_ns < BLAME_NS;
    mqtt->limits.is_wary = mqtt->limits.is_wary || end.faulted;
    mqtt->unproved_ns = 0;
    for (struct subscription *s = mqtt->subscriptions; s != NULL; s = s->next)
        s->asked_ns = 0;
    pthread_mutex_unlock(&mqtt->mutex);
    for (unsigned i = 0; i < MQTT_WINDOW; i++)
        end.faulted = settle(&mqtt->flights.list[i], blame, why) || end.faulted;
    end.convicted = why[0] != '\0';
    if (end.convicted)
        end.why = why;
    if (!was_idle)
        mqtt->callbacks.down(mqtt->callbacks.context, &end);
}

static void on_lost(void *context, char *cause)
{
    (void)cause; /* always NULL */
    set_down(context, (struct mqtt_end){.why = NULL}, BLAME_RECENT);
}

static void advise(struct mqtt_end *end, int code)
{
    enum limits_advice advice = limits_advise(code);
    if (advice == LIMITS_STAY_AWAY)
        end->advice = MQTT_STAY_AWAY;
    else if (advice == LIMITS_GO_ELSEWHERE)
        end->advice = MQTT_ELSEWHERE;
}

/* The broker says why it closes the connection (version 5). The library then
 * closes it too, and does not call on_lost(). */
static void on_disconnect_packet(void *context, MQTTProperties *properties,
                                 enum MQTTReasonCodes code)
{
    struct mqtt *mqtt = context;
    char why[MQTT_WHY_MAX], reason[MQTT_WHY_MAX];
    struct mqtt_end end = {.why = why};
    (void)properties;
    if (code == MQTTREASONCODE_SESSION_TAKEN_OVER) {
        snprintf(why, sizeof(why), "another client uses the client id %.100s", mqtt->client_id);
    } else {
        reason_words(code, reason);
        snprintf(why, sizeof(why), "closed by the broker: %.100s", reason);
    }
    advise(&end, (int)code);
    set_down(mqtt, end, limits_is_fault((int)code) ? BLAME_RECENT : BLAME_NONE);
}

/* With more in flight than the broker's Receive Maximum (MQTT 5, 3.2.2.3.3) the
 * library holds messages back, and some of them for a second. It does not keep to a
 * Server Keep Alive that is shorter than ours (3.2.2.3.14): then the next attempt
 * asks for that. */
static void set_up(struct mqtt *mqtt)
{
    nap_watch_me();
    pthread_mutex_lock(&mqtt->mutex);
    const struct limits *limits = &mqtt->limits;
    bool expected = mqtt->state == CONNECTING;
    bool shorter = limits->keepalive_s > 0 && limits->keepalive_s < mqtt->offer.keepalive_s;
    if (shorter)
        mqtt->offer.keepalive_s = limits->keepalive_s;
    if (expected && !shorter) {
        mqtt->state = UP;
        mqtt->flights.window =
            limits->receive_max < MQTT_WINDOW ? limits->receive_max : MQTT_WINDOW;
    }
    pthread_mutex_unlock(&mqtt->mutex);
    if (expected && shorter)
        set_down(mqtt,
                 (struct mqtt_end){.why = "the broker wants a shorter keepalive",
                                   .advice = MQTT_TRY_NOW},
                 BLAME_NONE);
    else if (expected)
        mqtt->callbacks.connected(mqtt->callbacks.context);
}

/* Whether the broker refuses the Will (3.2.2.2: 0x9A retain, 0x9B QoS) and the next
 * attempt has a lesser one. */
static bool lessen_will(struct mqtt *mqtt, int code)
{
    bool lessened = false;
    pthread_mutex_lock(&mqtt->mutex);
    if (code == MQTTREASONCODE_QOS_NOT_SUPPORTED && mqtt->offer.will_qos > 0) {
        mqtt->offer.will_qos = 0;
        lessened = true;
    } else if (code == MQTTREASONCODE_RETAIN_NOT_SUPPORTED && mqtt->offer.will_retained) {
        mqtt->offer.will_retained = false;
        lessened = true;
    }
    pthread_mutex_unlock(&mqtt->mutex);
    return lessened;
}

/* `code` > 0 is the broker's answer; everything else is -1 with a text of the
 * library's that does not tell a timeout of the answer from one of TCP. */
static void connect_failed(struct mqtt *mqtt, int code, const char *message)
{
    char why[MQTT_WHY_MAX];
    struct mqtt_end end = {.why = why};
    if (code > 0) {
        connack_words(mqtt, code, why);
        if (mqtt->conf->version >= MQTTVERSION_5)
            advise(&end, code);
        if (lessen_will(mqtt, code))
            end.advice = MQTT_TRY_NOW;
    } else if (message != NULL && strstr(message, "timeout") != NULL) {
        snprintf(why, sizeof(why), "no answer within %d s", CONNECT_TIMEOUT_S);
    } else {
        end.why = NULL;
    }
    set_down(mqtt, end, BLAME_NONE);
}

static void on_connected(void *context, MQTTAsync_successData *data)
{
    (void)data;
    set_up(context);
}

static long number_of(MQTTProperties *properties, enum MQTTPropertyCodes code, long otherwise)
{
    return MQTTProperties_hasProperty(properties, code)
               ? (long)MQTTProperties_getNumericValue(properties, code)
               : otherwise;
}

/* The numbers that the library hands over as int are unsigned. */
static void on_connected5(void *context, MQTTAsync_successData5 *data)
{
    struct mqtt *mqtt = context;
    MQTTProperties *p = &data->properties;
    pthread_mutex_lock(&mqtt->mutex);
    struct limits *limits = &mqtt->limits;
    limits_begin(limits);
    limits->packet_max = (uint32_t)number_of(p, MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE, 0);
    limits->qos_max = (int)number_of(p, MQTTPROPERTY_CODE_MAXIMUM_QOS, 2);
    limits->retain = number_of(p, MQTTPROPERTY_CODE_RETAIN_AVAILABLE, 1) != 0;
    limits->wildcards = number_of(p, MQTTPROPERTY_CODE_WILDCARD_SUBSCRIPTION_AVAILABLE, 1) != 0;
    limits->receive_max = (uint16_t)number_of(p, MQTTPROPERTY_CODE_RECEIVE_MAXIMUM, UINT16_MAX);
    limits->keepalive_s = (uint16_t)number_of(p, MQTTPROPERTY_CODE_SERVER_KEEP_ALIVE, 0);
    pthread_mutex_unlock(&mqtt->mutex);
    set_up(mqtt);
}

static void on_connect_failed(void *context, MQTTAsync_failureData *data)
{
    connect_failed(context, data->code, data->message);
}

static void on_connect_failed5(void *context, MQTTAsync_failureData5 *data)
{
    connect_failed(context, data->code, data->message);
}

static void on_sent(void *context, MQTTAsync_successData *data)
{
    (void)data;
    tell(context, MQTT_DELIVERED, NULL);
}

static void on_sent5(void *context, MQTTAsync_successData5 *data)
{
    (void)data;
    tell(context, MQTT_DELIVERED, NULL);
}

/* At QoS 0. */
static void on_written(void *context, MQTTAsync_successData *data)
{
    (void)data;
    tell_fate(context, MQTT_DELIVERED, false, NULL);
}

static void on_written5(void *context, MQTTAsync_successData5 *data)
{
    (void)data;
    tell_fate(context, MQTT_DELIVERED, false, NULL);
}

/* The connection has ended: set_down(), which is called for that too, before or after
 * this, knows what to think of the messages that were under way. */
static void on_not_sent(void *context, MQTTAsync_failureData *data)
{
    (void)context, (void)data;
}

/* Whether a failure is the broker's no. The library leaves reasonCode
 * uninitialised in some failures of its own; those have a code below 0. */
static bool is_refusal(const MQTTAsync_failureData5 *data)
{
    return data->code == 0 && data->reasonCode >= MQTTREASONCODE_UNSPECIFIED_ERROR;
}

static void on_not_sent5(void *context, MQTTAsync_failureData5 *data)
{
    char why[MQTT_WHY_MAX];
    if (is_refusal(data) && limits_is_transient((int)data->reasonCode)) {
        tell(context, MQTT_LATER, NULL);
    } else if (is_refusal(data)) {
        reason_words(data->reasonCode, why);
        tell(context, MQTT_REFUSED, why);
    } /* else as on_not_sent() */
}

static void subscription_answered(struct subscription *subscription, int code)
{
    const struct mqtt_callbacks *callbacks = &subscription->mqtt->callbacks;
    char why[MQTT_WHY_MAX];
    if (code < 0) /* by the library: the connection has ended */
        return;
    pthread_mutex_lock(&subscription->mqtt->mutex);
    subscription->asked_ns = 0;
    pthread_mutex_unlock(&subscription->mqtt->mutex);
    if (code >= MQTTREASONCODE_UNSPECIFIED_ERROR) {
        reason_words((enum MQTTReasonCodes)code, why);
        callbacks->refused(callbacks->context, subscription->filter, why);
    }
    callbacks->answered(callbacks->context, subscription->filter);
}

static void on_subscribed(void *context, MQTTAsync_successData *data)
{
    subscription_answered(context, data->alt.qos);
}

static void on_subscribed5(void *context, MQTTAsync_successData5 *data)
{
    subscription_answered(context, (int)data->reasonCode);
}

static void on_unsubscribed(void *context, MQTTAsync_successData *data)
{
    (void)data;
    subscription_answered(context, 0);
}

static void on_unsubscribed5(void *context, MQTTAsync_successData5 *data)
{
    (void)data;
    subscription_answered(context, 0);
}

static void on_not_subscribed(void *context, MQTTAsync_failureData *data)
{
    subscription_answered(context, data->code);
}

static void on_not_subscribed5(void *context, MQTTAsync_failureData5 *data)
{
    if (is_refusal(data))
        subscription_answered(context, (int)data->reasonCode);
}

static bool text_is(MQTTLenString text, const char *word)
{
    return (size_t)text.len == strlen(word) && memcmp(text.data, word, (size_t)text.len) == 0;
}

static void read_properties(MQTTProperties *properties, struct mqtt_arrival *arrival)
{
    for (int i = 0; i < properties->count; i++) {
        const MQTTProperty *property = &properties->array[i];
        MQTTLenString data = property->value.data, value = property->value.value;
        if (property->identifier == MQTTPROPERTY_CODE_RESPONSE_TOPIC) {
            arrival->response_topic = data.data;
            arrival->response_topic_size = (size_t)data.len;
        } else if (property->identifier == MQTTPROPERTY_CODE_CORRELATION_DATA) {
            arrival->correlation = data.data;
            arrival->correlation_size = (size_t)data.len;
        } else if (property->identifier == MQTTPROPERTY_CODE_USER_PROPERTY &&
                   text_is(data, "source")) {
            arrival->user_source = value.data;
            arrival->user_source_size = (size_t)value.len;
        } else if (property->identifier == MQTTPROPERTY_CODE_USER_PROPERTY &&
                   text_is(data, "traceparent")) {
            arrival->user_traceparent = value.data;
            arrival->user_traceparent_size = (size_t)value.len;
        }
    }
}

/* `topic_size` is 0 or the topic's length; any other says that the topic has a
 * NUL in it, which no topic may have. */
static int on_arrived(void *context, char *topic, int topic_size, MQTTAsync_message *message)
{
    struct mqtt *mqtt = context;
    struct mqtt_arrival arrival = {.topic = topic,
                                   .payload = message->payload,
                                   .payload_size = (size_t)message->payloadlen,
                                   .retained = message->retained != 0};
    read_properties(&message->properties, &arrival);
    bool whole = topic_size == 0 || (size_t)topic_size == strlen(topic);
    if (mqtt->callbacks.arrived != NULL && whole &&
        !mqtt->callbacks.arrived(mqtt->callbacks.context, &arrival)) {
        return 0;
    }
    MQTTAsync_freeMessage(&message);
    MQTTAsync_free(topic);
    return 1;
}

/* ---- calls into the library -------------------------------------------- */

static bool is_v5(const struct mqtt *mqtt)
{
    return mqtt->conf->version >= MQTTVERSION_5;
}

/* A fresh handle for every attempt, because an old one keeps the messages that
 * were never sent, and sends them, long out of date, on its next connection. It
 * is made before the old one goes: with the last handle the library stops its
 * threads, which takes a second. */
static bool renew_handle(struct mqtt *mqtt, const char *address)
{
    MQTTAsync handle;
    MQTTAsync_createOptions options = MQTTAsync_createOptions_initializer;
    char uri[2 * CONF_TEXT_MAX];
    /* The library compares a certificate with the name that it is given here. */
    const char *host = mqtt->conf->tls ? mqtt->conf->host : address;
    bool is_ipv6 = strchr(host, ':') != NULL;
    snprintf(uri, sizeof(uri), "%s://%s%s%s:%d", mqtt->conf->tls ? "ssl" : "tcp",
             is_ipv6 ? "[" : "", host, is_ipv6 ? "]" : "", (int)mqtt->conf->port);
    address_pin(mqtt->conf->host, address);
    options.MQTTVersion = (int)mqtt->conf->version;
    if (MQTTAsync_createWithOptions(&handle, uri, mqtt->client_id, MQTTCLIENT_PERSISTENCE_NONE,
                                    NULL, &options) != MQTTASYNC_SUCCESS) {
        return false;
    }
    MQTTAsync_setCallbacks(handle, mqtt, on_lost, on_arrived, NULL);
    MQTTAsync_setDisconnected(handle, mqtt, on_disconnect_packet);
    if (mqtt->handle != NULL)
        MQTTAsync_destroy(&mqtt->handle);
    mqtt->handle = handle;
    return true;
}

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static int begin_connect(struct mqtt *mqtt, const char *password)
{
    const struct conf_mqtt *conf = mqtt->conf;
    MQTTProperties properties = MQTTProperties_initializer;
    MQTTProperty packet_max = {.identifier = MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE,
                               .value.integer4 = LIMITS_OUR_PACKET_MAX};
    MQTTAsync_connectOptions v4 = MQTTAsync_connectOptions_initializer;
    MQTTAsync_connectOptions v5 = MQTTAsync_connectOptions_initializer5;
    MQTTAsync_connectOptions options = is_v5(mqtt) ? v5 : v4;
    MQTTAsync_willOptions will = MQTTAsync_willOptions_initializer;
    MQTTAsync_SSLOptions tls = MQTTAsync_SSLOptions_initializer;
    will.topicName = mqtt->will_topic;
    will.payload.data = mqtt->will;
    will.payload.len = (int)mqtt->will_size;
    will.retained = mqtt->offer.will_retained;
    will.qos = mqtt->offer.will_qos;
    tls.trustStore = or_null(conf->ca_file);
    tls.keyStore = or_null(conf->cert_file);
    tls.privateKey = or_null(conf->key_file);
    tls.privateKeyPassword = ""; /* or OpenSSL asks on the terminal for that of an encrypted key */
    tls.verify = 1; /* the host name; the chain is enableServerCertAuth, on by default */
    options.MQTTVersion = (int)conf->version;
    options.keepAliveInterval = (int)mqtt->offer.keepalive_s;
    options.connectTimeout = CONNECT_TIMEOUT_S;
    options.maxInflight = MQTT_WINDOW;
    options.will = mqtt->will_topic != NULL ? &will : NULL;
    options.ssl = conf->tls ? &tls : NULL;
    options.username = or_null(conf->username);
    options.password = or_null(password);
    options.context = mqtt;
    if (is_v5(mqtt)) {
        MQTTProperties_add(&properties, &packet_max);
        options.connectProperties = &properties; /* copied */
        options.onSuccess5 = on_connected5;
        options.onFailure5 = on_connect_failed5;
    } else {
        options.onSuccess = on_connected;
        options.onFailure = on_connect_failed;
    }
    int code = MQTTAsync_connect(mqtt->handle, &options);
    MQTTProperties_free(&properties);
    return code;
}

static void set_state(struct mqtt *mqtt, enum state state)
{
    pthread_mutex_lock(&mqtt->mutex);
    mqtt->state = state;
    mqtt->begun_ns = clock_mono_ns();
    pthread_mutex_unlock(&mqtt->mutex);
}

bool mqtt_connect(struct mqtt *mqtt, const char *address, char why[MQTT_WHY_MAX])
{
    char password[CONF_TEXT_MAX + 1];
    if (!credentials_load(mqtt->conf, password, why, MQTT_WHY_MAX))
        return false;
    set_state(mqtt, IDLE);
    if (!renew_handle(mqtt, address)) {
        snprintf(why, MQTT_WHY_MAX, "out of memory");
        return false;
    }
    set_state(mqtt, CONNECTING);
    int code = begin_connect(mqtt, password);
    if (code == MQTTASYNC_SUCCESS)
        return true;
    set_state(mqtt, IDLE);
    snprintf(why, MQTT_WHY_MAX, "%s", MQTTAsync_strerror(code));
    return false;
}

/* The one for this filter, new or as before; its answer is waited for from now on. */
static struct subscription *ask_subscription(struct mqtt *mqtt, const char *filter)
{
    struct subscription *subscription = mqtt->subscriptions;
    while (subscription != NULL && strcmp(subscription->filter, filter) != 0)
        subscription = subscription->next;
    bool is_new = subscription == NULL;
    if (is_new) {
        char *copy = strdup(filter);
        subscription = copy != NULL ? calloc(1, sizeof(*subscription)) : NULL;
        if (subscription == NULL) {
            free(copy);
            return NULL;
        }
        subscription->mqtt = mqtt;
        subscription->filter = copy;
    }
    pthread_mutex_lock(&mqtt->mutex);
    if (is_new) {
        subscription->next = mqtt->subscriptions;
        mqtt->subscriptions = subscription;
    }
    subscription->asked_ns = clock_mono_ns();
    pthread_mutex_unlock(&mqtt->mutex);
    return subscription;
}

void mqtt_hurry(struct mqtt *mqtt)
{
    const int on = 1;
    DIR *files = opendir("/proc/self/fd");
    const struct dirent *file;
    /* The library does not tell its socket: it is one of those to that port. */
    while (files != NULL && (file = readdir(files)) != NULL) {
        struct sockaddr_storage peer = {0};
        struct sockaddr_in port;
        socklen_t size = sizeof(peer);
        int fd = (int)strtol(file->d_name, NULL, 10);
        if (!isdigit((unsigned char)file->d_name[0]) ||
            getpeername(fd, (struct sockaddr *)&peer, &size) != 0 ||
            (peer.ss_family != AF_INET && peer.ss_family != AF_INET6))
            continue;
        memcpy(&port, &peer, sizeof(port)); /* it stands at the same place in both families */
        if (ntohs(port.sin_port) == mqtt->conf->port)
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    if (files != NULL)
        closedir(files);
}

/* What is called when the broker has answered; false when there is no memory. */
static bool await_answer(struct mqtt *mqtt, const char *filter, MQTTAsync_onSuccess *done,
                         MQTTAsync_onSuccess5 *done5, MQTTAsync_responseOptions *options)
{
    options->context = ask_subscription(mqtt, filter);
    if (is_v5(mqtt)) {
        options->onSuccess5 = done5;
        options->onFailure5 = on_not_subscribed5;
    } else {
        options->onSuccess = done;
        options->onFailure = on_not_subscribed;
    }
    return options->context != NULL;
}

bool mqtt_subscribe(struct mqtt *mqtt, const char *filter, bool with_retained)
{
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    if (!await_answer(mqtt, filter, on_subscribed, on_subscribed5, &options))
        return false;
    if (is_v5(mqtt)) {
        options.subscribeOptions.retainHandling = with_retained ? 0 : 2; /* 2: none at subscribe */
        options.subscribeOptions.retainAsPublished = 1;
    }
    return MQTTAsync_subscribe(mqtt->handle, filter, 1, &options) == MQTTASYNC_SUCCESS;
}

bool mqtt_unsubscribe(struct mqtt *mqtt, const char *filter)
{
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    return await_answer(mqtt, filter, on_unsubscribed, on_unsubscribed5, &options) &&
           MQTTAsync_unsubscribe(mqtt->handle, filter, &options) == MQTTASYNC_SUCCESS;
}

static void add_properties(const struct mqtt_message *message, MQTTProperties *properties)
{
    MQTTProperty property;
    if (message->expiry_s > 0) {
        property.identifier = MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL;
        property.value.integer4 = message->expiry_s;
        MQTTProperties_add(properties, &property);
    }
    if (message->correlation_size > 0) {
        property.identifier = MQTTPROPERTY_CODE_CORRELATION_DATA;
        property.value.data.data = (char *)(uintptr_t)message->correlation; /* copied */
        property.value.data.len = (int)message->correlation_size;
        MQTTProperties_add(properties, &property);
    }
}

/* Takes a place for the message, or says why it may never have one. */
static struct flight *take_off(struct mqtt *mqtt, const struct limits_packet *packet,
                               uint64_t ticket, bool alone, char why[MQTT_WHY_MAX])
{
    struct flight *flight = NULL;
    char *topic = strdup(packet->topic);
    why[0] = '\0';
    pthread_mutex_lock(&mqtt->mutex);
    if (topic != NULL && mqtt->state == UP && limits_allow(&mqtt->limits, packet, why))
        flight = flights_take_off(&mqtt->flights, packet, topic, ticket, alone, clock_mono_ns());
    pthread_mutex_unlock(&mqtt->mutex);
    if (flight == NULL)
        free(topic);
    return flight;
}

/* Asks for an acknowledgement where one is needed to tell what ends the session. */
static struct limits_packet prove(struct mqtt *mqtt, const struct mqtt_message *message,
                                  MQTTAsync_message *letter, bool *alone)
{
    const size_t properties = is_v5(mqtt) ? (size_t)letter->properties.length : SIZE_MAX;
    struct limits_packet packet = {
        message->topic,
        limits_packet_size(strlen(message->topic), message->payload_size, letter->qos, properties),
        message->foreign};
    pthread_mutex_lock(&mqtt->mutex);
    bool is_suspect = limits_is_suspect(&mqtt->limits, &packet);
    if (is_suspect && letter->qos == 0 && mqtt->limits.qos_max > 0) {
        letter->qos = 1;
        packet.size += 2; /* the packet identifier */
    }
    *alone = is_suspect && letter->qos > 0;
    if (letter->qos == 0 && packet.size > mqtt->limits.delivered_size)
        mqtt->unproved_ns = clock_mono_ns();
    pthread_mutex_unlock(&mqtt->mutex);
    return packet;
}

bool mqtt_publish(struct mqtt *mqtt, const struct mqtt_message *message, uint64_t ticket)
{
    MQTTAsync_message letter = MQTTAsync_message_initializer;
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    char why[MQTT_WHY_MAX];
    bool alone;
    pthread_mutex_lock(&mqtt->mutex);
    letter.qos = message->qos < mqtt->limits.qos_max ? message->qos : mqtt->limits.qos_max;
    letter.retained = message->retained && mqtt->limits.retain;
    pthread_mutex_unlock(&mqtt->mutex);
    letter.payload = (void *)(uintptr_t)message->payload; /* copied */
    letter.payloadlen = (int)message->payload_size;
    if (is_v5(mqtt))
        add_properties(message, &letter.properties);
    const struct limits_packet packet = prove(mqtt, message, &letter, &alone);
    struct flight *flight = take_off(mqtt, &packet, ticket, alone, why);
    if (flight == NULL) {
        MQTTProperties_free(&letter.properties);
        if (why[0] == '\0')
            return false;
        mqtt->callbacks.refused(mqtt->callbacks.context, message->topic, why);
        mqtt->callbacks.delivered(mqtt->callbacks.context, ticket, MQTT_REFUSED);
        return true;
    }
    options.context = flight;
    if (is_v5(mqtt)) {
        options.onSuccess5 = letter.qos > 0 ? on_sent5 : on_written5;
        options.onFailure5 = on_not_sent5;
    } else {
        options.onSuccess = letter.qos > 0 ? on_sent : on_written;
        options.onFailure = on_not_sent;
    }
    int code = MQTTAsync_sendMessage(mqtt->handle, message->topic, &letter, &options);
    MQTTProperties_free(&letter.properties);
    if (code == MQTTASYNC_DISCONNECTED) {
        /* Unless on_lost() was quicker; it tells this one's fate, too. */
        set_down(mqtt, (struct mqtt_end){.why = NULL}, BLAME_RECENT);
    } else if (code != MQTTASYNC_SUCCESS) {
        /* Such as a topic that is no UTF-8: another time would be no better. */
        tell(flight, MQTT_REFUSED, MQTTAsync_strerror(code));
    }
    return true;
}

/* ---- what is overdue ----------------------------------------------------- */

static void on_gone(struct mqtt *mqtt)
{
    pthread_mutex_lock(&mqtt->mutex);
    mqtt->gone = true;
    pthread_cond_signal(&mqtt->landed);
    pthread_mutex_unlock(&mqtt->mutex);
}

static void on_left(void *context, MQTTAsync_successData *data)
{
    (void)data;
    on_gone(context);
}

static void on_left5(void *context, MQTTAsync_successData5 *data)
{
    (void)data;
    on_gone(context);
}

/* Ends the connection of a session that is IDLE here already. With its Will: who is
 * cut off in the middle of something is not to be thought well. */
static void leave(struct mqtt *mqtt)
{
    MQTTAsync_disconnectOptions v4 = MQTTAsync_disconnectOptions_initializer;
    MQTTAsync_disconnectOptions v5 = MQTTAsync_disconnectOptions_initializer5;
    MQTTAsync_disconnectOptions options = is_v5(mqtt) ? v5 : v4;
    options.context = mqtt;
    if (is_v5(mqtt)) {
        options.reasonCode = MQTTREASONCODE_DISCONNECT_WITH_WILL_MESSAGE;
        options.onSuccess5 = on_left5;
    } else {
        options.onSuccess = on_left;
    }
    pthread_mutex_lock(&mqtt->mutex);
    mqtt->gone = false;
    pthread_mutex_unlock(&mqtt->mutex);
    if (MQTTAsync_disconnect(mqtt->handle, &options) != MQTTASYNC_SUCCESS)
        on_gone(mqtt);
}

/* What is overdue now, in words, or NULL; `*due_ns` becomes the time of the next. */
static const char *find_overdue(struct mqtt *mqtt, int64_t now_ns, int64_t *due_ns,
                                enum blame *blame)
{
    int64_t late_ns = CLOCK_NEVER;
    if (mqtt->state == CONNECTING)
        late_ns = mqtt->begun_ns + CONNECT_LATE_NS;
    if (late_ns <= now_ns)
        return "the library does not say what became of the attempt";
    *due_ns = late_ns;
    if (mqtt->state != UP)
        return NULL;
    for (const struct subscription *s = mqtt->subscriptions; s != NULL; s = s->next) {
        late_ns = s->asked_ns != 0 ? s->asked_ns + FLIGHTS_LATE_NS : CLOCK_NEVER;
        if (late_ns <= now_ns)
            return "no answer to a subscription within 30 s";
        *due_ns = late_ns < *due_ns ? late_ns : *due_ns;
    }
    late_ns = flights_late_ns(&mqtt->flights, now_ns);
    if (late_ns <= now_ns) {
        *blame = BLAME_LATE;
        return "no acknowledgement of a message within 30 s";
    }
    *due_ns = late_ns < *due_ns ? late_ns : *due_ns;
    return NULL;
}

/* What wakes the library's sender is any further packet; this one changes
 * nothing, for nobody subscribes to that topic here. */
static int64_t nudge(struct mqtt *mqtt, int64_t now_ns)
{
    char topic[2 * CONF_TEXT_MAX];
    pthread_mutex_lock(&mqtt->mutex);
    bool waits =
        mqtt->state == UP && mqtt->flights.n > 0 && !mqtt->nudged && mqtt->will_topic != NULL;
    int64_t due_ns = waits ? mqtt->flights.moved_ns + NUDGE_NS : CLOCK_NEVER;
    mqtt->nudged = mqtt->nudged || now_ns >= due_ns;
    pthread_mutex_unlock(&mqtt->mutex);
    if (now_ns < due_ns)
        return due_ns;
    snprintf(topic, sizeof(topic), "%s/nobody", mqtt->will_topic);
    MQTTAsync_unsubscribe(mqtt->handle, topic, NULL);
    return CLOCK_NEVER;
}

int64_t mqtt_tend(struct mqtt *mqtt, int64_t now_ns)
{
    int64_t due_ns = CLOCK_NEVER;
    enum blame blame = BLAME_NONE;
    pthread_mutex_lock(&mqtt->mutex);
    const char *why = find_overdue(mqtt, now_ns, &due_ns, &blame);
    pthread_mutex_unlock(&mqtt->mutex);
    if (why != NULL) {
        set_down(mqtt, (struct mqtt_end){.why = why}, blame);
        leave(mqtt);
        return CLOCK_NEVER;
    }
    int64_t nudge_ns = nudge(mqtt, now_ns);
    return nudge_ns < due_ns ? nudge_ns : due_ns;
}

void mqtt_disconnect(struct mqtt *mqtt, int64_t until_ns, bool with_will)
{
    pthread_mutex_lock(&mqtt->mutex);
    while (mqtt->state == UP && mqtt->flights.n > 0 && clock_mono_ns() < until_ns)
        clock_cond_wait(&mqtt->landed, &mqtt->mutex, until_ns);
    bool was_up = mqtt->state == UP;
    with_will = was_up && is_v5(mqtt) && (with_will || mqtt->flights.n > 0);
    mqtt->state = IDLE;
    pthread_mutex_unlock(&mqtt->mutex);
    if (with_will) {
        int64_t end_ns = until_ns + GOODBYE_NS; /* hundreds may end at the same time */
        leave(mqtt);
        pthread_mutex_lock(&mqtt->mutex);
        while (!mqtt->gone && clock_mono_ns() < end_ns)
            clock_cond_wait(&mqtt->landed, &mqtt->mutex, end_ns);
        pthread_mutex_unlock(&mqtt->mutex);
    }
    /* Sends DISCONNECT. MQTTAsync_disconnect() would look every 3 s only
     * whether what is in flight has arrived. */
    if (mqtt->handle != NULL)
        MQTTAsync_destroy(&mqtt->handle);
    set_down(mqtt, (struct mqtt_end){.why = NULL}, BLAME_NONE);
}
