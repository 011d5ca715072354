/* events: what GET /api/events tells: server-sent events, as they come.
 *
 * One text that grows at its end and is forgotten at its beginning; each stream
 * reads it from a place of its own, so an event is made once however many listen,
 * and who does not keep up delays nobody. Owned by the thread of http.
 *
 * Source of the form: WHATWG HTML, section 9.2, server-sent events.
 */
#ifndef BRIDGE_OPS_EVENTS_H
#define BRIDGE_OPS_EVENTS_H

#include <sys/types.h>

#include "bridge/ops/view.h"

#define EVENTS_LOOK_NS (CLOCK_NS_PER_S / 20) /* between two looks at the samples */

struct events;

/* NULL when out of memory. */
struct events *events_new(const struct view *view);
void events_free(struct events *events);

/* The place of one who begins to listen now. With the first, looking begins. */
uint64_t events_begin(struct events *events, int64_t now_ns, bool first);

/* An outcome was published. */
void events_put_outcome(struct events *events, const char *payload);

/* Adds what is new: samples, status, and every 10 s the health and a comment, by
 * which both sides see that the other is there. Whether there was anything. */
bool events_look(struct events *events, int64_t now_ns);

/* Copies what follows a place, and moves it. 0 = nothing yet; -1: it did not keep
 * up, what follows is forgotten. */
ssize_t events_read(const struct events *events, uint64_t *place, char *text, size_t size);

#endif
