/* last_outcomes: what came of the last command to each device, and whether the deadman
 * has taken it over.
 *
 * Kept in the state file by the device's id, so that both outlive a restart. The audit
 * log puts an outcome when it is published, whoever asks gets it; neither waits for the
 * other longer than a copy lasts.
 */
#ifndef BRIDGE_COMMANDS_LAST_OUTCOMES_H
#define BRIDGE_COMMANDS_LAST_OUTCOMES_H

#include "bridge/model/outcome.h"
#include "bridge/store/outbox.h"
#include "bridge/store/state.h"

/* What an outcome changes of who decides what a battery does. */
enum takeover {
    TAKEOVER_STAYS,  /* nothing */
    TAKEOVER_BEGINS, /* the deadman has written, or tries to */
    TAKEOVER_ENDS    /* a command was written after that */
};

/* Pure; for a device with its points. */
enum takeover takeover_by(const struct device *device, const struct outcome *outcome);

struct last_outcomes;

/* Begins with what the state file has (NULL: nothing); when that comes late, what was put
 * before it is newer. Says what has changed to the
 * outbox. NULL when out of memory. */
struct last_outcomes *last_outcomes_new(const struct device_list *list, struct state *state,
                                        struct outbox *outbox);
void last_outcomes_free(struct last_outcomes *last);

/* The device at this place is another one from now on; what is still published of the
 * former is not taken. */
void last_outcomes_renew(struct last_outcomes *last, unsigned index, const struct device *device);

/* Takes a copy of what is published of a configured device. */
void last_outcomes_put(struct last_outcomes *last, unsigned device, const char *payload,
                       enum takeover takeover);

/* Malloc'ed; NULL when there is none yet, or no memory. */
char *last_outcomes_get(struct last_outcomes *last, unsigned device, bool *taken_over);

#endif
