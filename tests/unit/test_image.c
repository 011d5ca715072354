/* The image's answers, byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "devices/simulator/image.h"

/* cmocka compares in single precision. */
#define assert_near(got, want, tolerance) assert_true(fabs((got) - (want)) <= (tolerance))

/* clang-format off */
enum { STATUS, TARGET, SOURCE, SOE, FLAG, MODE, LEVEL, SWITCH, VALVE, DOOR, TEMPERATURE, ENERGY,
       N_POINTS };
static const struct point map[N_POINTS] = {
    [STATUS] = {.table = POINT_HOLDING, .address = 2000, .type = POINT_UINT16, .scale = 1},
    [TARGET] = {.table = POINT_HOLDING, .address = 2008, .type = POINT_INT16, .scale = -1, .writable = true},
    [SOURCE] = {.table = POINT_HOLDING, .address = 2010, .type = POINT_UINT16, .scale = 1, .writable = true},
    [SOE] = {.table = POINT_HOLDING, .address = 2026, .type = POINT_UINT16, .scale = 0.1},
    [FLAG] = {.table = POINT_HOLDING, .address = 2027, .type = POINT_BOOL, .scale = 1, .bit = 15, .bits = 1},
    [MODE] = {.table = POINT_HOLDING, .address = 2027, .type = POINT_UINT16, .scale = 1, .bit = 4, .bits = 3},
    [LEVEL] = {.table = POINT_HOLDING, .address = 2030, .type = POINT_FLOAT32, .scale = 1000, .order = POINT_CDAB, .writable = true},
    [SWITCH] = {.table = POINT_COIL, .address = 10, .type = POINT_BOOL, .scale = 1, .writable = true},
    [VALVE] = {.table = POINT_COIL, .address = 20, .type = POINT_BOOL, .scale = 1},
    [DOOR] = {.table = POINT_DISCRETE, .address = 0, .type = POINT_BOOL, .scale = 1},
    [TEMPERATURE] = {.table = POINT_INPUT, .address = 65535, .type = POINT_INT16, .scale = 0.5, .offset = -40},
    [ENERGY] = {.table = POINT_HOLDING, .address = 2040, .type = POINT_UINT32, .scale = 0.1},
};
/* clang-format on */

struct fixture {
    struct point points[N_POINTS];
    struct profile profile;
    struct device device;
    struct image *image;
    bool written;
    uint8_t reply[LINK_PDU_MAX];
};

static int setup(void **state)
{
    static struct fixture fixture;
    struct fixture *f = *state = &fixture;
    memset(f, 0, sizeof *f);
    memcpy(f->points, map, sizeof map);
    f->profile.n_unreadable = 2;
    f->profile.unreadable[0] = (struct profile_range){POINT_HOLDING, 2015, 2016, 0};
    f->profile.unreadable[1] = (struct profile_range){POINT_INPUT, 2000, 2010, 0};
    f->device.profile = &f->profile;
    f->device.points = f->points;
    f->device.n_points = N_POINTS;
    f->image = image_new(&f->device);
    return f->image ? 0 : -1;
}

static int teardown(void **state)
{
    image_free(((struct fixture *)*state)->image);
    return 0;
}

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static size_t ask(struct fixture *f, const uint8_t *request, size_t size)
{
    memset(f->reply, 0xee, sizeof f->reply);
    f->written = true;
    return image_answer(f->image, request, size, f->reply, &f->written);
}

static void expect(struct fixture *f, const uint8_t *reply, size_t size, size_t got)
{
    assert_int_equal(got, size);
    assert_true(memcmp(f->reply, reply, size) == 0);
}

static void expect_refused(struct fixture *f, unsigned exception, const uint8_t *request,
                           size_t size)
{
    size_t n = ask(f, request, size);
    expect(f, BYTES((uint8_t)(request[0] | 0x80), (uint8_t)exception), n);
    assert_false(f->written);
}

static void reads_the_documented_block(void **state)
{
    struct fixture *f = *state;
    image_put(f->image, STATUS, 7);
    image_put(f->image, TARGET, 100);
    size_t n = ask(f, BYTES(0x03, 0x07, 0xd0, 0x00, 0x0a));
    expect(f, BYTES(0x03, 20, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0x9c, 0, 0), n);
    assert_false(f->written);
}

static void map_ends_at_its_points(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ask(f, BYTES(0x03, 0x07, 0xd0, 0, 1)), 4);
    expect_refused(f, 2, BYTES(0x03, 0x07, 0xcf, 0, 1));
    expect_refused(f, 2, BYTES(0x03, 0x07, 0xcf, 0, 2));
    assert_int_equal(ask(f, BYTES(0x03, 0x07, 0xf9, 0, 1)), 4); /* 2041, the last */
    expect_refused(f, 2, BYTES(0x03, 0x07, 0xfa, 0, 1));
    expect_refused(f, 2, BYTES(0x03, 0x07, 0xf9, 0, 2));
    expect_refused(f, 2, BYTES(0x04, 0x07, 0xd0, 0, 1));
    expect_refused(f, 2, BYTES(0x01, 0, 9, 0, 1));
    expect_refused(f, 2, BYTES(0x02, 0, 0, 0, 2));
    assert_int_equal(ask(f, BYTES(0x04, 0xff, 0xff, 0, 1)), 4);
    expect_refused(f, 2, BYTES(0x04, 0xff, 0xff, 0, 2)); /* past the address space */
}

