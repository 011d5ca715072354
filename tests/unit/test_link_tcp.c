/* link_tcp against a Modbus server that misbehaves on purpose.
 *
 * Each test gives the server a script: a function that runs in a thread with a
 * listening socket of its own and says, step by step, what it accepts, reads
 * and sends. A script waits for what the client does, never for time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "devices/lines/link_new.h"

enum { UNIT = 7, HEADER = 7, FRAME_MAX = 260 };

static const int64_t SHORT_NS = 80 * 1000000LL;   /* where a timeout is to happen */
static const int64_t LONG_NS = 20000 * 1000000LL; /* where none may happen */

/* ---- names: a getaddrinfo() in front of the C library's ---- */

static struct {
    sem_t release;     /* lets one look-up of hangs.test go on */
    sem_t finished;    /* it did */
    atomic_uint asked; /* look-ups of hangs.test */
} names;

int getaddrinfo(const char *restrict host, const char *restrict port,
                const struct addrinfo *restrict hints, struct addrinfo **restrict found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    const char *dot = strrchr(host, '.');
    if (dot == NULL || strcmp(dot, ".test") != 0)
        return real(host, port, hints, found);
    if ((hints->ai_flags & AI_NUMERICHOST) != 0 || strcmp(host, "nowhere.test") == 0)
        return EAI_NONAME;
    if (strcmp(host, "hangs.test") == 0) {
        atomic_fetch_add(&names.asked, 1);
        while (sem_wait(&names.release) == -1)
            ;
        int result = real("127.0.0.1", port, hints, found);
        sem_post(&names.finished);
        return result;
    }
    /* both.test: two addresses, the second is the server's. */
    int result = real("127.0.0.2", port, hints, found);
    return result != 0 ? result : real("127.0.0.1", port, hints, &(*found)->ai_next);
}

static struct link *link_tcp_new(const char *host, uint16_t port)
{
    struct device_modbus modbus = {.port = port};
    snprintf(modbus.host, sizeof modbus.host, "%s", host);
    return link_new(&modbus);
}

/* ---- the server ---- */

struct server;
typedef void script(struct server *server);

struct server {
    int listener;
    uint16_t port;
    script *script;
    pthread_t thread;
    bool running;
    int fd; /* the connection under way */
    uint8_t request[FRAME_MAX];
    size_t request_size;
    unsigned transactions[4]; /* ids of the first requests */
    unsigned n_requests;
    int end;  /* how the connection ended: 0 = orderly, else errno */
    sem_t go; /* the test says when it may go on */
};

struct test {
    struct server server;
    struct link *link;
};

