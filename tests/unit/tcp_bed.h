/* tcp_bed: a Modbus server that misbehaves on purpose.
 *
 * Each test gives the server a script: a function that runs in a thread with a
 * listening socket of its own and says, step by step, what it accepts, reads
 * and sends. A script waits for what the client does, never for time. */
#ifndef TESTS_UNIT_TCP_BED_H
#define TESTS_UNIT_TCP_BED_H

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

static inline struct link *link_tcp_new(const char *host, uint16_t port)
{
    struct device_modbus modbus = {.port = port};
    snprintf(modbus.host, sizeof modbus.host, "%s", host);
    return link_new(&modbus);
}

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

static inline void server_accept(struct server *server)
{
    if (server->fd != -1)
        close(server->fd);
    server->fd = accept(server->listener, NULL, NULL);
    setsockopt(server->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

/* Reads one request; false at the end of the connection. */
static inline bool server_request(struct server *server)
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

static inline size_t frame_for(const struct server *server, struct twist twist, const uint8_t *pdu,
                               size_t size, uint8_t *frame)
{
    link_put16(frame, link_get16(server->request) + twist.transaction);
    link_put16(frame + 2, twist.protocol);
    link_put16(frame + 4, (unsigned)((int)size + 1 + twist.length));
    frame[6] = (uint8_t)(server->request[6] + twist.unit);
    memcpy(frame + HEADER, pdu, size);
    return HEADER + size;
}

static inline void server_send(struct server *server, const uint8_t *bytes, size_t size)
{
    (void)!send(server->fd, bytes, size, MSG_NOSIGNAL);
}

static inline void server_answer(struct server *server, struct twist twist, const uint8_t *pdu,
                                 size_t size)
{
    uint8_t frame[FRAME_MAX];
    server_send(server, frame, frame_for(server, twist, pdu, size, frame));
}

/* Answers a read of one register. */
static inline void server_value(struct server *server, uint16_t value)
{
    const uint8_t pdu[] = {3, 2, (uint8_t)(value >> 8), (uint8_t)value};
    server_answer(server, (struct twist){0}, pdu, sizeof pdu);
}

/* Waits until the client has closed; false when it asks on instead. */
static inline bool server_end(struct server *server)
{
    return !server_request(server);
}

static inline void *server_run(void *argument)
{
    struct server *server = argument;
    server->script(server);
    if (server->fd != -1)
        close(server->fd);
    return NULL;
}

static inline int listen_on(const char *host, uint16_t *port, int backlog)
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

static inline void start_on(struct test *test, const char *listen_host, const char *host,
                            script *play)
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
static inline void start(struct test *test, script *play)
{
    start_on(test, "127.0.0.1", "127.0.0.1", play);
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
}

/* Lets the script end; what it noted may be looked at from then on. */
static inline void finish(struct test *test)
{
    if (test->server.running)
        pthread_join(test->server.thread, NULL);
    test->server.running = false;
}

static inline int setup(void **state)
{
    struct test *test = calloc(1, sizeof *test);
    test->server.listener = test->server.fd = -1;
    test->server.end = -1;
    sem_init(&test->server.go, 0, 0);
    *state = test;
    return 0;
}

static inline int teardown(void **state)
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

static inline enum fault read_value(struct test *test, uint16_t *word, int64_t timeout_ns)
{
    return link_read(test->link, UNIT, POINT_HOLDING, 2000, 1, word, timeout_ns);
}

static inline enum fault write_value(struct test *test, uint16_t word, int64_t timeout_ns)
{
    return link_write(test->link, UNIT, POINT_HOLDING, 2008, 1, &word, timeout_ns);
}

static inline void assert_reads(struct test *test, uint16_t wanted)
{
    uint16_t word = 0;
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
    assert_int_equal(read_value(test, &word, LONG_NS), FAULT_NONE);
    assert_int_equal(word, wanted);
}

/* The link's descriptor: the one that is connected to the server. */
static inline int client_fd(const struct test *test)
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

static inline void play_one_read(struct server *server)
{
    server_accept(server);
    if (server_request(server))
        server_value(server, 5);
    server_end(server);
}

/* Answers the first request when there is a second one, or never. */
static inline void play_late(struct server *server)
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

/* Fills the backlog of a listening socket, so that further SYNs go unanswered. */
struct hole {
    int listener;
    int fillers[8];
};

static inline struct hole hole_open(const char *host, uint16_t *port)
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

static inline void hole_close(struct hole *hole)
{
    for (size_t i = 0; i < 8; i++)
        close(hole->fillers[i]);
    close(hole->listener);
}

#endif
