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

enum { CONNECT_TIMEOUT_S = 10 };

#define NUDGE_NS (100 * CLOCK_NS_PER_MS) /* a broker far away takes half of it */

/* In IDLE the callbacks of the old handle are ignored. */
enum state { IDLE, CONNECTING, UP };

/* One message in the library's hands. The library tells when a message is
 * acknowledged; when the connection ends it forgets some or all without a word,
 * depending on how it ended. So they are all written down here. */
struct flight {
    struct mqtt *mqtt;
    uint64_t ticket;
    char *topic; /* NULL = free */
};

/* What was subscribed to, kept while callbacks may name it. */
struct subscription {
    struct mqtt *mqtt;
    char *filter; /* NULL = free */
};

struct mqtt {
    const struct conf_mqtt *conf;
    struct mqtt_callbacks callbacks;
    char *client_id, *will_topic;
    struct subscription subscriptions[MQTT_FILTERS_MAX];
    MQTTAsync handle; /* publisher only */

    pthread_mutex_t mutex; /* guards what follows; never held while calling out */
    pthread_cond_t landed;
    enum state state;
    unsigned n_flights;
    unsigned window;  /* most flights at once: MQTT_WINDOW, or less if the broker says so */
    int64_t moved_ns; /* when the last one landed, or the first one since took off */
    bool nudged;      /* since then */
    struct flight flights[MQTT_WINDOW];
};

struct mqtt *mqtt_new(const struct conf_mqtt *conf, const char *client_id, const char *will_topic,
                      const struct mqtt_callbacks *callbacks)
{
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
    for (unsigned i = 0; i < MQTT_WINDOW; i++)
        mqtt->flights[i].mqtt = mqtt;
    mqtt->client_id = strdup(client_id);
    mqtt->will_topic = strdup(will_topic);
    if (mqtt->client_id == NULL || mqtt->will_topic == NULL) {
        mqtt_free(mqtt);
        return NULL;
    }
    return mqtt;
}

void mqtt_free(struct mqtt *mqtt)
{
    if (mqtt == NULL)
        return;
    mqtt_disconnect(mqtt, 0);
    pthread_cond_destroy(&mqtt->landed);
    pthread_mutex_destroy(&mqtt->mutex);
    free(mqtt->client_id);
    free(mqtt->will_topic);
    for (unsigned i = 0; i < MQTT_FILTERS_MAX; i++)
        free(mqtt->subscriptions[i].filter);
    free(mqtt);
}

/* ---- messages in flight ------------------------------------------------ */

static struct flight *take_off(struct mqtt *mqtt, const char *topic, uint64_t ticket)
{
    struct flight *flight = NULL;
    char *copy = strdup(topic);
    pthread_mutex_lock(&mqtt->mutex);
    if (copy != NULL && mqtt->state == UP && mqtt->n_flights < mqtt->window) {
        flight = mqtt->flights;
        while (flight->topic != NULL)
            flight++;
        flight->ticket = ticket;
        flight->topic = copy;
        if (mqtt->n_flights++ == 0)
            mqtt->moved_ns = clock_mono_ns();
        copy = NULL;
    }
    pthread_mutex_unlock(&mqtt->mutex);
    free(copy);
    return flight;
}

/* Frees the place of a message. False when its fate has been told before; then
 * nobody may tell it again. */
static bool land(struct flight *flight, const char *why)
{
    struct mqtt *mqtt = flight->mqtt;
    pthread_mutex_lock(&mqtt->mutex);
    char *topic = flight->topic;
    flight->topic = NULL;
    mqtt->moved_ns = clock_mono_ns();
    mqtt->nudged = false;
    if (topic != NULL && --mqtt->n_flights == 0)
        pthread_cond_signal(&mqtt->landed);
    pthread_mutex_unlock(&mqtt->mutex);
    if (topic != NULL && why != NULL)
        mqtt->callbacks.refused(mqtt->callbacks.context, topic, why);
    free(topic);
    return topic != NULL;
}

