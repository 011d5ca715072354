/* mqtt over a library that does what the test says: when it is nudged, what is
 * overdue, and which message ends a session. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <MQTTAsync.h>

#include "bridge/mqtt/mqtt.h"
#include "fake_clock.h"

enum { SENT_MOST = 8 };

static struct library {
    MQTTAsync_connectOptions connect;
    MQTTAsync_responseOptions sent[SENT_MOST], subscribed;
    MQTTAsync_connectionLost *lost;
    void *context; /* of the last */
    int qos;       /* of the last message */
    MQTTProperties properties;
    MQTTProperty property[2];
    unsigned n_sent, n_nudges;
    char filter[64]; /* of the last nudge */
    unsigned n_left;
    int left_with;
} library;

/* What has been told of the session. */
static struct {
    unsigned n_down, n_refused, n_answered;
    char why[MQTT_WHY_MAX], refused[MQTT_WHY_MAX];
    struct mqtt_end end;
    enum mqtt_fate fates[SENT_MOST + 1]; /* by ticket */
} told;

int MQTTAsync_createWithOptions(MQTTAsync *handle, const char *uri, const char *client_id,
                                int persistence, void *context, MQTTAsync_createOptions *options)
{
    (void)uri, (void)client_id, (void)persistence, (void)context, (void)options;
    *handle = &library;
    return MQTTASYNC_SUCCESS;
}

int MQTTAsync_setCallbacks(MQTTAsync handle, void *context, MQTTAsync_connectionLost *lost,
                           MQTTAsync_messageArrived *arrived, MQTTAsync_deliveryComplete *done)
{
    (void)handle, (void)arrived, (void)done;
    library.lost = lost;
    library.context = context;
    return MQTTASYNC_SUCCESS;
}

int MQTTAsync_setDisconnected(MQTTAsync handle, void *context, MQTTAsync_disconnected *called)
{
    (void)handle, (void)context, (void)called;
    return MQTTASYNC_SUCCESS;
}

int MQTTAsync_connect(MQTTAsync handle, const MQTTAsync_connectOptions *options)
{
    (void)handle;
    library.connect = *options;
    return MQTTASYNC_SUCCESS;
}

/* The library frees properties with the help of what its own create() has set up. */
int MQTTProperties_add(MQTTProperties *properties, const MQTTProperty *property)
{
    (void)properties, (void)property;
    return 0;
}

void MQTTProperties_free(MQTTProperties *properties)
{
    (void)properties;
}

int MQTTAsync_sendMessage(MQTTAsync handle, const char *topic, const MQTTAsync_message *message,
                          MQTTAsync_responseOptions *response)
{
    (void)handle, (void)topic;
    library.qos = message->qos;
    library.properties = message->properties;
    assert_in_range(message->properties.count, 0, 2);
    for (int i = 0; i < message->properties.count; i++)
        library.property[i] = message->properties.array[i];
    assert_true(library.n_sent < SENT_MOST);
    library.sent[library.n_sent++] = *response;
    return MQTTASYNC_SUCCESS;
}

int MQTTAsync_unsubscribe(MQTTAsync handle, const char *topic, MQTTAsync_responseOptions *response)
{
    (void)handle, (void)response;
    library.n_nudges++;
    snprintf(library.filter, sizeof library.filter, "%s", topic);
    return MQTTASYNC_SUCCESS;
}

int MQTTAsync_subscribe(MQTTAsync handle, const char *topic, int qos,
                        MQTTAsync_responseOptions *response)
{
    (void)handle, (void)topic, (void)qos;
    library.subscribed = *response;
    return MQTTASYNC_SUCCESS;
}

int MQTTAsync_disconnect(MQTTAsync handle, const MQTTAsync_disconnectOptions *options)
{
    (void)handle;
    library.n_left++;
    library.left_with = (int)options->reasonCode;
    return MQTTASYNC_FAILURE;
}

void MQTTAsync_destroy(MQTTAsync *handle)
{
    *handle = NULL;
}

