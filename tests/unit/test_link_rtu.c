/* A link over a serial line, a pseudo terminal: the test is the device at its other end.
 *
 * Each test gives the device a script that runs in a thread. A script waits
 * for what comes over the line or for a word from the test, never for time. */
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

/* ---- the device ---- */

/* MODBUS over Serial Line V1.02, 6.2.2: polynomial A001, low byte first. */
static void put_crc(uint8_t *frame, size_t size)
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
static bool slave_wait(const struct slave *slave, int fd)
{
    struct pollfd wanted[] = {{.fd = fd, .events = POLLIN}, {.fd = slave->stop, .events = POLLIN}};
    while (poll(wanted, 2, -1) == -1)
        ;
    return wanted[1].revents == 0;
}

static void slave_send(struct slave *slave, const uint8_t *bytes, size_t size)
{
    (void)!write(slave->master, bytes, size);
}

static size_t frame_for(uint8_t unit, const uint8_t *pdu, size_t size, uint8_t *frame)
{
    frame[0] = unit;
    memcpy(frame + 1, pdu, size);
    put_crc(frame, 1 + size);
    return 1 + size + CRC;
}

static void slave_answer(struct slave *slave, uint8_t unit, const uint8_t *pdu, size_t size)
{
    uint8_t frame[FRAME_MAX];
    slave_send(slave, frame, frame_for(unit, pdu, size, frame));
}

/* Reads one request; false when the test is over. */
static bool slave_read(struct slave *slave)
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
static bool slave_request(struct slave *slave)
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
static void slave_value(struct slave *slave, uint8_t unit, uint16_t value)
{
    const uint8_t pdu[] = {3, 2, (uint8_t)(value >> 8), (uint8_t)value};
    slave_answer(slave, unit, pdu, sizeof pdu);
}

static void *slave_run(void *argument)
{
    struct slave *slave = argument;
    slave->script(slave);
    return NULL;
}

/* ---- fixture ---- */

/* A new line under the old name. */
static void plug_in(struct test *test)
{
    struct termios raw;
    char name[PATH_MAX];
    cfmakeraw(memset(&raw, 0, sizeof raw));
    assert_int_equal(openpty(&test->slave.master, &test->slave.line, name, &raw, NULL), 0);
    unlink(test->path);
    assert_int_equal(symlink(name, test->path), 0);
}

static struct device_modbus settings(const struct test *test)
{
    struct device_modbus modbus = {
        .framing = DEVICE_RTU, .baud = 9600, .data_bits = 8, .stop_bits = 1};
    snprintf(modbus.serial, sizeof modbus.serial, "%s", test->path);
    return modbus;
}

static void play(struct test *test, script *scene)
{
    test->slave.script = scene;
    assert_int_equal(pthread_create(&test->slave.thread, NULL, slave_run, &test->slave), 0);
    test->slave.running = true;
}

/* Lets the script end; what it noted may be looked at from then on. */
static void finish(struct test *test)
{
    if (test->slave.running)
        pthread_join(test->slave.thread, NULL);
    test->slave.running = false;
}

static void start_with(struct test *test, script *scene, const struct device_modbus *modbus)
{
    test->link = link_new(modbus);
    assert_non_null(test->link);
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
    play(test, scene);
}

static void start(struct test *test, script *scene)
{
    struct device_modbus modbus = settings(test);
    start_with(test, scene, &modbus);
}

static int setup(void **state)
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

static void unplug(struct test *test)
{
    if (test->slave.master != -1)
        close(test->slave.master);
    if (test->slave.line != -1)
        close(test->slave.line);
    test->slave.master = test->slave.line = -1;
}

static int teardown(void **state)
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

static enum fault read_value(struct test *test, uint8_t unit, uint16_t *word, int64_t timeout_ns)
{
    return link_read(test->link, unit, POINT_HOLDING, 2000, 1, word, timeout_ns);
}

static void assert_reads(struct test *test, uint16_t wanted)
{
    uint16_t word = 0;
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
    assert_int_equal(read_value(test, UNIT, &word, LONG_NS), FAULT_NONE);
    assert_int_equal(word, wanted);
}

/* ---- in step ---- */

