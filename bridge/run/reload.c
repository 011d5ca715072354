#include "bridge/run/reload.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/base/notify.h"
#include "bridge/run/scout.h"
#include "bridge/site/change.h"

/* For a thread to halt before anything has been changed. */
#define PATIENCE_NS (30 * CLOCK_NS_PER_S)
/* For one that may be at a disk that does not answer. */
#define DISK_PATIENCE_NS (5 * CLOCK_NS_PER_S)
/* Transactions that a poller may be in the middle of, each as long as a timeout. */
enum { STEPS_MAX = 8 };
/* Until the next word to systemd. */
#define SLICE_NS      CLOCK_NS_PER_S
#define FAREWELL_NS   (250 * CLOCK_NS_PER_MS)
#define MQTT_GRACE_NS (300 * CLOCK_NS_PER_MS)

struct reload {
    struct parts *parts;
    struct conf *after;
    struct change change;
    int64_t slice_ns;
    bool *anew;   /* by device: it is begun or ended anew */
    bool *others; /* by device: of these, it is not what it was called before */
    bool retells; /* bridge/info has another checksum, if nothing else */
    bool taken;   /* nothing keeps it from being taken over any more */
    char state_path[CONF_PATH_MAX + 1];
    bool moves_state; /* it was another one */
    bool moves_spool; /* likewise */
    bool *empty;      /* by poller: halted, since it has no device now */
    /* While it is halted; NULL = it is not. */
    struct halt *subscriber, *publisher, *spooler, *http;
};

/* ---- waiting ---- */

static int64_t next_slice_ns(const struct reload *reload, int64_t until_ns)
{
    const int64_t slice_ns = clock_mono_ns() + reload->slice_ns;
    return slice_ns < until_ns ? slice_ns : until_ns;
}

static bool wait_for(const struct reload *reload, struct halt *halt, int64_t until_ns)
{
    bool there = false;
    do {
        notify("WATCHDOG=1");
        there = halt_wait(halt, next_slice_ns(reload, until_ns));
    } while (!there && clock_mono_ns() < until_ns);
    return there;
}

/* From here on there is no way back. Who hangs now is found out by systemd. */
static struct halt *halt_within(const struct reload *reload, struct halt *halt, int64_t patience_ns)
{
    if (!wait_for(reload, halt, clock_mono_ns() + patience_ns)) {
        log_error("the reload waits for a thread that has stopped moving");
        (void)halt_wait(halt, CLOCK_NEVER);
    }
    return halt;
}

static struct halt *halt_it(const struct reload *reload, struct halt *halt)
{
    return halt_within(reload, halt, PATIENCE_NS);
}

/* One that is at a device may be there for as long as that takes. */
static struct halt *halt_poller(const struct reload *reload, unsigned poller)
{
    const struct device_list *list = &reload->parts->conf->devices;
    int64_t longest_ns = 0;
    for (unsigned i = device_next(list, 0); i < list->n_devices; i = device_next(list, i + 1))
        if (list->devices[i].modbus.timeout_ns > longest_ns)
            longest_ns = list->devices[i].modbus.timeout_ns;
    return halt_within(reload, poller_halt(reload->parts->pollers[poller]),
                       PATIENCE_NS + STEPS_MAX * longest_ns);
}

static void release(struct halt **halt)
{
    if (*halt != NULL)
        halt_release(*halt);
    *halt = NULL;
}

/* ---- what ends ---- */

static bool ends(const struct reload *reload, unsigned device)
{
    return change_is_of(&reload->change, device) && reload->change.devices[device] != CHANGE_NEW;
}

/* The devices that end, of one poller. */
static void for_ending(struct reload *reload, unsigned poller,
                       void (*act)(struct reload *reload, unsigned poller, unsigned device))
{
    const struct device_list *list = &reload->parts->conf->devices;
    for (unsigned i = 0; i < list->n_devices; i++)
        if (ends(reload, i) && list->devices[i].poller == poller)
            act(reload, poller, i);
}

static bool has_ending(const struct reload *reload, unsigned poller, bool commanded)
{
    const struct device_list *list = &reload->parts->conf->devices;
    bool has = false;
    for (unsigned i = 0; i < list->n_devices; i++)
        has = has || (ends(reload, i) && list->devices[i].poller == poller &&
                      (!commanded || device_takes_commands(&list->devices[i])));
    return has;
}

/* ---- the disks ---- */

static bool refuse_for(const char *why)
{
    log_warning("the configuration is not taken over: %s", why);
    return false;
}

