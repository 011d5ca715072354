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
    assert_true(scans_take_history(scans, &of, &item));
    assert_int_equal(of, device);
    assert_int_equal(item.packed[0], name);
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
    assert_false(scans_take_history(scans, &any, &item));
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
    put(0, 'c');
    scans_rewind(scans);
    put(0, 'd'); /* live again */
    assert_history(SCANS_ANY, 0, 'a');
    assert_history(0, 0, 'c');
    unsigned first = 0;
    assert_false(scans_take_history(scans, &first, &item));
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
    scans_rewind(scans);
    assert_history(SCANS_ANY, 0, 'a');
    assert_true(scans_end_batch(scans) > 0);
    scans_rewind(scans);
    assert_history(SCANS_ANY, 0, 'a');
}

static void test_a_full_ring_takes_no_more_and_counts(void **state)
{
    unsigned char large[SAMPLE_PACKED_MAX] = {0};
    (void)state;
    unsigned n = 0;
    while (scans_dropped(scans) == 0) {
        scans_put(scans, 0, NULL, large, sizeof(large));
        n++;
    }
    scans_rewind(scans);
    assert_int_equal(scans_history(scans), n - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_live_ones_come_in_order_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_acknowledged_is_forgotten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_history_comes_by_device_oldest_first, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_lost_acknowledgement_makes_history_of_history,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_full_ring_takes_no_more_and_counts, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
