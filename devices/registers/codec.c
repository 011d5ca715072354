#include "devices/registers/codec.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_decimal(enum point_type type)
{
    return type == POINT_BCD16 || type == POINT_BCD32 || type == POINT_M10K32 ||
           type == POINT_M10K48 || type == POINT_M10K64;
}

/* The words of a number hold its 16-bit pieces, most significant first, after
 * this renaming of positions and bytes; it is its own inverse. */
static uint16_t word_at(const struct point *point, const uint16_t *words, unsigned index)
{
    bool reversed = point->order == POINT_CDAB || point->order == POINT_DCBA;
    bool swapped = point->order == POINT_BADC || point->order == POINT_DCBA;
    if (!point_has_registers(point))
        return words[0]; /* a bit has no order */
    if (point->type == POINT_STRING)
        reversed = false; /* the first characters come first */
    uint16_t word = words[reversed ? point_width(point) - 1 - index : index];
    if (swapped)
        word = (uint16_t)(word << 8 | word >> 8);
    return word;
}

/* What the base of the type makes of the words: binary, or digits that have to be
 * ones. False when they are not. */
static bool pack(const struct point *point, const uint16_t *words, uint64_t *raw)
{
    int64_t sum = 0;
    uint64_t bits = 0;
    for (unsigned i = 0; i < point_width(point); i++) {
        uint16_t word = word_at(point, words, i);
        int part = (int16_t)word;
        bits = bits << 16 | word;
        switch (point->type) {
        case POINT_BCD16:
        case POINT_BCD32:
            for (int shift = 12; shift >= 0; shift -= 4) {
                if ((word >> shift & 0xf) > 9)
                    return false;
                sum = 10 * sum + (word >> shift & 0xf);
            }
            break;
        case POINT_M10K32:
        case POINT_M10K48:
        case POINT_M10K64:
            if (part > 9999 || part < -9999)
                return false;
            sum = 10000 * sum + part;
            break;
        default:
            break;
        }
    }
    *raw = is_decimal(point->type) ? (uint64_t)sum : bits;
    return true;
}

/* The number within the bits of the registers, its sign extended. */
static uint64_t cut(const struct point *point, uint64_t raw)
{
    if (is_decimal(point->type) || point_is_float(point->type))
        return raw;
    unsigned spare = 64 - point_bits(point);
    unsigned lowest = point->high_byte ? 8 : point->bit;
    uint64_t top = raw >> lowest << spare;
    return point_is_signed(point->type) ? (uint64_t)((int64_t)top >> spare) : top >> spare;
}

static float single_of(uint64_t raw)
{
    uint32_t half = (uint32_t)raw;
    float single;
    memcpy(&single, &half, sizeof single);
    return single;
}

/* Schneider's power factor (user manuals of the iEM3000 series, DOCA0005EN, and of the
 * PM5500 series, "Power factor register format"): beyond 1 the register is 2 minus it,
 * below -1 it is -2 minus it, by which two of the four quadrants are told from the others. */
static float unfold(float single)
{
    return fabsf(single) > 1 ? copysignf(2, single) - single : single;
}

static double raw_to_double(enum point_type type, uint64_t raw)
{
    double number;
    switch (type) {
    case POINT_FLOAT32:
        return (double)single_of(raw);
    case POINT_4Q_FP_PF:
        return (double)unfold(single_of(raw));
    case POINT_FLOAT64:
        memcpy(&number, &raw, sizeof number);
        return number;
    default:
        return point_is_signed(type) ? (double)(int64_t)raw : (double)raw;
    }
}

static double power_of_ten(int exponent)
{
    double power = 1;
    while (exponent-- > 0)
        power *= 10;
    return power;
}

/* `number` times 10^exponent: a division is exact where a factor of 0.1 is not. */
static double shift(double number, int exponent)
{
    return exponent < 0 ? number / power_of_ten(-exponent) : number * power_of_ten(exponent);
}

double codec_number(const struct point *point, uint64_t raw, int exponent)
{
    double number = raw_to_double(point->type, raw) * point->scale;
    return (exponent != 0 ? shift(number, exponent) : number) + point->offset;
}

/* A text ends with its registers or a NUL; blanks behind it fill a field. What is not
 * ASCII and printable becomes '?': makers have code pages of their own. */