static void server_accept(struct server *server)
{
    if (server->fd != -1)
        close(server->fd);
    server->fd = accept(server->listener, NULL, NULL);
    setsockopt(server->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

/* Reads one request; false at the end of the connection. */
static bool server_request(struct server *server)
{
    size_t size = HEADER;
    server->request_size = 0;
    while (server->request_size < size) {
        ssize_t n = recv(server->fd, server->request + server->request_size,
                         size - server->request_size, 0);
        if (n <= 0) {
            server->end = n == 0 ? 0 : errno;
            return false;
        }
        server->request_size += (size_t)n;
        if (server->request_size == HEADER)
            size = 6U + link_get16(server->request + 4);
        if (size > FRAME_MAX)
            abort();
    }
    if (server->n_requests < 4)
        server->transactions[server->n_requests] = link_get16(server->request);
    server->n_requests++;
    return true;
}

/* What is wrong with an answer's header; {0} = nothing. */
struct twist {
    unsigned transaction; /* added */
    unsigned protocol;
    int length;    /* added */
    unsigned unit; /* added */
    enum fault fault;
    const char *words;
};

static size_t frame_for(const struct server *server, struct twist twist, const uint8_t *pdu,
                        size_t size, uint8_t *frame)
{
    link_put16(frame, link_get16(server->request) + twist.transaction);
    link_put16(frame + 2, twist.protocol);
    link_put16(frame + 4, (unsigned)((int)size + 1 + twist.length));
    frame[6] = (uint8_t)(server->request[6] + twist.unit);
    memcpy(frame + HEADER, pdu, size);
    return HEADER + size;
}

static void server_send(struct server *server, const uint8_t *bytes, size_t size)
{
    (void)!send(server->fd, bytes, size, MSG_NOSIGNAL);
}

static void server_answer(struct server *server, struct twist twist, const uint8_t *pdu,
                          size_t size)
{
    uint8_t frame[FRAME_MAX];
    server_send(server, frame, frame_for(server, twist, pdu, size, frame));
}

/* Answers a read of one register. */
static void server_value(struct server *server, uint16_t value)
{
    const uint8_t pdu[] = {3, 2, (uint8_t)(value >> 8), (uint8_t)value};
    server_answer(server, (struct twist){0}, pdu, sizeof pdu);
}

/* Waits until the client has closed; false when it asks on instead. */
static bool server_end(struct server *server)
{
    return !server_request(server);
}

static void *server_run(void *argument)
{
    struct server *server = argument;
    server->script(server);
    if (server->fd != -1)
        close(server->fd);
    return NULL;
}

/* ---- fixture ---- */

static int listen_on(const char *host, uint16_t *port, int backlog)
{
    struct sockaddr_storage address = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
    socklen_t size = sizeof *v4;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(*port);
    } else {
        size = sizeof *v6;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(*port);
        inet_pton(AF_INET6, host, &v6->sin6_addr);
    }
    int fd = socket(address.ss_family, SOCK_STREAM, 0);
    if (fd == -1 || bind(fd, (struct sockaddr *)&address, size) == -1 ||
        (backlog >= 0 && listen(fd, backlog) == -1)) {
        if (fd != -1)
            close(fd);
        return -1;
    }
    getsockname(fd, (struct sockaddr *)&address, &size);
    *port = ntohs(size == sizeof *v4 ? v4->sin_port : v6->sin6_port);
    return fd;
}

static void start_on(struct test *test, const char *listen_host, const char *host, script *play)
{
    test->server.listener = listen_on(listen_host, &test->server.port, 8);
    assert_int_not_equal(test->server.listener, -1);
    test->server.script = play;
    assert_int_equal(pthread_create(&test->server.thread, NULL, server_run, &test->server), 0);
    test->server.running = true;
    test->link = link_tcp_new(host, test->server.port);
    assert_non_null(test->link);
}

/* Starts the server with `play`, and a link to it, open. */
static void start(struct test *test, script *play)
{
    start_on(test, "127.0.0.1", "127.0.0.1", play);
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
}

/* Lets the script end; what it noted may be looked at from then on. */
static void finish(struct test *test)
{
    if (test->server.running)
        pthread_join(test->server.thread, NULL);
    test->server.running = false;
}

static int setup(void **state)
{
    struct test *test = calloc(1, sizeof *test);
    test->server.listener = test->server.fd = -1;
    test->server.end = -1;
    sem_init(&test->server.go, 0, 0);
    *state = test;
    return 0;
}

static int teardown(void **state)
{
    struct test *test = *state;
    link_free(test->link);
    if (test->server.listener != -1)
        shutdown(test->server.listener, SHUT_RDWR); /* ends a script that a failed test left */
    sem_post(&test->server.go);
    finish(test);
    if (test->server.listener != -1)
        close(test->server.listener);
    sem_destroy(&test->server.go);
    free(test);
    return 0;
}

static enum fault read_value(struct test *test, uint16_t *word, int64_t timeout_ns)
{
    return link_read(test->link, UNIT, POINT_HOLDING, 2000, 1, word, timeout_ns);
}

static enum fault write_value(struct test *test, uint16_t word, int64_t timeout_ns)
{
    return link_write(test->link, UNIT, POINT_HOLDING, 2008, 1, &word, timeout_ns);
}

static void assert_reads(struct test *test, uint16_t wanted)
{
    uint16_t word = 0;
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
    assert_int_equal(read_value(test, &word, LONG_NS), FAULT_NONE);
    assert_int_equal(word, wanted);
}

/* The link's descriptor: the one that is connected to the server. */
static int client_fd(const struct test *test)
{
    for (int fd = 3; fd < 4096; fd++) {
        struct sockaddr_in peer;
        socklen_t size = sizeof peer;
        if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && peer.sin_family == AF_INET &&
            ntohs(peer.sin_port) == test->server.port)
            return fd;
    }
    return -1;
}

