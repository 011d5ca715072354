/* scans: samples for a Sparkplug host, until the broker has them.
 *
 * Sparkplug sends data at QoS 0, so nothing tells what has arrived: behind every batch
 * goes one message of QoS 1, and its acknowledgement, since a session keeps the order,
 * covers all that was sent before it. What is not covered when the session ends, and
 * what was taken while it was down, is history.
 *
 *     front .. history .. [mark] .. live .. end
 *
 * A bounded ring in memory. When it is full the oldest gives way, and is counted: it is
 * in the JSON backfill all the same, which also outlives the process. Pollers put; the
 * rest is the edge node's (bridge/publish/edge.h), but scans_ack(), which any thread may
 * call. One lock, never held while calling out.
 */
#ifndef BRIDGE_STORE_SCANS_H
#define BRIDGE_STORE_SCANS_H

#include "bridge/model/sample.h"

enum { SCANS_BYTES = 4 << 20 };

struct scans_item {
    unsigned device;
    const struct layout *layout;
    size_t size;
    unsigned char packed[SAMPLE_PACKED_MAX];
};

struct scans;

/* NULL when out of memory. */
struct scans *scans_new(size_t bytes);
void scans_free(struct scans *scans);

/* Whether there is an edge node, as there is at first. Without one nothing is kept, and
 * what waits is forgotten. While no edge node takes. With one it is a new one, which knows of
 * no device yet: the number of those so far tells pollers, who may ask at any time. */
void scans_serve(struct scans *scans, bool serves);
unsigned scans_nodes(const struct scans *scans);

void scans_put(struct scans *scans, unsigned device, const struct layout *layout,
               const void *packed, size_t size);

/* What waits of this device is told no more, for it is not what it was; it counts as
 * dropped. While neither its poller puts nor an edge node takes; scans_rewind() follows. */
void scans_forget(struct scans *scans, unsigned device);

/* The next live one, copied out: it counts as sent in the present batch. */
bool scans_take_live(struct scans *scans, struct scans_item *item);

/* The same from history, oldest first: of `*device`, or of any (SCANS_ANY), which
 * *device is then; of those devices alone for which `may` says so: what is of another
 * waits. */
enum { SCANS_ANY = UINT32_MAX };
bool scans_take_history(struct scans *scans, const bool *may, unsigned *device,
                        struct scans_item *item);

/* Ends the present batch: its number, to be acknowledged; 0 when nothing was sent in it. */
uint64_t scans_end_batch(struct scans *scans);

/* The broker has this batch and all before it. */
void scans_ack(struct scans *scans, uint64_t batch);

/* The session is gone, or births begin anew: what was taken and is not acknowledged is
 * history from now on. */
void scans_rewind(struct scans *scans);

/* How many wait as history, and how many have given way so far. */
uint64_t scans_history(struct scans *scans);
uint64_t scans_dropped(struct scans *scans);

#endif
