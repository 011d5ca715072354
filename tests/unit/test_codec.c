#include "codec_bed.h"

#include <float.h>
#include <locale.h>
#include <math.h>

static const char *printed(const struct point *point, const uint16_t *words)
{
    static char text[CODEC_TEXT_MAX];
    struct value value = codec_decode(point, words);
    assert_int_equal(value.state, VALUE_READ);
    size_t length = codec_print(point, &value, text);
    assert_int_equal(length, strlen(text));
    return text;
}

static void every_type_has_its_width(void **state)
{
    (void)state;
    static const unsigned widths[] = {
        [POINT_INT16] = 1,   [POINT_UINT16] = 1, [POINT_INT32] = 2,   [POINT_UINT32] = 2,
        [POINT_INT64] = 4,   [POINT_UINT64] = 4, [POINT_FLOAT32] = 2, [POINT_FLOAT64] = 4,
        [POINT_BOOL] = 1,    [POINT_INT8] = 1,   [POINT_UINT8] = 1,   [POINT_UINT24] = 2,
        [POINT_INT48] = 3,   [POINT_UINT48] = 3, [POINT_BCD16] = 1,   [POINT_BCD32] = 2,
        [POINT_M10K32] = 2,  [POINT_M10K48] = 3, [POINT_M10K64] = 4,  [POINT_4Q_FP_PF] = 2,
        [POINT_STRING] = 20,
    };
    assert_int_equal(COUNT(widths), POINT_TYPES);
    for (unsigned type = 0; type < COUNT(widths); type++) {
        struct point point = a_point((enum point_type)type);
        point.registers = 20;
        assert_int_equal(point_width(&point), widths[type]);
    }
}

static void words_name_themselves(void **state)
{
    (void)state;
    assert_string_equal(point_type_word(POINT_INT16), "int16");
    assert_string_equal(point_type_word(POINT_BOOL), "bool");
    assert_string_equal(point_type_word((enum point_type)99), "unknown");
    assert_string_equal(point_type_word(POINT_STRING), "string");
    assert_string_equal(point_type_word(POINT_INT8), "int8");
    assert_string_equal(point_type_word(POINT_M10K64), "m10k64");
    assert_null(point_type_words[POINT_TYPES]);
    assert_string_equal(point_order_word(POINT_DCBA), "dcba");
    assert_string_equal(point_order_word((enum point_order)4), "unknown");
    assert_null(point_order_words[POINT_DCBA + 1]);
    assert_string_equal(point_table_word(POINT_COIL), "coil");
    assert_string_equal(point_table_word(POINT_DISCRETE), "discrete");
    assert_string_equal(point_table_word(POINT_HOLDING), "holding");
    assert_string_equal(point_table_word(POINT_INPUT), "input");
    assert_string_equal(point_table_word((enum point_table)5), "unknown");
}

