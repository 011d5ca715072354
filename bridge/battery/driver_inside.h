/* driver_inside: a driver as its own files see it: driver.c (what is held, written and read)
 * and driver_beat.c (the keepalive). Private to them.
 */
#ifndef BRIDGE_BATTERY_DRIVER_INSIDE_H
#define BRIDGE_BATTERY_DRIVER_INSIDE_H

#include "bridge/battery/driver.h"

/* A setpoint, and what it has to read back as. */
struct driver_aim {
    bool known;
    double kw;
    struct command command;
    struct script_proofs proofs;
};

struct driver {
    const struct device *device;
    const struct drive *drive;
    enum control_state state;
    struct driver_aim held;   /* HELD, and what may be held beside `wanted` */
    struct driver_aim wanted; /* being written, or written and not confirmed */
    bool engages;             /* with `wanted`: the battery is taken over for it */
    struct driver_aim next;   /* begun, and nothing of it is written yet */
    bool next_engages, writing;
    bool begun;
    int64_t begun_ns;
    bool half;            /* something was written since it was last known where it stands */
    char why[DETAIL_MAX]; /* of LOST */
    bool tells_lost;
    struct outcome lost;
    /* Reading back. */
    struct plan *plan;
    struct value *values;
    struct scan scan;
    bool scanning;
    /* The keepalive. */
    unsigned beat;       /* the value whose turn it is */
    int64_t beat_ns;     /* when the last that was answered was sent */
    int64_t due_ns;      /* when the next is */
    int64_t expected_ns; /* when it would be in time */
    bool late_told;
    enum { BEAT_NONE, BEAT_LOOKS, BEAT_WRITES } beating;
    struct script script;
    unsigned step;
    /* Letting go. */
    int64_t release_ns;
    bool tried_release;
};

/* Judges what is held by values that were read. */
void driver_look_at(struct driver *driver, const struct value *values, int64_t now_ns);

/* One was sent at `now_ns`. */
void driver_count_beat(struct driver *driver, int64_t now_ns, enum fault fault);

#endif
