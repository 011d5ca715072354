#include "bridge/cli/broker.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/mqtt/address.h"
#include "bridge/mqtt/cause.h"
#include "bridge/wire/topic.h"

#define ANSWER_NS (20 * CLOCK_NS_PER_S) /* longer than the library waits itself */
/* MQTT has no end of what is retained: so long nothing more has come. */
#define QUIET_NS CLOCK_NS_PER_S

struct broker {
    const struct conf *conf;
    struct mqtt *mqtt;

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    bool up, down, answered, delivered;
    bool refused; /* what is answered or delivered */
    bool try_now; /* it is down, and would take less of a session */
    char why[MQTT_WHY_MAX];
    const char *awaited; /* a topic, NULL = none */
    bool returned;       /* a message on it has come */
    bool collecting;     /* what arrives; else the list stands still */
    int64_t heard_ns;    /* when the last one came on a topic that was not known */
    unsigned n_messages, room;
    struct broker_message *messages;
};

/* ---- callbacks of the library's threads ---- */

static void on_connected(void *context)
{
    struct broker *broker = context;
    pthread_mutex_lock(&broker->mutex);
    broker->up = true;
    pthread_cond_signal(&broker->changed);
    pthread_mutex_unlock(&broker->mutex);
}

static void on_down(void *context, const struct mqtt_end *end)
{
    struct broker *broker = context;
    pthread_mutex_lock(&broker->mutex);
    broker->down = true;
    broker->try_now = end->advice == MQTT_TRY_NOW;
    if (end->why != NULL && !broker->refused)
        snprintf(broker->why, sizeof(broker->why), "%s", end->why);
    pthread_cond_signal(&broker->changed);
    pthread_mutex_unlock(&broker->mutex);
}

static void on_delivered(void *context, uint64_t ticket, enum mqtt_fate fate)
{
    struct broker *broker = context;
    (void)ticket;
    pthread_mutex_lock(&broker->mutex);
    broker->delivered = true;
    broker->refused = broker->refused || fate != MQTT_DELIVERED;
    pthread_cond_signal(&broker->changed);
    pthread_mutex_unlock(&broker->mutex);
}

static void on_refused(void *context, const char *topic, const char *why)
{
    struct broker *broker = context;
    (void)topic;
    pthread_mutex_lock(&broker->mutex);
    broker->refused = true;
    snprintf(broker->why, sizeof(broker->why), "%s", why);
    pthread_mutex_unlock(&broker->mutex);
}

static void on_answered(void *context, const char *filter)
{
    struct broker *broker = context;
    (void)filter;
    pthread_mutex_lock(&broker->mutex);
    broker->answered = true;
    pthread_cond_signal(&broker->changed);
    pthread_mutex_unlock(&broker->mutex);
}

/* Mutex held. One more place; false when out of memory. */
static bool make_room(struct broker *broker)
{
    if (broker->n_messages < broker->room)
        return true;
    const unsigned room = broker->room > 0 ? 2 * broker->room : 64;
    struct broker_message *more = realloc(broker->messages, room * sizeof(*more));
    if (more == NULL)
        return false;
    broker->messages = more;
    broker->room = room;
    return true;
}

static const struct broker_message *find(const struct broker *broker, const char *topic)
{
    for (unsigned i = 0; i < broker->n_messages; i++)
        if (strcmp(broker->messages[i].topic, topic) == 0)
            return &broker->messages[i];
    return NULL;
}

static bool on_arrived(void *context, const struct mqtt_arrival *arrival)
{
    struct broker *broker = context;
    struct broker_message message = {strdup(arrival->topic),
                                     strndup(arrival->payload, arrival->payload_size)};
    pthread_mutex_lock(&broker->mutex);
    if (broker->awaited != NULL && strcmp(arrival->topic, broker->awaited) == 0) {
        broker->returned = true;
        pthread_cond_signal(&broker->changed);
    }
    if (broker->collecting && arrival->retained && arrival->payload_size > 0 &&
        message.topic != NULL && message.payload != NULL && find(broker, message.topic) == NULL &&
        make_room(broker)) {
        broker->messages[broker->n_messages++] = message;
        message = (struct broker_message){NULL, NULL};
        broker->heard_ns = clock_mono_ns();
    }
    pthread_mutex_unlock(&broker->mutex);
    free(message.topic);
    free(message.payload);
    return true;
}

/* ---- one step after the other ---- */

/* Until *done, or the session is over. False then, with the reason. */
static bool await(struct broker *broker, const bool *done, char why[MQTT_WHY_MAX])
{
    const int64_t until_ns = clock_mono_ns() + ANSWER_NS;
    pthread_mutex_lock(&broker->mutex);
    while (!*done && !broker->down && clock_mono_ns() < until_ns)
        clock_cond_wait(&broker->changed, &broker->mutex, until_ns);
    const bool good = *done && !broker->refused && !broker->down;
    if (!good)
        snprintf(why, MQTT_WHY_MAX, "%s",
                 broker->why[0] != '\0' ? broker->why
                 : broker->down         ? "the connection was lost"
                                        : "no answer");
    pthread_mutex_unlock(&broker->mutex);
    return good;
}