static void faults_have_words(void **state)
{
    (void)state;
    static const struct {
        enum fault fault;
        const char *word;
        bool exception, silence;
    } rows[] = {
        {FAULT_NONE, "ok", false, false},
        {FAULT_ILLEGAL_FUNCTION, "illegal_function", true, false},
        {FAULT_ILLEGAL_ADDRESS, "illegal_address", true, false},
        {FAULT_ILLEGAL_VALUE, "illegal_value", true, false},
        {FAULT_DEVICE_FAILURE, "device_failure", true, false},
        {FAULT_ACKNOWLEDGE, "acknowledge", true, false},
        {FAULT_BUSY, "busy", true, false},
        {FAULT_GATEWAY_PATH, "gateway_path", true, true},
        {FAULT_GATEWAY_TARGET, "gateway_target", true, true},
        {FAULT_TIMEOUT, "timeout", false, true},
        {FAULT_CONNECTION, "connection", false, true},
        {FAULT_BAD_REPLY, "bad_reply", false, true},
        {FAULT_NOT_FINITE, "not_finite", false, false},
        {FAULT_IMPLAUSIBLE, "implausible", false, false},
    };
    assert_int_equal(rows[COUNT(rows) - 1].fault, FAULT_COUNT - 1); /* none left out */
    for (unsigned i = 0; i < COUNT(rows); i++) {
        assert_string_equal(fault_word(rows[i].fault), rows[i].word);
        assert_int_equal(fault_is_exception(rows[i].fault), rows[i].exception);
        assert_int_equal(fault_is_silence(rows[i].fault), rows[i].silence);
        assert_int_equal(fault_from_exception((unsigned)rows[i].fault),
                         rows[i].exception ? rows[i].fault : FAULT_DEVICE_FAILURE);
    }
    /* Codes of the specification's gaps and beyond it: the answer is still no. */
    assert_int_equal(fault_from_exception(0x07), FAULT_DEVICE_FAILURE);
    assert_int_equal(fault_from_exception(0x09), FAULT_DEVICE_FAILURE);
    assert_int_equal(fault_from_exception(0xff), FAULT_DEVICE_FAILURE);
    assert_string_equal(fault_word((enum fault)0x07), "device_failure");
    assert_string_equal(fault_word(FAULT_COUNT), "device_failure");
}

