#include "bridge/publish/edge.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/publish/births.h"
#include "bridge/wire/topic.h"

#define NAMESPACE "spBv1.0"
#define BDSEQ     "bdSeq"
#define REBIRTH   "Node Control/Rebirth"
#define STATE_KEY "sparkplug/bdseq"
/* However many ask for one. */
#define REBIRTH_NS (5 * CLOCK_NS_PER_S)
/* Between two messages that tell what the broker has. */
#define MARK_NS (200 * CLOCK_NS_PER_MS)
/* Until what was put into the state file is waited for. */
#define KEEP_NS CLOCK_NS_PER_S

enum {
    WISHES_MAX = 32,        /* metrics of one command that are looked at */
    HISTORY_SCANS_MAX = 64, /* of one payload */
    HISTORY_METRICS_MAX = 512,
    OUTCOMES_MAX = 32,
    BDSEQ_END = 256,
    SEQ_END = 256,
    BORN = UINT32_MAX,
};

/* A message that the session has not taken yet. */
struct letter {
    char topic[TOPIC_MAX + 1];
    void *bytes; /* NULL = there is none */
    size_t size;
};

struct edge {
    struct edge_setup setup;
    struct births *births;
    struct session session;
    char filters[4][TOPIC_MAX + 1]; /* NCMD, DCMD, STATE, STATE of version 2.2 */
    unsigned n_filters;
    char mark_topic[TOPIC_MAX + 1];

    unsigned bdseq, seq;
    unsigned next_birth;      /* 0 = the node's, then each device's; BORN = all are said */
    int64_t birth_ns;         /* of the last one */
    bool *born;               /* by device */
    int64_t mark_ns;          /* when the next mark may be sent */
    _Atomic uint64_t marking; /* the batch whose mark is in flight; 0 = none */

    atomic_bool stirred; /* nobody asks: edge_run() looks each time */

    /* left by the library's threads */
    atomic_uint heard; /* subscriptions answered */
    atomic_bool rebirth_asked;
    pthread_mutex_t mutex; /* for what follows */
    bool host_online;
    int64_t host_ms; /* of the last word about it; -1 = none */
    unsigned n_outcomes;
    struct outcome outcomes[OUTCOMES_MAX];

    struct letter letter;
    /* the publisher's room to work in */
    struct outcome outcome;
    struct scans_item item;
    struct value values[PROFILE_POINTS_MAX];
    struct sparkplug_metric *metrics;
    struct sparkplug_value *history;
};

/* ---- sending ---- */

static const char *node_of(const struct edge *edge)
{
    const struct conf *conf = edge->setup.conf;
    return conf->sparkplug.node[0] != '\0' ? conf->sparkplug.node : conf->site;
}

static bool node_topic(const struct edge *edge, const char *type, const char *device,
                       char topic[TOPIC_MAX + 1])
{
    const char *group = edge->setup.conf->sparkplug.group;
    int length = snprintf(topic, TOPIC_MAX + 1, NAMESPACE "/%s/%s/%s%s%s", group, type,
                          node_of(edge), device != NULL ? "/" : "", device != NULL ? device : "");
    return length > 0 && length <= TOPIC_MAX;
}

/* Tries to send what the session did not take. */
static bool is_through(struct edge *edge)
{
    struct letter *letter = &edge->letter;
    if (letter->bytes != NULL && mqtt_publish(edge->session.mqtt,
                                              &(struct mqtt_message){.topic = letter->topic,
                                                                     .payload = letter->bytes,
                                                                     .payload_size = letter->size,
                                                                     .qos = 0},
                                              0)) {
        free(letter->bytes);
        letter->bytes = NULL;
    }
    return letter->bytes == NULL;
}

/* False: no room now. Else it goes, at the latest before all that follows; what cannot
 * be made for want of memory counts as gone. */
static bool send(struct edge *edge, const char *type, const char *device, bool with_seq,
                 const struct sparkplug_metric *metrics, unsigned n)
{
    struct letter *letter = &edge->letter;
    if (!is_through(edge) || mqtt_room(edge->session.mqtt) == 0)
        return false;
    if (node_topic(edge, type, device, letter->topic))
        letter->bytes = sparkplug_encode(clock_utc_ms(), with_seq ? (int)edge->seq : -1, metrics, n,
                                         &letter->size);
    if (with_seq)
        edge->seq = (edge->seq + 1) % SEQ_END;
    (void)is_through(edge);
    return true;
}

