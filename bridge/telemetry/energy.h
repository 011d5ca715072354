/* energy: what went into and out of each battery, integrated by the bridge.
 *
 * For the energy dashboard of Home Assistant, which wants counters, of
 * batteries that have none. Counts over every poll, from the measured power
 * where the type has one, else from the commanded. What is shown never falls:
 * once a minute the counters go to a file, and only what is on disk there is
 * shown. So whatever ends the program, its next run begins no lower.
 *
 * The file is energy-<site>.json beside the spool, or else the audit log; with
 * neither of them counters begin at zero in every run. Its thread alone waits
 * for the disk, never a poller.
 */
#ifndef BRIDGE_TELEMETRY_ENERGY_H
#define BRIDGE_TELEMETRY_ENERGY_H

#include "bridge/site/conf.h"

struct energy_kwh {
    double charged, discharged;
};

/* ---- the rules: pure ---- */

/* Which point of a battery tells its power. */
struct energy_source {
    unsigned point;
    double kw;      /* one unit of the point */
    bool commanded; /* a setpoint holds until the next; a measured power moves in between */
};

/* The point active_power_total, or else the only read-only point in a unit of
 * power, or else target_power. False for what is no battery or has none. */
bool energy_source(const struct device *device, struct energy_source *source);

struct energy_counter {
    bool begun;
    int64_t at_ns; /* when the power was `kw` */
    double kw;
    struct energy_kwh kwh;
};

/* The power is `kw` now (+ discharges): counts from the last time up to now,
 * unless that is longer than `most_ns` ago: nobody knows what was in between. */
void energy_count(struct energy_counter *counter, int64_t now_ns, double kw, bool commanded,
                  int64_t most_ns);

/* ---- the counters of all batteries ---- */

struct energy;

/* Reads the file and starts the thread that writes it. NULL with a logged
 * reason. */
struct energy *energy_start(const struct conf *conf);

/* After the pollers: writes what has not been written, joins and frees. */
void energy_stop(struct energy *energy);

/* Pollers: one scan of a device, values indexed as its points. True with what
 * is to be shown for it. False when nothing is: no such battery, or `energy`
 * is NULL. */
bool energy_note(struct energy *energy, unsigned device, int64_t taken_ns,
                 const struct value *values, struct energy_kwh *shown);

#endif
