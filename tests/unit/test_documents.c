/* documents: when each of them is published. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/publish/documents.h"
#include "fake_clock.h"

#define S CLOCK_NS_PER_S

static struct documents *documents;

static int setup(void **state)
{
    (void)state;
    fake_clock_reset();
    documents = documents_new(8);
    return documents == NULL;
}

static int teardown(void **state)
{
    (void)state;
    documents_free(documents);
    return 0;
}

/* Takes one and says that it is sent; -1 = none is due. */
static int send(uint64_t hash)
{
    unsigned number;
    if (!documents_take(documents, clock_mono_ns(), &number))
        return -1;
    documents_sent(documents, number, hash);
    return (int)number;
}

static void ack(unsigned number, enum mqtt_fate fate)
{
    documents_ack(documents, number, fate, clock_mono_ns());
}

static void test_the_lowest_that_is_due(void **state)
{
    (void)state;
    int64_t now_ns = clock_mono_ns();
    assert_int_equal(documents_due_ns(documents), CLOCK_NEVER);
    documents_call(documents, 5, now_ns);
    documents_call(documents, 2, now_ns);
    documents_call(documents, 1, now_ns + S);
    assert_int_equal(send(7), 2);
    assert_int_equal(send(7), 5);
    assert_int_equal(send(7), -1);
    assert_int_equal(documents_due_ns(documents), now_ns + S);
    clock_pause(S);
    assert_int_equal(send(7), 1);
    assert_int_equal(send(7), -1);
    assert_int_equal(documents_due_ns(documents), CLOCK_NEVER);
}

/* However far the others have been looked through. */
static void test_the_lowest_even_when_it_is_called_last(void **state)
{
    (void)state;
    const int64_t now_ns = clock_mono_ns();
    for (unsigned i = 2; i < 6; i++)
        documents_call(documents, i, now_ns);
    documents_call(documents, 0, now_ns + S);
    assert_int_equal(send(7), 2);
    assert_int_equal(send(7), 3);
    documents_call(documents, 1, now_ns);
    assert_int_equal(send(7), 1);
    clock_pause(S);
    assert_int_equal(send(7), 0);
    unsigned number;
    assert_true(documents_take(documents, clock_mono_ns(), &number));
    assert_int_equal(number, 4);
    documents_return(documents, number); /* no room: it is the next all the same */
    assert_int_equal(send(7), 4);
    ack(2, MQTT_LATER);
    assert_int_equal(send(7), 5);
    assert_int_equal(send(7), -1);
    assert_int_equal(documents_due_ns(documents), clock_mono_ns() + S);
    clock_pause(S);
    assert_int_equal(send(7), 2);
    assert_int_equal(send(7), -1);
    assert_int_equal(documents_due_ns(documents), CLOCK_NEVER);
}

static void test_one_call_whatever_happens_meanwhile(void **state)
{
    (void)state;
    documents_call(documents, 3, clock_mono_ns() + S);
    documents_call(documents, 3, clock_mono_ns()); /* the sooner counts */
    assert_int_equal(send(7), 3);
    documents_call(documents, 3, clock_mono_ns());
    documents_call(documents, 3, clock_mono_ns());
    assert_int_equal(send(7), -1); /* it is in flight */
    assert_false(documents_is_settled(documents, 3));
    ack(3, MQTT_DELIVERED);
    assert_int_equal(send(8), 3);
    ack(3, MQTT_DELIVERED);
    assert_int_equal(send(8), -1);
    assert_true(documents_is_settled(documents, 3));
}

static void test_what_finds_no_room_is_due_again(void **state)
{
    (void)state;
    unsigned number;
    documents_call(documents, 3, clock_mono_ns());
    assert_true(documents_take(documents, clock_mono_ns(), &number));
    documents_return(documents, number);
    assert_int_equal(send(7), 3);
}

static void test_a_no_for_now_is_tried_again_with_growing_pauses(void **state)
{
    (void)state;
    documents_call(documents, 3, clock_mono_ns());
    for (int64_t pause_ns = S; pause_ns <= 4 * S; pause_ns *= 2) {
        assert_int_equal(send(7), 3);
        ack(3, MQTT_LATER);
        clock_pause(pause_ns - 1);
        assert_int_equal(send(7), -1);
        clock_pause(1);
    }
    assert_int_equal(send(7), 3);
    ack(3, MQTT_REFUSED);
    clock_pause(100 * S);
    assert_int_equal(send(7), -1);
    assert_false(documents_is_settled(documents, 3));
}

/* The next session begins with nothing. */
static void test_reset(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        documents_call(documents, i, clock_mono_ns());
    assert_int_equal(send(7), 0);
    documents_reset(documents, 0, 2);
    assert_int_equal(send(7), 2);
    documents_call(documents, 0, clock_mono_ns());
    assert_int_equal(send(7), 0);
}