static void play_one_read(struct slave *slave)
{
    if (slave_request(slave))
        slave_value(slave, UNIT, 5);
}

static void test_reads(void **state)
{
    struct test *test = *state;
    start(test, play_one_read);
    assert_reads(test, 5);
    finish(test);
    uint8_t wanted[8] = {UNIT, 0x03, 0x07, 0xd0, 0x00, 0x01};
    put_crc(wanted, 6);
    assert_memory_equal(test->slave.request, wanted, sizeof wanted);
}

static void play_largest(struct slave *slave)
{
    uint8_t pdu[252] = {3, 250, [251] = 0x99};
    if (slave_request(slave))
        slave_answer(slave, UNIT, pdu, sizeof pdu);
}

static void test_reads_the_largest_answer(void **state)
{
    struct test *test = *state;
    uint16_t words[LINK_READ_MAX] = {0};
    start(test, play_largest);
    assert_int_equal(link_read(test->link, UNIT, POINT_HOLDING, 0, LINK_READ_MAX, words, LONG_NS),
                     FAULT_NONE);
    assert_int_equal(words[LINK_READ_MAX - 1], 0x99);
}

/* The answer to each write is the beginning of its request. */
static void play_echoes(struct slave *slave)
{
    while (slave_request(slave))
        slave_answer(slave, slave->request[0], slave->request + 1, 5);
}

static void test_writes(void **state)
{
    struct test *test = *state;
    const uint16_t words[] = {100, 200};
    start(test, play_echoes);
    assert_int_equal(link_write(test->link, UNIT, POINT_COIL, 3, 1, words, LONG_NS), FAULT_NONE);
    assert_int_equal(link_write(test->link, UNIT, POINT_HOLDING, 2008, 1, words, LONG_NS),
                     FAULT_NONE);
    assert_int_equal(link_write(test->link, UNIT, POINT_HOLDING, 2008, 2, words, LONG_NS),
                     FAULT_NONE);
    /* A broadcast never leaves. */
    assert_int_equal(link_write(test->link, 0, POINT_HOLDING, 2008, 1, words, LONG_NS),
                     FAULT_BAD_REPLY);
    eventfd_write(test->slave.stop, 1);
    finish(test);
    assert_int_equal(test->slave.n_requests, 3);
    uint8_t wanted[13] = {UNIT, 16, 0x07, 0xd8, 0, 2, 4, 0, 100, 0, 200};
    put_crc(wanted, 11);
    assert_memory_equal(test->slave.request, wanted, sizeof wanted);
}

static void play_exceptions(struct slave *slave)
{
    for (uint8_t code = 1; code <= 0x0b && slave_request(slave); code++)
        slave_answer(slave, UNIT, (const uint8_t[]){0x83, code}, 2);
    play_one_read(slave);
}

static void test_an_exception_leaves_the_line_open(void **state)
{
    struct test *test = *state;
    start(test, play_exceptions);
    for (unsigned code = 1; code <= 0x0b; code++) {
        uint16_t word = 99;
        assert_int_equal(read_value(test, UNIT, &word, LONG_NS), fault_from_exception(code));
        assert_int_equal(word, 99);
        assert_true(test->link->is_open);
    }
    assert_reads(test, 5);
}

static void test_the_line_is_set_as_configured(void **state)
{
    struct test *test = *state;
    static const struct {
        int parity, stop_bits;
        tcflag_t control, input;
    } rows[] = {{DEVICE_PARITY_NONE, 1, 0, 0},
                {DEVICE_PARITY_EVEN, 2, CSTOPB, INPCK},
                {DEVICE_PARITY_ODD, 1, PARODD, INPCK}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct device_modbus modbus = settings(test);
        modbus.baud = 19200;
        modbus.parity = rows[i].parity;
        modbus.stop_bits = rows[i].stop_bits;
        test->link = link_new(&modbus);
        assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
        struct termios now;
        assert_int_equal(tcgetattr(test->slave.line, &now), 0);
        assert_int_equal(cfgetospeed(&now), B19200);
        assert_int_equal(cfgetispeed(&now), B19200);
        /* A pseudo terminal keeps to 8 bits and no parity, but not to these. */
        assert_int_equal(now.c_cflag & (tcflag_t)(CSTOPB | PARODD), rows[i].control);
        assert_int_equal(now.c_iflag & INPCK, rows[i].input);
        link_free(test->link);
        test->link = NULL;
    }
}

