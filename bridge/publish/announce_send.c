#include "bridge/publish/announce_inside.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/mqtt/limits.h"
#include "bridge/wire/sample_json.h"
#include "bridge/wire/status_json.h"

enum { JITTER_MAX_MS = 2000 };

#define HEALTH_NS (STATUS_JSON_HEALTH_S * CLOCK_NS_PER_S)
#define DAMP_NS   CLOCK_NS_PER_S /* between two of one status or control */

static void take_presence(struct announce *announce, int64_t now_ns)
{
    unsigned device = 0;
    bool online;
    while (outbox_take_presence(announce->setup.retained.outbox, &device, &online)) {
        int64_t due_ns = announce->status_ns[device] + DAMP_NS;
        documents_call(announce->documents, announce_number(announce, RETAINED_STATUS, device),
                       due_ns > now_ns ? due_ns : now_ns);
        device++;
    }
}

static void call_controls(struct announce *announce, int64_t now_ns)
{
    for (unsigned i = 0; i < announce->n_devices; i++)
        if (announce_is_published(announce, announce_number(announce, RETAINED_CONTROL, i)))
            documents_call(announce->documents, announce_number(announce, RETAINED_CONTROL, i),
                           now_ns);
}

static void take_controls(struct announce *announce, int64_t now_ns)
{
    for (unsigned device = 0; outbox_take_control(announce->setup.retained.outbox, &device);
         device++) {
        int64_t due_ns = announce->control_ns[device] + DAMP_NS;
        documents_call(announce->documents, announce_number(announce, RETAINED_CONTROL, device),
                       due_ns > now_ns ? due_ns : now_ns);
    }
}

static struct session *session_of(struct announce *announce, unsigned number)
{
    struct sessions *sessions = announce->setup.sessions;
    const enum retained_kind kind = announce_kind(announce, number);
    return kind == RETAINED_STATUS && sessions->n_devices > 0
               ? &sessions->devices[retained_index(announce->retained, number)]
               : &sessions->bridge;
}

/* A device whose session is not up has its turn when it is, and one that is online
 * when commands are heard. */
static bool may_send(struct announce *announce, unsigned number, const struct session *session)
{
    const enum retained_kind kind = announce_kind(announce, number);
    char topic[TOPIC_MAX + 1];
    if (kind == RETAINED_GONE ? !announce_topic(announce, number, topic)
                              : !announce_is_published(announce, number))
        return false;
    bool early =
        kind == RETAINED_STATUS && announce->setup.sessions->n_devices > 0 &&
        retained_is_online(announce->retained, retained_index(announce->retained, number)) &&
        !atomic_load(&announce->hearing);
    const bool late = kind == RETAINED_STATE &&
                      !announce_is_mend_due(announce, retained_index(announce->retained, number));
    return session->state == SESSION_UP && !early && !late;
}

/* Once for each topic. */
static void tell_changed(struct announce *announce, unsigned number)
{
    char topic[TOPIC_MAX + 1];
    if (!announce->told[number] && announce_topic(announce, number, topic))
        log_warning("somebody else has changed a topic of ours: it is put right topic=%s", topic);
    announce->told[number] = true;
}

/* Out of memory it is tried again in a second. False when there is no room. */
static bool send(struct announce *announce, unsigned number, struct session *session,
                 int64_t now_ns)
{
    const enum retained_kind kind = announce_kind(announce, number);
    char topic[TOPIC_MAX + 1];
    char *text = retained_text(announce->retained, number, now_ns);
    if (text == NULL || !announce_topic(announce, number, topic)) {
        documents_drop(announce->documents, number);
        documents_call(announce->documents, number, now_ns + CLOCK_NS_PER_S);
        free(text);
        return true;
    }
    struct mqtt_message message = {.topic = topic,
                                   .payload = text,
                                   .payload_size = strlen(text),
                                   .qos = kind == RETAINED_HEALTH ? 0 : 1,
                                   .retained = true};
    if (kind == RETAINED_STATE) {
        message.qos = (int)announce->conf->mqtt.qos;
        message.expiry_s = sample_json_expiry_s(
            &announce->conf->devices.devices[retained_index(announce->retained, number)]);
        tell_changed(announce, number);
    }
    documents_sent(announce->documents, number, limits_hash(text, strlen(text)));
    bool taken = session_publish(session, &message, ANNOUNCE_TICKET | number);
    if (taken && kind == RETAINED_STATUS)
        announce->status_ns[retained_index(announce->retained, number)] = now_ns;
    if (taken && kind == RETAINED_CONTROL)
        announce->control_ns[retained_index(announce->retained, number)] = now_ns;
    if (taken && kind == RETAINED_HEALTH)
        documents_call(announce->documents, number, now_ns + HEALTH_NS);
    free(text);
    return taken;
}

/* False when some have to wait for room in the bridge's session. */
static bool run_documents(struct announce *announce, int64_t now_ns)
{
    struct sessions *sessions = announce->setup.sessions;
    enum outbox_kind last;
    unsigned number;
    while (documents_take(announce->documents, now_ns, &number)) {
        struct session *session = session_of(announce, number);
        bool is_bridge = session == &sessions->bridge;
        if (!may_send(announce, number, session)) {
            documents_drop(announce->documents, number);
            continue;
        }
        if (is_bridge && !sessions_has_room(sessions, &last)) {
            documents_return(announce->documents, number);
            return false;
        }
        if (send(announce, number, session, now_ns))
            continue;
        if (is_bridge) { /* it is to go alone: then there is no room now */
            documents_return(announce->documents, number);
        } else {
            documents_drop(announce->documents, number);
            documents_call(announce->documents, number, now_ns + DAMP_NS);
        }
    }
    return true;
}

/* While its session is down, a status may well be that session's own Will. */
static void put_right(struct announce *announce, int64_t now_ns)
{
    unsigned number;
    while (documents_next_wrong(announce->documents, now_ns, &number))
        if (session_of(announce, number)->state == SESSION_UP)
            tell_changed(announce, number);
}

int64_t announce_run(struct announce *announce, int64_t now_ns)
{
    unsigned n_paced = 0;
    take_presence(announce, now_ns);
    take_controls(announce, now_ns);
    announce_call_schedules(announce, false, &n_paced, now_ns);
    if (atomic_exchange(&announce->born, false)) {
        announce->seed = announce->seed * 1664525 + 1013904223; /* Numerical Recipes, ch. 7.1 */
        int64_t jitter_ns = (announce->seed >> 16) % JITTER_MAX_MS * CLOCK_NS_PER_MS;
        announce_call_discovery(announce, &n_paced, now_ns + jitter_ns);
    }
    const unsigned n_known = gone_count(announce->gone);
    (void)gone_look_at_info(announce->gone);
    if (gone_recall(announce->gone)) /* late: the last outcomes are known now, too */
        call_controls(announce, now_ns);
    announce_call_gone(announce, n_known, &n_paced, now_ns);
    put_right(announce, now_ns);
    return run_documents(announce, now_ns) ? documents_due_ns(announce->documents) : CLOCK_NEVER;
}
