/* written: one row of a device, written and read back.
 *
 * Read back until it agrees or a second has passed, with a pause between two that
 * disagree, for a device may take a moment. Makes its I/O through struct link, one Modbus
 * transaction a call besides opening it. Part of a sequence (bridge/battery/sequence.h).
 */
#ifndef BRIDGE_BATTERY_WRITTEN_H
#define BRIDGE_BATTERY_WRITTEN_H

#include "bridge/model/outcome.h"
#include "devices/lines/link.h"
#include "devices/registers/device.h"

/* The contract with the dispatcher: read back until it agrees or this long; and between two
 * read-backs. */
#define WRITTEN_READ_BACK_NS INT64_C(1000000000)
#define WRITTEN_PAUSE_NS     INT64_C(20000000)

struct written {
    const struct point *row;
    uint16_t words[OUTCOME_WORDS_MAX];
    int64_t until_ns; /* read back until then */
    int64_t pause_ns; /* not before this time */
    enum fault fault; /* of the write */
    bool is_read;
    struct value value; /* the last that was read */
};

/* To be written so; false when the row cannot hold it. */
bool written_begin(struct written *written, const struct point *row, double value);

/* The write, over a link that is open. */
enum fault written_write(struct written *written, const struct device *device, struct link *link);

/* One read-back; what it says is in `is_read` and `value`, how it went in *fault. True when
 * it agrees; *over when there will be no other. */
bool written_read_back(struct written *written, const struct device *device, struct link *link,
                       enum fault *fault, bool *over);

#endif
