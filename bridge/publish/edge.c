#include "bridge/publish/edge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/publish/node_commands.h"
#include "bridge/publish/node_flow.h"
#include "bridge/publish/primary_host.h"

/* However many ask for one. */
#define REBIRTH_NS (5 * CLOCK_NS_PER_S)
/* Between two looks whether the bdSeq is on disk. */
#define KEEP_NS (20 * CLOCK_NS_PER_MS)

enum { FILTER_NCMD, FILTER_DCMD, FILTER_STATE, FILTER_OLD_STATE, N_FILTERS };
enum { REFUSALS_MAX = 8 };

struct edge {
    struct edge_setup setup;
    struct session session;
    struct node_post post;
    struct births *births;
    struct node_flow *flow;
    struct primary_host host;
    struct node_commands commands;
    char filters[N_FILTERS][TOPIC_MAX + 1];
    unsigned n_filters; /* the last two with a primary host only */
    bool has_address;   /* the bridge is connected */
    bool waits;         /* for the primary host, and has said so */
    bool drops;         /* what waits for the host has begun to give way, and it was said */
    int64_t birth_ns;   /* of the last one; INT64_MIN = none in this session */

    atomic_bool stirred; /* nobody asks: edge_run() looks each time */

    /* left by the library's threads */
    atomic_uint heard; /* subscriptions answered */
    atomic_bool rebirth_asked;
    pthread_mutex_t mutex; /* for what follows */
    unsigned n_refusals;
    uint64_t refusals[REFUSALS_MAX]; /* topics that were said to be refused */
};

/* ---- what arrives: the library's threads ---- */

static bool on_arrived(void *context, const struct mqtt_arrival *arrival)
{
    struct edge *edge = ((struct session *)context)->setup.owner;
    const size_t devices = strlen(edge->filters[FILTER_DCMD]) - 1; /* without its + */
    bool taken = true;
    if (strcmp(arrival->topic, edge->filters[FILTER_NCMD]) == 0) {
        if (node_commands_ask_rebirth(arrival))
            atomic_store(&edge->rebirth_asked, true);
    } else if (strncmp(arrival->topic, edge->filters[FILTER_DCMD], devices) == 0) {
        taken = node_commands_take(&edge->commands, arrival);
    } else if (strcmp(arrival->topic, edge->filters[FILTER_STATE]) == 0) {
        primary_host_hear(&edge->host, arrival);
    } else {
        primary_host_hear_2(&edge->host, arrival->topic);
    }
    outbox_wake(edge->setup.outbox);
    return taken;
}

static void on_answered(void *context, const char *filter)
{
    struct edge *edge = ((struct session *)context)->setup.owner;
    (void)filter;
    atomic_fetch_add(&edge->heard, 1);
    outbox_wake(edge->setup.outbox);
}

/* Once for each topic. */
static void on_refused(void *context, const char *topic, const char *why)
{
    struct edge *edge = ((struct session *)context)->setup.owner;
    const uint64_t hash = limits_hash(topic, strlen(topic));
    pthread_mutex_lock(&edge->mutex);
    unsigned i = 0;
    while (i < edge->n_refusals && edge->refusals[i] != hash)
        i++;
    const bool told = i < edge->n_refusals || i == REFUSALS_MAX;
    if (!told)
        edge->refusals[edge->n_refusals++] = hash;
    pthread_mutex_unlock(&edge->mutex);
    if (!told)
        log_warning("sparkplug: the broker refuses a topic: %s topic=%s", why, topic);
}

static void on_delivered(void *context, uint64_t ticket, enum mqtt_fate fate)
{
    struct edge *edge = ((struct session *)context)->setup.owner;
    node_flow_delivered(edge->flow, ticket, fate);
    if (ticket != 0 || atomic_exchange(&edge->post.crowded, false))
        outbox_wake(edge->setup.outbox);
}

/* ---- the session ---- */

static void come_up(struct edge *edge)
{
    primary_host_forget(&edge->host); /* the retained word comes anew */
    node_commands_begin(&edge->commands);
    edge->birth_ns = INT64_MIN;
    atomic_store(&edge->heard, 0);
    for (unsigned i = 0; i < edge->n_filters; i++)
        (void)mqtt_subscribe(edge->session.mqtt, edge->filters[i],
                             i >= FILTER_STATE ? MQTT_RETAINED : MQTT_LIVE, 1);
}