/* ---- answers that do not fit ---- */

/* Each request gets the next of these frames; the last one is right. */
static const struct {
    size_t size;
    uint8_t unit, pdu[8];
    uint8_t spoil; /* added to the CRC */
    enum fault fault;
} misfits[] = {
    {4, UNIT, {3, 2, 0x66, 0x66}, 1, FAULT_BAD_REPLY},        /* damaged */
    {2, UNIT, {0x83, 2}, 1, FAULT_BAD_REPLY},                 /* a damaged exception */
    {4, UNIT, {4, 2, 0x66, 0x66}, 0, FAULT_TIMEOUT},          /* another function */
    {2, UNIT, {0x84, 2}, 0, FAULT_TIMEOUT},                   /* another function's exception */
    {6, UNIT, {3, 4, 0x66, 0x66, 0, 0}, 0, FAULT_BAD_REPLY},  /* too many registers */
    {3, UNIT, {3, 1, 0x66}, 0, FAULT_BAD_REPLY},              /* half a register */
    {5, UNIT, {6, 0x07, 0xd0, 0x66, 0x66}, 0, FAULT_TIMEOUT}, /* a write's answer */
    {2, UNIT, {3, 255}, 0, FAULT_BAD_REPLY},                  /* longer than any frame */
    {4, UNIT + 1, {3, 2, 0x66, 0x66}, 0, FAULT_TIMEOUT},      /* another unit */
    {4, 0, {3, 2, 0x66, 0x66}, 0, FAULT_TIMEOUT},             /* unit 0 */
    {1, UNIT, {3}, 0, FAULT_TIMEOUT},                         /* cut */
};
enum { MISFITS = sizeof misfits / sizeof *misfits };

static void play_misfits(struct slave *slave)
{
    for (size_t i = 0; i < MISFITS && slave_request(slave); i++) {
        uint8_t frame[FRAME_MAX];
        size_t size = frame_for(misfits[i].unit, misfits[i].pdu, misfits[i].size, frame);
        frame[size - 1] = (uint8_t)(frame[size - 1] + misfits[i].spoil);
        slave_send(slave, frame, misfits[i].size == 1 ? size - CRC : size);
    }
    play_one_read(slave);
}

static void test_an_answer_that_does_not_fit_is_none(void **state)
{
    struct test *test = *state;
    start(test, play_misfits);
    for (size_t i = 0; i < MISFITS; i++) {
        uint16_t word = 99;
        assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
        assert_int_equal(
            read_value(test, UNIT, &word, misfits[i].fault == FAULT_TIMEOUT ? SHORT_NS : LONG_NS),
            misfits[i].fault);
        assert_int_equal(word, 99);
        assert_string_not_equal(test->link->error, "");
    }
    assert_reads(test, 5);
}

static void play_wrong_echo(struct slave *slave)
{
    if (slave_request(slave))
        slave_answer(slave, UNIT, (const uint8_t[]){6, 0x07, 0xd8, 0, 0x65}, 5);
}

static void test_a_wrong_echo_is_no_answer(void **state)
{
    struct test *test = *state;
    start(test, play_wrong_echo);
    assert_int_equal(
        link_write(test->link, UNIT, POINT_HOLDING, 2008, 1, (const uint16_t[]){100}, LONG_NS),
        FAULT_BAD_REPLY);
    assert_false(test->link->is_open);
}

/* What neighbours say does not hide the answer behind it. */
static void play_neighbours(struct slave *slave)
{
    if (!slave_request(slave))
        return;
    slave_value(slave, UNIT + 1, 0x6666);
    slave_value(slave, UNIT + 2, 0x6666);
    slave_value(slave, UNIT, 5);
}

static void test_answers_of_other_units_are_passed_over(void **state)
{
    struct test *test = *state;
    start(test, play_neighbours);
    assert_reads(test, 5);
}

/* ---- too late ---- */

