#include "bridge/mqtt/mqtt.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/mqtt/mqtt_inside.h"

enum { PROPERTIES_MAX = 2 }; /* of a message */

bool mqtt_is_v5(const struct mqtt *mqtt)
{
    return mqtt->conf->version >= MQTTVERSION_5;
}

/* What CONNECT asks for, as it is configured. */
static void set_offer(struct mqtt *mqtt)
{
    mqtt->offer.will_qos = 1;
    mqtt->offer.will_retained = mqtt->will_retained;
    mqtt->offer.keepalive_s = (unsigned)(mqtt->conf->keepalive_ns / CLOCK_NS_PER_S);
}

/* Once only: it makes the library's locks anew, and with them in use its sender is woken
 * no more. */
static void start_library(void)
{
    MQTTAsync_init_options start = MQTTAsync_init_options_initializer;
    /* OpenSSL begins by itself with the first session that has TLS: without any it would
     * be 1.4 MiB for nothing. */
    start.do_openssl_init = 0;
    MQTTAsync_global_init(&start);
    /* Or it writes a line to memory on every call and packet, for nobody to read: a
     * fifth of the processor time of a message. */
    MQTTAsync_setTraceLevel(MQTTASYNC_TRACE_ERROR);
}

struct mqtt *mqtt_new(const struct conf_mqtt *conf, const char *client_id, const char *will_topic,
                      const struct mqtt_callbacks *callbacks)
{
    static const char offline[] = "offline";
    static pthread_once_t started = PTHREAD_ONCE_INIT;
    struct mqtt *mqtt = calloc(1, sizeof(*mqtt));
    if (mqtt == NULL)
        return NULL;
    (void)pthread_once(&started, start_library);
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
    char *topic = flights_land(&mqtt->flights, flight, clock_awake_ns());
    const struct limits_packet packet = {topic, copy.size, copy.foreign, copy.plain};
    mqtt->nudged = false;
    if (topic != NULL && is_proved) {
        limits_delivered(&mqtt->limits, &packet);
        mqtt->is_proved = true;
    }
    if (topic != NULL && mqtt->flights.n == 0)
        pthread_cond_broadcast(&mqtt->landed);
    pthread_mutex_unlock(&mqtt->mutex);
    if (topic == NULL)
        return;
    if (why != NULL)
        callbacks->refused(callbacks->context, topic, why);
    callbacks->delivered(callbacks->context, copy.ticket, fate);
    free(topic);
}

void mqtt_tell(struct flight *flight, enum mqtt_fate fate, const char *why)
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

/* ---- publishing -------------------------------------------------------- */

static void on_sent(void *context, MQTTAsync_successData *data)
{
    (void)data;
    mqtt_tell(context, MQTT_DELIVERED, NULL);
}

