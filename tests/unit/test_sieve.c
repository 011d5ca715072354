/* sieve: which packets of a broker the library gets, however its bytes come, and from which
 * connection. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/mqtt/sieve.h"

enum { SENT = 0x1234, V3 = 0, V5 = 64 * 1024 };

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

/* In pieces of this size: SIEVE_TYPE when all of it passes, and SIEVE_SHUT. */
static enum sieve_next judge(size_t size_max, const void *bytes, size_t size, size_t piece)
{
    struct sieve_packet packet = {.size_max = size_max};
    for (size_t at = 0; at < size; at += piece) {
        const size_t n = size - at < piece ? size - at : piece;
        if (!sieve_pass(&packet, &owner, (const char *)bytes + at, n)) {
            assert_false(sieve_pass(&packet, &owner, "\xd0", 1)); /* nor what follows */
            return SIEVE_SHUT;
        }
    }
    assert_int_equal(packet.skipped, 0);
    return packet.next;
}

#define ASSERT_JUDGED(version, bytes, expected)                                                    \
    for (size_t piece_ = 1; piece_ <= sizeof(bytes); piece_++)                                     \
    assert_int_equal(judge(version, bytes, sizeof(bytes) - 1, piece_), expected)
#define ASSERT_PASSES(version, bytes) ASSERT_JUDGED(version, bytes, SIEVE_TYPE)
#define ASSERT_STOPS(version, bytes)  ASSERT_JUDGED(version, bytes, SIEVE_SHUT)

static void test_what_a_broker_sends(void **state)
{
    (void)state;
    ASSERT_PASSES(V3, "\x20\2\0\0");
    ASSERT_PASSES(V5, "\x20\3\0\0\0");
    ASSERT_PASSES(V3, "\x32\x07\0\1a\0\1\x50\x70"); /* what is in a PUBLISH is not looked at */
    ASSERT_PASSES(V5, "\x32\x08\0\1a\0\1\0\x50\x70");
    ASSERT_PASSES(V5, "\x30\x06\0\1a\0\x50\x70");
    ASSERT_PASSES(V5, "\x34\x06\0\1a\0\1\0");
    for (size_t version = V3; version <= V5; version += V5 - V3) {
        ASSERT_PASSES(version, "\x40\2\x12\x34");
        ASSERT_PASSES(version, "\x62\2\x12\x34");
        ASSERT_PASSES(version, "\xd0\0\xd0\0\x40\2\0\1\xd0\0");
        ASSERT_PASSES(version, "\xe0\2\x8e\0");
        ASSERT_PASSES(version, "\xe0\0");
    }
}

static void test_what_only_a_client_sends(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 16; type++) {
        const char bytes[] = {(char)(type << 4), 3, 0, 0, 0};
        const bool is_allowed =
            type >= 2 && type <= 14 && strchr("\5\7\10\12\14", (int)type) == NULL;
        assert_int_equal(judge(V3, bytes, sizeof(bytes), 1), is_allowed ? SIEVE_TYPE : SIEVE_SHUT);
        assert_int_equal(judge(V5, bytes, sizeof(bytes), 1),
                         is_allowed && type != 9 ? SIEVE_TYPE : SIEVE_SHUT);
    }
    ASSERT_STOPS(V3, "\x40\2\0\1\x70\2\0\2");
}

static void test_before_connack(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 16; type++) {
        struct sieve_packet packet = {.size_max = V5};
        const char bytes[] = {(char)(type << 4), 3, 0, 0, 0};
        assert_int_equal(sieve_pass(&packet, NULL, bytes, sizeof(bytes)), type == 2);
    }
}

static void test_an_answer_to_what_is_no_subscription(void **state)
{
    (void)state;
    ASSERT_PASSES(V3, "\x90\3\x12\x35\1\xb0\2\x34\x12");
    ASSERT_STOPS(V3, "\x90\3\x12\x34\1");
    ASSERT_STOPS(V5, "\xb0\4\x12\x34\0\0");
    ASSERT_STOPS(V3, "\xb0\2\x12\x34");
    ASSERT_STOPS(V3, "\x90\1\x12"); /* without a whole one */
    ASSERT_STOPS(V3, "\x90\0");
    n_asked = 0;
    assert_int_equal(judge(V3, "\x90\3\0\1\1\x40\2\x12\x34", 9, 9), SIEVE_TYPE);
    assert_int_equal(n_asked, 1);
}

/* The library frees what it has not set. */
static void test_what_is_too_short(void **state)
{
    (void)state;
    ASSERT_STOPS(V3, "\x90\2\0\1");
    ASSERT_STOPS(V5, "\x90\3\0\1\0");
    ASSERT_STOPS(V5, "\x90\2\0\1");
    ASSERT_PASSES(V5, "\x90\4\0\1\0\1");
    ASSERT_STOPS(V5, "\x20\2\0\1");
    ASSERT_STOPS(V5, "\x20\0");
}

