/* sample, sample_json: what is published, byte for byte, and what waits for it. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "bridge/wire/sample_json.h"
#include "devices/registers/codec.h"
#include "site.h"

static struct conf conf;
static struct device *battery;

static int read_site(void **state)
{
    (void)state;
    site_read(
        &conf,
        SITE_ONE(SITE_DISCHARGE) "meters = ("
                                 "{ id = \"m1\"; name = \"Grid-Meter\"; type = \"acuvim2\";"
                                 "  modbus: { host = \"h\"; address = 2; }; },"
                                 "{ id = \"m2\"; name = \"PV-Meter\"; type = \"acuvim2-vendor\";"
                                 "  modbus: { host = \"h\"; address = 3; }; } );");
    battery = &conf.devices.devices[0];
    return 0;
}

static int free_site(void **state)
{
    (void)state;
    conf_free(&conf);
    return 0;
}

/* In the order of the profile: status target_power command_source soe available_blocks. */
static void set_raws(struct value *values, const int *raws)
{
    for (unsigned i = 0; i < battery->n_points; i++) {
        values[i] = (struct value){.state = VALUE_READ, .number = raws[i], .raw = 0};
        values[i].raw = (uint64_t)(int64_t)raws[i];
    }
}

/* What goes through memory or disk in between comes out the same. */
static void assert_survives_packing(const struct sample *sample, const char *expected)
{
    unsigned char packed[SAMPLE_PACKED_MAX];
    char text[1 << 16];
    struct value values[PROFILE_POINTS_MAX];
    struct sample unpacked;
    size_t size = sample_pack(sample, packed, sizeof packed);
    assert_true(size > 0);
    assert_true(sample_unpack(sample->layout, packed, size, &unpacked, values));
    assert_int_equal(sample_json(&unpacked, text, sizeof text), strlen(expected));
    assert_memory_equal(text, expected, strlen(expected));

    /* Whatever is missing or too much is seen. */
    for (size_t room = 0; room < size; room++) {
        assert_int_equal(sample_pack(sample, packed, room), 0);
        unsigned char *tight = malloc(room + 1);
        memcpy(tight, packed, room);
        assert_false(sample_unpack(sample->layout, tight, room, &unpacked, values));
        free(tight);
    }
    packed[size] = 0;
    assert_false(sample_unpack(sample->layout, packed, size + 1, &unpacked, values));
    struct layout other = *sample->layout;
    other.n_points++;
    assert_false(sample_unpack(&other, packed, size, &unpacked, values));
    other = *sample->layout;
    other.is_text = true;
    assert_false(sample_unpack(&other, packed, size, &unpacked, values));
}

static void assert_sample(const struct device *device, const struct value *values,
                          const char *expected)
{
    const struct layout layout = sample_layout(device);
    struct sample sample = {.layout = &layout,
                            .ts_ms = 1763791200123,
                            .run = "5f3a9c1e",
                            .seq = 1042,
                            .quality = sample_quality(values, device->n_points),
                            .values = values};
    char text[1024];
    memset(text, '#', sizeof text);
    size_t size = sample_json(&sample, text, sizeof text);
    assert_int_equal(size, strlen(expected));
    assert_memory_equal(text, expected, size);
    assert_int_equal(text[size], '#');

    /* Whatever room there is, it is not exceeded; less than enough gives nothing. */
    for (size_t room = 0; room <= size; room++) {
        char *tight = malloc(room + 1);
        tight[room] = '#';
        assert_int_equal(sample_json(&sample, tight, room), room < size ? 0 : size);
        assert_int_equal(tight[room], '#');
        free(tight);
    }
    json_t *json = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, NULL);
    assert_non_null(json);
    json_decref(json);
    assert_survives_packing(&sample, expected);
}

#define HEAD "{\"ts\":1763791200123,\"run\":\"5f3a9c1e\",\"seq\":1042,\"quality\":"

static void test_a_good_sample(void **state)
{
    (void)state;
    struct value values[8];
    set_raws(values, (const int[]){1, 50, 2, 54, 10});
    assert_sample(battery, values,
                  HEAD "\"good\",\"data\":{\"status\":\"ready\",\"status_code\":1,"
                       "\"target_power\":50,\"command_source\":2,\"soe\":54,"
                       "\"available_blocks\":10}}");
}