static void begin(struct broker *broker, bool *done)
{
    pthread_mutex_lock(&broker->mutex);
    *done = broker->refused = false;
    broker->why[0] = '\0';
    pthread_mutex_unlock(&broker->mutex);
}

/* Each address of the broker's name in turn. */
static bool connect_to_any(struct broker *broker, char why[MQTT_WHY_MAX])
{
    const struct conf_mqtt *conf = &broker->conf->mqtt;
    struct address_list addresses = {.n = 0};
    const char *unresolved = NULL;
    if (!address_resolve(conf->host, &addresses, &unresolved))
        snprintf(why, MQTT_WHY_MAX, "cannot resolve %s: %s", conf->host, unresolved);
    for (unsigned i = 0; i < addresses.n; i++) {
        const char *address = addresses.list[i].text;
        do { /* the broker may want a lesser Will, or a shorter keepalive */
            begin(broker, &broker->up);
            broker->down = broker->try_now = false;
            if (!mqtt_connect(broker->mqtt, address, why))
                break;
            if (await(broker, &broker->up, why))
                return true;
        } while (broker->try_now);
        if (broker->down && broker->why[0] == '\0')
            cause_broker(conf, address, why, MQTT_WHY_MAX);
    }
    return false;
}

struct broker *broker_open(const struct conf *conf, const char *client_id, const char *will_topic,
                           char why[MQTT_WHY_MAX])
{
    struct broker *broker = calloc(1, sizeof(*broker));
    snprintf(why, MQTT_WHY_MAX, "out of memory");
    if (broker == NULL)
        return NULL;
    broker->conf = conf;
    pthread_mutex_init(&broker->mutex, NULL);
    clock_cond_init(&broker->changed);
    broker->mqtt = mqtt_new(&conf->mqtt, client_id, will_topic,
                            &(struct mqtt_callbacks){.context = broker,
                                                     .connected = on_connected,
                                                     .down = on_down,
                                                     .delivered = on_delivered,
                                                     .refused = on_refused,
                                                     .answered = on_answered,
                                                     .arrived = on_arrived});
    if (broker->mqtt != NULL && connect_to_any(broker, why))
        return broker;
    broker_close(broker);
    return NULL;
}

void broker_close(struct broker *broker)
{
    if (broker == NULL)
        return;
    if (broker->mqtt != NULL)
        mqtt_disconnect(broker->mqtt, clock_mono_ns() + CLOCK_NS_PER_S, false);
    mqtt_free(broker->mqtt);
    for (unsigned i = 0; i < broker->n_messages; i++) {
        free(broker->messages[i].topic);
        free(broker->messages[i].payload);
    }
    free(broker->messages);
    pthread_cond_destroy(&broker->changed);
    pthread_mutex_destroy(&broker->mutex);
    free(broker);
}

bool broker_subscribe(struct broker *broker, const char *filter, bool retained,
                      char why[MQTT_WHY_MAX])
{
    begin(broker, &broker->answered);
    broker->collecting = retained;
    snprintf(why, MQTT_WHY_MAX, "the library does not take the subscription");
    const bool good =
        mqtt_subscribe(broker->mqtt, filter, retained ? MQTT_RETAINED : MQTT_LIVE, 1) &&
        await(broker, &broker->answered, why);
    pthread_mutex_lock(&broker->mutex);
    broker->heard_ns = clock_mono_ns();
    while (good && retained && !broker->down && clock_mono_ns() < broker->heard_ns + QUIET_NS)
        clock_cond_wait(&broker->changed, &broker->mutex, broker->heard_ns + QUIET_NS);
    broker->collecting = false;
    pthread_mutex_unlock(&broker->mutex);
    return good;
}

bool broker_retain(struct broker *broker, const char *topic, const char *payload,
                   char why[MQTT_WHY_MAX])
{
    const struct mqtt_message message = {.topic = topic,
                                         .payload = payload,
                                         .payload_size = strlen(payload),
                                         .qos = 1,
                                         .retained = true};
    begin(broker, &broker->delivered);
    snprintf(why, MQTT_WHY_MAX, "the connection was lost");
    return mqtt_publish(broker->mqtt, &message, 0) && await(broker, &broker->delivered, why);
}

bool broker_delivers(struct broker *broker, const char *topic, const char *payload,
                     char why[MQTT_WHY_MAX])
{
    begin(broker, &broker->returned);
    pthread_mutex_lock(&broker->mutex);
    broker->awaited = topic;
    pthread_mutex_unlock(&broker->mutex);
    const bool taken = broker_retain(broker, topic, payload, why);
    const bool good = taken && await(broker, &broker->returned, why);
    pthread_mutex_lock(&broker->mutex);
    broker->awaited = NULL;
    pthread_mutex_unlock(&broker->mutex);
    return good;
}

const struct broker_message *broker_messages(const struct broker *broker, unsigned *n)
{
    *n = broker->n_messages;
    return broker->messages;
}

bool broker_has_bridge(const struct broker *broker, const struct conf *conf)
{
    char topic[TOPIC_MAX + 1];
    const struct broker_message *status =
        topic_make(topic, conf, "bridge", "status") ? find(broker, topic) : NULL;
    return status != NULL && strcmp(status->payload, "online") == 0;
}
