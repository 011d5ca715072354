/* Address ranges and lists of numbers, as they are written on a command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/cli/address_range.h"

static void test_addresses(void **state)
{
    static const struct {
        const char *text;
        uint32_t first, last;
    } cases[] = {
        {"127.0.0.1", 0x7f000001, 0x7f000001},
        {"127.0.0.1/32", 0x7f000001, 0x7f000001},
        {"192.168.1.0/24", 0xc0a80100, 0xc0a801ff},
        {"192.168.1.77/24", 0xc0a80100, 0xc0a801ff},
        {"10.1.2.7/30", 0x0a010204, 0x0a010207},
        {"10.1.2.7/31", 0x0a010206, 0x0a010207},
        {"10.1.2.3/16", 0x0a010000, 0x0a01ffff},
        {"255.255.255.255/16", 0xffff0000, 0xffffffff},
        {"0.0.0.0/32", 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct address_range range;
        assert_null(address_range_parse(cases[i].text, &range));
        assert_int_equal(range.first, cases[i].first);
        assert_int_equal(range.last, cases[i].last);
    }
}

static void test_what_is_no_range(void **state)
{
    static const struct {
        const char *text, *wrong;
    } cases[] = {
        {"", "is no IPv4 address"},
        {"localhost", "is no IPv4 address"},
        {"::1", "is no IPv4 address"},
        {"10.0.0", "is no IPv4 address"},
        {"10.0.0.256", "is no IPv4 address"},
        {"10.0.0.1 ", "is no IPv4 address"},
        {"100.100.100.100.100/24", "is no IPv4 address"},
        {"/24", "is no IPv4 address"},
        {"10.0.0.1/", "has no prefix from 16 to 32 behind its slash"},
        {"10.0.0.1/33", "has no prefix from 16 to 32 behind its slash"},
        {"10.0.0.1/-1", "has no prefix from 16 to 32 behind its slash"},
        {"10.0.0.1/24x", "has no prefix from 16 to 32 behind its slash"},
        {"10.0.0.1/ 24", "has no prefix from 16 to 32 behind its slash"},
        {"10.0.0.1/15", "has more than 65536 addresses: scan it in parts"},
        {"0.0.0.0/0", "has more than 65536 addresses: scan it in parts"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct address_range range = {1, 2};
        assert_string_equal(address_range_parse(cases[i].text, &range), cases[i].wrong);
        assert_true(range.first == 1 && range.last == 2);
    }
}

static void test_printed(void **state)
{
    char text[RANGE_TEXT_MAX];
    (void)state;
    address_range_print(0xc0a80101, text);
    assert_string_equal(text, "192.168.1.1");
    address_range_print(UINT32_MAX, text);
    assert_string_equal(text, "255.255.255.255");
}

static void assert_numbers(const char *text, unsigned n, const uint16_t *items)
{
    struct address_range_numbers numbers;
    assert_true(address_range_parse_numbers(text, 1, 65535, &numbers));
    assert_int_equal(numbers.n, n);
    assert_memory_equal(numbers.items, items, n * sizeof *items);
}

static void test_numbers(void **state)
{
    (void)state;
    assert_numbers("502", 1, (const uint16_t[]){502});
    assert_numbers("1,255", 2, (const uint16_t[]){1, 255});
    assert_numbers("3-5,1", 4, (const uint16_t[]){3, 4, 5, 1});
    assert_numbers("7-7", 1, (const uint16_t[]){7});
    assert_numbers("2,1-3,2", 3, (const uint16_t[]){2, 1, 3}); /* each once */
    assert_numbers("65535", 1, (const uint16_t[]){65535});
}

static void test_what_are_no_numbers(void **state)
{
    static const char *const cases[] = {"",      ",",  "1,",  ",1",   "1,,2",   "-1",         "1-",
                                        "1-x",   "a",  "1 2", "3-2",  "0",      "0-3",        "256",
                                        "1-256", "+1", "1;2", "0x1f", "000001", "99999999999"};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct address_range_numbers numbers = {.n = 99};
        assert_false(address_range_parse_numbers(cases[i], 1, 255, &numbers));
        assert_int_equal(numbers.n, 99);
    }
}

static void test_a_list_is_bounded(void **state)
{
    struct address_range_numbers numbers;
    (void)state;
    assert_true(address_range_parse_numbers("1-256", 1, 65535, &numbers));
    assert_int_equal(numbers.n, RANGE_NUMBERS_MAX);
    assert_int_equal(numbers.items[RANGE_NUMBERS_MAX - 1], 256);
    assert_true(address_range_parse_numbers("1-256,256,1", 1, 65535, &numbers));
    assert_false(address_range_parse_numbers("1-257", 1, 65535, &numbers));
    assert_false(address_range_parse_numbers("1-65535", 1, 65535, &numbers));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_what_is_no_range),
        cmocka_unit_test(test_printed),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_what_are_no_numbers),
        cmocka_unit_test(test_a_list_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
