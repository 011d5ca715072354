/* Any registers under any row: what is decoded prints as a JSON number, and
 * what is printed leads back to the same registers. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "devices/registers/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
    if (!good)
        abort();
}

/* RFC 8259, section 6. */
static bool is_json_number(const char *text)
{
    static const char DIGITS[] = "0123456789";
    text += *text == '-';
    size_t whole = strspn(text, DIGITS);
    if (whole == 0 || (whole > 1 && *text == '0'))
        return false;
    text += whole;
    if (*text == '.') {
        size_t fraction = strspn(text + 1, DIGITS);
        if (fraction == 0)
            return false;
        text += 1 + fraction;
    }
    if (*text == 'e') {
        text += 1 + (text[1] == '-' || text[1] == '+');
        size_t exponent = strspn(text, DIGITS);
        if (exponent == 0)
            return false;
        text += exponent;
    }
    return *text == '\0';
}

enum { WORDS = 4 };

static bool is_number(const struct point *point)
{
    return point->type != POINT_BOOL && point->type != POINT_STRING;
}

/* A row as the profile reader lets it pass. */
static struct point a_point(const uint8_t *data, double scale, double offset)
{
    struct point point = {
        .table = data[0] & 8 ? POINT_COIL : POINT_HOLDING,
        .type = (enum point_type)(data[1] % POINT_TYPES),
        .order = (enum point_order)(data[2] % (POINT_DCBA + 1)),
        .registers = (uint8_t)(1 + data[5] % WORDS),
        .scale = 1,
    };
    if (point.table == POINT_COIL)
        point.type = POINT_BOOL;
    if (point.type == POINT_INT8 || point.type == POINT_UINT8)
        point.high_byte = data[0] & 16;
    unsigned width = 16 * point_width(&point);
    bool binary = point.type <= POINT_UINT64 || point.type == POINT_BOOL ||
                  point.type == POINT_INT48 || point.type == POINT_UINT48;
    if (binary && point.table == POINT_HOLDING && (data[0] & 1 || point.type == POINT_BOOL)) {
        point.bit = (uint8_t)(data[3] % width);
        point.bits = (uint8_t)(point.type == POINT_BOOL ? 1 : 1 + data[4] % (width - point.bit));
    }
    if (is_number(&point) && data[0] & 2 && isfinite(scale) && scale != 0)
        point.scale = scale;
    if (is_number(&point) && data[0] & 4 && isfinite(offset))
        point.offset = offset;
    return point;
}

/* A JSON string: quotes around what is neither control character nor lone quote. */
static bool is_json_text(const char *text)
{
    const size_t length = strlen(text);
    if (length < 2 || text[0] != '"' || text[length - 1] != '"')
        return false;
    for (size_t i = 1; i < length - 1; i++) {
        if ((unsigned char)text[i] < ' ' || text[i] == '"')
            return false;
        if (text[i] == '\\' && ++i >= length - 1)
            return false;
    }
    return true;
}

static bool is_as_printed(const struct point *point, const struct value *value, const char *text)
{
    if (point->type == POINT_STRING)
        return is_json_text(text);
    if (point->type == POINT_BOOL)
        return strcmp(text, value->raw ? "true" : "false") == 0;
    return is_json_number(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct {
        uint8_t shape[8];
        double scale, offset, number;
        uint16_t words[WORDS];
    } input;
    if (size < sizeof input)
        return 0;
    memcpy(&input, data, sizeof input);
    struct point point = a_point(input.shape, input.scale, input.offset);

    char text[CODEC_TEXT_MAX];
    struct value value = codec_decode(&point, input.words);
    if (value.state == VALUE_READ) {
        check(isfinite(value.number));
        check(codec_print(&point, &value, text) == strlen(text));
        check(is_as_printed(&point, &value, text));
    } else {
        check(value.state == VALUE_FAULT &&
              (value.fault == FAULT_NOT_FINITE ||
               (value.fault == FAULT_IMPLAUSIBLE && point.type >= POINT_BCD16)));
    }

    /* Exactly back, wherever the row is a plain one. */
    uint16_t again[WORDS];
    bool plain = point.scale == 1 && point.offset == 0 && codec_is_writable(&point);
    if (plain && value.state == VALUE_READ && point.type != POINT_BOOL && value.number != 0 &&
        point.type != POINT_INT64 && point.type != POINT_UINT64 && point.type < POINT_M10K32) {
        check(codec_encode(&point, strtod(text, NULL), again) == CODEC_FITS);
        check(memcmp(again, input.words, point_width(&point) * sizeof *again) == 0);
    }

    /* A number that fits a plain row reads back as itself, floats rounded. */
    if (codec_encode(&point, input.number, again) == CODEC_FITS) {
        check(isfinite(input.number) && codec_is_writable(&point));
        value = codec_decode(&point, again);
        if (plain && point.type != POINT_FLOAT32)
            check(value.state == VALUE_READ && value.number == input.number);
    }
    codec_print_number(input.number, text);
    check(isfinite(input.number) ? strtod(text, NULL) == input.number : strcmp(text, "null") == 0);
    return 0;
}
