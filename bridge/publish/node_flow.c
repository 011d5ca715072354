#include "bridge/publish/node_flow.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"

/* Between two marks for what is live, and two payloads of history. */
#define MARK_NS    CLOCK_NS_PER_S
#define HISTORY_NS (200 * CLOCK_NS_PER_MS)
/* How often it is looked whether a device that gives nothing any more is offline. */
#define PRESENCE_NS (200 * CLOCK_NS_PER_MS)

/* Tickets, beside those of batches: a device's birth, and what tells that births have
 * arrived. */
#define BIRTH_TICKET (UINT64_C(1) << 63)
#define PROOF_TICKET (UINT64_C(1) << 62)

enum {
    HISTORY_SCANS_MAX = 64, /* of one payload */
    HISTORY_METRICS_MAX = 512,
    HISTORY_TEXTS_MAX = 16 * 1024,
    OUTCOMES_MAX = 32,
    BORN = UINT32_MAX,
    NOBODY = UINT32_MAX,
};

struct node_flow {
    struct node_flow_setup setup;
    char mark_topic[TOPIC_MAX + 1];

    unsigned next_birth; /* 0 = the node's, then each device's; BORN = all are said */
    int64_t presence_ns; /* when to look next */
    int64_t mark_ns;     /* before it no mark for what is live */
    int64_t history_ns;  /* before it no history */
    bool *born, *gives;  /* by device: the second, whether its last scan gave something */

    /* A session that ends before anything of it is acknowledged may have ended for a
     * birth: in the next they go one by one, each of them acknowledged by a mark. */
    bool is_wary;
    unsigned probed; /* the device whose birth is under way alone */
    unsigned probed_at;

    /* left by the library's threads */
    _Atomic uint64_t marking; /* the batch whose mark is in flight; 0 = none */
    atomic_uint proofs;       /* marks of this session that were answered */
    atomic_bool *barred;      /* by device: the broker does not take its birth */
    pthread_mutex_t mutex;    /* for what follows */
    unsigned n_outcomes;
    struct outcome outcomes[OUTCOMES_MAX];

    /* room to work in */
    struct outcome outcome;
    struct scans_item item;
    struct value values[PROFILE_POINTS_MAX];
    struct sparkplug_metric *metrics;
    struct sparkplug_value *history;
    char *texts;
};

static const char *name_of(const struct node_flow *flow, unsigned device)
{
    return flow->setup.conf->devices.devices[device].name;
}

/* ---- births and deaths ---- */

static bool send_device(struct node_flow *flow, unsigned device, bool birth)
{
    unsigned n = births_metrics(flow->setup.births, device, !birth, clock_utc_ms(), flow->metrics);
    if (n > 0 &&
        !node_post_send(flow->setup.post, birth ? "DBIRTH" : "DDATA", name_of(flow, device),
                        flow->metrics, n, birth ? BIRTH_TICKET | device : 0))
        return false;
    if (n > 0)
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
    } else if (!alive && flow->born[device]) {
        if (!node_post_send(flow->setup.post, "DDEATH", name_of(flow, device), NULL, 0, 0))
            return false;
        flow->born[device] = false;
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
        .topic = flow->mark_topic, .payload = text, .payload_size = strlen(text), .qos = 1};
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

/* Goes on with them as far as there is room; whether all are said. */
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

static void tell_sample(struct node_flow *flow)
{
    const unsigned device = flow->item.device;
    note_sample(flow);
    if (!settle(flow, device))
        return;
    if (flow->born[device])
        (void)send_device(flow, device, false);
    else if (flow->gives[device] && !atomic_load(&flow->barred[device]))
        flow->presence_ns = 0; /* it is about to be called online */
}

/* Who gives no samples any more says nothing, either. */
static void look_at_presence(struct node_flow *flow, int64_t now_ns)
{
    if (now_ns < flow->presence_ns)
        return;
    for (unsigned i = 0; i < flow->setup.conf->devices.n_devices; i++) {
        if (!node_post_has_room(flow->setup.post, 2) || !settle(flow, i))
            return;
        if (flow->born[i])
            (void)send_device(flow, i, false);
    }
    flow->presence_ns = now_ns + PRESENCE_NS;
}

static bool next_outcome(struct node_flow *flow)
{
    pthread_mutex_lock(&flow->mutex);
    bool found = flow->n_outcomes > 0;
    if (found) {
        flow->outcome = flow->outcomes[0];
        memmove(&flow->outcomes[0], &flow->outcomes[1],
                --flow->n_outcomes * sizeof(flow->outcomes[0]));
    }
    pthread_mutex_unlock(&flow->mutex);
    return found;
}

