/* The server over real sockets and a pseudo terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "devices/lines/link_new.h"
#include "devices/simulator/rtu.h"
#include "devices/simulator/server.h"

enum { DEADLINE_MS = 10000 };
enum { PACK, NEIGHBOUR, ALONE, N_DEVICES };

static const struct point map[] = {
    {.name = "status", .table = POINT_HOLDING, .address = 2000, .type = POINT_UINT16, .scale = 1},
    {.name = "target_power",
     .unit = "kW",
     .table = POINT_HOLDING,
     .address = 2008,
     .type = POINT_INT16,
     .scale = 1,
     .writable = true},
    {.name = "soe",
     .unit = "%",
     .table = POINT_HOLDING,
     .address = 2026,
     .type = POINT_UINT16,
     .scale = 0.1},
    {.name = "mode",
     .table = POINT_HOLDING,
     .address = 2030,
     .type = POINT_UINT16,
     .scale = 1,
     .writable = true},
};
enum { N_POINTS = sizeof map / sizeof *map };

struct fixture {
    struct point points[N_POINTS];
    struct profile profile;
    struct device devices[N_DEVICES];
    struct device_list list;
    struct server_options options;
    struct server *server;
    pthread_t thread;
    int stop_fd;
    bool good;
    char error[SERVER_ERROR_MAX];
};

static void *run(void *context)
{
    struct fixture *f = context;
    f->good = server_run(f->server, f->stop_fd, f->error);
    return NULL;
}

/* PACK and NEIGHBOUR share a port as units 1 and 2; ALONE has its own. */
static int setup(void **state)
{
    static struct fixture fixture;
    struct fixture *f = *state = &fixture;
    memset(f, 0, sizeof *f);
    memcpy(f->points, map, sizeof map);
    for (unsigned i = 0; i < N_DEVICES; i++) {
        struct device *device = &f->devices[i];
        snprintf(device->name, sizeof device->name, "pack-%u", i);
        strcpy(device->modbus.host, "127.0.0.1");
        device->modbus.address = i == NEIGHBOUR ? 2 : 1;
        device->link = i == ALONE;
        device->profile = &f->profile;
        device->points = f->points;
        device->n_points = N_POINTS;
        device->battery = true;
    }
    f->list = (struct device_list){.n_devices = N_DEVICES, .devices = f->devices, .n_links = 2};
    f->options = (struct server_options){.seed = 1, .speed = 1};
    return 0;
}

static void start(struct fixture *f)
{
    f->server = server_new(&f->list, &f->options, f->error);
    if (!f->server)
        fail_msg("%s", f->error);
    f->stop_fd = eventfd(0, 0);
    assert_int_equal(pthread_create(&f->thread, NULL, run, f), 0);
}

/* Waits for the end, which has been asked for or will come by itself. */
static void join(struct fixture *f)
{
    pthread_join(f->thread, NULL);
    server_free(f->server);
    close(f->stop_fd);
}

static void stop(struct fixture *f)
{
    eventfd_write(f->stop_fd, 1);
    join(f);
    assert_true(f->good);
}

static int dial(const struct fixture *f, unsigned device)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(server_port(f->server, device)),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    struct timeval deadline = {.tv_sec = DEADLINE_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static void give(int fd, const uint8_t *bytes, size_t n)
{
    assert_int_equal(write(fd, bytes, n), n);
}

/* What comes next is exactly this. */
static void expect(int fd, const uint8_t *bytes, size_t n)
{
    uint8_t got[512];
    for (size_t have = 0; have < n;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&ready, 1, DEADLINE_MS), 1);
        ssize_t more = read(fd, got + have, n - have);
        assert_true(more > 0);
        have += (size_t)more;
    }
    assert_true(memcmp(got, bytes, n) == 0);
}

static void expect_closed(int fd)
{
    uint8_t byte;
    ssize_t n = recv(fd, &byte, 1, 0);
    assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
    close(fd);
}