static struct sparkplug_metric bdseq_metric(const struct edge *edge, struct sparkplug_value *value)
{
    *value = (struct sparkplug_value){.integer = edge->bdseq};
    return (struct sparkplug_metric){
        .name = BDSEQ,
        .ts_ms = clock_utc_ms(),
        .type = SPARKPLUG_INT64,
        .value = value,
        .quality = SPARKPLUG_NO_QUALITY,
    };
}

/* The Will of the connection to come: one more than that of the last. */
static void make_will(struct edge *edge)
{
    char text[8];
    struct sparkplug_value value;
    size_t size;
    edge->bdseq = (edge->bdseq + 1) % BDSEQ_END;
    (void)snprintf(text, sizeof(text), "%u", edge->bdseq);
    if (edge->setup.state != NULL)
        (void)state_put(edge->setup.state, STATE_KEY, text);
    const struct sparkplug_metric metric = bdseq_metric(edge, &value);
    void *bytes = sparkplug_encode(metric.ts_ms, -1, &metric, 1, &size);
    if (bytes != NULL)
        mqtt_set_will(edge->session.mqtt, bytes, size, false);
    free(bytes);
}

/* ---- births ---- */

static bool send_node_birth(struct edge *edge)
{
    struct sparkplug_value values[2] = {{.is_null = false}};
    struct sparkplug_metric metrics[2] = {bdseq_metric(edge, &values[0])};
    metrics[1] = (struct sparkplug_metric){
        .name = REBIRTH,
        .ts_ms = metrics[0].ts_ms,
        .type = SPARKPLUG_BOOLEAN,
        .value = &values[1],
        .quality = SPARKPLUG_NO_QUALITY,
    };
    edge->seq = 0;
    return send(edge, "NBIRTH", NULL, true, metrics, 2);
}

static bool send_device(struct edge *edge, unsigned device, bool birth)
{
    const char *name = edge->setup.conf->devices.devices[device].name;
    unsigned n = births_metrics(edge->births, device, !birth, clock_utc_ms(), edge->metrics);
    return n == 0 || send(edge, birth ? "DBIRTH" : "DDATA", name, true, edge->metrics, n);
}

static bool send_device_birth(struct edge *edge, unsigned device)
{
    if (!send_device(edge, device, true))
        return false;
    edge->born[device] = true;
    births_told(edge->births, device, true);
    return true;
}

/* Everything is to be said anew: the values of now, and what was not acknowledged, or not
 * sent, is history. */
static void begin_births(struct edge *edge, int64_t now_ns)
{
    const unsigned n = edge->setup.conf->devices.n_devices;
    struct sample sample;
    int64_t taken_ns;
    scans_rewind(edge->setup.scans);
    atomic_store(&edge->marking, 0);
    for (unsigned i = 0; i < n; i++) {
        edge->born[i] = false;
        if (latest_get(edge->setup.latest, i, &sample, edge->values, &taken_ns))
            births_take(edge->births, i, &sample);
    }
    atomic_store(&edge->rebirth_asked, false);
    edge->birth_ns = now_ns;
    edge->next_birth = 0;
}

/* Goes on with them as far as there is room; whether all are said. */
static bool go_on_births(struct edge *edge)
{
    const unsigned n = edge->setup.conf->devices.n_devices;
    if (edge->next_birth == BORN)
        return true;
    if (edge->next_birth == 0) {
        if (!send_node_birth(edge))
            return false;
        edge->next_birth = 1;
    }
    for (; edge->next_birth <= n; edge->next_birth++) {
        unsigned device = edge->next_birth - 1;
        if (outbox_is_online(edge->setup.outbox, device) && !send_device_birth(edge, device))
            return false;
    }
    edge->next_birth = BORN;
    log_info("sparkplug: the node is born group=%s node=%s", edge->setup.conf->sparkplug.group,
             node_of(edge));
    return true;
}

/* ---- data ---- */

static bool unpack(struct edge *edge, struct sample *sample)
{
    return sample_unpack(edge->item.layout, edge->item.packed, edge->item.size, sample,
                         edge->values);
}

