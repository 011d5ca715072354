#include "devices/link_tcp.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* The MBAP header: transaction, protocol (0), length of what follows, unit. */
enum { AT_TRANSACTION = 0, AT_PROTOCOL = 2, AT_LENGTH = 4, AT_UNIT = 6, AT_PDU = 7 };
enum { LENGTH_MIN = 2, LENGTH_MAX = 1 + LINK_PDU_MAX };

enum { PORT_TEXT = sizeof "65535" };

/* A name being resolved. The C library offers no bound on that, so it happens
 * in a thread of its own, which may outlive every call and the link itself:
 * whichever of the two leaves last frees this. */
struct lookup {
    char host[DEVICE_HOST_MAX + 1];
    char port[PORT_TEXT];
    int ready; /* eventfd, readable when `result` is in */
    int result;
    struct addrinfo *found;
    atomic_flag left;
};

struct link_tcp {
    struct link link;
    char host[DEVICE_HOST_MAX + 1];
    char port[PORT_TEXT];
    char name[DEVICE_HOST_MAX + 16]; /* host:port, for messages */
    struct lookup *lookup;           /* a late one; the next open goes on waiting for it */
    int fd;
    uint16_t transaction;
    bool awaiting; /* a request has gone out and its answer is not whole */
};

static void lookup_leave(struct lookup *lookup)
{
    if (!atomic_flag_test_and_set(&lookup->left))
        return;
    if (lookup->found != NULL)
        freeaddrinfo(lookup->found);
    close(lookup->ready);
    free(lookup);
}

static void *lookup_run(void *argument)
{
    struct lookup *lookup = argument;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    lookup->result = getaddrinfo(lookup->host, lookup->port, &hints, &lookup->found);
    eventfd_write(lookup->ready, 1);
    lookup_leave(lookup);
    return NULL;
}

/* NULL when there is no memory, descriptor or thread for it. */
static struct lookup *lookup_start(const char *host, const char *port)
{
    struct lookup *lookup = calloc(1, sizeof *lookup);
    if (lookup == NULL)
        return NULL;
    *lookup = (struct lookup){.left = ATOMIC_FLAG_INIT};
    memcpy(lookup->host, host, strlen(host) + 1);
    memcpy(lookup->port, port, strlen(port) + 1);
    lookup->ready = eventfd(0, EFD_CLOEXEC);
    pthread_t thread;
    if (lookup->ready == -1 || pthread_create(&thread, NULL, lookup_run, lookup) != 0) {
        atomic_flag_test_and_set(&lookup->left);
        lookup_leave(lookup);
        return NULL;
    }
    pthread_detach(thread);
    return lookup;
}

/* The addresses of the host, for freeaddrinfo(). */
static enum fault resolve(struct link_tcp *tcp, int64_t deadline_ns, struct addrinfo **found)
{
    const struct addrinfo numeric = {.ai_socktype = SOCK_STREAM,
                                     .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    if (tcp->lookup == NULL && getaddrinfo(tcp->host, tcp->port, &numeric, found) == 0)
        return FAULT_NONE;

    if (tcp->lookup == NULL)
        tcp->lookup = lookup_start(tcp->host, tcp->port);
    if (tcp->lookup == NULL)
        return link_fail(&tcp->link, FAULT_CONNECTION, "cannot resolve %s: no thread for it",
                         tcp->host);
    eventfd_t one;
    if (!link_wait(&tcp->link, tcp->lookup->ready, POLLIN, deadline_ns) ||
        eventfd_read(tcp->lookup->ready, &one) != 0)
        return link_fail(&tcp->link, FAULT_CONNECTION, "cannot resolve %s: no answer in time",
                         tcp->host);

    enum fault fault = FAULT_NONE;
    if (tcp->lookup->result != 0) {
        fault = link_fail(&tcp->link, FAULT_CONNECTION, "cannot resolve %s: %s", tcp->host,
                          gai_strerror(tcp->lookup->result));
    } else {
        *found = tcp->lookup->found;
        tcp->lookup->found = NULL;
    }
    lookup_leave(tcp->lookup);
    tcp->lookup = NULL;
    return fault;
}

/* A connected socket, or -1 and errno. */
static int connect_to(struct link *link, const struct addrinfo *address, int64_t deadline_ns)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd == -1)
        return -1;
    int problem = 0;
    socklen_t size = sizeof problem;
    if (connect(fd, address->ai_addr, address->ai_addrlen) == -1) {
        if (errno != EINPROGRESS)
            problem = errno;
        else if (!link_wait(link, fd, POLLOUT, deadline_ns))
            problem = ETIMEDOUT;
        else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size) == -1)
            problem = errno;
    }
    if (problem != 0) {
        close(fd);
        errno = problem;
        return -1;
    }
    return fd;
}

/* Requests leave at once, and a peer that vanished is noticed within half a
 * minute even when nothing is asked. An option that fails costs only that. */
static void tune(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 10}, {IPPROTO_TCP, TCP_KEEPINTVL, 5},
        {IPPROTO_TCP, TCP_KEEPCNT, 3},   {IPPROTO_TCP, TCP_USER_TIMEOUT, 25000},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

static enum fault tcp_open(struct link *link, int64_t timeout_ns)
{
    struct link_tcp *tcp = (struct link_tcp *)link;
    int64_t deadline_ns = link_now_ns() + timeout_ns;
    struct addrinfo *found = NULL;
    enum fault fault = resolve(tcp, deadline_ns, &found);
    if (fault != FAULT_NONE)
        return fault;