static void go_down(struct edge *edge, const struct mqtt_end *end)
{
    if (edge->birth_ns != INT64_MIN) {
        log_warning("sparkplug: the session is lost why=\"%s\"", end->why != NULL ? end->why : "");
        node_flow_lost(edge->flow, !end->illegal);
    }
    edge->birth_ns = INT64_MIN;
    node_post_end(&edge->post, !end->unasked);
}

/* Says NDEATH, and ends the session with it once more (version 5). */
static void leave(struct edge *edge, int64_t now_ns)
{
    (void)node_post_death(&edge->post);
    edge->birth_ns = INT64_MIN;
    session_end(&edge->session, now_ns);
    node_post_end(&edge->post, true);
}

/* What is to be said in a session that is up. */
static int64_t speak(struct edge *edge, int64_t now_ns)
{
    const bool born = edge->birth_ns != INT64_MIN;
    if (atomic_load(&edge->heard) < edge->n_filters)
        return CLOCK_NEVER;
    const bool fell = primary_host_has_fallen(&edge->host);
    if (born && (fell || !primary_host_is_online(&edge->host))) {
        log_info("sparkplug: the primary host is gone: the node ends its session host=%s",
                 edge->host.id);
        leave(edge, now_ns);
        return edge->session.retry_ns;
    }
    if (!primary_host_is_online(&edge->host)) {
        if (!edge->waits)
            log_info("sparkplug: waits for the primary host host=%s", edge->host.id);
        edge->waits = true;
        return CLOCK_NEVER;
    }
    const bool asked = atomic_load(&edge->rebirth_asked);
    if (!born || (asked && now_ns >= edge->birth_ns + REBIRTH_NS)) {
        atomic_store(&edge->rebirth_asked, false);
        edge->birth_ns = now_ns;
        edge->waits = false;
        edge->drops = edge->drops && born;
        node_flow_begin(edge->flow, !born);
    }
    int64_t due_ns = node_flow_run(edge->flow, now_ns);
    if (asked && edge->birth_ns + REBIRTH_NS < due_ns)
        due_ns = edge->birth_ns + REBIRTH_NS;
    return due_ns;
}

static void retry(struct edge *edge, int64_t now_ns)
{
    if (edge->session.state == SESSION_DOWN)
        session_retry(&edge->session, now_ns);
}

void edge_retry(struct edge *edge, int64_t now_ns)
{
    node_flow_forget(edge->flow);
    retry(edge, now_ns);
}

/* Where to connect to now; NULL = not yet. What was learnt of a broker goes with it. */
static const char *where_to(struct edge *edge, int64_t now_ns, const char *address)
{
    if (address == NULL)
        node_flow_forget(edge->flow);
    else if (!edge->has_address)
        retry(edge, now_ns); /* it follows the bridge's own session */
    edge->has_address = address != NULL;
    return node_post_may_connect(&edge->post, clock_awake_ns()) ? address : NULL;
}

static int64_t wait_for_session(struct edge *edge, int64_t now_ns, const char *address)
{
    node_flow_note(edge->flow);
    if (edge->session.state == SESSION_UP)
        return speak(edge, now_ns);
    if (edge->session.state != SESSION_DOWN || address == NULL)
        return CLOCK_NEVER;
    return edge->session.retry_ns > now_ns ? edge->session.retry_ns : now_ns + KEEP_NS;
}

/* Health has what no host will ever get. It is said once between two beginnings. */
static void note_dropped(struct edge *edge)
{
    atomic_uint_fast64_t *not_told = &edge->setup.health->not_told;
    const uint64_t dropped = scans_dropped(edge->setup.scans);
    if (dropped > health_get(not_told) && !edge->drops) {
        log_warning("sparkplug: samples are not told to the host any more: they are in the JSON "
                    "backfill alone");
        edge->drops = true;
    }
    atomic_store(not_told, dropped);
}

