#include "devices/simulator/server.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "devices/lines/frame.h"
#include "devices/simulator/image.h"
#include "devices/simulator/plant.h"
#include "devices/simulator/rtu.h"
#include "devices/simulator/watchdog.h"

enum { EVENTS_MAX = 64, IN_SIZE = 1024, OUT_SIZE = 2048, BACKLOG = 64 };

static const double TICK_S = 0.05;

/* Longer than any gap within a frame, USB adapters included. */
static const double SILENCE_S = 0.04;

/* Anything that epoll watches. */
struct source {
    int fd;
    void (*ready)(struct server *server, struct source *source);
};

/* A listener or a serial line, and the device of each unit id on it. */
struct port {
    struct source source;
    int16_t device[256]; /* -1 = none */
    uint16_t number;     /* TCP port, 0 = serial */
    const struct device_modbus *modbus;
    size_t n_in; /* serial */
    double heard_s;
    uint8_t in[RTU_SIZE_MAX];
};

/* A TCP connection. */
struct peer {
    struct source source;
    struct port *port;
    struct peer *next, **link;
    bool waiting; /* for room to send */
    size_t n_in, n_out;
    uint8_t in[IN_SIZE], out[OUT_SIZE];
};

struct station {
    struct image *image;
    struct port *port;
    uint64_t tick; /* of the plant, at the last refresh */
    struct watchdog watchdog;
};

struct server {
    const struct device_list *list;
    struct plant *plant;
    double speed, start_s;
    uint64_t tick;
    struct station *stations; /* by device; no image = not served */
    struct port **ports;      /* by link; NULL = nobody served there */
    struct peer *peers;
    int epoll;
    int reserve; /* given up for a moment to turn away who comes when descriptors have run out */
    char *failure;
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static bool watch(struct server *server, struct source *source)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};
    return epoll_ctl(server->epoll, EPOLL_CTL_ADD, source->fd, &event) == 0;
}

/* Brings the image of a device up to the plant's present; what has been
 * written stays. */
static void station_refresh(struct server *server, unsigned index)
{
    struct station *station = &server->stations[index];
    if (station->tick == server->tick)
        return;
    station->tick = server->tick;
    const struct device *device = &server->list->devices[index];
    for (unsigned i = 0; i < device->n_points; i++)
        if (!device->points[i].writable)
            image_put(station->image, i, plant_read(server->plant, index, i));
}

/* What all points hold now. */
static void station_read(const struct server *server, unsigned index, struct value *values)
{
    const struct device *device = &server->list->devices[index];
    for (unsigned i = 0; i < device->n_points; i++)
        values[i] = image_get(server->stations[index].image, i);
    drive_make(&device->profile->drive, device->points, values);
}

static bool is_driven(const struct device *device)
{
    return device->battery && device->profile->drive.given;
}

/* A battery that stops by itself lets go. */
static void station_watch(struct server *server, unsigned index, double now)
{
    const struct drive *drive = &server->list->devices[index].profile->drive;
    struct station *station = &server->stations[index];
    struct value values[PROFILE_POINTS_MAX];
    if (!station->image || !is_driven(&server->list->devices[index]))
        return;
    station_read(server, index, values);
    if (!watchdog_expires(&station->watchdog, values, now))
        return;
    plant_steer(server->plant, index, 0);
    for (unsigned i = 0; i < drive->release.n; i++)
        if (drive->release.writes[i].value == DRIVE_NUMBER)
            image_put(station->image, drive->release.writes[i].point,
                      drive->release.writes[i].number);
}

/* Shows the plant what stands in the writable points now. */
static void station_written(struct server *server, unsigned index)
{
    const struct device *device = &server->list->devices[index];
    struct value values[PROFILE_POINTS_MAX];
    if (is_driven(device)) {
        station_read(server, index, values);
        plant_steer(server->plant, index,
                    watchdog_written(&server->stations[index].watchdog, values, now_s()));
        return;
    }
    for (unsigned i = 0; i < device->n_points; i++) {
        if (!device->points[i].writable)
            continue;
        struct value value = image_get(server->stations[index].image, i);
        if (value.state == VALUE_READ)
            plant_write(server->plant, index, i, value.number);
    }
}

