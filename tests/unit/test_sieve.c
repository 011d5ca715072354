/* sieve: which packets of a broker the library gets, however its bytes come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/mqtt/sieve.h"

enum { SENT = 0x1234 };

static unsigned n_asked;

static bool has_sent(void *context, unsigned identifier)
{
    (void)context;
    n_asked++;
    return identifier == SENT;
}

static unsigned n_begun;

static void begins(void *context)
{
    (void)context;
    n_begun++;
}

static const struct sieve_owner owner = {.has_sent = has_sent, .begins = begins};

/* In pieces of this size. */
static bool passes(const void *bytes, size_t size, size_t piece)
{
    struct sieve_packet packet = {.next = SIEVE_TYPE};
    for (size_t at = 0; at < size; at += piece) {
        const size_t n = size - at < piece ? size - at : piece;
        if (!sieve_pass(&packet, &owner, (const char *)bytes + at, n)) {
            assert_false(sieve_pass(&packet, &owner, "\xd0", 1)); /* nor what follows */
            return false;
        }
    }
    return packet.next == SIEVE_TYPE;
}

#define ASSERT_PASSES(bytes)                                                                       \
    for (size_t piece_ = 1; piece_ <= sizeof(bytes); piece_++)                                     \
    assert_true(passes(bytes, sizeof(bytes) - 1, piece_))

#define ASSERT_STOPS(bytes)                                                                        \
    for (size_t piece_ = 1; piece_ <= sizeof(bytes); piece_++)                                     \
    assert_false(passes(bytes, sizeof(bytes) - 1, piece_))

static void test_what_a_broker_sends(void **state)
{
    (void)state;
    ASSERT_PASSES("\x20\x03\0\0\0");
    ASSERT_PASSES("\x32\x07\0\1a\0\1\x50\x70"); /* what is in a PUBLISH is not looked at */
    ASSERT_PASSES("\x40\2\x12\x34");
    ASSERT_PASSES("\x62\2\x12\x34");
    ASSERT_PASSES("\xd0\0\xd0\0\x40\2\0\1\xd0\0");
    ASSERT_PASSES("\xe0\2\x8e\0");
    ASSERT_PASSES("\xe0\0");
}

static void test_what_only_a_client_sends(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 16; type++) {
        const char bytes[] = {(char)(type << 4), 0};
        const bool is_allowed =
            type >= 2 && type <= 14 && strchr("\5\7\10\12\14", (int)type) == NULL;
        assert_int_equal(passes(bytes, sizeof(bytes), 1), is_allowed);
    }
    ASSERT_STOPS("\x40\2\0\1\x70\2\0\2");
}

static void test_an_answer_to_what_is_no_subscription(void **state)
{
    (void)state;
    ASSERT_PASSES("\x90\3\x12\x35\1\xb0\2\x34\x12");
    ASSERT_STOPS("\x90\3\x12\x34\1");
    ASSERT_STOPS("\xb0\4\x12\x34\0\0");
    ASSERT_STOPS("\xb0\2\x12\x34");
    ASSERT_PASSES("\x90\1\x12\x90\0\x90\3\x34\0\1"); /* without a whole one */
    n_asked = 0;
    assert_true(passes("\x90\3\0\1\1\x40\2\x12\x34", 9, 9));
    assert_int_equal(n_asked, 1);
}

static void test_lengths(void **state)
{
    (void)state;
    char packet[3 + 200] = "\x30\xc8\x01";
    memset(packet + 3, 0x70, 200);
    for (size_t piece = 1; piece <= sizeof(packet); piece++)
        assert_true(passes(packet, sizeof(packet), piece));
    ASSERT_PASSES("\x40\x82\x80\x80\0\0\1");
    ASSERT_STOPS("\x40\x82\x80\x80\x80\0\0\1");
}

/* At QoS 2 a message is handed over when another packet comes. */
static void test_messages_that_begin(void **state)
{
    (void)state;
    n_begun = 0;
    assert_true(passes("\x30\3\0\1a\x32\5\0\1a\0\1\x34\5\0\1a\0\1\x40\2\0\1", 23, 3));
    assert_int_equal(n_begun, 2);
}

static void test_a_deaf_one_leaves_messages_out(void **state)
{
    (void)state;
    struct sieve_packet packet = {.next = SIEVE_TYPE, .is_deaf = true};
    n_begun = 0;
    for (int i = 0; i < 2; i++) {
        assert_true(sieve_pass(&packet, &owner, "\x32\5\0", 3));
        assert_true(packet.is_left);
        assert_true(sieve_pass(&packet, &owner, "\1a\0\1", 4));
        assert_int_equal(packet.next, SIEVE_TYPE);
        assert_true(sieve_pass(&packet, &owner, "\x40\2\0\1", 4));
        assert_false(packet.is_left);
    }
    assert_int_equal(n_begun, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_broker_sends),
        cmocka_unit_test(test_what_only_a_client_sends),
        cmocka_unit_test(test_an_answer_to_what_is_no_subscription),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_messages_that_begin),
        cmocka_unit_test(test_a_deaf_one_leaves_messages_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