static void on_up(void *context)
{
    (void)context;
}

static void on_down(void *context, const struct mqtt_end *end)
{
    (void)context;
    told.n_down++;
    told.end = *end;
    snprintf(told.why, sizeof told.why, "%s", end->why != NULL ? end->why : "");
}

static void on_delivered(void *context, uint64_t ticket, enum mqtt_fate fate)
{
    (void)context;
    told.fates[ticket] = fate;
}

static void on_refused(void *context, const char *topic, const char *why)
{
    (void)context, (void)topic;
    told.n_refused++;
    snprintf(told.refused, sizeof told.refused, "%s", why);
}

static void on_answered(void *context, const char *filter)
{
    (void)context, (void)filter;
    told.n_answered++;
}

static struct mqtt *connecting(int version)
{
    static struct conf_mqtt conf = {.host = "h", .port = 1883, .keepalive_ns = 30 * CLOCK_NS_PER_S};
    const struct mqtt_callbacks callbacks = {.connected = on_up,
                                             .down = on_down,
                                             .delivered = on_delivered,
                                             .refused = on_refused,
                                             .answered = on_answered};
    char why[MQTT_WHY_MAX];
    memset(&library, 0, sizeof library);
    memset(&told, 0, sizeof told);
    fake_clock_reset();
    conf.version = version;
    struct mqtt *mqtt = mqtt_new(&conf, "client", "site/bridge/status", &callbacks);
    assert_non_null(mqtt);
    assert_true(mqtt_connect(mqtt, "127.0.0.1", why));
    return mqtt;
}

/* A session that is up. */
static struct mqtt *connected(void)
{
    struct mqtt *mqtt = connecting(4);
    library.connect.onSuccess(library.connect.context, NULL);
    return mqtt;
}

static void reconnect(struct mqtt *mqtt)
{
    char why[MQTT_WHY_MAX];
    assert_true(mqtt_connect(mqtt, "127.0.0.1", why));
    library.connect.onSuccess(library.connect.context, NULL);
    library.n_sent = 0;
}

static bool send(struct mqtt *mqtt, const char *topic, size_t size, int qos, uint64_t ticket)
{
    static const char payload[1000];
    const struct mqtt_message message = {
        .topic = topic, .payload = payload, .payload_size = size, .qos = qos};
    return mqtt_publish(mqtt, &message, ticket);
}

static void publish(struct mqtt *mqtt)
{
    const struct mqtt_message message = {.topic = "t", .payload = "x", .payload_size = 1, .qos = 1};
    assert_true(mqtt_publish(mqtt, &message, 1));
}

static void acknowledge(unsigned index)
{
    library.sent[index].onSuccess(library.sent[index].context, NULL);
}

/* The first so many that were sent since the session is up. */
static void acknowledge_all(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        acknowledge(i);
}

/* Returns in how many ms it is to be called again; -1 = not within a second. */
static int64_t nudge_after(struct mqtt *mqtt, int64_t pause_ms)
{
    clock_pause(pause_ms * CLOCK_NS_PER_MS);
    int64_t due_ns = mqtt_tend(mqtt, clock_awake_ns());
    return due_ns > clock_awake_ns() + CLOCK_NS_PER_S
               ? -1
               : (due_ns - clock_awake_ns()) / CLOCK_NS_PER_MS;
}

static void test_a_sender_that_sleeps_is_nudged_once(void **state)
{
    (void)state;
    struct mqtt *mqtt = connected();
    publish(mqtt);
    assert_int_equal(nudge_after(mqtt, 60), 40);
    publish(mqtt); /* nothing has moved all the same */
    assert_int_equal(nudge_after(mqtt, 39), 1);
    assert_int_equal(library.n_nudges, 0);
    assert_int_equal(nudge_after(mqtt, 1), -1);
    assert_int_equal(library.n_nudges, 1);
    assert_string_equal(library.filter, "site/bridge/status/nobody");
    assert_int_equal(nudge_after(mqtt, 10000), -1);
    assert_int_equal(library.n_nudges, 1); /* a broker that stands still is not flooded */
    acknowledge(0);
    assert_int_equal(nudge_after(mqtt, 60), 40);
    assert_int_equal(nudge_after(mqtt, 40), -1);
    assert_int_equal(library.n_nudges, 2); /* for the second */
    mqtt_free(mqtt);
}

