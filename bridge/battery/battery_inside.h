/* battery_inside: a battery as its own files see it. Private to them; each uses those
 * before it.
 *
 * battery_told      what others know of it: on disk, as outcomes, in health
 * battery_schedule  how its schedule is served
 * battery_work      the one sequence that is under way
 * battery_hold      its keepalive, and letting it go
 * battery_turns     what is next
 * battery.c         what comes in, one step, what polls see, start and end
 */
#ifndef BRIDGE_BATTERY_BATTERY_INSIDE_H
#define BRIDGE_BATTERY_BATTERY_INSIDE_H

#include "bridge/battery/battery.h"
#include "bridge/battery/driver.h"
#include "bridge/battery/fallback.h"
#include "bridge/battery/intent.h"
#include "bridge/battery/remembered.h"
#include "bridge/battery/scheduled.h"
#include "bridge/battery/sequence.h"
#include "bridge/battery/unsettled.h"
#include "devices/lines/claim.h"

struct battery {
    struct battery_setup setup;
    const struct device *device;
    struct sequence *sequence;
    struct driver *driver;  /* NULL: its type does not say how it is commanded */
    struct intent *intents; /* by point */
    struct claim claim;     /* the right to write */

    unsigned working; /* with a sequence under way: the point */
    struct outcome outcome;
    struct unsettled *unsettled; /* by point */
    int64_t last_write_ns;       /* of the setpoint */
    int64_t ended_ns;            /* of the last sequence */
    int64_t rest_ns;

    bool begins;             /* a script's first request is about to go out */
    bool releases;           /* the sequence is no command's: it lets the battery go */
    struct outcome released; /* what came of that */
    bool release_told;       /* that it did not go well */
    bool beat_failed;        /* the last step was a keepalive that did */

    struct fallback fallback;
    struct scheduled scheduled;
    bool live_had_its_turn; /* before what the schedule wants */
    double held_kw;         /* its setpoint, as last confirmed or seen; NaN = not known */
    uint64_t own_ids;
    bool firing;            /* the deadman, as health counts it */
    struct remembered kept; /* as last stored */
    uint64_t kept_mark;     /* its number in the store */
    /* What was kept in an earlier run is known; if not yet, what in this one is newer. */
    bool recalled, stopped, written;
    char boot[REMEMBERED_BOOT_MAX + 1];

    unsigned n_tokens;
    struct command commands[];
};

/* The setpoint's; NULL for a device without a `control` group. */
static inline struct intent *battery_power(const struct battery *battery)
{
    return battery->device->controllable ? &battery->intents[battery->device->control.setpoint]
                                         : NULL;
}

static inline const char *battery_name(const struct battery *battery)
{
    return battery->device->name;
}

/* A place for a command. */
static inline uint16_t battery_free_token(const struct battery *battery)
{
    for (uint16_t token = 0; token < battery->n_tokens; token++) {
        bool held = false;
        for (unsigned i = 0; i < battery->device->n_points && !held; i++)
            held = intent_holds(&battery->intents[i], token);
        if (!held)
            return token;
    }
    return INTENT_NONE;
}

#endif
