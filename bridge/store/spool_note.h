/* spool_note: what is known of the spool's file without it.
 *
 * The part of the spool (bridge/store/spool.h) that keeps in the state which file it is, and
 * how many samples wait in it: whatever becomes of that file, what is lost with it can be
 * counted, and it is known to be ours. It is on disk before the file changes, so it has two
 * numbers, between which the truth lies.
 */
#ifndef BRIDGE_STORE_SPOOL_NOTE_H
#define BRIDGE_STORE_SPOOL_NOTE_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/store/state.h"

/* More than any spool has: numbers beyond are none of its own. */
#define SPOOL_ROW_MAX   (INT64_MAX / 2)
#define SPOOL_COUNT_MAX (UINT64_C(1) << 32)

struct spool_note {
    uint64_t device, inode; /* of the file */
    uint64_t least, most;   /* samples in it */
    int64_t last_row;       /* no row above it was ever used */
};

/* False when there is none that makes sense: nothing is known then. `state` NULL: there never is.
 */
bool spool_note_find(struct state *state, struct spool_note *note);

/* The same from the state's file, while the bridge that has it may be running. */
bool spool_note_peek(const char *state_path, struct spool_note *note);

/* Whether it is of the file that lies there now. */
bool spool_note_is_of(const struct spool_note *note, const char *path);

/* Notes it, for the file that lies there now, and waits until that is on disk, the disk
 * refuses it, or 5 s; or without waiting. */
void spool_note_keep(struct state *state, const char *path, struct spool_note *note, bool wait);

#endif
