#include <stdio.h>

#include "bridge/base/clock.h"
#include "bridge/mqtt/mqtt_inside.h"
#include "bridge/mqtt/sieve.h"

/* A broker that ends the session for a message does so at once. One that cannot store it
 * just now may, too, but later: a node of NATS waits 4 s for the others. */
#define BLAME_NS   (3 * CLOCK_NS_PER_S)
#define GOODBYE_NS (100 * CLOCK_NS_PER_MS)
/* The library looks every 3 s whether the time for CONNECT is over. */
#define CONNECT_LATE_NS ((MQTT_CONNECT_TIMEOUT_S + 5) * CLOCK_NS_PER_S)

/* Whether a message may be why the session has ended. */
static bool is_blamed(const struct flight *flight, enum blame blame, int64_t now_ns)
{
    int64_t age_ns = now_ns - flight->sent_ns;
    return (blame == BLAME_RECENT && age_ns < BLAME_NS) ||
           (blame == BLAME_LATE && age_ns >= FLIGHTS_LATE_NS);
}

/* The fate of a message when the session has ended, and whether it may be why. When it
 * was under way alone, for an earlier session had ended so, it is; but not in a session in
 * which the broker has taken nothing at all, as one does whose cluster is broken: then all
 * that is known is that it takes nothing, and what it does not take now must not be lost. */
static bool settle(struct flight *flight, enum blame blame, char why[MQTT_WHY_MAX])
{
    struct mqtt *mqtt = flight->owner;
    pthread_mutex_lock(&mqtt->mutex);
    const struct limits_packet packet = {flight->topic, flight->size, flight->foreign,
                                         flight->plain};
    bool blamed =
        flight->topic != NULL && !flight->plain && is_blamed(flight, blame, clock_awake_ns());
    blamed = blamed && (mqtt->is_proved || !flight->alone);
    bool convicted = blamed && flight->alone;
    if (convicted) {
        limits_ended(&mqtt->limits, &packet);
        snprintf(why, MQTT_WHY_MAX,
                 "the broker ends the session on a message of %zu bytes to %.120s", flight->size,
                 flight->topic);
    } else if (blamed) {
        limits_suspect(&mqtt->limits, &packet);
    }
    pthread_mutex_unlock(&mqtt->mutex);
    if (convicted)
        mqtt_tell(flight, MQTT_REFUSED, "two sessions in a row have ended on it");
    else
        mqtt_tell(flight, MQTT_LOST, NULL);
    return blamed;
}

/* Whether it is the broker that has ended it, by what it has sent. That stays written down:
 * two threads may find the session ended at once, and either is the one that says why. */
static bool is_wrong(struct mqtt *mqtt, char why[MQTT_WHY_MAX])
{
    pthread_mutex_lock(&mqtt->mutex);
    const char *wrong = mqtt->wrong;
    const unsigned type = mqtt->wrong_type;
    pthread_mutex_unlock(&mqtt->mutex);
    if (wrong != NULL)
        snprintf(why, MQTT_WHY_MAX, "it sends what no broker may: %s of type %u", wrong, type);
    return wrong != NULL;
}

void mqtt_set_down(struct mqtt *mqtt, struct mqtt_end end, enum blame blame)
{
    char why[MQTT_WHY_MAX] = "", wrong[MQTT_WHY_MAX];
    sieve_forget(mqtt);
    if (is_wrong(mqtt, wrong)) {
        end.why = wrong;
        end.illegal = true;
        blame = BLAME_NONE;
    }
    pthread_mutex_lock(&mqtt->mutex);
    bool was_idle = mqtt->state == IDLE;
    end.unproved = mqtt->state == UP && !mqtt->is_proved;
    mqtt->state = IDLE;
    end.faulted = blame == BLAME_RECENT && mqtt->unproved_ns != 0 &&
                  clock_awake_ns() - mqtt->unproved_ns < BLAME_NS;
    mqtt->limits.is_wary = mqtt->limits.is_wary || end.faulted;
    mqtt->unproved_ns = 0;
    for (struct subscription *s = mqtt->subscriptions; s != NULL; s = s->next)
        s->asked_ns = s->again_ns = 0;
    pthread_mutex_unlock(&mqtt->mutex);
    for (unsigned i = 0; i < MQTT_WINDOW; i++)
        end.faulted = settle(&mqtt->flights.list[i], blame, why) || end.faulted;
    end.convicted = why[0] != '\0';
    if (end.convicted)
        end.why = why;
    if (!was_idle)
        mqtt->callbacks.down(mqtt->callbacks.context, &end);
}

/* ---- what is overdue --------------------------------------------------- */

static void on_gone(struct mqtt *mqtt)
{
    pthread_mutex_lock(&mqtt->mutex);
    mqtt->gone = true;
    pthread_cond_broadcast(&mqtt->landed);
    pthread_mutex_unlock(&mqtt->mutex);
}

