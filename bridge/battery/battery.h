/* battery: one device that takes commands, and its whole mind.
 *
 * Owned by the thread of its link, which alone calls it. Holds what is wanted
 * next of each writable point (intent), the lease and its deadman, the claim on
 * the device, and the one sequence under way. What decides and what writes is
 * one step on one thread, so no decision can be out of date when it is written.
 *
 * Every command that battery_put() took ends as one outcome, told to its owner;
 * after an outcome `unknown` there may be one more, marked as its correction.
 * Any device with a writable point is one here; the rules of state, lease and
 * stop are for the setpoint of one that has a `control` group.
 */
#ifndef BRIDGE_BATTERY_BATTERY_H
#define BRIDGE_BATTERY_BATTERY_H

#include "bridge/model/health.h"
#include "bridge/model/lease.h"
#include "bridge/model/outcome.h"
#include "bridge/model/timetable.h"
#include "bridge/store/state.h"
#include "devices/lines/link.h"
#include "devices/registers/device.h"

struct battery;

struct battery_setup {
    const struct device *device;
    unsigned index;        /* of the device in the configuration */
    const char *run;       /* 8 hex digits */
    const char *who;       /* for another program that wants the device */
    struct state *state;   /* what must survive a restart; NULL = nothing does */
    struct health *health; /* NULL = nobody counts */
    bool shares_line;      /* others wait while this one is silent */
    bool judge_only;       /* a dry run: ends before anything would be written */
    void (*tell)(void *context, const struct outcome *outcome);
    /* Whether the audit log takes a line; NULL = it does. Waits for nothing. */
    bool (*is_recorded)(void *context);
    void *context;
};

/* NULL when out of memory. */
struct battery *battery_new(const struct battery_setup *setup);
void battery_free(struct battery *battery);

/* Takes over an admitted command, or a schedule. False when there is no room now: offer
 * it again after the next step. */
bool battery_put(struct battery *battery, const struct command *command);

/* Whether there is, whatever it is. */
bool battery_has_room(const struct battery *battery);

/* Whether a stop is to be written at once, or is being written: it goes ahead
 * of everything else on its link. */
bool battery_is_urgent(const struct battery *battery);

/* When battery_step() has something to do: now or earlier, later, CLOCK_NEVER. */
int64_t battery_due_ns(const struct battery *battery);

/* Whether a command is under way or waits: polling waits for that. */
bool battery_is_busy(const struct battery *battery);

/* Whether nothing is under way that was not asked for: letting a battery go, once tried. */
bool battery_has_settled(const struct battery *battery);

/* Whether a keepalive may be sent before something else is asked on its link, for what it
 * is then done by battery_step(); and by when its next has to be, CLOCK_NEVER = there is
 * none: no transaction for another device is waited for beyond that. */
bool battery_beats(const struct battery *battery);
int64_t battery_beat_by_ns(const struct battery *battery);

/* Does what is due, with one Modbus transaction at most. */
void battery_step(struct battery *battery, struct link *link);

/* A poll over `link` whose first request was sent at `taken_ns` has read these
 * values, as the device's points. */
void battery_see(struct battery *battery, const struct link *link, const struct value *values,
                 int64_t taken_ns);

/* How long what it holds may be held. */
struct lease battery_lease(const struct battery *battery);

/* Where its schedule stands. */
void battery_describe_schedule(const struct battery *battery, struct schedule_status *status);

/* Until when the device is left alone because it was silent to a command, as far
 * as others share its line; in the past when it was not. */
int64_t battery_rest_ns(const struct battery *battery);

/* The bridge ends: what waits and is no stop is refused, on_exit is carried out.
 * From then on battery_has_left() tells when all of that is done. */
void battery_leave(struct battery *battery);
bool battery_has_left(const struct battery *battery);

/* The thread ends: whatever has no outcome yet gets one now. */
void battery_abandon(struct battery *battery);

#endif
