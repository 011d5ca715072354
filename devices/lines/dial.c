#include "devices/lines/dial.h"

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

enum { PORT_TEXT = sizeof "65535" };

/* A name being resolved. The C library offers no bound on that, so it happens
 * in a thread of its own, which may outlive every call and the link itself:
 * whichever of the two leaves last frees this. */
struct dial_lookup {
    char host[DEVICE_HOST_MAX + 1];
    char port[PORT_TEXT];
    int type;  /* SOCK_STREAM or SOCK_DGRAM */
    int ready; /* eventfd, readable when `result` is in */
    int result;
    struct addrinfo *found;
    atomic_flag left;
};

struct dial {
    struct link *link;
    char host[DEVICE_HOST_MAX + 1];
    char port[PORT_TEXT];
    char name[DEVICE_HOST_MAX + 16]; /* host:port, for messages */
    int type;
    int fd; /* connected, or connecting; -1 = none */
    int64_t deadline_ns;
    struct dial_lookup *lookup; /* may be late: the next attempt goes on waiting for it */
    struct addrinfo *found, *untried;
    int problem; /* of the address tried last, as errno */
};

/* ---- names ---- */

static void lookup_leave(struct dial_lookup *lookup)
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
    struct dial_lookup *lookup = argument;
    const struct addrinfo hints = {.ai_socktype = lookup->type, .ai_flags = AI_NUMERICSERV};
    lookup->result = getaddrinfo(lookup->host, lookup->port, &hints, &lookup->found);
    eventfd_write(lookup->ready, 1);
    lookup_leave(lookup);
    return NULL;
}

