/* bare_command: what a command costs with nothing around it.
 *
 *     bare_command BROKER_PORT MODBUS_PORT DEVICE
 *
 * Subscribes to the setpoint of DEVICE and writes what arrives to the register,
 * from within the library's callback: no check, no read-back, no answer. Prints
 * {} once the broker has agreed to the subscription.
 */
#include <MQTTAsync.h>
#include <modbus.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/bench.h"

enum { TARGET = 2008 };

static void on_success(void *context, MQTTAsync_successData *data)
{
    (void)data;
    sem_post(context);
}

static int on_arrived(void *context, char *topic, int topic_size, MQTTAsync_message *message)
{
    (void)topic_size;
    const char *value = memmem(message->payload, (size_t)message->payloadlen, "\"value\":", 8);
    if (value != NULL)
        modbus_write_register(context, TARGET, (uint16_t)atoi(value + 8));
    MQTTAsync_freeMessage(&message);
    MQTTAsync_free(topic);
    return 1;
}

int main(int argc, char **argv)
{
    MQTTAsync client;
    MQTTAsync_connectOptions options = MQTTAsync_connectOptions_initializer;
    MQTTAsync_responseOptions response = MQTTAsync_responseOptions_initializer;
    char text[128];
    sem_t done;
    if (argc != 4) {
        fprintf(stderr, "usage: bare_command BROKER_PORT MODBUS_PORT DEVICE\n");
        return 2;
    }
    modbus_t *device = modbus_new_tcp("127.0.0.1", atoi(argv[2]));
    if (device == NULL || modbus_connect(device) != 0)
        bench_die("connect to the device");

    sem_init(&done, 0, 0);
    snprintf(text, sizeof(text), "tcp://127.0.0.1:%s", argv[1]);
    options.onSuccess = response.onSuccess = on_success;
    options.context = response.context = &done;
    if (MQTTAsync_create(&client, text, "bare-command", MQTTCLIENT_PERSISTENCE_NONE, NULL) != 0 ||
        MQTTAsync_setCallbacks(client, device, NULL, on_arrived, NULL) != 0 ||
        MQTTAsync_connect(client, &options) != 0)
        bench_die("connect to the broker");
    sem_wait(&done);
    bench_hurry(argv[1]);
    snprintf(text, sizeof(text), "flux/bench/%s/set/target_power", argv[3]);
    if (MQTTAsync_subscribe(client, text, 1, &response) != MQTTASYNC_SUCCESS)
        bench_die("subscribe");
    sem_wait(&done);
    puts("{}");
    fflush(stdout);
    for (;;)
        pause();
}
