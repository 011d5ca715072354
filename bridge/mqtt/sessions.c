#include "bridge/mqtt/sessions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/mqtt/cause.h"
#include "bridge/wire/topic.h"

enum { CONNECTING_MAX = 16 }; /* devices at once */

#define SOON_NS  (10 * CLOCK_NS_PER_S) /* a connection that ends earlier was no good */
#define SPELL_NS (2 * CLOCK_NS_PER_S)  /* a broker's end is told by the bridge session */

/* ---- the bridge session ------------------------------------------------ */

static void bridge_up(struct sessions *sessions, int64_t now_ns)
{
    const struct conf_mqtt *mqtt = &sessions->conf->mqtt;
    struct trouble *trouble = &sessions->trouble;
    int64_t down_ns = now_ns - atomic_exchange(&sessions->down_since_ns, 0);
    if (trouble->logged)
        log_info("the broker is back url=%s down_s=%.1f attempts=%u", mqtt->url,
                 (double)down_ns / (double)CLOCK_NS_PER_S, trouble->attempts + 1);
    else
        log_info("connected to the broker url=%s client_id=%s", mqtt->url, mqtt->client_id);
    sessions->up_since_ns = now_ns;
    *trouble = (struct trouble){.logged = false};
}

/* Names a cause that the broker has not named. One that keeps hanging up soon
 * after the login has most likely two clients with the same id, which throw
 * each other out; only version 5 has a packet to say so, and not every broker
 * sends it. */
static void name_cause(const struct sessions *sessions, enum session_event event, bool again,
                       char why[MQTT_WHY_MAX])
{
    if (event == SESSION_FAILED)
        cause_broker(&sessions->conf->mqtt, why, MQTT_WHY_MAX);
    else if (!again)
        snprintf(why, MQTT_WHY_MAX, "connection lost");
    else
        snprintf(why, MQTT_WHY_MAX,
                 "connection lost soon after the login, again: "
                 "does another client use the client id %.100s?",
                 sessions->conf->mqtt.client_id);
}

/* A cause is logged when it is another than before. */
static void bridge_down(struct sessions *sessions, enum session_event event, int64_t now_ns,
                        char why[MQTT_WHY_MAX])
{
    struct trouble *trouble = &sessions->trouble;
    bool again = false;
    if (event == SESSION_LOST) {
        bool soon = now_ns - sessions->up_since_ns < SOON_NS;
        again = soon && sessions->lost_soon;
        sessions->lost_soon = soon;
        atomic_store(&sessions->down_since_ns, now_ns);
        sessions->devices_trouble_ns = CLOCK_NEVER;
    } else {
        trouble->attempts++;
    }
    if (why[0] == '\0')
        name_cause(sessions, event, again, why);
    if (trouble->logged && strcmp(trouble->why, why) == 0)
        return;
    log_warning("no session with the broker: %s url=%s", why, sessions->conf->mqtt.url);
    snprintf(trouble->why, sizeof(trouble->why), "%s", why);
    trouble->logged = true;
}

/* Or their topics would be wrong for as long as a pause, which can be a minute. */
static void retry_devices(struct sessions *sessions, int64_t now_ns)
{
    for (unsigned i = 0; i < sessions->n_devices; i++)
        session_retry(&sessions->devices[i], now_ns);
    sessions->devices_due_ns = now_ns;
}

enum session_event sessions_run_bridge(struct sessions *sessions, int64_t now_ns)
{
    char why[MQTT_WHY_MAX];
    enum session_event event = session_step(&sessions->bridge, now_ns, true, why);
    if (event == SESSION_CAME_UP) {
        bridge_up(sessions, now_ns);
        retry_devices(sessions, now_ns);
    } else if (event != SESSION_NOTHING) {
        bridge_down(sessions, event, now_ns, why);
    }
    return event;
}

/* ---- the devices' sessions --------------------------------------------- */

/* Not logged at once: when the broker is gone, the bridge session says so, and
 * it may hear of it a little later. */
static void device_down(struct sessions *sessions, const char *why, int64_t now_ns)
{
    struct trouble *trouble = &sessions->devices_trouble;
    if (sessions->bridge.state != SESSION_UP || trouble->logged ||
        sessions->devices_trouble_ns != CLOCK_NEVER) {
        return;
    }
    snprintf(trouble->why, sizeof(trouble->why), "%s", why[0] != '\0' ? why : "connection lost");
    sessions->devices_trouble_ns = now_ns + SPELL_NS;
}

