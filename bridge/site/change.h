/* change: what another configuration would change in a running bridge.
 *
 * A device's number is its place in the list, and every thread that knows a device knows
 * it by that. So in a bridge that runs a place stays with its device: what a new
 * configuration does not have leaves its place empty, what it adds takes an empty one. Its
 * links and pollers keep their numbers likewise. Pure but for memory.
 */
#ifndef BRIDGE_SITE_CHANGE_H
#define BRIDGE_SITE_CHANGE_H

#include "bridge/site/conf.h"

/* Of the device at a place; what is gone and what comes instead are two places. */
enum change_kind {
    CHANGE_NONE,    /* or there is none, before and after */
    CHANGE_NEW,     /* it was not there */
    CHANGE_GONE,    /* it is there no more */
    CHANGE_ALTERED, /* it has the same name, and something else is other than before */
    CHANGE_MOVED,   /* nothing of it, but its link needs a thread of its own now */
};

enum { CHANGE_WHY_MAX = 160 };

struct change {
    bool groups[CONF_GROUPS]; /* something in it is other than before */
    bool sessions;            /* those with the broker end and begin anew */
    unsigned n_devices;       /* places, in both lists */
    enum change_kind *devices;
};

/* Before threads start: makes empty places for the devices that reloads may add, half as
 * many again as there are, and at least 64. False when out of memory. */
bool change_make_room(struct conf *conf);

/* Numbers of pollers are below this: of those that end, of those that begin meanwhile, and of the
 * one for all other links, which keeps its number also while there are none. */
static inline unsigned change_pollers_max(const struct device_list *list)
{
    return 2 * list->n_devices + 1;
}

/* Finds what is other in `after` than in `before`, which has room, and puts the devices of
 * `after` at their places. False, with the reason: there is no place for all that is added,
 * or no memory. change_free() in any case. */
bool change_find(const struct conf *before, struct conf *after, struct change *change,
                 char why[CHANGE_WHY_MAX]);
void change_free(struct change *change);

/* Whether the device at this place is to be begun or ended anew. */
static inline bool change_is_of(const struct change *change, unsigned device)
{
    return change->devices[device] != CHANGE_NONE;
}

/* Whether any thread has something to do about it. */
bool change_is_any(const struct change *change);

/* Says it in sentences, one a call. */
void change_tell(const struct conf *before, const struct conf *after, const struct change *change,
                 void (*tell)(void *context, const char *sentence), void *context);

#endif