int64_t edge_run(struct edge *edge, int64_t now_ns, const char *address)
{
    char why[MQTT_WHY_MAX];
    struct mqtt_end end;
    enum session_event event;
    note_dropped(edge);
    const char *where = where_to(edge, now_ns, address);
    while ((event = session_step(&edge->session, now_ns, where, why, &end)) != SESSION_NOTHING) {
        if (event == SESSION_CAME_UP)
            come_up(edge);
        else
            go_down(edge, &end);
    }
    const bool born = edge->session.state == SESSION_UP && edge->birth_ns != INT64_MIN;
    int64_t due_ns = born ? speak(edge, now_ns) : wait_for_session(edge, now_ns, address);
    if (edge->session.state != SESSION_UP)
        return due_ns;
    session_tend(&edge->session, now_ns);
    return edge->session.tend_ns < due_ns ? edge->session.tend_ns : due_ns;
}

void edge_farewell(struct edge *edge, int64_t until_ns)
{
    const bool born = edge->session.state == SESSION_UP && edge->birth_ns != INT64_MIN;
    if (born) {
        node_flow_finish(edge->flow, clock_mono_ns());
        (void)node_post_death(&edge->post);
    }
    mqtt_disconnect(edge->session.mqtt, until_ns, born);
}

void edge_put_outcome(struct edge *edge, const struct outcome *outcome)
{
    node_flow_put_outcome(edge->flow, outcome);
    outbox_wake(edge->setup.outbox);
}

/* ---- start and end ---- */

static bool make_filters(struct edge *edge)
{
    const struct conf *conf = edge->setup.conf;
    const char *host = conf->sparkplug.primary_host;
    bool good = node_post_topic(conf, "NCMD", NULL, edge->filters[FILTER_NCMD]) &&
                node_post_topic(conf, "DCMD", "+", edge->filters[FILTER_DCMD]);
    edge->n_filters = FILTER_STATE;
    if (host[0] == '\0')
        return good;
    (void)snprintf(edge->filters[FILTER_STATE], TOPIC_MAX + 1, NODE_NAMESPACE "/STATE/%s", host);
    (void)snprintf(edge->filters[FILTER_OLD_STATE], TOPIC_MAX + 1, "STATE/%s", host);
    edge->n_filters = FILTER_OLD_STATE + 1;
    return good;
}

static bool make_session(struct edge *edge)
{
    const struct conf *conf = edge->setup.conf;
    char client_id[CONF_TEXT_MAX + 1], will_topic[TOPIC_MAX + 1];
    const struct session_setup session = {
        .conf = &conf->mqtt,
        .outbox = edge->setup.outbox,
        .stirred = &edge->stirred,
        .owner = edge,
        .callbacks = {.delivered = on_delivered,
                      .refused = on_refused,
                      .answered = on_answered,
                      .arrived = on_arrived},
        .seed = edge->setup.seed + 1,
    };
    (void)snprintf(client_id, sizeof(client_id), "%.200s-sparkplug", conf->mqtt.client_id);
    bool good = node_post_topic(conf, "NDEATH", NULL, will_topic) && make_filters(edge);
    return session_init(&edge->session, &session, client_id, will_topic) && good;
}

struct edge *edge_new(const struct edge_setup *setup)
{
    struct edge *edge = calloc(1, sizeof(*edge));
    if (edge == NULL)
        return NULL;
    edge->setup = *setup;
    edge->birth_ns = INT64_MIN;
    pthread_mutex_init(&edge->mutex, NULL);
    primary_host_begin(&edge->host, setup->conf->sparkplug.primary_host);
    bool good = make_session(edge);
    edge->births = births_new(setup->conf);
    if (good && edge->births != NULL)
        edge->flow = node_flow_new(&(struct node_flow_setup){
            .conf = setup->conf,
            .births = edge->births,
            .post = &edge->post,
            .outbox = setup->outbox,
            .scans = setup->scans,
            .health = setup->health,
        });
    if (edge->flow == NULL) {
        edge_free(edge);
        return NULL;
    }
    edge->commands =
        (struct node_commands){.conf = setup->conf, .births = edge->births, .inbox = setup->inbox};
    node_post_begin(&edge->post, setup->conf, setup->state, edge->session.mqtt, setup->seed);
    return edge;
}

void edge_free(struct edge *edge)
{
    if (edge == NULL)
        return;
    session_destroy(&edge->session);
    node_post_end(&edge->post, false);
    primary_host_end(&edge->host);
    node_flow_free(edge->flow);
    births_free(edge->births);
    pthread_mutex_destroy(&edge->mutex);
    free(edge);
}
