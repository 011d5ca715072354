/* The time that a serial line needs, counted by hand from the frames. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "devices/lines/bustime.h"
#include "devices/registers/bus_share.h"

#define MS INT64_C(1000000)

static struct device_modbus line(int64_t baud, int parity, int64_t stop_bits)
{
    return (struct device_modbus){.serial = "/dev/ttyS0",
                                  .baud = baud,
                                  .parity = parity,
                                  .data_bits = 8,
                                  .stop_bits = stop_bits};
}

static void test_the_silence_between_frames(void **state)
{
    const struct device_modbus slow = line(9600, DEVICE_PARITY_NONE, 1);
    const struct device_modbus even = line(19200, DEVICE_PARITY_EVEN, 1);
    const struct device_modbus fast = line(19201, DEVICE_PARITY_NONE, 1);
    (void)state;
    assert_int_equal(bustime_gap_ns(&slow), 35 * 1000000000LL / 9600);  /* 3.5 x 10 bits */
    assert_int_equal(bustime_gap_ns(&even), 77 * 1000000000LL / 38400); /* 3.5 x 11 bits */
    assert_int_equal(bustime_gap_ns(&fast), 1750000);
}

static void test_one_read(void **state)
{
    /* 1000 baud: a character of 10 bits takes 10 ms, a silence 35 ms. */
    const struct device_modbus modbus = line(1000, DEVICE_PARITY_NONE, 1);
    const struct device_modbus two = line(1000, DEVICE_PARITY_ODD, 2);
    (void)state;
    /* 8 bytes, and 5 + 2. */
    assert_int_equal(bustime_read_ns(&modbus, POINT_HOLDING, 1), (150 + 70) * MS);
    assert_int_equal(bustime_read_ns(&modbus, POINT_INPUT, 125), (130 + 2500 + 70) * MS);
    assert_int_equal(bustime_read_ns(&modbus, POINT_COIL, 8), (140 + 70) * MS);
    assert_int_equal(bustime_read_ns(&modbus, POINT_DISCRETE, 9), (150 + 70) * MS);
    /* ":07030000000178CRLF" and ":0703020005EFCRLF": 17 and 15 characters. */
    struct device_modbus ascii = modbus;
    ascii.framing = DEVICE_ASCII;
    assert_int_equal(bustime_read_ns(&ascii, POINT_HOLDING, 1), (170 + 150 + 70) * MS);
    /* 12 bits a character. */
    assert_int_equal(bustime_read_ns(&two, POINT_HOLDING, 1), (180 + 84) * MS);
}

/* Two registers far apart, of which the second is read at every other scan. */
static struct point points[] = {
    {.name = "a", .address = 0, .table = POINT_HOLDING, .type = POINT_UINT16, .every = 1},
    {.name = "b", .address = 1000, .table = POINT_HOLDING, .type = POINT_UINT16, .every = 2},
};
static const struct profile profile = {
    .max_registers = 125, .max_gap = 60, .n_points = 2, .points = points};

static void test_the_share_of_a_device(void **state)
{
    struct device device = {.profile = &profile,
                            .n_points = 2,
                            .points = points,
                            .modbus = line(1000, DEVICE_PARITY_NONE, 1),
                            .poll_ns = 1000 * MS};
    struct plan *plan = plan_new(&device, NULL);
    (void)state;
    assert_non_null(plan);
    /* 220 ms each time and 220 ms every other time, of 1000 ms. */
    assert_true(bus_share(&device, plan) > 0.3299);
    assert_true(bus_share(&device, plan) < 0.3301);
    device.poll_ns = 100 * MS;
    assert_true(bus_share(&device, plan) > 3.299);
    device.modbus.serial[0] = '\0'; /* TCP */
    assert_true(bus_share(&device, plan) == 0);
    plan_free(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_silence_between_frames),
        cmocka_unit_test(test_one_read),
        cmocka_unit_test(test_the_share_of_a_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
