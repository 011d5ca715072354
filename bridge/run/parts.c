#include "bridge/run/parts.h"

#include <stdlib.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/site/change.h"

enum { SAMPLE_BYTES = 8 << 20, OUTCOME_BYTES = 4 << 20 };

#define LEAVE_NS (3 * CLOCK_NS_PER_S)
/* A broker that is frozen is found out within twice the keepalive and this. */
#define FOUND_OUT_NS (5 * CLOCK_NS_PER_S)
#define GRACE_NS     (300 * CLOCK_NS_PER_MS)

unsigned parts_count_commanded(const struct device_list *list, unsigned poller)
{
    unsigned n = 0;
    for (unsigned i = 0; i < list->n_devices; i++)
        n += list->devices[i].poller == poller && device_takes_commands(&list->devices[i]);
    return n;
}

static bool make_queues(struct parts *parts)
{
    const struct device_list *list = &parts->conf->devices;
    const unsigned n_pollers = change_pollers_max(list);
    parts->inbox = inbox_new();
    parts->layouts = layouts_new();
    parts->latest = latest_new(list);
    parts->recent = recent_new();
    parts->scans = scans_new(SCANS_BYTES);
    parts->outbox = outbox_new(list->n_devices, SAMPLE_BYTES, OUTCOME_BYTES);
    parts->origins = calloc(list->n_devices, sizeof *parts->origins);
    parts->mailboxes = calloc(n_pollers, sizeof *parts->mailboxes);
    parts->pollers = calloc(n_pollers, sizeof *parts->pollers);
    parts->poller_stuck = calloc(n_pollers, sizeof *parts->poller_stuck);
    bool good = health_init(&parts->health, list->n_devices) && parts->inbox && parts->layouts &&
                parts->latest && parts->recent && parts->scans && parts->outbox &&
                parts->mailboxes && parts->pollers && parts->poller_stuck && parts->origins;
    if (good)
        scans_serve(parts->scans, parts->conf->sparkplug.enabled);
    for (unsigned poller = 0; good && poller < list->n_pollers; poller++) {
        parts->mailboxes[poller] = mailbox_new(parts_count_commanded(list, poller));
        good = parts->mailboxes[poller];
        parts->n_pollers += good;
    }
    if (!good)
        log_error("out of memory or descriptors");
    return good;
}

bool parts_start_http(struct parts *parts)
{
    if (parts->conf->http_listen[0] == '\0')
        return true;
    parts->http = http_start(
        &(struct view){
            .conf = parts->conf,
            .health = &parts->health,
            .outbox = parts->outbox,
            .latest = parts->latest,
            .recent = parts->recent,
            .audit = parts->audit,
            .publisher = parts->publisher,
            .run = parts->run,
            .started_ns = parts->started_ns,
        },
        parts->inbox);
    return parts->http != NULL;
}

static void tell_edge(void *edge, const struct outcome *outcome)
{
    edge_put_outcome(edge, outcome);
}

bool parts_start_edge(struct parts *parts)
{
    parts->edge = edge_new(&(struct edge_setup){
        .conf = parts->conf,
        .outbox = parts->outbox,
        .scans = parts->scans,
        .health = &parts->health,
        .state = parts->state,
        .inbox = parts->inbox,
        .seed = (uint32_t)strtoul(parts->run, NULL, 16),
    });
    if (!parts->edge)
        log_error("cannot make the Sparkplug node: out of memory");
    audit_tell(parts->audit, parts->edge ? tell_edge : NULL, parts->edge);
    return parts->edge;
}

bool parts_start_publisher(struct parts *parts)
{
    const struct conf_mqtt *mqtt = &parts->conf->mqtt;
    outbox_keep_sent(parts->outbox, mqtt->qos == 0 ? 2 * mqtt->keepalive_ns + FOUND_OUT_NS : 0);
    parts->publisher = publisher_start(&(struct publisher_setup){
        .conf = parts->conf,
        .outbox = parts->outbox,
        .inbox = parts->inbox,
        .state = parts->state,
        .latest = parts->latest,
        .last = parts->last,
        .edge = parts->edge,
        .health = &parts->health,
        .run = parts->run,
        .started_ms = parts->started_ms,
    });
    return parts->publisher;
}

static bool start_subscriber(struct parts *parts)
{
    parts->subscriber = subscriber_start(&(struct subscriber_setup){
        .conf = parts->conf,
        .inbox = parts->inbox,
        .mailboxes = parts->mailboxes,
        .audit = parts->audit,
        .health = &parts->health,
    });
    return parts->subscriber;
}

bool parts_start_poller(struct parts *parts, unsigned poller)
{
    if (!parts->mailboxes[poller])
        parts->mailboxes[poller] =
            mailbox_new(parts_count_commanded(&parts->conf->devices, poller));
    if (!parts->mailboxes[poller]) {
        log_error("out of memory or descriptors for poller=%u", poller);
        return false;
    }
    parts->pollers[poller] = poller_start(&(struct poller_setup){
        .conf = parts->conf,
        .poller = poller,
        .mailbox = parts->mailboxes[poller],
        .layouts = parts->layouts,
        .outbox = parts->outbox,
        .latest = parts->latest,
        .inbox = parts->inbox,
        .audit = parts->audit,
        .health = &parts->health,
        .energy = parts->energy,
        .scans = parts->scans,
        .state = parts->state,
        .run = parts->run,
        .origin_ns = parts->started_ns,
    });
    parts->poller_stuck[poller] = false;
    if (poller >= parts->n_pollers)
        parts->n_pollers = poller + 1;
    return parts->pollers[poller];
}

