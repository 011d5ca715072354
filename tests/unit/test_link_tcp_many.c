/* Many TCP links in one thread: nothing is waited for on the spot. */
#include "tcp_bed.h"

/* A link whose owner waits for it on this epoll. */
static struct link *watched(const char *host, uint16_t port, int epoll_fd)
{
    struct link *link = link_tcp_new(host, port);
    assert_non_null(link);
    link->epoll_fd = epoll_fd;
    link->tag = link;
    return link;
}

/* The link that has something to say. */
static struct link *next_event(int epoll_fd)
{
    struct epoll_event event = {.data.ptr = NULL};
    assert_int_equal(epoll_wait(epoll_fd, &event, 1, (int)(LONG_NS / 1000000)), 1);
    return event.data.ptr;
}

/* Goes on with a busy link until it no longer is. */
static enum fault finish_on(int epoll_fd, struct link *link, uint16_t *words)
{
    enum fault fault = FAULT_NONE;
    while (link->is_busy) {
        assert_ptr_equal(next_event(epoll_fd), link);
        fault = link_go_on(link, words);
    }
    return fault;
}

/* A connected link on an epoll of its own, `test`'s own from then on. */
static int start_watched(struct test *test, script *play)
{
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    start_on(test, "127.0.0.1", "127.0.0.1", play);
    link_free(test->link);
    test->link = watched("127.0.0.1", test->server.port, epoll_fd);
    assert_int_equal(link_begin_open(test->link, LONG_NS), FAULT_NONE);
    assert_int_equal(finish_on(epoll_fd, test->link, NULL), FAULT_NONE);
    assert_true(test->link->is_open);
    return epoll_fd;
}

static enum fault begin_value(struct test *test, uint16_t *word, int64_t timeout_ns)
{
    return link_begin_read(test->link, UNIT, POINT_HOLDING, 2000, 1, word, timeout_ns);
}

static void play_pieces(struct server *server)
{
    uint8_t frame[FRAME_MAX];
    server_accept(server);
    if (!server_request(server))
        return;
    size_t size =
        frame_for(server, (struct twist){0}, (const uint8_t[]){3, 2, 0x12, 0x34}, 4, frame);
    server_send(server, frame, HEADER + 1);
    sem_wait(&server->go);
    server_send(server, frame + HEADER + 1, size - HEADER - 1);
    server_end(server);
}

static void test_a_read_is_busy_until_the_last_piece(void **state)
{
    struct test *test = *state;
    uint16_t word = 99;
    int epoll_fd = start_watched(test, play_pieces);
    assert_int_equal(begin_value(test, &word, LONG_NS), FAULT_NONE);
    assert_true(test->link->is_busy);
    int64_t until_ns = test->link->until_ns;
    struct epoll_event event = {0};
    while ((event.events & EPOLLIN) == 0) { /* the first piece */
        assert_int_equal(epoll_wait(epoll_fd, &event, 1, (int)(LONG_NS / 1000000)), 1);
        assert_int_equal(link_go_on(test->link, &word), FAULT_NONE);
        assert_true(test->link->is_busy);
    }
    assert_int_equal(link_go_on(test->link, &word), FAULT_NONE); /* for nothing */
    assert_true(test->link->is_busy);
    assert_int_equal(test->link->until_ns, until_ns);
    assert_int_equal(word, 99);
    sem_post(&test->server.go);
    assert_int_equal(finish_on(epoll_fd, test->link, &word), FAULT_NONE);
    assert_int_equal(word, 0x1234);
    close(epoll_fd);
}

static void test_a_busy_read_is_over_in_time(void **state)
{
    struct test *test = *state;
    uint16_t word = 99;
    int epoll_fd = start_watched(test, play_late);
    assert_int_equal(begin_value(test, &word, SHORT_NS), FAULT_NONE);
    link_wait(NULL, test->link->fd, POLLIN, test->link->until_ns);
    assert_int_equal(link_go_on(test->link, &word), FAULT_TIMEOUT);
    assert_false(test->link->is_busy);
    assert_false(test->link->is_open);
    assert_int_equal(word, 99);
    /* On a new connection, of which the same epoll tells. */
    assert_int_equal(link_begin_open(test->link, LONG_NS), FAULT_NONE);
    assert_int_equal(finish_on(epoll_fd, test->link, NULL), FAULT_NONE);
    assert_int_equal(begin_value(test, &word, LONG_NS), FAULT_NONE);
    assert_int_equal(finish_on(epoll_fd, test->link, &word), FAULT_NONE);
    assert_int_equal(word, 5);
    close(epoll_fd);
}

static void test_closed_while_it_asks(void **state)
{
    struct test *test = *state;
    uint16_t word = 99;
    int epoll_fd = start_watched(test, play_late);
    assert_int_equal(begin_value(test, &word, LONG_NS), FAULT_NONE);
    link_close(test->link);
    assert_false(test->link->is_busy);
    assert_reads(test, 5); /* the answer to what was given up is nobody's */
    link_close(test->link);
    finish(test);
    assert_int_equal(test->server.end, ECONNRESET);
    close(epoll_fd);
}