static void test_nobody_is_nudged_for_nothing(void **state)
{
    (void)state;
    struct mqtt *mqtt = connected();
    assert_int_equal(nudge_after(mqtt, 1000), -1);
    publish(mqtt);
    assert_int_equal(nudge_after(mqtt, 50), 50);
    acknowledge(0);
    assert_int_equal(nudge_after(mqtt, 1000), -1);
    publish(mqtt); /* the time until then is not its own */
    assert_int_equal(nudge_after(mqtt, 50), 50);
    mqtt_disconnect(mqtt, 0, false);
    assert_int_equal(nudge_after(mqtt, 1000), -1);
    assert_int_equal(library.n_nudges, 0);
    mqtt_free(mqtt);
}

/* The size of a packet is told by them, and the library copies them. */
static void test_the_properties_of_a_message(void **state)
{
    (void)state;
    struct mqtt *mqtt = connecting(5);
    MQTTAsync_successData5 up = MQTTAsync_successData5_initializer;
    struct mqtt_message message = {.topic = "t",
                                   .payload = "x",
                                   .payload_size = 1,
                                   .qos = 1,
                                   .expiry_s = 25,
                                   .correlation = "abc",
                                   .correlation_size = 3};
    library.connect.onSuccess5(library.connect.context, &up);
    assert_true(mqtt_publish(mqtt, &message, 1));
    assert_int_equal(library.properties.count, 2);
    assert_int_equal(library.properties.length, 1 + 4 + 1 + 2 + 3);
    assert_int_equal(library.property[0].identifier, MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL);
    assert_int_equal(library.property[0].value.integer4, 25);
    assert_int_equal(library.property[1].identifier, MQTTPROPERTY_CODE_CORRELATION_DATA);
    assert_int_equal(library.property[1].value.data.len, 3);
    assert_memory_equal(library.property[1].value.data.data, "abc", 3);

    message.expiry_s = 0;
    message.correlation_size = 0;
    assert_true(mqtt_publish(mqtt, &message, 2));
    assert_int_equal(library.properties.count, 0);
    assert_int_equal(library.properties.length, 0);
    mqtt_free(mqtt);
}

/* A broker that answers pings and forgets messages. */
static void test_a_message_without_acknowledgement_ends_the_session(void **state)
{
    (void)state;
    struct mqtt *mqtt = connecting(5);
    MQTTAsync_successData5 data = MQTTAsync_successData5_initializer;
    library.connect.onSuccess5(library.connect.context, &data);
    assert_true(send(mqtt, "old", 10, 1, 1));
    clock_pause(20 * CLOCK_NS_PER_S);
    assert_true(send(mqtt, "new", 10, 1, 2));
    mqtt_tend(mqtt, clock_awake_ns());
    clock_pause(10 * CLOCK_NS_PER_S - 1);
    assert_true(mqtt_tend(mqtt, clock_awake_ns()) <= clock_awake_ns() + 1);
    assert_int_equal(told.n_down, 0);
    clock_pause(1);
    mqtt_tend(mqtt, clock_awake_ns());
    assert_int_equal(told.n_down, 1);
    assert_string_equal(told.why, "no acknowledgement of a message within 30 s");
    assert_true(told.end.faulted);
    assert_true(told.end.unproved);
    assert_int_equal(told.fates[1], MQTT_LOST);
    assert_int_equal(told.fates[2], MQTT_LOST);
    assert_int_equal(library.n_left, 1);
    assert_int_equal(library.left_with, 4); /* with the Will */
    library.connect.onSuccess5(library.connect.context, &data);
    assert_true(send(mqtt, "x", 1, 1, 3) == false); /* it is over */
    mqtt_free(mqtt);
}