/* Answers the first request when the test says so, the second at once. */
static void play_late(struct slave *slave)
{
    eventfd_t go;
    if (!slave_request(slave) || !slave_wait(slave, slave->go))
        return;
    eventfd_read(slave->go, &go);
    slave_value(slave, UNIT, 0x6666);
    play_one_read(slave);
}

static void test_a_late_answer_is_nobodys(void **state)
{
    struct test *test = *state;
    uint16_t word = 99;
    start(test, play_late);
    int64_t start_ns = link_now_ns();
    assert_int_equal(read_value(test, UNIT, &word, SHORT_NS), FAULT_TIMEOUT);
    assert_true(link_now_ns() - start_ns >= SHORT_NS);
    assert_int_equal(word, 99);
    eventfd_write(test->slave.go, 1);
    assert_true(link_wait(NULL, test->slave.line, POLLIN, link_now_ns() + LONG_NS));
    assert_reads(test, 5);
    assert_int_equal(test->slave.n_probes, 1);
}

/* Never answers the first request. */
static void play_silence(struct slave *slave)
{
    if (slave_request(slave))
        play_one_read(slave);
}

/* One that answers anything else is asked again at once; */
static void test_a_unit_that_answers_a_probe_is_in_step(void **state)
{
    struct test *test = *state;
    uint16_t word;
    start(test, play_silence);
    assert_int_equal(read_value(test, UNIT, &word, SHORT_NS), FAULT_TIMEOUT);
    assert_int_equal(read_value(test, UNIT, &word, LONG_NS), FAULT_NONE);
    finish(test);
    assert_int_equal(test->slave.n_probes, 1);
}

/* one that does not is asked for another number of registers; */
static void test_a_unit_that_gives_another_length_is_in_step(void **state)
{
    struct test *test = *state;
    uint16_t word;
    test->slave.ignores_probes = test->slave.gives_some = true;
    start(test, play_silence);
    assert_int_equal(read_value(test, UNIT, &word, SHORT_NS), FAULT_TIMEOUT);
    assert_int_equal(read_value(test, UNIT, &word, SHORT_NS), FAULT_TIMEOUT);
    assert_int_equal(read_value(test, UNIT, &word, LONG_NS), FAULT_NONE);
    finish(test);
    assert_int_equal(test->slave.n_probes, 2);
}

/* one that does not give that either is asked nothing that an old answer might fit, */
static void play_nothing(struct slave *slave)
{
    if (slave_request(slave) && slave_request(slave))
        slave_answer(slave, UNIT, slave->request + 1, 5);
}

static void test_a_silent_unit_is_not_asked_again(void **state)
{
    struct test *test = *state;
    uint16_t word;
    test->slave.ignores_probes = true;
    start(test, play_nothing);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
        assert_int_equal(read_value(test, UNIT, &word, SHORT_NS), FAULT_TIMEOUT);
    }
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
    assert_int_equal(
        link_write(test->link, UNIT, POINT_HOLDING, 2008, 1, (const uint16_t[]){0}, LONG_NS),
        FAULT_NONE); /* a write does not wait */
    finish(test);
    assert_int_equal(test->slave.n_requests, 2);
    assert_int_equal(test->slave.n_probes, 3);
}

/* but its neighbours are not. */
static void play_neighbour(struct slave *slave)
{
    if (slave_request(slave) && slave_request(slave))
        slave_value(slave, UNIT + 1, 5);
}

static void test_a_neighbour_of_a_silent_unit_is_asked_at_once(void **state)
{
    struct test *test = *state;
    uint16_t word;
    start(test, play_neighbour);
    assert_int_equal(read_value(test, UNIT, &word, SHORT_NS), FAULT_TIMEOUT);
    assert_int_equal(read_value(test, UNIT + 1, &word, LONG_NS), FAULT_NONE);
    finish(test);
    assert_int_equal(test->slave.n_probes, 0);
}

/* A write does not wait; the late answer to the one before is not taken for its own. */
static void play_late_write(struct slave *slave)
{
    if (!slave_request(slave) || !slave_request(slave))
        return;
    slave_answer(slave, UNIT, (const uint8_t[]){0x86, 4}, 2);
    slave_answer(slave, UNIT, (const uint8_t[]){6, 0x07, 0xd8, 0, 100}, 5);
    slave_answer(slave, UNIT, slave->request + 1, 5);
}

