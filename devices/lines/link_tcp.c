#include "devices/lines/link_tcp.h"

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
    int fd;                          /* connected, or connecting; -1 = none */
    int64_t deadline_ns;             /* of the operation under way */

    /* opening */
    struct lookup *lookup; /* may be late: the next open goes on waiting for it */
    struct addrinfo *found, *untried;
    int problem; /* of the address tried last, as errno */

    /* asking */
    uint16_t transaction;
    uint8_t unit;
    bool awaiting; /* a request has gone out and its answer is not whole */
    size_t got, size;
    /* One byte more than any answer has, so that an excess shows. */
    uint8_t frame[AT_PDU + LINK_PDU_MAX + 1];
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
    lookup->ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_t thread;
    if (lookup->ready == -1 || pthread_create(&thread, NULL, lookup_run, lookup) != 0) {
        atomic_flag_test_and_set(&lookup->left);
        lookup_leave(lookup);
        return NULL;
    }
    pthread_detach(thread);
    return lookup;
}

/* ---- opening: resolve, then try one address after the other ---- */

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

static void drop_socket(struct link_tcp *tcp)
{
    if (tcp->fd != -1)
        close(tcp->fd);
    tcp->fd = -1;
}

static void drop_addresses(struct link_tcp *tcp)
{
    if (tcp->found != NULL)
        freeaddrinfo(tcp->found);
    tcp->found = tcp->untried = NULL;
}

/* Begins to connect; tcp->problem is EINPROGRESS when that takes a while. */
static void connect_to(struct link_tcp *tcp, const struct addrinfo *address)
{
    tcp->problem = 0;
    tcp->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (tcp->fd == -1 || !link_watch(&tcp->link, tcp->fd) ||
        connect(tcp->fd, address->ai_addr, address->ai_addrlen) == -1)
        tcp->problem = errno;
    if (tcp->problem != 0 && tcp->problem != EINPROGRESS)
        drop_socket(tcp);
}

/* Whether the connection is there; else why not, or EINPROGRESS. */
static int connected(const struct link_tcp *tcp)
{
    int problem = 0;
    socklen_t size = sizeof problem;
    if (!link_wait(NULL, tcp->fd, POLLOUT, 0))
        return link_now_ns() < tcp->link.until_ns ? EINPROGRESS : ETIMEDOUT;
    return getsockopt(tcp->fd, SOL_SOCKET, SO_ERROR, &problem, &size) == -1 ? errno : problem;
}

/* Tries the addresses that are left until one is connected or connecting. A
 * silent one leaves the others their share of the time. */
static enum fault try_addresses(struct link_tcp *tcp)
{
    while (tcp->fd == -1 && tcp->untried != NULL) {
        int64_t left = 0, now_ns = link_now_ns();
        for (const struct addrinfo *at = tcp->untried; at != NULL; at = at->ai_next)
            left++;
        connect_to(tcp, tcp->untried);
        tcp->untried = tcp->untried->ai_next;
        if (tcp->problem == EINPROGRESS)
            return link_await(&tcp->link, tcp->fd, POLLOUT,
                              now_ns + (tcp->deadline_ns - now_ns) / left);
    }
    drop_addresses(tcp);
    if (tcp->fd != -1) {
        tune(tcp->fd);
        link_note_peer(&tcp->link, tcp->fd);
        return FAULT_NONE;
    }
    errno = tcp->problem;
    return link_fail(&tcp->link, errno == ETIMEDOUT ? FAULT_TIMEOUT : FAULT_CONNECTION,
                     "connect %s: %m", tcp->name);
}