static void log_devices(struct sessions *sessions, unsigned n_down, int64_t now_ns)
{
    struct trouble *trouble = &sessions->devices_trouble;
    if (now_ns >= sessions->devices_trouble_ns) {
        log_warning("no MQTT session for some devices: %s down=%u of=%u", trouble->why, n_down,
                    sessions->n_devices);
        trouble->logged = true;
        sessions->devices_trouble_ns = CLOCK_NEVER;
    } else if (trouble->logged && n_down == 0) {
        log_info("every device has its MQTT session again count=%u", sessions->n_devices);
        trouble->logged = false;
    }
}

static void run_device(struct sessions *sessions, unsigned device, bool may_connect, int64_t now_ns)
{
    struct session *session = &sessions->devices[device];
    char why[MQTT_WHY_MAX];
    enum session_event event;
    while ((event = session_step(session, now_ns, may_connect, why)) != SESSION_NOTHING) {
        if (event == SESSION_CAME_UP)
            outbox_mark_presence(sessions->outbox, device);
        else
            device_down(sessions, why, now_ns);
    }
}

void sessions_run_devices(struct sessions *sessions, int64_t now_ns)
{
    unsigned n_connecting = 0, n_down = 0;
    int64_t due_ns = CLOCK_NEVER;
    if (!atomic_exchange(&sessions->stirred, false) && now_ns < sessions->devices_due_ns)
        return;
    for (unsigned i = 0; i < sessions->n_devices; i++)
        n_connecting += sessions->devices[i].state == SESSION_CONNECTING;
    for (unsigned i = 0; i < sessions->n_devices; i++) {
        const struct session *session = &sessions->devices[i];
        n_connecting -= session->state == SESSION_CONNECTING;
        run_device(sessions, i, n_connecting < CONNECTING_MAX, now_ns);
        n_connecting += session->state == SESSION_CONNECTING;
        n_down += session->state != SESSION_UP;
        if (session->state == SESSION_DOWN && session->retry_ns < due_ns)
            due_ns = session->retry_ns;
    }
    log_devices(sessions, n_down, now_ns);
    if (n_connecting >= CONNECTING_MAX) /* those that wait go on when one of these ends */
        due_ns = CLOCK_NEVER;
    sessions->devices_due_ns =
        due_ns < sessions->devices_trouble_ns ? due_ns : sessions->devices_trouble_ns;
}

/* ---- all --------------------------------------------------------------- */

int64_t sessions_due_ns(const struct sessions *sessions)
{
    bool waits = sessions->bridge.state == SESSION_DOWN;
    int64_t bridge_ns = waits ? sessions->bridge.retry_ns : CLOCK_NEVER;
    return bridge_ns < sessions->devices_due_ns ? bridge_ns : sessions->devices_due_ns;
}

void sessions_retry(struct sessions *sessions, int64_t now_ns)
{
    session_retry(&sessions->bridge, now_ns);
    retry_devices(sessions, now_ns);
}

static bool make_session(struct session *session, const struct session_setup *setup,
                         const struct conf *conf, const char *node, const char *client_id)
{
    char topic[TOPIC_MAX + 1];
    return topic_make(topic, conf, node, "status") &&
           session_init(session, setup, client_id, topic);
}

bool sessions_init(struct sessions *sessions, const struct conf *conf, struct outbox *outbox,
                   const struct mqtt_callbacks *callbacks, void *owner, uint32_t seed)
{
    const struct device_list *list = &conf->devices;
    struct session_setup setup = {.conf = &conf->mqtt,
                                  .outbox = outbox,
                                  .stirred = &sessions->stirred,
                                  .owner = owner,
                                  .callbacks = *callbacks,
                                  .seed = seed};
    *sessions = (struct sessions){.conf = conf,
                                  .outbox = outbox,
                                  .down_since_ns = clock_mono_ns(),
                                  .devices_trouble_ns = CLOCK_NEVER};
    if (!make_session(&sessions->bridge, &setup, conf, "bridge", conf->mqtt.client_id))
        return false;
    if (!conf->mqtt.device_wills)
        return true;
    sessions->devices = calloc(list->n_devices, sizeof(*sessions->devices));
    if (sessions->devices == NULL)
        return false;
    setup.callbacks.arrived = NULL;
    for (unsigned i = 0; i < list->n_devices; i++) {
        const char *name = list->devices[i].name;
        char client_id[CONF_TEXT_MAX + DEVICE_NAME_MAX + 2];
        snprintf(client_id, sizeof(client_id), "%s-%s", conf->mqtt.client_id, name);
        setup.seed += 7919;
        sessions->n_devices++;
        if (!make_session(&sessions->devices[i], &setup, conf, name, client_id))
            return false;
    }
    return true;
}

void sessions_destroy(struct sessions *sessions)
{
    for (unsigned i = 0; i < sessions->n_devices; i++)
        session_destroy(&sessions->devices[i]);
    session_destroy(&sessions->bridge);
    free(sessions->devices);
}