static void test_the_late_answer_to_a_write_is_nobodys(void **state)
{
    struct test *test = *state;
    start(test, play_late_write);
    assert_int_equal(
        link_write(test->link, UNIT, POINT_HOLDING, 2008, 1, (const uint16_t[]){100}, SHORT_NS),
        FAULT_TIMEOUT);
    assert_int_equal(
        link_write(test->link, UNIT, POINT_HOLDING, 2008, 1, (const uint16_t[]){0}, LONG_NS),
        FAULT_NONE);
    finish(test);
    assert_int_equal(test->slave.n_probes, 0);
}

static void play_trickle(struct slave *slave)
{
    uint8_t pdu[252] = {3, 250};
    uint8_t frame[FRAME_MAX];
    if (!slave_request(slave))
        return;
    size_t size = frame_for(UNIT, pdu, sizeof pdu, frame);
    struct pollfd stop = {.fd = slave->stop, .events = POLLIN};
    /* A byte each time the test has not ended for 5 ms: 1.3 s in all. */
    for (size_t i = 0; i < size && poll(&stop, 1, 5) == 0; i++)
        slave_send(slave, frame + i, 1);
}

static void test_an_answer_that_trickles_is_bounded(void **state)
{
    struct test *test = *state;
    uint16_t words[LINK_READ_MAX];
    start(test, play_trickle);
    assert_int_equal(link_read(test->link, UNIT, POINT_HOLDING, 0, LINK_READ_MAX, words, SHORT_NS),
                     FAULT_TIMEOUT);
}

static void play_noise(struct slave *slave)
{
    struct pollfd stop = {.fd = slave->stop, .events = POLLIN};
    while (poll(&stop, 1, 1) == 0)
        slave_send(slave, (const uint8_t[]){0x55}, 1);
}

static void test_a_line_that_is_not_silent(void **state)
{
    struct test *test = *state;
    struct device_modbus modbus = settings(test);
    uint16_t word;
    modbus.baud = 300; /* 3.5 characters last long enough to find one in them */
    start_with(test, play_noise, &modbus);
    assert_int_equal(read_value(test, UNIT, &word, SHORT_NS), FAULT_BAD_REPLY);
    assert_non_null(strstr(test->link->error, "silent"));
    assert_false(link_wait(NULL, test->slave.master, POLLIN, 0)); /* nothing was sent */
}

/* It asks about the silent unit, and then there is something more urgent. */
static void play_withdrawn(struct slave *slave)
{
    slave->ignores_probes = true;
    if (!slave_request(slave) || !slave_request(slave))
        return;
    slave_answer(slave, UNIT, slave->request + 1, 5);
    slave->ignores_probes = false;
    play_one_read(slave);
}

static void test_a_read_that_waits_for_the_line_can_be_taken_back(void **state)
{
    struct test *test = *state;
    uint16_t word = 99;
    start(test, play_withdrawn);
    assert_int_equal(read_value(test, UNIT, &word, SHORT_NS), FAULT_TIMEOUT);
    assert_int_equal(link_begin_read(test->link, UNIT, POINT_HOLDING, 2000, 1, &word, LONG_NS),
                     FAULT_NONE);
    assert_true(test->link->is_busy && test->link->is_waiting);
    assert_true(link_withdraw(test->link));
    assert_false(test->link->is_busy);
    assert_false(link_withdraw(test->link));
    assert_int_equal(
        link_write(test->link, UNIT, POINT_HOLDING, 2008, 1, (const uint16_t[]){0}, LONG_NS),
        FAULT_NONE);
    assert_int_equal(word, 99);
    assert_int_equal(link_begin_read(test->link, UNIT, POINT_HOLDING, 2000, 1, &word, LONG_NS),
                     FAULT_NONE);
    while (test->link->is_busy && test->link->is_waiting) {
        link_sleep(test->link);
        assert_int_equal(link_go_on(test->link, &word), FAULT_NONE);
    }
    assert_false(link_withdraw(test->link)); /* asked, or answered */
}

/* ---- the line ---- */