/* The name server may have answered. */
static enum fault take_lookup(struct link_tcp *tcp)
{
    eventfd_t one;
    enum fault fault = FAULT_NONE;
    if (eventfd_read(tcp->lookup->ready, &one) != 0) {
        if (link_now_ns() < tcp->link.until_ns)
            return link_await(&tcp->link, tcp->lookup->ready, POLLIN, tcp->deadline_ns);
        return link_fail(&tcp->link, FAULT_CONNECTION, "cannot resolve %s: no answer in time",
                         tcp->host);
    }
    if (tcp->lookup->result != 0) {
        fault = link_fail(&tcp->link, FAULT_CONNECTION, "cannot resolve %s: %s", tcp->host,
                          gai_strerror(tcp->lookup->result));
    } else {
        tcp->found = tcp->untried = tcp->lookup->found;
        tcp->lookup->found = NULL;
    }
    lookup_leave(tcp->lookup);
    tcp->lookup = NULL;
    return fault != FAULT_NONE ? fault : try_addresses(tcp);
}

static enum fault tcp_open(struct link *link, int64_t timeout_ns)
{
    const struct addrinfo numeric = {.ai_socktype = SOCK_STREAM,
                                     .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct link_tcp *tcp = (struct link_tcp *)link;
    tcp->deadline_ns = link_now_ns() + timeout_ns;
    tcp->awaiting = false;
    if (tcp->lookup == NULL && getaddrinfo(tcp->host, tcp->port, &numeric, &tcp->found) == 0) {
        tcp->untried = tcp->found;
        return try_addresses(tcp);
    }
    tcp->found = NULL;
    if (tcp->lookup == NULL) {
        tcp->lookup = lookup_start(tcp->host, tcp->port);
        if (tcp->lookup == NULL || !link_watch(link, tcp->lookup->ready))
            return link_fail(link, FAULT_CONNECTION, "cannot resolve %s: no thread for it",
                             tcp->host);
    }
    link->until_ns = tcp->deadline_ns;
    return take_lookup(tcp);
}

static enum fault go_on_opening(struct link_tcp *tcp)
{
    if (tcp->fd == -1)
        return take_lookup(tcp);
    tcp->problem = connected(tcp);
    if (tcp->problem == EINPROGRESS)
        return link_await(&tcp->link, tcp->fd, POLLOUT, tcp->link.until_ns);
    if (tcp->problem != 0)
        drop_socket(tcp);
    return try_addresses(tcp);
}

static void tcp_close(struct link *link)
{
    struct link_tcp *tcp = (struct link_tcp *)link;
    if (tcp->awaiting && tcp->fd != -1) {
        /* Reset: what is still to be sent has been given up. */
        const struct linger reset = {.l_onoff = 1, .l_linger = 0};
        setsockopt(tcp->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    drop_addresses(tcp);
    drop_socket(tcp);
}

/* ---- asking ---- */

static bool tcp_is_stale(struct link *link)
{
    uint8_t byte;
    return recv(((struct link_tcp *)link)->fd, &byte, 1, 0) != -1 || errno != EAGAIN;
}

static enum fault send_request(struct link_tcp *tcp, const uint8_t *request, size_t request_size)
{
    uint8_t frame[AT_PDU + LINK_PDU_MAX];
    size_t size = AT_PDU + request_size;

    link_put16(frame + AT_TRANSACTION, ++tcp->transaction);
    link_put16(frame + AT_PROTOCOL, 0);
    link_put16(frame + AT_LENGTH, (unsigned)(1 + request_size));
    frame[AT_UNIT] = tcp->unit;
    memcpy(frame + AT_PDU, request, request_size);
    tcp->awaiting = true;
    if (send(tcp->fd, frame, size, MSG_NOSIGNAL) != (ssize_t)size)
        return link_fail(&tcp->link, FAULT_CONNECTION, "%s unit %u: send: %m", tcp->name,
                         tcp->unit);
    return FAULT_NONE;
}

/* What is wrong with what has come so far, or NULL; the size of the whole frame
 * is known once its header is there. */
static const char *misfit(struct link_tcp *tcp)
{
    const uint8_t *frame = tcp->frame;
    if (tcp->got < AT_PDU)
        return NULL;
    size_t length = link_get16(frame + AT_LENGTH);
    if (link_get16(frame + AT_PROTOCOL) != 0)
        return "not Modbus";
    if (length < LENGTH_MIN || length > LENGTH_MAX)
        return "impossible length";
    if (link_get16(frame + AT_TRANSACTION) != tcp->transaction)
        return "answer to another request";
    if (frame[AT_UNIT] != tcp->unit)
        return "answer from another unit";
    tcp->size = AT_UNIT + length;
    return tcp->got > tcp->size ? "more than one answer" : NULL;
}

/* Takes what has come; the link is left busy while the answer is not whole. */
static enum fault receive(struct link_tcp *tcp, uint8_t *reply, size_t *reply_size)
{
    struct link *link = &tcp->link;
    while (tcp->got < tcp->size) {
        ssize_t n = recv(tcp->fd, tcp->frame + tcp->got, sizeof tcp->frame - tcp->got, 0);
        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1 && errno == EAGAIN && link_now_ns() < link->until_ns)
            return link_await(link, tcp->fd, POLLIN, tcp->deadline_ns);
        if (n == -1 && errno == EAGAIN)
            return link_fail(link, FAULT_TIMEOUT, "%s unit %u: no whole answer in time (%zu bytes)",
                             tcp->name, tcp->unit, tcp->got);
        if (n == -1)
            return link_fail(link, FAULT_CONNECTION, "%s unit %u: receive: %m", tcp->name,
                             tcp->unit);
        if (n == 0)
            return link_fail(link, FAULT_CONNECTION, "%s unit %u: closed by the device", tcp->name,
                             tcp->unit);
        tcp->got += (size_t)n;
        const char *problem = misfit(tcp);
        if (problem != NULL)
            return link_fail(link, FAULT_BAD_REPLY, "%s unit %u: %s", tcp->name, tcp->unit,
                             problem);
    }
    tcp->awaiting = false;
    *reply_size = tcp->size - AT_PDU;
    memcpy(reply, tcp->frame + AT_PDU, *reply_size);
    return FAULT_NONE;
}

static enum fault tcp_exchange(struct link *link, uint8_t unit, const uint8_t *request,
                               size_t request_size, uint8_t *reply, size_t *reply_size,
                               int64_t timeout_ns)
{
    struct link_tcp *tcp = (struct link_tcp *)link;
    (void)reply, (void)reply_size; /* come later */
    tcp->deadline_ns = link_now_ns() + timeout_ns;
    tcp->unit = unit;
    tcp->got = 0;
    tcp->size = sizeof tcp->frame;
    enum fault fault = send_request(tcp, request, request_size);
    return fault != FAULT_NONE ? fault : link_await(link, tcp->fd, POLLIN, tcp->deadline_ns);
}

static enum fault tcp_go_on(struct link *link, uint8_t *reply, size_t *reply_size)
{
    struct link_tcp *tcp = (struct link_tcp *)link;
    return link->is_open ? receive(tcp, reply, reply_size) : go_on_opening(tcp);
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
    static const struct link_ops ops = {
        .open = tcp_open,
        .exchange = tcp_exchange,
        .go_on = tcp_go_on,
        .is_stale = tcp_is_stale,
        .close = tcp_close,
        .free = tcp_free,
    };
    struct link_tcp *tcp = calloc(1, sizeof *tcp);
    if (tcp == NULL)
        return NULL;
    link_init(&tcp->link, &ops);
    tcp->fd = -1;
    snprintf(tcp->host, sizeof tcp->host, "%s", host);
    snprintf(tcp->port, sizeof tcp->port, "%u", port);
    bool colons = strchr(host, ':') != NULL;
    snprintf(tcp->name, sizeof tcp->name, colons ? "[%s]:%s" : "%s:%s", tcp->host, tcp->port);
    return &tcp->link;
}