static unsigned read_register(int fd, uint8_t unit, unsigned address)
{
    uint8_t reply[11];
    give(fd, BYTES(0, 9, 0, 0, 0, 6, unit, 3, (uint8_t)(address >> 8), (uint8_t)address, 0, 1));
    assert_int_equal(recv(fd, reply, sizeof reply, MSG_WAITALL), sizeof reply);
    return (unsigned)reply[9] << 8 | reply[10];
}

static void write_register(int fd, uint8_t unit, unsigned address, uint8_t word)
{
    const uint8_t frame[] = {
        0x12, 0x34, 0, 0, 0, 6, unit, 6, (uint8_t)(address >> 8), (uint8_t)address, 0, word};
    give(fd, frame, sizeof frame);
    expect(fd, frame, sizeof frame);
}

static void units_and_ports_are_told_apart(void **state)
{
    struct fixture *f = *state;
    start(f);
    assert_int_equal(server_port(f->server, PACK), server_port(f->server, NEIGHBOUR));
    assert_int_not_equal(server_port(f->server, PACK), server_port(f->server, ALONE));
    int shared = dial(f, PACK), alone = dial(f, ALONE);
    write_register(shared, 1, 2008, 11);
    write_register(shared, 2, 2008, 22);
    assert_int_equal(read_register(shared, 1, 2008), 11);
    assert_int_equal(read_register(shared, 2, 2008), 22);
    assert_int_equal(read_register(alone, 1, 2008), 0);
    assert_int_equal(read_register(alone, 1, 2000), 1);
    close(shared);
    close(alone);
    stop(f);
}

static void an_unknown_unit_is_behind_the_gateway(void **state)
{
    struct fixture *f = *state;
    f->options.served = (const bool[N_DEVICES]){[PACK] = true};
    start(f);
    int fd = dial(f, PACK);
    give(fd, BYTES(0x00, 0x07, 0, 0, 0, 6, 2, 3, 0x07, 0xd0, 0, 1)); /* not served */
    expect(fd, BYTES(0x00, 0x07, 0, 0, 0, 3, 2, 0x83, 0x0b));
    give(fd, BYTES(0x00, 0x08, 0, 0, 0, 6, 0, 6, 0x07, 0xd8, 0, 1)); /* broadcast */
    expect(fd, BYTES(0x00, 0x08, 0, 0, 0, 3, 0, 0x86, 0x0b));
    assert_int_equal(read_register(fd, 1, 2008), 0);
    close(fd);
    stop(f);
}

static void the_plant_answers_a_setpoint(void **state)
{
    struct fixture *f = *state;
    f->options.speed = 1000;
    start(f);
    int fd = dial(f, PACK);
    unsigned before = read_register(fd, 1, 2026);
    assert_int_equal(read_register(fd, 1, 2026), before); /* it rests */
    write_register(fd, 1, 2030, 7);
    write_register(fd, 1, 2008, 100);
    time_t deadline = time(NULL) + DEADLINE_MS / 1000;
    while (read_register(fd, 1, 2026) >= before - 100) /* 10 %, 12 minutes */
        assert_true(time(NULL) < deadline);
    assert_int_equal(read_register(fd, 1, 2008), 100); /* what is written stays */
    assert_int_equal(read_register(fd, 1, 2030), 7);
    close(fd);
    stop(f);
}

static void frames_come_in_pieces_and_in_heaps(void **state)
{
    struct fixture *f = *state;
    start(f);
    int fd = dial(f, PACK);
    const uint8_t request[] = {0, 5, 0, 0, 0, 6, 1, 3, 0x07, 0xd0, 0, 1};
    for (size_t i = 0; i < sizeof request; i++)
        give(fd, request + i, 1);
    expect(fd, BYTES(0, 5, 0, 0, 0, 5, 1, 3, 2, 0, 1));
    give(fd, BYTES(0, 1, 0, 0, 0, 6, 1, 3, 0x07, 0xd0, 0, 1, /**/ 0, 2, 0, 0, 0, 6, 1, 0x2b, 0, 0,
                   0, 0, /**/ 0, 3, 0, 0, 0, 6, 1, 3));
    expect(fd, BYTES(0, 1, 0, 0, 0, 5, 1, 3, 2, 0, 1, /**/ 0, 2, 0, 0, 0, 3, 1, 0xab, 1));
    give(fd, BYTES(0x07, 0xd1, 0, 1));
    expect(fd, BYTES(0, 3, 0, 0, 0, 5, 1, 3, 2, 0, 0));
    close(fd);
    stop(f);
}

