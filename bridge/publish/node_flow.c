#include "bridge/publish/node_flow.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/publish/node_answers.h"
#include "bridge/publish/node_history.h"

/* What is live is told so often at most, all that there is together: each wake-up of the
 * library's sender costs as much as a message. */
#define LIVE_NS (100 * CLOCK_NS_PER_MS)
/* Between two marks for what is live, and two payloads of history. */
#define MARK_NS    CLOCK_NS_PER_S
#define HISTORY_NS (200 * CLOCK_NS_PER_MS)
/* How often it is looked whether a device that gives nothing any more is offline, and
 * whether one that gives something is called online by now. */
#define PRESENCE_NS CLOCK_NS_PER_S
#define ARRIVAL_NS  (10 * CLOCK_NS_PER_MS)

/* Tickets, beside those of batches: a device's birth, and what tells that births have
 * arrived. */
#define BIRTH_TICKET (UINT64_C(1) << 63)
#define PROOF_TICKET (UINT64_C(1) << 62)

enum {
    BORN = UINT32_MAX,
    NOBODY = UINT32_MAX,
};

struct node_flow {
    struct node_flow_setup setup;
    struct node_answers *answers;
    struct node_history *history;
    char mark_topic[TOPIC_MAX + 1];

    unsigned next_birth; /* 0 = the node's, then each device's; BORN = all are said */
    int64_t presence_ns; /* when to look next */
    bool has_births;     /* since then there were some */
    int64_t live_ns, mark_ns, history_ns; /* before them nothing live, no mark, no history */
    bool *born, *gives; /* by device: the second, whether its last scan gave something */

    /* A session that ends before anything of it is acknowledged may have ended for a
     * birth: in the next they go one by one, each of them acknowledged by a mark. */
    bool is_wary;
    unsigned probed; /* the device whose birth is under way alone */
    unsigned probed_at;

    /* left by the library's threads */
    _Atomic uint64_t marking; /* the batch whose mark is in flight; 0 = none */
    atomic_uint proofs;       /* marks of this session that were answered */
    atomic_bool *barred;      /* by device: the broker does not take its birth */

    /* room to work in */
    struct outcome outcome;
    struct scans_item item;
    struct value values[PROFILE_POINTS_MAX];
    struct sparkplug_metric *metrics;
};

static const char *name_of(const struct node_flow *flow, unsigned device)
{
    return flow->setup.conf->devices.devices[device].name;
}

/* ---- births and deaths ---- */

static bool send_device(struct node_flow *flow, unsigned device, bool birth)
{
    unsigned n = births_metrics(flow->setup.births, device, !birth, clock_utc_ms(), flow->metrics);
    if (n == 0)
        return true;
    if (!node_post_send(flow->setup.post, birth ? "DBIRTH" : "DDATA", name_of(flow, device),
                        flow->metrics, n, birth ? BIRTH_TICKET | device : 0))
        return false;
    births_told(flow->setup.births, device, birth);
    return true;
}

/* Makes the device what it is: born, dead, or born anew for what its birth did not have.
 * False: no room now. */
static bool settle(struct node_flow *flow, unsigned device)
{
    const bool alive = flow->gives[device] && !atomic_load(&flow->barred[device]) &&
                       outbox_is_online(flow->setup.outbox, device);
    if (alive && (!flow->born[device] || births_is_due(flow->setup.births, device))) {
        if (!send_device(flow, device, true))
            return false;
        flow->born[device] = !atomic_load(&flow->barred[device]);
        flow->has_births = true;
    } else if (!alive && flow->born[device]) {
        if (!node_post_send(flow->setup.post, "DDEATH", name_of(flow, device), NULL, 0, 0))
            return false;
        flow->born[device] = flow->gives[device] = false;
        births_stale(flow->setup.births, device);
    }
    return true;
}

void node_flow_begin(struct node_flow *flow, bool session)
{
    if (session) {
        atomic_store(&flow->proofs, 0);
        flow->probed = NOBODY;
    }
    scans_rewind(flow->setup.scans);
    atomic_store(&flow->marking, 0);
    for (unsigned i = 0; i < flow->setup.conf->devices.n_devices; i++)
        flow->born[i] = false;
    flow->next_birth = 0;
}

static bool send_mark(struct node_flow *flow, uint64_t ticket)
{
    static const char text[] = "{}";
    const struct mqtt_message message = {
        .topic = flow->mark_topic,
        .payload = text,
        .payload_size = strlen(text),
        .qos = 1,
        .plain = true,
    };
    if (!node_post_has_room(flow->setup.post, 1))
        return false;
    atomic_store(&flow->marking, ticket);
    if (mqtt_publish(flow->setup.post->mqtt, &message, ticket))
        return true;
    atomic_store(&flow->marking, 0);
    return false;
}

