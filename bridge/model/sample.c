#include "bridge/model/sample.h"

#include <math.h>
#include <string.h>

#include "devices/lines/fault.h"
#include "devices/registers/codec.h"

/* version, flags, ts, run, seq, number of points, quality */
enum { VERSION = 2, HAS_ENERGY = 1, HEAD = 1 + 1 + 8 + SAMPLE_RUN_MAX + 8 + 2 + 1 };

/* One byte a point: its fault, or one of these. Version 1 had no IS_RAW. */
enum {
    IS_ABSENT = 0,
    IS_RAW = 240,    /* plus a number of bytes, 0 to 8: raw in so many, which says the number */
    IS_SCALED = 253, /* a power of ten that was read along, raw and number follow */
    IS_TEXT = 254,   /* its length and its bytes */
    IS_READ = 255    /* raw and number */
};
_Static_assert((int)FAULT_COUNT < IS_RAW, "a fault is one byte");
_Static_assert(POINT_TEXT_MAX < 256 && POINT_TEXT_MAX >= 17, "a text is the longest value");

struct layout sample_layout(const struct device *device)
{
    struct layout layout = {.n_points = device->n_points, .points = device->points};
    memcpy(layout.device, device->name, sizeof(layout.device));
    return layout;
}

enum sample_quality sample_quality(const struct value *values, unsigned n)
{
    unsigned read = 0, failed = 0;
    for (unsigned i = 0; i < n; i++) {
        read += values[i].state == VALUE_READ;
        failed += values[i].state == VALUE_FAULT;
    }
    return failed == 0 ? SAMPLE_GOOD : read > 0 ? SAMPLE_PARTIAL : SAMPLE_BAD;
}

const char *sample_quality_word(enum sample_quality quality)
{
    return quality == SAMPLE_GOOD ? "good" : quality == SAMPLE_PARTIAL ? "partial" : "bad";
}

/* ---- bytes ---- */

static unsigned char *put(unsigned char *at, uint64_t number, unsigned size)
{
    for (unsigned i = 0; i < size; i++, number >>= 8)
        *at++ = (unsigned char)number;
    return at;
}

static uint64_t take(const unsigned char **at, unsigned size)
{
    uint64_t number = 0;
    for (unsigned i = size; i-- > 0;)
        number = number << 8 | (*at)[i];
    *at += size;
    return number;
}

static uint64_t bits_of(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof(bits));
    return bits;
}

static unsigned char *put_double(unsigned char *at, double number)
{
    return put(at, bits_of(number), 8);
}

static double take_double(const unsigned char **at)
{
    const uint64_t bits = take(at, 8);
    double number;
    memcpy(&number, &bits, sizeof(number));
    return number;
}

/* Whether raw and the point say the number. */
static bool is_told_by_raw(const struct point *point, const struct value *value)
{
    const double number = codec_number(point, value->raw, 0);
    return value->exponent == 0 && bits_of(number) == bits_of(value->number);
}

static unsigned bytes_of(uint64_t raw)
{
    unsigned n = 0;
    for (; raw != 0; raw >>= 8)
        n++;
    return n;
}

static unsigned kind_of(const struct point *point, const struct value *value)
{
    if (value->state != VALUE_READ)
        return value->state == VALUE_FAULT ? (unsigned)value->fault : IS_ABSENT;
    if (point->type == POINT_STRING)
        return IS_TEXT;
    if (is_told_by_raw(point, value))
        return IS_RAW + bytes_of(value->raw);
    return value->exponent != 0 ? IS_SCALED : IS_READ;
}

/* Of a value and its kind. */
static size_t size_of(unsigned kind, const struct value *value)
{
    return kind == IS_TEXT     ? 2 + strlen(value->text)
           : kind == IS_SCALED ? 18U
           : kind == IS_READ   ? 17U
           : kind >= IS_RAW    ? 1U + kind - IS_RAW
                               : 1U;
}

static unsigned char *put_value(unsigned char *at, unsigned kind, const struct value *value)
{
    at = put(at, kind, 1);
    if (kind == IS_TEXT) {
        const size_t length = strlen(value->text);
        at = put(at, length, 1);
        memcpy(at, value->text, length);
        return at + length;
    }
    if (kind == IS_READ || kind == IS_SCALED) {
        if (kind == IS_SCALED)
            at = put(at, (uint8_t)value->exponent, 1);
        return put_double(put(at, value->raw, 8), value->number);
    }
    return kind >= IS_RAW ? put(at, value->raw, kind - IS_RAW) : at;
}

size_t sample_packed_most(const struct device *device)
{
    size_t size = HEAD + 16;
    for (unsigned i = 0; i < device->n_points; i++)
        size += device->points[i].type == POINT_STRING ? 2 + POINT_TEXT_MAX : 18;
    return size;
}

