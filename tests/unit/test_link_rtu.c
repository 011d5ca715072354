/* A link over a serial line: what is asked, and the line itself. */
#include "rtu_bed.h"

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
        TEST(test_a_line_that_vanishes_and_comes_back),
        TEST(test_a_line_that_vanishes_when_idle),
        TEST(test_a_line_in_use),
        TEST(test_a_speed_that_is_none),
        TEST(test_a_descriptor_above_1024),
    };
    return cmocka_run_group_tests_name("link_rtu", tests, NULL, NULL);
}
