/* spooler: the thread between outbox and disk.
 *
 * Moves samples that the broker has not taken within half a second to the
 * spool, brings them back when it is there again, and removes what was
 * delivered. Sleeps while everything is delivered in time. A disk that fails is
 * logged once; samples then stay in memory as far as they go, and it is tried
 * again each second; so is a spool that cannot be opened yet.
 *
 * A reload may take the spool away, bring one, or put it elsewhere. Of one that has gone
 * what is in its file is sent, in front of what waits in memory; nothing is put there any
 * more, and the file is removed once it is empty. It is noted in the state, so that the next run
 * goes on with that. Where there never was one the thread sleeps.
 */
#ifndef BRIDGE_STORE_SPOOLER_H
#define BRIDGE_STORE_SPOOLER_H

#include "bridge/base/halt.h"
#include "bridge/site/conf.h"
#include "bridge/store/layouts.h"
#include "bridge/store/outbox.h"
#include "bridge/store/state.h"

struct spooler;

/* Starts the thread, which opens the spool of the configuration, if there is to be one; what may
 * still come, such as its directory or a disk that answers, is waited for while the bridge runs.
 * NULL with a logged reason: also for a file that is not to be touched. */
struct spooler *spooler_start(const struct conf *conf, struct layouts *layouts,
                              struct outbox *outbox, struct state *state);

/* Asks the thread to halt; halt_wait() and halt_release() it. While it is halted, the
 * configuration may change. */
struct halt *spooler_halt(struct spooler *spooler);

/* While it is halted: whether the spool may become this file ("" = none): it works, or goes,
 * and is not being moved. When the configuration has another path the thread moves all samples
 * there, and removes the file of before. */
bool spooler_can_move(const struct spooler *spooler, const char *path);

/* While it is halted: whether it has this file open, for whatever. */
bool spooler_is_at(const struct spooler *spooler, const char *path);

/* Before that: notes where it was, so that a run that is killed on the way leaves nothing
 * behind: the next one takes over what is still there. NULL = nothing is. */
void spooler_note_former(struct state *state, const char *path);

/* By when the thread promised to be back, of the machine awake; for the supervisor. */
int64_t spooler_promise_ns(const struct spooler *spooler);

/* After the publisher: puts on disk what was not delivered, joins, frees. */
void spooler_stop(struct spooler *spooler);

#endif
