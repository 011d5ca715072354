/* spooler_inside: what the parts of the spooler share, and nobody else includes.
 *
 * spooler.c      the thread: what goes to disk, comes back, and is removed
 * spooler_moves  a spool that becomes another file, or goes
 */
#ifndef BRIDGE_STORE_SPOOLER_INSIDE_H
#define BRIDGE_STORE_SPOOLER_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "bridge/base/clock.h"
#include "bridge/store/spool.h"
#include "bridge/store/spooler.h"

/* Until a failing disk is tried again. */
#define SPOOLER_RETRY_NS CLOCK_NS_PER_S
/* A disk that damages one file after the other is not filled with them. */
#define SPOOLER_RENEW_NS (60 * CLOCK_NS_PER_S)

enum { AT_ONCE = 1024, BYTES_AT_ONCE = 1 << 20 };

struct spooler {
    const struct conf *conf;
    struct outbox *outbox;
    struct layouts *layouts;
    struct state *state;
    struct spool *spool; /* NULL = it cannot be opened yet, or there is to be none */
    char why[256];       /* as last logged; "" = nothing was */
    bool goes;           /* that it goes was said */
    pthread_t thread;
    pthread_mutex_t mutex; /* for the start: */
    pthread_cond_t opened;
    enum { OPENING, GOES_ON, ENDS } start;
    struct halt halt;
    atomic_bool stopping;
    _Atomic int64_t promise_ns;
    unsigned failing; /* enum work */
    int64_t renewable_ns;
    int64_t movable_ns; /* when it is tried again to move it; 0 = nothing was tried */
    int64_t read_row;   /* rows up to this one have been read back */
    bool read_full;     /* the outbox took no more */
    bool more;          /* there are rows behind it, and they can be read */
    unsigned n_bad;     /* rows that make no sense, to be removed */
    int64_t bad[AT_ONCE];
    uint64_t n_aside; /* of these, removed and not yet told; when they may be */
    int64_t first_aside, aside_ns;
    struct outbox_spilled spilled[AT_ONCE];
    struct spool_sample samples[AT_ONCE];
    int64_t rows[AT_ONCE];
    unsigned char bytes[BYTES_AT_ONCE];
};

/* Else what one that was has left is sent, and that is all. */
static inline bool spooler_is_wanted(const struct spooler *spooler)
{
    return spooler->conf->spool_path[0] != '\0';
}

/* Of each row that is lost; row 0: it is not known which. */
void spooler_count_lost(void *context, int64_t row);

/* To where the configuration has it; tried again as long as that does not work. */
void spooler_move(struct spooler *spooler);

/* What an earlier run could not move to its end comes into the spool. */
void spooler_adopt(struct spooler *spooler);

/* False: there is no spool that has gone and may have left something. */
bool spooler_find_left(struct spooler *spooler, char path[CONF_PATH_MAX + 1]);

/* Says once that it goes and what waits in it. */
void spooler_tell_goes(struct spooler *spooler);

/* One in which nothing is left has gone. */
void spooler_let_go(struct spooler *spooler);

#endif