static unsigned published(uint64_t hash)
{
    documents_call(documents, 4, clock_mono_ns());
    assert_int_equal(send(hash), 4);
    assert_int_equal(send(hash), -1);
    ack(4, MQTT_DELIVERED);
    return 4;
}

static void test_what_somebody_else_has_changed_is_put_right(void **state)
{
    (void)state;
    unsigned number = published(7), wrong;
    clock_pause(10 * S);
    assert_false(documents_seen(documents, number, 7, false, clock_mono_ns()));
    assert_true(documents_seen(documents, number, 8, false, clock_mono_ns()));
    clock_pause(DOCUMENTS_WRONG_NS - 1);
    assert_false(documents_next_wrong(documents, clock_mono_ns(), &wrong));
    clock_pause(1);
    assert_int_equal(documents_due_ns(documents), clock_mono_ns());
    assert_true(documents_next_wrong(documents, clock_mono_ns(), &wrong));
    assert_int_equal(wrong, number);
    assert_int_equal(send(7), number);
    assert_false(documents_next_wrong(documents, clock_mono_ns(), &wrong));
}

/* An older one of ours comes late, and then the newer. */
static void test_our_own_echo_is_not_wrong(void **state)
{
    (void)state;
    unsigned number = published(7), wrong;
    published(8);
    assert_true(documents_seen(documents, number, 7, false, clock_mono_ns()));
    clock_pause(DOCUMENTS_WRONG_NS / 2);
    assert_false(documents_seen(documents, number, 8, false, clock_mono_ns()));
    clock_pause(10 * S);
    assert_false(documents_next_wrong(documents, clock_mono_ns(), &wrong));
}

/* The acknowledgement of ours comes over a device's own session: it says nothing of which
 * of the two was there first. */
static void test_somebody_else_just_before_the_acknowledgement(void **state)
{
    (void)state;
    unsigned number = published(7), wrong;
    documents_call(documents, number, clock_mono_ns());
    assert_int_equal(send(7), number);
    assert_true(documents_seen(documents, number, 8, false, clock_mono_ns()));
    ack(number, MQTT_DELIVERED);
    clock_pause(DOCUMENTS_AGAIN_NS);
    assert_true(documents_next_wrong(documents, clock_mono_ns(), &wrong));
}

/* Before the first acknowledgement of a session it will be put right anyway. */
static void test_what_was_there_before_is_not_wrong(void **state)
{
    (void)state;
    assert_false(documents_seen(documents, 4, 9, false, clock_mono_ns()));
    published(7);
    documents_reset(documents, 0, 8);
    assert_false(documents_seen(documents, 4, 9, false, clock_mono_ns()));
}

/* What is large is sent half as often each time, until it was left alone. */
static void test_a_fight_over_what_is_large_dies_down(void **state)
{
    (void)state;
    unsigned number = published(7), wrong, n = 0;
    for (int i = 0; i < 1000; i++) {
        documents_seen(documents, number, 8, true, clock_mono_ns());
        while (documents_next_wrong(documents, clock_mono_ns(), &wrong)) {
            assert_int_equal(send(7), number);
            ack(number, MQTT_DELIVERED);
            n++;
        }
        clock_pause(S / 10);
    }
    assert_int_equal(n, 5); /* after 2, 6, 14, 30 and 62 s */
    clock_pause(1000 * S);
    documents_seen(documents, number, 7, true, clock_mono_ns());
    documents_seen(documents, number, 8, true, clock_mono_ns());
    clock_pause(DOCUMENTS_WRONG_NS);
    assert_true(documents_next_wrong(documents, clock_mono_ns(), &wrong));
}

/* Two that put each other right take their time. */
static void test_no_more_than_every_other_second(void **state)
{
    (void)state;
    unsigned number = published(7), wrong, n = 0;
    for (int i = 0; i < 200; i++) {
        documents_seen(documents, number, 8, false, clock_mono_ns());
        while (documents_next_wrong(documents, clock_mono_ns(), &wrong)) {
            assert_int_equal(send(7), number);
            ack(number, MQTT_DELIVERED);
            n++;
        }
        clock_pause(S / 20);
    }
    assert_in_range(n, 4, 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_lowest_that_is_due),
        TEST(test_the_lowest_even_when_it_is_called_last),
        TEST(test_one_call_whatever_happens_meanwhile),
        TEST(test_what_finds_no_room_is_due_again),
        TEST(test_a_no_for_now_is_tried_again_with_growing_pauses),
        TEST(test_reset),
        TEST(test_what_somebody_else_has_changed_is_put_right),
        TEST(test_our_own_echo_is_not_wrong),
        TEST(test_somebody_else_just_before_the_acknowledgement),
        TEST(test_what_was_there_before_is_not_wrong),
        TEST(test_no_more_than_every_other_second),
        TEST(test_a_fight_over_what_is_large_dies_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
