/* limits: what a broker takes, told or learnt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/mqtt/limits.h"

static struct limits limits;
static char why[LIMITS_WHY_MAX];

static struct limits_packet packet(const char *topic, size_t size)
{
    return (struct limits_packet){topic, size, false, false};
}

static bool allows(const char *topic, size_t size)
{
    const struct limits_packet p = packet(topic, size);
    return limits_allow(&limits, &p, why);
}

static bool suspects(const char *topic, size_t size)
{
    const struct limits_packet p = packet(topic, size);
    return limits_is_suspect(&limits, &p);
}

static void delivered(const char *topic, size_t size)
{
    const struct limits_packet p = packet(topic, size);
    limits_delivered(&limits, &p);
}

static void suspect(const char *topic, size_t size)
{
    const struct limits_packet p = packet(topic, size);
    limits_suspect(&limits, &p);
}

static void ended(const char *topic, size_t size, bool foreign)
{
    const struct limits_packet p = {topic, size, foreign, false};
    limits_ended(&limits, &p);
}

static int setup(void **state)
{
    (void)state;
    limits_init(&limits);
    return 0;
}

/* Counted by hand on the wire (MQTT 5.0, section 3.3). */
static void test_packet_size(void **state)
{
    (void)state;
    assert_int_equal(limits_packet_size(3, 2, 0, SIZE_MAX), 2 + 2 + 3 + 2);
    assert_int_equal(limits_packet_size(3, 2, 1, SIZE_MAX), 2 + 2 + 3 + 2 + 2);
    assert_int_equal(limits_packet_size(3, 2, 1, 0), 2 + 2 + 3 + 2 + 1 + 2);
    assert_int_equal(limits_packet_size(3, 120, 0, SIZE_MAX), 2 + 125);
    assert_int_equal(limits_packet_size(3, 123, 0, SIZE_MAX), 3 + 128);
    assert_int_equal(limits_packet_size(3, 0, 0, 128), 3 + 2 + 3 + 2 + 128);
    assert_int_equal(limits_packet_size(3, 16384 - 5, 0, SIZE_MAX), 4 + 16384);
}

static void test_what_the_broker_says(void **state)
{
    (void)state;
    assert_true(allows("t", SIZE_MAX));
    limits.packet_max = 100;
    assert_true(allows("t", 100));
    assert_false(allows("t", 101));
    assert_string_equal(why, "101 bytes are more than its Maximum Packet Size of 100");
    limits_begin(&limits); /* the next session of 3.1.1 */
    assert_true(allows("t", 101));
}

/* One that is larger than all that was taken. */
static void test_a_size_is_learnt(void **state)
{
    (void)state;
    delivered("small", 100);
    assert_false(suspects("large", 500));
    suspect("large", 500);
    assert_true(suspects("large", 500));
    assert_true(suspects("other", 101)); /* it may be the size */
    assert_false(suspects("other", 100));
    ended("other", 300, false);
    assert_false(suspects("other", 100)); /* it was */
    assert_false(allows("any", 300));
    assert_true(allows("any", 299));
    delivered("any", 299);
    assert_false(suspects("other", 299));
    limits_begin(&limits); /* another session at this broker */
    assert_false(allows("any", 300));
    limits_init(&limits); /* another broker */
    assert_true(allows("any", 300));
}

/* It is not its size, and perhaps only what was in it. */
static void test_a_topic_is_learnt_by_the_second_time(void **state)
{
    (void)state;
    delivered("large", 1000);
    suspect("bad", 50);
    assert_true(suspects("bad", 50));
    assert_false(suspects("good", 50));
    ended("bad", 50, false);
    assert_true(allows("bad", 50));
    assert_true(suspects("bad", 50));
    ended("bad", 60, false);
    assert_false(allows("bad", 10));
    assert_true(allows("good", 900));
}

static void test_a_topic_that_is_taken_is_no_suspect(void **state)
{
    (void)state;
    delivered("large", 1000);
    suspect("a", 50);
    suspect("b", 50);
    delivered("a", 50);
    assert_false(suspects("a", 50));
    assert_true(suspects("b", 50));
}

/* The first time, and never for its size. */
static void test_a_foreign_topic(void **state)
{
    (void)state;
    ended("reply/here", 5000, true);
    assert_false(allows("reply/here", 10));
    assert_true(allows("ours", 6000));
}

static void test_more_suspects_than_there_is_room_for(void **state)
{
    (void)state;
    char topic[16];
    delivered("large", 1000);
    ended("bad", 50, false);
    for (int i = 0; i < 3 * LIMITS_TOPICS_MAX; i++) {
        snprintf(topic, sizeof(topic), "t%d", i);
        suspect(topic, 50);
        assert_true(suspects(topic, 50));
    }
    ended("bad", 50, false);
    assert_false(allows("bad", 50));
}

static void test_codes(void **state)
{
    (void)state;
    static const char transient[] = "\x80\x83\x88\x89\x91\x93\x96\x97";
    for (int code = 1; code < 256; code++)
        assert_int_equal(limits_is_transient(code), strchr(transient, code) != NULL);
    assert_false(limits_is_transient(0));
    assert_true(limits_is_fault(0x95));
    assert_true(limits_is_fault(0x82));
    assert_false(limits_is_fault(0));
    assert_false(limits_is_fault(0x8b)); /* shutting down */
    assert_false(limits_is_fault(0x8e)); /* taken over */
    assert_int_equal(limits_advise(0x89), LIMITS_STAY_AWAY);
    assert_int_equal(limits_advise(0x97), LIMITS_STAY_AWAY);
    assert_int_equal(limits_advise(0x9c), LIMITS_GO_ELSEWHERE);
    assert_int_equal(limits_advise(0x87), LIMITS_TRY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_packet_size, setup),
        cmocka_unit_test_setup(test_what_the_broker_says, setup),
        cmocka_unit_test_setup(test_a_size_is_learnt, setup),
        cmocka_unit_test_setup(test_a_topic_is_learnt_by_the_second_time, setup),
        cmocka_unit_test_setup(test_a_topic_that_is_taken_is_no_suspect, setup),
        cmocka_unit_test_setup(test_a_foreign_topic, setup),
        cmocka_unit_test_setup(test_more_suspects_than_there_is_room_for, setup),
        cmocka_unit_test_setup(test_codes, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
