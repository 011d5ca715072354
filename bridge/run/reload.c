#include "bridge/run/reload_inside.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/guard.h"
#include "bridge/base/log.h"
#include "bridge/base/notify.h"
#include "bridge/mqtt/credentials.h"

/* For a thread to halt before anything has been changed. */
#define PATIENCE_NS (30 * CLOCK_NS_PER_S)
/* Transactions that a poller may be in the middle of, each as long as a timeout. */
enum { STEPS_MAX = 8 };
/* Until the next word to systemd. */
#define SLICE_NS CLOCK_NS_PER_S

/* ---- waiting ---- */

int64_t reload_next_slice_ns(const struct reload *reload, int64_t until_ns)
{
    const int64_t slice_ns = clock_awake_ns() + reload->slice_ns;
    return slice_ns < until_ns ? slice_ns : until_ns;
}

bool reload_wait_for(const struct reload *reload, struct halt *halt, int64_t until_ns)
{
    bool there = false;
    do {
        notify("WATCHDOG=1");
        there = halt_wait(halt, reload_next_slice_ns(reload, until_ns));
    } while (!there && clock_awake_ns() < until_ns);
    return there;
}

/* From here on there is no way back. Who hangs now is found out by systemd. */
static struct halt *halt_within(const struct reload *reload, struct halt *halt, int64_t patience_ns)
{
    if (!reload_wait_for(reload, halt, clock_awake_ns() + patience_ns)) {
        log_error("the reload waits for a thread that has stopped moving");
        (void)halt_wait(halt, CLOCK_NEVER);
    }
    return halt;
}

struct halt *reload_halt_it(const struct reload *reload, struct halt *halt)
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

void reload_release(struct halt **halt)
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

/* The first step: no command is put into the mailboxes of those that end any more. False:
 * nothing has been changed. */
static bool refuse_commands(struct reload *reload)
{
    struct parts *parts = reload->parts;
    struct halt *halt = subscriber_halt(parts->subscriber);
    const bool there = reload_wait_for(reload, halt, clock_awake_ns() + PATIENCE_NS);
    if (!there)
        log_error("the configuration is not taken over: the subscriber has stopped moving");
    for (unsigned i = 0; there && i < reload->change.n_devices; i++)
        if (ends(reload, i))
            subscriber_part(parts->subscriber, i);
    halt_release(halt);
    return there;
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
        while (!left && clock_awake_ns() < until_ns) {
            notify("WATCHDOG=1");
            left = mailbox_wait_left(parts->mailboxes[i], reload_next_slice_ns(reload, until_ns));
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
    reload_release(&halt);
    return good;
}

/* Of a poller without commands nobody asks. */
static void rename_poller(struct reload *reload, unsigned poller)
{
    if (parts_count_commanded(&reload->parts->conf->devices, poller) == 0)
        return;
    struct halt *halt = halt_poller(reload, poller);
    poller_rename(reload->parts->pollers[poller]);
    halt_release(halt);
}

static bool begin(struct reload *reload)
{
    struct parts *parts = reload->parts;
    bool good = true;
    for (unsigned i = 0; reload->change.groups[CONF_SITE] && i < parts->n_pollers; i++)
        if (parts->pollers[i] != NULL && !reload->empty[i])
            rename_poller(reload, i);
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

/* From here on it is taken over. */
static void take(struct reload *reload)
{
    struct conf *conf = reload->parts->conf;
    if (conf_has_secrets(reload->after))
        guard_secrets();
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
    if (!reload_move_state(reload))
        return true;
    if (!refuse_commands(reload)) {
        reload_move_back(reload);
        return true;
    }
    take(reload);
    leave(reload);
    end_devices(reload);
    drop_devices(reload);
    sigfillset(&all); /* threads inherit this: see supervisor */
    sigdelset(&all, SIGSEGV);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool good = reload_exchange(reload) && begin(reload);
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
    return change_find(before, reload->after, &reload->change, why) || reload_refuse_for(why);
}

/* Or sessions that work would end for others that cannot begin. */
static bool can_login(const struct reload *reload)
{
    char why[CONF_PATH_MAX + 128];
    return !reload->change.sessions || credentials_try(&reload->after->mqtt, why, sizeof(why)) ||
           reload_refuse_for(why);
}

/* Or the bridge would go on without it. */
static bool can_listen(const struct reload *reload)
{
    const struct parts *parts = reload->parts;
    const struct conf *after = reload->after;
    const bool is_there = parts->http != NULL && parts->conf->http_port == after->http_port;
    char why[HTTP_WHY_MAX];
    return !reload->change.groups[CONF_HTTP] || after->http_listen[0] == '\0' ||
           http_try(after, is_there, why) || reload_refuse_for(why);
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
    reload.empty = calloc(change_pollers_max(&parts->conf->devices), sizeof(bool));
    if (watchdog_ns / 2 < reload.slice_ns)
        reload.slice_ns = watchdog_ns / 2;
    if (reload.anew == NULL || reload.others == NULL || reload.empty == NULL) {
        log_warning("the configuration is not taken over: out of memory");
    } else if (find_change(&reload) &&
               (!is_wanted(&reload) ||
                (can_login(&reload) && can_listen(&reload) && reload_disks_are_ready(&reload)))) {
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
