/* nap: when the library's receiver may sleep; and that it really is this module that it
 * asks, with the library itself and a broker that has nothing to say. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/mqtt/mqtt.h"
#include "bridge/mqtt/nap.h"

enum { PINGREQ = 0xc0, PACKET_MAX = 200 };

static struct {
    pthread_t receiver;
    atomic_uint n_pauses; /* of the receiver, since the session is up */
    atomic_bool is_up, is_down;
    sem_t paused_when_down;
} seen;

/* What every pause of the program comes to. */
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *pause, struct timespec *left)
{
    (void)clock, (void)flags, (void)left;
    if (seen.is_up && pthread_equal(pthread_self(), seen.receiver)) {
        seen.n_pauses++;
        if (atomic_exchange(&seen.is_down, false))
            sem_post(&seen.paused_when_down);
    }
    return nanosleep(pause, NULL);
}

static void on_connected(void *context)
{
    (void)context;
    seen.receiver = pthread_self();
    seen.is_up = true;
}

static void on_down(void *context, const struct mqtt_end *end)
{
    (void)context, (void)end;
    seen.is_down = true;
}

static void test_naps_after_a_wait_are_left_out(void **state)
{
    (void)state;
    struct nap nap = {0};
    int64_t now_ns = 5 * CLOCK_NS_PER_S;
    assert_false(nap_is_due(&nap, now_ns));
    for (int i = 0; i < 3; i++)
        assert_false(nap_is_due(&nap, now_ns += CLOCK_NS_PER_S));
}

static void test_naps_without_a_wait_are_slept(void **state)
{
    (void)state;
    struct nap nap = {0};
    int64_t now_ns = 5 * CLOCK_NS_PER_S;
    assert_false(nap_is_due(&nap, now_ns));
    assert_true(nap_is_due(&nap, now_ns));
    for (int i = 0; i < 20; i++)
        assert_true(nap_is_due(&nap, now_ns += CLOCK_NS_PER_S / 10));
}

static int listen_anywhere(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

/* The kind of the next packet, which is a short one. */
static unsigned next_packet(int broker)
{
    uint8_t head[2], rest[PACKET_MAX];
    assert_int_equal(recv(broker, head, sizeof(head), MSG_WAITALL), sizeof(head));
    assert_true(head[1] < PACKET_MAX);
    if (head[1] > 0)
        assert_int_equal(recv(broker, rest, head[1], MSG_WAITALL), head[1]);
    return head[0];
}

/* The library looks whether to ping after it has slept, or has not. */
static void test_the_library_s_receiver_stays_awake(void **state)
{
    (void)state;
    static const uint8_t connack[] = {0x20, 2, 0, 0};
    const struct mqtt_callbacks callbacks = {.connected = on_connected, .down = on_down};
    struct conf_mqtt conf = {.host = "127.0.0.1", .version = 4, .keepalive_ns = CLOCK_NS_PER_S};
    char why[MQTT_WHY_MAX];
    int port;
    int listener = listen_anywhere(&port);
    conf.port = port;
    sem_init(&seen.paused_when_down, 0, 0);
    struct mqtt *mqtt = mqtt_new(&conf, "client", NULL, &callbacks);
    assert_true(mqtt_connect(mqtt, "127.0.0.1", why));
    int broker = accept(listener, NULL, NULL);
    next_packet(broker);
    assert_int_equal(send(broker, connack, sizeof(connack), 0), sizeof(connack));
    assert_int_equal(next_packet(broker), PINGREQ);
    assert_int_equal(seen.n_pauses, 0);
    close(broker);
    /* Without a socket it would spin. */
    while (sem_wait(&seen.paused_when_down) != 0) {
    }
    mqtt_free(mqtt);
    close(listener);
    sem_destroy(&seen.paused_when_down);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_naps_after_a_wait_are_left_out),
        cmocka_unit_test(test_naps_without_a_wait_are_slept),
        cmocka_unit_test(test_the_library_s_receiver_stays_awake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
