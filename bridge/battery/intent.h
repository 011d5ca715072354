/* intent: what is to be written to one point next, and what must not be any more.
 *
 * Pure. Holds the accepted commands of one point, by numbers that are its
 * caller's, from their acceptance to their end:
 *
 *     waiting:    stops (all of them are answered by one write), then at most one
 *                 setpoint, which was accepted after them
 *     under way:  one write: of the stops that waited, of the setpoint, or the
 *                 bridge's own
 *     owed:       stops that were answered, but whose zero is not confirmed
 *
 * A stop always wins: it goes first, a setpoint accepted before it and not yet
 * written is overtaken, also when it is under way, and so is whatever the bridge
 * wanted of its own. Nothing replaces a stop. One that is owed is written again
 * each second until a zero is confirmed, or a newer setpoint has passed every
 * rule and is written. Small enough to be proved (tests/proof).
 *
 * Part of a battery, owned by the thread of its link. A point that is no
 * battery's setpoint has no stops.
 */
#ifndef BRIDGE_BATTERY_INTENT_H
#define BRIDGE_BATTERY_INTENT_H

#include <stdbool.h>
#include <stdint.h>

enum { INTENT_STOPS_MAX = 8, INTENT_NONE = UINT16_MAX };
#define INTENT_RETRY_NS INT64_C(1000000000)

struct intent_stops {
    unsigned n;
    uint16_t tokens[INTENT_STOPS_MAX];
};

enum intent_work {
    INTENT_NOTHING,
    INTENT_STOP,     /* for the stops in `current`; none: only for those owed */
    INTENT_SETPOINT, /* current.tokens[0] */
    INTENT_OWN       /* the bridge's own */
};

struct intent {
    struct intent_stops stops; /* waiting */
    uint16_t setpoint;         /* waiting; INTENT_NONE */
    enum intent_work work;     /* under way */
    struct intent_stops current;
    bool overtaken; /* it must not be written any more */
    bool written;   /* it is, or may be */
    bool is_owed;   /* a zero */
    struct intent_stops owed;
    int64_t retry_ns; /* with is_owed: when it is written again */
};

void intent_init(struct intent *intent);

/* Whether a command can be taken. */
bool intent_has_room(const struct intent *intent);

/* A command is accepted. Returns the waiting setpoint that it replaces, or
 * INTENT_NONE: that one has ended as superseded. */
uint16_t intent_put_stop(struct intent *intent, uint16_t token);
uint16_t intent_put_setpoint(struct intent *intent, uint16_t token);

/* A zero is owed from an earlier run, for this stop or (INTENT_NONE) for one
 * that nobody waits for. */
void intent_owe(struct intent *intent, uint16_t token, int64_t retry_ns);

/* Whether it holds this number; the newest of the stops that it holds, whether
 * they wait, are under way or are owed: INTENT_NONE when there is none; and as many
 * as can be owed, the newest first. */
bool intent_holds(const struct intent *intent, uint16_t token);
uint16_t intent_open_stop(const struct intent *intent);
void intent_open_stops(const struct intent *intent, struct intent_stops *stops);

/* Whether a stop waits to be begun, or is owed and due. */
bool intent_stop_is_due(const struct intent *intent, int64_t now_ns);

/* Nothing is under way: begins what is next and says what that is. */
enum intent_work intent_begin(struct intent *intent, int64_t now_ns);
/* The same for the bridge's own; false when a stop goes first. */
bool intent_begin_own(struct intent *intent, int64_t now_ns);

/* Something else goes first: the setpoint under way, not yet written, waits once
 * more. False when it is none, is written, or a newer one waits already. */
bool intent_put_back(struct intent *intent);

/* What is under way is to be written now: false when it must not be. From then
 * on it counts as written. Of a setpoint (`is_zero` false) *settled gets the
 * stops that are owed no more, since a newer setpoint is written. */
bool intent_write(struct intent *intent, bool is_zero, struct intent_stops *settled);

/* What was under way has ended. A zero that is confirmed settles what is owed:
 * *settled gets those stops, for a correction each. A stop that is not
 * confirmed is owed from now on and tried again at `retry_ns`. */
void intent_end(struct intent *intent, bool is_zero, bool confirmed, int64_t retry_ns,
                struct intent_stops *settled);

/* What waits is not tried for now, because a zero is owed and its time has not
 * come: the stops that wait are owed like it. *stops gets them. */
void intent_postpone(struct intent *intent, struct intent_stops *stops);

/* Takes the waiting setpoint out: the bridge ends. INTENT_NONE when none waits. */
uint16_t intent_withdraw(struct intent *intent);

#endif
