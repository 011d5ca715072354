/* Answers that come late, or with something around them: which one is believed. */
#include "rtu_bed.h"

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

/* one that does not is asked for another number of registers then; */
static void test_a_unit_that_gives_another_length_is_in_step(void **state)
{
    struct test *test = *state;
    uint16_t word;
    test->slave.ignores_probes = test->slave.gives_some = true;
    start(test, play_silence);
    assert_int_equal(read_value(test, UNIT, &word, SHORT_NS), FAULT_TIMEOUT);
    assert_int_equal(read_value(test, UNIT, &word, 12 * SHORT_NS), FAULT_NONE);
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
    assert_int_equal(test->slave.n_probes, 6); /* two at each attempt but the first */
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
        TEST(test_a_late_answer_is_nobodys),
        TEST(test_a_unit_that_answers_a_probe_is_in_step),
        TEST(test_a_unit_that_gives_another_length_is_in_step),
        TEST(test_a_silent_unit_is_not_asked_again),
        TEST(test_a_neighbour_of_a_silent_unit_is_asked_at_once),
        TEST(test_the_late_answer_to_a_write_is_nobodys),
        TEST(test_a_read_that_waits_for_the_line_can_be_taken_back),
        TEST(test_an_answer_that_trickles_is_bounded),
        TEST(test_a_line_that_is_not_silent),
        TEST(test_garbage_around_an_answer),
        TEST(test_an_echo_that_is_expected),
        TEST(test_an_echo_that_does_not_come),
        TEST(test_two_answers_are_none),
        TEST(test_a_pause_before_each_request),
        TEST(test_a_pause_after_opening),
    };
    return cmocka_run_group_tests_name("link_rtu_late", tests, NULL, NULL);
}
