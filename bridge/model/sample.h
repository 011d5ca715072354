/* sample: what one scan of a device gave, as plain data.
 *
 * A sample is data until it leaves: outbox and spool carry it, and whoever sends
 * it chooses the form. Its layout says what its values are, so that one that
 * waits keeps the names of the points it was taken with, whatever is configured
 * meanwhile.
 *
 * Pure, no allocation. The packed form is for memory and disk, one for both:
 * numbers little-endian, a value that was not read without its number. The
 * number of most values is not in it: what the registers held says it, and the layout. It
 * says its version; whoever keeps it adds a checksum.
 */
#ifndef BRIDGE_MODEL_SAMPLE_H
#define BRIDGE_MODEL_SAMPLE_H

#include <stddef.h>

#include "devices/registers/device.h"

/* The members of a sample's `data` for what the bridge itself has integrated. */
#define SAMPLE_CHARGED    "energy_charged_integrated"
#define SAMPLE_DISCHARGED "energy_discharged_integrated"

enum {
    SAMPLE_RUN_MAX = 8,
    /* Of a sample with as many points as there can be. */
    SAMPLE_PACKED_MAX = 64 + PROFILE_POINTS_MAX * (2 + POINT_TEXT_MAX),
};

/* Of a point only what tells its value is used: name, unit, table, type, bits,
 * scale, offset, labels. */
struct layout {
    char device[DEVICE_NAME_MAX + 1];
    bool is_text;    /* a JSON text of the first release, which kept no values: nothing else */
    unsigned number; /* of a kept one (bridge/store/layouts.h); else 0 */
    unsigned n_points;
    const struct point *points;
};

enum sample_quality {
    SAMPLE_GOOD,
    SAMPLE_PARTIAL, /* some points could not be read */
    SAMPLE_BAD,     /* nothing could */
};

struct sample {
    const struct layout *layout;
    int64_t ts_ms; /* UTC, of the first request of the scan */
    char run[SAMPLE_RUN_MAX + 1];
    uint64_t seq;
    enum sample_quality quality;
    const struct value *values; /* as the layout's points */
    bool has_energy;            /* the next two are known */
    double charged_kwh, discharged_kwh;
};

/* The layout of a device as it is configured, for as long as that lasts. */
struct layout sample_layout(const struct device *device);

enum sample_quality sample_quality(const struct value *values, unsigned n);

/* The word that is published: "good". Never NULL. */
const char *sample_quality_word(enum sample_quality quality);

/* No sample of this device is longer when it is packed. */
size_t sample_packed_most(const struct device *device);

/* Returns its length; 0 when it does not fit. */
size_t sample_pack(const struct sample *sample, unsigned char *bytes, size_t size);

/* Of a packed one, its ts_ms alone; 0 when it is none. */
int64_t sample_packed_ts_ms(const unsigned char *bytes, size_t size);

/* Takes it apart again: `values` has room for the layout's points. False when the
 * bytes are no sample of this layout: *sample is untouched then. */
bool sample_unpack(const struct layout *layout, const unsigned char *bytes, size_t size,
                   struct sample *sample, struct value *values);

#endif
