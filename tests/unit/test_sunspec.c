/* sunspec: the chain of models, as long as it makes sense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "devices/registers/sunspec.h"

/* Walks a device of these registers, none of which is refused. Returns the questions. */
static unsigned walk(struct sunspec *sunspec, const uint16_t *registers)
{
    uint16_t address;
    unsigned asked = 0;
    sunspec_begin(sunspec);
    while (sunspec_ask(sunspec, &address)) {
        assert_true(address + SUNSPEC_ASKED <= 65536);
        assert_true(++asked < 100);
        sunspec_take(sunspec, registers + address);
    }
    return asked;
}

static uint16_t registers[65536];

static void put(unsigned address, unsigned first, unsigned second)
{
    registers[address] = (uint16_t)first;
    registers[address + 1] = (uint16_t)second;
}

static void begin(struct sunspec *sunspec)
{
    memset(registers, 0, sizeof registers);
    memset(sunspec, 0, sizeof *sunspec);
    assert_true(sunspec_want(sunspec, 203));
    assert_true(sunspec_want(sunspec, 1));
    assert_true(sunspec_want(sunspec, 203));
    assert_int_equal(sunspec->n_wanted, 2);
}

static void a_chain_is_walked_until_all_is_found(void **state)
{
    (void)state;
    struct sunspec sunspec;
    begin(&sunspec);
    put(50000, 0x5375, 0x6e53);
    put(50002, 1, 66);
    put(50070, 203, 105);
    put(50177, 203, 99); /* a second one: the first counts */
    assert_int_equal(walk(&sunspec, registers), 5);
    assert_true(sunspec_is_complete(&sunspec));
    assert_int_equal(sunspec_find(&sunspec, 1)->address, 50002);
    assert_int_equal(sunspec_find(&sunspec, 203)->address, 50070);
    assert_int_equal(sunspec_find(&sunspec, 203)->length, 105);
    assert_null(sunspec_find(&sunspec, 103));
    sunspec_begin(&sunspec);
    assert_null(sunspec_find(&sunspec, 203));
}

static void a_chain_ends(void **state)
{
    (void)state;
    static const struct {
        unsigned id, length, asked;
    } rows[] = {
        {0xffff, 0, 3},                    /* by its mark */
        {7, 65535, 3},                     /* behind the last register */
        {7, 0, 2 + SUNSPEC_CHAIN_MAX - 1}, /* because no device has so many models */
    };
    for (unsigned i = 0; i < 3; i++) {
        struct sunspec sunspec;
        begin(&sunspec);
        put(40000, 0x5375, 0x6e53);
        put(40002, 1, 2);
        for (unsigned at = 40006; at < 41000; at += 2)
            put(at, rows[i].id, rows[i].length);
        assert_int_equal(walk(&sunspec, registers), rows[i].asked);
        assert_non_null(sunspec_find(&sunspec, 1));
        assert_false(sunspec_is_complete(&sunspec));
    }
}

static void nothing_is_asked_for_nothing(void **state)
{
    (void)state;
    struct sunspec sunspec = {0};
    uint16_t address;
    sunspec_begin(&sunspec);
    assert_false(sunspec_ask(&sunspec, &address));
    assert_true(sunspec_is_complete(&sunspec));
    begin(&sunspec);
    assert_int_equal(walk(&sunspec, registers), 3); /* no "SunS" at any beginning */
    for (unsigned id = 2; id <= SUNSPEC_WANTED_MAX; id++)
        assert_int_equal(sunspec_want(&sunspec, (uint16_t)(1000 + id)), id < SUNSPEC_WANTED_MAX);
}

static void a_refusal_within_the_chain_ends_it(void **state)
{
    (void)state;
    struct sunspec sunspec;
    uint16_t address;
    begin(&sunspec);
    sunspec_begin(&sunspec);
    sunspec_take(&sunspec, NULL); /* 40000 */
    sunspec_take(&sunspec, (const uint16_t[]){0x5375, 0x6e53});
    assert_true(sunspec_ask(&sunspec, &address));
    assert_int_equal(address, 2);
    sunspec_take(&sunspec, (const uint16_t[]){203, 10});
    sunspec_take(&sunspec, NULL);
    assert_false(sunspec_ask(&sunspec, &address));
    assert_int_equal(sunspec_find(&sunspec, 203)->address, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_is_walked_until_all_is_found),
        cmocka_unit_test(a_chain_ends),
        cmocka_unit_test(nothing_is_asked_for_nothing),
        cmocka_unit_test(a_refusal_within_the_chain_ends_it),
    };
    return cmocka_run_group_tests_name("sunspec", tests, NULL, NULL);
}