static void on_left(void *context, MQTTAsync_successData *data)
{
    (void)data;
    on_gone(context);
}

static void on_left5(void *context, MQTTAsync_successData5 *data)
{
    (void)data;
    on_gone(context);
}

/* Ends the connection of a session that is IDLE here already. With its Will: who is
 * cut off in the middle of something is not to be thought well. */
static void leave(struct mqtt *mqtt)
{
    MQTTAsync_disconnectOptions v4 = MQTTAsync_disconnectOptions_initializer;
    MQTTAsync_disconnectOptions v5 = MQTTAsync_disconnectOptions_initializer5;
    MQTTAsync_disconnectOptions options = mqtt_is_v5(mqtt) ? v5 : v4;
    options.context = mqtt;
    if (mqtt_is_v5(mqtt)) {
        options.reasonCode = MQTTREASONCODE_DISCONNECT_WITH_WILL_MESSAGE;
        options.onSuccess5 = on_left5;
    } else {
        options.onSuccess = on_left;
    }
    pthread_mutex_lock(&mqtt->mutex);
    mqtt->gone = false;
    pthread_mutex_unlock(&mqtt->mutex);
    if (MQTTAsync_disconnect(mqtt->handle, &options) != MQTTASYNC_SUCCESS)
        on_gone(mqtt);
}

/* What is overdue now, in words, or NULL; `*due_ns` becomes the time of the next. */
static const char *find_overdue(struct mqtt *mqtt, int64_t now_ns, int64_t *due_ns,
                                enum blame *blame)
{
    int64_t late_ns = CLOCK_NEVER;
    if (mqtt->state == CONNECTING)
        late_ns = mqtt->begun_ns + CONNECT_LATE_NS;
    if (late_ns <= now_ns)
        return "the library does not say what became of the attempt";
    *due_ns = late_ns;
    if (mqtt->state != UP)
        return NULL;
    for (const struct subscription *s = mqtt->subscriptions; s != NULL; s = s->next) {
        late_ns = s->asked_ns != 0 ? s->asked_ns + FLIGHTS_LATE_NS : CLOCK_NEVER;
        if (late_ns <= now_ns)
            return "no answer to a subscription within 30 s";
        *due_ns = late_ns < *due_ns ? late_ns : *due_ns;
        if (s->again_ns != 0 && s->again_ns < *due_ns)
            *due_ns = s->again_ns;
    }
    late_ns = flights_late_ns(&mqtt->flights, now_ns);
    if (late_ns <= now_ns) {
        *blame = BLAME_LATE;
        return "no acknowledgement of a message within 30 s";
    }
    *due_ns = late_ns < *due_ns ? late_ns : *due_ns;
    return NULL;
}

int64_t mqtt_tend(struct mqtt *mqtt, int64_t now_ns)
{
    int64_t due_ns = CLOCK_NEVER;
    enum blame blame = BLAME_NONE;
    mqtt_subscribe_again(mqtt, now_ns);
    pthread_mutex_lock(&mqtt->mutex);
    const char *why = find_overdue(mqtt, now_ns, &due_ns, &blame);
    pthread_mutex_unlock(&mqtt->mutex);
    if (why != NULL) {
        mqtt_set_down(mqtt, (struct mqtt_end){.why = why, .overdue = true}, blame);
        leave(mqtt);
        return CLOCK_NEVER;
    }
    int64_t nudge_ns = mqtt_nudge(mqtt, now_ns);
    return nudge_ns < due_ns ? nudge_ns : due_ns;
}

void mqtt_disconnect(struct mqtt *mqtt, int64_t until_ns, bool with_will)
{
    pthread_mutex_lock(&mqtt->mutex);
    while (mqtt->state == UP && mqtt->flights.n > 0 && clock_mono_ns() < until_ns)
        clock_cond_wait(&mqtt->landed, &mqtt->mutex, until_ns);
    bool was_up = mqtt->state == UP;
    with_will = was_up && mqtt_is_v5(mqtt) && (with_will || mqtt->flights.n > 0);
    mqtt->state = IDLE;
    pthread_mutex_unlock(&mqtt->mutex);
    if (with_will) {
        int64_t end_ns = until_ns + GOODBYE_NS; /* hundreds may end at the same time */
        leave(mqtt);
        pthread_mutex_lock(&mqtt->mutex);
        while (!mqtt->gone && clock_mono_ns() < end_ns)
            clock_cond_wait(&mqtt->landed, &mqtt->mutex, end_ns);
        pthread_mutex_unlock(&mqtt->mutex);
    }
    /* Sends DISCONNECT. MQTTAsync_disconnect() would look every 3 s only
     * whether what is in flight has arrived. */
    if (mqtt->handle != NULL)
        MQTTAsync_destroy(&mqtt->handle);
    mqtt_set_down(mqtt, (struct mqtt_end){.why = NULL}, BLAME_NONE);
}
