#include "bridge/mqtt/presence.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/mqtt/address.h"
#include "bridge/mqtt/credentials.h"
#include "bridge/mqtt/presence_inside.h"

/* ---- to the broker ---- */

static bool set_options(struct presence *presence, struct mosquitto *handle, const char *password,
                        char why[MQTT_WHY_MAX])
{
    static const char offline[] = "offline";
    const struct conf_mqtt *conf = presence->all->conf;
    const char *username = conf->username[0] != '\0' ? conf->username : NULL;
    mosquitto_int_option(handle, MOSQ_OPT_PROTOCOL_VERSION, (int)conf->version);
    mosquitto_int_option(handle, MOSQ_OPT_TCP_NODELAY, 1);
    presence_listen(handle);
    snprintf(why, MQTT_WHY_MAX, "out of memory");
    if (mosquitto_will_set(handle, presence->topic, (int)strlen(offline), offline,
                           presence->offer.will_qos, presence->offer.will_retained) != 0 ||
        mosquitto_username_pw_set(handle, username, password[0] != '\0' ? password : NULL) != 0)
        return false;
    if (!conf->tls)
        return true;
    SSL_CTX *context = broker_tls_get(&presence->all->tls, conf, why, MQTT_WHY_MAX);
    /* Or the library would set it up itself, once more for each session. */
    return context != NULL &&
           mosquitto_int_option(handle, MOSQ_OPT_SSL_CTX_WITH_DEFAULTS, 0) == 0 &&
           mosquitto_void_option(handle, MOSQ_OPT_SSL_CTX, context) == 0;
}

/* The library has no call that takes properties and does not wait for the connection. The
 * one that waits keeps them, and goes no further without a host; the other one sends what
 * was kept. */
static void set_properties(struct mosquitto *handle)
{
    mosquitto_property *properties = NULL;
    mosquitto_property_add_int32(&properties, MQTT_PROP_MAXIMUM_PACKET_SIZE, LIMITS_OUR_PACKET_MAX);
    (void)mosquitto_connect_bind_v5(handle, NULL, 0, 0, NULL, properties);
    mosquitto_property_free_all(&properties);
}

/* Sends CONNECT as soon as there is a connection. */
static bool open_session(struct presence *presence, struct mosquitto *handle, const char *address,
                         char why[MQTT_WHY_MAX])
{
    struct presences *all = presence->all;
    const struct conf_mqtt *conf = all->conf;
    /* With TLS the broker is told the name that we want: address_pin() has its address. */
    const char *host = conf->tls ? conf->host : address;
    const int asked_s = (int)(conf->keepalive_ns / CLOCK_NS_PER_S);
    const int keepalive_s = asked_s < PRESENCE_KEEPALIVE_MIN_S ? PRESENCE_KEEPALIVE_MIN_S : asked_s;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
    address_pin(conf->host, address);
    if (presence_is_v5(presence))
        set_properties(handle);
    const int code = mosquitto_connect_async(handle, host, (int)conf->port, keepalive_s);
    if (code != MOSQ_ERR_SUCCESS) {
        snprintf(why, MQTT_WHY_MAX, "%s",
                 code == MOSQ_ERR_ERRNO ? strerror(errno)
                 : code == MOSQ_ERR_TLS ? PRESENCE_TLS_WORDS
                                        : mosquitto_strerror(code));
        return false;
    }
    presence->attempt = ++all->attempts;
    presence->answer = presence->end = PRESENCE_UNSAID;
    event.data.u64 = (uint64_t)presence->attempt << 32 | presence->place;
    if (epoll_ctl(all->epoll_fd, EPOLL_CTL_ADD, mosquitto_socket(handle), &event) == 0)
        return true;
    snprintf(why, MQTT_WHY_MAX, "epoll: %s", strerror(errno));
    return false;
}

bool presence_connect(struct presence *presence, const char *address, char why[MQTT_WHY_MAX])
{
    struct presences *all = presence->all;
    char password[CONF_TEXT_MAX + 1];
    if (!credentials_load(all->conf, password, why, MQTT_WHY_MAX))
        return false;
    pthread_mutex_lock(&all->mutex);
    struct mosquitto *handle = mosquitto_new(presence->client_id, true, presence);
    snprintf(why, MQTT_WHY_MAX, "out of memory");
    bool good = handle != NULL && set_options(presence, handle, password, why);
    explicit_bzero(password, sizeof(password)); /* the library has a copy */
    good = good && open_session(presence, handle, address, why);
    if (good) {
        presence->handle = handle;
        presence->begun_ns = clock_awake_ns();
    } else {
        mosquitto_destroy(handle);
    }
    pthread_mutex_unlock(&all->mutex);
    return good;
}

void presence_forget(struct presence *presence)
{
    pthread_mutex_lock(&presence->all->mutex);
    presence->offer.will_qos = 1;
    presence->offer.will_retained = true;
    pthread_mutex_unlock(&presence->all->mutex);
}