/* A client that only asks is made to wait, and then gets every answer, in
 * order. The server is known to wait when it takes nothing from this client
 * while it answers another one often enough to have emptied any buffer. */
static void no_answer_is_lost_when_the_client_is_slow(void **state)
{
    enum { ROUND = 65536, REQUEST = 12, REPLY = 9 + 2 * 27, ENOUGH = 10000 };
    static uint8_t requests[ROUND][REQUEST];
    struct fixture *f = *state;
    start(f);
    int fd = dial(f, PACK), other = dial(f, PACK);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){1 << 16}, sizeof(int));
    for (unsigned i = 0; i < ROUND; i++)
        memcpy(requests[i],
               ((uint8_t[]){(uint8_t)(i >> 8), (uint8_t)i, 0, 0, 0, 6, 1, 3, 0x07, 0xd0, 0, 27}),
               REQUEST);
    size_t sent = 0;
    for (unsigned in_vain = 0; in_vain < ENOUGH; in_vain++) {
        size_t at = sent % sizeof requests;
        ssize_t n = send(fd, (uint8_t *)requests + at, sizeof requests - at, MSG_DONTWAIT);
        if (n > 0) {
            sent += (size_t)n;
            in_vain = 0;
        }
        read_register(other, 1, 2000);
    }
    for (size_t got = 0, to_get = sent / REQUEST * REPLY; got < to_get;) {
        uint8_t in[1 << 16];
        ssize_t n = recv(fd, in, sizeof in, 0);
        assert_true(n > 0);
        for (ssize_t i = 0; i < n; i++, got++)
            if (got % REPLY < 2 && in[i] != (uint8_t)(got / REPLY >> (got % REPLY ? 0 : 8)))
                fail_msg("answer %zu is another one's", got / REPLY);
    }
    close(fd);
    close(other);
    stop(f);
}

static void a_broken_header_ends_the_connection(void **state)
{
    struct fixture *f = *state;
    static const uint8_t headers[][7] = {
        {0, 1, 0, 1, 0, 6, 1}, {0, 1, 1, 0, 0, 6, 1},    {0, 1, 0, 0, 0, 0, 1},
        {0, 1, 0, 0, 0, 1, 1}, {0, 1, 0, 0, 0, 0xff, 1}, {0, 1, 0, 0, 1, 0, 1},
    };
    start(f);
    int witness = dial(f, PACK);
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        int fd = dial(f, PACK);
        give(fd, headers[i], sizeof headers[i]);
        expect_closed(fd);
        assert_int_equal(read_register(witness, 1, 2000), 1);
    }
    uint8_t longest[260] = {0, 1, 0, 0, 0, 254, 1, 3};
    give(witness, longest, sizeof longest);
    expect(witness, BYTES(0, 1, 0, 0, 0, 3, 1, 0x83, 3));
    int fd = dial(f, PACK); /* what came before it is answered */
    give(fd, BYTES(0, 1, 0, 0, 0, 6, 1, 3, 0x07, 0xd0, 0, 1, /**/ 0, 2, 0, 9, 0, 6, 1));
    expect(fd, BYTES(0, 1, 0, 0, 0, 5, 1, 3, 2, 0, 1));
    expect_closed(fd);
    close(witness);
    stop(f);
}

