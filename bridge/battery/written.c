#include "bridge/battery/written.h"

#include <string.h>

#include "bridge/base/clock.h"
#include "devices/registers/codec.h"

bool written_begin(struct written *written, const struct point *row, double value)
{
    *written = (struct written){.row = row};
    return codec_encode(row, value, written->words) == CODEC_FITS;
}

enum fault written_write(struct written *written, const struct device *device, struct link *link)
{
    const struct point *row = written->row;
    written->fault = (row->write_multiple ? link_write_many : link_write)(
        link, (uint8_t)device->modbus.address, row->table, row->address, (uint16_t)point_width(row),
        written->words, device->modbus.timeout_ns);
    written->until_ns = clock_mono_ns() + WRITTEN_READ_BACK_NS;
    written->pause_ns = 0;
    written->is_read = false;
    return written->fault;
}

bool written_read_back(struct written *written, const struct device *device, struct link *link,
                       enum fault *fault, bool *over)
{
    const int64_t timeout_ns = device->modbus.timeout_ns;
    const struct point *row = written->row;
    const uint16_t width = (uint16_t)point_width(row);
    uint16_t now[OUTCOME_WORDS_MAX] = {0};
    bool agrees = false;
    *fault = link_open(link, timeout_ns);
    if (*fault == FAULT_NONE)
        *fault = link_read(link, (uint8_t)device->modbus.address, row->table, row->address, width,
                           now, timeout_ns);
    if (*fault == FAULT_NONE) {
        written->value = codec_decode(row, now);
        written->is_read = written->value.state == VALUE_READ;
        agrees = memcmp(now, written->words, width * sizeof(now[0])) == 0;
    }
    written->pause_ns = clock_mono_ns();
    *over = agrees || written->pause_ns >= written->until_ns;
    written->pause_ns += WRITTEN_PAUSE_NS;
    return agrees;
}