/* While the others are halted nobody is to wait for a disk. */
static bool spool_is_ready(const struct reload *reload)
{
    struct spooler *spooler = reload->parts->spooler;
    if (spooler == NULL)
        return true;
    struct halt *halt = spooler_halt(spooler);
    const bool there = wait_for(reload, halt, clock_mono_ns() + DISK_PATIENCE_NS);
    const bool can_move = there && (!reload->moves_spool || spooler_can_move(spooler));
    halt_release(halt);
    if (!there)
        return refuse_for("the disk of the spool does not answer: reload again when it does");
    return can_move || refuse_for("the spool cannot be moved before it works where it is: reload "
                                  "again when it does");
}

/* What works is not left for what cannot be used. */
static bool files_are_good(const struct reload *reload)
{
    char why[SCOUT_WHY_MAX];
    const int64_t until_ns = clock_mono_ns() + DISK_PATIENCE_NS;
    struct scout *scout = scout_send(reload->parts->conf, reload->after, why);
    if (scout == NULL)
        return refuse_for(why);
    do
        notify("WATCHDOG=1");
    while (!scout_wait(scout, next_slice_ns(reload, until_ns)) && clock_mono_ns() < until_ns);
    return scout_end(scout, why) || refuse_for(why);
}

/* False: nothing has been changed. */
static bool disks_are_ready(struct reload *reload)
{
    const struct conf *conf = reload->parts->conf;
    char former[CONF_PATH_MAX + 1];
    state_path(conf, former);
    state_path(reload->after, reload->state_path);
    reload->moves_state = strcmp(former, reload->state_path) != 0;
    reload->moves_spool = strcmp(conf->spool_path, reload->after->spool_path) != 0;
    if (reload->moves_state && !state_can_move(reload->parts->state))
        return refuse_for("the state file cannot be moved before it works where it is: reload "
                          "again when it does");
    return files_are_good(reload) && spool_is_ready(reload);
}

/* Their threads do the rest: nobody waits for that. False: nothing has been changed. */
static bool move_files(const struct reload *reload)
{
    struct parts *parts = reload->parts;
    if (reload->moves_spool)
        spooler_note_former(parts->state, parts->conf->spool_path);
    return !reload->moves_state || state_move(parts->state, reload->state_path) ||
           refuse_for("no thread for the state file");
}

/* The first step: no command is put into the mailboxes of those that end any more. False:
 * nothing has been changed. */
static bool refuse_commands(struct reload *reload)
{
    struct parts *parts = reload->parts;
    struct halt *halt = subscriber_halt(parts->subscriber);
    const bool there = wait_for(reload, halt, clock_mono_ns() + PATIENCE_NS);
    if (!there)
        log_error("the configuration is not taken over: the subscriber has stopped moving");
    const bool good = there && move_files(reload);
    for (unsigned i = 0; good && i < reload->change.n_devices; i++)
        if (ends(reload, i))
            subscriber_part(parts->subscriber, i);
    halt_release(halt);
    return good;
}

static void part(struct reload *reload, unsigned poller, unsigned device)
{
    poller_part(reload->parts->pollers[poller], device);
}

/* on_exit, for those that take commands. */
static void leave(struct reload *reload)
{
    struct parts *parts = reload->parts;
    for (unsigned i = 0; i < parts->n_pollers; i++) {
        if (!has_ending(reload, i, true))
            continue;
        struct halt *halt = halt_poller(reload, i);
        for_ending(reload, i, part);
        halt_release(halt);
    }
    const int64_t until_ns = parts_leave_ns(&parts->conf->devices);
    for (unsigned i = 0; i < parts->n_pollers; i++) {
        bool left = !has_ending(reload, i, true);
        while (!left && clock_mono_ns() < until_ns) {
            notify("WATCHDOG=1");
            left = mailbox_wait_left(parts->mailboxes[i], next_slice_ns(reload, until_ns));
        }
        if (!left)
            log_warning("on_exit: not all was confirmed in time poller=%u", i);
    }
}

static void end(struct reload *reload, unsigned poller, unsigned device)
{
    poller_end(reload->parts->pollers[poller], device);
}

/* So that all of them wait for what has been asked at the same time. */
static void end_devices(struct reload *reload)
{
    for (unsigned i = 0; i < reload->parts->n_pollers; i++) {
        if (!has_ending(reload, i, false))
            continue;
        struct halt *halt = halt_poller(reload, i);
        for_ending(reload, i, end);
        halt_release(halt);
    }
}