static void many_connections_at_once(void **state)
{
    enum { N = 150 };
    struct fixture *f = *state;
    int fds[N];
    start(f);
    for (unsigned i = 0; i < N; i++)
        fds[i] = dial(f, i % N_DEVICES);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(read_register(fds[i], i % N_DEVICES == NEIGHBOUR ? 2 : 1, 2000), 1);
    for (unsigned i = 0; i < N; i += 2)
        close(fds[i]);
    for (unsigned i = 1; i < N; i += 2) {
        assert_int_equal(read_register(fds[i], i % N_DEVICES == NEIGHBOUR ? 2 : 1, 2000), 1);
        close(fds[i]);
    }
    stop(f);
}

static void without_descriptors_who_comes_is_turned_away(void **state)
{
    enum { LIMIT = 64 };
    struct fixture *f = *state;
    struct rlimit before, low;
    start(f);
    int witness = dial(f, PACK);
    assert_int_equal(read_register(witness, 1, 2000), 1);
    getrlimit(RLIMIT_NOFILE, &before);
    low = before;
    low.rlim_cur = LIMIT;
    setrlimit(RLIMIT_NOFILE, &low);
    int taken[LIMIT], n = 0;
    while ((taken[n] = dup(f->stop_fd)) >= 0)
        n++;
    for (unsigned i = 0; i < 3; i++) { /* again and again */
        close(taken[--n]);
        expect_closed(dial(f, PACK));
        taken[n++] = dup(f->stop_fd);
    }
    assert_int_equal(read_register(witness, 1, 2000), 1);
    while (n > 0)
        close(taken[--n]);
    int fd = dial(f, PACK);
    assert_int_equal(read_register(fd, 1, 2000), 1);
    setrlimit(RLIMIT_NOFILE, &before);
    close(fd);
    close(witness);
    stop(f);
}

static void a_place_that_cannot_be_had_is_named(void **state)
{
    struct fixture *f = *state;
    start(f);
    struct device other = f->devices[PACK];
    struct device_list list = {.n_devices = 1, .devices = &other, .n_links = 1};
    char error[SERVER_ERROR_MAX], want[SERVER_ERROR_MAX];
    other.modbus.port = server_port(f->server, PACK);
    assert_null(server_new(&list, &f->options, error));
    snprintf(want, sizeof want, "127.0.0.1:%u: Address already in use",
             server_port(f->server, PACK));
    assert_string_equal(error, want);
    strcpy(other.modbus.host, "192.0.2.1"); /* RFC 5737: nobody's */
    other.modbus.port = 1502;
    assert_null(server_new(&list, &f->options, error));
    assert_string_equal(error, "192.0.2.1:1502: not an address of this machine: see --listen");
    strcpy(other.modbus.host, "");
    strcpy(other.modbus.serial, "/nowhere/tty");
    other.modbus.baud = 9600;
    assert_null(server_new(&list, &f->options, error));
    assert_string_equal(error, "/nowhere/tty: No such file or directory");
    stop(f);
}

/* ---- Serial ---- */

static int start_line(struct fixture *f)
{
    int ours, theirs;
    char name[DEVICE_HOST_MAX];
    assert_int_equal(openpty(&ours, &theirs, name, NULL, NULL), 0);
    for (unsigned i = PACK; i <= NEIGHBOUR; i++) {
        f->devices[i].modbus.host[0] = '\0';
        strcpy(f->devices[i].modbus.serial, name);
        f->devices[i].modbus.baud = 19200;
        f->devices[i].modbus.parity = DEVICE_PARITY_EVEN;
        f->devices[i].modbus.data_bits = 8;
        f->devices[i].modbus.stop_bits = 1;
    }
    start(f);
    close(theirs);
    return ours;
}

static void give_rtu(int fd, const uint8_t *bytes, size_t n)
{
    uint8_t frame[RTU_SIZE_MAX];
    memcpy(frame, bytes, n);
    give(fd, frame, rtu_seal(frame, n));
}