/* One live sample. A device that gave nothing has died; one that gives again is born. */
static void tell_sample(struct edge *edge)
{
    const unsigned device = edge->item.device;
    const char *name = edge->setup.conf->devices.devices[device].name;
    struct sample sample;
    if (!unpack(edge, &sample))
        return;
    if (sample.quality == SAMPLE_BAD) {
        if (edge->born[device])
            (void)send(edge, "DDEATH", name, true, NULL, 0);
        edge->born[device] = false;
        return;
    }
    births_take(edge->births, device, &sample);
    if (!edge->born[device]) {
        (void)send_device_birth(edge, device);
        return;
    }
    (void)send_device(edge, device, false);
    births_told(edge->births, device, false);
}

static bool next_outcome(struct edge *edge)
{
    pthread_mutex_lock(&edge->mutex);
    bool found = edge->n_outcomes > 0;
    if (found) {
        edge->outcome = edge->outcomes[0];
        memmove(&edge->outcomes[0], &edge->outcomes[1],
                --edge->n_outcomes * sizeof(edge->outcomes[0]));
    }
    pthread_mutex_unlock(&edge->mutex);
    return found;
}

static void tell_outcome(struct edge *edge)
{
    const unsigned device = edge->outcome.command.device;
    bool anew = births_take_outcome(edge->births, &edge->outcome, clock_utc_ms());
    if (!edge->born[device])
        return; /* its birth will have it */
    if (anew)
        (void)send_device(edge, device, true);
    (void)send_device(edge, device, false);
    births_told(edge->births, device, anew);
}

/* Many scans of one device in one payload. */
static bool tell_history(struct edge *edge)
{
    unsigned device = SCANS_ANY, n = 0;
    struct sample sample;
    for (unsigned i = 0; i < HISTORY_SCANS_MAX && n < HISTORY_METRICS_MAX; i++) {
        if (!scans_take_history(edge->setup.scans, &device, &edge->item))
            break;
        if (unpack(edge, &sample))
            n +=
                births_history(edge->births, device, &sample, &edge->metrics[n], &edge->history[n]);
    }
    return n > 0 && send(edge, "DDATA", edge->setup.conf->devices.devices[device].name, true,
                         edge->metrics, n);
}

/* Room for what one sample can take: a birth and data. */
static bool has_room(struct edge *edge)
{
    return is_through(edge) && mqtt_room(edge->session.mqtt) >= 2;
}

/* Behind what was sent goes a message that the broker acknowledges. */
static void mark(struct edge *edge, int64_t now_ns)
{
    static const char text[] = "{}";
    if (atomic_load(&edge->marking) != 0 || now_ns < edge->mark_ns || !has_room(edge))
        return;
    const uint64_t batch = scans_end_batch(edge->setup.scans);
    if (batch == 0)
        return;
    edge->mark_ns = now_ns + MARK_NS;
    atomic_store(&edge->marking, batch);
    if (!mqtt_publish(
            edge->session.mqtt,
            &(struct mqtt_message){
                .topic = edge->mark_topic, .payload = text, .payload_size = strlen(text), .qos = 1},
            batch))
        atomic_store(&edge->marking, 0); /* the next one covers it */
}

static void tell_all(struct edge *edge, int64_t now_ns)
{
    while (has_room(edge) && next_outcome(edge))
        tell_outcome(edge);
    while (has_room(edge) && scans_take_live(edge->setup.scans, &edge->item))
        tell_sample(edge);
    /* One payload, then its mark: the host gets history no faster than the broker. */
    if (atomic_load(&edge->marking) == 0 && has_room(edge))
        (void)tell_history(edge);
    mark(edge, now_ns);
}

/* ---- what arrives: the library's threads ---- */

static void take_node_command(struct edge *edge, const struct mqtt_arrival *arrival)
{
    struct sparkplug_wish wishes[WISHES_MAX];
    unsigned n;
    if (arrival->retained ||
        !sparkplug_decode(arrival->payload, arrival->payload_size, wishes, WISHES_MAX, &n)) {
        log_warning("sparkplug: a node command is no payload, or retained: it is refused");
        return;
    }
    for (unsigned i = 0; i < n && i < WISHES_MAX; i++) {
        bool rebirth = strcmp(wishes[i].name, REBIRTH) == 0;
        if (rebirth && wishes[i].kind == SPARKPLUG_FLAG && wishes[i].number != 0.0)
            atomic_store(&edge->rebirth_asked, true);
        else if (!rebirth)
            log_warning("sparkplug: a node command is refused, there is none but " REBIRTH
                        " metric=\"%s\"",
                        wishes[i].name);
    }
}