static void registers_become_numbers(void **state)
{
    (void)state;
    static const struct {
        enum point_type type;
        enum point_order order;
        uint16_t words[4];
        double scale, offset;
        const char *text;
    } rows[] = {
        {POINT_INT16, POINT_ABCD, {0xffce}, 1, 0, "-50"},
        {POINT_INT16, POINT_ABCD, {0x8000}, 1, 0, "-32768"},
        {POINT_INT16, POINT_ABCD, {0x8000}, -1, 0, "32768"},
        {POINT_INT16, POINT_ABCD, {0x7fff}, -1, 0, "-32767"},
        {POINT_INT16, POINT_ABCD, {0}, -1, 0, "0"},
        {POINT_INT16, POINT_CDAB, {0x1234}, 1, 0, "4660"}, /* one register has no word order */
        {POINT_INT16, POINT_ABCD, {0x0064}, 1, -40, "60"},
        {POINT_INT16, POINT_ABCD, {0x00fa}, 0.1, -40, "-15"},
        {POINT_UINT16, POINT_ABCD, {0xffff}, 1, 0, "65535"},
        {POINT_UINT16, POINT_ABCD, {0xffff}, -1, 0, "-65535"},
        {POINT_UINT16, POINT_ABCD, {3}, 0.1, 0, "0.3"},
        {POINT_UINT16, POINT_ABCD, {1}, 0.25, 0, "0.25"},
        {POINT_INT32, POINT_ABCD, {0xffff, 0xfffe}, 1, 0, "-2"},
        {POINT_UINT32, POINT_ABCD, {0x1234, 0x5678}, 1, 0, "305419896"},
        {POINT_UINT32, POINT_CDAB, {0x5678, 0x1234}, 1, 0, "305419896"},
        {POINT_UINT32, POINT_BADC, {0x3412, 0x7856}, 1, 0, "305419896"},
        {POINT_UINT32, POINT_DCBA, {0x7856, 0x3412}, 1, 0, "305419896"},
        {POINT_UINT32, POINT_ABCD, {0x0a9d, 0x4089}, 0.1, 0, "17807783.3"},
        {POINT_INT64, POINT_ABCD, {0x8000, 0, 0, 0}, 1, 0, "-9223372036854775808"},
        {POINT_INT64, POINT_ABCD, {0x8000, 0, 0, 0}, -1, 0, "9223372036854775808"},
        {POINT_INT64, POINT_ABCD, {0x7fff, 0xffff, 0xffff, 0xffff}, 1, 0, "9223372036854775807"},
        {POINT_UINT64, POINT_ABCD, {0xffff, 0xffff, 0xffff, 0xffff}, 1, 0, "18446744073709551615"},
        {POINT_UINT64, POINT_ABCD, {0x0123, 0x4567, 0x89ab, 0xcdef}, 1, 0, "81985529216486895"},
        {POINT_UINT64, POINT_CDAB, {0xcdef, 0x89ab, 0x4567, 0x0123}, 1, 0, "81985529216486895"},
        {POINT_UINT64, POINT_BADC, {0x2301, 0x6745, 0xab89, 0xefcd}, 1, 0, "81985529216486895"},
        {POINT_UINT64, POINT_DCBA, {0xefcd, 0xab89, 0x6745, 0x2301}, 1, 0, "81985529216486895"},
        {POINT_UINT64, POINT_ABCD, {0x0020, 0, 0, 0}, 0.5, 0, "4503599627370496"},
        {POINT_FLOAT32, POINT_ABCD, {0x3dcc, 0xcccd}, 1, 0, "0.1"},
        {POINT_FLOAT32, POINT_CDAB, {0xcccd, 0x3dcc}, 1, 0, "0.1"},
        {POINT_FLOAT32, POINT_BADC, {0xcc3d, 0xcdcc}, 1, 0, "0.1"},
        {POINT_FLOAT32, POINT_DCBA, {0xcdcc, 0xcc3d}, 1, 0, "0.1"},
        {POINT_FLOAT32, POINT_ABCD, {0x4366, 0x6666}, 1, 0, "230.4"},
        {POINT_FLOAT32, POINT_ABCD, {0x8000, 0x0000}, 1, 0, "0"},
        {POINT_FLOAT32, POINT_ABCD, {0x3f9e, 0x0419}, 1000, 0, "1234.5"},
        {POINT_FLOAT32, POINT_ABCD, {0x4b80, 0x0000}, 1, 0, "16777216"},
        {POINT_FLOAT32, POINT_ABCD, {0x3f80, 0x0001}, 1, 0, "1.0000001"},
        {POINT_FLOAT32, POINT_ABCD, {0x4cbe, 0xbc21}, 1, 0, "1.0000001e+08"},
        {POINT_FLOAT32, POINT_ABCD, {0x7f7f, 0xffff}, 1, 0, "3.4028235e+38"},
        {POINT_FLOAT32, POINT_ABCD, {0xc2c8, 0x0000}, -1, 0, "100"},
        {POINT_FLOAT64, POINT_ABCD, {0x3fb9, 0x9999, 0x9999, 0x999a}, 1, 0, "0.1"},
        {POINT_FLOAT64, POINT_ABCD, {0x3fd3, 0x3333, 0x3333, 0x3334}, 1, 0, "0.30000000000000004"},
        {POINT_FLOAT64, POINT_CDAB, {0x999a, 0x9999, 0x9999, 0x3fb9}, 1, 0, "0.1"},
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct point point = a_point(rows[i].type);
        point.order = rows[i].order;
        point.scale = rows[i].scale;
        point.offset = rows[i].offset;
        assert_string_equal(printed(&point, rows[i].words), rows[i].text);
    }
}