static void test_acknowledgements_in_time_end_nothing(void **state)
{
    (void)state;
    struct mqtt *mqtt = connected();
    for (int i = 0; i < SENT_MOST; i++) {
        assert_true(send(mqtt, "t", 10, 1, 1));
        clock_pause(29 * CLOCK_NS_PER_S);
        mqtt_tend(mqtt, clock_awake_ns());
        library.sent[i].onSuccess(library.sent[i].context, NULL);
    }
    assert_int_equal(told.n_down, 0);
    mqtt_free(mqtt);
}

/* There is always one under way. */
static void test_acknowledgements_that_overlap_end_nothing(void **state)
{
    (void)state;
    struct mqtt *mqtt = connected();
    assert_true(send(mqtt, "t", 10, 1, 1));
    for (unsigned i = 1; i < SENT_MOST; i++) {
        clock_pause(20 * CLOCK_NS_PER_S);
        assert_true(send(mqtt, "t", 10, 1, 1));
        acknowledge(i - 1);
        clock_pause(9 * CLOCK_NS_PER_S);
        assert_true(mqtt_tend(mqtt, clock_awake_ns()) > clock_awake_ns());
    }
    assert_int_equal(told.n_down, 0);
    mqtt_free(mqtt);
}

/* The library may say so twice, and what was sent in one session is no reason in the next. */
static void test_an_end_is_told_once(void **state)
{
    (void)state;
    struct mqtt *mqtt = connected();
    assert_true(send(mqtt, "large", 500, 0, 1));
    library.lost(library.context, NULL);
    library.lost(library.context, NULL);
    assert_int_equal(told.n_down, 1);
    assert_true(told.end.faulted);
    reconnect(mqtt);
    library.lost(library.context, NULL);
    assert_int_equal(told.n_down, 2);
    assert_false(told.end.faulted);
    mqtt_free(mqtt);
}

/* Whose last word is not acknowledged leaves with its Will. */
static void test_leaving_with_something_under_way(void **state)
{
    MQTTAsync_successData5 data = MQTTAsync_successData5_initializer;
    (void)state;
    for (unsigned n = 0; n < 2; n++) {
        struct mqtt *mqtt = connecting(5);
        library.connect.onSuccess5(library.connect.context, &data);
        if (n > 0)
            assert_true(send(mqtt, "offline", 10, 1, 1));
        mqtt_disconnect(mqtt, clock_mono_ns(), false);
        assert_int_equal(library.n_left, n);
        assert_int_equal(library.left_with, n * MQTTREASONCODE_DISCONNECT_WITH_WILL_MESSAGE);
        mqtt_free(mqtt);
    }
}

/* Refused for now; in the next session it is a first answer again. */
static void test_an_answer_to_subscribe_in_another_session(void **state)
{
    MQTTAsync_successData5 good = MQTTAsync_successData5_initializer;
    MQTTAsync_failureData5 bad = MQTTAsync_failureData5_initializer;
    char why[MQTT_WHY_MAX];
    (void)state;
    struct mqtt *mqtt = connecting(5);
    library.connect.onSuccess5(library.connect.context, &good);
    assert_true(mqtt_subscribe(mqtt, "f", MQTT_LIVE, 1));
    bad.reasonCode = MQTTREASONCODE_QUOTA_EXCEEDED;
    library.subscribed.onFailure5(library.subscribed.context, &bad);
    assert_int_equal(told.n_answered, 1);
    library.lost(library.context, NULL);
    assert_true(mqtt_connect(mqtt, "127.0.0.1", why));
    library.connect.onSuccess5(library.connect.context, &good);
    assert_true(mqtt_subscribe(mqtt, "f", MQTT_LIVE, 1));
    library.subscribed.onSuccess5(library.subscribed.context, &good);
    assert_int_equal(told.n_answered, 2);
    mqtt_free(mqtt);
}

