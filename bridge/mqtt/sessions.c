#include "bridge/mqtt/sessions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/wire/topic.h"

enum { CONNECTING_MAX = 16 }; /* devices at once */

/* All bridges have lost the broker together, and each has several devices: behind a bridge
 * that is back these come within so many times reconnect_spread. */
enum { DEVICE_SPREADS = 2 };

enum { RESERVE_MAX = 8, KINDS = OUTBOX_BACKFILL + 1 };

/* A place in the outbox is left a moment after that in the session. */
_Static_assert(OUTBOX_IN_FLIGHT_MAX >= 2 * MQTT_WINDOW, "the session's window decides");

#define SLOT_NS  (50 * CLOCK_NS_PER_MS) /* 20 of them a second */
#define LOOK_NS  (10 * CLOCK_NS_PER_S)  /* whether one of them waits in vain */
#define FILE_NS  (2 * CLOCK_NS_PER_S)   /* a missing file is looked for so often */
#define SOON_NS  (10 * CLOCK_NS_PER_S)  /* a connection that ends earlier was no good */
#define SPELL_NS (2 * CLOCK_NS_PER_S)   /* a broker's end is told by the bridge session */

/* ---- the bridge session ------------------------------------------------ */

static void bridge_up(struct sessions *sessions, int64_t now_ns)
{
    const struct conf_mqtt *mqtt = &sessions->conf->mqtt;
    struct trouble *trouble = &sessions->trouble;
    char limits[MQTT_WHY_MAX];
    int64_t down_ns = now_ns - atomic_exchange(&sessions->down_since_ns, 0);
    mqtt_limits_words(sessions->bridge.mqtt, limits);
    if (trouble->logged)
        log_info("the broker is back url=%s down_s=%.1f attempts=%u address=%s", mqtt->url,
                 (double)down_ns / (double)CLOCK_NS_PER_S, trouble->attempts + 1,
                 sessions->address);
    else
        log_info("connected to the broker url=%s client_id=%s address=%s", mqtt->url,
                 mqtt->client_id, sessions->address);
    if (limits[0] != '\0' && !trouble->logged)
        log_info("the broker has limits%s", limits);
    sessions->up_since_ns = now_ns;
    *trouble = (struct trouble){.logged = false};
}

/* Names a cause that the broker has not named. One that keeps hanging up soon
 * after the login, with nothing under way, has most likely two clients with the same
 * id, which throw each other out; only version 5 has a packet to say so, and not
 * every broker sends it. */
static const char *name_loss(const struct sessions *sessions, const struct mqtt_end *end,
                             bool again, char why[MQTT_WHY_MAX])
{
    if (end->why != NULL)
        return end->why;
    if (!again)
        snprintf(why, MQTT_WHY_MAX, "connection lost");
    else if (end->faulted)
        snprintf(why, MQTT_WHY_MAX,
                 "connection lost soon after the login, again, with messages under way: "
                 "they are sent one by one now");
    else
        snprintf(why, MQTT_WHY_MAX,
                 "connection lost soon after the login, again: "
                 "does another client use the client id %.100s?",
                 sessions->conf->mqtt.client_id);
    return why;
}

/* A cause is logged when it is another than before. */
static void say_trouble(struct sessions *sessions, const char *why)
{
    const struct conf_mqtt *mqtt = &sessions->conf->mqtt;
    struct trouble *trouble = &sessions->trouble;
    if (trouble->logged && strcmp(trouble->why, why) == 0)
        return;
    if (sessions->address[0] != '\0' && strcmp(sessions->address, mqtt->host) != 0)
        log_warning("no session with the broker: %s url=%s address=%s", why, mqtt->url,
                    sessions->address);
    else
        log_warning("no session with the broker: %s url=%s", why, mqtt->url);
    snprintf(trouble->why, sizeof(trouble->why), "%s", why);
    trouble->logged = true;
}

/* Whether another address has its turn before this one: a node that is cut off from its cluster
 * lets everybody in, and takes nothing. Not where a message may be to blame: which one it is
 * is found out at the broker that it was sent to. */
static bool is_useless(const struct mqtt_end *end, bool again)
{
    return (end->unproved && (again || end->overdue)) || (end->overdue && !end->faulted);
}

