#include <stdio.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/mqtt/address.h"
#include "bridge/mqtt/credentials.h"
#include "bridge/mqtt/mqtt_inside.h"
#include "bridge/mqtt/nap.h"
#include "bridge/mqtt/sieve.h"

enum { LIBRARY_THREADS = 2 };

/* ---- how it went ------------------------------------------------------- */

static void on_lost(void *context, char *cause)
{
    (void)cause; /* always NULL */
    mqtt_set_down(context, (struct mqtt_end){.why = NULL}, BLAME_RECENT);
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
    const MQTTProperty *told =
        MQTTProperties_getProperty(properties, MQTTPROPERTY_CODE_REASON_STRING);
    const int n = told != NULL ? told->value.data.len : 0;
    if (code == MQTTREASONCODE_SESSION_TAKEN_OVER) {
        char own[MQTT_OWN_MAX];
        mqtt_own_address(mqtt, own);
        snprintf(why, sizeof(why), "another client uses the client id %.60s (we are at %s)%s%.*s",
                 mqtt->client_id, own, n > 0 ? ", the broker says: " : "", n,
                 n > 0 ? told->value.data.data : "");
    } else {
        mqtt_reason_words((int)code, reason);
        snprintf(why, sizeof(why), "closed by the broker: %.100s", reason);
    }
    advise(&end, (int)code);
    mqtt_set_down(mqtt, end, limits_is_fault((int)code) ? BLAME_RECENT : BLAME_NONE);
}

/* With more in flight than the broker's Receive Maximum (MQTT 5, 3.2.2.3.3) the
 * library holds messages back, and some of them for a second; with 0, which no broker may
 * say, all of them for ever. It does not keep to a Server Keep Alive that is shorter than
 * ours (3.2.2.3.14): then the next attempt asks for that. */
