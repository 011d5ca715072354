#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bridge/base/clock.h"
#include "bridge/mqtt/mqtt_inside.h"
#include "bridge/mqtt/sieve.h"

#define NUDGE_NS (100 * CLOCK_NS_PER_MS) /* a broker far away takes half of it */

/* Does it for each of our sockets to the broker's port: the library does not tell which
 * is whose. */
static void each_socket(const struct mqtt *mqtt, void (*act)(int fd, void *context), void *context)
{
    DIR *files = opendir("/proc/self/fd");
    const struct dirent *file;
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
            act(fd, context);
    }
    if (files != NULL)
        closedir(files);
}

static void hurry(int fd, void *context)
{
    const int on = 1;
    (void)context;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void mqtt_hurry(struct mqtt *mqtt)
{
    each_socket(mqtt, hurry, NULL);
}

static void tell_own(int fd, void *context)
{
    struct sockaddr_storage own = {0};
    socklen_t size = sizeof(own);
    if (getsockname(fd, (struct sockaddr *)&own, &size) == 0)
        (void)getnameinfo((const struct sockaddr *)&own, size, context, MQTT_OWN_MAX, NULL, 0,
                          NI_NUMERICHOST);
}

void mqtt_own_address(const struct mqtt *mqtt, char text[MQTT_OWN_MAX])
{
    snprintf(text, MQTT_OWN_MAX, "an unknown address");
    each_socket(mqtt, tell_own, text);
}

/* What wakes the library's sender is any further packet; this one changes
 * nothing, for nobody subscribes to that topic here. */
int64_t mqtt_nudge(struct mqtt *mqtt, int64_t now_ns)
{
    char topic[2 * CONF_TEXT_MAX];
    pthread_mutex_lock(&mqtt->mutex);
    bool waits =
        mqtt->state == UP && mqtt->flights.n > 0 && !mqtt->nudged && mqtt->will_topic != NULL;
    int64_t due_ns = waits ? mqtt->flights.moved_ns + NUDGE_NS : CLOCK_NEVER;
    mqtt->nudged = mqtt->nudged || now_ns >= due_ns;
    pthread_mutex_unlock(&mqtt->mutex);
    if (now_ns < due_ns)
        return due_ns;
    snprintf(topic, sizeof(topic), "%s/nobody", mqtt->will_topic);
    MQTTAsync_unsubscribe(mqtt->handle, topic, NULL);
    return CLOCK_NEVER;
}

/* The library writes down a token before it sends anything, under locks that its receiver,
 * who calls this, has had since. */
static bool has_sent(void *context, unsigned identifier)
{
    struct mqtt *mqtt = context;
    bool has = false;
    pthread_mutex_lock(&mqtt->mutex);
    for (unsigned i = 0; i < MQTT_WINDOW && !has; i++) {
        const struct flight *flight = &mqtt->flights.list[i];
        const unsigned own = flight->token != NULL ? (unsigned)*flight->token : flight->identifier;
        has = flight->topic != NULL && own == identifier && identifier != 0;
    }
    pthread_mutex_unlock(&mqtt->mutex);
    return has;
}

static void note_wrong(void *context, const struct sieve_packet *packet)
{
    struct mqtt *mqtt = context;
    pthread_mutex_lock(&mqtt->mutex);
    mqtt->wrong = packet->wrong;
    mqtt->wrong_type = packet->type;
    pthread_mutex_unlock(&mqtt->mutex);
}

static void note_coming(void *context)
{
    struct mqtt *mqtt = context;
    pthread_mutex_lock(&mqtt->mutex);
    mqtt->n_coming++;
    pthread_mutex_unlock(&mqtt->mutex);
}

void mqtt_sift(struct mqtt *mqtt)
{
    const struct sieve_owner owner = {mqtt, has_sent, note_wrong, note_coming};
    sieve_watch(&owner);
}

void mqtt_note_arrival(struct mqtt *mqtt)
{
    pthread_mutex_lock(&mqtt->mutex);
    if (mqtt->n_coming > 0 && --mqtt->n_coming == 0)
        pthread_cond_broadcast(&mqtt->landed);
    pthread_mutex_unlock(&mqtt->mutex);
}

void mqtt_deafen(struct mqtt *mqtt, int64_t until_ns)
{
    sieve_deafen(mqtt);
    pthread_mutex_lock(&mqtt->mutex);
    while (mqtt->state == UP && mqtt->n_coming > 0 && clock_mono_ns() < until_ns)
        clock_cond_wait(&mqtt->landed, &mqtt->mutex, until_ns);
    pthread_mutex_unlock(&mqtt->mutex);
}