/* Bytes, odd widths and decimal digits, and the order of bytes in one register. */
static void the_uncommon_types(void **state)
{
    (void)state;
    static const struct {
        enum point_type type;
        enum point_order order;
        bool high_byte;
        uint16_t words[4];
        const char *text; /* NULL: no number */
    } rows[] = {
        {POINT_UINT16, POINT_BADC, false, {0x3412}, "4660"},
        {POINT_UINT16, POINT_DCBA, false, {0x3412}, "4660"},
        {POINT_INT16, POINT_BADC, false, {0xfeff}, "-2"},
        {POINT_UINT16, POINT_CDAB, false, {0x1234}, "4660"},
        {POINT_INT8, POINT_ABCD, true, {0xfe01}, "-2"},
        {POINT_INT8, POINT_ABCD, false, {0xfe80}, "-128"},
        {POINT_UINT8, POINT_ABCD, true, {0xfe01}, "254"},
        {POINT_UINT8, POINT_ABCD, false, {0xfe01}, "1"},
        {POINT_UINT24, POINT_ABCD, false, {0xff12, 0x3456}, "1193046"},
        {POINT_UINT24, POINT_CDAB, false, {0x3456, 0xff12}, "1193046"},
        {POINT_INT48, POINT_ABCD, false, {0xffff, 0xffff, 0xfffe}, "-2"},
        {POINT_UINT48, POINT_ABCD, false, {0xffff, 0xffff, 0xfffe}, "281474976710654"},
        {POINT_UINT48, POINT_CDAB, false, {3, 2, 1}, "4295098371"},
        {POINT_BCD16, POINT_ABCD, false, {0x9876}, "9876"},
        {POINT_BCD16, POINT_ABCD, false, {0x98a6}, NULL},
        {POINT_BCD32, POINT_ABCD, false, {0x0001, 0x2345}, "12345"},
        {POINT_BCD32, POINT_CDAB, false, {0x2345, 0x0001}, "12345"},
        {POINT_M10K32, POINT_ABCD, false, {12, 3456}, "123456"},
        {POINT_M10K32, POINT_ABCD, false, {0xfff4, 0xf280}, "-123456"},
        {POINT_M10K32, POINT_ABCD, false, {0, 10000}, NULL},
        {POINT_M10K32, POINT_ABCD, false, {0x8000, 0}, NULL},
        {POINT_M10K48, POINT_ABCD, false, {1, 0, 2}, "100000002"},
        {POINT_M10K64, POINT_ABCD, false, {9999, 9999, 9999, 9999}, "9999999999999999"},
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct point point = a_point(rows[i].type);
        point.order = rows[i].order;
        point.high_byte = rows[i].high_byte;
        if (rows[i].text) {
            assert_string_equal(printed(&point, rows[i].words), rows[i].text);
            continue;
        }
        struct value value = codec_decode(&point, rows[i].words);
        assert_int_equal(value.state, VALUE_FAULT);
        assert_int_equal(value.fault, FAULT_IMPLAUSIBLE);
    }
}

static uint32_t bits_of(float single)
{
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    return bits;
}

/* Schneider's own table: quadrants 1 to 4, each from end to end. */
static void power_factors_of_four_quadrants(void **state)
{
    (void)state;
    static const struct {
        float held;
        const char *text;
        enum fault fault;
    } rows[] = {
        {0, "0", FAULT_NONE},
        {0.95F, "0.95", FAULT_NONE},
        {1, "1", FAULT_NONE},
        {0x1.000002p0F, "0.9999999", FAULT_NONE},
        {1.05F, "0.95", FAULT_NONE},
        {1.001F, "0.999", FAULT_NONE},
        {0x1.fffffep0F, "0.0000001", FAULT_NONE},
        {2, "0", FAULT_NONE},
        {0x1.000002p1F, NULL, FAULT_IMPLAUSIBLE},
        {3, NULL, FAULT_IMPLAUSIBLE},
        {3.4e38F, NULL, FAULT_IMPLAUSIBLE},
        {-0.0F, "0", FAULT_NONE},
        {-0.95F, "-0.95", FAULT_NONE},
        {-1, "-1", FAULT_NONE},
        {-1.05F, "-0.95", FAULT_NONE},
        {-2, "0", FAULT_NONE},
        {-0x1.000002p1F, NULL, FAULT_IMPLAUSIBLE},
        {NAN, NULL, FAULT_NOT_FINITE}, /* the meter has none */
        {INFINITY, NULL, FAULT_NOT_FINITE},
        {-INFINITY, NULL, FAULT_NOT_FINITE},
    };
    const struct point point = a_point(POINT_4Q_FP_PF);
    for (unsigned i = 0; i < COUNT(rows); i++) {
        const uint32_t bits = bits_of(rows[i].held);
        const uint16_t words[] = {(uint16_t)(bits >> 16), (uint16_t)bits};
        const struct value value = codec_decode(&point, words);
        assert_int_equal(value.fault, rows[i].fault);
        assert_int_equal(value.state, rows[i].text != NULL ? VALUE_READ : VALUE_FAULT);
        if (rows[i].text != NULL)
            assert_true(fabs(strtod(printed(&point, words), NULL) - strtod(rows[i].text, NULL)) <
                        2e-8);
        if (rows[i].text != NULL && strlen(rows[i].text) < 7)
            assert_string_equal(printed(&point, words), rows[i].text);
    }
}

