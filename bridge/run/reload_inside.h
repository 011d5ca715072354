/* reload_inside: what the parts of reload share, and nobody else includes.
 *
 * reload.c         the order of the steps; what ends before the exchange, what begins after it
 * reload_disks     what the disks say before anything is changed
 * reload_exchange  what is made anew while all that read the configuration are halted
 */
#ifndef BRIDGE_RUN_RELOAD_INSIDE_H
#define BRIDGE_RUN_RELOAD_INSIDE_H

#include "bridge/run/reload.h"
#include "bridge/site/change.h"

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
    bool moves_spool; /* likewise, or there was none, or is to be none */
    bool moves_audit; /* likewise */
    bool opens_spool; /* to a file that it does not have open already */
    bool *empty;      /* by poller: halted, since it has no device now */
    /* While it is halted; NULL = it is not. */
    struct halt *subscriber, *publisher, *spooler, *http;
};

/* ---- waiting, while systemd is told that all is well ---- */

/* When the next word to systemd is due, `until_ns` at the latest. */
int64_t reload_next_slice_ns(const struct reload *reload, int64_t until_ns);
bool reload_wait_for(const struct reload *reload, struct halt *halt, int64_t until_ns);
/* There is no way back: waits for as long as it takes. */
struct halt *reload_halt_it(const struct reload *reload, struct halt *halt);
/* Of one that is halted; it is NULL afterwards. */
void reload_release(struct halt **halt);

/* ---- the disks ---- */

/* Says why nothing is taken over, of whatever it is; false. */
bool reload_refuse_for(const char *why);
/* False, with a logged reason: nothing has been changed. */
bool reload_disks_are_ready(struct reload *reload);
/* Once they are ready: the state is in its file of then, and has on disk where the spool was, so
 * that whenever the bridge is killed the next run finds both. False as before. */
bool reload_move_state(struct reload *reload);
/* After that, when it is not taken over all the same. */
void reload_move_back(const struct reload *reload);

/* ---- the exchange ---- */

/* False: it is impossible to go on. */
bool reload_exchange(struct reload *reload);

#endif
