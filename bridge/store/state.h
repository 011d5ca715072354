/* state: the little that must survive a restart.
 *
 * Keys with a text each: leases, a stop that is not yet confirmed, schedules,
 * what was announced, energy counters. All of it is in memory, so reading waits
 * for nothing; what is put goes to disk by a thread of its own, the latest text
 * of a key only, so putting waits for nothing either. On disk it is one SQLite
 * file beside the spool (state_path()).
 *
 * A disk that fails is said once and tried again each second; memory goes on
 * being the truth. A file that cannot be used at the start, or whose disk does not
 * answer, is waited for: its keys appear then, as far as nobody has put them
 * meanwhile: state_is_loaded(). A damaged one is
 * set aside and written anew from memory. One of another program is refused and
 * left alone: then it is as with no file.
 *
 * Any thread. Times are of the machine awake: while it slept no disk could answer.
 * Keys are short and stable, and here they are all:
 *
 *     battery/<device id>          lease, stop, what was written      battery/remembered
 *     schedule/, offered/<id>      its schedule, and the next one     battery/scheduled
 *     unsynchronised               since when the clock is            battery/trust
 *     energy/<device id>           its counters                       telemetry/energy
 *     outcome/<device id>          the last of its commands           commands/last_outcomes
 *     audit/formers                where ids were audited             commands/audit_formers
 *     announced/...                what to clear when it has gone     publish/gone
 *     spool                        which file that is                 store/spool_note
 *     spool/former                 where it was, or is to go          store/spooler
 *     sparkplug/bdseq              the last one                       publish/node_post
 */
#ifndef BRIDGE_STORE_STATE_H
#define BRIDGE_STORE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/site/conf.h"

enum { STATE_KEY_MAX = 255, STATE_TEXT_MAX = 128 << 10, STATE_KEYS_MAX = 65536 };

#define STATE_SILENCE_NS INT64_C(2000000000)

struct state;

/* Where a site keeps it: state-<site>.db beside the spool, or else beside the
 * audit log, or else "", which is memory only. */
void state_path(const struct conf *conf, char path[CONF_PATH_MAX + 1]);

/* Starts the thread, which reads the file; a disk that answers is waited for. `path` "" = memory
 * only: it lasts as long as the process. NULL when out of memory or threads.
 * `inherit` takes over what an earlier release has left in other files beside this one, at
 * `path`; NULL: nothing. It is called on the thread, and may wait for that disk: when what the
 * file holds is known and before anybody else learns it, and again after all was written,
 * until it returns true. */
struct state *state_open(const char *path, bool (*inherit)(struct state *state, const char *path));

/* Why a file that is there is not to be touched, in words; NULL: it may be. Changes nothing. */
const char *state_refuses(const char *path);

/* ---- while the bridge runs: what a reload changes ---- */

/* At the disk. Whether this file can be begun: nobody else's, and nothing in it yet; else why. */
enum { STATE_WHY_MAX = 256 };
bool state_try(const char *path, char why[STATE_WHY_MAX]);

/* Whether it is all known and on disk, and that answers. */
bool state_can_move(struct state *state);

/* It is kept there from now on; "" = in memory only. The thread writes all of it to the new
 * file, and then removes the one of before, so that nobody finds it when it is out of date. One
 * at a time: see state_can_move(). False when out of memory or threads: nothing has changed. */
bool state_move(struct state *state, const char *path);

/* Writes what is not yet on disk, ends the thread and frees. */
void state_close(struct state *state);

/* Copies out the text of a key. False, and *text untouched, when there is none
 * or it does not fit. */
bool state_get(struct state *state, const char *key, char *text, size_t size);

/* Whether what earlier runs have kept is known: not while the file cannot be used. */
bool state_is_loaded(struct state *state);

/* Whether the disk has not answered for STATE_SILENCE_NS. Asks neither lock nor disk. */
bool state_is_silent(const struct state *state);

/* Whether it is known whether it is known: looks for the file as it is now, and waits for
 * that, until `until_ns`. False when the disk has not answered. */
bool state_is_decided(struct state *state, int64_t until_ns);

/* Calls `each` for the keys that begin so, in order. It must not call state
 * again. */
void state_each(struct state *state, const char *prefix,
                void (*each)(void *context, const char *key, const char *text), void *context);

/* Keeps a text, in place of the key's last; NULL = forgets the key. Never waits
 * for the disk: a process that is killed right after it may lose it, unless
 * state_is_kept() was waited for. The same text again costs nothing. False when it
 * is too long, there are too many keys, or out of memory: nothing has changed
 * then. */
bool state_put(struct state *state, const char *key, const char *text);

/* The number of the last put, and whether that many are on disk. With memory only they
 * always are. */
uint64_t state_mark(struct state *state);
bool state_is_kept(struct state *state, uint64_t mark);

/* Whether waiting for that is over: that many are on disk, or the disk refuses them.
 * And the wait, until then or `until_ns`. */
bool state_is_settled(struct state *state, uint64_t mark);
void state_settle(struct state *state, uint64_t mark, int64_t until_ns);

/* By when the thread promised to be back, of the machine awake; for the supervisor. */
int64_t state_promise_ns(const struct state *state);

#endif
