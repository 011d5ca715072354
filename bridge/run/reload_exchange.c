#include "bridge/run/reload_inside.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"

#define FAREWELL_NS   (250 * CLOCK_NS_PER_MS)
#define MQTT_GRACE_NS (300 * CLOCK_NS_PER_MS)

/* Of those that are removed the broker forgets everything, of those that are altered what they
 * have no more, and of discovery all when it is other than before. */
static void part_from_broker(struct reload *reload)
{
    const struct device_list *list = &reload->parts->conf->devices;
    if (reload->publisher != NULL && reload->change.groups[CONF_HOME_ASSISTANT])
        publisher_part_discovery(reload->parts->publisher);
    for (unsigned i = 0; reload->publisher != NULL && i < list->n_devices; i++) {
        if (!reload->anew[i] || !device_is_there(&list->devices[i]))
            continue;
        if (reload->others[i])
            publisher_part(reload->parts->publisher, i);
        else
            publisher_alter(reload->parts->publisher, i);
    }
}

/* Its metrics, its name or its session are others: it dies, and is born anew. */
static bool changes_edge(const struct reload *reload)
{
    bool changes = reload->change.sessions || reload->change.groups[CONF_SPARKPLUG] ||
                   reload->change.groups[CONF_HOME_ASSISTANT];
    for (unsigned i = 0; i < reload->change.n_devices; i++)
        changes = changes || reload->anew[i];
    return changes;
}

/* Under the name that it has, so before the configuration is exchanged. A publisher that
 * is stopped has seen to its farewell. */
static void end_edge(struct reload *reload)
{
    struct parts *parts = reload->parts;
    if (parts->edge == NULL || !changes_edge(reload))
        return;
    if (reload->publisher != NULL) {
        edge_farewell(parts->edge, clock_mono_ns() + FAREWELL_NS);
        publisher_renew_edge(parts->publisher, NULL);
    }
    audit_tell(parts->audit, NULL, NULL);
    edge_free(parts->edge);
    parts->edge = NULL;
    scans_rewind(parts->scans);
}

/* What has arrived of the broker was parsed by its name of then: so the publisher, if it is to
 * end, does so before the subscriber halts, which takes all of it first. */
static void halt_all(struct reload *reload)
{
    struct parts *parts = reload->parts;
    /* First: should it be at its disk, the others go on. */
    reload->spooler = reload_halt_it(reload, spooler_halt(parts->spooler));
    if (parts->http != NULL)
        reload->http = reload_halt_it(reload, http_halt(parts->http));
    if (reload->change.sessions) {
        (void)reload_halt_it(reload, publisher_leave(parts->publisher, MQTT_GRACE_NS));
        publisher_stop(parts->publisher, 0);
        parts->publisher = NULL;
        outbox_lost(parts->outbox);
    } else {
        reload->publisher = reload_halt_it(reload, publisher_halt(parts->publisher));
    }
    reload->subscriber = reload_halt_it(reload, subscriber_halt(parts->subscriber));
}

/* A device that comes back in this run goes on counting. False when out of memory. */
static bool note_departed(struct parts *parts, unsigned device)
{
    struct departed *departed = calloc(1, sizeof(*departed));
    if (departed == NULL)
        return false;
    memcpy(departed->name, parts->conf->devices.devices[device].name, sizeof(departed->name));
    departed->seq = latest_seq(parts->latest, device);
    departed->next = parts->departed;
    parts->departed = departed;
    return true;
}

static uint64_t first_seq(struct parts *parts, const char *name)
{
    for (struct departed **at = &parts->departed; *at != NULL; at = &(*at)->next) {
        struct departed *departed = *at;
        const uint64_t seq = departed->seq;
        if (strcmp(departed->name, name) != 0)
            continue;
        *at = departed->next;
        free(departed);
        return seq;
    }
    return 0;
}

/* The list of before is kept for the pollers that go on with it. */
static bool exchange_lists(struct reload *reload)
{
    struct parts *parts = reload->parts;
    struct former *former = calloc(1, sizeof(*former));
    if (former == NULL)
        return false;
    former->devices = parts->conf->devices;
    former->next = parts->formers;
    parts->formers = former;
    for (unsigned i = 0; i < former->devices.n_devices; i++) {
        if (reload->anew[i])
            parts->origins[i] = NULL;
        else if (parts->origins[i] == NULL && device_is_there(&former->devices.devices[i]))
            parts->origins[i] = former;
    }
    parts->conf->devices = reload->after->devices;
    reload->after->devices = (struct device_list){0};
    return true;
}