static void test_closed_while_it_connects(void **state)
{
    struct test *test = *state;
    uint16_t port = 0;
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct hole hole = hole_open("127.0.0.1", &port);
    test->link = watched("127.0.0.1", port, epoll_fd);
    assert_int_equal(link_begin_open(test->link, LONG_NS), FAULT_NONE);
    assert_true(test->link->is_busy);
    assert_false(test->link->is_open);
    assert_int_equal(link_go_on(test->link, NULL), FAULT_NONE); /* for nothing */
    assert_true(test->link->is_busy);
    int fd = test->link->fd;
    link_close(test->link);
    assert_false(test->link->is_busy);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    hole_close(&hole);
    close(epoll_fd);
}

static void test_closed_while_it_resolves(void **state)
{
    struct test *test = *state;
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    start_on(test, "127.0.0.1", "127.0.0.1", play_one_read);
    link_free(test->link);
    test->link = watched("hangs.test", test->server.port, epoll_fd);
    unsigned before = atomic_load(&names.asked);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(link_begin_open(test->link, LONG_NS), FAULT_NONE);
        assert_true(test->link->is_busy);
        link_close(test->link);
        assert_false(test->link->is_busy);
    }
    assert_int_equal(link_begin_open(test->link, LONG_NS), FAULT_NONE);
    sem_post(&names.release);
    assert_int_equal(finish_on(epoll_fd, test->link, NULL), FAULT_NONE);
    assert_int_equal(atomic_load(&names.asked), before + 1); /* the same look-up served */
    sem_wait(&names.finished);
    assert_reads(test, 5);
    close(epoll_fd);
}

/* Reads by an owner who waits on the spot leave edges behind for the epoll. */
static void play_third_on_demand(struct server *server)
{
    server_accept(server);
    for (uint16_t i = 1; i <= 3 && server_request(server); i++) {
        if (i == 3)
            sem_wait(&server->go);
        server_value(server, i);
    }
    server_end(server);
}

static void test_an_edge_of_an_earlier_answer_is_none_of_this_one(void **state)
{
    struct test *test = *state;
    uint16_t word = 99;
    int epoll_fd = start_watched(test, play_third_on_demand);
    assert_int_equal(begin_value(test, &word, LONG_NS), FAULT_NONE);
    assert_int_equal(finish_on(epoll_fd, test->link, &word), FAULT_NONE);
    assert_int_equal(word, 1);
    assert_reads(test, 2); /* without the epoll, which has not been told yet */
    assert_int_equal(begin_value(test, &word, LONG_NS), FAULT_NONE);
    assert_ptr_equal(next_event(epoll_fd), test->link);
    assert_int_equal(link_go_on(test->link, &word), FAULT_NONE);
    assert_true(test->link->is_busy);
    sem_post(&test->server.go);
    assert_int_equal(finish_on(epoll_fd, test->link, &word), FAULT_NONE);
    assert_int_equal(word, 3);
    close(epoll_fd);
}

enum { SILENT = 2 };

/* Three connections; the unit SILENT is. */
static void play_three(struct server *server)
{
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = accept(server->listener, NULL, NULL);
        server->fd = fds[i];
        if (server_request(server) && server->request[6] != SILENT)
            server_value(server, server->request[6]);
    }
    server->fd = -1;
    sem_wait(&server->go);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}

static void test_one_silent_link_of_several(void **state)
{
    struct test *test = *state;
    struct link *links[3];
    uint16_t words[3] = {0};
    unsigned n_done = 0;
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    start_on(test, "127.0.0.1", "127.0.0.1", play_three);
    for (unsigned i = 0; i < 3; i++) {
        links[i] = watched("127.0.0.1", test->server.port, epoll_fd);
        assert_int_equal(link_begin_open(links[i], LONG_NS), FAULT_NONE);
        assert_int_equal(finish_on(epoll_fd, links[i], NULL), FAULT_NONE);
    }
    for (unsigned i = 3; i-- > 0;)
        assert_int_equal(
            link_begin_read(links[i], (uint8_t)(i + 1), POINT_HOLDING, 2000, 1, &words[i], LONG_NS),
            FAULT_NONE);
    while (n_done < 2) {
        struct link *link = next_event(epoll_fd);
        unsigned i = 0;
        while (links[i] != link)
            i++;
        assert_true(link->is_busy);
        assert_int_equal(link_go_on(link, &words[i]), FAULT_NONE);
        n_done += !link->is_busy;
    }
    for (unsigned i = 0; i < 3; i++) {
        bool silent = i + 1 == SILENT;
        assert_int_equal(links[i]->is_busy, silent);
        assert_int_equal(words[i], silent ? 0 : i + 1);
        link_free(links[i]);
    }
    sem_post(&test->server.go);
    close(epoll_fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_read_is_busy_until_the_last_piece),
        TEST(test_a_busy_read_is_over_in_time),
        TEST(test_closed_while_it_asks),
        TEST(test_closed_while_it_connects),
        TEST(test_closed_while_it_resolves),
        TEST(test_an_edge_of_an_earlier_answer_is_none_of_this_one),
        TEST(test_one_silent_link_of_several),
    };
    return cmocka_run_group_tests_name("link_tcp_many", tests, NULL, NULL);
}