static void set_up(struct mqtt *mqtt)
{
    struct mqtt_end end = {.why = NULL};
    nap_watch_me();
    mqtt_sift(mqtt);
    pthread_mutex_lock(&mqtt->mutex);
    const struct limits *limits = &mqtt->limits;
    bool expected = mqtt->state == CONNECTING;
    if (limits->receive_max == 0) {
        end.why = "it announces a Receive Maximum of 0: nothing could be sent to it";
    } else if (limits->keepalive_s > 0 && limits->keepalive_s < mqtt->offer.keepalive_s) {
        end.why = "the broker wants a shorter keepalive";
        end.advice = MQTT_TRY_NOW;
        mqtt->offer.keepalive_s = limits->keepalive_s;
    }
    mqtt->stumbled = false;
    if (expected && end.why == NULL) {
        mqtt->state = UP;
        mqtt->flights.window =
            limits->receive_max < MQTT_WINDOW ? limits->receive_max : MQTT_WINDOW;
    }
    pthread_mutex_unlock(&mqtt->mutex);
    if (!expected)
        sieve_forget(mqtt);
    else if (end.why != NULL)
        mqtt_set_down(mqtt, end, BLAME_NONE);
    else
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

/* Whether the attempt is to be made again, for it was mistaken for the one before. The
 * library says this of a session that was up, and of no attempt else. */
static bool has_stumbled(struct mqtt *mqtt, const char *message)
{
    pthread_mutex_lock(&mqtt->mutex);
    mqtt->stumbled = !mqtt->stumbled && message != NULL && strcmp(message, "socket error") == 0;
    const bool stumbled = mqtt->stumbled;
    pthread_mutex_unlock(&mqtt->mutex);
    return stumbled;
}

/* `code` > 0 is the broker's answer; everything else is -1 with a text of the
 * library's that does not tell a timeout of the answer from one of TCP. */
static void connect_failed(struct mqtt *mqtt, int code, const char *message)
{
    char why[MQTT_WHY_MAX];
    struct mqtt_end end = {.why = why};
    const bool again = has_stumbled(mqtt, message);
    end.unasked = code <= 0 && message != NULL && strstr(message, "TCP") != NULL;
    if (code > 0) {
        mqtt_login_words(mqtt->conf, code, why);
        if (mqtt->conf->version >= MQTTVERSION_5)
            advise(&end, code);
        if (lessen_will(mqtt, code))
            end.advice = MQTT_TRY_NOW;
    } else if (message != NULL && strstr(message, "timeout") != NULL) {
        snprintf(why, sizeof(why), "no answer within %d s", MQTT_CONNECT_TIMEOUT_S);
    } else if (sieve_is_old()) {
        snprintf(why, sizeof(why), "it speaks MQTT 3.1.1 alone: set version = 4 in mqtt");
    } else {
        end.why = NULL;
        end.advice = again ? MQTT_TRY_NOW : MQTT_TRY;
    }
    mqtt_set_down(mqtt, end, BLAME_NONE);
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

/* ---- connecting -------------------------------------------------------- */

static void *pass(void *gate)
{
    pthread_mutex_lock(gate);
    pthread_mutex_unlock(gate);
    return NULL;
}

/* Whether there are threads to be had, as many as the library begins with its first handle. It
 * does not look whether they began, and never tries again: no session would come up any more. */
static bool has_threads(void)
{
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_t threads[LIBRARY_THREADS];
    unsigned n = 0;
    pthread_mutex_lock(&gate); /* all of them at once */
    while (n < LIBRARY_THREADS && pthread_create(&threads[n], NULL, pass, &gate) == 0)
        n++;
    pthread_mutex_unlock(&gate);
    for (unsigned i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&gate);
    return n == LIBRARY_THREADS;
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
    MQTTAsync_setCallbacks(handle, mqtt, on_lost, mqtt_on_arrived, NULL);
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
    MQTTAsync_connectOptions options = mqtt_is_v5(mqtt) ? v5 : v4;
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
    options.connectTimeout = MQTT_CONNECT_TIMEOUT_S;
    options.maxInflight = MQTT_WINDOW;
    options.will = mqtt->will_topic != NULL ? &will : NULL;
    options.ssl = conf->tls ? &tls : NULL;
    options.username = or_null(conf->username);
    options.password = or_null(password);
    options.context = mqtt;
    if (mqtt_is_v5(mqtt)) {
        MQTTProperties_add(&properties, &packet_max);
        options.connectProperties = &properties; /* copied */
        options.onSuccess5 = on_connected5;
        options.onFailure5 = on_connect_failed5;
    } else {
        options.onSuccess = on_connected;
        options.onFailure = on_connect_failed;
    }
    sieve_expect(mqtt_is_v5(mqtt) ? LIMITS_OUR_PACKET_MAX : 0);
    int code = MQTTAsync_connect(mqtt->handle, &options);
    MQTTProperties_free(&properties);
    return code;
}

static void set_state(struct mqtt *mqtt, enum mqtt_state state)
{
    pthread_mutex_lock(&mqtt->mutex);
    mqtt->state = state;
    mqtt->is_proved = false;
    mqtt->wrong = NULL;
    mqtt->n_coming = 0;
    mqtt->begun_ns = clock_awake_ns();
    pthread_mutex_unlock(&mqtt->mutex);
}

bool mqtt_connect(struct mqtt *mqtt, const char *address, char why[MQTT_WHY_MAX])
{
    char password[CONF_TEXT_MAX + 1];
    if (!credentials_load(mqtt->conf, password, why, MQTT_WHY_MAX))
        return false;
    set_state(mqtt, IDLE);
    const bool may_begin = mqtt->handle != NULL || has_threads();
    if (!may_begin || !renew_handle(mqtt, address)) {
        explicit_bzero(password, sizeof(password));
        snprintf(why, MQTT_WHY_MAX, may_begin ? "out of memory" : "no thread for it can be had");
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