size_t sample_pack(const struct sample *sample, unsigned char *bytes, size_t size)
{
    unsigned char *at = bytes;
    const unsigned char *end = bytes + size;
    if (size < HEAD + (sample->has_energy ? 16U : 0U))
        return 0;
    at = put(at, VERSION, 1);
    at = put(at, sample->has_energy ? HAS_ENERGY : 0, 1);
    at = put(at, (uint64_t)sample->ts_ms, 8);
    memcpy(at, sample->run, SAMPLE_RUN_MAX);
    at = put(at + SAMPLE_RUN_MAX, sample->seq, 8);
    at = put(at, sample->layout->n_points, 2);
    at = put(at, sample->quality, 1);
    if (sample->has_energy)
        at = put_double(put_double(at, sample->charged_kwh), sample->discharged_kwh);
    for (unsigned i = 0; i < sample->layout->n_points; i++) {
        const struct value *value = &sample->values[i];
        const unsigned kind = kind_of(&sample->layout->points[i], value);
        if ((size_t)(end - at) < size_of(kind, value))
            return 0;
        at = put_value(at, kind, value);
    }
    return (size_t)(at - bytes);
}

/* What is printed between quotes as it is. */
static bool is_run(const char *run)
{
    return strspn(run, "0123456789abcdef") == strlen(run);
}

/* A text that codec_decode() could have made: it goes between quotes. */
static bool take_text(const unsigned char **at, const unsigned char *end, struct value *value)
{
    const size_t length = *at < end ? (size_t)take(at, 1) : SIZE_MAX;
    if (length > POINT_TEXT_MAX || (size_t)(end - *at) < length)
        return false;
    for (size_t i = 0; i < length; i++, (*at)++) {
        if (**at < 0x20 || **at >= 0x7f)
            return false;
        value->text[i] = (char)**at;
    }
    value->text[length] = '\0';
    return true;
}

static bool take_number(const unsigned char **at, const unsigned char *end, bool scaled,
                        struct value *value)
{
    if (end - *at < (scaled ? 17 : 16))
        return false;
    value->exponent = scaled ? (int8_t)take(at, 1) : 0;
    value->raw = take(at, 8);
    value->number = take_double(at);
    return isfinite(value->number) && value->exponent >= -POINT_EXPONENT_MAX &&
           value->exponent <= POINT_EXPONENT_MAX;
}

static bool take_raw(const struct point *point, const unsigned char **at, const unsigned char *end,
                     unsigned n_bytes, struct value *value)
{
    if (n_bytes > 8 || (size_t)(end - *at) < n_bytes)
        return false;
    value->raw = take(at, n_bytes);
    value->number = codec_number(point, value->raw, 0);
    return isfinite(value->number);
}

/* The next value, of this point. */
static bool unpack_value(const struct point *point, const unsigned char **at,
                         const unsigned char *end, struct value *value)
{
    const unsigned kind = (unsigned)take(at, 1);
    value->state = VALUE_READ;
    value->fault = value->exponent = 0;
    value->number = 0;
    value->raw = 0;
    value->text[0] = '\0';
    if (kind < FAULT_COUNT) {
        value->state = kind == IS_ABSENT ? VALUE_ABSENT : VALUE_FAULT;
        value->fault = (int)kind;
        return true;
    }
    if (kind == IS_TEXT || point->type == POINT_STRING)
        return kind == IS_TEXT && point->type == POINT_STRING && take_text(at, end, value);
    if (kind == IS_READ || kind == IS_SCALED)
        return take_number(at, end, kind == IS_SCALED, value);
    return kind >= IS_RAW && take_raw(point, at, end, kind - IS_RAW, value);
}

static bool unpack_values(const struct layout *layout, const unsigned char *at,
                          const unsigned char *end, struct value *values)
{
    for (unsigned i = 0; i < layout->n_points; i++) {
        if (at == end || !unpack_value(&layout->points[i], &at, end, &values[i]))
            return false;
    }
    return at == end;
}

int64_t sample_packed_ts_ms(const unsigned char *bytes, size_t size)
{
    const unsigned char *at = bytes + 2; /* behind version and flags */
    return size >= HEAD && bytes[0] == VERSION ? (int64_t)take(&at, 8) : 0;
}

bool sample_unpack(const struct layout *layout, const unsigned char *bytes, size_t size,
                   struct sample *sample, struct value *values)
{
    const unsigned char *at = bytes, *end = bytes + size;
    struct sample read = {.layout = layout, .values = values};
    if (layout->is_text || size < HEAD || (*at != 1 && *at != VERSION))
        return false;
    at++;
    const uint64_t flags = take(&at, 1);
    read.ts_ms = (int64_t)take(&at, 8);
    memcpy(read.run, at, SAMPLE_RUN_MAX);
    at += SAMPLE_RUN_MAX;
    read.seq = take(&at, 8);
    const uint64_t n_points = take(&at, 2), quality = take(&at, 1);
    if (flags > HAS_ENERGY || !is_run(read.run) || n_points != layout->n_points ||
        quality > SAMPLE_BAD)
        return false;
    read.quality = (enum sample_quality)quality;
    read.has_energy = flags == HAS_ENERGY;
    if (read.has_energy && end - at < 16)
        return false;
    if (read.has_energy) {
        read.charged_kwh = take_double(&at);
        read.discharged_kwh = take_double(&at);
        if (!isfinite(read.charged_kwh) || !isfinite(read.discharged_kwh))
            return false;
    }
    if (!unpack_values(layout, at, end, values))
        return false;
    *sample = read;
    return true;
}
