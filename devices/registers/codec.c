#include "devices/registers/codec.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The words of a number hold its 16-bit pieces, most significant first, after
 * this renaming of positions and bytes; it is its own inverse. */
static uint16_t word_at(const struct point *point, const uint16_t *words, unsigned index)
{
    unsigned width = point_width(point);
    if (width == 1)
        return words[0];
    bool reversed = point->order == POINT_CDAB || point->order == POINT_DCBA;
    bool swapped = point->order == POINT_BADC || point->order == POINT_DCBA;
    uint16_t word = words[reversed ? width - 1 - index : index];
    if (swapped)
        word = (uint16_t)(word << 8 | word >> 8);
    return word;
}

static bool is_signed(enum point_type type)
{
    return type == POINT_INT16 || type == POINT_INT32 || type == POINT_INT64;
}

/* Width in bits of an integer point, or of the bit field within it. */
static unsigned bits_of(const struct point *point)
{
    if (point->bits)
        return point->bits;
    return point->type == POINT_BOOL ? 1 : 16 * point_width(point);
}

static uint64_t raw_of(const struct point *point, const uint16_t *words)
{
    if (point->table == POINT_COIL || point->table == POINT_DISCRETE)
        return words[0] != 0;

    uint64_t raw = 0;
    for (unsigned i = 0; i < point_width(point); i++)
        raw = raw << 16 | word_at(point, words, i);
    if (point->type == POINT_FLOAT32 || point->type == POINT_FLOAT64)
        return raw;

    unsigned spare = 64 - bits_of(point);
    uint64_t top = raw >> point->bit << spare;
    return is_signed(point->type) ? (uint64_t)((int64_t)top >> spare) : top >> spare;
}

static double raw_to_double(enum point_type type, uint64_t raw)
{
    uint32_t half = (uint32_t)raw;
    float single;
    double number;
    switch (type) {
    case POINT_FLOAT32:
        memcpy(&single, &half, sizeof single);
        return (double)single;
    case POINT_FLOAT64:
        memcpy(&number, &raw, sizeof number);
        return number;
    default:
        return is_signed(type) ? (double)(int64_t)raw : (double)raw;
    }
}

struct value codec_decode(const struct point *point, const uint16_t *words)
{
    struct value value = {.state = VALUE_READ, .raw = raw_of(point, words)};
    value.number = raw_to_double(point->type, value.raw) * point->scale + point->offset;
    if (!isfinite(value.number)) {
        value.state = VALUE_FAULT;
        value.fault = FAULT_NOT_FINITE;
    }
    return value;
}

/* Integers and bits: what the register holds must be a whole number. */
static enum codec_fit fit_integer(const struct point *point, double number, double exact,
                                  uint64_t *raw)
{
    double whole = round(exact);
    int bits = (int)bits_of(point);
    double low = is_signed(point->type) ? -ldexp(1, bits - 1) : 0;
    double end = ldexp(1, is_signed(point->type) ? bits - 1 : bits);
    if (whole < low || whole >= end)
        return CODEC_OUT_OF_RANGE;

    /* 5.3 / 0.1 is 52.99999999999999: forgive what rounding of the number, the
     * offset and the scale to doubles can have done, and nothing else. */
    bool rounds = trunc(point->scale) != point->scale || trunc(point->offset) != point->offset;
    double slack =
        rounds ? 4 * DBL_EPSILON * (fabs(number) + fabs(point->offset)) / fabs(point->scale) : 0;
    if (fabs(exact - whole) > slack)
        return CODEC_OFF_STEP;

    *raw = whole < 0 ? (uint64_t)(int64_t)whole : (uint64_t)whole;
    return CODEC_FITS;
}

static enum codec_fit fit(const struct point *point, double number, uint64_t *raw)
{
    double exact = (number - point->offset) / point->scale;
    if (!isfinite(exact))
        return CODEC_OUT_OF_RANGE;

    uint32_t half;
    float single;
    switch (point->type) {
    case POINT_FLOAT32:
        if (fabs(exact) >= 0x1.ffffffp127) /* rounds to infinity */
            return CODEC_OUT_OF_RANGE;
        single = (float)exact;
        memcpy(&half, &single, sizeof half);
        *raw = half;
        return CODEC_FITS;
    case POINT_FLOAT64:
        memcpy(raw, &exact, sizeof *raw);
        return CODEC_FITS;
    default:
        return fit_integer(point, number, exact, raw);
    }
}