static void unreadable_ranges_are_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ask(f, BYTES(0x03, 0x07, 0xde, 0, 1)), 4);
    expect_refused(f, 2, BYTES(0x03, 0x07, 0xdf, 0, 1));
    expect_refused(f, 2, BYTES(0x03, 0x07, 0xe0, 0, 1));
    assert_int_equal(ask(f, BYTES(0x03, 0x07, 0xe1, 0, 1)), 4);
    expect_refused(f, 2, BYTES(0x03, 0x07, 0xd0, 0, 20));
}

static void a_table_without_points_has_no_addresses(void **state)
{
    struct fixture *f = *state;
    f->device.n_points = 1; /* status only */
    struct image *image = image_new(&f->device);
    assert_non_null(image);
    const uint8_t functions[] = {0x01, 0x02, 0x04};
    for (size_t i = 0; i < sizeof functions; i++) {
        size_t n = image_answer(image, (const uint8_t[]){functions[i], 0, 0, 0, 1}, 5, f->reply,
                                &f->written);
        expect(f, BYTES((uint8_t)(functions[i] | 0x80), 2), n);
    }
    image_free(image);
}

static void structure_is_judged_before_the_address(void **state)
{
    struct fixture *f = *state;
    expect_refused(f, 3, BYTES(0x03, 0x00, 0x00, 0, 0));
    expect_refused(f, 3, BYTES(0x03, 0x00, 0x00, 0, 126));
    expect_refused(f, 2, BYTES(0x03, 0x00, 0x00, 0, 125));
    expect_refused(f, 3, BYTES(0x01, 0x00, 0x00, 0x07, 0xd1));
    expect_refused(f, 2, BYTES(0x01, 0x00, 0x00, 0x07, 0xd0));
    expect_refused(f, 3, BYTES(0x03));
    expect_refused(f, 3, BYTES(0x03, 0x07, 0xd0, 0));
    expect_refused(f, 3, BYTES(0x03, 0x07, 0xd0, 0, 1, 0));
    expect_refused(f, 3, BYTES(0x06, 0x07, 0xd8, 0));
    expect_refused(f, 3, BYTES(0x05, 0, 10, 0, 1));
    expect_refused(f, 3, BYTES(0x05, 0, 10, 0xff, 1));
    expect_refused(f, 3, BYTES(0x10, 0x07, 0xd8, 0, 0, 0));
    expect_refused(f, 3, BYTES(0x10, 0x07, 0xd8, 0, 1, 3, 0, 1)); /* byte count */
    expect_refused(f, 3, BYTES(0x10, 0x07, 0xd8, 0, 1, 2, 0));    /* bytes */
    expect_refused(f, 3, BYTES(0x10, 0x07, 0xd8, 0, 1, 2, 0, 0, 0));
    expect_refused(f, 3, BYTES(0x10, 0x07, 0xd8, 0, 1));
    expect_refused(f, 3, BYTES(0x0f, 0, 10, 0, 1, 2, 1, 0));
}

static void the_longest_writes(void **state)
{
    struct fixture *f = *state;
    uint8_t request[260] = {0x10, 0x07, 0xd8, 0, 123, 246};
    expect_refused(f, 2, request, 6 + 246); /* allowed, but more than the map has */
    request[4] = 124;
    request[5] = 248;
    expect_refused(f, 3, request, 6 + 248);
    uint8_t bits[260] = {0x0f, 0, 10, 0x07, 0xb0, 246}; /* 1968 */
    expect_refused(f, 2, bits, 6 + 246);
    bits[4] = 0xb1;
    bits[5] = 247;
    expect_refused(f, 3, bits, 6 + 247);
}

static void other_functions_are_unknown(void **state)
{
    struct fixture *f = *state;
    for (unsigned code = 0; code < 0x80; code++)
        if (!(code >= 1 && code <= 6) && code != 15 && code != 16)
            expect_refused(f, 1, BYTES((uint8_t)code, 0x07, 0xd0, 0, 1));
}

static void one_register_is_written(void **state)
{
    struct fixture *f = *state;
    size_t n = ask(f, BYTES(0x06, 0x07, 0xd8, 0x00, 0x64));
    expect(f, BYTES(0x06, 0x07, 0xd8, 0x00, 0x64), n);
    assert_true(f->written);
    assert_near(image_get(f->image, TARGET).number, -100, 0);         /* its scale turns the sign */
    assert_int_equal(ask(f, BYTES(0x06, 0x07, 0xd8, 0x80, 0x00)), 5); /* no judgement of values */
    assert_near(image_get(f->image, TARGET).number, 32768, 0);
}