static void texts(void **state)
{
    (void)state;
    struct point point = a_point(POINT_STRING);
    point.registers = 4;
    static const struct {
        enum point_order order;
        uint16_t words[4];
        const char *text;
    } rows[] = {
        {POINT_ABCD, {0x4142, 0x4344, 0x4546, 0x4748}, "\"ABCDEFGH\""},
        {POINT_BADC, {0x4241, 0x4443, 0x4645, 0x4847}, "\"ABCDEFGH\""},
        {POINT_CDAB, {0x4142, 0x4344, 0x4546, 0x4748}, "\"ABCDEFGH\""},
        {POINT_ABCD, {0x4142, 0x4300, 0x4546, 0x4748}, "\"ABC\""},
        {POINT_ABCD, {0x4120, 0x4220, 0x2020, 0x2020}, "\"A B\""},
        {POINT_ABCD, {0, 0, 0, 0}, "\"\""},
        {POINT_ABCD, {0x225c, 0x0ae4, 0, 0}, "\"\\\"\\\\??\""},
    };
    uint64_t last = 0;
    for (unsigned i = 0; i < COUNT(rows); i++) {
        point.order = rows[i].order;
        assert_string_equal(printed(&point, rows[i].words), rows[i].text);
        uint64_t raw = codec_decode(&point, rows[i].words).raw;
        assert_true((raw == last) == (i == 1 || i == 2)); /* raw tells a change */
        last = raw;
    }
}

static void a_scale_register_moves_the_point(void **state)
{
    (void)state;
    static const struct {
        int scale;
        double factor;
        uint16_t word;
        const char *text; /* NULL: no value */
    } rows[] = {
        {0, 1, 2305, "2305"},      {-1, 1, 2305, "230.5"}, {-10, 1, 1, "1e-10"},
        {10, 1, 2, "20000000000"}, {1, 0.5, 3, "15"},      {-2, 1, 0xffff, "-0.01"},
        {-2, 1, 29, "0.29"},       {11, 1, 1, NULL},       {-11, 1, 1, NULL},
        {-32768, 1, 1, NULL},
    };
    struct point scale = a_point(POINT_INT16);
    for (unsigned i = 0; i < COUNT(rows); i++) {
        char text[CODEC_TEXT_MAX];
        struct point point = a_point(POINT_INT16);
        point.scale = rows[i].factor;
        struct value value = codec_decode(&point, &rows[i].word);
        struct value n = codec_decode(&scale, &(uint16_t){(uint16_t)rows[i].scale});
        codec_rescale(&point, &n, &value);
        assert_int_equal(value.state, rows[i].text ? VALUE_READ : VALUE_FAULT);
        if (rows[i].text) {
            codec_print(&point, &value, text);
            assert_string_equal(text, rows[i].text);
        } else {
            assert_int_equal(value.fault, FAULT_IMPLAUSIBLE);
        }
    }
    struct point point = a_point(POINT_INT16);
    struct value value = codec_decode(&point, &(uint16_t){1});
    struct value lost = {.state = VALUE_FAULT, .fault = FAULT_TIMEOUT};
    codec_rescale(&point, &lost, &value);
    assert_int_equal(value.state, VALUE_FAULT);
    assert_int_equal(value.fault, FAULT_TIMEOUT);
}

