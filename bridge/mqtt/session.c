#include "bridge/mqtt/session.h"

#include <stdio.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/mqtt/flights.h"

#define PAUSE_MIN_NS (1 * CLOCK_NS_PER_S)
#define PAUSE_MAX_NS (60 * CLOCK_NS_PER_S)
#define SETTLE_NS    (30 * CLOCK_NS_PER_S)
/* One that ends so soon for an answer that did not come was no good from its beginning. */
#define OVERDUE_NS (2 * FLIGHTS_LATE_NS)
/* How long one stays away from a broker that is busy, and how much longer at most. */
#define END_NS        CLOCK_NS_PER_S /* for what is in flight at an end */
#define BUSY_NS       (10 * CLOCK_NS_PER_S)
#define BUSY_EXTRA_NS (20 * CLOCK_NS_PER_S)
/* At most, after a session that ended for a message: what it was is found out soon. */
#define FAULT_NS (2 * CLOCK_NS_PER_S)

static void stir(struct session *session)
{
    atomic_store(session->setup.stirred, true);
    outbox_wake(session->setup.outbox);
}

static void on_connected(void *context)
{
    struct session *session = context;
    pthread_mutex_lock(&session->mutex);
    session->has_connected = true;
    pthread_mutex_unlock(&session->mutex);
    stir(session);
}

/* Under the lock. */
static void leave_word(struct session *session, const struct mqtt_end *end)
{
    session->has_ended = true;
    session->end = *end;
    snprintf(session->why, sizeof(session->why), "%s", end->why != NULL ? end->why : "");
}

static void on_down(void *context, const struct mqtt_end *end)
{
    struct session *session = context;
    pthread_mutex_lock(&session->mutex);
    leave_word(session, end);
    pthread_mutex_unlock(&session->mutex);
    stir(session);
}

bool session_init(struct session *session, const struct session_setup *setup, const char *client_id,
                  const char *will_topic)
{
    *session = (struct session){.setup = *setup};
    session->setup.callbacks.context = session;
    session->setup.callbacks.connected = on_connected;
    session->setup.callbacks.down = on_down;
    pthread_mutex_init(&session->mutex, NULL);
    session->tend_ns = CLOCK_NEVER;
    backoff_init(&session->backoff, PAUSE_MIN_NS, PAUSE_MAX_NS, SETTLE_NS, setup->seed);
    session->backoff.is_full = true;
    if (setup->presences != NULL)
        session->presence = presence_new(setup->presences, setup->place, client_id, will_topic,
                                         &session->setup.callbacks);
    else
        session->mqtt = mqtt_new(setup->conf, client_id, will_topic, &session->setup.callbacks);
    return session_is_there(session);
}

bool session_is_there(const struct session *session)
{
    return session->mqtt != NULL || session->presence != NULL;
}

void session_destroy(struct session *session)
{
    mqtt_free(session->mqtt);
    presence_free(session->presence);
    pthread_mutex_destroy(&session->mutex);
}

/* Takes the word left by the library: coming up before going down. */
static enum session_event take_word(struct session *session, char why[MQTT_WHY_MAX],
                                    struct mqtt_end *end)
{
    enum session_event event = SESSION_NOTHING;
    pthread_mutex_lock(&session->mutex);
    if (session->has_connected) {
        session->has_connected = false;
        event = SESSION_CAME_UP;
    } else if (session->has_ended) {
        session->has_ended = false;
        memcpy(why, session->why, MQTT_WHY_MAX);
        *end = session->end;
        end->why = why[0] != '\0' ? why : NULL;
        event = session->state == SESSION_UP ? SESSION_LOST : SESSION_FAILED;
    }
    pthread_mutex_unlock(&session->mutex);
    return event;
}

/* A broker that was lost is lost to many at the same moment; one that ends the session
 * over a message was not. */
