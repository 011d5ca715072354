#include <errno.h>
#include <sys/socket.h>

#include "bridge/base/clock.h"
#include "bridge/mqtt/presence_inside.h"

/* PACKETS_MAX: so many at once nobody sends to a session that hears nothing. */
enum { EVENTS_MAX = 64, PACKETS_MAX = 1000 };

#define TICK_NS    CLOCK_NS_PER_S /* the library counts seconds, too */
#define CONNECT_NS (10 * CLOCK_NS_PER_S)

/* Reads whatever is there: the sockets are watched for changes only, because with TLS the
 * library does not say what it waits for. A broker that hangs up in the middle of the
 * handshake is no error to it. */
static void serve(struct presence *presence)
{
    char byte;
    ssize_t more = 1;
    for (unsigned n = 0; more > 0 && n < PACKETS_MAX; n++) {
        int code = mosquitto_loop_read(presence->handle, 1);
        if (code == MOSQ_ERR_SUCCESS && mosquitto_want_write(presence->handle))
            code = mosquitto_loop_write(presence->handle, 1);
        presence_look(presence, code);
        if (presence->handle == NULL)
            return;
        more = recv(mosquitto_socket(presence->handle), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    }
    if (more >= 0 || (errno != EAGAIN && errno != EINTR))
        presence_look(presence, MOSQ_ERR_CONN_LOST);
}

static void take_event(struct presences *all, uint64_t data)
{
    const uint32_t place = (uint32_t)data, attempt = (uint32_t)(data >> 32);
    pthread_mutex_lock(&all->mutex);
    struct presence *presence = place < all->n ? all->list[place] : NULL;
    /* It may have ended since, or be another. */
    if (presence != NULL && presence->handle != NULL && presence->attempt == attempt)
        serve(presence);
    pthread_mutex_unlock(&all->mutex);
}

/* Sends pings, and ends what is overdue: where a message is, with its Will (version 5). */
static void tick(struct presence *presence, int64_t now_ns)
{
    struct mqtt_end end = {.why = "no acknowledgement of a message within 30 s"};
    int64_t sent_ns = now_ns;
    for (unsigned i = 0; i < presence->n_under_way; i++)
        if (presence->under_way[i].sent_ns < sent_ns)
            sent_ns = presence->under_way[i].sent_ns;
    if (!presence->is_up && now_ns - presence->begun_ns >= CONNECT_NS) {
        end.why = "no answer within 10 s";
        presence_set_down(presence, &end);
    } else if (now_ns - sent_ns >= FLIGHTS_LATE_NS) {
        if (presence_is_v5(presence))
            mosquitto_disconnect_v5(presence->handle, MQTT_RC_DISCONNECT_WITH_WILL_MSG, NULL);
        presence_set_down(presence, &end);
    } else {
        presence_look(presence, mosquitto_loop_misc(presence->handle));
    }
}

void *presence_wait(void *presences)
{
    struct presences *all = presences;
    struct epoll_event events[EVENTS_MAX];
    int64_t tick_ns = clock_mono_ns() + TICK_NS;
    while (!atomic_load(&all->stopping)) {
        atomic_store(&all->promise_ns, clock_awake_ns() + PRESENCE_PROMISE_NS);
        const int n = clock_epoll_wait(all->epoll_fd, events, EVENTS_MAX, tick_ns);
        for (int i = 0; i < n; i++)
            take_event(all, events[i].data.u64);
        const int64_t now_ns = clock_mono_ns();
        if (now_ns < tick_ns)
            continue;
        tick_ns = now_ns + TICK_NS;
        pthread_mutex_lock(&all->mutex);
        for (unsigned i = 0; i < all->n; i++)
            if (all->list[i] != NULL && all->list[i]->handle != NULL)
                tick(all->list[i], clock_awake_ns());
        pthread_mutex_unlock(&all->mutex);
    }
    return NULL;
}
