/* mqtt over a library that does what the test says: when it is nudged. */
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
    MQTTAsync_responseOptions sent[SENT_MOST];
    unsigned n_sent, n_nudges;
    char filter[64]; /* of the last nudge */
} library;

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
    (void)handle, (void)context, (void)lost, (void)arrived, (void)done;
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

int MQTTAsync_sendMessage(MQTTAsync handle, const char *topic, const MQTTAsync_message *message,
                          MQTTAsync_responseOptions *response)
{
    (void)handle, (void)topic, (void)message;
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
    (void)context, (void)end;
}

static void on_delivered(void *context, uint64_t ticket, enum mqtt_fate fate)
{
    (void)context, (void)ticket, (void)fate;
}

/* A session that is up. */
static struct mqtt *connected(void)
{
    static struct conf_mqtt conf = {
        .host = "h", .port = 1883, .version = 4, .keepalive_ns = 30 * CLOCK_NS_PER_S};
    const struct mqtt_callbacks callbacks = {
        .connected = on_up, .down = on_down, .delivered = on_delivered};
    char why[MQTT_WHY_MAX];
    memset(&library, 0, sizeof library);
    fake_clock_reset();
    struct mqtt *mqtt = mqtt_new(&conf, "client", "site/bridge/status", &callbacks);
    assert_non_null(mqtt);
    assert_true(mqtt_connect(mqtt, "127.0.0.1", why));
    library.connect.onSuccess(library.connect.context, NULL);
    return mqtt;
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

/* Returns in how many ms it is to be called again; -1 = not within a second. */
static int64_t nudge_after(struct mqtt *mqtt, int64_t pause_ms)
{
    clock_pause(pause_ms * CLOCK_NS_PER_MS);
    int64_t due_ns = mqtt_tend(mqtt, clock_mono_ns());
    return due_ns > clock_mono_ns() + CLOCK_NS_PER_S ? -1
                                                     : (due_ns - clock_mono_ns()) / CLOCK_NS_PER_MS;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_sender_that_sleeps_is_nudged_once),
        cmocka_unit_test(test_nobody_is_nudged_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
