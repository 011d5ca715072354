/* How a TCP link is opened: names, addresses, time. */
#include "tcp_bed.h"

static void test_refused(void **state)
{
    struct test *test = *state;
    uint16_t port = 0;
    int reserved = listen_on("127.0.0.1", &port, -1);
    test->link = link_tcp_new("127.0.0.1", port);
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_CONNECTION);
    assert_false(test->link->is_open);
    assert_non_null(strstr(test->link->error, "refused"));
    close(reserved);
}

static void test_a_black_hole_is_bounded(void **state)
{
    struct test *test = *state;
    uint16_t port = 0;
    struct hole hole = hole_open("127.0.0.1", &port);
    test->link = link_tcp_new("127.0.0.1", port);
    int64_t start_ns = link_now_ns();
    assert_int_equal(link_open(test->link, SHORT_NS), FAULT_TIMEOUT);
    int64_t took_ns = link_now_ns() - start_ns;
    assert_true(took_ns >= SHORT_NS);
    assert_true(took_ns < LONG_NS); /* the kernel itself tries for two minutes */
    assert_non_null(strstr(test->link->error, "timed out"));
    hole_close(&hole);
}

static void test_a_name(void **state)
{
    struct test *test = *state;
    start_on(test, "127.0.0.1", "localhost", play_one_read);
    assert_reads(test, 5);
}

static void test_the_next_address_after_a_refusal(void **state)
{
    struct test *test = *state;
    start_on(test, "127.0.0.1", "both.test", play_one_read);
    assert_reads(test, 5);
}

static void test_the_next_address_after_silence(void **state)
{
    struct test *test = *state;
    start_on(test, "127.0.0.1", "both.test", play_one_read);
    struct hole hole = hole_open("127.0.0.2", &test->server.port);
    int64_t start_ns = link_now_ns();
    assert_int_equal(link_open(test->link, 20 * SHORT_NS), FAULT_NONE);
    assert_true(link_now_ns() - start_ns < 20 * SHORT_NS); /* half of it went to the first */
    assert_reads(test, 5);
    hole_close(&hole);
}

static void test_ipv6(void **state)
{
    struct test *test = *state;
    uint16_t port = 0;
    int probe = listen_on("::1", &port, -1);
    if (probe == -1) {
        print_message("no ::1 here\n");
        skip();
    }
    close(probe);
    start_on(test, "::1", "::1", play_one_read);
    assert_reads(test, 5);
}

static void test_an_unknown_name(void **state)
{
    struct test *test = *state;
    test->link = link_tcp_new("nowhere.test", 502);
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_CONNECTION);
    assert_non_null(strstr(test->link->error, "cannot resolve nowhere.test"));
    assert_false(test->link->is_open);
}

static void test_a_name_server_that_hangs_is_bounded(void **state)
{
    struct test *test = *state;
    start_on(test, "127.0.0.1", "hangs.test", play_one_read);
    unsigned before = atomic_load(&names.asked);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(link_open(test->link, SHORT_NS), FAULT_CONNECTION);
        assert_non_null(strstr(test->link->error, "cannot resolve hangs.test"));
    }
    assert_int_equal(atomic_load(&names.asked), before + 1); /* they do not pile up */
    sem_post(&names.release);
    assert_reads(test, 5); /* the late look-up serves */
    sem_wait(&names.finished);
}

static void test_a_look_up_may_outlive_its_link(void **state)
{
    struct test *test = *state;
    test->link = link_tcp_new("hangs.test", 502);
    assert_int_equal(link_open(test->link, SHORT_NS), FAULT_CONNECTION);
    link_free(test->link);
    test->link = NULL;
    sem_post(&names.release);
    sem_wait(&names.finished);
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;
    getsockopt(fd, level, name, &value, &size);
    return value;
}

static void test_the_socket_notices_a_vanished_peer(void **state)
{
    struct test *test = *state;
    start(test, play_one_read);
    int fd = client_fd(test);
    assert_int_not_equal(fd, -1);
    assert_int_equal(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_in_range(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 1, 30);
    assert_in_range(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 1, 10);
    assert_in_range(option(fd, IPPROTO_TCP, TCP_KEEPCNT), 1, 5);
    assert_in_range(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 1000, 60000);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_reads(test, 5);
}

static void test_a_descriptor_above_1024(void **state)
{
    struct test *test = *state;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < 1200) {
        print_message("no more than %u descriptors here\n", (unsigned)limit.rlim_max);
        skip();
    }
    struct rlimit higher = {.rlim_cur = 1200, .rlim_max = limit.rlim_max};
    if (limit.rlim_cur < 1200)
        setrlimit(RLIMIT_NOFILE, &higher);
    int fillers[1100];
    for (size_t i = 0; i < 1100; i++)
        fillers[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    start(test, play_one_read);
    int fd = client_fd(test);
    uint16_t word = 0;
    enum fault fault = read_value(test, &word, LONG_NS);
    for (size_t i = 0; i < 1100; i++)
        close(fillers[i]);
    setrlimit(RLIMIT_NOFILE, &limit);
    assert_true(fd >= 1024);
    assert_int_equal(fault, FAULT_NONE);
    assert_int_equal(word, 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_refused),
        TEST(test_a_black_hole_is_bounded),
        TEST(test_a_name),
        TEST(test_the_next_address_after_a_refusal),
        TEST(test_the_next_address_after_silence),
        TEST(test_ipv6),
        TEST(test_an_unknown_name),
        TEST(test_a_name_server_that_hangs_is_bounded),
        TEST(test_a_look_up_may_outlive_its_link),
        TEST(test_the_socket_notices_a_vanished_peer),
        TEST(test_a_descriptor_above_1024),
    };
    return cmocka_run_group_tests_name("link_tcp_open", tests, NULL, NULL);
}
