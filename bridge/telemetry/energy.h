/* energy: what went into and out of each battery, integrated by the bridge.
 *
 * For the energy dashboard of Home Assistant, which wants counters, of
 * batteries that have none. Counts over every poll, from the measured power
 * where the type has one, else from the commanded. What is shown never falls:
 * once a minute the counters go to the state (bridge/store/state.h), and only what
 * is on disk there is shown. So whatever ends the program, its next run begins no
 * lower; while what the last one kept cannot be read, nothing is shown or kept, and
 * what is counted meanwhile comes on top of it. Without a file they begin at zero in
 * every run. Nobody here waits for the disk; the counters of a battery belong to its
 * poller.
 */
#ifndef BRIDGE_TELEMETRY_ENERGY_H
#define BRIDGE_TELEMETRY_ENERGY_H

#include "bridge/store/state.h"

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

/* NULL with a logged reason. */
struct energy *energy_start(const struct conf *conf, struct state *state);

/* Of the state's, see state_open(): takes over the file of the first release,
 * energy-<site>.json beside state-<site>.db. */
bool energy_inherit(struct state *state, const char *path);

/* After the pollers, before the state is closed: keeps all that was counted. */
void energy_stop(struct energy *energy);

/* Whether they are counted and shown: at the start as `home_assistant` has it. */
void energy_show(struct energy *energy, bool shows);

/* The device at this place is another one from now on: what was counted of the former is
 * kept. While no poller notes either. */
void energy_renew(struct energy *energy, unsigned index, const struct device *device);

/* Pollers: one scan of a device, values indexed as its points. True with what
 * is to be shown for it. False when nothing is: no such battery, `energy`
 * is NULL, they are not shown, or not known yet. */
bool energy_note(struct energy *energy, unsigned device, int64_t taken_ns,
                 const struct value *values, struct energy_kwh *shown);

#endif
