/* mailbox: first in, first out; bounded by device, and a stop gets through; each wakes its poller.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/epoll.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "tests/unit/bed.h"
#include "tests/unit/slept.h"

/* Commands are told apart by their point. */
static enum mailbox_answer put(struct mailbox *mailbox, unsigned number, unsigned device, bool stop,
                               struct command *replaced)
{
    struct command wanted = {.point = number, .device = device, .stop = stop};
    return mailbox_put(mailbox, &wanted, replaced);
}

static void assert_takes(struct mailbox *mailbox, unsigned number)
{
    struct command taken = {0};
    assert_true(mailbox_take(mailbox, &taken));
    assert_int_equal(taken.point, number);
}

static void assert_empty(struct mailbox *mailbox)
{
    struct command untouched = {.point = 99};
    assert_false(mailbox_take(mailbox, &untouched));
    assert_int_equal(untouched.point, 99);
}

static void test_first_in_is_first_out(void **state)
{
    (void)state;
    struct mailbox *mailbox = mailbox_new(3);
    struct command untouched = {.point = 99};
    assert_empty(mailbox);
    assert_int_equal(put(mailbox, 1, 0, false, &untouched), MAILBOX_TAKEN);
    assert_int_equal(put(mailbox, 2, 0, true, &untouched), MAILBOX_TAKEN);
    assert_int_equal(put(mailbox, 3, 1, false, &untouched), MAILBOX_TAKEN);
    assert_int_equal(put(mailbox, 4, 0, false, &untouched), MAILBOX_TAKEN);
    assert_int_equal(untouched.point, 99);
    for (unsigned number = 1; number <= 4; number++)
        assert_takes(mailbox, number);
    assert_empty(mailbox);
    mailbox_free(mailbox);
}

/* A flood for one device takes nothing from another, nor from its own stops. */
static void test_each_device_has_its_places(void **state)
{
    (void)state;
    struct mailbox *mailbox = mailbox_new(2);
    struct command untouched = {.point = 99};
    for (unsigned i = 0; i < MAILBOX_COMMANDS; i++)
        assert_int_equal(put(mailbox, i, 0, false, &untouched), MAILBOX_TAKEN);
    assert_int_equal(put(mailbox, 50, 0, false, &untouched), MAILBOX_FULL);
    assert_int_equal(put(mailbox, 60, 1, false, &untouched), MAILBOX_TAKEN);
    for (unsigned i = MAILBOX_COMMANDS; i < MAILBOX_PLACES; i++)
        assert_int_equal(put(mailbox, i, 0, true, &untouched), MAILBOX_TAKEN);
    assert_int_equal(put(mailbox, 51, 0, false, &untouched), MAILBOX_FULL);
    assert_int_equal(untouched.point, 99);
    for (unsigned i = 0; i < MAILBOX_COMMANDS; i++)
        assert_takes(mailbox, i);
    assert_takes(mailbox, 60);
    for (unsigned i = MAILBOX_COMMANDS; i < MAILBOX_PLACES; i++)
        assert_takes(mailbox, i);
    assert_empty(mailbox);
    mailbox_free(mailbox);
}

static void test_a_stop_always_gets_through(void **state)
{
    (void)state;
    enum { STOPS = 1000 };
    struct mailbox *mailbox = mailbox_new(2);
    struct command replaced = {0};
    put(mailbox, 2000, 1, false, &replaced); /* of another device: stays */
    for (unsigned i = 0; i < STOPS; i++) {
        bool full = put(mailbox, i, 0, true, &replaced) == MAILBOX_REPLACED;
        assert_int_equal(full, i >= MAILBOX_PLACES);
        if (full)
            assert_int_equal(replaced.point, i - MAILBOX_PLACES);
    }
    assert_takes(mailbox, 2000);
    for (unsigned i = STOPS - MAILBOX_PLACES; i < STOPS; i++)
        assert_takes(mailbox, i);
    assert_empty(mailbox);
    mailbox_free(mailbox);
}