static void bridge_lost(struct sessions *sessions, const struct mqtt_end *end, int64_t now_ns,
                        char why[MQTT_WHY_MAX])
{
    bool soon = now_ns - sessions->up_since_ns < SOON_NS;
    bool again = soon && sessions->lost_soon;
    sessions->lost_soon = soon;
    atomic_store(&sessions->down_since_ns, now_ns);
    sessions->devices_trouble_ns = CLOCK_NEVER;
    if (end->advice == MQTT_ELSEWHERE && sessions->next < sessions->addresses.n)
        sessions->bridge.retry_ns = now_ns;
    else if (end->advice != MQTT_TRY_NOW && !is_useless(end, again))
        sessions->next = sessions->addresses.n; /* a new round */
    say_trouble(sessions, name_loss(sessions, end, again, why));
}

static void wake(void *context)
{
    struct sessions *sessions = context;
    outbox_wake(sessions->outbox);
}

static void ask(struct sessions *sessions, const char *address, int64_t now_ns)
{
    sessions->asks_why = address != NULL;
    sessions->lookup = lookup_ask(&sessions->conf->mqtt, address, wake, sessions);
    if (sessions->lookup == NULL) /* out of memory */
        sessions->bridge.retry_ns = now_ns + CLOCK_NS_PER_S;
}

/* Connects to the next address of this round; false when there is none. */
static bool try_next(struct sessions *sessions)
{
    if (sessions->next >= sessions->addresses.n)
        return false;
    const char *text = sessions->addresses.list[sessions->next++].text;
    if (strcmp(text, sessions->address) != 0)
        mqtt_forget(sessions->bridge.mqtt); /* perhaps another broker */
    snprintf(sessions->address, sizeof(sessions->address), "%s", text);
    session_connect(&sessions->bridge, sessions->address);
    return true;
}

/* An attempt has failed. Nothing is said before all addresses have been tried, nor
 * before the cause is known, which may have to be asked for. */
static void bridge_failed(struct sessions *sessions, const struct mqtt_end *end, int64_t now_ns)
{
    sessions->trouble.attempts++;
    if (end->advice == MQTT_TRY_NOW) {
        if (end->why != NULL)
            log_info("the broker wants less of a session: %s", end->why);
        sessions->next--; /* the same one again */
        return;
    }
    mqtt_forget(sessions->bridge.mqtt);
    if (try_next(sessions))
        return;
    if (end->why == NULL)
        ask(sessions, sessions->address, now_ns);
    else
        say_trouble(sessions, end->why);
    if (end->why != NULL && strstr(end->why, " file=") != NULL)
        sessions->bridge.retry_ns = now_ns + FILE_NS;
}

/* Takes what was looked up. */
static void run_lookup(struct sessions *sessions, int64_t now_ns)
{
    struct session *bridge = &sessions->bridge;
    struct lookup_result result;
    if (sessions->lookup == NULL || !lookup_take(sessions->lookup, &result))
        return;
    sessions->lookup = NULL;
    if (result.good) {
        sessions->addresses = result.addresses;
        sessions->next = 0;
        try_next(sessions);
        return;
    }
    say_trouble(sessions, result.why);
    if (sessions->asks_why)
        return;
    sessions->addresses.n = 0;
    bridge->retry_ns = backoff_down(&bridge->backoff, now_ns);
}

/* Or their topics would be wrong for as long as a pause, which can be a minute. Each
 * within `below_ns`. */
static void retry_devices(struct sessions *sessions, int64_t now_ns, int64_t below_ns)
{
    for (unsigned i = 0; i < sessions->n_devices; i++) {
        if (!session_is_there(&sessions->devices[i]))
            continue;
        struct session *session = &sessions->devices[i];
        session_retry(session, now_ns + backoff_random_ns(&session->backoff, below_ns));
        if (session->state == SESSION_DOWN)
            session_forget(session);
    }
    sessions->devices_due_ns = now_ns;
}

