/* What a value becomes in the registers. */
#include "codec_bed.h"

#include <float.h>
#include <math.h>

static void decimal_types_are_written(void **state)
{
    (void)state;
    static const struct {
        enum point_type type;
        double number;
        enum codec_fit fit;
        uint16_t words[4];
    } rows[] = {
        {POINT_BCD16, 9876, CODEC_FITS, {0x9876}},
        {POINT_BCD16, 10000, CODEC_OUT_OF_RANGE, {0}},
        {POINT_BCD16, -1, CODEC_OUT_OF_RANGE, {0}},
        {POINT_BCD32, 99999999, CODEC_FITS, {0x9999, 0x9999}},
        {POINT_M10K32, -123456, CODEC_FITS, {0xfff4, 0xf280}},
        {POINT_4Q_FP_PF, 0.95, CODEC_OUT_OF_RANGE, {0}},
        {POINT_M10K32, 99999999, CODEC_FITS, {9999, 9999}},
        {POINT_M10K32, 100000000, CODEC_OUT_OF_RANGE, {0}},
        {POINT_M10K32, -99999999, CODEC_FITS, {0xd8f1, 0xd8f1}},
        {POINT_M10K32, -100000000, CODEC_OUT_OF_RANGE, {0}},
        {POINT_INT48, -2, CODEC_FITS, {0xffff, 0xffff, 0xfffe}},
        {POINT_INT48, 0x1p47, CODEC_OUT_OF_RANGE, {0}},
        {POINT_UINT48, 0x1p47, CODEC_FITS, {0x8000, 0, 0}},
        {POINT_INT8, 1, CODEC_OUT_OF_RANGE, {0}},
        {POINT_UINT24, 1, CODEC_OUT_OF_RANGE, {0}},
        {POINT_STRING, 1, CODEC_OUT_OF_RANGE, {0}},
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct point point = a_point(rows[i].type);
        point.registers = 1;
        uint16_t words[4] = {0};
        assert_int_equal(codec_encode(&point, rows[i].number, words), rows[i].fit);
        assert_memory_equal(words, rows[i].words, sizeof words);
    }
}

