/* remembered: what a battery must know again after a restart of the bridge.
 *
 * One line of text per battery, kept in the state store by the device's id: the stops that
 * are not confirmed, or the lease and when it ends. A lease is not made longer by a
 * restart: its end is a moment, of the clock since boot as long as that boot
 * lasts, else of UTC; where boots have no name, of whichever comes first.
 */
#ifndef BRIDGE_BATTERY_REMEMBERED_H
#define BRIDGE_BATTERY_REMEMBERED_H

#include "bridge/model/command.h"
#include "bridge/store/state.h"

enum {
    REMEMBERED_BOOT_MAX = 36,
    REMEMBERED_STOPS_MAX = 8,
    REMEMBERED_TEXT_MAX = 64 + REMEMBERED_STOPS_MAX * (COMMAND_ID_MAX + COMMAND_SOURCE_MAX + 2)
};

/* Whom a stop's correction is for. */
struct remembered_stop {
    char id[COMMAND_ID_MAX + 1]; /* "" = nobody */
    char source[COMMAND_SOURCE_MAX + 1];
};

struct remembered {
    enum {
        REMEMBERED_NOTHING,
        REMEMBERED_STOP,    /* is owed, to those in `stops` */
        REMEMBERED_STOPPED, /* the last that was wanted is a stop, and it is confirmed */
        REMEMBERED_LEASE,
        REMEMBERED_LEASE_STOPPED /* somebody else put a value there after that stop */
    } kind;
    enum {
        REMEMBERED_FREE, /* nothing of that, or it does not matter */
        REMEMBERED_HALF, /* it may be half taken over: to be released */
        REMEMBERED_ZERO  /* it is held at zero */
    } hold;              /* of a battery whose type says how it is commanded */
    unsigned n_stops;    /* newest first */
    struct remembered_stop stops[REMEMBERED_STOPS_MAX];
    char boot[REMEMBERED_BOOT_MAX + 1]; /* which boot end_ns counts from */
    int64_t end_ns, end_utc_ms;         /* the lease's */
};

/* The line, and back; pure. "" for nothing. */
void remembered_print(const struct remembered *remembered, char text[REMEMBERED_TEXT_MAX]);

/* What was printed; anything else is nothing. */
void remembered_parse(const char *text, struct remembered *remembered);

/* From and to the store (NULL: there is none). False when nothing was kept; the number
 * of what is kept now, as of state_mark(). */
bool remembered_find(struct state *state, const char *id, struct remembered *remembered);
uint64_t remembered_keep(struct state *state, const char *id, const struct remembered *remembered);

/* Which boot of the machine this is; "" when it does not say. */
void remembered_boot(char boot[REMEMBERED_BOOT_MAX + 1]);

/* When the lease ends on this boot's clock: never later than a whole lease from
 * now, whatever became of the clocks. */
int64_t remembered_end_ns(const struct remembered *remembered, const char *boot, int64_t now_ns,
                          int64_t utc_ms, int64_t timeout_ns);

#endif