    int64_t untried = 0;
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next)
        untried++;
    int fd = -1;
    for (const struct addrinfo *at = found; at != NULL && fd == -1; at = at->ai_next) {
        /* A silent address leaves the others their share of the time. */
        int64_t now_ns = link_now_ns();
        fd = connect_to(link, at, now_ns + (deadline_ns - now_ns) / untried--);
    }
    if (fd == -1)
        fault = link_fail(link, errno == ETIMEDOUT ? FAULT_TIMEOUT : FAULT_CONNECTION,
                          "connect %s: %m", tcp->name);
    freeaddrinfo(found);
    if (fd != -1) {
        tune(fd);
        tcp->fd = fd;
        tcp->awaiting = false;
    }
    return fault;
}

static void tcp_close(struct link *link)
{
    struct link_tcp *tcp = (struct link_tcp *)link;
    if (tcp->awaiting) {
        /* Reset: what is still to be sent has been given up. */
        const struct linger reset = {.l_onoff = 1, .l_linger = 0};
        setsockopt(tcp->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    close(tcp->fd);
}

static bool tcp_is_stale(struct link *link)
{
    uint8_t byte;
    return recv(((struct link_tcp *)link)->fd, &byte, 1, 0) != -1 || errno != EAGAIN;
}

static enum fault send_request(struct link_tcp *tcp, uint8_t unit, const uint8_t *request,
                               size_t request_size)
{
    uint8_t frame[AT_PDU + LINK_PDU_MAX];
    size_t size = AT_PDU + request_size;

    link_put16(frame + AT_TRANSACTION, ++tcp->transaction);
    link_put16(frame + AT_PROTOCOL, 0);
    link_put16(frame + AT_LENGTH, (unsigned)(1 + request_size));
    frame[AT_UNIT] = unit;
    memcpy(frame + AT_PDU, request, request_size);
    tcp->awaiting = true;
    if (send(tcp->fd, frame, size, MSG_NOSIGNAL) != (ssize_t)size)
        return link_fail(&tcp->link, FAULT_CONNECTION, "%s unit %u: send: %m", tcp->name, unit);
    return FAULT_NONE;
}

/* What is wrong with the first `got` bytes of an answer, or NULL; `*size`
 * becomes the size of the whole frame once the header is there. */
static const char *misfit(const struct link_tcp *tcp, uint8_t unit, const uint8_t *frame,
                          size_t got, size_t *size)
{
    if (got < AT_PDU)
        return NULL;
    size_t length = link_get16(frame + AT_LENGTH);
    if (link_get16(frame + AT_PROTOCOL) != 0)
        return "not Modbus";
    if (length < LENGTH_MIN || length > LENGTH_MAX)
        return "impossible length";
    if (link_get16(frame + AT_TRANSACTION) != tcp->transaction)
        return "answer to another request";
    if (frame[AT_UNIT] != unit)
        return "answer from another unit";
    *size = AT_UNIT + length;
    return got > *size ? "more than one answer" : NULL;
}

static enum fault tcp_exchange(struct link *link, uint8_t unit, const uint8_t *request,
                               size_t request_size, uint8_t *reply, size_t *reply_size,
                               int64_t timeout_ns)
{
    struct link_tcp *tcp = (struct link_tcp *)link;
    int64_t deadline_ns = link_now_ns() + timeout_ns;
    enum fault fault = send_request(tcp, unit, request, request_size);
    if (fault != FAULT_NONE)
        return fault;

    /* One byte more than any answer has, so that an excess shows. */
    uint8_t frame[AT_PDU + LINK_PDU_MAX + 1];
    size_t got = 0;
    size_t size = sizeof frame;
    while (got < size) {
        if (!link_wait(&tcp->link, tcp->fd, POLLIN, deadline_ns))
            return link_fail(link, FAULT_TIMEOUT,
                             "%s unit %u: no whole answer within %lld ms (%zu bytes)", tcp->name,
                             unit, (long long)timeout_ns / 1000000, got);
        ssize_t n = recv(tcp->fd, frame + got, sizeof frame - got, 0);
        if (n == -1 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n == -1)
            return link_fail(link, FAULT_CONNECTION, "%s unit %u: receive: %m", tcp->name, unit);
        if (n == 0)
            return link_fail(link, FAULT_CONNECTION, "%s unit %u: closed by the device", tcp->name,
                             unit);
        got += (size_t)n;
        const char *problem = misfit(tcp, unit, frame, got, &size);
        if (problem != NULL)
            return link_fail(link, FAULT_BAD_REPLY, "%s unit %u: %s", tcp->name, unit, problem);
    }
    tcp->awaiting = false;
    *reply_size = size - AT_PDU;
    memcpy(reply, frame + AT_PDU, *reply_size);
    return FAULT_NONE;
}

static void tcp_free(struct link *link)
{
    struct link_tcp *tcp = (struct link_tcp *)link;
    if (tcp->lookup != NULL)
        lookup_leave(tcp->lookup);
    free(tcp);
}

struct link *link_tcp_new(const char *host, uint16_t port)
{
    static const struct link_ops ops = {tcp_open, tcp_exchange, tcp_is_stale, tcp_close, tcp_free};
    struct link_tcp *tcp = calloc(1, sizeof *tcp);
    if (tcp == NULL)
        return NULL;
    tcp->link.ops = &ops;
    snprintf(tcp->host, sizeof tcp->host, "%s", host);
    snprintf(tcp->port, sizeof tcp->port, "%u", port);
    bool colons = strchr(host, ':') != NULL;
    snprintf(tcp->name, sizeof tcp->name, colons ? "[%s]:%s" : "%s:%s", tcp->host, tcp->port);
    return &tcp->link;
}