static void send_message(struct presence *presence, const struct mqtt_message *message,
                         uint64_t ticket)
{
    const struct mqtt_callbacks *callbacks = &presence->callbacks;
    const int qos = message->qos < presence->qos_max ? message->qos : presence->qos_max;
    int mid = 0;
    const int code =
        mosquitto_publish(presence->handle, &mid, message->topic, (int)message->payload_size,
                          message->payload, qos, message->retained && presence->retain != 0);
    if (code == MOSQ_ERR_OVERSIZE_PACKET) {
        callbacks->refused(callbacks->context, message->topic, mosquitto_strerror(code));
        callbacks->delivered(callbacks->context, ticket, MQTT_REFUSED);
    } else if (code == MOSQ_ERR_SUCCESS && qos == 0) {
        callbacks->delivered(callbacks->context, ticket, MQTT_DELIVERED);
    } else {
        presence->under_way[presence->n_under_way].mid = mid;
        presence->under_way[presence->n_under_way].ticket = ticket;
        presence->under_way[presence->n_under_way++].sent_ns = clock_awake_ns();
        presence_look(presence, code);
    }
}

bool presence_publish(struct presence *presence, const struct mqtt_message *message,
                      uint64_t ticket)
{
    pthread_mutex_lock(&presence->all->mutex);
    const bool has_room = presence->is_up && presence->n_under_way < PRESENCE_UNDER_WAY_MAX;
    if (has_room)
        send_message(presence, message, ticket);
    pthread_mutex_unlock(&presence->all->mutex);
    return has_room;
}

void presence_disconnect(struct presence *presence, int64_t until_ns, bool with_will)
{
    struct presences *all = presence->all;
    pthread_mutex_lock(&all->mutex);
    while (presence->is_up && presence->n_under_way > 0 && clock_mono_ns() < until_ns)
        clock_cond_wait(&all->landed, &all->mutex, until_ns);
    with_will = presence_is_v5(presence) && (with_will || presence->n_under_way > 0);
    if (presence->is_up)
        mosquitto_disconnect_v5(presence->handle, with_will ? MQTT_RC_DISCONNECT_WITH_WILL_MSG : 0,
                                NULL);
    presence_drop(presence);
    pthread_mutex_unlock(&all->mutex);
}

/* ---- start and end ---- */

struct presence *presence_new(struct presences *presences, unsigned place, const char *client_id,
                              const char *topic, const struct mqtt_callbacks *callbacks)
{
    struct presence *presence = calloc(1, sizeof(*presence));
    if (presence == NULL)
        return NULL;
    presence->all = presences;
    presence->place = place;
    presence->callbacks = *callbacks;
    presence->client_id = strdup(client_id);
    presence->topic = strdup(topic);
    presence_forget(presence);
    if (presence->client_id == NULL || presence->topic == NULL) {
        presence_free(presence);
        return NULL;
    }
    pthread_mutex_lock(&presences->mutex);
    presences->list[place] = presence;
    pthread_mutex_unlock(&presences->mutex);
    return presence;
}

void presence_free(struct presence *presence)
{
    if (presence == NULL)
        return;
    struct presences *all = presence->all;
    presence_disconnect(presence, 0, false);
    pthread_mutex_lock(&all->mutex);
    if (all->list[presence->place] == presence)
        all->list[presence->place] = NULL;
    pthread_mutex_unlock(&all->mutex);
    free(presence->client_id);
    free(presence->topic);
    free(presence);
}

static void start_library(void)
{
    mosquitto_lib_init();
}

struct presences *presences_new(const struct conf_mqtt *conf, unsigned n)
{
    static pthread_once_t started = PTHREAD_ONCE_INIT;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = UINT64_MAX};
    struct presences *all = calloc(1, sizeof(*all));
    if (all == NULL)
        return NULL;
    (void)pthread_once(&started, start_library);
    all->conf = conf;
    all->n = n;
    all->promise_ns = clock_awake_ns() + PRESENCE_PROMISE_NS;
    pthread_mutex_init(&all->mutex, NULL);
    clock_cond_init(&all->landed);
    all->list = calloc(n, sizeof(*all->list));
    all->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    all->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (all->list != NULL && all->epoll_fd >= 0 && all->wake_fd >= 0 &&
        epoll_ctl(all->epoll_fd, EPOLL_CTL_ADD, all->wake_fd, &event) == 0 &&
        pthread_create(&all->thread, NULL, presence_wait, all) == 0)
        return all;
    all->thread = pthread_self();
    presences_free(all);
    return NULL;
}

int64_t presences_promise_ns(const struct presences *presences)
{
    return presences != NULL ? atomic_load(&presences->promise_ns) : CLOCK_NEVER;
}

void presences_free(struct presences *presences)
{
    if (presences == NULL)
        return;
    atomic_store(&presences->stopping, true);
    if (!pthread_equal(presences->thread, pthread_self())) {
        (void)eventfd_write(presences->wake_fd, 1);
        pthread_join(presences->thread, NULL);
    }
    close(presences->epoll_fd);
    close(presences->wake_fd);
    broker_tls_free(&presences->tls);
    pthread_cond_destroy(&presences->landed);
    pthread_mutex_destroy(&presences->mutex);
    free(presences->list);
    free(presences);
}