static int64_t next_try_ns(struct session *session, enum session_event event,
                           const struct mqtt_end *end, int64_t now_ns)
{
    struct backoff *backoff = &session->backoff;
    if (end->convicted)
        backoff_reset(backoff);
    if (end->overdue && now_ns - backoff->up_ns < OVERDUE_NS)
        backoff_up(backoff, now_ns); /* in which nothing has settled */
    int64_t pause_ns = backoff_down(backoff, now_ns) - now_ns;
    int64_t spread_ns = backoff_random_ns(backoff, session->setup.conf->reconnect_spread_ns);
    if (end->advice == MQTT_TRY_NOW)
        pause_ns = 0;
    else if (end->advice != MQTT_TRY)
        pause_ns = BUSY_NS + backoff_random_ns(backoff, BUSY_EXTRA_NS);
    else if (event == SESSION_LOST && end->faulted && pause_ns > FAULT_NS)
        pause_ns = backoff_random_ns(backoff, FAULT_NS);
    else if (event == SESSION_LOST && !end->faulted && pause_ns < spread_ns)
        pause_ns = spread_ns;
    return now_ns + pause_ns;
}

void session_connect(struct session *session, const char *address)
{
    char why[MQTT_WHY_MAX];
    session->state = SESSION_CONNECTING;
    if (session->presence != NULL ? presence_connect(session->presence, address, why)
                                  : mqtt_connect(session->mqtt, address, why))
        return;
    pthread_mutex_lock(&session->mutex);
    leave_word(session, &(struct mqtt_end){.why = why, .unasked = true});
    pthread_mutex_unlock(&session->mutex);
    stir(session);
}

void session_tend(struct session *session, int64_t now_ns)
{
    const int64_t awake_ns = clock_awake_ns(), due_ns = mqtt_tend(session->mqtt, awake_ns);
    session->tend_ns = due_ns == CLOCK_NEVER ? CLOCK_NEVER : now_ns + (due_ns - awake_ns);
}

enum session_event session_step(struct session *session, int64_t now_ns, const char *address,
                                char why[MQTT_WHY_MAX], struct mqtt_end *end)
{
    if (session->state != SESSION_DOWN && session->mqtt != NULL)
        session_tend(session, now_ns);
    if (session->state == SESSION_DOWN && address != NULL && now_ns >= session->retry_ns)
        session_connect(session, address);
    enum session_event event = take_word(session, why, end);
    if (event == SESSION_CAME_UP) {
        session->state = SESSION_UP;
        backoff_up(&session->backoff, now_ns);
    } else if (event != SESSION_NOTHING) {
        session->state = SESSION_DOWN;
        session->tend_ns = CLOCK_NEVER;
        session->retry_ns = next_try_ns(session, event, end, now_ns);
    }
    return event;
}

void session_retry(struct session *session, int64_t now_ns)
{
    session->retry_ns = now_ns;
    backoff_reset(&session->backoff);
}

void session_forget(struct session *session)
{
    if (session->presence != NULL)
        presence_forget(session->presence);
    else
        mqtt_forget(session->mqtt);
}

bool session_publish(struct session *session, const struct mqtt_message *message, uint64_t ticket)
{
    return session->presence != NULL ? presence_publish(session->presence, message, ticket)
                                     : mqtt_publish(session->mqtt, message, ticket);
}

void session_leave(struct session *session, int64_t until_ns, bool with_will)
{
    if (session->presence != NULL)
        presence_disconnect(session->presence, until_ns, with_will);
    else
        mqtt_disconnect(session->mqtt, until_ns, with_will);
}

void session_end(struct session *session, int64_t now_ns)
{
    session_leave(session, now_ns + END_NS, true);
    pthread_mutex_lock(&session->mutex);
    session->has_connected = session->has_ended = false;
    pthread_mutex_unlock(&session->mutex);
    session->state = SESSION_DOWN;
    session->tend_ns = CLOCK_NEVER;
    session->retry_ns = backoff_down(&session->backoff, now_ns);
}
