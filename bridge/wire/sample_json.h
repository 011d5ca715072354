/* sample_json: a sample as it is published.
 *
 * Pure. On the hot path: written straight into a buffer.
 */
#ifndef BRIDGE_WIRE_SAMPLE_JSON_H
#define BRIDGE_WIRE_SAMPLE_JSON_H

#include "bridge/model/sample.h"

/* Returns its length, 0 when it does not fit into `size`. */
size_t sample_json(const struct sample *sample, char *text, size_t size);

/* The same for one that waited in its packed form, or as a text. 0 also when the
 * bytes are no sample of this layout. */
size_t sample_json_of_packed(const struct layout *layout, const void *packed, size_t packed_size,
                             char *text, size_t size);

/* A size that every sample of this layout fits into. */
size_t sample_json_room(const struct layout *layout);

/* After how many seconds a device's state is out of date: three times as long
 * as a healthy one may be silent, rounded up. */
unsigned sample_json_expiry_s(const struct device *device);

#endif
