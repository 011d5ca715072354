/* streams: who listens to GET /api/events.
 *
 * At most STREAMS_MAX in all. One that waits for an event is put to sleep in the
 * library, so it costs nothing; one that does not keep up is ended, and its browser
 * comes again. Owned by the thread of http.
 */
#ifndef BRIDGE_OPS_STREAMS_H
#define BRIDGE_OPS_STREAMS_H

#include "bridge/ops/events.h"
#include "bridge/ops/http_library.h"

enum { STREAMS_MAX = 8 };

struct streams;

/* NULL when out of memory. */
struct streams *streams_new(const struct http_library *library, const struct view *view);
void streams_free(struct streams *streams);

/* Answers with a stream; `*opened` tells, else with 503. */
enum MHD_Result streams_open(struct streams *streams, struct MHD_Connection *connection,
                             int64_t now_ns, bool *opened);

/* An outcome was published. */
void streams_tell(struct streams *streams, const char *payload);

/* Tells all that is new. */
void streams_feed(struct streams *streams, int64_t now_ns);

/* When that is due: CLOCK_NEVER while nobody listens. */
int64_t streams_due_ns(const struct streams *streams);

/* Ends all of them. */
void streams_stop(struct streams *streams);

#endif