static void test_a_partial_sample(void **state)
{
    (void)state;
    struct value values[8];
    set_raws(values, (const int[]){1, -50, 2, 54, 10});
    values[3] = (struct value){.state = VALUE_FAULT, .fault = FAULT_ILLEGAL_ADDRESS, .number = 54};
    values[4] = (struct value){.state = VALUE_FAULT, .fault = FAULT_NOT_FINITE, .number = NAN};
    assert_sample(battery, values,
                  HEAD "\"partial\",\"data\":{\"status\":\"ready\",\"status_code\":1,"
                       "\"target_power\":-50,\"command_source\":2,\"soe\":null,"
                       "\"available_blocks\":null},\"errors\":{\"soe\":\"illegal_address\","
                       "\"available_blocks\":\"not_finite\"}}");
}

static void test_one_point_of_many_makes_it_partial(void **state)
{
    (void)state;
    struct value values[8];
    for (unsigned i = 0; i < battery->n_points; i++) {
        set_raws(values, (const int[]){1, 50, 2, 54, 10});
        assert_int_equal(sample_quality(values, battery->n_points), SAMPLE_GOOD);
        values[i] = (struct value){.state = VALUE_FAULT, .fault = FAULT_BUSY};
        assert_int_equal(sample_quality(values, battery->n_points), SAMPLE_PARTIAL);
        assert_string_equal(sample_quality_word(SAMPLE_PARTIAL), "partial");
    }
}

static void test_a_bad_sample(void **state)
{
    (void)state;
    struct value values[8];
    for (unsigned i = 0; i < battery->n_points; i++)
        values[i] = (struct value){.state = VALUE_FAULT, .fault = FAULT_TIMEOUT, .raw = 1};
    assert_sample(battery, values,
                  HEAD "\"bad\",\"data\":{\"status\":null,\"status_code\":null,"
                       "\"target_power\":null,\"command_source\":null,\"soe\":null,"
                       "\"available_blocks\":null},\"errors\":{\"status\":\"timeout\","
                       "\"target_power\":\"timeout\",\"command_source\":\"timeout\","
                       "\"soe\":\"timeout\",\"available_blocks\":\"timeout\"}}");
}

static void test_points_that_are_not_due_are_left_out(void **state)
{
    (void)state;
    struct value values[8];
    set_raws(values, (const int[]){1, 50, 2, 54, 10});
    values[0].state = VALUE_ABSENT;
    values[2].state = VALUE_ABSENT;
    assert_sample(battery, values,
                  HEAD "\"good\",\"data\":{\"target_power\":50,\"soe\":54,"
                       "\"available_blocks\":10}}");
    for (unsigned i = 0; i < battery->n_points; i++)
        values[i].state = VALUE_ABSENT;
    assert_sample(battery, values, HEAD "\"good\",\"data\":{}}");
}

static void test_labels(void **state)
{
    (void)state;
    struct point point = {.name = "mode",
                          .type = POINT_INT16,
                          .scale = 1,
                          .enumerated = true,
                          .n_labels = 4,
                          .labels = (const struct point_label[]){
                              {-2, "standby"}, {1, "\\a\"\"b c\""}, {2, "\""}, {3, "x\\"}}};
    struct device device = {.n_points = 1, .points = &point};
    struct value value = {.state = VALUE_READ, .number = -2, .raw = (uint64_t)-2};
    assert_sample(&device, &value,
                  HEAD "\"good\",\"data\":{\"mode\":\"standby\",\"mode_code\":-2}}");
    value.raw = 7;
    value.number = 7;
    assert_sample(&device, &value, HEAD "\"good\",\"data\":{\"mode\":\"code_7\",\"mode_code\":7}}");
    value.raw = (uint64_t)-7;
    assert_sample(&device, &value,
                  HEAD "\"good\",\"data\":{\"mode\":\"code_-7\",\"mode_code\":-7}}");
    value.raw = 1;
    assert_sample(&device, &value,
                  HEAD "\"good\",\"data\":{\"mode\":\"\\\\a\\\"\\\"b c\\\"\",\"mode_code\":1}}");
    value.raw = 2;
    assert_sample(&device, &value, HEAD "\"good\",\"data\":{\"mode\":\"\\\"\",\"mode_code\":2}}");
    value.raw = 3;
    assert_sample(&device, &value, HEAD "\"good\",\"data\":{\"mode\":\"x\\\\\",\"mode_code\":3}}");
}

