/* inbox: outcomes before messages, each in order, none lost, none cut. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/commands/inbox.h"

/* Too large for a stack that sanitizers have grown. */
static struct inbox_message message;
static struct outcome outcome;

static bool put_message(struct inbox *inbox, unsigned number, size_t payload_size)
{
    static struct inbox_message sent;
    memset(&sent, 0, sizeof sent);
    snprintf(sent.topic, sizeof sent.topic, "t/%u", number);
    sent.mono_ns = number;
    sent.payload_size = payload_size;
    memset(sent.payload, 'a' + (int)(number % 26), payload_size);
    return inbox_put_message(inbox, &sent);
}

/* Outcomes are told apart by their value. */
static void put_outcome(struct inbox *inbox, unsigned number)
{
    inbox_put_outcome(inbox, &(struct outcome){.command.value = number, .detail = "why"});
}

static enum inbox_kind take(struct inbox *inbox, int64_t until_ns)
{
    memset(&message, 0x55, sizeof message);
    memset(&outcome, 0x55, sizeof outcome);
    return inbox_take(inbox, until_ns, &message, &outcome);
}

static void assert_takes_message(struct inbox *inbox, unsigned number, size_t payload_size)
{
    char topic[32];
    snprintf(topic, sizeof topic, "t/%u", number);
    assert_int_equal(take(inbox, 0), INBOX_MESSAGE);
    assert_string_equal(message.topic, topic);
    assert_int_equal(message.mono_ns, number);
    assert_int_equal(message.payload_size, payload_size);
    for (size_t i = 0; i < payload_size; i++)
        assert_int_equal(message.payload[i], 'a' + (int)(number % 26));
    assert_int_equal(message.payload[payload_size], '\0');
}

static void assert_takes_outcome(struct inbox *inbox, unsigned number)
{
    assert_int_equal(take(inbox, 0), INBOX_OUTCOME);
    assert_true(outcome.command.value == number);
    assert_string_equal(outcome.detail, "why");
}

static void test_keeps_messages_whole_and_in_order(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 15, 16, 17, 1000, COMMAND_PAYLOAD_MAX - 1, COMMAND_PAYLOAD_MAX};
    const unsigned n = sizeof sizes / sizeof *sizes;
    struct inbox *inbox = inbox_new();
    for (unsigned i = 0; i < n; i++)
        assert_true(put_message(inbox, i, sizes[i]));
    for (unsigned i = 0; i < n; i++)
        assert_takes_message(inbox, i, sizes[i]);
    assert_int_equal(take(inbox, 0), INBOX_NOTHING);
    inbox_free(inbox);
}

/* An outcome ends a command: were messages taken first, a burst of them would
 * keep pollers waiting. */
static void test_outcomes_go_first(void **state)
{
    (void)state;
    struct inbox *inbox = inbox_new();
    put_message(inbox, 1, 10);
    put_message(inbox, 2, 10);
    put_outcome(inbox, 7);
    assert_takes_outcome(inbox, 7);
    assert_takes_message(inbox, 1, 10);
    put_outcome(inbox, 8);
    put_outcome(inbox, 9);
    assert_takes_outcome(inbox, 8);
    assert_takes_outcome(inbox, 9);
    assert_takes_message(inbox, 2, 10);
    inbox_free(inbox);
}

static void test_a_full_inbox_takes_no_message_but_outcomes(void **state)
{
    (void)state;
    struct inbox *inbox = inbox_new();
    unsigned n = 0;
    while (put_message(inbox, n, COMMAND_PAYLOAD_MAX))
        n++;
    assert_true(n >= 1000);
    assert_false(put_message(inbox, n, COMMAND_PAYLOAD_MAX));
    for (unsigned i = 0; i < 100; i++)
        put_outcome(inbox, i);
    for (unsigned i = 0; i < 100; i++)
        assert_takes_outcome(inbox, i);
    /* Room again, as soon as one is taken. */
    assert_takes_message(inbox, 0, COMMAND_PAYLOAD_MAX);
    assert_true(put_message(inbox, n, COMMAND_PAYLOAD_MAX));
    for (unsigned i = 1; i <= n; i++)
        assert_takes_message(inbox, i, COMMAND_PAYLOAD_MAX);
    inbox_free(inbox);
}

enum { MANY = 5000 };

static void *many_outcomes(void *inbox)
{
    for (unsigned i = 0; i < MANY; i++)
        put_outcome(inbox, i);
    return NULL;
}

/* More than there is room for: who brings them waits, and none is lost. */
static void test_outcomes_wait_for_room(void **state)
{
    (void)state;
    struct inbox *inbox = inbox_new();
    pthread_t thread;
    pthread_create(&thread, NULL, many_outcomes, inbox);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(take(inbox, CLOCK_NEVER), INBOX_OUTCOME);
        assert_true(outcome.command.value == i);
    }
    pthread_join(thread, NULL);
    inbox_free(inbox);
}

static void test_waits_until_the_time_given(void **state)
{
    (void)state;
    struct inbox *inbox = inbox_new();
    int64_t until_ns = clock_mono_ns() + 5 * CLOCK_NS_PER_MS;
    assert_int_equal(take(inbox, until_ns), INBOX_NOTHING);
    assert_true(clock_mono_ns() >= until_ns);
    inbox_free(inbox);
}

static void test_a_wake_up_is_seen_once_and_after_all_else(void **state)
{
    (void)state;
    struct inbox *inbox = inbox_new();
    put_message(inbox, 1, 1);
    put_message(inbox, 2, 1);
    inbox_wake(inbox);
    assert_int_equal(take(inbox, CLOCK_NEVER), INBOX_MESSAGE);
    assert_int_equal(take(inbox, CLOCK_NEVER), INBOX_MESSAGE);
    /* Would sleep for ever had the wake-up gone with the first message. */
    assert_int_equal(take(inbox, CLOCK_NEVER), INBOX_NOTHING);
    int64_t until_ns = clock_mono_ns() + CLOCK_NS_PER_MS;
    assert_int_equal(take(inbox, until_ns), INBOX_NOTHING);
    assert_true(clock_mono_ns() >= until_ns);
    inbox_free(inbox);
}

static void *message_from_elsewhere(void *inbox)
{
    put_message(inbox, 5, 3);
    return NULL;
}

static void *outcome_from_elsewhere(void *inbox)
{
    put_outcome(inbox, 6);
    return NULL;
}

static void *wake_from_elsewhere(void *inbox)
{
    inbox_wake(inbox);
    return NULL;
}

static void test_anything_wakes_the_sleeper(void **state)
{
    (void)state;
    const struct {
        void *(*act)(void *);
        enum inbox_kind kind;
    } rows[] = {
        {message_from_elsewhere, INBOX_MESSAGE},
        {outcome_from_elsewhere, INBOX_OUTCOME},
        {wake_from_elsewhere, INBOX_NOTHING},
    };
    struct inbox *inbox = inbox_new();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, rows[i].act, inbox);
        assert_int_equal(take(inbox, CLOCK_NEVER), rows[i].kind);
        pthread_join(thread, NULL);
    }
    inbox_free(inbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_messages_whole_and_in_order),
        cmocka_unit_test(test_outcomes_go_first),
        cmocka_unit_test(test_a_full_inbox_takes_no_message_but_outcomes),
        cmocka_unit_test(test_outcomes_wait_for_room),
        cmocka_unit_test(test_waits_until_the_time_given),
        cmocka_unit_test(test_a_wake_up_is_seen_once_and_after_all_else),
        cmocka_unit_test(test_anything_wakes_the_sleeper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
