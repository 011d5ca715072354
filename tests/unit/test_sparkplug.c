/* sparkplug: payloads byte for byte, and what a host's command says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/wire/sparkplug.h"

static void test_a_birth_byte_for_byte(void **state)
{
    static const unsigned char expected[] = {
        0x08, 0xe8, 0x07,            /* timestamp 1000 */
        0x12, 0x37,                  /* a metric */
        0x0a, 0x03, 's',  'o',  'e', /* name */
        0x10, 0x07,                  /* alias */
        0x18, 0xd0, 0x0f,            /* timestamp 2000 */
        0x20, 0x0a,                  /* datatype Double */
        0x4a, 0x20,                  /* properties */
        0x0a, 0x07, 'Q',  'u',  'a',  'l',  'i',  't',  'y',  0x0a, 0x07, 'e',  'n',
        'g',  'U',  'n',  'i',  't',  0x12, 0x05, 0x08, 0x03, 0x18, 0xc0, 0x01, /* Int32 192 */
        0x12, 0x05, 0x08, 0x0c, 0x42, 0x01, '%',                                /* String % */
        0x69, 0,    0,    0,    0,    0,    0,    0x4b, 0x40,                   /* 54.0 */
        0x18, 0x05,                                                             /* seq */
    };
    const struct sparkplug_value value = {.number = 54.0};
    const struct sparkplug_metric metric = {
        .name = "soe",
        .alias = 7,
        .ts_ms = 2000,
        .type = SPARKPLUG_DOUBLE,
        .value = &value,
        .quality = SPARKPLUG_GOOD,
        .unit = "%",
    };
    size_t size = 0;
    (void)state;
    void *bytes = sparkplug_encode(1000, 5, &metric, 1, &size);
    assert_non_null(bytes);
    assert_int_equal(size, sizeof(expected));
    assert_memory_equal(bytes, expected, size);
    free(bytes);
}

static unsigned decode(const struct sparkplug_metric *metric, struct sparkplug_wish *wish)
{
    size_t size;
    unsigned n = 0;
    void *bytes = sparkplug_encode(1, -1, metric, 1, &size);
    assert_non_null(bytes);
    assert_true(sparkplug_decode(bytes, size, wish, 1, &n));
    free(bytes);
    return n;
}

static void test_what_was_said_is_understood(void **state)
{
    struct sparkplug_value value = {.number = -12.5, .integer = -3, .text = "x"};
    struct sparkplug_metric metric = {.name = "target_power",
                                      .alias = 9,
                                      .ts_ms = 77,
                                      .type = SPARKPLUG_DOUBLE,
                                      .value = &value,
                                      .quality = SPARKPLUG_NO_QUALITY};
    struct sparkplug_wish wish;
    (void)state;
    assert_int_equal(decode(&metric, &wish), 1);
    assert_string_equal(wish.name, "target_power");
    assert_int_equal(wish.alias, 9);
    assert_true(wish.has_ts && wish.ts_ms == 77);
    assert_true(wish.kind == SPARKPLUG_NUMBER && wish.number == -12.5);
    metric.type = SPARKPLUG_INT64;
    assert_int_equal(decode(&metric, &wish), 1);
    assert_true(wish.kind == SPARKPLUG_NUMBER && wish.number == -3.0);
    metric.type = SPARKPLUG_BOOLEAN;
    assert_int_equal(decode(&metric, &wish), 1);
    assert_true(wish.kind == SPARKPLUG_FLAG && wish.number == 1.0);
    metric.type = SPARKPLUG_STRING;
    assert_int_equal(decode(&metric, &wish), 1);
    assert_int_equal(wish.kind, SPARKPLUG_WORDS);
    value.is_null = true;
    assert_int_equal(decode(&metric, &wish), 1);
    assert_int_equal(wish.kind, SPARKPLUG_NOTHING);
}