static void test_bools_floats_and_counters(void **state)
{
    (void)state;
    struct point points[] = {
        {.name = "on", .type = POINT_BOOL, .table = POINT_COIL, .scale = 1},
        {.name = "off", .type = POINT_BOOL, .table = POINT_COIL, .scale = 1},
        {.name = "total", .type = POINT_UINT64, .scale = 1},
        {.name = "tenths", .type = POINT_UINT32, .scale = 0.1},
        {.name = "volts", .type = POINT_FLOAT32, .scale = 1},
    };
    struct device device = {.n_points = 5, .points = points};
    const uint16_t words[5][4] = {
        {1}, {0}, {0xffff, 0xffff, 0xffff, 0xffff}, {0x0a9d, 0x4089}, {0x4366, 0x199a}};
    struct value values[5];
    for (unsigned i = 0; i < 5; i++)
        values[i] = codec_decode(&points[i], words[i]);
    assert_sample(&device, values,
                  HEAD "\"good\",\"data\":{\"on\":true,\"off\":false,"
                       "\"total\":18446744073709551615,\"tenths\":17807783.3,"
                       "\"volts\":230.1}}");
}

static void test_texts_and_moved_points(void **state)
{
    (void)state;
    struct point points[] = {
        {.name = "serial", .type = POINT_STRING, .registers = 4, .scale = 1},
        {.name = "none", .type = POINT_STRING, .registers = 4, .scale = 1},
        {.name = "volts", .type = POINT_INT16, .scale = 1, .scale_row = 4},
        {.name = "volts_scale", .type = POINT_INT16, .scale = 1},
    };
    struct device device = {.n_points = 4, .points = points};
    const uint16_t words[4][4] = {{0x4142, 0x225c, 0x4300, 0}, {0, 0, 0, 0}, {0xf700}, {0xfffe}};
    struct value values[4];
    for (unsigned i = 0; i < 4; i++)
        values[i] = codec_decode(&points[i], words[i]);
    codec_rescale(&points[2], &values[3], &values[2]);
    assert_sample(&device, values,
                  HEAD "\"good\",\"data\":{\"serial\":\"AB\\\"\\\\C\",\"none\":\"\","
                       "\"volts\":-23.04,\"volts_scale\":-2}}");
}

/* ---- every profile, byte for byte */

/* Fills the values of one device as a scan would: registers from a generator, some
 * points refused, some not due. */
static void make_values(const struct device *device, unsigned pattern, struct value *values)
{
    static const enum fault faults[] = {
        FAULT_ILLEGAL_ADDRESS, FAULT_ILLEGAL_VALUE, FAULT_DEVICE_FAILURE,
        FAULT_ACKNOWLEDGE,     FAULT_BUSY,          FAULT_GATEWAY_PATH,
        FAULT_GATEWAY_TARGET,  FAULT_TIMEOUT,       FAULT_CONNECTION,
        FAULT_BAD_REPLY,       FAULT_NOT_FINITE,    FAULT_IMPLAUSIBLE,
        FAULT_ILLEGAL_FUNCTION};
    uint32_t random = 2463534242u + pattern;
    for (unsigned i = 0; i < device->n_points; i++) {
        uint16_t words[4];
        for (unsigned k = 0; k < 4; k++) {
            random ^= random << 13; /* xorshift32, G. Marsaglia 2003 */
            random ^= random >> 17;
            random ^= random << 5;
            words[k] = pattern == 0 ? 0 : pattern == 1 ? k % 2 : (uint16_t)random;
        }
        values[i] = codec_decode(&device->points[i], words);
        if (pattern >= 3 && (i + pattern) % 4 == 0)
            values[i] =
                (struct value){.state = VALUE_FAULT, .fault = (int)faults[(i + pattern) % 13]};
        if (pattern >= 4 && (i + pattern) % 5 == 0)
            values[i] = (struct value){.state = VALUE_ABSENT};
        if (pattern == 5)
            values[i] = (struct value){.state = VALUE_FAULT, .fault = FAULT_TIMEOUT};
    }
}

