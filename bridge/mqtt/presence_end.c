#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

#include "bridge/mqtt/presence_inside.h"

bool presence_is_v5(const struct presence *presence)
{
    return presence->all->conf->version >= MQTT_PROTOCOL_V5;
}

/* ---- how it ends ---- */

/* Takes it out of those under way and tells its fate. */
static void tell(struct presence *presence, unsigned i, enum mqtt_fate fate, const char *why)
{
    const struct mqtt_callbacks *callbacks = &presence->callbacks;
    const uint64_t ticket = presence->under_way[i].ticket;
    presence->under_way[i] = presence->under_way[--presence->n_under_way];
    pthread_cond_signal(&presence->all->landed);
    if (why != NULL)
        callbacks->refused(callbacks->context, presence->topic, why);
    callbacks->delivered(callbacks->context, ticket, fate);
}

void presence_drop(struct presence *presence)
{
    mosquitto_destroy(presence->handle); /* closes the socket, so epoll forgets it */
    presence->handle = NULL;
    presence->is_up = false;
    pthread_cond_signal(&presence->all->landed);
    while (presence->n_under_way > 0)
        tell(presence, 0, MQTT_LOST, NULL);
}

/* No message is to blame, be it twice: before a status nothing was taken in the session that
 * would prove the broker to be well. */
void presence_set_down(struct presence *presence, const struct mqtt_end *end)
{
    presence_drop(presence);
    presence->callbacks.down(presence->callbacks.context, end);
}

static void advise(struct mqtt_end *end, int code)
{
    const enum limits_advice advice = limits_advise(code);
    if (advice == LIMITS_STAY_AWAY)
        end->advice = MQTT_STAY_AWAY;
    else if (advice == LIMITS_GO_ELSEWHERE)
        end->advice = MQTT_ELSEWHERE;
}

/* CONNACK says no. Without its Will's QoS or retain it may be a yes (MQTT 5.0, 3.2.2.2). */
static void refused(struct presence *presence, int code)
{
    char why[MQTT_WHY_MAX];
    struct mqtt_end end = {.why = why};
    mqtt_login_words(presence->all->conf, code, why);
    if (presence_is_v5(presence))
        advise(&end, code);
    if (code == MQTT_RC_QOS_NOT_SUPPORTED && presence->offer.will_qos > 0) {
        presence->offer.will_qos = 0;
        end.advice = MQTT_TRY_NOW;
    } else if (code == MQTT_RC_RETAIN_NOT_SUPPORTED && presence->offer.will_retained) {
        presence->offer.will_retained = false;
        end.advice = MQTT_TRY_NOW;
    }
    presence_set_down(presence, &end);
}

/* `code`: the reason of the broker's DISCONNECT, from 0x80; an error of the library's below. */
static void ended(struct presence *presence, int code)
{
    char why[MQTT_WHY_MAX], reason[MQTT_WHY_MAX];
    struct mqtt_end end = {.why = code == MOSQ_ERR_TLS ? PRESENCE_TLS_WORDS : NULL};
    if (code < MQTT_RC_UNSPECIFIED) {
        presence_set_down(presence, &end);
        return;
    }
    end.why = why;
    mqtt_reason_words(code, reason);
    if (code == MQTT_RC_SESSION_TAKEN_OVER)
        snprintf(why, sizeof(why), "another client uses the client id %.100s (we are at %s)",
                 presence->client_id, presence->all->own);
    else
        snprintf(why, sizeof(why), "closed by the broker: %.100s", reason);
    advise(&end, code);
    presence_set_down(presence, &end);
}

/* ---- what the library says ---- */

static void on_connect(struct mosquitto *handle, void *context, int code, int flags,
                       const mosquitto_property *properties)
{
    struct presence *presence = context;
    struct sockaddr_storage own = {0};
    socklen_t size = sizeof(own);
    (void)flags;
    presence->answer = code;
    presence->qos_max = 2;
    presence->retain = 1;
    mosquitto_property_read_byte(properties, MQTT_PROP_MAXIMUM_QOS, &presence->qos_max, false);
    mosquitto_property_read_byte(properties, MQTT_PROP_RETAIN_AVAILABLE, &presence->retain, false);
    if (getsockname(mosquitto_socket(handle), (struct sockaddr *)&own, &size) == 0)
        (void)getnameinfo((struct sockaddr *)&own, size, presence->all->own, PRESENCE_OWN_MAX, NULL,
                          0, NI_NUMERICHOST);
}

static void on_disconnect(struct mosquitto *handle, void *context, int code,
                          const mosquitto_property *properties)
{
    struct presence *presence = context;
    (void)handle, (void)properties;
    /* Later ones than 2.0.11 say in errno that it is the handshake. */
    presence->end = code == MOSQ_ERR_ERRNO && errno == EPROTO ? MOSQ_ERR_TLS : code;
}

static void on_publish(struct mosquitto *handle, void *context, int mid, int code,
                       const mosquitto_property *properties)
{
    struct presence *presence = context;
    char why[MQTT_WHY_MAX];
    unsigned i = 0;
    (void)handle, (void)properties;
    while (i < presence->n_under_way && presence->under_way[i].mid != mid)
        i++;
    if (i == presence->n_under_way)
        return;
    if (code < MQTT_RC_UNSPECIFIED) {
        tell(presence, i, MQTT_DELIVERED, NULL);
    } else if (limits_is_transient(code)) {
        tell(presence, i, MQTT_LATER, NULL);
    } else {
        mqtt_reason_words(code, why);
        tell(presence, i, MQTT_REFUSED, why);
    }
}

void presence_listen(struct mosquitto *handle)
{
    mosquitto_connect_v5_callback_set(handle, on_connect);
    mosquitto_disconnect_v5_callback_set(handle, on_disconnect);
    mosquitto_publish_v5_callback_set(handle, on_publish);
}

void presence_look(struct presence *presence, int code)
{
    if (presence->answer > 0) {
        refused(presence, presence->answer);
    } else if (presence->end != PRESENCE_UNSAID) {
        ended(presence, presence->end);
    } else if (code != MOSQ_ERR_SUCCESS) {
        ended(presence, code);
    } else if (presence->answer == 0 && !presence->is_up) {
        presence->is_up = true;
        presence->callbacks.connected(presence->callbacks.context);
    }
}