static void drop(struct reload *reload, unsigned poller, unsigned device)
{
    reload->empty[poller] = !poller_drop(reload->parts->pollers[poller], device);
}

static void drop_devices(struct reload *reload)
{
    struct parts *parts = reload->parts;
    for (unsigned i = 0; i < parts->n_pollers; i++) {
        if (!has_ending(reload, i, false))
            continue;
        struct halt *halt = halt_poller(reload, i);
        for_ending(reload, i, drop);
        if (!reload->empty[i])
            halt_release(halt);
    }
}

/* Of those that are removed the broker forgets everything, and of discovery when it is
 * other than before. */
static void part_from_broker(struct reload *reload)
{
    const struct device_list *list = &reload->parts->conf->devices;
    if (reload->publisher != NULL && reload->change.groups[CONF_HOME_ASSISTANT])
        publisher_part_discovery(reload->parts->publisher);
    for (unsigned i = 0; reload->publisher != NULL && i < list->n_devices; i++)
        if (reload->others[i] && device_is_there(&list->devices[i]))
            publisher_part(reload->parts->publisher, i);
}

/* ---- while all are halted ---- */

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
    if (parts->spooler != NULL) /* first: should it be at its disk, the others go on */
        reload->spooler = halt_it(reload, spooler_halt(parts->spooler));
    if (parts->http != NULL)
        reload->http = halt_it(reload, http_halt(parts->http));
    if (reload->change.sessions) {
        publisher_stop(parts->publisher, MQTT_GRACE_NS);
        parts->publisher = NULL;
        outbox_lost(parts->outbox);
    } else {
        reload->publisher = halt_it(reload, publisher_halt(parts->publisher));
    }
    reload->subscriber = halt_it(reload, subscriber_halt(parts->subscriber));
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

/* Its view has the publisher in it. A port that is taken ends nothing but http. */
static void renew_http(struct reload *reload)
{
    struct parts *parts = reload->parts;
    if (!reload->change.groups[CONF_HTTP] && !reload->change.sessions)
        return;
    release(&reload->http);
    http_stop(parts->http);
    parts->http = NULL;
    (void)parts_start_http(parts);
}

/* Before the subscriber reads in it what devices that come have answered. */
static bool move_audit(struct reload *reload)
{
    struct conf *conf = reload->parts->conf;
    const char *path = reload->after->audit_path;
    if (strcmp(conf->audit_path, path) == 0)
        return true;
    memcpy(conf->audit_path, path, sizeof(conf->audit_path));
    return audit_move(reload->parts->audit, path);
}

static bool exchange(struct reload *reload)
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
           subscriber_renew(parts->subscriber, reload->anew, reload->others) &&
           renew_publisher(reload);
    if (good)
        renew_http(reload);
    release(&reload->http);
    release(&reload->spooler);
    release(&reload->subscriber);
    release(&reload->publisher);
    return good;
}

/* ---- what begins ---- */

static bool serves(const struct parts *parts, unsigned poller)
{
    const struct device_list *list = &parts->conf->devices;
    bool serves = false;
    for (unsigned i = device_next(list, 0); i < list->n_devices; i = device_next(list, i + 1))
        serves = serves || list->devices[i].poller == poller;
    return serves;
}

static bool add_devices(struct reload *reload, unsigned poller)
{
    struct parts *parts = reload->parts;
    const struct device_list *list = &parts->conf->devices;
    struct halt *halt = NULL;
    bool good = true;
    for (unsigned i = 0; i < list->n_devices; i++) {
        if (!reload->anew[i] || !device_is_there(&list->devices[i]) ||
            list->devices[i].poller != poller)
            continue;
        if (halt == NULL)
            halt = halt_poller(reload, poller);
        good = poller_add(parts->pollers[poller], i) && good;
    }
    release(&halt);
    return good;
}

static bool begin(struct reload *reload)
{
    struct parts *parts = reload->parts;
    bool good = true;
    for (unsigned i = 0; good && i < parts->conf->devices.n_pollers; i++) {
        if (serves(parts, i)) {
            good =
                parts->pollers[i] != NULL ? add_devices(reload, i) : parts_start_poller(parts, i);
        } else if (parts->pollers[i] != NULL) {
            parts_stop_poller(parts, i);
            mailbox_free(parts->mailboxes[i]);
            parts->mailboxes[i] = NULL;
        }
    }
    return good;
}

static void free_unused(struct parts *parts)
{
    for (struct former **at = &parts->formers; *at != NULL;) {
        struct former *former = *at;
        bool used = false;
        for (unsigned i = 0; i < parts->conf->devices.n_devices; i++)
            used = used || parts->origins[i] == former;
        if (used) {
            at = &former->next;
            continue;
        }
        *at = former->next;
        device_list_free(&former->devices);
        free(former);
    }
}