/* ---- in step ---- */

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

/* ---- answers that do not fit ---- */

static const struct twist twists[] = {
    {.transaction = 1, .fault = FAULT_BAD_REPLY, .words = "another request"},
    {.transaction = 0xffff, .fault = FAULT_BAD_REPLY, .words = "another request"},
    {.protocol = 1, .fault = FAULT_BAD_REPLY, .words = "not Modbus"},
    {.unit = 1, .fault = FAULT_BAD_REPLY, .words = "another unit"},
    {.unit = 0x100 - UNIT, .fault = FAULT_BAD_REPLY, .words = "another unit"}, /* unit 0 */
    {.length = -5, .fault = FAULT_BAD_REPLY, .words = "length"},               /* 0 */
    {.length = -4, .fault = FAULT_BAD_REPLY, .words = "length"},               /* 1 */
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

/* ---- too late ---- */

/* Answers the first request when there is a second one, or never. */
static void play_late(struct server *server)
{
    uint8_t late[FRAME_MAX];
    server_accept(server);
    if (!server_request(server))
        return;
    size_t size =
        frame_for(server, (struct twist){0}, (const uint8_t[]){3, 2, 0x66, 0x66}, 4, late);
    if (!server_end(server)) {
        server_send(server, late, size); /* the client stayed on this connection */
        server_end(server);
        return;
    }
    server_accept(server);
    if (server_request(server))
        server_value(server, 5);
    int end = server->end;
    server_end(server);
    server->end = end;
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

/* ---- connecting ---- */

static void play_one_read(struct server *server)
{
    server_accept(server);
    if (server_request(server))
        server_value(server, 5);
    server_end(server);
}

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

/* Fills the backlog of a listening socket, so that further SYNs go unanswered. */
struct hole {
    int listener;
    int fillers[8];
};

static struct hole hole_open(const char *host, uint16_t *port)
{
    struct hole hole = {.listener = listen_on(host, port, 0)};
    assert_int_not_equal(hole.listener, -1);
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    getsockname(hole.listener, (struct sockaddr *)&address, &size);
    for (size_t i = 0; i < 8; i++) {
        hole.fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(hole.fillers[i], (struct sockaddr *)&address, size);
    }
    return hole;
}

static void hole_close(struct hole *hole)
{
    for (size_t i = 0; i < 8; i++)
        close(hole->fillers[i]);
    close(hole->listener);
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

/* ---- the socket ---- */

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

/* ---- without waiting: many links on one epoll ---- */

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
        TEST(test_a_broadcast_write_never_leaves),
        TEST(test_a_read_is_busy_until_the_last_piece),
        TEST(test_a_busy_read_is_over_in_time),
        TEST(test_closed_while_it_asks),
        TEST(test_closed_while_it_connects),
        TEST(test_closed_while_it_resolves),
        TEST(test_an_edge_of_an_earlier_answer_is_none_of_this_one),
        TEST(test_one_silent_link_of_several),
    };
    sem_init(&names.release, 0, 0);
    sem_init(&names.finished, 0, 0);
    return cmocka_run_group_tests_name("link_tcp", tests, NULL, NULL);
}