static void the_documented_energy_is_exact(void **state)
{
    (void)state;
    struct point point = a_point(POINT_UINT32);
    point.scale = 0.1;
    struct value value = codec_decode(&point, (const uint16_t[]){0x0a9d, 0x4089});
    assert_int_equal(value.raw, 178077833);
    assert_true(fabs(value.number - 17807783.3) < 1e-6);
}

static void raw_is_what_the_type_sees(void **state)
{
    (void)state;
    struct point point = a_point(POINT_INT16);
    assert_true((int64_t)codec_decode(&point, (const uint16_t[]){0xfffe}).raw == -2);
    point.type = POINT_UINT16;
    assert_int_equal(codec_decode(&point, (const uint16_t[]){0xfffe}).raw, 0xfffe);
    point.type = POINT_FLOAT32;
    assert_int_equal(codec_decode(&point, (const uint16_t[]){0x3f80, 1}).raw, 0x3f800001);
}

static void bits_are_cut_out(void **state)
{
    (void)state;
    static const struct {
        enum point_type type;
        uint8_t bit, bits;
        uint16_t words[4];
        const char *text;
    } rows[] = {
        {POINT_UINT16, 0, 4, {0xabcd}, "13"},
        {POINT_UINT16, 12, 4, {0xabcd}, "10"},
        {POINT_UINT16, 4, 8, {0xabcd}, "188"},
        {POINT_UINT16, 0, 16, {0xabcd}, "43981"},
        {POINT_INT16, 4, 4, {0x00f0}, "-1"},
        {POINT_INT16, 4, 4, {0x0070}, "7"},
        {POINT_UINT32, 8, 16, {0x0012, 0x34ff}, "4660"},
        {POINT_UINT64, 63, 1, {0x8000, 0, 0, 0}, "1"},
        {POINT_UINT64, 0, 64, {0x8000, 0, 0, 0}, "9223372036854775808"},
        {POINT_BOOL, 15, 1, {0x8000}, "true"},
        {POINT_BOOL, 15, 1, {0x7fff}, "false"},
        {POINT_BOOL, 0, 1, {0x0001}, "true"},
        {POINT_BOOL, 0, 1, {0xfffe}, "false"},
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct point point = a_point(rows[i].type);
        point.bit = rows[i].bit;
        point.bits = rows[i].bits;
        assert_string_equal(printed(&point, rows[i].words), rows[i].text);
    }
}

static void coils_are_true_or_false(void **state)
{
    (void)state;
    struct point point = a_point(POINT_BOOL);
    point.table = POINT_COIL;
    assert_string_equal(printed(&point, (const uint16_t[]){1}), "true");
    assert_string_equal(printed(&point, (const uint16_t[]){0}), "false");
    point.table = POINT_DISCRETE;
    assert_true(codec_decode(&point, (const uint16_t[]){0xff00}).number == 1);
}

static void what_is_not_finite_is_a_fault(void **state)
{
    (void)state;
    static const struct {
        enum point_type type;
        double scale;
        uint16_t words[4];
    } rows[] = {
        {POINT_FLOAT32, 1, {0x7fc0, 0}},             /* quiet NaN */
        {POINT_FLOAT32, 1, {0x7f80, 1}},             /* signalling NaN */
        {POINT_FLOAT32, 1, {0x7f80, 0}},             /* infinity */
        {POINT_FLOAT32, 1, {0xff80, 0}},             /* minus infinity */
        {POINT_FLOAT64, 1, {0x7ff8, 0, 0, 0}},       /* quiet NaN */
        {POINT_FLOAT64, 1, {0x7ff0, 0, 0, 0}},       /* infinity */
        {POINT_FLOAT64, 10, {0x7fef, 0xffff, 0, 0}}, /* infinite by its scale */
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct point point = a_point(rows[i].type);
        point.scale = rows[i].scale;
        struct value value = codec_decode(&point, rows[i].words);
        assert_int_equal(value.state, VALUE_FAULT);
        assert_int_equal(value.fault, FAULT_NOT_FINITE);
    }
}

