/* scout: what the disks say to another configuration, before anything is changed.
 *
 * The files that a reload would go to are tried on a thread of its own: each is opened for use
 * by the thread that owns it, but a new disk that does not answer must hold neither that
 * thread, whose present file is good, nor main, which watches over all the others. One
 * that does not come back in time is left behind, and no other is sent before it is back.
 * Main thread only.
 */
#ifndef BRIDGE_RUN_SCOUT_H
#define BRIDGE_RUN_SCOUT_H

#include "bridge/site/conf.h"

enum { SCOUT_WHY_MAX = 256 + 2 * CONF_PATH_MAX };

struct scout;

/* Sends it to those of the files of `after` that are others than before; to the spool's when it
 * `opens_spool`: what this process has open already must not be touched, since a file that is
 * closed gives up all locks that the process has on it. NULL, with the reason: there is no memory
 * or thread for it, or an earlier one is still out. */
struct scout *scout_send(const struct conf *before, const struct conf *after, bool opens_spool,
                         char why[SCOUT_WHY_MAX]);

/* Whether it is back by `until_ns`, of the machine awake. */
bool scout_wait(struct scout *scout, int64_t until_ns);

/* Whether all of them can be used; else why not, also when it is not back. Frees. */
bool scout_end(struct scout *scout, char why[SCOUT_WHY_MAX]);

#endif
