/* What is asked over TCP, and what is believed of what comes. */
#include "tcp_bed.h"

static void play_two_reads(struct server *server)
{
    server_accept(server);
    for (uint16_t i = 1; i <= 2 && server_request(server); i++)
        server_value(server, (uint16_t)(0x1110 + i));
    server_end(server);
}

static void test_each_request_has_a_new_transaction(void **state)
{
    struct test *test = *state;
    start(test, play_two_reads);
    assert_reads(test, 0x1111);
    assert_reads(test, 0x1112);
    link_close(test->link);
    finish(test);
    assert_int_equal(test->server.n_requests, 2);
    assert_int_not_equal(test->server.transactions[0], test->server.transactions[1]);
    assert_int_equal(test->server.end, 0); /* an orderly end, no reset */
}

static void play_write(struct server *server)
{
    server_accept(server);
    if (server_request(server))
        server_answer(server, (struct twist){0}, server->request + HEADER,
                      server->request_size - HEADER);
    server_end(server);
}

static void test_sends_the_documented_frame(void **state)
{
    struct test *test = *state;
    start(test, play_write);
    assert_int_equal(write_value(test, 100, LONG_NS), FAULT_NONE);
    link_close(test->link);
    finish(test); /* reading the end of the connection left the request as it was */
    const uint8_t wanted[] = {0, 0, 0, 6, UNIT, 0x06, 0x07, 0xd8, 0x00, 0x64};
    assert_memory_equal(test->server.request + 2, wanted, sizeof wanted);
}

static void play_exception(struct server *server)
{
    server_accept(server);
    if (server_request(server))
        server_answer(server, (struct twist){0}, (const uint8_t[]){0x83, 2}, 2);
    if (server_request(server))
        server_value(server, 5);
    server_end(server);
}

static void test_an_exception_leaves_the_connection_open(void **state)
{
    struct test *test = *state;
    uint16_t word = 99;
    start(test, play_exception);
    assert_int_equal(read_value(test, &word, LONG_NS), FAULT_ILLEGAL_ADDRESS);
    assert_true(test->link->is_open);
    assert_int_equal(word, 99);
    assert_reads(test, 5);
}

static void play_full_frame_in_pieces(struct server *server)
{
    uint8_t pdu[LINK_PDU_MAX] = {0x41, [LINK_PDU_MAX - 1] = 0x99};
    uint8_t frame[FRAME_MAX];
    server_accept(server);
    if (server_request(server)) {
        size_t size = frame_for(server, (struct twist){0}, pdu, sizeof pdu, frame);
        for (size_t i = 0; i < size; i++)
            server_send(server, frame + i, 1);
    }
    server_end(server);
}

static void test_puts_the_largest_frame_together(void **state)
{
    struct test *test = *state;
    uint8_t reply[LINK_PDU_MAX] = {0};
    size_t size = 0;
    start(test, play_full_frame_in_pieces);
    struct link *link = test->link;
    enum fault fault =
        link->ops->exchange(link, UNIT, (const uint8_t[]){0x41}, 1, reply, &size, LONG_NS);
    while (link->is_busy) {
        assert_int_equal(fault, FAULT_NONE);
        link_sleep(link);
        link->is_busy = false;
        fault = link->ops->go_on(link, reply, &size);
    }
    assert_int_equal(fault, FAULT_NONE);
    assert_int_equal(size, LINK_PDU_MAX);
    assert_int_equal(reply[LINK_PDU_MAX - 1], 0x99);
}

