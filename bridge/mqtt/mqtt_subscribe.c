#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/mqtt/mqtt_inside.h"
#include "devices/registers/cfg_value.h"

/* Of a broker that refuses what it may take later. */
#define AGAIN_MIN_NS (2 * CLOCK_NS_PER_S)
#define AGAIN_MAX_NS (60 * CLOCK_NS_PER_S)

/* Takes down the answer; whether it is the first in this session. */
static bool take_answer(struct subscription *subscription, int code)
{
    struct mqtt *mqtt = subscription->mqtt;
    pthread_mutex_lock(&mqtt->mutex);
    const int64_t before_ns = subscription->pause_ns;
    subscription->asked_ns = subscription->again_ns = subscription->pause_ns = 0;
    if (subscription->is_wanted && limits_is_transient(code)) {
        const int64_t longer_ns = before_ns == 0 ? AGAIN_MIN_NS : 2 * before_ns;
        subscription->pause_ns = longer_ns < AGAIN_MAX_NS ? longer_ns : AGAIN_MAX_NS;
        subscription->again_ns = clock_awake_ns() + subscription->pause_ns;
    }
    pthread_mutex_unlock(&mqtt->mutex);
    return before_ns == 0;
}

static void subscription_answered(struct subscription *subscription, int code)
{
    const struct mqtt_callbacks *callbacks = &subscription->mqtt->callbacks;
    char why[MQTT_WHY_MAX];
    if (code < 0) /* by the library: the connection has ended */
        return;
    const bool is_first = take_answer(subscription, code);
    if (is_first && code >= MQTTREASONCODE_UNSPECIFIED_ERROR) {
        mqtt_reason_words(code, why);
        callbacks->refused(callbacks->context, subscription->filter, why);
    }
    if (is_first)
        callbacks->answered(callbacks->context, subscription->filter);
    else if (code < MQTTREASONCODE_UNSPECIFIED_ERROR && callbacks->relented != NULL)
        callbacks->relented(callbacks->context, subscription->filter);
}

/* Of one that is to end nothing is waited for but that. */
static void subscribe_answered(struct subscription *subscription, int code)
{
    pthread_mutex_lock(&subscription->mqtt->mutex);
    const bool is_wanted = subscription->is_wanted;
    pthread_mutex_unlock(&subscription->mqtt->mutex);
    if (is_wanted)
        subscription_answered(subscription, code);
}

/* With more codes than filters the library hands over a list's address in their place: who
 * answers so has not answered. */
static void on_subscribed(void *context, MQTTAsync_successData *data)
{
    const bool is_code = data->alt.qos >= 0 && data->alt.qos <= UINT8_MAX;
    subscribe_answered(context, is_code ? data->alt.qos : MQTTREASONCODE_UNSPECIFIED_ERROR);
}

static void on_subscribed5(void *context, MQTTAsync_successData5 *data)
{
    subscribe_answered(context, (int)data->reasonCode);
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
    subscribe_answered(context, data->code);
}

static void on_not_subscribed5(void *context, MQTTAsync_failureData5 *data)
{
    if (mqtt_is_refusal(data))
        subscribe_answered(context, (int)data->reasonCode);
}

static void on_not_unsubscribed(void *context, MQTTAsync_failureData *data)
{
    subscription_answered(context, data->code);
}

static void on_not_unsubscribed5(void *context, MQTTAsync_failureData5 *data)
{
    if (mqtt_is_refusal(data))
        subscription_answered(context, (int)data->reasonCode);
}

/* The one for this filter, new or as before; its answer is waited for from now on. */
static struct subscription *ask_subscription(struct mqtt *mqtt, const char *filter, bool is_wanted)
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
    subscription->is_wanted = is_wanted;
    subscription->asked_ns = clock_awake_ns();
    subscription->again_ns = subscription->pause_ns = 0;
    pthread_mutex_unlock(&mqtt->mutex);
    return subscription;
}

static bool send_subscribe(struct subscription *subscription)
{
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    options.context = subscription;
    if (mqtt_is_v5(subscription->mqtt)) {
        options.onSuccess5 = on_subscribed5;
        options.onFailure5 = on_not_subscribed5;
        /* 2: none at subscribe */
        options.subscribeOptions.retainHandling = subscription->hearing == MQTT_RETAINED ? 0 : 2;
        options.subscribeOptions.noLocal = subscription->hearing == MQTT_OTHERS;
        options.subscribeOptions.retainAsPublished = 1;
    } else {
        options.onSuccess = on_subscribed;
        options.onFailure = on_not_subscribed;
    }
    return MQTTAsync_subscribe(subscription->mqtt->handle, subscription->filter, subscription->qos,
                               &options) == MQTTASYNC_SUCCESS;
}

bool mqtt_subscribe(struct mqtt *mqtt, const char *filter, enum mqtt_hearing hearing, int qos)
{
    struct subscription *subscription = ask_subscription(mqtt, filter, true);
    if (subscription == NULL)
        return false;
    subscription->hearing = hearing;
    subscription->qos = qos;
    return send_subscribe(subscription);
}

void mqtt_subscribe_again(struct mqtt *mqtt, int64_t now_ns)
{
    for (struct subscription *s = mqtt->subscriptions; s != NULL; s = s->next) {
        pthread_mutex_lock(&mqtt->mutex);
        const bool is_due = mqtt->state == UP && s->again_ns != 0 && s->again_ns <= now_ns;
        if (is_due) {
            s->again_ns = 0;
            s->asked_ns = now_ns;
        }
        pthread_mutex_unlock(&mqtt->mutex);
        if (is_due)
            (void)send_subscribe(s); /* fails when the session has ended */
    }
}

bool mqtt_unsubscribe(struct mqtt *mqtt, const char *filter)
{
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    struct subscription *subscription = ask_subscription(mqtt, filter, false);
    if (subscription == NULL)
        return false;
    options.context = subscription;
    if (mqtt_is_v5(mqtt)) {
        options.onSuccess5 = on_unsubscribed5;
        options.onFailure5 = on_not_unsubscribed5;
    } else {
        options.onSuccess = on_unsubscribed;
        options.onFailure = on_not_unsubscribed;
    }
    return MQTTAsync_unsubscribe(mqtt->handle, filter, &options) == MQTTASYNC_SUCCESS;
}

/* ---- what arrives ------------------------------------------------------ */

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

/* Whether a message may bear it (MQTT 5.0, sections 3.3.2.1 and 1.5.4). To one that may not
 * nobody could have sent, and an answer below that name would end the session. `size` is 0 or
 * the topic's length; any other says that there is a NUL in it. */
static bool is_topic(const char *topic, int size)
{
    return (size == 0 || (size_t)size == strlen(topic)) && strpbrk(topic, "+#") == NULL &&
           cfg_value_is_text(topic);
}

int mqtt_on_arrived(void *context, char *topic, int topic_size, MQTTAsync_message *message)
{
    struct mqtt *mqtt = context;
    struct mqtt_arrival arrival = {.topic = topic,
                                   .payload = message->payload,
                                   .payload_size = (size_t)message->payloadlen,
                                   .retained = message->retained != 0};
    read_properties(&message->properties, &arrival);
    if (mqtt->callbacks.arrived != NULL && is_topic(topic, topic_size) &&
        !mqtt->callbacks.arrived(mqtt->callbacks.context, &arrival)) {
        return 0;
    }
    if (message->qos < 2)
        mqtt_note_arrival(mqtt);
    MQTTAsync_freeMessage(&message);
    MQTTAsync_free(topic);
    return 1;
}