static void tell(struct flight *flight, enum mqtt_fate fate, const char *why)
{
    const struct mqtt_callbacks *callbacks = &flight->mqtt->callbacks;
    uint64_t ticket = flight->ticket;
    if (land(flight, why))
        callbacks->delivered(callbacks->context, ticket, fate);
}

unsigned mqtt_room(struct mqtt *mqtt)
{
    pthread_mutex_lock(&mqtt->mutex);
    unsigned room = mqtt->state == UP ? mqtt->window - mqtt->n_flights : 0;
    pthread_mutex_unlock(&mqtt->mutex);
    return room;
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

/* ---- callbacks of the library ------------------------------------------ */

static void set_down(struct mqtt *mqtt, const char *why)
{
    pthread_mutex_lock(&mqtt->mutex);
    bool was_idle = mqtt->state == IDLE;
    mqtt->state = IDLE;
    pthread_mutex_unlock(&mqtt->mutex);
    for (unsigned i = 0; i < MQTT_WINDOW; i++)
        tell(&mqtt->flights[i], MQTT_LOST, NULL);
    if (!was_idle)
        mqtt->callbacks.down(mqtt->callbacks.context, why);
}

static void on_lost(void *context, char *cause)
{
    (void)cause; /* always NULL */
    set_down(context, NULL);
}

/* The broker says why it closes the connection (version 5). The library then
 * closes it too, and does not call on_lost(). */
static void on_disconnect_packet(void *context, MQTTProperties *properties,
                                 enum MQTTReasonCodes code)
{
    struct mqtt *mqtt = context;
    char why[MQTT_WHY_MAX], reason[MQTT_WHY_MAX];
    (void)properties;
    if (code == MQTTREASONCODE_SESSION_TAKEN_OVER) {
        snprintf(why, sizeof(why), "another client uses the client id %.100s", mqtt->client_id);
    } else {
        reason_words(code, reason);
        snprintf(why, sizeof(why), "closed by the broker: %.100s", reason);
    }
    set_down(mqtt, why);
}

static void set_up(struct mqtt *mqtt, unsigned window)
{
    pthread_mutex_lock(&mqtt->mutex);
    bool expected = mqtt->state == CONNECTING;
    if (expected) {
        mqtt->state = UP;
        mqtt->window = window;
    }
    pthread_mutex_unlock(&mqtt->mutex);
    if (expected)
        mqtt->callbacks.connected(mqtt->callbacks.context);
}

/* `code` > 0 is the broker's answer; everything else is -1 with a text of the
 * library's that does not tell a timeout of the answer from one of TCP. */
static void connect_failed(struct mqtt *mqtt, int code, const char *message)
{
    char why[MQTT_WHY_MAX];
    if (code > 0) {
        connack_words(mqtt, code, why);
        set_down(mqtt, why);
    } else if (message != NULL && strstr(message, "timeout") != NULL) {
        snprintf(why, sizeof(why), "no answer within %d s", CONNECT_TIMEOUT_S);
        set_down(mqtt, why);
    } else {
        set_down(mqtt, NULL);
    }
}

static void on_connected(void *context, MQTTAsync_successData *data)
{
    (void)data;
    set_up(context, MQTT_WINDOW);
}

/* With more in flight than the broker's Receive Maximum (MQTT 5, 3.2.2.3.3) the
 * library holds messages back, and some of them for a second. */
static void on_connected5(void *context, MQTTAsync_successData5 *data)
{
    /* 64 bits wide since the library's 1.3.13. */
    int most =
        (int)MQTTProperties_getNumericValue(&data->properties, MQTTPROPERTY_CODE_RECEIVE_MAXIMUM);
    set_up(context, most > 0 && most < MQTT_WINDOW ? (unsigned)most : MQTT_WINDOW);
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

static void on_not_sent(void *context, MQTTAsync_failureData *data)
{
    (void)data;
    tell(context, MQTT_LOST, NULL);
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
    if (is_refusal(data)) {
        reason_words(data->reasonCode, why);
        tell(context, MQTT_REFUSED, why);
    } else {
        tell(context, MQTT_LOST, NULL);
    }
}

static void subscription_answered(const struct subscription *subscription, int code)
{
    const struct mqtt_callbacks *callbacks = &subscription->mqtt->callbacks;
    char why[MQTT_WHY_MAX];
    if (code < 0) /* by the library: the connection has ended */
        return;
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
static bool renew_handle(struct mqtt *mqtt)
{
    MQTTAsync handle;
    MQTTAsync_createOptions options = MQTTAsync_createOptions_initializer;
    char uri[2 * CONF_TEXT_MAX];
    bool is_ipv6 = strchr(mqtt->conf->host, ':') != NULL;
    snprintf(uri, sizeof(uri), "%s://%s%s%s:%d", mqtt->conf->tls ? "ssl" : "tcp",
             is_ipv6 ? "[" : "", mqtt->conf->host, is_ipv6 ? "]" : "", (int)mqtt->conf->port);
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
    MQTTAsync_connectOptions v4 = MQTTAsync_connectOptions_initializer;
    MQTTAsync_connectOptions v5 = MQTTAsync_connectOptions_initializer5;
    MQTTAsync_connectOptions options = is_v5(mqtt) ? v5 : v4;
    MQTTAsync_willOptions will = MQTTAsync_willOptions_initializer;
    MQTTAsync_SSLOptions tls = MQTTAsync_SSLOptions_initializer;
    will.topicName = mqtt->will_topic;
    will.message = "offline";
    will.retained = 1;
    will.qos = 1;
    tls.trustStore = or_null(conf->ca_file);
    tls.keyStore = or_null(conf->cert_file);
    tls.privateKey = or_null(conf->key_file);
    tls.privateKeyPassword = ""; /* or OpenSSL asks on the terminal for that of an encrypted key */
    tls.verify = 1; /* the host name; the chain is enableServerCertAuth, on by default */
    options.MQTTVersion = (int)conf->version;
    options.keepAliveInterval = (int)(conf->keepalive_ns / CLOCK_NS_PER_S);
    options.connectTimeout = CONNECT_TIMEOUT_S;
    options.maxInflight = MQTT_WINDOW;
    options.will = &will;
    options.ssl = conf->tls ? &tls : NULL;
    options.username = or_null(conf->username);
    options.password = or_null(password);
    options.context = mqtt;
    if (is_v5(mqtt)) {
        options.onSuccess5 = on_connected5;
        options.onFailure5 = on_connect_failed5;
    } else {
        options.onSuccess = on_connected;
        options.onFailure = on_connect_failed;
    }
    return MQTTAsync_connect(mqtt->handle, &options);
}

static void set_state(struct mqtt *mqtt, enum state state)
{
    pthread_mutex_lock(&mqtt->mutex);
    mqtt->state = state;
    pthread_mutex_unlock(&mqtt->mutex);
}

bool mqtt_connect(struct mqtt *mqtt, char why[MQTT_WHY_MAX])
{
    char password[CONF_TEXT_MAX + 1] = "";
    if (mqtt->conf->password_file[0] != '\0') {
        const char *wrong = conf_load_password(mqtt->conf->password_file, password);
        if (wrong != NULL) {
            snprintf(why, MQTT_WHY_MAX, "password_file: %s", wrong);
            return false;
        }
    }
    set_state(mqtt, IDLE);
    if (!renew_handle(mqtt)) {
        explicit_bzero(password, sizeof(password));
        snprintf(why, MQTT_WHY_MAX, "out of memory");
        return false;
    }
    set_state(mqtt, CONNECTING);
    int code = begin_connect(mqtt, password);
    explicit_bzero(password, sizeof(password)); /* the library has a copy while it is connected */
    if (code == MQTTASYNC_SUCCESS)
        return true;
    set_state(mqtt, IDLE);
    snprintf(why, MQTT_WHY_MAX, "%s", MQTTAsync_strerror(code));
    return false;
}

static struct subscription *find_subscription(struct mqtt *mqtt, const char *filter)
{
    for (unsigned i = 0; i < MQTT_FILTERS_MAX; i++) {
        struct subscription *subscription = &mqtt->subscriptions[i];
        if (subscription->filter == NULL) {
            subscription->mqtt = mqtt;
            subscription->filter = strdup(filter);
        }
        if (subscription->filter == NULL || strcmp(subscription->filter, filter) == 0)
            return subscription->filter != NULL ? subscription : NULL;
    }
    return NULL;
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

bool mqtt_subscribe(struct mqtt *mqtt, const char *filter, bool with_retained)
{
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    struct subscription *subscription = find_subscription(mqtt, filter);
    if (subscription == NULL)
        return false;
    options.context = subscription;
    if (is_v5(mqtt)) {
        options.onSuccess5 = on_subscribed5;
        options.onFailure5 = on_not_subscribed5;
        options.subscribeOptions.retainHandling = with_retained ? 0 : 2; /* 2: none at subscribe */
        options.subscribeOptions.retainAsPublished = 1;
    } else {
        options.onSuccess = on_subscribed;
        options.onFailure = on_not_subscribed;
    }
    return MQTTAsync_subscribe(mqtt->handle, filter, 1, &options) == MQTTASYNC_SUCCESS;
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

bool mqtt_publish(struct mqtt *mqtt, const struct mqtt_message *message, uint64_t ticket)
{
    MQTTAsync_message letter = MQTTAsync_message_initializer;
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    struct flight *flight = take_off(mqtt, message->topic, ticket);
    if (flight == NULL)
        return false;
    letter.payload = (void *)(uintptr_t)message->payload; /* copied */
    letter.payloadlen = (int)message->payload_size;
    letter.qos = message->qos;
    letter.retained = message->retained;
    options.context = flight;
    if (is_v5(mqtt)) {
        add_properties(message, &letter.properties);
        options.onSuccess5 = on_sent5;
        options.onFailure5 = on_not_sent5;
    } else {
        options.onSuccess = on_sent;
        options.onFailure = on_not_sent;
    }
    int code = MQTTAsync_sendMessage(mqtt->handle, message->topic, &letter, &options);
    MQTTProperties_free(&letter.properties);
    if (code == MQTTASYNC_SUCCESS)
        return true;
    if (code == MQTTASYNC_DISCONNECTED) {
        set_down(mqtt, NULL); /* unless on_lost() was quicker; it tells this one's fate, too */
        return true;
    }
    /* Such as a topic that is no UTF-8: another time would be no better. */
    tell(flight, MQTT_REFUSED, MQTTAsync_strerror(code));
    return true;
}

/* What wakes the library's sender is any further packet; this one changes
 * nothing, for nobody subscribes to that topic here. */
int64_t mqtt_nudge(struct mqtt *mqtt, int64_t now_ns)
{
    pthread_mutex_lock(&mqtt->mutex);
    bool waits = mqtt->state == UP && mqtt->n_flights > 0 && !mqtt->nudged;
    int64_t due_ns = waits ? mqtt->moved_ns + NUDGE_NS : CLOCK_NEVER;
    mqtt->nudged = mqtt->nudged || now_ns >= due_ns;
    pthread_mutex_unlock(&mqtt->mutex);
    if (now_ns < due_ns)
        return due_ns;
    MQTTAsync_unsubscribe(mqtt->handle, mqtt->will_topic, NULL);
    return CLOCK_NEVER;
}

void mqtt_disconnect(struct mqtt *mqtt, int64_t until_ns)
{
    pthread_mutex_lock(&mqtt->mutex);
    while (mqtt->state == UP && mqtt->n_flights > 0 && clock_mono_ns() < until_ns)
        clock_cond_wait(&mqtt->landed, &mqtt->mutex, until_ns);
    mqtt->state = IDLE;
    pthread_mutex_unlock(&mqtt->mutex);
    /* Sends DISCONNECT. MQTTAsync_disconnect() would look every 3 s only
     * whether what is in flight has arrived. */
    if (mqtt->handle != NULL)
        MQTTAsync_destroy(&mqtt->handle);
    set_down(mqtt, NULL);
}