static void expect_rtu(int fd, const uint8_t *bytes, size_t n)
{
    uint8_t frame[RTU_SIZE_MAX];
    memcpy(frame, bytes, n);
    expect(fd, frame, rtu_seal(frame, n));
}

static void a_serial_line_is_served(void **state)
{
    struct fixture *f = *state;
    int fd = start_line(f);
    assert_int_equal(server_port(f->server, PACK), 0);
    give(fd, BYTES(1, 3, 0x07, 0xd0, 0, 1, 0x84, 0x87)); /* with its CRC, once by hand */
    expect_rtu(fd, BYTES(1, 3, 2, 0, 1));
    give_rtu(fd, BYTES(2, 6, 0x07, 0xd8, 0xff, 0xce));
    expect_rtu(fd, BYTES(2, 6, 0x07, 0xd8, 0xff, 0xce));
    give_rtu(fd, BYTES(1, 0x10, 0x07, 0xd8, 0, 1, 2, 0, 5));
    expect_rtu(fd, BYTES(1, 0x10, 0x07, 0xd8, 0, 1));
    give_rtu(fd, BYTES(1, 3, 0x07, 0xd8, 0, 1));
    expect_rtu(fd, BYTES(1, 3, 2, 0, 5));
    give_rtu(fd, BYTES(1, 3, 0, 0, 0, 1));
    expect_rtu(fd, BYTES(1, 0x83, 2));
    give_rtu(fd, BYTES(1, 0x2b, 0x0e, 1, 0)); /* only silence ends this one */
    expect_rtu(fd, BYTES(1, 0xab, 1));
    stop(f);
    close(fd);
}

/* Asks until it is answered: what follows noise without a silence is lost. */
static void expect_unwritten(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    for (time_t deadline = time(NULL) + DEADLINE_MS / 1000; time(NULL) < deadline;) {
        give_rtu(fd, BYTES(1, 3, 0x07, 0xd8, 0, 1));
        if (poll(&ready, 1, 150) == 1)
            break;
    }
    expect_rtu(fd, BYTES(1, 3, 2, 0, 0));
}

static void a_serial_line_is_silent_for_others_and_noise(void **state)
{
    struct fixture *f = *state;
    int fd = start_line(f);
    give_rtu(fd, BYTES(9, 6, 0x07, 0xd8, 0, 1)); /* another unit */
    expect_unwritten(fd);
    give_rtu(fd, BYTES(0, 6, 0x07, 0xd8, 0, 1)); /* broadcast */
    expect_unwritten(fd);
    give(fd, BYTES(1, 6, 0x07, 0xd8, 0, 1, 0, 0)); /* bad CRC */
    expect_unwritten(fd);
    give(fd, BYTES(0x55, 0xaa, 0x00)); /* noise */
    expect_unwritten(fd);
    stop(f);
    close(fd);
}

static void the_end_of_a_serial_frame_is_known(void **state)
{
    (void)state;
    uint8_t frame[] = {1, 3, 0x07, 0xd0, 0, 1, 4, 0};
    for (uint8_t function = 1; function <= 6; function++) {
        frame[1] = function;
        assert_int_equal(rtu_request_size(frame, 2), 8);
        assert_int_equal(rtu_request_size(frame, 1), RTU_SIZE_MAX);
    }
    for (uint8_t function = 15; function <= 16; function++) {
        frame[1] = function;
        assert_int_equal(rtu_request_size(frame, 6), RTU_SIZE_MAX);
        assert_int_equal(rtu_request_size(frame, 7), 13);
        frame[6] = 246;
        assert_int_equal(rtu_request_size(frame, 7), 255);
        frame[6] = 255; /* nonsense */
        assert_int_equal(rtu_request_size(frame, 7), RTU_SIZE_MAX);
        frame[6] = 4;
    }
    frame[1] = 0x2b;
    assert_int_equal(rtu_request_size(frame, 8), RTU_SIZE_MAX);
    assert_false(rtu_is_whole(frame, 0));
    assert_false(rtu_is_whole((uint8_t[]){0xff, 0xff}, 2)); /* a CRC of nothing */
}