void parts_stop_poller(struct parts *parts, unsigned poller)
{
    mailbox_stop(parts->mailboxes[poller]);
    poller_stop(parts->pollers[poller]);
    parts->pollers[poller] = NULL;
    parts->poller_stuck[poller] = false;
}

static bool start_disks(struct parts *parts)
{
    char path[CONF_PATH_MAX + 1];
    state_path(parts->conf, path);
    if (!(parts->state = state_open(path, energy_inherit))) {
        log_error("cannot start the thread of the state file");
        return false;
    }
    trust_look(&parts->trust, &parts->health, parts->state, clock_is_synchronised(),
               clock_mono_ns());
    if (!(parts->spooler = spooler_start(parts->conf, parts->layouts, parts->outbox, parts->state)))
        return false;
    if (!(parts->last = last_outcomes_new(&parts->conf->devices, parts->state, parts->outbox))) {
        log_error("out of memory for the last outcomes");
        return false;
    }
    if (!(parts->audit = audit_start(parts->conf->audit_path, parts->outbox, parts->state))) {
        log_error("cannot start the thread of the audit log");
        return false;
    }
    audit_show(parts->audit, parts->recent, parts->last);
    audit_spare(parts->audit, parts->conf->spool_path, parts->conf->spool_max_size);
    return true;
}

bool parts_start(struct parts *parts)
{
    parts->started_ns = clock_mono_ns();
    parts->started_ms = clock_utc_ms();
    if (!make_queues(parts) || !start_disks(parts) ||
        (parts->conf->sparkplug.enabled && !parts_start_edge(parts)) || !start_subscriber(parts) ||
        !parts_start_publisher(parts) || !parts_start_http(parts) ||
        !(parts->energy = energy_start(parts->conf, parts->state)))
        return false;
    parts->started_ns = clock_mono_ns();
    bool good = true;
    for (unsigned i = 0; good && i < parts->conf->devices.n_pollers; i++)
        good = parts_start_poller(parts, i);
    return good;
}

int64_t parts_leave_ns(const struct device_list *list)
{
    int64_t slowest_ns = 0;
    for (unsigned i = 0; i < list->n_devices; i++)
        if (device_takes_commands(&list->devices[i]) &&
            list->devices[i].modbus.timeout_ns > slowest_ns)
            slowest_ns = list->devices[i].modbus.timeout_ns;
    return clock_awake_ns() + LEAVE_NS + 8 * slowest_ns;
}

/* From here on no command is begun: what is under way ends, and on_exit is carried
 * out, for which a slow device gets its time: to say what it is in, to take the
 * fallback or zero instead, and to have that read back. */
static void leave(struct parts *parts)
{
    const int64_t until_ns = parts_leave_ns(&parts->conf->devices);
    subscriber_drain(parts->subscriber);
    for (unsigned i = 0; i < parts->n_pollers; i++)
        if (parts->mailboxes[i])
            mailbox_leave(parts->mailboxes[i]);
    for (unsigned i = 0; i < parts->n_pollers; i++)
        if (parts->pollers[i] && !mailbox_wait_left(parts->mailboxes[i], until_ns))
            log_warning("on_exit: not all was confirmed in time poller=%u", i);
}

static void free_formers(struct parts *parts)
{
    while (parts->formers) {
        struct former *former = parts->formers;
        parts->formers = former->next;
        device_list_free(&former->devices);
        free(former);
    }
    while (parts->departed) {
        struct departed *departed = parts->departed;
        parts->departed = departed->next;
        free(departed);
    }
}

void parts_stop(struct parts *parts)
{
    http_stop(parts->http);
    if (parts->subscriber)
        leave(parts);
    for (unsigned i = 0; i < parts->n_pollers; i++)
        if (parts->mailboxes[i])
            mailbox_stop(parts->mailboxes[i]);
    for (unsigned i = 0; i < parts->n_pollers; i++)
        poller_stop(parts->pollers[i]);
    energy_stop(parts->energy);
    if (parts->publisher)
        publisher_stop_hearing(parts->publisher);
    if (parts->subscriber)
        subscriber_stop(parts->subscriber);
    audit_stop(parts->audit);
    if (parts->publisher)
        publisher_stop(parts->publisher, GRACE_NS);
    spooler_stop(parts->spooler);
    edge_free(parts->edge);
    scans_free(parts->scans);
    state_close(parts->state);
    for (unsigned i = 0; i < parts->n_pollers; i++)
        mailbox_free(parts->mailboxes[i]);
    outbox_free(parts->outbox);
    latest_free(parts->latest);
    recent_free(parts->recent);
    last_outcomes_free(parts->last);
    layouts_free(parts->layouts);
    inbox_free(parts->inbox);
    free(parts->mailboxes);
    free(parts->pollers);
    free(parts->poller_stuck);
    free(parts->origins);
    health_free(&parts->health);
    free_formers(parts);
}
