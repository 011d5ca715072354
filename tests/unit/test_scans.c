/* scans: what was not acknowledged is history, oldest first, and nothing is sent twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bridge/store/scans.h"

static struct scans *scans;
static struct scans_item item;
static const bool all[2] = {true, true};

static int set_up(void **state)
{
    (void)state;
    scans = scans_new(SCANS_BYTES);
    return scans == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    scans_free(scans);
    return 0;
}

static void put(unsigned device, char name)
{
    scans_put(scans, device, NULL, &name, 1);
}

static void assert_live(char name)
{
    assert_true(scans_take_live(scans, &item));
    assert_int_equal(item.packed[0], name);
}

static void assert_history(unsigned of, unsigned device, char name)
{
    assert_true(scans_take_history(scans, all, &of, &item));
    assert_int_equal(of, device);
    assert_int_equal(item.packed[0], name);
}

static void test_without_a_node_nothing_is_kept(void **state)
{
    (void)state;
    unsigned any = SCANS_ANY;
    put(0, 'a');
    put(0, 'b');
    assert_live('a');
    scans_rewind(scans);
    scans_serve(scans, false);
    put(0, 'c');
    assert_int_equal(scans_history(scans), 0);
    assert_false(scans_take_live(scans, &item));
    assert_false(scans_take_history(scans, all, &any, &item));
    scans_ack(scans, scans_end_batch(scans));
    const unsigned nodes = scans_nodes(scans);
    scans_serve(scans, true);
    assert_int_equal(scans_nodes(scans), nodes + 1);
    put(0, 'd');
    assert_live('d');
    assert_false(scans_take_history(scans, all, &any, &item));
    assert_int_equal(scans_dropped(scans), 0);
}

static void test_live_ones_come_in_order_once(void **state)
{
    (void)state;
    put(0, 'a');
    put(1, 'b');
    assert_live('a');
    assert_live('b');
    assert_false(scans_take_live(scans, &item));
    put(0, 'c');
    assert_live('c');
    unsigned any = SCANS_ANY;
    assert_false(scans_take_history(scans, all, &any, &item));
}

static void test_what_is_acknowledged_is_forgotten(void **state)
{
    (void)state;
    assert_int_equal(scans_end_batch(scans), 0);
    put(0, 'a');
    assert_live('a');
    uint64_t batch = scans_end_batch(scans);
    assert_true(batch > 0);
    put(0, 'b');
    assert_live('b');
    scans_ack(scans, batch);
    scans_rewind(scans);
    assert_int_equal(scans_history(scans), 1);
    assert_history(SCANS_ANY, 0, 'b');
}

static void test_history_comes_by_device_oldest_first(void **state)
{
    (void)state;
    put(0, 'a');
    assert_live('a');
    put(1, 'b');
    assert_live('b');
    put(0, 'c');
    assert_live('c');
    put(0, 'd'); /* not taken: it stays live */
    scans_rewind(scans);
    assert_history(SCANS_ANY, 0, 'a');
    assert_history(0, 0, 'c');
    unsigned first = 0;
    assert_false(scans_take_history(scans, all, &first, &item));
    assert_history(SCANS_ANY, 1, 'b');
    assert_live('d');
    assert_int_equal(scans_history(scans), 0);
    scans_ack(scans, scans_end_batch(scans));
    scans_rewind(scans);
    assert_int_equal(scans_history(scans), 0);
}

static void test_a_lost_acknowledgement_makes_history_of_history(void **state)
{
    (void)state;
    put(0, 'a');
    assert_live('a');
    scans_rewind(scans);
    assert_history(SCANS_ANY, 0, 'a');
    assert_true(scans_end_batch(scans) > 0);
    scans_rewind(scans);
    assert_history(SCANS_ANY, 0, 'a');
}

static void test_history_of_one_that_may_not_waits(void **state)
{
    const bool second[2] = {false, true};
    unsigned any = SCANS_ANY;
    (void)state;
    put(0, 'a');
    put(1, 'b');
    assert_live('a');
    assert_live('b');
    scans_rewind(scans);
    assert_true(scans_take_history(scans, second, &any, &item));
    assert_int_equal(any, 1);
    assert_int_equal(item.packed[0], 'b');
    any = SCANS_ANY;
    assert_false(scans_take_history(scans, second, &any, &item));
    assert_int_equal(scans_history(scans), 1);
    assert_history(SCANS_ANY, 0, 'a');
}

static void test_of_a_full_ring_the_oldest_gives_way(void **state)
{
    unsigned char large[SAMPLE_PACKED_MAX] = {0};
    (void)state;
    put(0, 'a');
    put(0, 'b');
    unsigned n = 2;
    while (scans_dropped(scans) < 2) {
        scans_put(scans, 0, NULL, large, sizeof(large));
        n++;
    }
    assert_live(0); /* a and b were dropped before they were taken */
    while (scans_take_live(scans, &item))
        ;
    scans_rewind(scans);
    assert_int_equal(scans_history(scans), n - scans_dropped(scans));
    const uint64_t before = scans_history(scans);
    put(0, 'z');
    assert_true(scans_history(scans) <= before);
    assert_live('z');
}

static void test_a_device_is_forgotten(void **state)
{
    (void)state;
    unsigned any = SCANS_ANY;
    put(0, 'a');
    put(1, 'b');
    put(0, 'c');
    put(1, 'd');
    assert_live('a');
    scans_forget(scans, 0);
    scans_rewind(scans);
    assert_int_equal(scans_dropped(scans), 2);
    assert_int_equal(scans_history(scans), 0);
    assert_false(scans_take_history(scans, all, &any, &item));
    assert_live('b');
    assert_live('d');
    assert_false(scans_take_live(scans, &item));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_device_is_forgotten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_without_a_node_nothing_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_live_ones_come_in_order_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_acknowledged_is_forgotten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_history_comes_by_device_oldest_first, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_lost_acknowledgement_makes_history_of_history,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_history_of_one_that_may_not_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_of_a_full_ring_the_oldest_gives_way, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
