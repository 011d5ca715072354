/* rtu_bed: a device at the other end of a pseudo terminal, that does what a test's script
 * says. */
#ifndef TESTS_UNIT_RTU_BED_H
#define TESTS_UNIT_RTU_BED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <termios.h>
#include <unistd.h>

#include "devices/lines/link_new.h"

enum { UNIT = 7, FRAME_MAX = 256, CRC = 2 };

static const int64_t SHORT_NS = 80 * 1000000LL;   /* where a timeout is to happen */
static const int64_t LONG_NS = 20000 * 1000000LL; /* where none may happen */

struct slave;
typedef void script(struct slave *slave);

struct slave {
    int master; /* the device's end of the line */
    int line;   /* held open, so that the line outlives the link's descriptor */
    script *script;
    pthread_t thread;
    bool running;
    int stop; /* eventfd: the test is over */
    int go;   /* eventfd: the test says when to go on */
    uint8_t request[FRAME_MAX];
    size_t request_size;
    unsigned n_requests;
    atomic_uint n_probes;
    bool ignores_probes, gives_some; /* but these it does not ignore */
    int64_t arrived_ns;              /* when the last request began to arrive */
};

struct test {
    struct slave slave;
    struct link *link;
    char directory[32];
    char path[64]; /* a symbolic link to the line, as udev makes them */
};

