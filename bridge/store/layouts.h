/* layouts: what the values of all samples that wait are.
 *
 * A sample in memory or on disk points to its layout: names and how its numbers
 * are printed, as they were when it was taken. A layout is kept once however
 * many samples have it, and for as long as the process lasts, also when its
 * device is configured no more. Any thread.
 *
 * Packed, for the disk: checked when it comes back, since a file is input.
 */
#ifndef BRIDGE_STORE_LAYOUTS_H
#define BRIDGE_STORE_LAYOUTS_H

#include "bridge/model/sample.h"

/* Most that are kept; and most bytes of one, packed. */
enum { LAYOUTS_MAX = 16384, LAYOUTS_PACKED_MAX = 3 << 20 };

struct layouts;

struct layouts *layouts_new(void); /* NULL when out of memory */
void layouts_free(struct layouts *layouts);

/* The kept one that is equal to it, made when there is none; its `number` is 1
 * or more, and no other one's. NULL when out of memory, or there are too many. */
const struct layout *layouts_keep(struct layouts *layouts, const struct layout *layout);

/* Returns its length; 0 when it does not fit. */
size_t layouts_pack(const struct layout *layout, unsigned char *bytes, size_t size);

/* Takes one apart and keeps it. NULL also when the bytes are none. */
const struct layout *layouts_unpack(struct layouts *layouts, const unsigned char *bytes,
                                    size_t size);

#endif