/* Each command is news of its own, even when the one before was not looked at. */
static void test_each_command_is_told(void **state)
{
    (void)state;
    struct mailbox *mailbox = mailbox_new(2);
    struct command replaced;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int epoll_fd = epoll_create1(0);
    assert_int_equal(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, mailbox_fd(mailbox), &event), 0);
    assert_int_equal(epoll_wait(epoll_fd, &event, 1, 0), 0);
    for (unsigned number = 1; number <= 2; number++) {
        put(mailbox, number, 0, false, &replaced);
        assert_int_equal(epoll_wait(epoll_fd, &event, 1, 0), 1);
        assert_int_equal(epoll_wait(epoll_fd, &event, 1, 0), 0);
    }
    mailbox_leave(mailbox);
    assert_int_equal(epoll_wait(epoll_fd, &event, 1, 0), 1);
    mailbox_stop(mailbox);
    assert_int_equal(epoll_wait(epoll_fd, &event, 1, 0), 1);
    close(epoll_fd);
    mailbox_free(mailbox);
}

static void *put_from_elsewhere(void *mailbox)
{
    struct command replaced;
    put(mailbox, 1, 0, false, &replaced);
    return NULL;
}

static void test_a_command_wakes_the_sleeper(void **state)
{
    (void)state;
    struct mailbox *mailbox = mailbox_new(1);
    struct command taken;
    pthread_t thread;
    pthread_create(&thread, NULL, put_from_elsewhere, mailbox);
    assert_true(bed_take(mailbox, &taken));
    assert_int_equal(taken.point, 1);
    pthread_join(thread, NULL);
    mailbox_free(mailbox);
}

static void *stop_from_elsewhere(void *mailbox)
{
    mailbox_stop(mailbox);
    return NULL;
}

static void test_stopping_wakes_and_stays(void **state)
{
    (void)state;
    struct mailbox *mailbox = mailbox_new(1);
    struct command taken, replaced;
    pthread_t thread;
    assert_false(mailbox_is_stopped(mailbox));
    pthread_create(&thread, NULL, stop_from_elsewhere, mailbox);
    assert_false(bed_take(mailbox, &taken));
    pthread_join(thread, NULL);
    assert_true(mailbox_is_stopped(mailbox));
    /* What waits is there to be answered all the same. */
    put(mailbox, 2, 0, false, &replaced);
    assert_takes(mailbox, 2);
    mailbox_free(mailbox);
}

static void *leave_when_asked(void *argument)
{
    struct mailbox *mailbox = argument;
    struct command taken;
    while (!mailbox_is_leaving(mailbox))
        (void)bed_take(mailbox, &taken);
    mailbox_has_left(mailbox);
    return NULL;
}

static void test_leaving_is_asked_for_and_waited_for(void **state)
{
    (void)state;
    struct mailbox *mailbox = mailbox_new(1);
    pthread_t thread;
    assert_false(mailbox_is_leaving(mailbox));
    assert_false(mailbox_wait_left(mailbox, clock_awake_ns() + CLOCK_NS_PER_MS));
    pthread_create(&thread, NULL, leave_when_asked, mailbox);
    mailbox_leave(mailbox);
    assert_true(mailbox_wait_left(mailbox, clock_awake_ns() + 3600 * CLOCK_NS_PER_S));
    pthread_join(thread, NULL);
    mailbox_free(mailbox);
}

static void test_those_of_one_device(void **state)
{
    (void)state;
    struct command taken = {0};
    struct mailbox *mailbox = mailbox_new(1);
    assert_int_equal(put(mailbox, 1, 0, false, NULL), MAILBOX_TAKEN);
    assert_true(mailbox_make_room(mailbox, 2));
    for (unsigned i = 0; i < MAILBOX_COMMANDS; i++)
        assert_int_equal(put(mailbox, 10 + i, 1, false, NULL), MAILBOX_TAKEN);
    for (unsigned i = 0; i < MAILBOX_COMMANDS; i++) {
        assert_true(mailbox_take_of(mailbox, 1, &taken));
        assert_int_equal(taken.point, 10 + i);
    }
    assert_false(mailbox_take_of(mailbox, 1, &taken));
    assert_takes(mailbox, 1);
    mailbox_has_left(mailbox);
    assert_true(mailbox_wait_left(mailbox, 0));
    mailbox_stay(mailbox);
    assert_false(mailbox_wait_left(mailbox, 0));
    mailbox_free(mailbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_those_of_one_device),
        cmocka_unit_test(test_first_in_is_first_out),
        cmocka_unit_test(test_each_device_has_its_places),
        cmocka_unit_test(test_a_stop_always_gets_through),
        cmocka_unit_test(test_each_command_is_told),
        cmocka_unit_test(test_a_command_wakes_the_sleeper),
        cmocka_unit_test(test_stopping_wakes_and_stays),
        cmocka_unit_test(test_leaving_is_asked_for_and_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