static void bare_numbers(void **state)
{
    (void)state;
    static const struct {
        double number;
        const char *text;
    } rows[] = {
        {50, "50"},
        {-250, "-250"},
        {9.5, "9.5"},
        {0.1, "0.1"},
        {0.1 + 0.2, "0.30000000000000004"},
        {-0.0, "0"},
        {1e22, "1e+22"},
        {-1.7976931348623157e308, "-1.7976931348623157e+308"},
        {4.9e-324, "4.94065645841247e-324"},
        {(double)NAN, "null"},
        {(double)INFINITY, "null"},
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        char text[CODEC_TEXT_MAX];
        assert_int_equal(codec_print_number(rows[i].number, text), strlen(rows[i].text));
        assert_string_equal(text, rows[i].text);
    }
}

/* Floats over the whole range of bit patterns: what is printed leads back. */
static void printed_floats_lead_back(void **state)
{
    (void)state;
    struct point point = a_point(POINT_FLOAT32);
    for (uint32_t raw = 0; raw < 0xff800000; raw += 65521 * 7) {
        uint16_t words[2] = {(uint16_t)(raw >> 16), (uint16_t)raw}, again[2];
        struct value value = codec_decode(&point, words);
        if (value.state != VALUE_READ)
            continue;
        char text[CODEC_TEXT_MAX];
        codec_print(&point, &value, text);
        assert_int_equal(strspn(text, "0123456789+-e."), strlen(text));
        assert_int_equal(codec_encode(&point, strtod(text, NULL), again), CODEC_FITS);
        if (value.number != 0)
            assert_memory_equal(words, again, sizeof words);
    }
}

/* A comma, and a decimal point of two bytes. The locales are made here. */
static void no_locale_has_a_say(void **state)
{
    (void)state;
    static const char *const locales[] = {"de_DE", "ps_AF"};
    struct point point = a_point(POINT_FLOAT32);
    char here[256], command[128];
    setenv("LOCPATH", getcwd(here, sizeof here), 1);
    for (unsigned i = 0; i < COUNT(locales); i++) {
        snprintf(command, sizeof command, "localedef -c -i %s -f UTF-8 ./%s >/dev/null 2>&1",
                 locales[i], locales[i]);
        if (system(command) != 0 || !setlocale(LC_ALL, locales[i]))
            skip(); /* no sources of locales here */
        assert_string_not_equal(localeconv()->decimal_point, ".");
        const char *text = printed(&point, (const uint16_t[]){0x4366, 0x6666});
        setlocale(LC_ALL, "C");
        assert_string_equal(text, "230.4");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_has_its_width),
        cmocka_unit_test(words_name_themselves),
        cmocka_unit_test(faults_have_words),
        cmocka_unit_test(registers_become_numbers),
        cmocka_unit_test(the_uncommon_types),
        cmocka_unit_test(power_factors_of_four_quadrants),
        cmocka_unit_test(texts),
        cmocka_unit_test(a_scale_register_moves_the_point),
        cmocka_unit_test(the_documented_energy_is_exact),
        cmocka_unit_test(raw_is_what_the_type_sees),
        cmocka_unit_test(bits_are_cut_out),
        cmocka_unit_test(coils_are_true_or_false),
        cmocka_unit_test(what_is_not_finite_is_a_fault),
        cmocka_unit_test(bare_numbers),
        cmocka_unit_test(printed_floats_lead_back),
        cmocka_unit_test(no_locale_has_a_say),
    };
    return cmocka_run_group_tests_name("codec", tests, given_directory, remove_directory);
}