static void decode_text(const struct point *point, const uint16_t *words, struct value *value)
{
    size_t length = 0, used = 0;
    for (unsigned i = 0; i < 2 * point_width(point); i++) {
        unsigned byte = word_at(point, words, i / 2) >> (i % 2 ? 0 : 8) & 0xff;
        if (byte == 0)
            break;
        value->text[length++] = (char)(byte >= 0x20 && byte < 0x7f ? byte : '?');
        if (byte != ' ')
            used = length;
    }
    value->text[used] = '\0';
    value->raw = UINT64_C(0xcbf29ce484222325); /* FNV-1a, tools.ietf.org/html/draft-eastlake-fnv */
    for (const char *at = value->text; *at; at++)
        value->raw = (value->raw ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
    value->number = 0;
}

static void set_fault(struct value *value, enum fault fault)
{
    value->state = VALUE_FAULT;
    value->fault = (int)fault;
}

void codec_decode_into(const struct point *point, const uint16_t *words, struct value *value)
{
    value->state = VALUE_READ;
    value->fault = FAULT_NONE;
    value->exponent = 0;
    value->raw = 0; /* pack() leaves it alone where there are no digits */
    if (point->type == POINT_STRING) {
        decode_text(point, words, value);
        return;
    }
    if (!point_has_registers(point))
        value->raw = words[0] != 0;
    else if (pack(point, words, &value->raw))
        value->raw = cut(point, value->raw);
    else
        set_fault(value, FAULT_IMPLAUSIBLE);
    value->number = codec_number(point, value->raw, 0);
    if (value->state == VALUE_READ && !isfinite(value->number))
        set_fault(value, FAULT_NOT_FINITE);
    else if (point->type == POINT_4Q_FP_PF && fabsf(single_of(value->raw)) > 2)
        set_fault(value, FAULT_IMPLAUSIBLE);
}

struct value codec_decode(const struct point *point, const uint16_t *words)
{
    struct value value;
    codec_decode_into(point, words, &value);
    return value;
}

void codec_rescale(const struct point *point, const struct value *scale, struct value *value)
{
    if (value->state != VALUE_READ)
        return;
    if (scale->state != VALUE_READ || !(fabs(scale->number) <= POINT_EXPONENT_MAX)) {
        set_fault(value,
                  scale->state == VALUE_FAULT ? (enum fault)scale->fault : FAULT_IMPLAUSIBLE);
        return;
    }
    value->exponent = (int)scale->number;
    value->number = codec_number(point, value->raw, value->exponent);
    if (!isfinite(value->number))
        set_fault(value, FAULT_NOT_FINITE);
}

/* The whole numbers from *low to below *end that the type can hold. */
static void range_of(const struct point *point, double *low, double *end)
{
    int bits = (int)point_bits(point);
    if (is_decimal(point->type)) {
        *end = pow(10, 4 * point_width(point));
        *low = point_is_signed(point->type) ? 1 - *end : 0;
    } else {
        *low = point_is_signed(point->type) ? -ldexp(1, bits - 1) : 0;
        *end = ldexp(1, point_is_signed(point->type) ? bits - 1 : bits);
    }
}

bool codec_holds(const struct point *point, double whole)
{
    double low, end;
    range_of(point, &low, &end);
    return whole >= low && whole < end;
}

/* Integers and bits: what the register holds must be a whole number. */
static enum codec_fit fit_integer(const struct point *point, double scale, double number,
                                  double exact, uint64_t *raw)
{
    double whole = round(exact);
    if (!codec_holds(point, whole))
        return CODEC_OUT_OF_RANGE;

    /* 5.3 / 0.1 is 52.99999999999999: forgive what rounding of the number, the
     * offset and the scale to doubles can have done, and nothing else. */
    bool rounds = trunc(scale) != scale || trunc(point->offset) != point->offset;
    double slack =
        rounds ? 4 * DBL_EPSILON * (fabs(number) + fabs(point->offset)) / fabs(scale) : 0;
    if (fabs(exact - whole) > slack)
        return CODEC_OFF_STEP;

    *raw = whole < 0 ? (uint64_t)(int64_t)whole : (uint64_t)whole;
    return CODEC_FITS;
}

static enum codec_fit fit(const struct point *point, double scale, double number, uint64_t *raw)
{
    double exact = (number - point->offset) / scale + 0.0; /* never the zero with a sign */
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
        return fit_integer(point, scale, number, exact, raw);
    }
}