static void numbers_become_registers(void **state)
{
    (void)state;
    static const struct {
        enum point_type type;
        double scale, offset, number;
        enum codec_fit fit;
        uint16_t words[4];
    } rows[] = {
        {POINT_INT16, 1, 0, 50, CODEC_FITS, {50}},
        {POINT_INT16, 1, 0, -50, CODEC_FITS, {0xffce}},
        {POINT_INT16, -1, 0, 50, CODEC_FITS, {0xffce}},
        {POINT_INT16, -1, 0, -0.0, CODEC_FITS, {0}},
        {POINT_INT16, 1, 0, 32767, CODEC_FITS, {0x7fff}},
        {POINT_INT16, 1, 0, 32768, CODEC_OUT_OF_RANGE, {0}},
        {POINT_INT16, 1, 0, -32768, CODEC_FITS, {0x8000}},
        {POINT_INT16, 1, 0, -32769, CODEC_OUT_OF_RANGE, {0}},
        {POINT_INT16, -1, 0, 32768, CODEC_FITS, {0x8000}},
        {POINT_INT16, -1, 0, 32769, CODEC_OUT_OF_RANGE, {0}},
        {POINT_INT16, 1, 0, 32767.4, CODEC_OFF_STEP, {0}},
        {POINT_INT16, 1, 0, 32767.6, CODEC_OUT_OF_RANGE, {0}},
        {POINT_INT16, 1, 0, 50.0000001, CODEC_OFF_STEP, {0}},
        {POINT_INT16, 1, 0, 50.00000000000001, CODEC_OFF_STEP, {0}},
        {POINT_INT16, 1, 0, 0.5, CODEC_OFF_STEP, {0}},
        {POINT_INT16, 1, 0, -1e-12, CODEC_OFF_STEP, {0}},
        {POINT_INT16, 0.1, 0, 5.3, CODEC_FITS, {53}},
        {POINT_INT16, 0.1, 0, -5.3, CODEC_FITS, {0xffcb}},
        {POINT_INT16, 0.1, 0, 5.35, CODEC_OFF_STEP, {0}},
        {POINT_INT16, 0.1, 0, 5.3000000001, CODEC_OFF_STEP, {0}},
        {POINT_INT16, 0.1, -40, 5.3, CODEC_FITS, {453}},
        {POINT_INT16, 0.1, 0, 3276.7, CODEC_FITS, {0x7fff}},
        {POINT_INT16, 0.1, 0, 3276.8, CODEC_OUT_OF_RANGE, {0}},
        {POINT_INT16, 1000, 0, 5000, CODEC_FITS, {5}},
        {POINT_INT16, 1000, 0, 5001, CODEC_OFF_STEP, {0}},
        {POINT_UINT16, 1, 0, 65535, CODEC_FITS, {0xffff}},
        {POINT_UINT16, 1, 0, 65536, CODEC_OUT_OF_RANGE, {0}},
        {POINT_UINT16, 1, 0, -1, CODEC_OUT_OF_RANGE, {0}},
        {POINT_UINT16, 1, 0, -0.4, CODEC_OFF_STEP, {0}},
        {POINT_INT32, 1, 0, -2, CODEC_FITS, {0xffff, 0xfffe}},
        {POINT_INT32, 1, 0, 2147483648.0, CODEC_OUT_OF_RANGE, {0}},
        {POINT_UINT32, 1, 0, 4294967295.0, CODEC_FITS, {0xffff, 0xffff}},
        {POINT_UINT32, 1, 0, 4294967296.0, CODEC_OUT_OF_RANGE, {0}},
        {POINT_INT64, 1, 0, -0x1p63, CODEC_FITS, {0x8000, 0, 0, 0}},
        {POINT_INT64, 1, 0, 0x1p63, CODEC_OUT_OF_RANGE, {0}},
        {POINT_INT64, 1, 0, 0x1p50 + 0.5, CODEC_OFF_STEP, {0}},
        {POINT_UINT64, 1, 0, 0x1p63, CODEC_FITS, {0x8000, 0, 0, 0}},
        {POINT_UINT64, 1, 0, 0x1p64, CODEC_OUT_OF_RANGE, {0}},
        {POINT_FLOAT32, -1, 0, 0, CODEC_FITS, {0}}, /* a stop has no sign */
        {POINT_FLOAT64, 1, 0, -0.0, CODEC_FITS, {0}},
        {POINT_FLOAT32, 1, 0, 0.1, CODEC_FITS, {0x3dcc, 0xcccd}},
        {POINT_FLOAT32, 1000, 0, 1234.5, CODEC_FITS, {0x3f9e, 0x0419}},
        {POINT_FLOAT32, 1, 0, (double)FLT_MAX, CODEC_FITS, {0x7f7f, 0xffff}},
        {POINT_FLOAT32, 1, 0, 0x1.fffffefffffffp127, CODEC_FITS, {0x7f7f, 0xffff}},
        {POINT_FLOAT32, 1, 0, 0x1.ffffffp127, CODEC_OUT_OF_RANGE, {0}},
        {POINT_FLOAT32, 1, 0, -1e39, CODEC_OUT_OF_RANGE, {0}},
        {POINT_FLOAT64, 1, 0, 0.1, CODEC_FITS, {0x3fb9, 0x9999, 0x9999, 0x999a}},
        {POINT_FLOAT64, 1e-10, 0, 1e300, CODEC_OUT_OF_RANGE, {0}},
        {POINT_BOOL, 1, 0, 1, CODEC_FITS, {1}},
        {POINT_BOOL, 1, 0, 0, CODEC_FITS, {0}},
        {POINT_BOOL, 1, 0, 0.5, CODEC_OFF_STEP, {0}},
        {POINT_BOOL, 1, 0, 2, CODEC_OUT_OF_RANGE, {0}},
        {POINT_BOOL, 1, 0, -1, CODEC_OUT_OF_RANGE, {0}},
        {POINT_INT16, 1, 0, (double)NAN, CODEC_OUT_OF_RANGE, {0}},
        {POINT_FLOAT32, 1, 0, (double)NAN, CODEC_OUT_OF_RANGE, {0}},
        {POINT_FLOAT64, 1, 0, (double)-INFINITY, CODEC_OUT_OF_RANGE, {0}},
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct point point = a_point(rows[i].type);
        point.scale = rows[i].scale;
        point.offset = rows[i].offset;
        if (point.type == POINT_BOOL)
            point.table = POINT_COIL;
        uint16_t words[4] = {0x5a5a, 0x5a5a, 0x5a5a, 0x5a5a};
        enum codec_fit fit = codec_encode(&point, rows[i].number, words);
        assert_int_equal(fit, rows[i].fit);
        for (unsigned k = 0; k < 4; k++) {
            bool written = fit == CODEC_FITS && k < point_width(&point);
            assert_int_equal(words[k], written ? rows[i].words[k] : 0x5a5a);
        }
    }
}