enum session_event sessions_run_bridge(struct sessions *sessions, int64_t now_ns)
{
    struct session *bridge = &sessions->bridge;
    char why[MQTT_WHY_MAX];
    struct mqtt_end end;
    run_lookup(sessions, now_ns);
    enum session_event event = session_step(bridge, now_ns, NULL, why, &end);
    if (event == SESSION_CAME_UP) {
        const bool was_up = sessions->up_since_ns != 0;
        bridge_up(sessions, now_ns);
        retry_devices(sessions, now_ns,
                      was_up ? DEVICE_SPREADS * sessions->conf->mqtt.reconnect_spread_ns : 0);
    } else if (event == SESSION_LOST) {
        bridge_lost(sessions, &end, now_ns, why);
    } else if (event == SESSION_FAILED) {
        bridge_failed(sessions, &end, now_ns);
    }
    if (bridge->state == SESSION_DOWN && sessions->lookup == NULL && now_ns >= bridge->retry_ns &&
        !try_next(sessions))
        ask(sessions, NULL, now_ns);
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
    snprintf(trouble->why, sizeof(trouble->why), "%s", why != NULL ? why : "connection lost");
    sessions->devices_trouble_ns = now_ns + SPELL_NS;
}

static unsigned count_devices(const struct sessions *sessions)
{
    unsigned n = 0;
    for (unsigned i = 0; i < sessions->n_devices; i++)
        n += session_is_there(&sessions->devices[i]);
    return n;
}

static void log_devices(struct sessions *sessions, unsigned n_down, int64_t now_ns)
{
    struct trouble *trouble = &sessions->devices_trouble;
    if (now_ns >= sessions->devices_trouble_ns) {
        log_warning("no MQTT session for some devices: %s down=%u of=%u", trouble->why, n_down,
                    count_devices(sessions));
        trouble->logged = true;
        sessions->devices_trouble_ns = CLOCK_NEVER;
    } else if (trouble->logged && n_down == 0) {
        log_info("every device has its MQTT session again count=%u", count_devices(sessions));
        trouble->logged = false;
    }
}

static void run_device(struct sessions *sessions, unsigned device, const char *address,
                       int64_t now_ns)
{
    struct session *session = &sessions->devices[device];
    char why[MQTT_WHY_MAX] = "";
    struct mqtt_end end;
    enum session_event event;
    while ((event = session_step(session, now_ns, address, why, &end)) != SESSION_NOTHING) {
        if (event == SESSION_CAME_UP)
            outbox_mark_presence(sessions->outbox, device);
        else if (end.advice != MQTT_TRY_NOW)
            device_down(sessions, end.why, now_ns);
    }
}

void sessions_run_devices(struct sessions *sessions, int64_t now_ns)
{
    unsigned n_connecting = 0, n_down = 0;
    int64_t due_ns = now_ns + LOOK_NS;
    if (!atomic_exchange(&sessions->stirred, false) && now_ns < sessions->devices_due_ns)
        return;
    for (unsigned i = 0; i < sessions->n_devices; i++)
        n_connecting += sessions->devices[i].state == SESSION_CONNECTING;
    for (unsigned i = 0; i < sessions->n_devices; i++) {
        const struct session *session = &sessions->devices[i];
        if (!session_is_there(session))
            continue;
        bool may_connect = sessions->bridge.state == SESSION_UP && n_connecting < CONNECTING_MAX &&
                           now_ns >= sessions->slot_ns;
        bool was_down = session->state == SESSION_DOWN;
        n_connecting -= session->state == SESSION_CONNECTING;
        run_device(sessions, i, may_connect ? sessions->address : NULL, now_ns);
        n_connecting += session->state == SESSION_CONNECTING;
        if (was_down && session->state == SESSION_CONNECTING)
            sessions->slot_ns = now_ns + SLOT_NS;
        n_down += session->state != SESSION_UP;
        if (session->state == SESSION_DOWN && session->retry_ns < due_ns)
            due_ns = session->retry_ns;
    }
    log_devices(sessions, n_down, now_ns);
    /* Those that wait go on when one of these ends, or when the bridge's is up. */
    if (n_connecting >= CONNECTING_MAX || sessions->bridge.state != SESSION_UP)
        due_ns = now_ns + LOOK_NS;
    if (due_ns < sessions->slot_ns)
        due_ns = sessions->slot_ns;
    sessions->devices_due_ns =
        due_ns < sessions->devices_trouble_ns ? due_ns : sessions->devices_trouble_ns;
}

/* ---- all --------------------------------------------------------------- */