static void on_sent5(void *context, MQTTAsync_successData5 *data)
{
    (void)data;
    mqtt_tell(context, MQTT_DELIVERED, NULL);
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

/* The connection has ended: mqtt_set_down(), which is called for that too, before or after
 * this, knows what to think of the messages that were under way. */
static void on_not_sent(void *context, MQTTAsync_failureData *data)
{
    (void)context, (void)data;
}

bool mqtt_is_refusal(const MQTTAsync_failureData5 *data)
{
    return data->code == 0 && data->reasonCode >= MQTTREASONCODE_UNSPECIFIED_ERROR;
}

static void on_not_sent5(void *context, MQTTAsync_failureData5 *data)
{
    char why[MQTT_WHY_MAX];
    if (mqtt_is_refusal(data) && limits_is_transient((int)data->reasonCode)) {
        mqtt_tell(context, MQTT_LATER, NULL);
    } else if (mqtt_is_refusal(data)) {
        mqtt_reason_words((int)data->reasonCode, why);
        mqtt_tell(context, MQTT_REFUSED, why);
    } /* else as on_not_sent() */
}

/* The library copies them. MQTTProperties_add() and MQTTProperties_free() would take
 * memory and give it back for each message, an eighth of what publishing costs here. */
static MQTTProperties list_properties(const struct mqtt_message *message,
                                      MQTTProperty list[PROPERTIES_MAX])
{
    MQTTProperties properties = {.max_count = PROPERTIES_MAX, .array = list};
    if (message->expiry_s > 0) {
        MQTTProperty *property = &list[properties.count++];
        property->identifier = MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL;
        property->value.integer4 = message->expiry_s;
        properties.length += 1 + 4;
    }
    if (message->correlation_size > 0) {
        MQTTProperty *property = &list[properties.count++];
        property->identifier = MQTTPROPERTY_CODE_CORRELATION_DATA;
        property->value.data.data = (char *)(uintptr_t)message->correlation;
        property->value.data.len = (int)message->correlation_size;
        properties.length += 1 + 2 + property->value.data.len;
    }
    return properties;
}

/* Takes a place for the message, or says why it may never have one. */
static struct flight *take_off(struct mqtt *mqtt, const struct limits_packet *packet,
                               uint64_t ticket, bool alone, const int *token,
                               char why[MQTT_WHY_MAX])
{
    struct flight *flight = NULL;
    char *topic = strdup(packet->topic);
    why[0] = '\0';
    pthread_mutex_lock(&mqtt->mutex);
    if (topic != NULL && mqtt->state == UP && limits_allow(&mqtt->limits, packet, why))
        flight = flights_take_off(&mqtt->flights, packet, topic, ticket, alone, clock_awake_ns());
    if (flight != NULL)
        flight->token = token;
    pthread_mutex_unlock(&mqtt->mutex);
    if (flight == NULL)
        free(topic);
    return flight;
}

/* Asks for an acknowledgement where one is needed to tell what ends the session. */
static struct limits_packet prove(struct mqtt *mqtt, const struct mqtt_message *message,
                                  MQTTAsync_message *letter, bool *alone)
{
    const size_t properties = mqtt_is_v5(mqtt) ? (size_t)letter->properties.length : SIZE_MAX;
    struct limits_packet packet = {
        message->topic,
        limits_packet_size(strlen(message->topic), message->payload_size, letter->qos, properties),
        message->foreign, message->plain};
    pthread_mutex_lock(&mqtt->mutex);
    bool is_suspect = limits_is_suspect(&mqtt->limits, &packet);
    if (is_suspect && letter->qos == 0 && mqtt->limits.qos_max > 0) {
        letter->qos = 1;
        packet.size += 2; /* the packet identifier */
    }
    *alone = is_suspect && letter->qos > 0;
    if (letter->qos == 0 && packet.size > mqtt->limits.delivered_size && !message->plain)
        mqtt->unproved_ns = clock_awake_ns();
    pthread_mutex_unlock(&mqtt->mutex);
    return packet;
}

/* Only after it has been handed over: the answer may have been quicker. */
static void note_identifier(struct mqtt *mqtt, struct flight *flight, MQTTAsync_token token)
{
    pthread_mutex_lock(&mqtt->mutex);
    if (flight->topic != NULL)
        flight->identifier = (unsigned)token;
    flight->token = NULL;
    pthread_mutex_unlock(&mqtt->mutex);
}

bool mqtt_publish(struct mqtt *mqtt, const struct mqtt_message *message, uint64_t ticket)
{
    MQTTAsync_message letter = MQTTAsync_message_initializer;
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    MQTTProperty list[PROPERTIES_MAX];
    char why[MQTT_WHY_MAX];
    bool alone;
    pthread_mutex_lock(&mqtt->mutex);
    letter.qos = message->qos < mqtt->limits.qos_max ? message->qos : mqtt->limits.qos_max;
    letter.retained = message->retained && mqtt->limits.retain;
    pthread_mutex_unlock(&mqtt->mutex);
    letter.payload = (void *)(uintptr_t)message->payload; /* copied */
    letter.payloadlen = (int)message->payload_size;
    if (mqtt_is_v5(mqtt))
        letter.properties = list_properties(message, list);
    const struct limits_packet packet = prove(mqtt, message, &letter, &alone);
    struct flight *flight = take_off(mqtt, &packet, ticket, alone, &options.token, why);
    if (flight == NULL) {
        if (why[0] == '\0')
            return false;
        mqtt->callbacks.refused(mqtt->callbacks.context, message->topic, why);
        mqtt->callbacks.delivered(mqtt->callbacks.context, ticket, MQTT_REFUSED);
        return true;
    }
    options.context = flight;
    if (mqtt_is_v5(mqtt)) {
        options.onSuccess5 = letter.qos > 0 ? on_sent5 : on_written5;
        options.onFailure5 = on_not_sent5;
    } else {
        options.onSuccess = letter.qos > 0 ? on_sent : on_written;
        options.onFailure = on_not_sent;
    }
    int code = MQTTAsync_sendMessage(mqtt->handle, message->topic, &letter, &options);
    note_identifier(mqtt, flight, options.token);
    if (code == MQTTASYNC_DISCONNECTED) {
        /* Unless on_lost() was quicker; it tells this one's fate, too. */
        mqtt_set_down(mqtt, (struct mqtt_end){.why = NULL}, BLAME_RECENT);
    } else if (code != MQTTASYNC_SUCCESS) {
        /* Such as a topic that is no UTF-8: another time would be no better. */
        mqtt_tell(flight, MQTT_REFUSED, MQTTAsync_strerror(code));
    }
    return true;
}
