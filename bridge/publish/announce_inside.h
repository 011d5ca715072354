/* announce_inside: what the parts of announce share, and nobody else includes.
 *
 * announce.c        what is to be sent: at a connect, after a reload, at the end
 * announce_arrived  what arrives: what somebody else has changed, and acknowledgements
 * announce_send     what is due is sent
 */
#ifndef BRIDGE_PUBLISH_ANNOUNCE_INSIDE_H
#define BRIDGE_PUBLISH_ANNOUNCE_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "bridge/publish/announce.h"
#include "bridge/publish/documents.h"
#include "bridge/publish/gone.h"

/* Somebody else has changed a device's state. */
struct mend {
    uint64_t seq; /* of the sample that it should be */
    unsigned n;   /* how often */
};

struct announce {
    struct announce_setup setup;
    const struct conf *conf;
    unsigned n_devices;
    struct retained *retained;
    struct gone *gone;
    struct documents *documents;
    int64_t *status_ns, *control_ns;   /* when that of a device was sent last */
    uint64_t schedules;                /* changes of theirs, as last looked at */
    struct schedule_status *scheduled; /* by device, as last called */
    bool *told;                        /* that somebody else changes it, by document */
    uint32_t seed;
    unsigned untold; /* at the end: before this device all have been told */
    atomic_uint_fast64_t n_acked;
    atomic_bool hearing;
    atomic_bool born; /* Home Assistant has said that it is there */

    pthread_mutex_t mutex; /* guards what follows */
    struct mend *mends;    /* by device */
};

static inline unsigned announce_number(const struct announce *announce, enum retained_kind kind,
                                       unsigned index)
{
    return retained_number(announce->retained, kind, index);
}

static inline enum retained_kind announce_kind(const struct announce *announce, unsigned number)
{
    return retained_kind(announce->retained, number);
}

static inline bool announce_is_published(const struct announce *announce, unsigned number)
{
    return retained_is_published(announce->retained, number);
}

/* False for what is there again. */
static inline bool announce_topic(struct announce *announce, unsigned number,
                                  char topic[TOPIC_MAX + 1])
{
    return announce_kind(announce, number) == RETAINED_GONE
               ? gone_topic(announce->gone, retained_index(announce->retained, number), topic)
               : retained_topic(announce->retained, number, topic);
}

/* ---- is to be sent, each a little later than the one before; `n_before` counts them ---- */

/* Of all batteries, or of those whose schedules stand elsewhere now. */
void announce_call_schedules(struct announce *announce, bool all, unsigned *n_before,
                             int64_t now_ns);
void announce_call_discovery(struct announce *announce, unsigned *n_before, int64_t now_ns);
/* What is gone, from number `first` on. */
void announce_call_gone(struct announce *announce, unsigned first, unsigned *n_before,
                        int64_t now_ns);

/* ---- what has arrived ---- */

/* Whether a state is to be put right: no newer sample was taken since. Counts. */
bool announce_is_mend_due(struct announce *announce, unsigned device);

#endif
