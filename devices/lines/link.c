#include "devices/lines/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

/* Function codes that write; those that read are enum point_table. */
enum { WRITE_COIL = 5, WRITE_REGISTER = 6, WRITE_COILS = 15, WRITE_REGISTERS = 16 };

enum {
    EXCEPTION = 0x80, /* added to the function code of a refusal */
    COIL_ON = 0xff00,
    ADDRESSES = 0x10000,
};

static const int64_t NS_PER_S = 1000000000;

void link_free(struct link *link)
{
    if (link == NULL)
        return;
    link_close(link);
    link->ops->free(link);
}

/* Notes how opening has ended, if it has. */
static enum fault opened(struct link *link, enum fault fault)
{
    link->is_open = !link->is_busy && fault == FAULT_NONE;
    return fault;
}

bool link_is_sound(struct link *link)
{
    return link->is_open && (link->ops->is_stale == NULL || !link->ops->is_stale(link));
}

enum fault link_begin_open(struct link *link, int64_t timeout_ns)
{
    if (link_is_sound(link))
        return FAULT_NONE;
    link_close(link);
    return opened(link, link->ops->open(link, timeout_ns));
}

enum fault link_open(struct link *link, int64_t timeout_ns)
{
    enum fault fault = link_begin_open(link, timeout_ns);
    while (link->is_busy) {
        link_sleep(link);
        fault = link_go_on(link, NULL);
    }
    return fault;
}

void link_close(struct link *link)
{
    if (link->is_open || link->is_busy)
        link->ops->close(link);
    link->is_open = link->is_busy = false;
}

static enum fault send_request(struct link *link, uint8_t unit, const uint8_t *request,
                               size_t request_size, uint8_t *reply, size_t *reply_size,
                               int64_t timeout_ns)
{
    if (!link->is_open)
        return link_fail(link, FAULT_CONNECTION, "unit %u: the link is not open", unit);
    link->stays_open = false;
    return link->ops->exchange(link, unit, request, request_size, reply, reply_size, timeout_ns);
}

static enum fault receive_on(struct link *link, uint8_t *reply, size_t *reply_size)
{
    link->is_busy = false; /* unless it awaits more */
    return link->ops->go_on(link, reply, reply_size);
}

/* Looks into what came, or did not come, for a request. */
static enum fault check_answer(struct link *link, enum fault fault, uint8_t unit, uint8_t function,
                               uint16_t address, const uint8_t *reply, size_t size)
{
    if (fault != FAULT_NONE) {
        if (!link->stays_open)
            link_close(link);
        return fault;
    }
    if (size == 2 && reply[0] == (function | EXCEPTION)) {
        fault = fault_from_exception(reply[1]);
        return link_fail(link, fault, "unit %u refused function %u at %u: exception %u, %s", unit,
                         function, address, reply[1], fault_word(fault));
    }
    return FAULT_NONE;
}

/* Gives the words of an answer to the read under way. */
static enum fault take_words(struct link *link, enum fault fault, const uint8_t *reply, size_t size,
                             uint16_t *words)
{
    const struct link_question *asked = &link->question;
    fault =
        check_answer(link, fault, asked->unit, (uint8_t)asked->table, asked->address, reply, size);
    if (fault != FAULT_NONE)
        return fault;

    bool bits = asked->table == POINT_COIL || asked->table == POINT_DISCRETE;
    size_t bytes = bits ? (asked->count + 7U) / 8 : 2U * asked->count;
    if (size != 2 + bytes || reply[0] != asked->table || reply[1] != bytes) {
        link_close(link);
        return link_fail(
            link, FAULT_BAD_REPLY,
            "unit %u: asked function %d for %zu bytes at %u, answered function %u with "
            "%u bytes in a frame of %zu",
            asked->unit, (int)asked->table, bytes, asked->address, reply[0], reply[1], size);
    }
    for (unsigned i = 0; i < asked->count; i++)
        words[i] = bits ? (uint16_t)(reply[2 + i / 8] >> i % 8 & 1)
                        : link_get16(reply + 2 + 2 * (size_t)i);
    return FAULT_NONE;
}

