/* mailbox: one waiting place per device and point, longest first; each wakes its poller. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/epoll.h>
#include <unistd.h>

#include "bed.h"

static struct order order(uint32_t token, unsigned device, unsigned point)
{
    return (struct order){.token = token, .device = device, .point = point, .value = token};
}

static bool put(struct mailbox *mailbox, uint32_t token, unsigned device, unsigned point,
                struct order *replaced)
{
    struct order wanted = order(token, device, point);
    return mailbox_put(mailbox, &wanted, replaced);
}

static void assert_takes(struct mailbox *mailbox, uint32_t token)
{
    struct order taken = {0};
    assert_true(mailbox_take(mailbox, &taken));
    assert_int_equal(taken.token, token);
    assert_true(taken.value == (double)token);
}

static void assert_empty(struct mailbox *mailbox)
{
    struct order untouched = order(99, 9, 9);
    assert_false(mailbox_take(mailbox, &untouched));
    assert_int_equal(untouched.token, 99);
}

static void test_gives_the_longest_waiting_first(void **state)
{
    (void)state;
    struct mailbox *mailbox = mailbox_new(3);
    struct order untouched = order(99, 9, 9);
    assert_empty(mailbox);
    assert_false(put(mailbox, 1, 0, 1, &untouched));
    assert_false(put(mailbox, 2, 0, 2, &untouched)); /* another point */
    assert_false(put(mailbox, 3, 1, 1, &untouched)); /* another device */
    assert_int_equal(untouched.token, 99);
    assert_takes(mailbox, 1);
    assert_takes(mailbox, 2);
    assert_takes(mailbox, 3);
    assert_empty(mailbox);
    mailbox_free(mailbox);
}

static void test_a_newer_order_replaces_the_waiting_one(void **state)
{
    (void)state;
    struct mailbox *mailbox = mailbox_new(2);
    struct order replaced = {0};
    assert_false(put(mailbox, 1, 0, 1, &replaced));
    assert_false(put(mailbox, 2, 1, 1, &replaced));
    assert_true(put(mailbox, 3, 0, 1, &replaced));
    assert_int_equal(replaced.token, 1);
    assert_true(put(mailbox, 4, 0, 1, &replaced));
    assert_int_equal(replaced.token, 3);
    /* Its time of waiting begins anew: nobody keeps a place by writing often. */
    assert_takes(mailbox, 2);
    assert_takes(mailbox, 4);
    assert_empty(mailbox);
    mailbox_free(mailbox);
}

static void test_a_taken_order_is_not_replaced(void **state)
{
    (void)state;
    struct mailbox *mailbox = mailbox_new(1);
    struct order replaced = {0};
    assert_false(put(mailbox, 1, 0, 1, &replaced));
    assert_takes(mailbox, 1);
    assert_false(put(mailbox, 2, 0, 1, &replaced));
    assert_takes(mailbox, 2);
    mailbox_free(mailbox);
}

static void test_never_holds_more_than_its_places(void **state)
{
    (void)state;
    enum { PLACES = 5 };
    struct mailbox *mailbox = mailbox_new(PLACES);
    struct order replaced;
    for (uint32_t token = 0; token < 1000; token++) {
        bool full = put(mailbox, token, token % PLACES, 7, &replaced);
        assert_int_equal(full, token >= PLACES);
        if (full)
            assert_int_equal(replaced.token, token - PLACES);
    }
    for (uint32_t token = 1000 - PLACES; token < 1000; token++)
        assert_takes(mailbox, token);
    assert_empty(mailbox);
    mailbox_free(mailbox);
}

/* Each order is news of its own, even when the one before was not looked at. */
static void test_each_order_is_told(void **state)
{
    (void)state;
    struct mailbox *mailbox = mailbox_new(2);
    struct order replaced;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int epoll_fd = epoll_create1(0);
    assert_int_equal(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, mailbox_fd(mailbox), &event), 0);
    assert_int_equal(epoll_wait(epoll_fd, &event, 1, 0), 0);
    for (uint32_t token = 1; token <= 2; token++) {
        put(mailbox, token, 0, token, &replaced);
        assert_int_equal(epoll_wait(epoll_fd, &event, 1, 0), 1);
        assert_int_equal(epoll_wait(epoll_fd, &event, 1, 0), 0);
    }
    mailbox_stop(mailbox);
    assert_int_equal(epoll_wait(epoll_fd, &event, 1, 0), 1);
    close(epoll_fd);
    mailbox_free(mailbox);
}

static void test_does_not_wait_while_an_order_does(void **state)
{
    (void)state;
    struct mailbox *mailbox = mailbox_new(1);
    struct order replaced;
    put(mailbox, 1, 0, 1, &replaced);
    assert_true(bed_wait(mailbox));
    assert_true(bed_wait(mailbox));
    assert_takes(mailbox, 1);
    mailbox_free(mailbox);
}

static void *put_from_elsewhere(void *mailbox)
{
    struct order replaced;
    put(mailbox, 1, 0, 1, &replaced);
    return NULL;
}

static void *stop_from_elsewhere(void *mailbox)
{
    mailbox_stop(mailbox);
    return NULL;
}

static void test_an_order_wakes_the_sleeper(void **state)
{
    (void)state;
    struct mailbox *mailbox = mailbox_new(1);
    pthread_t thread;
    pthread_create(&thread, NULL, put_from_elsewhere, mailbox);
    assert_true(bed_wait(mailbox));
    assert_takes(mailbox, 1);
    pthread_join(thread, NULL);
    mailbox_free(mailbox);
}

static void test_stopping_wakes_and_stays(void **state)
{
    (void)state;
    struct mailbox *mailbox = mailbox_new(1);
    struct order replaced;
    pthread_t thread;
    pthread_create(&thread, NULL, stop_from_elsewhere, mailbox);
    assert_false(bed_wait(mailbox));
    pthread_join(thread, NULL);
    assert_false(bed_wait(mailbox));
    /* What waits is carried out all the same. */
    put(mailbox, 2, 0, 1, &replaced);
    assert_false(bed_wait(mailbox));
    assert_takes(mailbox, 2);
    mailbox_free(mailbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gives_the_longest_waiting_first),
        cmocka_unit_test(test_a_newer_order_replaces_the_waiting_one),
        cmocka_unit_test(test_a_taken_order_is_not_replaced),
        cmocka_unit_test(test_never_holds_more_than_its_places),
        cmocka_unit_test(test_each_order_is_told),
        cmocka_unit_test(test_does_not_wait_while_an_order_does),
        cmocka_unit_test(test_an_order_wakes_the_sleeper),
        cmocka_unit_test(test_stopping_wakes_and_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