/* How much room there has to be for one of this kind. */
static unsigned room_for(unsigned kind, unsigned window)
{
    const unsigned reserve = window / 4 < RESERVE_MAX ? window / 4 : RESERVE_MAX;
    if (kind == OUTBOX_OUTCOME)
        return 1;
    return 1 + reserve + (kind == OUTBOX_BACKFILL ? reserve / 4 : 0);
}

/* How many kinds there is room for. */
static unsigned count_kinds(unsigned window, unsigned room)
{
    unsigned n = 0;
    while (n < KINDS && room >= room_for(n, window))
        n++;
    return n;
}

/* At how much room one of this kind, which has found none, is called. */
static unsigned call_at(unsigned kind, unsigned window)
{
    const unsigned least = room_for(kind, window);
    return kind == OUTBOX_BACKFILL ? window - (window - least + 1) / 2 : least;
}

bool sessions_has_room(struct sessions *sessions, enum outbox_kind *last)
{
    struct mqtt *mqtt = sessions->bridge.mqtt;
    if (sessions->bridge.state != SESSION_UP)
        return false;
    const unsigned window = mqtt_window(mqtt);
    unsigned n = count_kinds(window, mqtt_room(mqtt));
    atomic_store(&sessions->called_at, n < KINDS ? call_at(n, window) : 0);
    if (n < KINDS) /* one may have landed before that was said */
        n = count_kinds(window, mqtt_room(mqtt));
    if (n > 0)
        *last = (enum outbox_kind)(n - 1);
    return n > 0;
}

bool sessions_is_called(struct sessions *sessions)
{
    const unsigned room = atomic_load(&sessions->called_at);
    return room > 0 && mqtt_room(sessions->bridge.mqtt) >= room;
}

int64_t sessions_due_ns(const struct sessions *sessions)
{
    const struct session *bridge = &sessions->bridge;
    bool waits = bridge->state == SESSION_DOWN && sessions->lookup == NULL;
    int64_t bridge_ns = waits ? bridge->retry_ns : bridge->tend_ns;
    return bridge_ns < sessions->devices_due_ns ? bridge_ns : sessions->devices_due_ns;
}

void sessions_retry(struct sessions *sessions, int64_t now_ns)
{
    mqtt_forget(sessions->bridge.mqtt);
    session_retry(&sessions->bridge, now_ns);
    retry_devices(sessions, now_ns, 0);
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
    sessions->presences = presences_new(&conf->mqtt, list->n_devices);
    if (sessions->devices == NULL || sessions->presences == NULL)
        return false;
    setup.callbacks.arrived = NULL;
    setup.presences = sessions->presences;
    sessions->device_setup = setup;
    sessions->n_devices = list->n_devices;
    for (unsigned i = device_next(list, 0); i < list->n_devices; i = device_next(list, i + 1))
        if (!sessions_add(sessions, i))
            return false;
    return true;
}

bool sessions_add(struct sessions *sessions, unsigned device)
{
    const struct conf *conf = sessions->conf;
    const char *name = conf->devices.devices[device].name;
    struct session_setup setup = sessions->device_setup;
    char client_id[CONF_TEXT_MAX + DEVICE_NAME_MAX + 2];
    if (device >= sessions->n_devices || session_is_there(&sessions->devices[device]))
        return true;
    snprintf(client_id, sizeof(client_id), "%s-%s", conf->mqtt.client_id, name);
    setup.seed += 7919 * (device + 1);
    setup.place = device;
    atomic_store(&sessions->stirred, true); /* look at it at once */
    return make_session(&sessions->devices[device], &setup, conf, name, client_id);
}

void sessions_drop(struct sessions *sessions, unsigned device)
{
    if (device >= sessions->n_devices || !session_is_there(&sessions->devices[device]))
        return;
    session_destroy(&sessions->devices[device]);
    sessions->devices[device] = (struct session){.mqtt = NULL};
}

void sessions_destroy(struct sessions *sessions)
{
    lookup_drop(sessions->lookup);
    for (unsigned i = 0; i < sessions->n_devices; i++)
        session_destroy(&sessions->devices[i]);
    presences_free(sessions->presences);
    session_destroy(&sessions->bridge);
    free(sessions->devices);
}
