#include "bridge/run/reload_inside.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/base/notify.h"
#include "bridge/run/scout.h"

/* For one that may be at a disk that does not answer. */
#define DISK_PATIENCE_NS (5 * CLOCK_NS_PER_S)

bool reload_refuse_for(const char *why)
{
    log_warning("the configuration is not taken over: %s", why);
    return false;
}

/* While the others are halted nobody is to wait for a disk. */
static bool spool_is_ready(struct reload *reload)
{
    struct spooler *spooler = reload->parts->spooler;
    const char *path = reload->after->spool_path;
    struct halt *halt = spooler_halt(spooler);
    const bool there = reload_wait_for(reload, halt, clock_awake_ns() + DISK_PATIENCE_NS);
    const bool can_move = there && (!reload->moves_spool || spooler_can_move(spooler, path));
    reload->opens_spool = there && reload->moves_spool && !spooler_is_at(spooler, path);
    halt_release(halt);
    if (!there)
        return reload_refuse_for(
            "the disk of the spool does not answer: reload again when it does");
    return can_move ||
           reload_refuse_for("the spool cannot be moved before it works where it is: reload "
                             "again when it does");
}

/* What works is not left for what cannot be used. */
static bool files_are_good(const struct reload *reload)
{
    char why[SCOUT_WHY_MAX];
    const int64_t until_ns = clock_awake_ns() + DISK_PATIENCE_NS;
    struct scout *scout = scout_send(reload->parts->conf, reload->after, reload->opens_spool, why);
    if (scout == NULL)
        return reload_refuse_for(why);
    do
        notify("WATCHDOG=1");
    while (!scout_wait(scout, reload_next_slice_ns(reload, until_ns)) &&
           clock_awake_ns() < until_ns);
    return scout_end(scout, why) || reload_refuse_for(why);
}

/* Nor is a device for a connection that could not be made. */
static bool device_files_are_good(const struct reload *reload)
{
    const struct device_list *list = &reload->after->devices;
    char why[SCOUT_WHY_MAX];
    for (unsigned i = device_next(list, 0); i < list->n_devices; i = device_next(list, i + 1)) {
        const struct device_modbus *modbus = &list->devices[i].modbus;
        const char *const paths[] = {modbus->ca_file, modbus->cert_file, modbus->key_file};
        for (size_t k = 0; change_is_of(&reload->change, i) && k < 3; k++) {
            if (paths[k][0] == '\0' || access(paths[k], R_OK) == 0)
                continue;
            (void)snprintf(why, sizeof(why), "device %s: %s: %s", list->devices[i].name, paths[k],
                           strerror(errno));
            return reload_refuse_for(why);
        }
    }
    return true;
}

/* False: nothing has been changed. */
bool reload_disks_are_ready(struct reload *reload)
{
    const struct conf *conf = reload->parts->conf;
    char former[CONF_PATH_MAX + 1];
    state_path(conf, former);
    state_path(reload->after, reload->state_path);
    reload->moves_state = strcmp(former, reload->state_path) != 0;
    reload->moves_spool = strcmp(conf->spool_path, reload->after->spool_path) != 0;
    if (reload->moves_state && !state_can_move(reload->parts->state))
        return reload_refuse_for(
            "the state file cannot be moved before it works where it is: reload "
            "again when it does");
    return device_files_are_good(reload) && spool_is_ready(reload) && files_are_good(reload);
}

/* Whether the next run would find all that it is to know. Nobody is halted meanwhile. */
static bool is_kept(const struct reload *reload)
{
    struct state *state = reload->parts->state;
    const int64_t until_ns = clock_awake_ns() + DISK_PATIENCE_NS;
    const uint64_t mark = state_mark(state);
    do {
        notify("WATCHDOG=1");
        state_settle(state, mark, clock_awake_ns() + reload->slice_ns);
    } while (!state_is_settled(state, mark) && clock_awake_ns() < until_ns);
    return state_is_kept(state, mark);
}

/* Whether samples may be left where it was. */
static bool notes_spool(const struct reload *reload)
{
    return reload->moves_spool && reload->parts->conf->spool_path[0] != '\0';
}

bool reload_move_state(struct reload *reload)
{
    struct parts *parts = reload->parts;
    if (!reload->moves_spool && !reload->moves_state)
        return true;
    if (notes_spool(reload))
        spooler_note_former(parts->state, parts->conf->spool_path);
    const bool moves = !reload->moves_state || state_move(parts->state, reload->state_path);
    if (moves && is_kept(reload))
        return true;
    reload->moves_state = reload->moves_state && moves;
    reload_move_back(reload);
    return reload_refuse_for(moves ? "the disk of the state file does not take it: reload again "
                                     "when it does"
                                   : "no thread for the state file");
}

void reload_move_back(const struct reload *reload)
{
    char former[CONF_PATH_MAX + 1];
    state_path(reload->parts->conf, former);
    if (reload->moves_state)
        (void)state_move(reload->parts->state, former);
    if (notes_spool(reload))
        spooler_note_former(reload->parts->state, NULL);
}