bool codec_is_writable(const struct point *point)
{
    return point->bits == 0 && point->scale_row == 0 && point->type != POINT_STRING &&
           point->type != POINT_INT8 && point->type != POINT_UINT8 && point->type != POINT_UINT24 &&
           point->type != POINT_4Q_FP_PF;
}

enum codec_fit codec_encode(const struct point *point, double number, uint16_t *words)
{
    if (!codec_is_writable(point))
        return CODEC_OUT_OF_RANGE;
    uint64_t raw;
    enum codec_fit result = fit(point, point->scale, number, &raw);
    if (result != CODEC_FITS)
        return result;

    unsigned width = point_width(point);
    uint16_t plain[POINT_NUMBER_WORDS_MAX];
    bool negative = is_decimal(point->type) && (int64_t)raw < 0;
    bool bcd = point->type == POINT_BCD16 || point->type == POINT_BCD32;
    if (negative)
        raw = -raw;
    for (unsigned i = width; i-- > 0; raw = is_decimal(point->type) ? raw / 10000 : raw >> 16) {
        unsigned part = (unsigned)(raw % 10000);
        if (bcd)
            part = part / 1000 << 12 | part / 100 % 10 << 8 | part / 10 % 10 << 4 | part % 10;
        plain[i] = is_decimal(point->type) ? (uint16_t)(negative ? -part : part) : (uint16_t)raw;
    }
    for (unsigned i = 0; i < width; i++)
        words[i] = word_at(point, plain, i);
    return CODEC_FITS;
}

double codec_step(const struct point *point)
{
    return point_is_float(point->type) ? 0 : fabs(point->scale);
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

/* Whether this number leads back to the register's own content. */
static bool leads_back(const struct point *point, double scale, double number,
                       const struct value *value)
{
    uint64_t raw;
    if (point->type == POINT_4Q_FP_PF) {
        const double exact = (number - point->offset) / scale;
        const float held = single_of(value->raw);
        return (float)(fabsf(held) > 1 ? copysign(2, (double)held) - exact : exact) == held;
    }
    return fit(point, scale, number, &raw) == CODEC_FITS && raw == value->raw;
}

/* The fewest digits that do so. An integer with a scale has its exact decimal in the
 * first 15 digits nearly always. */
static size_t print_real(const struct point *point, const struct value *value,
                         char text[CODEC_TEXT_MAX])
{
    bool single = point->type == POINT_FLOAT32 || point->type == POINT_4Q_FP_PF;
    double scale = shift(point->scale, value->exponent);
    int digits = single ? FLT_DIG + 1 : DBL_DIG;
    int most = single ? FLT_DECIMAL_DIG : DBL_DECIMAL_DIG;
    char printed[2 * CODEC_NUMBER_MAX];
    do {
        snprintf(printed, sizeof printed, "%.*g", digits, value->number);
    } while (digits++ < most && !leads_back(point, scale, strtod(printed, NULL), value));
    return to_json(printed, text);
}

/* In quotes; the text is printable ASCII. */
static size_t print_text(const char *from, char text[CODEC_TEXT_MAX])
{
    size_t length = 0;
    text[length++] = '"';
    for (; *from; from++) {
        if (*from == '"' || *from == '\\')
            text[length++] = '\\';
        text[length++] = *from;
    }
    text[length++] = '"';
    text[length] = '\0';
    return length;
}

size_t codec_print(const struct point *point, const struct value *value, char text[CODEC_TEXT_MAX])
{
    if (point->type == POINT_BOOL) {
        strcpy(text, value->raw ? "true" : "false");
        return strlen(text);
    }
    if (point->type == POINT_STRING)
        return print_text(value->text, text);
    if (value->number == 0) /* never "-0" */
        return print_integer(0, false, text);

    if (!point_is_float(point->type) && fabs(point->scale) == 1 && point->offset == 0 &&
        value->exponent == 0) {
        bool negative = point_is_signed(point->type) && (int64_t)value->raw < 0;
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
    uint16_t words[POINT_NUMBER_WORDS_MAX] = {0};
    char text[CODEC_TEXT_MAX];
    if (point->type == POINT_BOOL || codec_encode(point, number, words) != CODEC_FITS)
        return number;
    const struct value value = codec_decode(point, words);
    codec_print(point, &value, text);
    return strtod(text, NULL);
}
