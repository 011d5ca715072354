/* One device read once: which registers, which values, and what is left of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/cli/reading.h"
#include "tests/unit/fake_link.h"

enum { A, LONG, RARE, FAR, N };

#define ROW .table = POINT_HOLDING, .scale = 1, .low = NAN, .high = NAN

static struct point points[N] = {
    [A] = {.name = "a", .address = 10, .type = POINT_UINT16, .every = 1, ROW},
    [LONG] = {.name = "long", .address = 11, .type = POINT_UINT64, .every = 1, ROW},
    [RARE] = {.name = "rare", .address = 20, .type = POINT_UINT16, .every = 3, ROW},
    [FAR] = {.name = "far", .address = 1000, .type = POINT_UINT16, .every = 1, ROW},
};
static const struct profile profile = {
    .max_registers = 125, .max_gap = 60, .n_points = N, .points = points};
static const struct device device = {.profile = &profile,
                                     .n_points = N,
                                     .points = points,
                                     .modbus = {.address = 2, .timeout_ns = 1000000}};

static struct fake_link *fake;
static struct reading reading;

static int set_up(void **state)
{
    (void)state;
    fake = fake_link_new();
    const uint16_t words[] = {0xffff, 1, 2, 3, 4};
    memcpy(&fake->registers[2][10], words, sizeof words);
    fake->registers[2][20] = 20;
    fake->registers[2][1000] = 1000;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    reading_free(&reading);
    link_free(&fake->link);
    free(fake);
    return 0;
}

static void test_all(void **state)
{
    (void)state;
    assert_true(reading_init(&reading, &device, NULL));
    assert_int_equal(reading_take(&reading, &fake->link), FAULT_NONE);
    assert_int_equal(reading.read, N);
    assert_int_equal(reading.failed, 0);
    assert_true(reading.values[A].number == 0xffff);
    assert_true(reading.values[LONG].raw == 0x0001000200030004);
    assert_true(reading.values[RARE].number == 20);
    assert_int_equal(reading.words[A][0], 0xffff);
    assert_memory_equal(reading.words[LONG], ((uint16_t[]){1, 2, 3, 4}), 8);
    assert_int_equal(reading.words[FAR][0], 1000);
    assert_int_equal(fake_count(fake, FAKE_READ, 0), 2);
    assert_int_equal(fake->n_opened, 1);
    /* Once more on the open link. */
    fake->registers[2][1000] = 1001;
    assert_int_equal(reading_take(&reading, &fake->link), FAULT_NONE);
    assert_true(reading.values[FAR].number == 1001);
    assert_int_equal(fake->n_opened, 1);
}

static void test_some(void **state)
{
    static const bool wanted[N] = {[FAR] = true};
    (void)state;
    assert_true(reading_init(&reading, &device, wanted));
    assert_int_equal(reading_take(&reading, &fake->link), FAULT_NONE);
    assert_int_equal(reading.values[A].state, VALUE_ABSENT);
    assert_int_equal(reading.values[FAR].state, VALUE_READ);
    assert_int_equal(fake_count(fake, FAKE_READ, 0), 1);
    assert_int_equal(fake_count(fake, FAKE_READ, 1000), 1);
}

static void test_poll_classes_by_number(void **state)
{
    (void)state;
    assert_true(reading_init(&reading, &device, NULL));
    reading.number = 2;
    assert_int_equal(reading_take(&reading, &fake->link), FAULT_NONE);
    assert_int_equal(reading.values[RARE].state, VALUE_ABSENT);
    reading.number = 3;
    assert_int_equal(reading_take(&reading, &fake->link), FAULT_NONE);
    assert_int_equal(reading.values[RARE].state, VALUE_READ);
}

static void test_what_cannot_be_is_no_value(void **state)
{
    (void)state;
    points[A].high = 100;
    assert_true(reading_init(&reading, &device, NULL));
    assert_int_equal(reading_take(&reading, &fake->link), FAULT_NONE);
    points[A].high = NAN;
    assert_int_equal(reading.values[A].state, VALUE_FAULT);
    assert_int_equal(reading.values[A].fault, FAULT_IMPLAUSIBLE);
    assert_int_equal(reading.words[A][0], 0xffff); /* and yet these came */
}

static void test_silence(void **state)
{
    (void)state;
    assert_true(reading_init(&reading, &device, NULL));
    fake_rule_add(
        fake, (struct fake_rule){.function = FAKE_READ, .address = 1000, .fault = FAULT_TIMEOUT});
    assert_int_equal(reading_take(&reading, &fake->link), FAULT_NONE); /* it is there */
    assert_int_equal(reading.values[A].state, VALUE_READ);
    assert_int_equal(reading.values[FAR].fault, FAULT_TIMEOUT);
    fake->rules[0].address = 0;
    assert_int_equal(reading_take(&reading, &fake->link), FAULT_TIMEOUT);
    assert_int_equal(reading.values[A].fault, FAULT_TIMEOUT);
}

static void test_no_link(void **state)
{
    (void)state;
    assert_true(reading_init(&reading, &device, NULL));
    fake_rule_add(fake, (struct fake_rule){.function = FAKE_OPEN, .fault = FAULT_CONNECTION});
    assert_int_equal(reading_take(&reading, &fake->link), FAULT_CONNECTION);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(reading.values[i].fault, FAULT_CONNECTION);
    assert_int_equal(fake_count(fake, FAKE_READ, 0), 0);
}

static void test_it_gives_up(void **state)
{
    (void)state;
    assert_true(reading_init(&reading, &device, NULL));
    reading.most_failed = 0;
    fake_rule_add(fake, (struct fake_rule){.address = 10, .fault = FAULT_ILLEGAL_ADDRESS});
    assert_int_equal(reading_take(&reading, &fake->link), FAULT_NONE);
    assert_int_equal(reading.failed, 1);
    assert_int_equal(reading.values[FAR].state, VALUE_ABSENT);
    assert_int_equal(fake_count(fake, FAKE_READ, 1000), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_all),         TEST(test_some),    TEST(test_poll_classes_by_number),
        TEST(test_silence),     TEST(test_no_link), TEST(test_what_cannot_be_is_no_value),
        TEST(test_it_gives_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