/* Answers a request PDU; 0 when no served device has this unit id. */
static size_t answer(struct server *server, const struct port *port, uint8_t unit,
                     const uint8_t *request, size_t size, uint8_t reply[LINK_PDU_MAX])
{
    if (port->device[unit] < 0)
        return 0;
    unsigned index = (unsigned)port->device[unit];
    bool written;
    station_refresh(server, index);
    size_t n = image_answer(server->stations[index].image, request, size, reply, &written);
    if (written)
        station_written(server, index);
    return n;
}

/* ---- TCP ---- */

static void peer_close(struct peer *peer)
{
    *peer->link = peer->next;
    if (peer->next)
        peer->next->link = peer->link;
    close(peer->source.fd);
    free(peer);
}

/* The request that has come first: how many bytes it is done with. 0 when there is
 * none yet. `*good`: what has come may become one. */
static size_t peer_take(const struct peer *peer, const uint8_t *bytes, size_t n,
                        struct frame *request, bool *good)
{
    size_t used;
    const char *why;
    enum device_framing framing = (enum device_framing)peer->port->modbus->framing;
    if (framing != DEVICE_RTU) { /* these end alike in both directions */
        enum frame_state state = frame_take(framing, bytes, n, &used, request, &why);
        *good = state != FRAME_BROKEN;
        return *good ? used : 0;
    }
    size_t size = rtu_request_size(bytes, n);
    *good = size <= n ? rtu_is_whole(bytes, size) : size < RTU_SIZE_MAX || n < RTU_SIZE_MIN;
    if (!*good || n < size)
        return 0;
    request->unit = bytes[0];
    request->size = size - 1 - RTU_CRC_SIZE;
    memcpy(request->pdu, bytes + 1, request->size);
    return size;
}

/* Answers every whole frame that has come, while there is room for answers.
 * False when the bytes are no Modbus. */
static bool peer_answer(struct server *server, struct peer *peer)
{
    const enum device_framing framing = (enum device_framing)peer->port->modbus->framing;
    bool good = true;
    while (peer->n_in > 0 && OUT_SIZE - peer->n_out >= FRAME_MAX) {
        struct frame request = {0}, reply;
        size_t used = peer_take(peer, peer->in, peer->n_in, &request, &good);
        if (used == 0)
            break;
        peer->n_in -= used;
        memmove(peer->in, peer->in + used, peer->n_in);
        if (request.size == 0)
            continue; /* bytes between frames */
        reply = (struct frame){.id = request.id, .unit = request.unit};
        reply.size = answer(server, peer->port, request.unit, request.pdu, request.size, reply.pdu);
        if (reply.size == 0 && framing == DEVICE_TCP)
            reply.size = image_refuse(request.pdu, FAULT_GATEWAY_TARGET, reply.pdu);
        if (reply.size > 0) /* else silence, as on a line */
            peer->n_out += frame_put(framing, &reply, peer->out + peer->n_out);
    }
    return good;
}

/* Sends what there is to send. False when the connection is lost. */
static bool peer_send(struct peer *peer)
{
    ssize_t n = send(peer->source.fd, peer->out, peer->n_out, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    peer->n_out -= (size_t)n;
    memmove(peer->out, peer->out + n, peer->n_out);
    return true;
}

/* Nothing more is read from a peer that does not take its answers. */
static bool peer_watch(struct server *server, struct peer *peer)
{
    bool waiting = peer->n_out > 0;
    if (waiting == peer->waiting)
        return true;
    peer->waiting = waiting;
    struct epoll_event event = {.events = waiting ? EPOLLOUT : EPOLLIN, .data.ptr = &peer->source};
    return epoll_ctl(server->epoll, EPOLL_CTL_MOD, peer->source.fd, &event) == 0;
}

static bool peer_receive(struct peer *peer)
{
    ssize_t n = recv(peer->source.fd, peer->in + peer->n_in, IN_SIZE - peer->n_in, 0);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    peer->n_in += (size_t)n;
    return true;
}

static void peer_ready(struct server *server, struct source *source)
{
    struct peer *peer = (struct peer *)source;
    bool good = peer->waiting ? peer_send(peer) : peer_receive(peer);
    size_t before = SIZE_MAX;
    while (good && peer->n_out == 0 && peer->n_in < before) {
        before = peer->n_in;
        bool sound = peer_answer(server, peer);
        good = (peer->n_out == 0 || peer_send(peer)) && sound;
    }
    if (!good || !peer_watch(server, peer))
        peer_close(peer);
}

static void listener_ready(struct server *server, struct source *source)
{
    int fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
        close(server->reserve);
        fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            close(fd);
        server->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
        return;
    }
    if (fd < 0)
        return;
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    peer->source = (struct source){fd, peer_ready};
    peer->port = (struct port *)source;
    peer->next = server->peers;
    peer->link = &server->peers;
    if (peer->next)
        peer->next->link = &peer->next;
    server->peers = peer;
    if (!watch(server, &peer->source))
        peer_close(peer);
}