static void test_what_is_no_payload_is_refused(void **state)
{
    static const char *const texts[] = {"\x12\x7f", "\xff", "{\"id\":1}", "\x12\x02\x0a\x05"};
    struct sparkplug_wish wish;
    unsigned n = 99;
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        assert_false(sparkplug_decode(texts[i], strlen(texts[i]), &wish, 1, &n));
        assert_int_equal(n, 99);
    }
    assert_true(sparkplug_decode("", 0, &wish, 1, &n));
    assert_int_equal(n, 0);
}

static void test_a_number_that_is_none_is_nothing(void **state)
{
    /* A metric with a double NaN, and one with an infinite float. */
    static const unsigned char nan[] = {0x12, 0x09, 0x69, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f};
    static const unsigned char infinite[] = {0x12, 0x05, 0x65, 0, 0, 0x80, 0x7f};
    struct sparkplug_wish wish;
    unsigned n;
    (void)state;
    assert_true(sparkplug_decode(nan, sizeof(nan), &wish, 1, &n));
    assert_int_equal(wish.kind, SPARKPLUG_NOTHING);
    assert_true(wish.number == 0.0);
    assert_true(sparkplug_decode(infinite, sizeof(infinite), &wish, 1, &n));
    assert_int_equal(wish.kind, SPARKPLUG_NOTHING);
}

/* Section 6.4.19: a command's metrics may go without a timestamp, its payload may not. */
static void test_a_payloads_time_is_that_of_its_metrics(void **state)
{
    static const unsigned char bytes[] = {0x08, 0x05, 0x12, 0x02, 0x70, 0x01,
                                          0x12, 0x04, 0x18, 0x07, 0x70, 0x01};
    struct sparkplug_wish wishes[2];
    unsigned n;
    (void)state;
    assert_true(sparkplug_decode(bytes, sizeof(bytes), wishes, 2, &n));
    assert_int_equal(n, 2);
    assert_true(wishes[0].has_ts && wishes[0].ts_ms == 5);
    assert_true(wishes[1].has_ts && wishes[1].ts_ms == 7);
    assert_true(sparkplug_decode(bytes + 2, 4, wishes, 1, &n));
    assert_false(wishes[0].has_ts);
}

/* 12.3 as a float, which is none of the decimals that a register holds. */
static void test_a_float_is_the_decimal_that_was_meant(void **state)
{
    static const unsigned char bytes[] = {0x12, 0x05, 0x65, 0xcd, 0xcc, 0x44, 0x41};
    struct sparkplug_wish wish;
    unsigned n;
    (void)state;
    assert_true(sparkplug_decode(bytes, sizeof(bytes), &wish, 1, &n));
    assert_true(wish.kind == SPARKPLUG_NUMBER && wish.number == 12.3);
}

static size_t put_varint(unsigned char *bytes, uint64_t number)
{
    size_t n = 0;
    for (; number > 0x7f; number >>= 7)
        bytes[n++] = (unsigned char)(number | 0x80);
    bytes[n++] = (unsigned char)number;
    return n;
}

/* Libraries send what is negative in the width of its type, or of the field: a charge is no
 * discharge. What the type cannot hold is nothing. */