/* The next device's birth; false: not now. */
static bool send_next_birth(struct node_flow *flow, unsigned device)
{
    if (flow->is_wary &&
        (atomic_load(&flow->marking) != 0 || !node_post_has_room(flow->setup.post, 2)))
        return false;
    flow->probed = NOBODY;
    if (!settle(flow, device))
        return false;
    if (flow->is_wary && flow->born[device]) {
        flow->probed_at = atomic_load(&flow->proofs);
        flow->probed = send_mark(flow, PROOF_TICKET) ? device : NOBODY;
    }
    return true;
}

static bool go_on_births(struct node_flow *flow)
{
    const struct conf *conf = flow->setup.conf;
    if (flow->next_birth == BORN)
        return true;
    if (flow->next_birth == 0) {
        if (!node_post_birth(flow->setup.post))
            return false;
        flow->next_birth = 1;
    }
    for (; flow->next_birth <= conf->devices.n_devices; flow->next_birth++) {
        if (!send_next_birth(flow, flow->next_birth - 1))
            return false;
    }
    if (flow->is_wary && atomic_load(&flow->marking) != 0)
        return false;
    flow->is_wary = false;
    flow->probed = NOBODY;
    if (!send_mark(flow, PROOF_TICKET))
        return false;
    flow->next_birth = BORN;
    log_info("sparkplug: the node is born group=%s node=%s", conf->sparkplug.group,
             node_post_name(conf));
    return true;
}

/* What the broker does not take is set aside, and said once. */
static void bar(struct node_flow *flow, unsigned device, const char *why)
{
    if (atomic_exchange(&flow->barred[device], true))
        return;
    health_count(&flow->setup.health->set_aside);
    log_warning("sparkplug: the birth of a device is set aside: %s device=%s", why,
                name_of(flow, device));
}

/* ---- data ---- */

static bool unpack(struct node_flow *flow, struct sample *sample)
{
    return sample_unpack(flow->item.layout, flow->item.packed, flow->item.size, sample,
                         flow->values);
}

/* What is read changes what a birth would say, whether or not there can be one now. */
static void note_sample(struct node_flow *flow)
{
    struct sample sample;
    if (!unpack(flow, &sample))
        return;
    flow->gives[flow->item.device] = sample.quality != SAMPLE_BAD;
    if (sample.quality != SAMPLE_BAD)
        births_take(flow->setup.births, flow->item.device, &sample);
}

/* It is about to be called online. */
static bool is_awaited(const struct node_flow *flow, unsigned device)
{
    return flow->gives[device] && !flow->born[device] && !atomic_load(&flow->barred[device]);
}

static void tell_sample(struct node_flow *flow)
{
    const unsigned device = flow->item.device;
    note_sample(flow);
    if (settle(flow, device) && flow->born[device])
        (void)send_device(flow, device, false);
    else if (is_awaited(flow, device))
        flow->presence_ns = 0;
}

/* Who gives no samples any more says nothing, either; and what births left to be told as
 * data is told once they are all said. */
static void look_at_presence(struct node_flow *flow, int64_t now_ns)
{
    bool waits = false;
    if (now_ns < flow->presence_ns)
        return;
    for (unsigned i = 0; i < flow->setup.conf->devices.n_devices; i++) {
        if (!settle(flow, i))
            return;
        if (flow->has_births && flow->born[i] && !send_device(flow, i, false))
            return;
        waits = waits || is_awaited(flow, i);
    }
    flow->has_births = false;
    flow->presence_ns = now_ns + (waits ? ARRIVAL_NS : PRESENCE_NS);
}

static void tell_outcome(struct node_flow *flow)
{
    const unsigned device = flow->outcome.command.device;
    births_take_outcome(flow->setup.births, &flow->outcome, clock_utc_ms());
    if (settle(flow, device) && flow->born[device])
        (void)send_device(flow, device, false);
}

/* One payload. */
static bool tell_history(struct node_flow *flow)
{
    const struct sparkplug_metric *metrics;
    unsigned device;
    const unsigned n = node_history_take(flow->history, flow->born, &device, &metrics);
    return n > 0 && node_post_send(flow->setup.post, "DDATA", name_of(flow, device), metrics, n, 0);
}

/* Behind what was sent goes a message that the broker acknowledges. */
static void mark(struct node_flow *flow)
{
    if (atomic_load(&flow->marking) != 0 || !node_post_has_room(flow->setup.post, 1))
        return;
    const uint64_t batch = scans_end_batch(flow->setup.scans);
    if (batch != 0)
        (void)send_mark(flow, batch); /* if not, the next one covers it */
}

/* Whether there was something, and all of it is told. A sample takes a birth and data at
 * most. */
static bool tell_live(struct node_flow *flow)
{
    bool any = false;
    while (node_post_has_room(flow->setup.post, 2)) {
        if (!scans_take_live(flow->setup.scans, &flow->item))
            return any;
        tell_sample(flow);
        any = true;
    }
    return false;
}