enum fault link_begin_read(struct link *link, uint8_t unit, enum point_table table,
                           uint16_t address, uint16_t count, uint16_t *words, int64_t timeout_ns)
{
    bool bits = table == POINT_COIL || table == POINT_DISCRETE;
    if (count == 0 || count > (bits ? LINK_READ_BITS_MAX : LINK_READ_MAX) ||
        address + count > ADDRESSES)
        return link_fail(link, FAULT_BAD_REPLY, "unit %u: not asked: read of %u at %u", unit, count,
                         address);

    uint8_t request[5] = {(uint8_t)table};
    link_put16(request + 1, address);
    link_put16(request + 3, count);
    link->question = (struct link_question){table, unit, address, count};
    uint8_t reply[LINK_PDU_MAX] = {0};
    size_t size = 0;
    enum fault fault = send_request(link, unit, request, sizeof request, reply, &size, timeout_ns);
    return link->is_busy ? FAULT_NONE : take_words(link, fault, reply, size, words);
}

enum fault link_go_on(struct link *link, uint16_t *words)
{
    uint8_t reply[LINK_PDU_MAX] = {0};
    size_t size = 0;
    enum fault fault = receive_on(link, reply, &size);
    if (!link->is_open)
        return opened(link, fault);
    return link->is_busy ? FAULT_NONE : take_words(link, fault, reply, size, words);
}

enum fault link_read(struct link *link, uint8_t unit, enum point_table table, uint16_t address,
                     uint16_t count, uint16_t *words, int64_t timeout_ns)
{
    enum fault fault = link_begin_read(link, unit, table, address, count, words, timeout_ns);
    while (link->is_busy) {
        link_sleep(link);
        fault = link_go_on(link, words);
    }
    return fault;
}

/* The request of a write. Returns its size. */
static size_t put_write(uint8_t *request, enum point_table table, uint16_t address, uint16_t count,
                        const uint16_t *words, bool many)
{
    bool coil = table == POINT_COIL;
    size_t size = 5;
    link_put16(request + 1, address);
    if (!many) {
        request[0] = coil ? WRITE_COIL : WRITE_REGISTER;
        link_put16(request + 3, coil ? (words[0] != 0 ? COIL_ON : 0) : words[0]);
        return size;
    }
    request[0] = coil ? WRITE_COILS : WRITE_REGISTERS;
    link_put16(request + 3, count);
    request[size++] = (uint8_t)(coil ? 1 : 2 * count);
    if (coil)
        request[size++] = words[0] != 0;
    for (unsigned i = 0; !coil && i < count; i++, size += 2)
        link_put16(request + size, words[i]);
    return size;
}

static enum fault write_once(struct link *link, uint8_t unit, enum point_table table,
                             uint16_t address, uint16_t count, const uint16_t *words, bool many,
                             int64_t timeout_ns)
{
    bool fits = table == POINT_HOLDING ? count >= 1 && count <= LINK_WRITE_MAX
                                       : table == POINT_COIL && count == 1;
    if (unit == 0 || !fits || address + count > ADDRESSES)
        return link_fail(link, FAULT_BAD_REPLY, "unit %u: not sent: write of %u at %u", unit, count,
                         address);

    uint8_t request[6 + 2 * LINK_WRITE_MAX];
    size_t size = put_write(request, table, address, count, words, many);
    uint8_t reply[LINK_PDU_MAX] = {0};
    size_t reply_size = 0;
    enum fault fault = send_request(link, unit, request, size, reply, &reply_size, timeout_ns);
    while (link->is_busy) {
        link_sleep(link);
        fault = receive_on(link, reply, &reply_size);
    }
    fault = check_answer(link, fault, unit, request[0], address, reply, reply_size);
    if (fault != FAULT_NONE)
        return fault;
    /* The answer to all four is the first five bytes of the request. */
    if (reply_size != 5 || memcmp(reply, request, 5) != 0) {
        link_close(link);
        return link_fail(link, FAULT_BAD_REPLY,
                         "unit %u: function %u wrote %u at %u, answered function %u, %u at %u in a "
                         "frame of %zu",
                         unit, request[0], link_get16(request + 3), address, reply[0],
                         link_get16(reply + 3), link_get16(reply + 1), reply_size);
    }
    return FAULT_NONE;
}

enum fault link_write(struct link *link, uint8_t unit, enum point_table table, uint16_t address,
                      uint16_t count, const uint16_t *words, int64_t timeout_ns)
{
    return write_once(link, unit, table, address, count, words, count > 1, timeout_ns);
}