static void every_order_reads_what_it_wrote(void **state)
{
    (void)state;
    for (unsigned order = POINT_ABCD; order <= POINT_DCBA; order++) {
        for (unsigned type = POINT_INT16; type <= POINT_FLOAT64; type++) {
            struct point point = a_point((enum point_type)type);
            point.order = (enum point_order)order;
            uint16_t words[4];
            assert_int_equal(codec_encode(&point, 12345, words), CODEC_FITS);
            assert_true(codec_decode(&point, words).number == 12345);
        }
    }
}

/* Every setpoint a scale of a tenth or a hundredth can name is on its step. */
static void tenths_and_hundredths_are_on_their_step(void **state)
{
    (void)state;
    static const struct {
        double scale;
        int places, parts;
    } rows[] = {{0.1, 1, 10}, {0.01, 2, 100}, {0.001, 3, 1000}};
    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct point point = a_point(POINT_INT16);
        point.scale = rows[i].scale;
        for (int raw = 0; raw <= 32767; raw++) {
            char text[32], shown[CODEC_TEXT_MAX];
            uint16_t words[1];
            snprintf(text, sizeof text, "%d.%0*d", raw / rows[i].parts, rows[i].places,
                     raw % rows[i].parts);
            assert_int_equal(codec_encode(&point, strtod(text, NULL), words), CODEC_FITS);
            assert_int_equal(words[0], raw);
            struct value value = codec_decode(&point, words);
            codec_print(&point, &value, shown);
            assert_true(strtod(shown, NULL) == strtod(text, NULL));
            assert_true(strlen(shown) <= strlen(text));
        }
    }
}

static void bit_fields_are_never_written(void **state)
{
    (void)state;
    struct point point = a_point(POINT_UINT16);
    point.bits = 4;
    uint16_t words[1] = {0x5a5a};
    assert_int_equal(codec_encode(&point, 1, words), CODEC_OUT_OF_RANGE);
    assert_int_equal(words[0], 0x5a5a);
}

static void steps(void **state)
{
    (void)state;
    struct point point = a_point(POINT_INT16);
    point.scale = -0.1;
    assert_true(codec_step(&point) == 0.1);
    point.type = POINT_FLOAT32;
    assert_true(codec_step(&point) == 0);
    point.type = POINT_FLOAT64;
    assert_true(codec_step(&point) == 0);
    point.type = POINT_BOOL;
    point.scale = 1;
    assert_true(codec_step(&point) == 1);
}

/* What is read back equals what was written. */
static void a_read_back_is_the_number_written(void **state)
{
    (void)state;
    static const struct {
        enum point_type type;
        double scale, number;
    } rows[] = {
        {POINT_FLOAT32, 1, 0.1},   {POINT_FLOAT32, 1, -249.9}, {POINT_FLOAT32, 0.001, 50.3},
        {POINT_FLOAT64, 1, 0.1},   {POINT_INT16, 0.1, 0.3},    {POINT_INT16, 0.1, -0.7},
        {POINT_UINT16, 0.01, 1.1}, {POINT_INT16, 1, -250},     {POINT_BOOL, 1, 1},
    };
    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct point point = a_point(rows[i].type);
        uint16_t words[4];
        point.scale = rows[i].scale;
        if (point.type == POINT_BOOL)
            point.table = POINT_COIL;
        assert_int_equal(codec_encode(&point, rows[i].number, words), CODEC_FITS);
        struct value value = codec_decode(&point, words);
        assert_true(codec_decimal(&point, value.number) == rows[i].number);
    }
    struct point point = a_point(POINT_INT16);
    assert_true(codec_decimal(&point, 0.5) == 0.5); /* no register can have held it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decimal_types_are_written),
        cmocka_unit_test(numbers_become_registers),
        cmocka_unit_test(every_order_reads_what_it_wrote),
        cmocka_unit_test(tenths_and_hundredths_are_on_their_step),
        cmocka_unit_test(bit_fields_are_never_written),
        cmocka_unit_test(steps),
        cmocka_unit_test(a_read_back_is_the_number_written),
    };
    return cmocka_run_group_tests_name("codec_encode", tests, given_directory, remove_directory);
}
