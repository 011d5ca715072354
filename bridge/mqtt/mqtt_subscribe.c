#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/mqtt/mqtt_inside.h"

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
        mqtt_reason_words((enum MQTTReasonCodes)code, why);
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
    if (mqtt_is_refusal(data))
        subscription_answered(context, (int)data->reasonCode);
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

/* What is called when the broker has answered; false when there is no memory. */
static bool await_answer(struct mqtt *mqtt, const char *filter, MQTTAsync_onSuccess *done,
                         MQTTAsync_onSuccess5 *done5, MQTTAsync_responseOptions *options)
{
    options->context = ask_subscription(mqtt, filter);
    if (mqtt_is_v5(mqtt)) {
        options->onSuccess5 = done5;
        options->onFailure5 = on_not_subscribed5;
    } else {
        options->onSuccess = done;
        options->onFailure = on_not_subscribed;
    }
    return options->context != NULL;
}

bool mqtt_subscribe(struct mqtt *mqtt, const char *filter, enum mqtt_hearing hearing)
{
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    if (!await_answer(mqtt, filter, on_subscribed, on_subscribed5, &options))
        return false;
    if (mqtt_is_v5(mqtt)) {
        /* 2: none at subscribe */
        options.subscribeOptions.retainHandling = hearing == MQTT_RETAINED ? 0 : 2;
        options.subscribeOptions.noLocal = hearing == MQTT_OTHERS;
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

/* `topic_size` is 0 or the topic's length; any other says that the topic has a
 * NUL in it, which no topic may have. */
int mqtt_on_arrived(void *context, char *topic, int topic_size, MQTTAsync_message *message)
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