static void a_lost_line_ends_the_run(void **state)
{
    struct fixture *f = *state;
    int fd = start_line(f);
    close(fd);
    join(f);
    assert_false(f->good);
    assert_non_null(strstr(f->error, f->devices[PACK].modbus.serial));
    assert_non_null(strstr(f->error, "lost"));
}

static void an_odd_baud_rate_is_refused(void **state)
{
    struct fixture *f = *state;
    int ours, theirs;
    struct device *device = &f->devices[PACK];
    device->modbus.host[0] = '\0';
    assert_int_equal(openpty(&ours, &theirs, device->modbus.serial, NULL, NULL), 0);
    device->modbus.baud = 12345;
    assert_null(server_new(&f->list, &f->options, f->error));
    assert_non_null(strstr(f->error, "baud 12345"));
    close(ours);
    close(theirs);
}

/* RTU and ASCII over TCP, as converters between serial and Ethernet have it. */
static void other_framings_are_served_over_tcp(void **state)
{
    struct fixture *f = *state;
    static const enum device_framing framings[] = {DEVICE_RTU, DEVICE_ASCII};
    for (unsigned i = 0; i < 2; i++) {
        const int64_t timeout_ns = DEADLINE_MS * INT64_C(1000000);
        uint16_t words[4] = {0};
        for (unsigned d = 0; d < N_DEVICES; d++) {
            f->devices[d].modbus.framing = (int)framings[i];
            f->devices[d].modbus.baud = 9600;
        }
        start(f);
        struct device_modbus where = f->devices[PACK].modbus;
        where.port = server_port(f->server, PACK);
        struct link *link = link_new(&where);
        assert_int_equal(link_open(link, timeout_ns), FAULT_NONE);
        words[0] = 3;
        assert_int_equal(link_write(link, 1, POINT_HOLDING, 2030, 1, words, timeout_ns),
                         FAULT_NONE);
        words[0] = 0;
        assert_int_equal(link_read(link, 1, POINT_HOLDING, 2030, 1, words, timeout_ns), FAULT_NONE);
        assert_int_equal(words[0], 3);
        assert_int_equal(link_read(link, 2, POINT_HOLDING, 2026, 1, words, timeout_ns), FAULT_NONE);
        /* A unit that is not there is silent, as on a line. */
        assert_int_equal(link_read(link, 3, POINT_HOLDING, 2026, 1, words, timeout_ns / 1000),
                         FAULT_TIMEOUT);
        link_free(link);
        stop(f);
    }
}

static void what_is_not_simulated_is_named(void **state)
{
    struct fixture *f = *state;
    f->devices[PACK].modbus.tls = true;
    assert_null(server_new(&f->list, &f->options, f->error));
    assert_string_equal(f->error, "pack-0: no simulation of TLS");
    f->devices[PACK].modbus.tls = false;
    f->devices[PACK].modbus.transport = DEVICE_DATAGRAM;
    assert_null(server_new(&f->list, &f->options, f->error));
    assert_string_equal(f->error, "pack-0: no simulation of UDP");
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(units_and_ports_are_told_apart),
        TEST(an_unknown_unit_is_behind_the_gateway),
        TEST(the_plant_answers_a_setpoint),
        TEST(frames_come_in_pieces_and_in_heaps),
        TEST(no_answer_is_lost_when_the_client_is_slow),
        TEST(a_broken_header_ends_the_connection),
        TEST(many_connections_at_once),
        TEST(without_descriptors_who_comes_is_turned_away),
        TEST(a_place_that_cannot_be_had_is_named),
        TEST(a_serial_line_is_served),
        TEST(a_serial_line_is_silent_for_others_and_noise),
        TEST(the_end_of_a_serial_frame_is_known),
        TEST(a_lost_line_ends_the_run),
        TEST(an_odd_baud_rate_is_refused),
        TEST(other_framings_are_served_over_tcp),
        TEST(what_is_not_simulated_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