/* What may be other than before: see change_find(). */
static void exchange_groups(struct reload *reload)
{
    struct conf *conf = reload->parts->conf;
    const struct conf *after = reload->after;
    memcpy(conf->sha256, after->sha256, sizeof(conf->sha256));
    if (reload->change.sessions) { /* else they read it: the library's thread is not halted */
        conf->mqtt = after->mqtt;
        memcpy(conf->site, after->site, sizeof(conf->site));
    }
    memcpy(conf->http_listen, after->http_listen, sizeof(conf->http_listen));
    memcpy(conf->http_address, after->http_address, sizeof(conf->http_address));
    conf->sparkplug = after->sparkplug;
    memcpy(conf->spool_path, after->spool_path, sizeof(conf->spool_path));
    conf->spool_max_size = after->spool_max_size;
    conf->ha_enabled = after->ha_enabled;
    memcpy(conf->ha_prefix, after->ha_prefix, sizeof(conf->ha_prefix));
    energy_show(reload->parts->energy, conf->ha_enabled);
    conf->http_port = after->http_port;
    conf->http_page = after->http_page;
    memcpy(conf->http_token_file, after->http_token_file, sizeof(conf->http_token_file));
}

/* All that is kept by a device's number. */
static bool renew_devices(struct reload *reload)
{
    struct parts *parts = reload->parts;
    const struct device_list *list = &parts->conf->devices;
    bool good = true;
    for (unsigned i = 0; good && i < list->n_devices; i++) {
        const struct device *device = &list->devices[i];
        if (!reload->anew[i])
            continue;
        const uint64_t seq =
            reload->others[i] ? first_seq(parts, device->name) : latest_seq(parts->latest, i);
        good = latest_renew(parts->latest, i, device, seq);
        outbox_renew_device(parts->outbox, i, reload->others[i]);
        energy_renew(parts->energy, i, device);
        if (reload->others[i]) {
            health_renew(&parts->health, i);
            last_outcomes_renew(parts->last, i, device);
        }
        if (parts->scans != NULL)
            scans_forget(parts->scans, i);
    }
    return good;
}

/* Each poller that the list has gets its mailbox, with room for all of its devices. */
static bool make_mailboxes(struct reload *reload)
{
    struct parts *parts = reload->parts;
    const struct device_list *list = &parts->conf->devices;
    bool good = true;
    for (unsigned i = device_next(list, 0); good && i < list->n_devices;
         i = device_next(list, i + 1)) {
        struct mailbox **mailbox = &parts->mailboxes[list->devices[i].poller];
        const unsigned n = parts_count_commanded(list, list->devices[i].poller);
        if (*mailbox == NULL)
            good = (*mailbox = mailbox_new(n)) != NULL;
        else
            good = mailbox_make_room(*mailbox, n);
    }
    return good;
}

/* In a session of its own. What waits for a host goes to the node that there is now. */
static bool renew_edge(struct reload *reload)
{
    struct parts *parts = reload->parts;
    const bool wanted = parts->conf->sparkplug.enabled;
    if (!changes_edge(reload))
        return true;
    scans_serve(parts->scans, wanted);
    if (!wanted)
        return true;
    if (!parts_start_edge(parts))
        return false;
    if (reload->publisher != NULL)
        publisher_renew_edge(parts->publisher, parts->edge);
    return true;
}

static bool renew_publisher(struct reload *reload)
{
    struct parts *parts = reload->parts;
    if (reload->publisher != NULL && reload->change.groups[CONF_HOME_ASSISTANT])
        publisher_renew_discovery(parts->publisher);
    if (reload->publisher != NULL)
        return publisher_renew(parts->publisher, reload->anew);
    return parts_start_publisher(parts);
}

/* Its view has the publisher in it. A port that was taken since is waited for. */
static void renew_http(struct reload *reload)
{
    struct parts *parts = reload->parts;
    if (!reload->change.groups[CONF_HTTP] && !reload->change.sessions)
        return;
    reload_release(&reload->http);
    http_stop(parts->http);
    parts->http = NULL;
    (void)parts_start_http(parts);
}

/* Before the subscriber reads in it what devices that come have answered. */
static bool move_audit(struct reload *reload)
{
    struct conf *conf = reload->parts->conf;
    const char *path = reload->after->audit_path;
    audit_spare(reload->parts->audit, conf->spool_path, conf->spool_max_size);
    reload->moves_audit = strcmp(conf->audit_path, path) != 0;
    if (!reload->moves_audit)
        return true;
    memcpy(conf->audit_path, path, sizeof(conf->audit_path));
    return audit_move(reload->parts->audit, path);
}

bool reload_exchange(struct reload *reload)
{
    struct parts *parts = reload->parts;
    bool good = true;
    halt_all(reload);
    end_edge(reload);
    part_from_broker(reload);
    for (unsigned i = 0; i < reload->change.n_devices; i++)
        if (reload->change.devices[i] == CHANGE_GONE)
            good = note_departed(parts, i) && good;
    good = good && exchange_lists(reload);
    exchange_groups(reload);
    good = good && move_audit(reload) && renew_devices(reload) && make_mailboxes(reload) &&
           renew_edge(reload) &&
           subscriber_renew(parts->subscriber, reload->anew, reload->others, reload->moves_audit) &&
           renew_publisher(reload);
    if (good)
        renew_http(reload);
    reload_release(&reload->http);
    reload_release(&reload->spooler);
    reload_release(&reload->subscriber);
    reload_release(&reload->publisher);
    return good;
}