static void test_an_answer_to_connect_that_never_comes(void **state)
{
    (void)state;
    struct mqtt *mqtt = connecting(4);
    clock_pause(15 * CLOCK_NS_PER_S - 1);
    mqtt_tend(mqtt, clock_awake_ns());
    assert_int_equal(told.n_down, 0);
    clock_pause(1);
    mqtt_tend(mqtt, clock_awake_ns());
    assert_int_equal(told.n_down, 1);
    mqtt_free(mqtt);
}

static void end_attempt(const char *message)
{
    MQTTAsync_failureData data = {.code = -1, .message = message};
    library.connect.onFailure(library.connect.context, &data);
}

/* As the library ends a session that was up; of an attempt it says other things. */
static void test_an_attempt_that_is_taken_for_the_one_before(void **state)
{
    static const char mistaken[] = "socket error", failed[] = "TCP/TLS connect failure";
    const struct {
        const char *message;
        unsigned advice;
    } attempts[] = {{failed, MQTT_TRY},      {mistaken, MQTT_TRY_NOW}, {mistaken, MQTT_TRY},
                    {NULL, MQTT_TRY},        {mistaken, MQTT_TRY_NOW}, {failed, MQTT_TRY},
                    {mistaken, MQTT_TRY_NOW}};
    char why[MQTT_WHY_MAX];
    (void)state;
    struct mqtt *mqtt = connecting(4);
    for (size_t i = 0; i < sizeof(attempts) / sizeof(*attempts); i++) {
        end_attempt(attempts[i].message);
        assert_int_equal(told.n_down, i + 1);
        assert_int_equal(told.end.advice, attempts[i].advice);
        assert_string_equal(told.why, "");
        assert_true(mqtt_connect(mqtt, "127.0.0.1", why));
    }
    library.connect.onSuccess(library.connect.context, NULL);
    library.lost(library.context, NULL);
    assert_true(mqtt_connect(mqtt, "127.0.0.1", why));
    end_attempt(mistaken);
    assert_int_equal(told.end.advice, MQTT_TRY_NOW); /* in another session it is the first */
    mqtt_free(mqtt);
}

static void test_an_answer_to_subscribe_that_never_comes(void **state)
{
    (void)state;
    struct mqtt *mqtt = connected();
    assert_true(mqtt_subscribe(mqtt, "a/#", MQTT_LIVE, 1));
    clock_pause(30 * CLOCK_NS_PER_S - 1);
    mqtt_tend(mqtt, clock_awake_ns());
    assert_int_equal(told.n_down, 0);
    clock_pause(1);
    mqtt_tend(mqtt, clock_awake_ns());
    assert_int_equal(told.n_down, 1);
    assert_string_equal(told.why, "no answer to a subscription within 30 s");
    mqtt_free(mqtt);
}

/* 3.1.1 only ends the session; in the second it is alone. */
static void test_the_message_that_ends_sessions_is_found(void **state)
{
    (void)state;
    struct mqtt *mqtt = connected();
    assert_true(send(mqtt, "small", 10, 1, 1));
    acknowledge_all(1);
    assert_true(send(mqtt, "small", 10, 1, 1));
    assert_true(send(mqtt, "large", 500, 1, 2));
    library.lost(library.context, NULL);
    assert_int_equal(told.n_down, 1);
    assert_true(told.end.faulted);
    assert_false(told.end.convicted);
    assert_int_equal(told.fates[1], MQTT_LOST);
    assert_int_equal(told.fates[2], MQTT_LOST);
    reconnect(mqtt);
    assert_true(send(mqtt, "small", 10, 1, 1));
    assert_false(send(mqtt, "large", 500, 1, 2)); /* not beside another */
    assert_int_equal(mqtt_room(mqtt), 0);         /* and nothing beside it */
    acknowledge_all(1);
    assert_true(send(mqtt, "large", 500, 1, 2));
    assert_int_equal(mqtt_room(mqtt), 0);
    library.lost(library.context, NULL);
    assert_true(told.end.convicted);
    assert_false(told.end.unproved);
    assert_int_equal(told.fates[2], MQTT_REFUSED);
    assert_int_equal(told.n_refused, 1);
    reconnect(mqtt);
    assert_true(send(mqtt, "other", 500, 1, 3)); /* as large: not sent at all */
    assert_int_equal(library.n_sent, 0);
    assert_int_equal(told.fates[3], MQTT_REFUSED);
    assert_true(send(mqtt, "other", 300, 1, 4));
    assert_int_equal(library.n_sent, 1);
    mqtt_free(mqtt);
}

