#include "bridge/mqtt/session.h"

#include <stdio.h>
#include <string.h>

#include "bridge/base/clock.h"

#define PAUSE_MIN_NS (1 * CLOCK_NS_PER_S)
#define PAUSE_MAX_NS (60 * CLOCK_NS_PER_S)
#define SETTLE_NS    (30 * CLOCK_NS_PER_S)

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

static void on_down(void *context, const char *why)
{
    struct session *session = context;
    pthread_mutex_lock(&session->mutex);
    session->has_ended = true;
    snprintf(session->why, sizeof(session->why), "%s", why != NULL ? why : "");
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
    backoff_init(&session->backoff, PAUSE_MIN_NS, PAUSE_MAX_NS, SETTLE_NS, setup->seed);
    session->mqtt = mqtt_new(setup->conf, client_id, will_topic, &session->setup.callbacks);
    return session->mqtt != NULL;
}

void session_destroy(struct session *session)
{
    mqtt_free(session->mqtt);
    pthread_mutex_destroy(&session->mutex);
}

/* Takes the word left by the library: coming up before going down. */
static enum session_event take_word(struct session *session, char why[MQTT_WHY_MAX])
{
    enum session_event event = SESSION_NOTHING;
    pthread_mutex_lock(&session->mutex);
    if (session->has_connected) {
        session->has_connected = false;
        event = SESSION_CAME_UP;
    } else if (session->has_ended) {
        session->has_ended = false;
        memcpy(why, session->why, MQTT_WHY_MAX);
        event = session->state == SESSION_UP ? SESSION_LOST : SESSION_FAILED;
    }
    pthread_mutex_unlock(&session->mutex);
    return event;
}

enum session_event session_step(struct session *session, int64_t now_ns, bool may_connect,
                                char why[MQTT_WHY_MAX])
{
    enum session_event event = take_word(session, why);
    if (event == SESSION_NOTHING && session->state == SESSION_DOWN && may_connect &&
        now_ns >= session->retry_ns) {
        session->state = SESSION_CONNECTING;
        if (!mqtt_connect(session->mqtt, why))
            event = SESSION_FAILED;
    }
    if (event == SESSION_CAME_UP) {
        session->state = SESSION_UP;
        backoff_up(&session->backoff, now_ns);
    } else if (event != SESSION_NOTHING) {
        session->state = SESSION_DOWN;
        session->retry_ns = backoff_down(&session->backoff, now_ns);
    }
    return event;
}

void session_retry(struct session *session, int64_t now_ns)
{
    session->retry_ns = now_ns;
    backoff_reset(&session->backoff);
}