/* ---- all of it ---- */

static void say(void *context, const char *sentence)
{
    (void)context;
    log_info("reload: %s", sentence);
}

static void refuse(void *context, const char *sentence)
{
    (void)context;
    log_warning("reload: %s", sentence);
}

/* From here on it is taken over. */
static void take(struct reload *reload)
{
    struct conf *conf = reload->parts->conf;
    log_set_level((enum log_level)reload->after->log_level);
    change_tell(conf, reload->after, &reload->change, say, NULL);
    memcpy(conf->hashes, reload->after->hashes, sizeof(conf->hashes));
    conf->log_level = reload->after->log_level;
    reload->taken = true;
}

static bool take_over(struct reload *reload)
{
    struct parts *parts = reload->parts;
    sigset_t all, before;
    if (!refuse_commands(reload))
        return true;
    take(reload);
    leave(reload);
    end_devices(reload);
    drop_devices(reload);
    sigfillset(&all); /* threads inherit this: see supervisor */
    sigdelset(&all, SIGSEGV);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool good = exchange(reload) && begin(reload);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (good)
        free_unused(parts);
    else
        log_error("the reload ran out of memory or descriptors on its way: the bridge ends");
    return good;
}

/* Whether it was found to be good; else why is logged. */
static bool find_change(struct reload *reload)
{
    const struct conf *before = reload->parts->conf;
    char why[CHANGE_WHY_MAX];
    if (!change_find(before, reload->after, &reload->change, why))
        return refuse_for(why);
    if (!reload->change.restart)
        return true;
    change_tell(before, reload->after, &reload->change, refuse, NULL);
    log_warning("the configuration is not taken over: it needs a restart");
    return false;
}

/* Whether there is anything to be taken over but the level of the log. */
static bool is_wanted(struct reload *reload)
{
    reload->retells = strcmp(reload->parts->conf->sha256, reload->after->sha256) != 0;
    return reload->retells || change_is_any(&reload->change);
}

static bool apply(struct parts *parts, struct conf *after, int64_t watchdog_ns)
{
    struct reload reload = {.parts = parts, .after = after, .slice_ns = SLICE_NS};
    const unsigned n = parts->conf->devices.n_devices;
    bool good = true;
    reload.anew = calloc(n, sizeof(bool));
    reload.others = calloc(n, sizeof(bool));
    reload.empty = calloc(2UL * n, sizeof(bool));
    if (watchdog_ns / 2 < reload.slice_ns)
        reload.slice_ns = watchdog_ns / 2;
    if (reload.anew == NULL || reload.others == NULL || reload.empty == NULL) {
        log_warning("the configuration is not taken over: out of memory");
    } else if (find_change(&reload) && (!is_wanted(&reload) || disks_are_ready(&reload))) {
        for (unsigned i = 0; i < n; i++) {
            const enum change_kind kind = reload.change.devices[i];
            reload.anew[i] = kind != CHANGE_NONE;
            reload.others[i] = kind == CHANGE_NEW || kind == CHANGE_GONE;
        }
        if (is_wanted(&reload))
            good = take_over(&reload);
        else
            take(&reload);
        if (reload.taken)
            log_info("reloaded level=%s", log_level_words[parts->conf->log_level]);
    }
    change_free(&reload.change);
    free(reload.anew);
    free(reload.others);
    free(reload.empty);
    return good;
}

bool reload(struct parts *parts, const char *path, int64_t watchdog_ns)
{
    char *text = NULL, *rest = NULL;
    size_t size;
    struct cfg cfg = {.out = open_memstream(&text, &size), .waits = true};
    struct conf after;
    bool good = true;
    audit_reopen(parts->audit);
    publisher_reload(parts->publisher);
    const bool read = conf_read(&cfg, path, &after);
    if (cfg.out)
        fclose(cfg.out);
    for (char *line = text ? strtok_r(text, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest))
        log_warning("%s", line);
    if (!read) {
        log_warning("the configuration is not taken over problems=%u", cfg.problems);
    } else if (parts->conf->simulated) {
        log_set_level((enum log_level)after.log_level);
        log_info("reloaded level=%s: of a site that is simulated nothing else is",
                 log_level_words[after.log_level]);
    } else {
        good = apply(parts, &after, watchdog_ns);
    }
    conf_free(&after);
    free(text);
    return good;
}