/* Behind the end of properties that do not keep to their size the library reads on. */
static void test_properties(void **state)
{
    (void)state;
    ASSERT_PASSES(V5, "\x30\x08\0\1a\2\1\1xy");
    ASSERT_PASSES(V5, "\x30\x13\0\1a\x0d\x26\0\3key\0\5valuexy");
    ASSERT_PASSES(V5, "\x30\x0f\0\1a\x0b\x0b\xff\1\x23\0\1\2\0\0\0\1");
    ASSERT_PASSES(V5, "\x40\x08\0\1\x10\4\x1f\0\1x");
    ASSERT_PASSES(V5, "\x20\6\0\0\3\x21\0\1");
    ASSERT_PASSES(V5, "\xe0\x06\x82\4\x1f\0\1x");
    ASSERT_STOPS(V5, "\x30\x06\0\1a\3\1\1");             /* longer than the packet */
    ASSERT_STOPS(V5, "\x30\x07\0\1a\1\x21\0\1");         /* the last one ends behind them */
    ASSERT_STOPS(V5, "\x30\x08\0\1a\4\x21\0\1\x21");     /* or has no value */
    ASSERT_STOPS(V5, "\x30\x09\0\1a\4\x1f\0\2xy");       /* or too much */
    ASSERT_STOPS(V5, "\x30\x09\0\1a\3\x0b\xff\xff\1xy"); /* or too long a number */
    ASSERT_STOPS(V5, "\x30\x0b\0\1a\6\x0b\xff\xff\xff\xff\1x");
    ASSERT_STOPS(V5, "\x30\x09\0\1a\xff\xff\xff\xff\x7f");
    ASSERT_STOPS(V5, "\x30\x06\0\1a\2\x7f\0"); /* of a kind that nobody knows */
    ASSERT_STOPS(V5, "\x30\x06\0\1a\2\x04\0");
    ASSERT_STOPS(V5, "\x30\x03\0\1a"); /* none at all */
    ASSERT_STOPS(V5, "\x32\x04\0\1a\0");
    ASSERT_STOPS(V5, "\x40\x04\0\1\x10\4");
    ASSERT_STOPS(V5, "\xe0\x02\x82\4");
}

static void test_lengths(void **state)
{
    (void)state;
    char packet[3 + 200] = "\x30\xc8\x01";
    memset(packet + 3, 0x70, 200);
    for (size_t piece = 1; piece <= sizeof(packet); piece++)
        assert_int_equal(judge(V3, packet, sizeof(packet), piece), SIEVE_TYPE);
    ASSERT_PASSES(V3, "\x40\x82\x80\x80\0\0\1");
    ASSERT_STOPS(V3, "\x40\x82\x80\x80\x80\0\0\1");
}

/* What is announced ends the session as soon as it is said. */
static void test_the_largest_packet(void **state)
{
    (void)state;
    struct sieve_packet packet = {.size_max = V5};
    assert_true(sieve_pass(&packet, &owner, "\x30\xfc\xff\3", 4)); /* with all its bytes */
    packet = (struct sieve_packet){.size_max = V5};
    assert_false(sieve_pass(&packet, &owner, "\x30\xfd\xff\3", 4));
    packet = (struct sieve_packet){.size_max = V3};
    assert_true(sieve_pass(&packet, &owner, "\x30\xff\xff\xff\x7f", 5));
}

/* At QoS 2 a message is handed over when another packet comes. */
static void test_messages_that_begin(void **state)
{
    (void)state;
    n_begun = 0;
    assert_int_equal(judge(V3, "\x30\3\0\1a\x32\5\0\1a\0\1\x34\5\0\1a\0\1\x40\2\0\1", 23, 3),
                     SIEVE_TYPE);
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
        assert_int_equal(packet.skipped, 0);
        assert_true(sieve_pass(&packet, &owner, "\x40\2\0\1", 4));
        assert_false(packet.is_left);
    }
    assert_int_equal(n_begun, 0);
}

/* ---- connections ------------------------------------------------------- */

enum { CONNECTIONS = 3 };

static const char *wrong[CONNECTIONS];

static void note_wrong(void *context, const struct sieve_packet *packet)
{
    *(const char **)context = packet->wrong;
}

/* `ours` takes the place of a descriptor that is closed. */
static void reconnect(int *ours, int *brokers)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    if (*ours >= 0) {
        assert_int_equal(dup2(pair[0], *ours), *ours);
        close(pair[0]);
        pair[0] = *ours;
    }
    *ours = pair[0];
    *brokers = pair[1];
}