/* golden/samples.json was recorded from the release that made JSON in the poller. */
static void test_every_profile_says_what_the_first_release_said(void **state)
{
    (void)state;
    char expected[1 << 16];
    FILE *golden = fopen(TESTS_DIR "/unit/golden/samples.json", "r");
    assert_non_null(golden);
    assert_int_equal(conf.devices.n_devices, 3);
    for (unsigned i = 0; i < conf.devices.n_devices; i++) {
        const struct layout layout = sample_layout(&conf.devices.devices[i]);
        for (unsigned pattern = 0; pattern < 8; pattern++) {
            struct value values[PROFILE_POINTS_MAX];
            char text[1 << 16];
            make_values(&conf.devices.devices[i], pattern, values);
            const struct sample sample = {.layout = &layout,
                                          .ts_ms = 1763791200123 + pattern,
                                          .run = "5f3a9c1e",
                                          .seq = 1042 + pattern,
                                          .quality = sample_quality(values, layout.n_points),
                                          .values = values,
                                          .has_energy = i == 0 && pattern % 2 == 1,
                                          .charged_kwh = 1204.25,
                                          .discharged_kwh = 1102.5};
            assert_non_null(fgets(expected, sizeof expected, golden));
            expected[strcspn(expected, "\n")] = '\0';
            assert_true(sample_json_room(&layout) > strlen(expected));
            size_t size = sample_json(&sample, text, sample_json_room(&layout));
            assert_int_equal(size, strlen(expected));
            assert_memory_equal(text, expected, size);
            assert_survives_packing(&sample, expected);
        }
    }
    assert_null(fgets(expected, sizeof expected, golden));
    fclose(golden);
}

/* ---- bytes that are no sample ---- */

static void test_what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    /* Where they stand in a packed sample: version, flags, ts, run, seq, number
     * of points, quality, and the first value's kind, raw, number. */
    static const struct {
        unsigned at;
        unsigned char byte;
    } rows[] = {{0, 0},  {0, 3},   {1, 2},    {10, '"'}, {17, 0x80}, {26, 4},   {27, 1},
                {28, 3}, {29, 14}, {29, 239}, {29, 249}, {29, 254},  {45, 0x7f}};
    const struct layout layout = sample_layout(battery);
    struct value values[8], unpacked_values[8];
    unsigned char packed[SAMPLE_PACKED_MAX];
    struct sample unpacked = {.seq = 7};
    set_raws(values, (const int[]){1, 50, 2, 54, 10});
    const struct sample sample = {.layout = &layout, .run = "5f3a9c1e", .seq = 1, .values = values};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        values[0].number = INFINITY; /* but for its last byte */
        size_t size = sample_pack(&sample, packed, sizeof packed);
        packed[45] = 0;
        for (packed[0] = 1; packed[0] <= 2; packed[0]++) { /* either version has that */
            assert_true(sample_unpack(&layout, packed, size, &unpacked, unpacked_values));
            unpacked.seq = 7;
        }
        packed[0] = 2;
        packed[rows[i].at] = rows[i].byte;
        assert_false(sample_unpack(&layout, packed, size, &unpacked, unpacked_values));
        assert_int_equal(unpacked.seq, 7);
    }
}

/* Thousands of samples wait in memory: what the register held is not said twice. */
static void test_a_register_takes_a_byte_more_than_it_has(void **state)
{
    (void)state;
    const struct layout layout = sample_layout(battery);
    struct value values[8];
    unsigned char packed[SAMPLE_PACKED_MAX];
    set_raws(values, (const int[]){1, 300, 0, 54, 10});
    const struct sample sample = {.layout = &layout, .run = "5f3a9c1e", .seq = 1, .values = values};
    const size_t without = 29;
    assert_int_equal(sample_pack(&sample, packed, sizeof packed), without + 2 + 3 + 1 + 2 + 2);
    values[3].number = 53.9; /* whatever has moved it */
    assert_int_equal(sample_pack(&sample, packed, sizeof packed), without + 2 + 3 + 1 + 17 + 2);
    assert_true(sample_packed_most(battery) >= without + 16 + 5 * 18);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_sample),
        cmocka_unit_test(test_a_partial_sample),
        cmocka_unit_test(test_one_point_of_many_makes_it_partial),
        cmocka_unit_test(test_a_bad_sample),
        cmocka_unit_test(test_points_that_are_not_due_are_left_out),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_bools_floats_and_counters),
        cmocka_unit_test(test_texts_and_moved_points),
        cmocka_unit_test(test_every_profile_says_what_the_first_release_said),
        cmocka_unit_test(test_what_makes_no_sense_is_refused),
        cmocka_unit_test(test_a_register_takes_a_byte_more_than_it_has),
    };
    return cmocka_run_group_tests(tests, read_site, free_site);
}