/* MODBUS over Serial Line V1.02, 6.2.2: polynomial A001, low byte first. */
static inline void put_crc(uint8_t *frame, size_t size)
{
    unsigned crc = 0xffff;
    for (size_t i = 0; i < size; i++) {
        crc ^= frame[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xa001 : crc >> 1;
    }
    frame[size] = (uint8_t)crc;
    frame[size + 1] = (uint8_t)(crc >> 8);
}

/* Waits for `fd`; false when the test is over. */
static inline bool slave_wait(const struct slave *slave, int fd)
{
    struct pollfd wanted[] = {{.fd = fd, .events = POLLIN}, {.fd = slave->stop, .events = POLLIN}};
    while (poll(wanted, 2, -1) == -1)
        ;
    return wanted[1].revents == 0;
}

static inline void slave_send(struct slave *slave, const uint8_t *bytes, size_t size)
{
    (void)!write(slave->master, bytes, size);
}

static inline size_t frame_for(uint8_t unit, const uint8_t *pdu, size_t size, uint8_t *frame)
{
    frame[0] = unit;
    memcpy(frame + 1, pdu, size);
    put_crc(frame, 1 + size);
    return 1 + size + CRC;
}

static inline void slave_answer(struct slave *slave, uint8_t unit, const uint8_t *pdu, size_t size)
{
    uint8_t frame[FRAME_MAX];
    slave_send(slave, frame, frame_for(unit, pdu, size, frame));
}

/* Reads one request; false when the test is over. */
static inline bool slave_read(struct slave *slave)
{
    size_t size = 8;
    slave->request_size = 0;
    while (slave->request_size < size) {
        if (!slave_wait(slave, slave->master))
            return false;
        if (slave->request_size == 0)
            slave->arrived_ns = link_now_ns();
        ssize_t n =
            read(slave->master, slave->request + slave->request_size, size - slave->request_size);
        if (n <= 0)
            return false;
        slave->request_size += (size_t)n;
        if (slave->request_size >= 7 && slave->request[1] == 16)
            size = 7U + slave->request[6] + CRC;
        if (size > FRAME_MAX)
            abort();
    }
    return true;
}

/* The next request that is no probe: this device has neither bits nor input registers,
 * and nobody wants more than one of its registers if not all. */
static inline bool slave_request(struct slave *slave)
{
    while (slave_read(slave)) {
        const unsigned count = link_get16(slave->request + 4);
        const bool some = slave->request[1] == 3 && count > 1 && count < LINK_READ_MAX;
        if (!some && (slave->request[1] == 3 || slave->request[1] > 4)) {
            slave->n_requests++;
            return true;
        }
        slave->n_probes++;
        if (slave->ignores_probes && !(some && slave->gives_some))
            continue;
        const uint8_t data[LINK_PDU_MAX] = {3, (uint8_t)(2 * count)};
        const uint8_t refusal[] = {slave->request[1] | 0x80, 1};
        slave_answer(slave, slave->request[0], some ? data : refusal,
                     some ? 2 + 2 * (size_t)count : sizeof refusal);
    }
    return false;
}

/* Answers a read of one register. */
static inline void slave_value(struct slave *slave, uint8_t unit, uint16_t value)
{
    const uint8_t pdu[] = {3, 2, (uint8_t)(value >> 8), (uint8_t)value};
    slave_answer(slave, unit, pdu, sizeof pdu);
}

static inline void *slave_run(void *argument)
{
    struct slave *slave = argument;
    slave->script(slave);
    return NULL;
}

/* A new line under the old name. */
static inline void plug_in(struct test *test)
{
    struct termios raw;
    char name[PATH_MAX];
    cfmakeraw(memset(&raw, 0, sizeof raw));
    assert_int_equal(openpty(&test->slave.master, &test->slave.line, name, &raw, NULL), 0);
    unlink(test->path);
    assert_int_equal(symlink(name, test->path), 0);
}

static inline struct device_modbus settings(const struct test *test)
{
    struct device_modbus modbus = {
        .framing = DEVICE_RTU, .baud = 9600, .data_bits = 8, .stop_bits = 1};
    snprintf(modbus.serial, sizeof modbus.serial, "%s", test->path);
    return modbus;
}

static inline void play(struct test *test, script *scene)
{
    test->slave.script = scene;
    assert_int_equal(pthread_create(&test->slave.thread, NULL, slave_run, &test->slave), 0);
    test->slave.running = true;
}

/* Lets the script end; what it noted may be looked at from then on. */
static inline void finish(struct test *test)
{
    if (test->slave.running)
        pthread_join(test->slave.thread, NULL);
    test->slave.running = false;
}

static inline void start_with(struct test *test, script *scene, const struct device_modbus *modbus)
{
    test->link = link_new(modbus);
    assert_non_null(test->link);
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
    play(test, scene);
}

static inline void start(struct test *test, script *scene)
{
    struct device_modbus modbus = settings(test);
    start_with(test, scene, &modbus);
}

static inline int setup(void **state)
{
    struct test *test = calloc(1, sizeof *test);
    strcpy(test->directory, "/tmp/test_link_rtu.XXXXXX");
    assert_non_null(mkdtemp(test->directory));
    snprintf(test->path, sizeof test->path, "%s/ttyUSB0", test->directory);
    test->slave.stop = eventfd(0, EFD_CLOEXEC);
    test->slave.go = eventfd(0, EFD_CLOEXEC);
    plug_in(test);
    *state = test;
    return 0;
}

static inline void unplug(struct test *test)
{
    if (test->slave.master != -1)
        close(test->slave.master);
    if (test->slave.line != -1)
        close(test->slave.line);
    test->slave.master = test->slave.line = -1;
}

static inline int teardown(void **state)
{
    struct test *test = *state;
    eventfd_write(test->slave.stop, 1);
    finish(test);
    link_free(test->link);
    unplug(test);
    close(test->slave.stop);
    close(test->slave.go);
    unlink(test->path);
    rmdir(test->directory);
    free(test);
    return 0;
}

static inline enum fault read_value(struct test *test, uint8_t unit, uint16_t *word,
                                    int64_t timeout_ns)
{
    return link_read(test->link, unit, POINT_HOLDING, 2000, 1, word, timeout_ns);
}

static inline void assert_reads(struct test *test, uint16_t wanted)
{
    uint16_t word = 0;
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
    assert_int_equal(read_value(test, UNIT, &word, LONG_NS), FAULT_NONE);
    assert_int_equal(word, wanted);
}

static inline void play_one_read(struct slave *slave)
{
    if (slave_request(slave))
        slave_value(slave, UNIT, 5);
}

/* The answer to each write is the beginning of its request. */
static inline void play_echoes(struct slave *slave)
{
    while (slave_request(slave))
        slave_answer(slave, slave->request[0], slave->request + 1, 5);
}

#endif
