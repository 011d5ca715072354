/* recent: the last outcomes as they were published, for whoever looks on: the page.
 *
 * Bounded: the oldest are forgotten. The thread that publishes outcomes puts, one
 * other takes what is new; neither ever waits for the other longer than a copy lasts.
 */
#ifndef BRIDGE_COMMANDS_RECENT_H
#define BRIDGE_COMMANDS_RECENT_H

#include <stdint.h>
#include <stdio.h>

enum {
    RECENT_KEPT = 256, /* as many may be published between two looks */
    RECENT_SHOWN = 50
};

struct recent;

/* NULL when out of memory or descriptors. */
struct recent *recent_new(void);
void recent_free(struct recent *recent);

/* Takes a copy of what is published. `ticket` is that of the command's return
 * address. Does nothing when `recent` is NULL. */
void recent_put(struct recent *recent, uint64_t ticket, const char *payload);

/* Readable from a put to the next recent_take() that finds nothing. */
int recent_fd(const struct recent *recent);

/* The one after number `*last`, which becomes its number; of those that are kept.
 * Malloc'ed; NULL when there is none yet, or no memory. */
char *recent_take(struct recent *recent, uint64_t *last, uint64_t *ticket);

/* The last RECENT_SHOWN as elements of a JSON array, the newest first. */
void recent_print(struct recent *recent, FILE *out);

#endif
