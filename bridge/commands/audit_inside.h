/* audit_inside: the audit log as its own files see it. Private to them; each uses those
 * before it.
 *
 * audit_told    what is told of each record, and the teller
 * audit_writer  the visits to the file
 * audit.c       everybody's side
 */
#ifndef BRIDGE_COMMANDS_AUDIT_INSIDE_H
#define BRIDGE_COMMANDS_AUDIT_INSIDE_H

#include "bridge/commands/audit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "bridge/site/conf.h"

/* No errno: the file was not opened yet. */
enum { AUDIT_NOT_YET = -1 };

/* A copy of an entry, all its texts in one block. */
struct audit_record {
    struct audit_record *next;
    size_t size;
    int64_t put_ns;
    bool tried;   /* to write its line */
    bool written; /* that is on disk */
    bool published;
    struct outcome *outcome;  /* until it is published; NULL = nobody is told */
    struct audit_entry entry; /* its line ends with a newline */
    char texts[];
};

struct audit {
    struct outbox *outbox;
    struct state *state;        /* NULL: nothing of it is waited for */
    struct recent *recent;      /* NULL: nobody looks on */
    struct last_outcomes *last; /* likewise */
    char *path;                 /* the writer's own; "" = no file */
    pthread_t writer, teller;
    atomic_bool outbox_full; /* as last told */
    atomic_int
        status; /* errno of the last attempt, ENOSPC for little room, AUDIT_NOT_YET; 0 = good */
    _Atomic int64_t busy_ns; /* since when the writer has been at the disk; 0 = it is not */
    int file;                /* -1 = not open; the writer's own */

    pthread_mutex_t mutex;                                      /* for all that follows */
    void (*told)(void *context, const struct outcome *outcome); /* NULL = nobody is */
    void *context;
    pthread_cond_t called; /* the writer is wanted */
    pthread_cond_t looked; /* it has been at the file, or has ended */
    pthread_cond_t waits;  /* there is a record for the teller to watch */
    /* In the order they came: those that are not yet on disk, or not yet told. */
    struct audit_record *first, **end;
    bool has_file;      /* there is a log, or will be in a moment */
    size_t held;        /* bytes of these */
    uint64_t lost;      /* lines since the file was last good */
    bool noted;         /* the state knows of the path, */
    uint64_t note_mark; /* and has that on disk when it has this; 0 = it has */
    /* The spool that room is left for. */
    char spool[CONF_PATH_MAX + 1];
    int64_t spool_most;
    bool tight;        /* there is no more than it may need */
    int64_t idle_ns;   /* then: when the next line that is_idle is written */
    uint64_t left_out; /* of these, since */
    char *next;        /* the path that the writer is to take over; NULL = none */
    int64_t looked_ns; /* when the writer last was at the file */
    bool wanted;       /* somebody asks how the file is */
    /* Earlier runs' lines: how often they were asked for, and up to which they were read, all
     * of them from files that are good. */
    unsigned reads_asked, reads_done;
    bool knew;     /* where they were, when they were read */
    char *earlier; /* these; NULL = none to be taken */
    bool reopen, stopping, ended;
    bool closing;   /* the teller ends */
    bool abandoned; /* audit_stop() waits for the writer no longer: it is the last one here */
    bool watching;  /* the teller knows of a record */
};

/* Locked. `outcome`: of the entry, to be told; NULL = it is not. */
void audit_publish(struct audit *audit, const struct audit_entry *entry, struct outcome *outcome,
                   bool audited);

/* Locked. */
struct audit_record *audit_first_unpublished(const struct audit *audit);

/* Locked. Publishes in the order they came, up to one whose time has not come, and is
 * done with those whose lines are on disk. Without patience none waits. */
void audit_settle(struct audit *audit, bool patient);

/* Its thread: outcomes do not wait for a disk that hangs. */
void *audit_teller_run(void *argument);

/* Locked. Whether a line is not on disk, and whether one was not even tried. */
bool audit_has_unwritten(const struct audit *audit, bool *untried);

/* Locked. Whether where earlier runs' lines may be is known by now, and was not. */
bool audit_knows_more(const struct audit *audit);

/* The thread that alone touches the file. */
void *audit_writer_run(void *argument);

void audit_free(struct audit *audit);

#endif
