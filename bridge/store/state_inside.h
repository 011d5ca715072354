/* state_inside: what the parts of state share, and nobody else includes.
 *
 * state.c       where it is kept, and how it starts and ends
 * state_memory  everybody's side: what is in memory, and whether it is on disk
 * state_file    the file, and the thread that alone is at it
 * state_move    another file
 */
#ifndef BRIDGE_STORE_STATE_INSIDE_H
#define BRIDGE_STORE_STATE_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "bridge/store/database.h"
#include "bridge/store/state.h"

struct state_entry {
    uint64_t put;  /* the number of its last put; 0 = read from disk */
    bool is_there; /* false: forgotten */
    char *text;
    size_t room;
    char key[];
};

struct state {
    bool has_thread;
    pthread_t thread;
    _Atomic int64_t promise_ns;
    /* The thread's own. */
    bool (*inherit)(struct state *state, const char *path); /* NULL = there is nothing left to */
    sqlite3 *file;                                          /* NULL = not open */
    sqlite3_stmt *keep, *forget;
    int failure; /* as last logged; SQLITE_OK = good */
    char *text;  /* room for the text being written */
    /* What it was before it was moved: removed when all is written to the other; "" = none. */
    char former[CONF_PATH_MAX + 1];

    pthread_mutex_t mutex; /* for all that follows */
    pthread_cond_t changed, written;
    /* "" = memory only. Once there is a thread, that alone changes it. */
    char path[CONF_PATH_MAX + 1];
    bool moving; /* to another one, which has not all of it yet */
    bool asked;  /* and the thread is still to take that over: */
    char next[CONF_PATH_MAX + 1];
    bool stopping;
    bool loaded;        /* what earlier runs have kept */
    bool failing;       /* as the disk last was */
    bool busy;          /* the thread is at the disk */
    bool hurried;       /* it is to try again now */
    uint64_t n_tries;   /* how often it has been there */
    uint64_t put, kept; /* numbers of the last put, and of the last on disk */
    size_t n, room;
    struct state_entry **entries; /* by their keys */
};

/* ---- in memory; locked ---- */

/* NULL when there is none. */
struct state_entry *state_find(const struct state *state, const char *key);

/* One that is not there yet, in its place. NULL when out of memory, or there are too many. */
struct state_entry *state_add(struct state *state, const char *key);

/* False when out of memory. */
bool state_set_text(struct state_entry *entry, const char *text);

/* What state_is_loaded() says. */
bool state_is_known(const struct state *state);

/* ---- the file ---- */

/* False when out of memory or threads. */
bool state_start_thread(struct state *state);

/* The thread, or nobody else any more. */
void state_close_file(struct state *state);

/* The thread: all that is in memory has to be written to a new file. */
void state_forget_file(struct state *state);

/* ---- moving; the thread ---- */

/* Another file from now on, when that was asked for. */
void state_take_over_next(struct state *state);

/* What is in memory is in the file of now: nobody is to find the one of before, which grows
 * out of date. */
void state_end_move(struct state *state);

#endif