static int64_t sooner(int64_t due_ns, int64_t time_ns, int64_t now_ns)
{
    return time_ns > now_ns && time_ns < due_ns ? time_ns : due_ns;
}

int64_t node_flow_run(struct node_flow *flow, int64_t now_ns)
{
    if (!go_on_births(flow))
        return now_ns + HISTORY_NS;
    while (node_post_has_room(flow->setup.post, 2) &&
           node_answers_take(flow->answers, &flow->outcome))
        tell_outcome(flow);
    if (now_ns >= flow->live_ns && tell_live(flow))
        flow->live_ns = now_ns + LIVE_NS;
    look_at_presence(flow, now_ns);
    /* One payload, then its mark: the host gets history no faster than the broker. */
    bool history = now_ns >= flow->history_ns && atomic_load(&flow->marking) == 0 &&
                   node_post_has_room(flow->setup.post, 2) && tell_history(flow);
    if (history)
        flow->history_ns = now_ns + HISTORY_NS;
    if (history || now_ns >= flow->mark_ns) {
        flow->mark_ns = now_ns + MARK_NS;
        mark(flow);
    }
    int64_t due_ns = sooner(now_ns + PRESENCE_NS, flow->presence_ns, now_ns);
    if (scans_history(flow->setup.scans) > 0)
        due_ns = sooner(due_ns, flow->history_ns, now_ns);
    return sooner(due_ns, flow->live_ns + LIVE_NS / 2, now_ns); /* a sample wakes us before */
}

void node_flow_finish(struct node_flow *flow, int64_t now_ns)
{
    flow->live_ns = now_ns;
    (void)node_flow_run(flow, now_ns);
}

/* ---- what is told of it ---- */

void node_flow_put_outcome(struct node_flow *flow, const struct outcome *outcome)
{
    node_answers_put(flow->answers, outcome);
}

void node_flow_note(struct node_flow *flow)
{
    while (scans_take_live(flow->setup.scans, &flow->item))
        note_sample(flow);
}

/* A mark that the broker refuses tells as well that it has all before it. */
void node_flow_delivered(struct node_flow *flow, uint64_t ticket, enum mqtt_fate fate)
{
    if ((ticket & BIRTH_TICKET) != 0) {
        if (fate == MQTT_REFUSED)
            bar(flow, (unsigned)(ticket & ~BIRTH_TICKET), "the broker does not take it");
    } else if (ticket != 0) {
        if (fate != MQTT_LOST && ticket != PROOF_TICKET)
            scans_ack(flow->setup.scans, ticket);
        if (fate != MQTT_LOST)
            atomic_fetch_add(&flow->proofs, 1);
        atomic_store(&flow->marking, 0);
    }
}

void node_flow_lost(struct node_flow *flow, bool may_blame)
{
    const bool guilty =
        may_blame && flow->probed != NOBODY && atomic_load(&flow->proofs) == flow->probed_at;
    if (may_blame)
        flow->is_wary = guilty || atomic_load(&flow->proofs) == 0;
    if (guilty)
        bar(flow, flow->probed, "two sessions in a row have ended on it");
    flow->probed = NOBODY;
}

void node_flow_forget(struct node_flow *flow)
{
    flow->is_wary = false;
    for (unsigned i = 0; i < flow->setup.conf->devices.n_devices; i++)
        atomic_store(&flow->barred[i], false);
}

/* ---- start and end ---- */

static bool make_room(struct node_flow *flow)
{
    const unsigned n = flow->setup.conf->devices.n_devices;
    flow->born = calloc(n, sizeof(*flow->born));
    flow->gives = calloc(n, sizeof(*flow->gives));
    flow->barred = calloc(n, sizeof(*flow->barred));
    flow->metrics = calloc(births_most(flow->setup.births), sizeof(*flow->metrics));
    flow->answers = node_answers_new(flow->setup.births);
    flow->history = node_history_new(flow->setup.births, flow->setup.scans);
    return flow->born != NULL && flow->gives != NULL && flow->barred != NULL &&
           flow->metrics != NULL && flow->answers != NULL && flow->history != NULL;
}

struct node_flow *node_flow_new(const struct node_flow_setup *setup)
{
    struct node_flow *flow = calloc(1, sizeof(*flow));
    if (flow == NULL)
        return NULL;
    flow->setup = *setup;
    flow->next_birth = BORN;
    flow->probed = NOBODY;
    if (!topic_make(flow->mark_topic, setup->conf, "bridge", "sparkplug") || !make_room(flow)) {
        node_flow_free(flow);
        return NULL;
    }
    return flow;
}

void node_flow_free(struct node_flow *flow)
{
    if (flow == NULL)
        return;
    node_answers_free(flow->answers);
    node_history_free(flow->history);
    free(flow->metrics);
    free(flow->born);
    free(flow->gives);
    free(flow->barred);
    free(flow);
}