/* One that did not get as far as being placed may name a metric of ours all the same. */
static bool place(const struct node_flow *flow, struct command *command)
{
    if (command->placed)
        return true;
    const int device = births_find_device(flow->setup.births, command->device_name);
    const int point =
        device >= 0 ? births_find(flow->setup.births, (unsigned)device, 0, command->point_name)
                    : -1;
    command->device = (unsigned)device;
    command->point = (unsigned)point;
    return point >= 0;
}

static void tell_outcome(struct node_flow *flow)
{
    if (!place(flow, &flow->outcome.command))
        return;
    const unsigned device = flow->outcome.command.device;
    births_take_outcome(flow->setup.births, &flow->outcome, clock_utc_ms());
    if (flow->born[device] && settle(flow, device))
        (void)send_device(flow, device, false);
}

/* Many scans of one device in one payload. */
static bool tell_history(struct node_flow *flow)
{
    unsigned device = SCANS_ANY, n = 0;
    char *texts = flow->texts;
    struct sample sample;
    for (unsigned i = 0; i < HISTORY_SCANS_MAX && n < HISTORY_METRICS_MAX &&
                         texts < flow->texts + HISTORY_TEXTS_MAX;
         i++) {
        if (!scans_take_history(flow->setup.scans, flow->born, &device, &flow->item))
            break;
        if (unpack(flow, &sample))
            n += births_history(flow->setup.births, device, &sample, &flow->metrics[n],
                                &flow->history[n], &texts);
    }
    return n > 0 &&
           node_post_send(flow->setup.post, "DDATA", name_of(flow, device), flow->metrics, n, 0);
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

/* A sample takes a birth and data at most. */
int64_t node_flow_run(struct node_flow *flow, int64_t now_ns)
{
    if (!go_on_births(flow))
        return now_ns + PRESENCE_NS;
    while (node_post_has_room(flow->setup.post, 2) && next_outcome(flow))
        tell_outcome(flow);
    while (node_post_has_room(flow->setup.post, 2) &&
           scans_take_live(flow->setup.scans, &flow->item))
        tell_sample(flow);
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
    return flow->presence_ns > now_ns ? flow->presence_ns : now_ns + PRESENCE_NS;
}

/* ---- what is told of it ---- */

void node_flow_put_outcome(struct node_flow *flow, const struct outcome *outcome)
{
    pthread_mutex_lock(&flow->mutex);
    if (flow->n_outcomes == OUTCOMES_MAX) /* the oldest gives way: JSON has it */
        memmove(&flow->outcomes[0], &flow->outcomes[1],
                --flow->n_outcomes * sizeof(flow->outcomes[0]));
    flow->outcomes[flow->n_outcomes++] = *outcome;
    pthread_mutex_unlock(&flow->mutex);
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

void node_flow_lost(struct node_flow *flow)
{
    const bool guilty = flow->probed != NOBODY && atomic_load(&flow->proofs) == flow->probed_at;
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
    const size_t most = births_most(flow->setup.births) + HISTORY_METRICS_MAX;
    flow->born = calloc(n, sizeof(*flow->born));
    flow->gives = calloc(n, sizeof(*flow->gives));
    flow->barred = calloc(n, sizeof(*flow->barred));
    flow->metrics = calloc(most, sizeof(*flow->metrics));
    flow->history = calloc(most, sizeof(*flow->history));
    flow->texts = malloc(HISTORY_TEXTS_MAX + most * BIRTHS_TEXT_MAX);
    return flow->born != NULL && flow->gives != NULL && flow->barred != NULL &&
           flow->metrics != NULL && flow->history != NULL && flow->texts != NULL;
}

struct node_flow *node_flow_new(const struct node_flow_setup *setup)
{
    struct node_flow *flow = calloc(1, sizeof(*flow));
    if (flow == NULL)
        return NULL;
    flow->setup = *setup;
    flow->next_birth = BORN;
    flow->probed = NOBODY;
    pthread_mutex_init(&flow->mutex, NULL);
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
    pthread_mutex_destroy(&flow->mutex);
    free(flow->metrics);
    free(flow->history);
    free(flow->texts);
    free(flow->born);
    free(flow->gives);
    free(flow->barred);
    free(flow);
}