/* How many of the bytes that the broker sends the library has; -1: the broker has hung up. */
static ssize_t read_of(int ours, int brokers, const char *bytes, size_t size)
{
    char read[64];
    assert_int_equal(send(brokers, bytes, size, 0), size);
    const ssize_t n = recv(ours, read, sizeof(read), 0);
    return n == 0 ? -1 : n;
}

static void *receive_elsewhere(void *context)
{
    int ours = -1, brokers;
    reconnect(&ours, &brokers);
    *(ssize_t *)context = read_of(ours, brokers, "\x70\2\0\1", 4);
    close(ours);
    close(brokers);
    return NULL;
}

static void test_another_thread_reads_what_there_is(void **state)
{
    pthread_t other;
    ssize_t n = 0;
    (void)state;
    assert_int_equal(pthread_create(&other, NULL, receive_elsewhere, &n), 0);
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_int_equal(n, 4);
}

/* This thread is the library's receiver. */
static void test_connections(void **state)
{
    int ours[CONNECTIONS] = {-1, -1, -1}, brokers[CONNECTIONS];
    (void)state;
    pthread_setname_np(pthread_self(), "MQTTAsync_rcv");
    sieve_expect(V5);
    reconnect(&ours[0], &brokers[0]); /* it is judged before it has an owner */
    assert_int_equal(read_of(ours[0], brokers[0], "\x70\2\0\1", 4), -1);
    close(brokers[0]);
    for (int i = 0; i < CONNECTIONS; i++) {
        const struct sieve_owner one = {&wrong[i], has_sent, note_wrong, begins};
        reconnect(&ours[i], &brokers[i]);
        assert_int_equal(read_of(ours[i], brokers[i], "\x20\3\0\0\0", 5), 5);
        sieve_watch(&one);
    }
    for (int i = 0; i < CONNECTIONS; i++) {
        assert_int_equal(read_of(ours[i], brokers[i], "\xd0\0", 2), 2);
        assert_null(wrong[i]);
        assert_int_equal(read_of(ours[i], brokers[i], "\x90\4\x12\x34\0\1", 6), -1);
        assert_non_null(wrong[i]);
        assert_int_equal(read_of(ours[i], brokers[i], "\xd0\0", 2), -1);
        close(brokers[i]);
    }
    /* Another connection has the descriptor, and nobody has said that this one ended. */
    const struct sieve_owner one = {&wrong[0], has_sent, note_wrong, begins};
    reconnect(&ours[0], &brokers[0]);
    assert_int_equal(read_of(ours[0], brokers[0], "\x20\3\0\0\0", 5), 5);
    sieve_watch(&one);
    assert_int_equal(read_of(ours[0], brokers[0], "\xd0\0", 2), 2);
    /* Its session has ended, and the library has not closed it yet. */
    wrong[0] = NULL;
    sieve_forget(&wrong[0]);
    assert_int_equal(read_of(ours[0], brokers[0], "\x20\3\0\0\0", 5), -1);
    assert_int_equal(read_of(ours[0], brokers[0], "\x70\2\0\1", 4), -1);
    assert_null(wrong[0]);
    close(brokers[0]);
    for (int i = 0; i < CONNECTIONS; i++)
        close(ours[i]);
}

static void *send_messages(void *context)
{
    static const char message[] = "\x30\5\0\1aok";
    while (send(*(int *)context, message, sizeof(message) - 1, MSG_NOSIGNAL) > 0)
        ;
    return NULL;
}

/* The library is locked while it reads: what never ends does not hold it for ever. */
static void test_messages_without_end(void **state)
{
    const struct sieve_owner one = {&wrong[0], has_sent, note_wrong, begins};
    int ours = -1, brokers;
    pthread_t broker;
    char byte;
    (void)state;
    sieve_expect(0);
    reconnect(&ours, &brokers);
    assert_int_equal(read_of(ours, brokers, "\x20\2\0\0", 4), 4);
    sieve_watch(&one);
    sieve_deafen(&wrong[0]);
    assert_int_equal(pthread_create(&broker, NULL, send_messages, &brokers), 0);
    assert_int_equal(recv(ours, &byte, 1, 0), 0);
    close(ours);
    assert_int_equal(pthread_join(broker, NULL), 0);
    close(brokers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_broker_sends),
        cmocka_unit_test(test_what_only_a_client_sends),
        cmocka_unit_test(test_an_answer_to_what_is_no_subscription),
        cmocka_unit_test(test_before_connack),
        cmocka_unit_test(test_what_is_too_short),
        cmocka_unit_test(test_properties),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_the_largest_packet),
        cmocka_unit_test(test_messages_that_begin),
        cmocka_unit_test(test_a_deaf_one_leaves_messages_out),
        cmocka_unit_test(test_another_thread_reads_what_there_is),
        cmocka_unit_test(test_connections),
        cmocka_unit_test(test_messages_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