static const struct twist twists[] = {
    {.transaction = 1, .fault = FAULT_BAD_REPLY, .words = "another request"},
    {.transaction = 0xffff, .fault = FAULT_BAD_REPLY, .words = "another request"},
    {.protocol = 1, .fault = FAULT_BAD_REPLY, .words = "not Modbus"},
    {.unit = 1, .fault = FAULT_BAD_REPLY, .words = "another unit"},
    {.unit = 0x100 - UNIT, .fault = FAULT_BAD_REPLY, .words = "another unit"}, /* unit 0 */
    {.length = -5, .fault = FAULT_BAD_REPLY, .words = "length"},               /* 0 */
    {.length = -4, .fault = FAULT_BAD_REPLY, .words = "length"},               /* 1 */
    {.length = -3, .fault = FAULT_BAD_REPLY, .words = "not an answer"},        /* 2 */
    {.length = -1, .fault = FAULT_BAD_REPLY, .words = "more than one"},
    {.length = 250, .fault = FAULT_BAD_REPLY, .words = "length"}, /* 255 */
    {.length = 1, .fault = FAULT_TIMEOUT, .words = "no whole answer"},
};
enum { TWISTS = sizeof twists / sizeof *twists };

static void play_twists(struct server *server)
{
    for (size_t i = 0; i < TWISTS; i++) {
        server_accept(server);
        if (server_request(server))
            server_answer(server, twists[i], (const uint8_t[]){3, 2, 0x66, 0x66}, 4);
        if (!server_end(server))
            return;
    }
    server_accept(server);
    if (server_request(server))
        server_value(server, 5);
    server_end(server);
}

static void test_a_wrong_header_closes(void **state)
{
    struct test *test = *state;
    start(test, play_twists);
    for (size_t i = 0; i < TWISTS; i++) {
        uint16_t word = 99;
        assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
        assert_int_equal(
            read_value(test, &word, twists[i].fault == FAULT_TIMEOUT ? SHORT_NS : LONG_NS),
            twists[i].fault);
        assert_int_equal(word, 99);
        assert_false(test->link->is_open);
        assert_non_null(strstr(test->link->error, twists[i].words));
    }
    assert_reads(test, 5);
}

static void play_wrong_echo(struct server *server)
{
    server_accept(server);
    if (server_request(server))
        server_answer(server, (struct twist){0}, (const uint8_t[]){6, 0x07, 0xd8, 0, 0x65}, 5);
    server_end(server);
}

static void test_a_wrong_echo_closes(void **state)
{
    struct test *test = *state;
    start(test, play_wrong_echo);
    assert_int_equal(write_value(test, 0x64, LONG_NS), FAULT_BAD_REPLY);
    assert_false(test->link->is_open);
}

static void play_doubled(struct server *server)
{
    uint8_t twice[2 * FRAME_MAX];
    const uint8_t pdu[] = {3, 2, 0x66, 0x66};
    server_accept(server);
    if (server_request(server)) {
        size_t size = frame_for(server, (struct twist){0}, pdu, sizeof pdu, twice);
        memcpy(twice + size, twice, size);
        server_send(server, twice, 2 * size);
    }
    if (!server_end(server))
        return;
    server_accept(server);
    if (server_request(server))
        server_value(server, 5);
    server_end(server);
}

static void test_a_doubled_answer_closes(void **state)
{
    struct test *test = *state;
    uint16_t word = 99;
    start(test, play_doubled);
    assert_int_equal(read_value(test, &word, LONG_NS), FAULT_BAD_REPLY);
    assert_int_equal(word, 99);
    assert_reads(test, 5);
}

/* The second copy comes when the first has been taken. */
static void play_doubled_later(struct server *server)
{
    server_accept(server);
    if (!server_request(server))
        return;
    server_value(server, 5);
    sem_wait(&server->go);
    server_value(server, 5);
    if (!server_end(server))
        return;
    server_accept(server);
    if (server_request(server))
        server_value(server, 6);
    server_end(server);
}

static void test_stray_bytes_are_answers_to_nothing(void **state)
{
    struct test *test = *state;
    start(test, play_doubled_later);
    assert_reads(test, 5);
    sem_post(&test->server.go);
    assert_true(link_wait(NULL, client_fd(test), POLLIN, link_now_ns() + LONG_NS));
    assert_reads(test, 6); /* on a new connection */
    link_close(test->link);
    finish(test);
    assert_int_equal(test->server.n_requests, 2);
}