static void play_unplug(struct slave *slave)
{
    slave_request(slave);
    close(slave->master);
    slave->master = -1;
}

static void test_a_line_that_vanishes_and_comes_back(void **state)
{
    struct test *test = *state;
    uint16_t word = 99;
    start(test, play_unplug);
    assert_int_equal(read_value(test, UNIT, &word, LONG_NS), FAULT_CONNECTION);
    assert_int_equal(word, 99);
    assert_false(test->link->is_open);
    finish(test);
    unplug(test);
    unlink(test->path);
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_CONNECTION);
    assert_non_null(strstr(test->link->error, "No such file"));

    plug_in(test);
    play(test, play_one_read);
    assert_reads(test, 5);
}

static void test_a_line_that_vanishes_when_idle(void **state)
{
    struct test *test = *state;
    uint16_t word = 99;
    start(test, play_one_read);
    assert_reads(test, 5);
    finish(test);
    unplug(test);
    assert_int_equal(read_value(test, UNIT, &word, LONG_NS), FAULT_CONNECTION);
    assert_false(test->link->is_open);
}

static void test_a_line_in_use(void **state)
{
    struct test *test = *state;
    struct device_modbus modbus = settings(test);
    test->link = link_new(&modbus);
    assert_int_equal(flock(test->slave.line, LOCK_EX), 0);
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_CONNECTION);
    assert_non_null(strstr(test->link->error, "in use"));
    assert_int_equal(flock(test->slave.line, LOCK_UN), 0);
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
    assert_int_equal(flock(test->slave.line, LOCK_EX | LOCK_NB), -1); /* and now it is ours */
}

static void test_a_speed_that_is_none(void **state)
{
    struct test *test = *state;
    struct device_modbus modbus = settings(test);
    modbus.baud = 12345;
    test->link = link_new(&modbus);
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_CONNECTION);
    assert_non_null(strstr(test->link->error, "12345 baud"));
    assert_false(test->link->is_open);
    assert_int_equal(flock(test->slave.line, LOCK_EX | LOCK_NB), 0); /* nothing is held */
}

static void test_a_descriptor_above_1024(void **state)
{
    struct test *test = *state;
    struct device_modbus modbus = settings(test);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < 1200) {
        print_message("no more than %u descriptors here\n", (unsigned)limit.rlim_max);
        skip();
    }
    struct rlimit higher = {.rlim_cur = 1200, .rlim_max = limit.rlim_max};
    if (limit.rlim_cur < 1200)
        setrlimit(RLIMIT_NOFILE, &higher);
    int fillers[FD_SETSIZE];
    for (size_t i = 0; i < FD_SETSIZE; i++)
        fillers[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    test->link = link_new(&modbus);
    assert_int_equal(link_open(test->link, LONG_NS), FAULT_NONE);
    for (size_t i = 0; i < FD_SETSIZE; i++)
        close(fillers[i]);
    setrlimit(RLIMIT_NOFILE, &limit);
    play(test, play_one_read);
    assert_reads(test, 5);
}

/* ---- what lines and adapters make of it ---- */

/* Line drivers that are switched leave zeros and ones behind. */
static void play_garbage(struct slave *slave)
{
    if (!slave_request(slave))
        return;
    slave_send(slave, (const uint8_t[]){0x00, 0xff, 0x00}, 3);
    slave_value(slave, UNIT, 5);
    slave_send(slave, (const uint8_t[]){0xff, 0x00}, 2);
    play_one_read(slave);
}

static void test_garbage_around_an_answer(void **state)
{
    struct test *test = *state;
    start(test, play_garbage);
    assert_reads(test, 5);
    assert_reads(test, 5);
    assert_int_equal(test->slave.n_probes, 0);
}

static void play_adapter(struct slave *slave)
{
    while (slave_request(slave)) {
        slave_send(slave, slave->request, 3);
        slave_send(slave, slave->request + 3, 5);
        slave_value(slave, UNIT, 5);
    }
}

static void test_an_echo_that_is_expected(void **state)
{
    struct test *test = *state;
    struct device_modbus modbus = settings(test);
    modbus.echo = true;
    start_with(test, play_adapter, &modbus);
    assert_reads(test, 5);
    assert_reads(test, 5);
}

