/* bare_poll: what polling and publishing costs with nothing around it.
 *
 *     bare_poll BROKER_PORT QOS PERIOD_MS MODBUS_PORT...
 *
 * The program anybody would write first with libmodbus and paho: one loop that
 * reads the registers of one device after the other, publishes the same JSON as
 * the bridge and sleeps until the next period. No retries, no checks, no memory
 * of what could not be sent. It has the library's socket send at once, as the bridge
 * does: with Nagle's algorithm a sample now and then waits 40 ms for an acknowledgement.
 *
 * Built twice: bare_poll is on MQTTAsync, as the bridge is; bare_client on
 * MQTTClient, which writes to the socket itself, and waits when that is full.
 */
#ifdef BARE_CLIENT
#include <MQTTClient.h>
#else
#include <MQTTAsync.h>
#endif
#include <modbus.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/bench/bench.h"

#ifdef BARE_CLIENT

typedef MQTTClient broker;

static void on_delivered(void *context, MQTTClient_deliveryToken token)
{
    (void)context, (void)token;
}

static int on_arrived(void *context, char *topic, int topic_size, MQTTClient_message *message)
{
    (void)context, (void)topic_size;
    MQTTClient_freeMessage(&message);
    MQTTClient_free(topic);
    return 1;
}

/* With callbacks a thread of the library's receives; nothing waits for it. */
static MQTTClient connect_broker(const char *port)
{
    MQTTClient client;
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
    char url[64];
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%s", port);
    options.reliable = 0;
    options.maxInflightMessages = 1000;
    if (MQTTClient_create(&client, url, "bare-poll", MQTTCLIENT_PERSISTENCE_NONE, NULL) != 0 ||
        MQTTClient_setCallbacks(client, NULL, NULL, on_arrived, on_delivered) != 0 ||
        MQTTClient_connect(client, &options) != 0)
        bench_die("connect to the broker");
    return client;
}

static bool send_text(MQTTClient client, const char *topic, char *text, int size, int qos)
{
    MQTTClient_message message = MQTTClient_message_initializer;
    MQTTClient_deliveryToken token;
    message.payload = text;
    message.payloadlen = size;
    message.qos = qos;
    return MQTTClient_publishMessage(client, topic, &message, &token) == MQTTCLIENT_SUCCESS;
}

#else

typedef MQTTAsync broker;

static void on_connected(void *context, MQTTAsync_successData *data)
{
    (void)data;
    sem_post(context);
}

static MQTTAsync connect_broker(const char *port)
{
    MQTTAsync client;
    MQTTAsync_connectOptions options = MQTTAsync_connectOptions_initializer;
    char url[64];
    sem_t connected;
    sem_init(&connected, 0, 0);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%s", port);
    options.onSuccess = on_connected;
    options.context = &connected;
    if (MQTTAsync_create(&client, url, "bare-poll", MQTTCLIENT_PERSISTENCE_NONE, NULL) != 0 ||
        MQTTAsync_connect(client, &options) != 0)
        bench_die("connect to the broker");
    sem_wait(&connected);
    return client;
}

static bool send_text(MQTTAsync client, const char *topic, char *text, int size, int qos)
{
    MQTTAsync_message message = MQTTAsync_message_initializer;
    message.payload = text;
    message.payloadlen = size;
    message.qos = qos;
    return MQTTAsync_sendMessage(client, topic, &message, NULL) == MQTTASYNC_SUCCESS;
}

#endif

static modbus_t *connect_device(const char *port)
{
    modbus_t *device = modbus_new_tcp("127.0.0.1", atoi(port));
    if (device == NULL || modbus_connect(device) != 0)
        bench_die("connect to a device");
    return device;
}

static void publish(broker client, int qos, int device, unsigned long seq, int64_t ts_ms,
                    const uint16_t *words)
{
    char topic[64], text[1024];
    snprintf(topic, sizeof(topic), "flux/bench/d%d/state", device);
    int size = snprintf(text, sizeof(text),
                        "{\"ts\":%lld,\"run\":\"5f3a9c1e\",\"seq\":%lu,\"quality\":\"good\","
                        "\"data\":{",
                        (long long)ts_ms, seq);
    for (int i = 0; i < BENCH_REGISTERS; i++)
        size += snprintf(text + size, sizeof(text) - (size_t)size, "%s\"%c%d\":%u",
                         i > 0 ? "," : "", i < BENCH_TIME_REGISTERS ? 't' : 'r', i, words[i]);
    size += snprintf(text + size, sizeof(text) - (size_t)size, "}}");
    if (!send_text(client, topic, text, size, qos))
        bench_die("publish");
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: bare_poll BROKER_PORT QOS PERIOD_MS MODBUS_PORT...\n");
        return 2;
    }
    const int qos = atoi(argv[2]), n_devices = argc - 4;
    const long period_ms = atol(argv[3]);
    broker client = connect_broker(argv[1]);
    bench_hurry(argv[1]);
    modbus_t **devices = bench_grow(NULL, (size_t)n_devices * sizeof(*devices));
    for (int i = 0; i < n_devices; i++)
        devices[i] = connect_device(argv[4 + i]);

    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (unsigned long seq = 1;; seq++) {
        for (int i = 0; i < n_devices; i++) {
            struct timespec now;
            uint16_t words[BENCH_REGISTERS];
            clock_gettime(CLOCK_REALTIME, &now);
            if (modbus_read_registers(devices[i], 0, BENCH_REGISTERS, words) != BENCH_REGISTERS)
                bench_die("read");
            publish(client, qos, i, seq, now.tv_sec * 1000 + now.tv_nsec / 1000000, words);
        }
        next.tv_sec += (next.tv_nsec / 1000000 + period_ms) / 1000;
        next.tv_nsec = (next.tv_nsec + period_ms % 1000 * 1000000) % 1000000000;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
}