static void play_close_when_idle(struct server *server)
{
    server_accept(server);
    if (server_request(server))
        server_value(server, 5);
    server_accept(server); /* closes the first */
    if (server_request(server))
        server_value(server, 6);
    server_end(server);
}

static void test_an_idle_connection_closed_by_the_device(void **state)
{
    struct test *test = *state;
    start(test, play_close_when_idle);
    assert_reads(test, 5);
    assert_true(link_wait(NULL, client_fd(test), POLLIN, link_now_ns() + LONG_NS));
    assert_reads(test, 6); /* noticed before anything was sent */
    link_close(test->link);
    finish(test);
    assert_int_equal(test->server.n_requests, 2);
}

static void play_cuts(struct server *server)
{
    const struct linger reset = {1, 0};
    server_accept(server);
    server_request(server);
    server_accept(server); /* no answer but an end */
    server_request(server);
    server_send(server, server->request, 5);
    server_accept(server); /* an end in the middle of the answer */
    server_request(server);
    setsockopt(server->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

static void test_a_connection_cut_instead_of_an_answer(void **state)
{
    struct test *test = *state;
    start(test, play_cuts);
    for (int i = 0; i < 3; i++) {
        uint16_t word = 99;
        assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
        assert_int_equal(read_value(test, &word, LONG_NS), FAULT_CONNECTION);
        assert_int_equal(word, 99);
        assert_false(test->link->is_open);
        assert_string_not_equal(test->link->error, "");
    }
}

static void test_a_late_answer_is_nobodys(void **state)
{
    struct test *test = *state;
    uint16_t word = 99;
    start(test, play_late);
    int64_t start_ns = link_now_ns();
    assert_int_equal(read_value(test, &word, SHORT_NS), FAULT_TIMEOUT);
    assert_true(link_now_ns() - start_ns >= SHORT_NS);
    assert_int_equal(word, 99);
    assert_false(test->link->is_open);
    assert_reads(test, 5);
    link_close(test->link);
    finish(test);
    assert_int_not_equal(test->server.transactions[0], test->server.transactions[1]);
}

static void test_no_write_is_sent_again_after_a_reconnect(void **state)
{
    struct test *test = *state;
    start(test, play_late);
    assert_int_equal(write_value(test, 0x64, SHORT_NS), FAULT_TIMEOUT);
    assert_reads(test, 5);
    link_close(test->link);
    finish(test);
    assert_int_equal(test->server.n_requests, 2); /* the write, and the read after it */
    /* Given up by a reset: the kernel delivers nothing of it any more. */
    assert_int_equal(test->server.end, ECONNRESET);
}

/* A gateway: one answer comes when another unit has been asked, one write gets none. */
static void play_gateway(struct server *server)
{
    uint8_t late[FRAME_MAX];
    server_accept(server);
    for (int i = 0; i < 2 && server_request(server); i++)
        server_value(server, 5);
    if (!server_request(server))
        return;
    size_t size =
        frame_for(server, (struct twist){0}, (const uint8_t[]){3, 2, 0x66, 0x66}, 4, late);
    if (!server_request(server))
        return;
    server_send(server, late, size);
    server_value(server, 6);
    if (server_request(server))
        server_end(server);
}

static enum fault read_unit(struct test *test, uint8_t unit, uint16_t *word, int64_t timeout_ns)
{
    return link_read(test->link, unit, POINT_HOLDING, 2000, 1, word, timeout_ns);
}

static void test_a_silent_unit_costs_the_others_no_connection(void **state)
{
    struct test *test = *state;
    uint16_t word = 0;
    start(test, play_gateway);
    assert_int_equal(read_unit(test, UNIT, &word, LONG_NS), FAULT_NONE);
    assert_int_equal(read_unit(test, UNIT + 1, &word, LONG_NS), FAULT_NONE);
    assert_int_equal(read_unit(test, UNIT, &word, SHORT_NS), FAULT_TIMEOUT);
    assert_true(test->link->is_open);
    assert_int_equal(word, 5);
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
    assert_int_equal(read_unit(test, UNIT + 1, &word, LONG_NS), FAULT_NONE);
    assert_int_equal(word, 6);
    /* But a setpoint that is given up must not be delivered later. */
    assert_int_equal(write_value(test, 0x64, SHORT_NS), FAULT_TIMEOUT);
    assert_false(test->link->is_open);
    finish(test);
    assert_int_equal(test->server.end, ECONNRESET);
}

static void play_trickle(struct server *server)
{
    uint8_t pdu[252] = {3, 250};
    uint8_t frame[FRAME_MAX];
    server_accept(server);
    if (!server_request(server))
        return;
    size_t size = frame_for(server, (struct twist){0}, pdu, sizeof pdu, frame);
    struct pollfd end = {.fd = server->fd, .events = POLLIN};
    /* A byte each time the client has not given up for 10 ms: 2.6 s in all. */
    for (size_t i = 0; i < size && poll(&end, 1, 10) == 0; i++)
        server_send(server, frame + i, 1);
    server_end(server);
}

static void test_an_answer_that_trickles_is_bounded(void **state)
{
    struct test *test = *state;
    uint16_t words[LINK_READ_MAX];
    start(test, play_trickle);
    assert_int_equal(link_read(test->link, UNIT, POINT_HOLDING, 0, LINK_READ_MAX, words, SHORT_NS),
                     FAULT_TIMEOUT);
    assert_false(test->link->is_open);
}

static void ignore_signal(int number)
{
    (void)number;
}

static void test_signals_do_not_shorten_the_wait(void **state)
{
    struct test *test = *state;
    uint16_t word;
    start(test, play_late);
    struct sigaction old, handler = {.sa_handler = ignore_signal};
    sigaction(SIGALRM, &handler, &old);
    sigset_t alarms;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    const struct itimerval often = {{0, 5000}, {0, 5000}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    int64_t start_ns = link_now_ns();
    enum fault fault = read_value(test, &word, SHORT_NS);
    int64_t took_ns = link_now_ns() - start_ns;
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &old, NULL);
    assert_int_equal(fault, FAULT_TIMEOUT);
    assert_true(took_ns >= SHORT_NS);
    assert_reads(test, 5);
}

static void play_listen_only(struct server *server)
{
    server_accept(server);
    server_end(server);
}

static void test_a_broadcast_write_never_leaves(void **state)
{
    struct test *test = *state;
    start(test, play_listen_only);
    assert_int_equal(
        link_write(test->link, 0, POINT_HOLDING, 2008, 1, (const uint16_t[]){1}, LONG_NS),
        FAULT_BAD_REPLY);
    link_close(test->link);
    finish(test);
    assert_int_equal(test->server.n_requests, 0);
    assert_int_equal(test->server.end, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_each_request_has_a_new_transaction),
        TEST(test_sends_the_documented_frame),
        TEST(test_an_exception_leaves_the_connection_open),
        TEST(test_puts_the_largest_frame_together),
        TEST(test_a_wrong_header_closes),
        TEST(test_a_wrong_echo_closes),
        TEST(test_a_doubled_answer_closes),
        TEST(test_stray_bytes_are_answers_to_nothing),
        TEST(test_an_idle_connection_closed_by_the_device),
        TEST(test_a_connection_cut_instead_of_an_answer),
        TEST(test_a_late_answer_is_nobodys),
        TEST(test_no_write_is_sent_again_after_a_reconnect),
        TEST(test_a_silent_unit_costs_the_others_no_connection),
        TEST(test_an_answer_that_trickles_is_bounded),
        TEST(test_signals_do_not_shorten_the_wait),
        TEST(test_a_broadcast_write_never_leaves),
    };
    return cmocka_run_group_tests_name("link_tcp", tests, NULL, NULL);
}