enum fault link_write_many(struct link *link, uint8_t unit, enum point_table table,
                           uint16_t address, uint16_t count, const uint16_t *words,
                           int64_t timeout_ns)
{
    return write_once(link, unit, table, address, count, words, true, timeout_ns);
}

void link_init(struct link *link, const struct link_ops *ops)
{
    *link = (struct link){.ops = ops, .fd = -1, .epoll_fd = -1};
}

enum fault link_await(struct link *link, int fd, short events, int64_t until_ns)
{
    link->is_busy = true;
    link->is_waiting = false;
    link->fd = fd;
    link->events = events;
    link->until_ns = until_ns;
    /* What goes on all the same, such as the pause after connecting, does not spin. */
    if (link->no_later_ns > link_now_ns() && link->no_later_ns < until_ns)
        link->until_ns = link->no_later_ns;
    return FAULT_NONE;
}

bool link_watch(const struct link *link, int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = link->tag};
    return link->epoll_fd == -1 || epoll_ctl(link->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

bool link_withdraw(struct link *link)
{
    if (!link->is_open || !link->is_busy || !link->is_waiting)
        return false;
    link->is_busy = link->is_waiting = false;
    return true;
}

void link_sleep(struct link *link)
{
    if (!link_wait(link, link->fd, link->events, link->until_ns))
        link->until_ns = 0; /* over, and be it that the owner is told to stop */
}

/* IPv4 in IPv6 is the same device as plain IPv4. */
static void note_ipv6(struct link *link, const struct sockaddr_in6 *address)
{
    const struct in6_addr *ip = &address->sin6_addr;
    const unsigned port = ntohs(address->sin6_port);
    char text[INET6_ADDRSTRLEN] = "127.0.0.1";
    if (IN6_IS_ADDR_V4MAPPED(ip))
        (void)inet_ntop(AF_INET, &ip->s6_addr[12], text, sizeof text);
    else if (!IN6_IS_ADDR_LOOPBACK(ip))
        (void)inet_ntop(AF_INET6, ip, text, sizeof text);
    bool plain = strchr(text, ':') == NULL;
    snprintf(link->peer, sizeof link->peer, "%s%s%s:%u", plain ? "" : "[", text, plain ? "" : "]",
             port);
}

void link_note_peer(struct link *link, int fd)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof address;
    struct stat status;
    char text[INET_ADDRSTRLEN];
    if (getpeername(fd, (struct sockaddr *)&address, &size) == 0 && address.ss_family == AF_INET) {
        const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)&address;
        (void)inet_ntop(AF_INET, &ipv4->sin_addr, text, sizeof text);
        snprintf(link->peer, sizeof link->peer, "%s:%u", text, ntohs(ipv4->sin_port));
    } else if (address.ss_family == AF_INET6) {
        note_ipv6(link, (const struct sockaddr_in6 *)&address);
    } else if (fstat(fd, &status) == 0 && S_ISCHR(status.st_mode)) {
        snprintf(link->peer, sizeof link->peer, "tty-%u-%u", major(status.st_rdev),
                 minor(status.st_rdev));
    }
}

enum fault link_fail(struct link *link, enum fault fault, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(link->error, sizeof link->error, format, arguments);
    va_end(arguments);
    return fault;
}

int64_t link_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void stop_waiting(int signal_number)
{
    (void)signal_number;
}

void link_init_stop(void)
{
    const struct sigaction action = {.sa_handler = stop_waiting};
    sigaction(LINK_STOP_SIGNAL, &action, NULL);
}

bool link_wait(const struct link *link, int fd, short events, int64_t deadline_ns)
{
    struct pollfd wanted = {.fd = fd, .events = events};
    sigset_t mask;
    int ready;

    const bool stoppable = link != NULL && link->stop != NULL;

    /* The signal can come in only while ppoll() waits: none is missed. */
    sigfillset(&mask);
    sigdelset(&mask, LINK_STOP_SIGNAL);
    do {
        if (stoppable && atomic_load(link->stop))
            return false;
        int64_t left_ns = deadline_ns - link_now_ns();
        if (left_ns < 0)
            left_ns = 0;
        struct timespec left = {.tv_sec = left_ns / NS_PER_S, .tv_nsec = left_ns % NS_PER_S};
        ready = ppoll(&wanted, 1, &left, stoppable ? &mask : NULL);
    } while (ready == -1 && errno == EINTR);
    return ready > 0;
}