/* A metric of a command is a command. Sparkplug gives it no id: moment, point and value
 * name it, so that the same one sent twice is carried out once. */
static bool put_command(struct edge *edge, const struct device *device, unsigned point,
                        const struct sparkplug_wish *wish, bool retained)
{
    struct command command = {
        .author = AUTHOR_DISPATCHER,
        .has_value = wish->kind == SPARKPLUG_NUMBER || wish->kind == SPARKPLUG_FLAG,
        .value = wish->number,
        .dated = wish->has_ts,
        .issued_at_ms = wish->ts_ms,
        .ttl_ns = device->control.ttl_ns,
        .mono_ns = clock_mono_ns(),
        .utc_ms = clock_utc_ms(),
    };
    (void)retained;
    (void)snprintf(command.device_name, sizeof(command.device_name), "%s", device->name);
    (void)snprintf(command.point_name, sizeof(command.point_name), "%s",
                   device->points[point].name);
    (void)snprintf(command.source, sizeof(command.source), "sparkplug");
    (void)snprintf(command.id, sizeof(command.id), "sparkplug-%" PRId64 "-%u-%.17g",
                   wish->has_ts ? wish->ts_ms : command.mono_ns, point, wish->number);
    return inbox_put_command(edge->setup.inbox, &command);
}

static bool take_device_command(struct edge *edge, const struct mqtt_arrival *arrival)
{
    const struct device_list *list = &edge->setup.conf->devices;
    const char *name = strrchr(arrival->topic, '/') + 1;
    struct sparkplug_wish wishes[WISHES_MAX];
    unsigned n, index = 0;
    while (index < list->n_devices && strcmp(list->devices[index].name, name) != 0)
        index++;
    if (index == list->n_devices || arrival->retained ||
        arrival->payload_size > COMMAND_PAYLOAD_MAX ||
        !sparkplug_decode(arrival->payload, arrival->payload_size, wishes, WISHES_MAX, &n)) {
        log_warning("sparkplug: a command is refused: retained, no payload of at most %d bytes, or "
                    "for no device of this node device=\"%s\"",
                    COMMAND_PAYLOAD_MAX, name);
        return true;
    }
    for (unsigned i = 0; i < n && i < WISHES_MAX; i++) {
        int point = births_find(edge->births, index, wishes[i].alias, wishes[i].name);
        if (point < 0)
            log_warning(
                "sparkplug: a command names no metric of the device device=%s metric=\"%s\" "
                "alias=%" PRIu64,
                name, wishes[i].name, wishes[i].alias);
        else if (!put_command(edge, &list->devices[index], (unsigned)point, &wishes[i],
                              arrival->retained))
            return false;
    }
    return true;
}

/* {"online":true,"timestamp":1763791200000}; an older word than the last is not heeded. */
static void take_host_state(struct edge *edge, const struct mqtt_arrival *arrival)
{
    json_t *root = json_loadb(arrival->payload, arrival->payload_size, 0, NULL);
    const json_t *online = json_object_get(root, "online");
    const json_t *timestamp = json_object_get(root, "timestamp");
    if (json_is_boolean(online) && json_is_integer(timestamp)) {
        const int64_t ms = json_integer_value(timestamp);
        pthread_mutex_lock(&edge->mutex);
        if (ms >= edge->host_ms) {
            edge->host_ms = ms;
            edge->host_online = json_is_true(online);
        }
        pthread_mutex_unlock(&edge->mutex);
    } else {
        log_warning("sparkplug: the primary host's STATE is not understood topic=%s",
                    arrival->topic);
    }
    json_decref(root);
}

enum { FILTER_NCMD, FILTER_DCMD, FILTER_STATE, FILTER_OLD_STATE };

