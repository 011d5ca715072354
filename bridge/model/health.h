/* health: the bridge's own counters, and nothing else.
 *
 * Written by the thread that sees the event, read by the publisher for
 * bridge/health and by http for /metrics; atomics, relaxed: each is exact,
 * together they are no snapshot.
 */
#ifndef BRIDGE_MODEL_HEALTH_H
#define BRIDGE_MODEL_HEALTH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bridge/model/control_state.h"
#include "bridge/model/reason.h"
#include "devices/lines/fault.h"

/* Upper ends of the classes of a scan's duration in microseconds; the last
 * class is open. */
enum { HEALTH_CLASSES = 11 };
extern const uint32_t health_class_us[HEALTH_CLASSES];

/* Of one device; written by its poller. */
struct health_device {
    atomic_uint_fast64_t polls;               /* attempts at a scan */
    atomic_uint_fast64_t errors[FAULT_COUNT]; /* points not read, by fault */
    atomic_uint_fast64_t durations[HEALTH_CLASSES + 1];
    atomic_uint_fast64_t duration_us; /* sum of all */
    _Atomic int64_t last_good_ns;     /* monotonic; 0 = never */
    _Atomic int64_t schedule;         /* revision of its schedule + 1; 0 = none */
    atomic_int control;               /* enum control_state */
    atomic_uint_fast64_t beats_late;  /* keepalives sent half a period too late, or later */
};

struct health {
    atomic_uint_fast64_t samples;      /* scans turned into a sample */
    atomic_uint_fast64_t samples_bad;  /* of these: quality bad */
    atomic_uint_fast64_t missed_ticks; /* scans that were due while the link was busy */
    atomic_uint_fast64_t publishes;    /* messages acknowledged by the broker */
    atomic_uint_fast64_t set_aside;    /* documents that cannot be published; records: outbox */
    atomic_uint_fast64_t not_told;     /* samples that no Sparkplug host gets any more */
    atomic_uint_fast64_t reconnects;   /* of the bridge session, the first connect not counted */
    atomic_uint_fast64_t commands;     /* messages on a command topic */
    atomic_uint_fast64_t outcomes[OUTCOME_COUNT];
    atomic_uint_fast64_t refusals[REASON_COUNT];
    _Atomic int64_t certificate_end_ms;  /* UTC, of the one that ends first; 0 = there is none */
    atomic_bool stuck;                   /* a thread has stopped moving */
    atomic_bool disk_silent;             /* one of those that wait for nothing but a disk */
    atomic_uint_fast64_t clock_jumps;    /* of UTC against the monotonic clock */
    _Atomic int64_t unsynchronised_ns;   /* monotonic: UTC is, since then; 0 = it is not */
    atomic_uint_fast64_t deadman_firing; /* batteries whose lease ran out, not yet written */
    struct health_device *devices;       /* as the configuration's */
};

/* What waits in the outbox (bridge/store/outbox.h) and what it has lost. */
struct outbox_depth {
    uint64_t waiting;   /* samples not yet acknowledged, in flight included */
    uint64_t backlog;   /* of these: backlog */
    int64_t oldest_ms;  /* how long the oldest of all has waited to be acknowledged */
    uint64_t outcomes;  /* not yet acknowledged, in flight included */
    uint64_t dropped;   /* samples dropped or set aside since start, all devices */
    uint64_t set_aside; /* samples and outcomes that cannot be sent, since start */
    unsigned in_flight; /* samples and outcomes */
};

/* Makes the devices' part; the rest is zeroed by the owner. False when out of
 * memory. */
bool health_init(struct health *health, unsigned n_devices);
void health_free(struct health *health);

/* The device at this place is another one from now on. */
void health_renew(struct health *health, unsigned device);

/* A whole scan took so long. */
void health_duration(struct health_device *device, int64_t duration_ns);

static inline void health_count(atomic_uint_fast64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static inline uint64_t health_get(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