static void test_an_echo_that_does_not_come(void **state)
{
    struct test *test = *state;
    struct device_modbus modbus = settings(test);
    uint16_t word;
    modbus.echo = true;
    start_with(test, play_one_read, &modbus);
    assert_int_equal(read_value(test, UNIT, &word, LONG_NS), FAULT_BAD_REPLY);
    assert_non_null(strstr(test->link->error, "what came back is not what was sent"));
}

/* Two answers at once: nobody knows which is the one. */
static void play_doubled(struct slave *slave)
{
    if (!slave_request(slave))
        return;
    uint8_t frame[2 * FRAME_MAX];
    size_t size = frame_for(UNIT, (const uint8_t[]){3, 2, 0x66, 0x66}, 4, frame);
    size += frame_for(UNIT, (const uint8_t[]){3, 2, 0, 5}, 4, frame + size);
    slave_send(slave, frame, size);
    play_one_read(slave);
}

static void test_two_answers_are_none(void **state)
{
    struct test *test = *state;
    uint16_t word = 99;
    start(test, play_doubled);
    assert_int_equal(read_value(test, UNIT, &word, LONG_NS), FAULT_BAD_REPLY);
    assert_int_equal(word, 99);
    assert_reads(test, 5);
    assert_int_equal(test->slave.n_probes, 1);
}

/* It counts from the end of what was before, so it lies between the two. */
static void test_a_pause_before_each_request(void **state)
{
    struct test *test = *state;
    struct device_modbus modbus = settings(test);
    const uint16_t words[] = {100};
    modbus.request_gap_ns = SHORT_NS;
    start_with(test, play_echoes, &modbus);
    const int64_t start_ns = link_now_ns();
    for (int i = 0; i < 2; i++)
        assert_int_equal(link_write(test->link, UNIT, POINT_HOLDING, 2008, 1, words, LONG_NS),
                         FAULT_NONE);
    assert_true(link_now_ns() - start_ns >= SHORT_NS);
}

static void test_a_pause_after_opening(void **state)
{
    struct test *test = *state;
    struct device_modbus modbus = settings(test);
    modbus.connect_delay_ns = SHORT_NS;
    int64_t start_ns = link_now_ns();
    slave_send(&test->slave, (const uint8_t[]){UNIT, 0x55}, 2); /* a greeting */
    start_with(test, play_one_read, &modbus);
    assert_true(link_now_ns() - start_ns >= SHORT_NS);
    assert_reads(test, 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reads),
        TEST(test_reads_the_largest_answer),
        TEST(test_writes),
        TEST(test_an_exception_leaves_the_line_open),
        TEST(test_the_line_is_set_as_configured),
        TEST(test_an_answer_that_does_not_fit_is_none),
        TEST(test_a_wrong_echo_is_no_answer),
        TEST(test_answers_of_other_units_are_passed_over),
        TEST(test_a_late_answer_is_nobodys),
        TEST(test_a_unit_that_answers_a_probe_is_in_step),
        TEST(test_a_unit_that_gives_another_length_is_in_step),
        TEST(test_a_silent_unit_is_not_asked_again),
        TEST(test_a_neighbour_of_a_silent_unit_is_asked_at_once),
        TEST(test_the_late_answer_to_a_write_is_nobodys),
        TEST(test_a_read_that_waits_for_the_line_can_be_taken_back),
        TEST(test_an_answer_that_trickles_is_bounded),
        TEST(test_a_line_that_is_not_silent),
        TEST(test_a_line_that_vanishes_and_comes_back),
        TEST(test_a_line_that_vanishes_when_idle),
        TEST(test_a_line_in_use),
        TEST(test_a_speed_that_is_none),
        TEST(test_a_descriptor_above_1024),
        TEST(test_garbage_around_an_answer),
        TEST(test_an_echo_that_is_expected),
        TEST(test_an_echo_that_does_not_come),
        TEST(test_two_answers_are_none),
        TEST(test_a_pause_before_each_request),
        TEST(test_a_pause_after_opening),
    };
    return cmocka_run_group_tests_name("link_rtu", tests, NULL, NULL);
}
