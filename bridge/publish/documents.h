/* documents: which retained documents are to be published, and when.
 *
 * Each is called (to be published no sooner than a time), in flight, or settled. What
 * became of it is told by the MQTT library's threads, which also tell what others
 * publish in its place: what differs from what was sent last, for a second, is called
 * again. Knows neither topics nor texts: these are numbers and hashes. Called by the
 * publisher, but for documents_ack() and documents_seen(), which any thread may call.
 */
#ifndef BRIDGE_PUBLISH_DOCUMENTS_H
#define BRIDGE_PUBLISH_DOCUMENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/mqtt/mqtt.h"

/* After being wrong for so long; an acknowledgement and what was seen before it come
 * in no order. And no more often than that, should two put each other right; what is large
 * half as often each time. */
#define DOCUMENTS_WRONG_NS INT64_C(1000000000)
#define DOCUMENTS_AGAIN_NS INT64_C(2000000000)

struct documents;

/* Numbers from 0 to `most` - 1. NULL when out of memory. */
struct documents *documents_new(unsigned most);
void documents_free(struct documents *documents);

/* To be published at that time or soon after; the sooner of two calls counts. */
void documents_call(struct documents *documents, unsigned number, int64_t due_ns);

/* The session of those from `first` up to `end` is gone, and with it all calls and
 * whatever was in flight. */
void documents_reset(struct documents *documents, unsigned first, unsigned end);

/* The lowest number that is due; it counts as in flight from then on. False when there
 * is none. */
bool documents_take(struct documents *documents, int64_t now_ns, unsigned *number);

/* What was taken: could not be sent now, is sent with a payload of this hash, or is
 * not wanted any more. */
void documents_return(struct documents *documents, unsigned number);
void documents_sent(struct documents *documents, unsigned number, uint64_t hash);
void documents_drop(struct documents *documents, unsigned number);

/* What became of it. */
void documents_ack(struct documents *documents, unsigned number, enum mqtt_fate fate,
                   int64_t now_ns);

/* Somebody, perhaps we ourselves, has published a payload of this hash in its place.
 * True when it may be wrong: wake the publisher. */
bool documents_seen(struct documents *documents, unsigned number, uint64_t hash, bool large,
                    int64_t now_ns);

/* The next one that somebody else has changed, and which has just been called again;
 * false when there is none. */
bool documents_next_wrong(struct documents *documents, int64_t now_ns, unsigned *number);

/* When to look again, once none is due any more. */
int64_t documents_due_ns(struct documents *documents);

/* Whether its last payload has been acknowledged, and nothing is called or in flight. */
bool documents_is_settled(struct documents *documents, unsigned number);

#endif
