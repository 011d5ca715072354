/* database: what every SQLite file of the bridge has in common.
 *
 * A file says in its header that it is the bridge's, what it holds and in which
 * version. One that says something else is left as it is: it is somebody
 * else's, or a newer release's. A write-ahead log, synchronous in full: what a
 * transaction has taken survives a kill and a power cut. No other program can
 * open the file meanwhile.
 *
 * For the modules of this room only. A connection belongs to one thread.
 */
#ifndef BRIDGE_STORE_DATABASE_H
#define BRIDGE_STORE_DATABASE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

/* What a file of one kind is. */
struct database_kind {
    const char *what;    /* "spool" */
    int32_t application; /* in its header: PRAGMA application_id */
    int version;         /* PRAGMA user_version */
    const char *schema;  /* makes the tables of an empty file */
    const char *trace;   /* a text in the first page of each such file, and of no other's */
    const char *used;    /* returns a row when anything was ever put into it */
    /* A file of version 0 was written before there were versions: it has no
     * mark, and is known by the text of its only table. `upgrade` makes it
     * this version. NULL = there never was one. */
    const char *first_table, *first_text, *upgrade;
};

/* Results beside SQLite's own. */
enum {
    DATABASE_FOREIGN = -1, /* somebody else's */
    DATABASE_NEWER = -2,   /* ours, of a version that this release does not know */
    DATABASE_MOVED = -3,   /* no longer at its path */
    DATABASE_UNKNOWN = -4, /* no database that could be read, and nothing says that it is ours */
    DATABASE_USED = -5,    /* ours, and an earlier run has put something into it */
    DATABASE_BLOCKED = -6, /* what bears the name of its log is no file */
    DATABASE_LINK = -7,    /* a symbolic link, which root does not follow */
};

/* Looks at a file without changing it: SQLITE_OK for one that is ours or can be
 * made, or why it cannot be used. */
int database_look(const char *path, const struct database_kind *kind);

/* Of such a result: whether the file is not ours to touch. */
bool database_is_refused(int result);

/* Opens or makes the file. SQLITE_OK, or why not: nothing is open then, and a
 * file that is not ours was not touched. */
int database_open(const char *path, const struct database_kind *kind, sqlite3 **file);

/* Whether a new one could be begun there: SQLITE_OK, or why not. Leaves nothing behind. */
int database_try(const char *path, const struct database_kind *kind);

/* Removes the file and what belongs to it, once it is closed; nothing when it is not there. */
void database_remove(const char *path);

/* Opens one that was set aside, to read what can be read of it: also one that is
 * shorter than it says. */
int database_open_damaged(const char *path, const struct database_kind *kind, sqlite3 **file);

/* NULL = none. The log of a file that is no longer at its path is not removed: what
 * lies there under that name is another file's. */
void database_close(sqlite3 *file);

/* Whether the opened file is no longer what its path names: it takes data just
 * as well, but nobody would ever find them there. */
bool database_has_moved(sqlite3 *file);

/* Of a file that is SQLITE_BUSY: whether a program of this name has it, and no tool of an
 * administrator's. */
bool database_is_ours_already(const char *path);

/* Whether a failure is one that trying again does not mend. */
bool database_is_damage(int failure);

/* Renames the file, and what belongs to it, to `path`.damaged-<UTC ms>. Can be
 * done while it is open. False with errno. */
bool database_set_aside(const char *path, char kept_as[4096]);

/* A failure in words. */
const char *database_error(int failure);

/* The same, and what to do about it. */
const char *database_remedy(int failure);

#endif