static void only_writable_registers_are_written(void **state)
{
    struct fixture *f = *state;
    image_put(f->image, STATUS, 3);
    expect_refused(f, 2, BYTES(0x06, 0x07, 0xd0, 0, 9));
    expect_refused(f, 2, BYTES(0x06, 0x07, 0xd9, 0, 9)); /* a gap */
    expect_refused(f, 2, BYTES(0x06, 0, 10, 0, 9));      /* beyond the map */
    expect_refused(f, 2, BYTES(0x10, 0x07, 0xd8, 0, 3, 6, 0, 1, 0, 2, 0, 3));
    assert_near(image_get(f->image, STATUS).number, 3, 0);
    assert_near(image_get(f->image, TARGET).number, 0, 0); /* not even in part */
    expect_refused(f, 2, BYTES(0x05, 0, 20, 0xff, 0));
    expect_refused(f, 2, BYTES(0x05, 0, 0, 0xff, 0)); /* a discrete input */
}

static void several_registers_are_written(void **state)
{
    struct fixture *f = *state;
    /* 12.5 = 41 48 00 00, low word first; the scale makes it 12500 */
    size_t n = ask(f, BYTES(0x10, 0x07, 0xee, 0, 2, 4, 0, 0, 0x41, 0x48));
    expect(f, BYTES(0x10, 0x07, 0xee, 0, 2), n);
    assert_true(f->written);
    assert_near(image_get(f->image, LEVEL).number, 12500, 0);
}

static void coils_are_written_and_read(void **state)
{
    struct fixture *f = *state;
    size_t n = ask(f, BYTES(0x05, 0, 10, 0xff, 0x00));
    expect(f, BYTES(0x05, 0, 10, 0xff, 0x00), n);
    assert_true(f->written);
    image_put(f->image, VALVE, 1);
    n = ask(f, BYTES(0x01, 0, 10, 0, 11));
    expect(f, BYTES(0x01, 2, 0x01, 0x04), n);
    n = ask(f, BYTES(0x0f, 0, 10, 0, 1, 1, 0xfe)); /* the bits beyond the count are nothing */
    expect(f, BYTES(0x0f, 0, 10, 0, 1), n);
    assert_true(f->written);
    n = ask(f, BYTES(0x01, 0, 10, 0, 11));
    expect(f, BYTES(0x01, 2, 0x00, 0x04), n);
    image_put(f->image, DOOR, 1);
    n = ask(f, BYTES(0x02, 0, 0, 0, 1));
    expect(f, BYTES(0x02, 1, 0x01), n);
}

static void values_are_rounded_to_the_register(void **state)
{
    struct fixture *f = *state;
    image_put(f->image, SOE, 54.26);
    assert_int_equal(image_get(f->image, SOE).raw, 543);
    image_put(f->image, SOE, 1e6); /* beyond it: as it was */
    assert_int_equal(image_get(f->image, SOE).raw, 543);
    image_put(f->image, SOE, -1);
    assert_int_equal(image_get(f->image, SOE).raw, 543);
    image_put(f->image, TEMPERATURE, 21.3);
    assert_near(image_get(f->image, TEMPERATURE).number, 21.5, 1e-9);
    size_t n = ask(f, BYTES(0x04, 0xff, 0xff, 0, 1));
    expect(f, BYTES(0x04, 2, 0, 123), n);
    /* Every tenth of a kWh fits, however its double comes out. */
    for (uint32_t raw = 123456780; raw < 123456980; raw++) {
        image_put(f->image, ENERGY, raw / 10.0 + 0.02);
        assert_int_equal(image_get(f->image, ENERGY).raw, raw);
    }
}

static void bit_fields_share_a_register(void **state)
{
    struct fixture *f = *state;
    image_put(f->image, FLAG, 1);
    image_put(f->image, MODE, 5);
    size_t n = ask(f, BYTES(0x03, 0x07, 0xeb, 0, 1));
    expect(f, BYTES(0x03, 2, 0x80, 0x50), n);
    image_put(f->image, MODE, 8); /* beyond it: as it was */
    image_put(f->image, MODE, -1);
    n = ask(f, BYTES(0x03, 0x07, 0xeb, 0, 1));
    expect(f, BYTES(0x03, 2, 0x80, 0x50), n);
    image_put(f->image, MODE, 2);
    image_put(f->image, FLAG, 0);
    n = ask(f, BYTES(0x03, 0x07, 0xeb, 0, 1));
    expect(f, BYTES(0x03, 2, 0x00, 0x20), n);
}

static void refusals_carry_function_and_exception(void **state)
{
    struct fixture *f = *state;
    size_t n = image_refuse((const uint8_t[]){0x03}, FAULT_GATEWAY_TARGET, f->reply);
    expect(f, BYTES(0x83, 0x0b), n);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_the_documented_block),
        TEST(map_ends_at_its_points),
        TEST(unreadable_ranges_are_refused),
        TEST(a_table_without_points_has_no_addresses),
        TEST(structure_is_judged_before_the_address),
        TEST(the_longest_writes),
        TEST(other_functions_are_unknown),
        TEST(one_register_is_written),
        TEST(only_writable_registers_are_written),
        TEST(several_registers_are_written),
        TEST(coils_are_written_and_read),
        TEST(values_are_rounded_to_the_register),
        TEST(bit_fields_share_a_register),
        TEST(refusals_carry_function_and_exception),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