static bool on_arrived(void *context, const struct mqtt_arrival *arrival)
{
    struct edge *edge = ((struct session *)context)->setup.owner;
    const size_t devices = strlen(edge->filters[FILTER_DCMD]) - 1; /* without its + */
    bool taken = true;
    if (strcmp(arrival->topic, edge->filters[FILTER_NCMD]) == 0)
        take_node_command(edge, arrival);
    else if (strncmp(arrival->topic, edge->filters[FILTER_DCMD], devices) == 0)
        taken = take_device_command(edge, arrival);
    else if (strcmp(arrival->topic, edge->filters[FILTER_STATE]) == 0)
        take_host_state(edge, arrival);
    else
        log_warning("sparkplug: the primary host says its STATE as version 2.2 does, which is not "
                    "heeded: it has to speak version 3 topic=%s",
                    arrival->topic);
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

static void on_refused(void *context, const char *topic, const char *why)
{
    (void)context;
    log_warning("sparkplug: the broker refuses topic=%s why=\"%s\"", topic, why);
}

static void on_delivered(void *context, uint64_t ticket, enum mqtt_fate fate)
{
    struct edge *edge = ((struct session *)context)->setup.owner;
    if (ticket != 0) {
        if (fate == MQTT_DELIVERED)
            scans_ack(edge->setup.scans, ticket);
        atomic_store(&edge->marking, 0);
    }
    outbox_wake(edge->setup.outbox);
}

/* ---- the session ---- */

static bool has_host(const struct edge *edge)
{
    return edge->setup.conf->sparkplug.primary_host[0] != '\0';
}

static bool is_wanted(struct edge *edge)
{
    pthread_mutex_lock(&edge->mutex);
    bool wanted = !has_host(edge) || edge->host_online;
    pthread_mutex_unlock(&edge->mutex);
    return wanted;
}

static void come_up(struct edge *edge)
{
    pthread_mutex_lock(&edge->mutex);
    edge->host_online = false;
    edge->host_ms = -1; /* the retained word comes anew */
    pthread_mutex_unlock(&edge->mutex);
    edge->next_birth = BORN;
    edge->birth_ns = INT64_MIN; /* none in this session yet */
    atomic_store(&edge->heard, 0);
    for (unsigned i = 0; i < edge->n_filters; i++)
        (void)mqtt_subscribe(edge->session.mqtt, edge->filters[i], i >= FILTER_STATE);
}

static void go_down(struct edge *edge, const char *why)
{
    if (edge->birth_ns != INT64_MIN)
        log_warning("sparkplug: the session is lost why=\"%s\"", why);
    edge->birth_ns = INT64_MIN;
    free(edge->letter.bytes);
    edge->letter.bytes = NULL;
    make_will(edge);
}

static void say_death(struct edge *edge)
{
    struct sparkplug_value value;
    const struct sparkplug_metric metric = bdseq_metric(edge, &value);
    (void)send(edge, "NDEATH", NULL, false, &metric, 1);
}

/* What is to be said in a session that is up. */
static int64_t speak(struct edge *edge, int64_t now_ns)
{
    const bool born = edge->birth_ns != INT64_MIN;
    if (atomic_load(&edge->heard) < edge->n_filters)
        return CLOCK_NEVER;
    if (!is_wanted(edge)) {
        if (!born)
            return CLOCK_NEVER;
        log_info("sparkplug: the primary host is gone: the node ends its session host=%s",
                 edge->setup.conf->sparkplug.primary_host);
        say_death(edge);
        edge->birth_ns = INT64_MIN;
        session_end(&edge->session, now_ns);
        make_will(edge);
        return edge->session.retry_ns;
    }
    const bool asked = atomic_load(&edge->rebirth_asked);
    if (!born || (asked && now_ns >= edge->birth_ns + REBIRTH_NS))
        begin_births(edge, now_ns);
    if (go_on_births(edge))
        tell_all(edge, now_ns);
    int64_t due_ns = edge->mark_ns > now_ns ? edge->mark_ns : now_ns + MARK_NS;
    if (asked && edge->birth_ns + REBIRTH_NS < due_ns)
        due_ns = edge->birth_ns + REBIRTH_NS;
    return due_ns;
}

int64_t edge_run(struct edge *edge, int64_t now_ns, const char *address)
{
    char why[MQTT_WHY_MAX];
    struct mqtt_end end;
    enum session_event event;
    while ((event = session_step(&edge->session, now_ns, address, why, &end)) != SESSION_NOTHING) {
        if (event == SESSION_CAME_UP)
            come_up(edge);
        else
            go_down(edge, end.why != NULL ? end.why : "");
    }
    if (edge->session.state != SESSION_UP)
        return edge->session.state == SESSION_DOWN && address != NULL ? edge->session.retry_ns
                                                                      : CLOCK_NEVER;
    int64_t due_ns = speak(edge, now_ns);
    int64_t tend_ns = mqtt_tend(edge->session.mqtt, now_ns);
    return tend_ns < due_ns ? tend_ns : due_ns;
}

void edge_farewell(struct edge *edge, int64_t until_ns)
{
    if (edge->session.state == SESSION_UP && edge->birth_ns != INT64_MIN)
        say_death(edge);
    mqtt_disconnect(edge->session.mqtt, until_ns, false);
}

void edge_put_outcome(struct edge *edge, const struct outcome *outcome)
{
    pthread_mutex_lock(&edge->mutex);
    if (edge->n_outcomes == OUTCOMES_MAX) /* the oldest gives way: JSON has it */
        memmove(&edge->outcomes[0], &edge->outcomes[1],
                --edge->n_outcomes * sizeof(edge->outcomes[0]));
    edge->outcomes[edge->n_outcomes++] = *outcome;
    pthread_mutex_unlock(&edge->mutex);
    outbox_wake(edge->setup.outbox);
}

/* ---- start and end ---- */

static bool make_filters(struct edge *edge)
{
    const char *host = edge->setup.conf->sparkplug.primary_host;
    bool good = node_topic(edge, "NCMD", NULL, edge->filters[FILTER_NCMD]) &&
                node_topic(edge, "DCMD", "+", edge->filters[FILTER_DCMD]) &&
                topic_make(edge->mark_topic, edge->setup.conf, "bridge", "sparkplug");
    edge->n_filters = FILTER_STATE;
    if (!has_host(edge))
        return good;
    (void)snprintf(edge->filters[FILTER_STATE], TOPIC_MAX + 1, NAMESPACE "/STATE/%s", host);
    (void)snprintf(edge->filters[FILTER_OLD_STATE], TOPIC_MAX + 1, "STATE/%s", host);
    edge->n_filters = FILTER_OLD_STATE + 1;
    return good;
}

/* From the last of the run before; the first ever is 0. */
static void recall_bdseq(struct edge *edge)
{
    char text[8];
    edge->bdseq = BDSEQ_END - 1;
    if (edge->setup.state != NULL && state_get(edge->setup.state, STATE_KEY, text, sizeof(text)))
        edge->bdseq = (unsigned)strtoul(text, NULL, 10) % BDSEQ_END;
    make_will(edge);
    if (edge->setup.state != NULL)
        (void)state_sync(edge->setup.state, clock_mono_ns() + KEEP_NS);
}

struct edge *edge_new(const struct edge_setup *setup)
{
    const struct conf *conf = setup->conf;
    char client_id[CONF_TEXT_MAX + 1], will_topic[TOPIC_MAX + 1];
    struct edge *edge = calloc(1, sizeof(*edge));
    if (edge == NULL)
        return NULL;
    edge->setup = *setup;
    edge->host_ms = -1;
    edge->next_birth = BORN;
    edge->birth_ns = INT64_MIN;
    pthread_mutex_init(&edge->mutex, NULL);
    const struct session_setup session = {
        .conf = &conf->mqtt,
        .outbox = setup->outbox,
        .stirred = &edge->stirred,
        .owner = edge,
        .callbacks = {.delivered = on_delivered,
                      .refused = on_refused,
                      .answered = on_answered,
                      .arrived = on_arrived},
        .seed = setup->seed + 1,
    };
    (void)snprintf(client_id, sizeof(client_id), "%.200s-sparkplug", conf->mqtt.client_id);
    bool good = node_topic(edge, "NDEATH", NULL, will_topic) && make_filters(edge) &&
                session_init(&edge->session, &session, client_id, will_topic);
    edge->births = births_new(conf);
    if (edge->births != NULL) {
        const size_t most = births_most(edge->births) + HISTORY_METRICS_MAX;
        edge->metrics = calloc(most, sizeof(*edge->metrics));
        edge->history = calloc(most, sizeof(*edge->history));
    }
    edge->born = calloc(conf->devices.n_devices, sizeof(*edge->born));
    if (!good || edge->metrics == NULL || edge->history == NULL || edge->born == NULL) {
        edge_free(edge);
        return NULL;
    }
    recall_bdseq(edge);
    return edge;
}

void edge_free(struct edge *edge)
{
    if (edge == NULL)
        return;
    session_destroy(&edge->session);
    births_free(edge->births);
    pthread_mutex_destroy(&edge->mutex);
    free(edge->letter.bytes);
    free(edge->metrics);
    free(edge->history);
    free(edge->born);
    free(edge);
}