/* NULL when there is no memory, descriptor or thread for it. */
static struct dial_lookup *lookup_start(const struct dial *dial)
{
    struct dial_lookup *lookup = calloc(1, sizeof *lookup);
    if (lookup == NULL)
        return NULL;
    *lookup = (struct dial_lookup){.type = dial->type, .left = ATOMIC_FLAG_INIT};
    memcpy(lookup->host, dial->host, sizeof lookup->host);
    memcpy(lookup->port, dial->port, sizeof lookup->port);
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

/* ---- one address after the other ---- */

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

static void drop_socket(struct dial *dial)
{
    if (dial->fd != -1)
        close(dial->fd);
    dial->fd = -1;
}

static void drop_addresses(struct dial *dial)
{
    if (dial->found != NULL)
        freeaddrinfo(dial->found);
    dial->found = dial->untried = NULL;
}

/* Begins to connect; dial->problem is EINPROGRESS when that takes a while. */
static void connect_to(struct dial *dial, const struct addrinfo *address)
{
    dial->problem = 0;
    dial->fd = socket(address->ai_family, dial->type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (dial->fd == -1 || !link_watch(dial->link, dial->fd) ||
        connect(dial->fd, address->ai_addr, address->ai_addrlen) == -1)
        dial->problem = errno;
    if (dial->problem != 0 && dial->problem != EINPROGRESS)
        drop_socket(dial);
}

/* Whether the connection is there; else why not, or EINPROGRESS. */
static int connected(const struct dial *dial)
{
    int problem = 0;
    socklen_t size = sizeof problem;
    if (!link_wait(NULL, dial->fd, POLLOUT, 0))
        return link_now_ns() < dial->link->until_ns ? EINPROGRESS : ETIMEDOUT;
    return getsockopt(dial->fd, SOL_SOCKET, SO_ERROR, &problem, &size) == -1 ? errno : problem;
}

/* Tries the addresses that are left until one is connected or connecting. A
 * silent one leaves the others their share of the time. */
static enum fault try_addresses(struct dial *dial)
{
    while (dial->fd == -1 && dial->untried != NULL) {
        int64_t left = 0, now_ns = link_now_ns();
        for (const struct addrinfo *at = dial->untried; at != NULL; at = at->ai_next)
            left++;
        connect_to(dial, dial->untried);
        dial->untried = dial->untried->ai_next;
        if (dial->problem == EINPROGRESS)
            return link_await(dial->link, dial->fd, POLLOUT,
                              now_ns + (dial->deadline_ns - now_ns) / left);
    }
    drop_addresses(dial);
    if (dial->fd != -1) {
        tune(dial->fd);
        link_note_peer(dial->link, dial->fd);
        return FAULT_NONE;
    }
    errno = dial->problem;
    return link_fail(dial->link, errno == ETIMEDOUT ? FAULT_TIMEOUT : FAULT_CONNECTION,
                     "connect %s: %m", dial->name);
}

/* The name server may have answered. */
static enum fault take_lookup(struct dial *dial)
{
    eventfd_t one;
    enum fault fault = FAULT_NONE;
    if (eventfd_read(dial->lookup->ready, &one) != 0) {
        if (link_now_ns() < dial->link->until_ns)
            return link_await(dial->link, dial->lookup->ready, POLLIN, dial->deadline_ns);
        return link_fail(dial->link, FAULT_CONNECTION, "cannot resolve %s: no answer in time",
                         dial->host);
    }
    if (dial->lookup->result != 0) {
        fault = link_fail(dial->link, FAULT_CONNECTION, "cannot resolve %s: %s", dial->host,
                          gai_strerror(dial->lookup->result));
    } else {
        dial->found = dial->untried = dial->lookup->found;
        dial->lookup->found = NULL;
    }
    lookup_leave(dial->lookup);
    dial->lookup = NULL;
    return fault != FAULT_NONE ? fault : try_addresses(dial);
}

enum fault dial_begin(struct dial *dial, int64_t timeout_ns)
{
    const struct addrinfo numeric = {.ai_socktype = dial->type,
                                     .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct link *link = dial->link;
    dial->deadline_ns = link_now_ns() + timeout_ns;
    if (dial->lookup == NULL && getaddrinfo(dial->host, dial->port, &numeric, &dial->found) == 0) {
        dial->untried = dial->found;
        return try_addresses(dial);
    }
    dial->found = NULL;
    if (dial->lookup == NULL) {
        dial->lookup = lookup_start(dial);
        if (dial->lookup == NULL || !link_watch(link, dial->lookup->ready))
            return link_fail(link, FAULT_CONNECTION, "cannot resolve %s: no thread for it",
                             dial->host);
    }
    link->until_ns = dial->deadline_ns;
    return take_lookup(dial);
}

enum fault dial_go_on(struct dial *dial)
{
    if (dial->fd == -1)
        return take_lookup(dial);
    dial->problem = connected(dial);
    if (dial->problem == EINPROGRESS)
        return link_await(dial->link, dial->fd, POLLOUT, dial->link->until_ns);
    if (dial->problem != 0)
        drop_socket(dial);
    return try_addresses(dial);
}

/* ---- the whole ---- */

struct dial *dial_new(struct link *link, const struct device_modbus *modbus)
{
    struct dial *dial = calloc(1, sizeof *dial);
    if (dial == NULL)
        return NULL;
    dial->link = link;
    dial->fd = -1;
    dial->type = modbus->transport == DEVICE_DATAGRAM ? SOCK_DGRAM : SOCK_STREAM;
    snprintf(dial->host, sizeof dial->host, "%s", modbus->host);
    snprintf(dial->port, sizeof dial->port, "%u", (unsigned)modbus->port & UINT16_MAX);
    bool colons = strchr(dial->host, ':') != NULL;
    snprintf(dial->name, sizeof dial->name, colons ? "[%s]:%s" : "%s:%s", dial->host, dial->port);
    return dial;
}

void dial_free(struct dial *dial)
{
    if (dial == NULL)
        return;
    if (dial->lookup != NULL)
        lookup_leave(dial->lookup);
    free(dial);
}

const char *dial_name(const struct dial *dial)
{
    return dial->name;
}

int dial_fd(const struct dial *dial)
{
    return dial->fd;
}

void dial_close(struct dial *dial, bool reset)
{
    if (reset && dial->fd != -1) {
        const struct linger none = {.l_onoff = 1, .l_linger = 0};
        setsockopt(dial->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    }
    drop_addresses(dial);
    drop_socket(dial);
}