/* Which has no acknowledgement: it gets one. */
static void test_a_message_at_qos_0_that_ends_sessions_is_found(void **state)
{
    (void)state;
    struct mqtt *mqtt = connected();
    assert_true(send(mqtt, "large", 500, 0, 1));
    assert_int_equal(library.qos, 0);
    library.sent[0].onSuccess(library.sent[0].context, NULL); /* it is written */
    assert_int_equal(told.fates[1], MQTT_DELIVERED);
    library.lost(library.context, NULL);
    assert_true(told.end.faulted);
    reconnect(mqtt);
    assert_true(send(mqtt, "small", 10, 1, 1));
    acknowledge_all(1);
    assert_true(send(mqtt, "large", 500, 0, 2));
    assert_int_equal(library.qos, 1);
    library.lost(library.context, NULL);
    assert_true(told.end.convicted);
    assert_int_equal(told.fates[2], MQTT_REFUSED);
    mqtt_free(mqtt);
}

/* A cluster that is broken ends sessions on whatever it is sent: that convicts no message, and
 * the next attempt pauses as long as after any other loss. */
static void test_where_nothing_is_taken_nobody_is_to_blame(void **state)
{
    (void)state;
    struct mqtt *mqtt = connected();
    assert_true(send(mqtt, "state", 500, 1, 1));
    library.lost(library.context, NULL);
    for (int i = 0; i < 5; i++) {
        reconnect(mqtt);
        assert_true(send(mqtt, "state", 500, 1, 1));
        library.lost(library.context, NULL);
        assert_false(told.end.faulted);
        assert_true(told.end.unproved);
        assert_int_equal(told.fates[1], MQTT_LOST);
    }
    assert_int_equal(told.n_refused, 0);
    mqtt_free(mqtt);
}

/* A broker that went, such as by a restart or out of reach. */
static void test_a_late_loss_blames_nobody(void **state)
{
    (void)state;
    struct mqtt *mqtt = connected();
    assert_true(send(mqtt, "large", 500, 1, 1));
    clock_pause(5 * CLOCK_NS_PER_S);
    library.lost(library.context, NULL);
    assert_false(told.end.faulted);
    reconnect(mqtt);
    assert_true(send(mqtt, "small", 10, 1, 2));
    assert_true(send(mqtt, "large", 500, 1, 1)); /* beside it */
    mqtt_free(mqtt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_sender_that_sleeps_is_nudged_once),
        cmocka_unit_test(test_nobody_is_nudged_for_nothing),
        cmocka_unit_test(test_the_properties_of_a_message),
        cmocka_unit_test(test_a_message_without_acknowledgement_ends_the_session),
        cmocka_unit_test(test_acknowledgements_in_time_end_nothing),
        cmocka_unit_test(test_acknowledgements_that_overlap_end_nothing),
        cmocka_unit_test(test_an_end_is_told_once),
        cmocka_unit_test(test_leaving_with_something_under_way),
        cmocka_unit_test(test_an_answer_to_subscribe_in_another_session),
        cmocka_unit_test(test_an_answer_to_connect_that_never_comes),
        cmocka_unit_test(test_an_attempt_that_is_taken_for_the_one_before),
        cmocka_unit_test(test_an_answer_to_subscribe_that_never_comes),
        cmocka_unit_test(test_the_message_that_ends_sessions_is_found),
        cmocka_unit_test(test_a_message_at_qos_0_that_ends_sessions_is_found),
        cmocka_unit_test(test_where_nothing_is_taken_nobody_is_to_blame),
        cmocka_unit_test(test_a_late_loss_blames_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