static int listen_at(const struct addrinfo *address)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(fd, address->ai_addr, address->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static bool port_listen(struct port *port, char error[SERVER_ERROR_MAX])
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *address;
    char service[8];
    const char *host = port->modbus->host;
    unsigned number = (unsigned)port->modbus->port;
    snprintf(service, sizeof service, "%u", number & UINT16_MAX);
    int wrong = getaddrinfo(host, service, &hints, &address);
    if (wrong) {
        snprintf(error, SERVER_ERROR_MAX, "%s:%u: %s", host, number, gai_strerror(wrong));
        return false;
    }
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof bound;
    port->source = (struct source){listen_at(address), listener_ready};
    freeaddrinfo(address);
    if (port->source.fd < 0 || getsockname(port->source.fd, (struct sockaddr *)&bound, &size) < 0) {
        snprintf(error, SERVER_ERROR_MAX, "%s:%u: %s", host, number,
                 errno == EADDRNOTAVAIL ? "not an address of this machine: see --listen"
                                        : strerror(errno));
        return false;
    }
    /* The port number stands at the same place in both families. */
    struct sockaddr_in either;
    memcpy(&either, &bound, sizeof either);
    port->number = ntohs(either.sin_port);
    return true;
}

/* ---- Serial ---- */

/* What came from the line is a frame, or noise. */
static void serial_frame(struct server *server, struct port *port)
{
    size_t n = port->n_in;
    uint8_t out[RTU_SIZE_MAX];
    port->n_in = 0;
    if (!rtu_is_whole(port->in, n))
        return;
    out[0] = port->in[0];
    size_t size = answer(server, port, out[0], port->in + 1, n - 1 - RTU_CRC_SIZE, out + 1);
    if (size == 0)
        return;
    size = rtu_seal(out, 1 + size);
    /* A line that takes nothing loses the answer, as lines do. */
    if (write(port->source.fd, out, size) < 0)
        return;
}

static void serial_ready(struct server *server, struct source *source)
{
    struct port *port = (struct port *)source;
    port->heard_s = now_s();
    ssize_t n = read(source->fd, port->in + port->n_in, sizeof port->in - port->n_in);
    if (n <= 0) {
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        snprintf(server->failure, SERVER_ERROR_MAX, "%s: lost: %s", port->modbus->serial,
                 n < 0 ? strerror(errno) : "end of file");
        return;
    }
    port->n_in += (size_t)n;
    if (port->n_in >= rtu_request_size(port->in, port->n_in))
        serial_frame(server, port);
}

static bool port_open_line(struct port *port, char error[SERVER_ERROR_MAX])
{
    port->source = (struct source){rtu_open(port->modbus), serial_ready};
    if (port->source.fd >= 0)
        return true;
    if (errno == EINVAL)
        snprintf(error, SERVER_ERROR_MAX, "%s: baud %lld cannot be had", port->modbus->serial,
                 (long long)port->modbus->baud);
    else
        snprintf(error, SERVER_ERROR_MAX, "%s: %s", port->modbus->serial, strerror(errno));
    return false;
}

/* ---- All together ---- */

/* The listener or line of a link, made when its first device asks. */
static struct port *port_start(struct server *server, const struct device *device,
                               char error[SERVER_ERROR_MAX])
{
    struct port *port = server->ports[device->link];
    const struct device_modbus *modbus = &device->modbus;
    if (port)
        return port;
    if (modbus->tls || modbus->transport == DEVICE_DATAGRAM ||
        (*modbus->serial && modbus->framing == DEVICE_ASCII)) {
        snprintf(error, SERVER_ERROR_MAX, "%s: no simulation of %s", device->name,
                 modbus->tls                            ? "TLS"
                 : modbus->transport == DEVICE_DATAGRAM ? "UDP"
                                                        : "ASCII on a serial line");
        return NULL;
    }
    port = calloc(1, sizeof *port);
    if (!port)
        return NULL;
    server->ports[device->link] = port;
    memset(port->device, -1, sizeof port->device);
    port->modbus = modbus;
    if (!(*modbus->serial ? port_open_line : port_listen)(port, error))
        return NULL;
    if (!watch(server, &port->source)) {
        snprintf(error, SERVER_ERROR_MAX, "epoll: %s", strerror(errno));
        return NULL;
    }
    return port;
}

