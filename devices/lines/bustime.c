#include "devices/lines/bustime.h"

static const int64_t NS_PER_S = 1000000000;

enum {
    REQUEST_BYTES = 8,      /* unit, function, address, count, CRC */
    ANSWER_BYTES = 5,       /* unit, function, size, CRC */
    GAP_HALF_CHARACTERS = 7 /* 3.5 characters */
};

static int64_t characters_ns(const struct device_modbus *modbus, int64_t half_characters)
{
    int64_t bits =
        1 + modbus->data_bits + (modbus->parity != DEVICE_PARITY_NONE) + modbus->stop_bits;
    return half_characters * bits * NS_PER_S / (2 * modbus->baud);
}

int64_t bustime_gap_ns(const struct device_modbus *modbus)
{
    return modbus->baud > 19200 ? 1750000 : characters_ns(modbus, GAP_HALF_CHARACTERS);
}

int64_t bustime_read_ns(const struct device_modbus *modbus, enum point_table table, uint16_t count)
{
    bool bits = table == POINT_COIL || table == POINT_DISCRETE;
    int64_t bytes = REQUEST_BYTES + ANSWER_BYTES + (bits ? (count + 7) / 8 : 2 * count);
    /* ASCII: two digits a byte; in each frame the checksum is one byte less, and three
     * characters stand around it. */
    if (modbus->framing == DEVICE_ASCII)
        bytes = 2 * (bytes - 2) + 6;
    return characters_ns(modbus, 2 * bytes) + 2 * bustime_gap_ns(modbus);
}