enum codec_fit codec_encode(const struct point *point, double number, uint16_t *words)
{
    if (point->bits)
        return CODEC_OUT_OF_RANGE;
    uint64_t raw;
    enum codec_fit result = fit(point, number, &raw);
    if (result != CODEC_FITS)
        return result;

    unsigned width = point_width(point);
    uint16_t plain[4];
    for (unsigned i = width; i-- > 0; raw >>= 16)
        plain[i] = (uint16_t)raw;
    for (unsigned i = 0; i < width; i++)
        words[i] = word_at(point, plain, i);
    return CODEC_FITS;
}

double codec_step(const struct point *point)
{
    bool is_float = point->type == POINT_FLOAT32 || point->type == POINT_FLOAT64;
    return is_float ? 0 : fabs(point->scale);
}

static size_t print_integer(uint64_t magnitude, bool negative, char text[CODEC_TEXT_MAX])
{
    char digits[20]; /* 2^64 - 1 has 20 */
    size_t n = 0, length = 0;
    do {
        digits[n++] = (char)('0' + magnitude % 10);
        magnitude /= 10;
    } while (magnitude);
    if (negative)
        text[length++] = '-';
    while (n)
        text[length++] = digits[--n];
    text[length] = '\0';
    return length;
}

/* printf writes the locale's decimal point, of one byte or more; JSON has '.'. */
static size_t to_json(const char *printed, char text[CODEC_TEXT_MAX])
{
    size_t length = 0;
    for (; *printed && length < CODEC_TEXT_MAX - 1; printed++) {
        if (strchr("0123456789+-e", *printed))
            text[length++] = *printed;
        else if (length && text[length - 1] != '.')
            text[length++] = '.';
    }
    text[length] = '\0';
    return length;
}

/* The fewest digits that lead back to the register's own content. An integer
 * with a scale has its exact decimal in the first 15 digits nearly always. */
static size_t print_real(const struct point *point, const struct value *value,
                         char text[CODEC_TEXT_MAX])
{
    bool single = point->type == POINT_FLOAT32;
    int digits = single ? FLT_DIG + 1 : DBL_DIG;
    int most = single ? FLT_DECIMAL_DIG : DBL_DECIMAL_DIG;
    char printed[2 * CODEC_TEXT_MAX];
    uint64_t raw;
    do {
        snprintf(printed, sizeof printed, "%.*g", digits, value->number);
    } while (digits++ < most &&
             !(fit(point, strtod(printed, NULL), &raw) == CODEC_FITS && raw == value->raw));
    return to_json(printed, text);
}

size_t codec_print(const struct point *point, const struct value *value, char text[CODEC_TEXT_MAX])
{
    if (point->type == POINT_BOOL) {
        strcpy(text, value->raw ? "true" : "false");
        return strlen(text);
    }
    if (value->number == 0) /* never "-0" */
        return print_integer(0, false, text);

    bool is_float = point->type == POINT_FLOAT32 || point->type == POINT_FLOAT64;
    if (!is_float && fabs(point->scale) == 1 && point->offset == 0) {
        bool negative = is_signed(point->type) && (int64_t)value->raw < 0;
        uint64_t magnitude = negative ? -value->raw : value->raw;
        return print_integer(magnitude, negative != (point->scale < 0), text);
    }
    return print_real(point, value, text);
}

size_t codec_print_number(double number, char text[CODEC_TEXT_MAX])
{
    static const struct point plain = {.type = POINT_FLOAT64, .scale = 1};
    if (!isfinite(number)) {
        strcpy(text, "null");
        return strlen(text);
    }
    struct value value = {.state = VALUE_READ, .number = number};
    memcpy(&value.raw, &number, sizeof value.raw);
    return codec_print(&plain, &value, text);
}

double codec_decimal(const struct point *point, double number)
{
    uint16_t words[4] = {0};
    char text[CODEC_TEXT_MAX];
    if (point->type == POINT_BOOL || codec_encode(point, number, words) != CODEC_FITS)
        return number;
    const struct value value = codec_decode(point, words);
    codec_print(point, &value, text);
    return strtod(text, NULL);
}
