/* answered: which commands were answered, and how.
 *
 * Per device, every id that got an outcome in the last 10 minutes or is among
 * the last 1000; a repeated id is answered with its first outcome and never
 * written again. What was refused before its id was looked at (outcome_json_is_aside)
 * stands for no command of the id that was under way then. Filled at start from
 * the audit log, so that it reaches across restarts. Pure but for memory; owned
 * by the subscriber.
 */
#ifndef BRIDGE_COMMANDS_ANSWERED_H
#define BRIDGE_COMMANDS_ANSWERED_H

#include <stdbool.h>
#include <stdint.h>

enum {
    ANSWERED_LAST = 1000,  /* this many are kept whatever their age */
    ANSWERED_MOST = 50000, /* and never more than this many */
};
#define ANSWERED_NS INT64_C(600000000000)

struct answered;

struct answered *answered_new(void);
void answered_free(struct answered *answered);

/* The payload of the outcome that `id` got first, or NULL. */
const char *answered_find(const struct answered *answered, const char *id);

/* Remembers an outcome's payload under its id, unless an outcome of it is known already,
 * and forgets what is old. `done_ns` is the monotonic time of the outcome, so
 * that a clock that is set makes nothing older or younger. False when out of
 * memory. */
bool answered_add(struct answered *answered, const char *id, const char *payload, int64_t done_ns);

/* All that `later` has came after what is here, and is here then: of an id that both have the
 * first outcome, as young as the last. Frees `later`. */
void answered_join(struct answered *answered, struct answered *later);

/* Whether ANSWERED_MOST are kept that are all too young to forget: then only a
 * command that may be repeated without harm is to be taken. */
bool answered_full(const struct answered *answered, int64_t now_ns);

#endif