static void test_whole_numbers_of_every_width(void **state)
{
    enum { INT8 = 1, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FLOAT, DATE = 13 };
    enum { IN_INT = 10, IN_LONG = 11 };
    static const struct {
        unsigned type, field; /* type 0: it does not say */
        uint64_t content;
        bool good;
        double number;
    } rows[] = {
        {INT8, IN_INT, 156, true, -100},
        {INT8, IN_INT, UINT32_MAX - 99, true, -100},
        {INT8, IN_INT, 100, true, 100},
        {INT8, IN_INT, 128, true, -128},
        {INT8, IN_INT, 300, false, 0},
        {INT8, IN_INT, UINT32_MAX - 200, false, 0},
        {INT16, IN_INT, 65506, true, -30},
        {INT16, IN_INT, UINT32_MAX - 29, true, -30},
        {INT16, IN_INT, 250, true, 250},
        {INT16, IN_INT, 65536, false, 0},
        {INT32, IN_INT, UINT32_MAX - 29, true, -30},
        {INT32, IN_LONG, UINT64_MAX - 29, true, -30},
        {INT32, IN_LONG, UINT32_MAX - 29, true, -30},
        {INT64, IN_LONG, UINT64_MAX - 29, true, -30},
        {INT64, IN_INT, UINT32_MAX - 29, true, -30},
        {UINT8, IN_INT, 156, true, 156},
        {UINT8, IN_INT, 256, false, 0},
        {UINT16, IN_INT, 65506, true, 65506},
        {UINT32, IN_INT, UINT32_MAX - 29, true, 4294967266},
        {UINT32, IN_LONG, UINT32_MAX - 29, true, 4294967266},
        {UINT64, IN_LONG, UINT64_MAX - 29, true, 18446744073709551586.0},
        {0, IN_INT, UINT32_MAX - 29, true, -30},
        {0, IN_INT, 156, true, 156},
        {0, IN_LONG, UINT64_MAX - 29, true, -30},
        {SPARKPLUG_DOUBLE, IN_INT, 50, true, 50},
        {FLOAT, IN_LONG, UINT64_MAX, true, -1},
        {DATE, IN_LONG, 50, false, 0},
        {SPARKPLUG_STRING, IN_INT, 50, false, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        unsigned char bytes[32] = {0x12};
        struct sparkplug_wish wish;
        unsigned n;
        size_t size = 2;
        if (rows[i].type != 0) {
            bytes[size++] = 4 << 3;
            bytes[size++] = (unsigned char)rows[i].type;
        }
        bytes[size++] = (unsigned char)(rows[i].field << 3);
        size += put_varint(bytes + size, rows[i].content);
        bytes[1] = (unsigned char)(size - 2);
        assert_true(sparkplug_decode(bytes, size, &wish, 1, &n));
        if ((wish.kind == SPARKPLUG_NUMBER) != rows[i].good || wish.number != rows[i].number)
            fail_msg("row %zu: kind %d, %g", i, (int)wish.kind, wish.number);
    }
}

/* 2^63 ms and more is a time as well, and not none. */
static void test_a_time_that_never_comes(void **state)
{
    static const unsigned char bytes[] = {0x12, 0x0d, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff,
                                          0xff, 0xff, 0xff, 0xff, 0x01, 0x70, 0x01};
    struct sparkplug_wish wish;
    unsigned n;
    (void)state;
    assert_true(sparkplug_decode(bytes, sizeof(bytes), &wish, 1, &n));
    assert_true(wish.has_ts && wish.ts_ms == INT64_MAX);
}

static void test_what_a_host_says_of_itself(void **state)
{
    static const char *const bad[] = {"",
                                      "ONLINE",
                                      "[]",
                                      "{\"online\":true}",
                                      "{\"online\":1,\"timestamp\":1}",
                                      "{\"online\":true,\"timestamp\":1.5}"};
    static const char good[] = "{\"timestamp\":1763791200000,\"online\":true}";
    bool online = false;
    int64_t ts_ms = 0;
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_false(sparkplug_decode_state(bad[i], strlen(bad[i]), &online, &ts_ms));
    assert_true(sparkplug_decode_state(good, strlen(good), &online, &ts_ms));
    assert_true(online && ts_ms == 1763791200000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_birth_byte_for_byte),
        cmocka_unit_test(test_what_was_said_is_understood),
        cmocka_unit_test(test_what_is_no_payload_is_refused),
        cmocka_unit_test(test_a_number_that_is_none_is_nothing),
        cmocka_unit_test(test_a_payloads_time_is_that_of_its_metrics),
        cmocka_unit_test(test_a_float_is_the_decimal_that_was_meant),
        cmocka_unit_test(test_whole_numbers_of_every_width),
        cmocka_unit_test(test_a_time_that_never_comes),
        cmocka_unit_test(test_what_a_host_says_of_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