static bool station_start(struct server *server, unsigned index, char error[SERVER_ERROR_MAX])
{
    const struct device *device = &server->list->devices[index];
    struct station *station = &server->stations[index];
    station->image = image_new(device);
    if (!station->image)
        return false;
    watchdog_init(&station->watchdog, device);
    for (unsigned i = 0; i < device->n_points; i++)
        image_put(station->image, i, plant_read(server->plant, index, i));
    station->port = port_start(server, device, error);
    if (!station->port)
        return false;
    station->port->device[device->modbus.address & UINT8_MAX] = (int16_t)index;
    return true;
}

struct server *server_new(const struct device_list *list, const struct server_options *options,
                          char error[SERVER_ERROR_MAX])
{
    struct server *server = calloc(1, sizeof *server);
    snprintf(error, SERVER_ERROR_MAX, "out of memory");
    if (!server)
        return NULL;
    server->list = list;
    server->speed = options->speed;
    server->start_s = now_s();
    server->plant = plant_new(list, options->seed);
    server->stations = calloc(list->n_devices + 1u, sizeof *server->stations);
    server->ports = calloc(list->n_links + 1u, sizeof(struct port *));
    server->epoll = epoll_create1(EPOLL_CLOEXEC);
    server->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
    bool good = server->plant && server->stations && server->ports;
    if (good && server->epoll < 0) {
        snprintf(error, SERVER_ERROR_MAX, "epoll: %s", strerror(errno));
        good = false;
    }
    for (unsigned i = 0; good && i < list->n_devices; i++)
        if (!options->served || options->served[i])
            good = station_start(server, i, error);
    if (good)
        return server;
    server_free(server);
    return NULL;
}

void server_free(struct server *server)
{
    if (!server)
        return;
    while (server->peers)
        peer_close(server->peers);
    for (unsigned i = 0; server->ports && i < server->list->n_links; i++) {
        if (server->ports[i] && server->ports[i]->source.fd >= 0)
            close(server->ports[i]->source.fd);
        free(server->ports[i]);
    }
    for (unsigned i = 0; server->stations && i < server->list->n_devices; i++)
        image_free(server->stations[i].image);
    if (server->epoll >= 0)
        close(server->epoll);
    if (server->reserve >= 0)
        close(server->reserve);
    plant_free(server->plant);
    free(server->stations);
    free(server->ports);
    free(server);
}

uint16_t server_port(const struct server *server, unsigned device)
{
    return server->stations[device].port->number;
}

/* Time goes on for the plant, and for lines on which silence ends a frame. */
static void tick(struct server *server, double now)
{
    plant_step(server->plant, (now - server->start_s) * server->speed);
    server->tick++;
    for (unsigned i = 0; i < server->list->n_devices; i++)
        station_watch(server, i, now);
    for (unsigned i = 0; i < server->list->n_links; i++) {
        struct port *port = server->ports[i];
        if (port && port->n_in > 0 && now - port->heard_s > SILENCE_S)
            serial_frame(server, port);
    }
}

bool server_run(struct server *server, int stop_fd, char error[SERVER_ERROR_MAX])
{
    struct source stop = {.fd = stop_fd};
    struct epoll_event events[EVENTS_MAX];
    bool stopped = false;
    double next_s = 0;
    *error = '\0';
    server->failure = error;
    if (!watch(server, &stop))
        snprintf(error, SERVER_ERROR_MAX, "epoll: %s", strerror(errno));
    while (!*error && !stopped) {
        double now = now_s();
        if (now >= next_s) {
            tick(server, now);
            next_s = now + TICK_S;
        }
        int n = epoll_wait(server->epoll, events, EVENTS_MAX, (int)ceil((next_s - now) * 1e3));
        if (n < 0 && errno != EINTR)
            snprintf(error, SERVER_ERROR_MAX, "epoll: %s", strerror(errno));
        for (int i = 0; i < n; i++) {
            struct source *source = events[i].data.ptr;
            if (source == &stop)
                stopped = true;
            else
                source->ready(server, source);
        }
    }
    epoll_ctl(server->epoll, EPOLL_CTL_DEL, stop_fd, NULL);
    return stopped;
}
