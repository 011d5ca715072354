#include "devices/lines/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/lines/dial.h"
#include "devices/lines/serial.h"
#include "devices/lines/tls.h"

struct channel {
    const char *name;
    struct serial *serial; /* or else */
    struct dial *dial;
    struct tls *tls; /* NULL = in the clear */
    bool in_handshake;
    int64_t deadline_ns;
};

struct channel *channel_new(struct link *link, const struct device_modbus *modbus)
{
    struct channel *channel = calloc(1, sizeof *channel);
    if (channel == NULL)
        return NULL;
    if (modbus->serial[0] != '\0') {
        channel->serial = serial_new(link, modbus);
        channel->name = modbus->serial;
    } else {
        channel->dial = dial_new(link, modbus);
        channel->name = channel->dial != NULL ? dial_name(channel->dial) : "";
    }
    if (modbus->tls && channel->dial != NULL)
        channel->tls = tls_new(link, modbus, channel->name);
    if ((channel->serial == NULL && channel->dial == NULL) ||
        (modbus->tls && channel->tls == NULL)) {
        channel_free(channel);
        return NULL;
    }
    return channel;
}

void channel_free(struct channel *channel)
{
    if (channel == NULL)
        return;
    tls_free(channel->tls);
    dial_free(channel->dial);
    serial_free(channel->serial);
    free(channel);
}

const char *channel_name(const struct channel *channel)
{
    return channel->name;
}

/* ---- opening ---- */

/* A part of opening has ended, or is under way. */
static enum fault go_on_from(struct channel *channel, struct link *link, enum fault fault)
{
    if (fault == FAULT_NONE && !link->is_busy && channel->tls != NULL && !channel->in_handshake) {
        channel->in_handshake = true;
        fault = tls_begin(channel->tls, dial_fd(channel->dial), channel->deadline_ns);
    }
    if (fault != FAULT_NONE)
        channel_close(channel, false);
    return fault;
}

enum fault channel_begin(struct channel *channel, struct link *link, int64_t timeout_ns)
{
    channel->in_handshake = false;
    channel->deadline_ns = link_now_ns() + timeout_ns;
    if (channel->serial != NULL)
        return serial_open(channel->serial);
    return go_on_from(channel, link, dial_begin(channel->dial, timeout_ns));
}

enum fault channel_go_on(struct channel *channel, struct link *link)
{
    return go_on_from(channel, link,
                      channel->in_handshake ? tls_go_on(channel->tls) : dial_go_on(channel->dial));
}

void channel_close(struct channel *channel, bool reset)
{
    if (channel->tls != NULL)
        tls_close(channel->tls, reset);
    if (channel->dial != NULL)
        dial_close(channel->dial, reset);
    if (channel->serial != NULL)
        serial_close(channel->serial);
}

/* ---- open ---- */

int channel_fd(const struct channel *channel)
{
    return channel->serial != NULL ? serial_fd(channel->serial) : dial_fd(channel->dial);
}

bool channel_send(struct channel *channel, const uint8_t *bytes, size_t n)
{
    ssize_t sent;
    if (channel->tls != NULL)
        sent = tls_send(channel->tls, bytes, n);
    else if (channel->dial != NULL)
        sent = send(dial_fd(channel->dial), bytes, n, MSG_NOSIGNAL);
    else
        sent = write(serial_fd(channel->serial), bytes, n);
    if (sent >= 0 && (size_t)sent != n)
        errno = ENOBUFS; /* a line that takes no more */
    return sent == (ssize_t)n;
}

ssize_t channel_receive(struct channel *channel, uint8_t *bytes, size_t n)
{
    ssize_t got;
    do {
        if (channel->tls != NULL)
            got = tls_receive(channel->tls, bytes, n);
        else if (channel->dial != NULL)
            got = recv(dial_fd(channel->dial), bytes, n, 0);
        else
            got = read(serial_fd(channel->serial), bytes, n);
    } while (got == -1 && errno == EINTR);
    return got;
}

bool channel_is_sent(const struct channel *channel)
{
    int left = 0; /* SIOCOUTQ of sockets is the same number */
    return ioctl(channel_fd(channel), TIOCOUTQ, &left) == 0 && left == 0;
}
