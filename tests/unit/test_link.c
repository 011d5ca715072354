/* link.c over a fake link: what goes out as a PDU, and which answers pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "devices/lines/link.h"

enum { UNIT = 7 };
static const int64_t TIMEOUT_NS = 1000000000;

struct fake {
    struct link link;
    enum fault open_fault;
    enum fault fault;
    bool stale;
    unsigned busy; /* how often it waits before it opens or answers */
    uint8_t reply[LINK_PDU_MAX];
    size_t reply_size;
    /* What link.c did. */
    unsigned opened, asked, closed, freed;
    uint8_t unit;
    int64_t timeout_ns;
    uint8_t request[LINK_PDU_MAX];
    size_t request_size;
};

static enum fault fake_open(struct link *link, int64_t timeout_ns)
{
    struct fake *fake = (struct fake *)link;
    fake->opened++;
    fake->timeout_ns = timeout_ns;
    return fake->busy > 0 ? link_await(link, -1, 0, 0) : fake->open_fault;
}

static enum fault fake_answer(struct fake *fake, uint8_t *reply, size_t *reply_size)
{
    if (fake->fault != FAULT_NONE)
        return link_fail(&fake->link, fake->fault, "fake");
    memcpy(reply, fake->reply, fake->reply_size);
    *reply_size = fake->reply_size;
    return FAULT_NONE;
}

static enum fault fake_go_on(struct link *link, uint8_t *reply, size_t *reply_size)
{
    struct fake *fake = (struct fake *)link;
    if (--fake->busy > 0)
        return link_await(link, -1, 0, 0);
    return link->is_open ? fake_answer(fake, reply, reply_size) : fake->open_fault;
}

static enum fault fake_exchange(struct link *link, uint8_t unit, const uint8_t *request,
                                size_t request_size, uint8_t *reply, size_t *reply_size,
                                int64_t timeout_ns)
{
    struct fake *fake = (struct fake *)link;
    fake->asked++;
    fake->unit = unit;
    fake->timeout_ns = timeout_ns;
    assert_true(request_size <= sizeof fake->request);
    memcpy(fake->request, request, request_size);
    fake->request_size = request_size;
    return fake->busy > 0 ? link_await(link, -1, 0, 0) : fake_answer(fake, reply, reply_size);
}

static bool fake_is_stale(struct link *link)
{
    return ((struct fake *)link)->stale;
}

static void fake_close(struct link *link)
{
    ((struct fake *)link)->closed++;
}

static void fake_free(struct link *link)
{
    ((struct fake *)link)->freed++;
}

static const struct link_ops ops = {.open = fake_open,
                                    .exchange = fake_exchange,
                                    .is_stale = fake_is_stale,
                                    .close = fake_close,
                                    .free = fake_free,
                                    .go_on = fake_go_on};

/* An open fake link that answers with the given bytes. */
#define FAKE(...) fake_with((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
static struct fake fake_with(const uint8_t *reply, size_t size)
{
    struct fake fake = {.link = {.ops = &ops, .is_open = true}, .reply_size = size};
    memcpy(fake.reply, reply, size);
    return fake;
}

static enum fault read_registers(struct fake *fake, uint16_t count, uint16_t *words)
{
    return link_read(&fake->link, UNIT, POINT_HOLDING, 2000, count, words, TIMEOUT_NS);
}

static enum fault write_registers(struct fake *fake, uint16_t count, const uint16_t *words)
{
    return link_write(&fake->link, UNIT, POINT_HOLDING, 2008, count, words, TIMEOUT_NS);
}

#define ASSERT_REQUEST(fake, ...)                                                                  \
    do {                                                                                           \
        const uint8_t wanted[] = {__VA_ARGS__};                                                    \
        assert_int_equal((fake).request_size, sizeof wanted);                                      \
        assert_memory_equal((fake).request, wanted, sizeof wanted);                                \
    } while (0)

static void test_reads_the_documented_frame(void **state)
{
    (void)state;
    struct fake fake =
        FAKE(3, 20, 0, 1, 0x80, 0, 0xff, 0xff, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 0, 9, 0x12, 0x34);
    uint16_t words[10];
    assert_int_equal(read_registers(&fake, 10, words), FAULT_NONE);
    ASSERT_REQUEST(fake, 0x03, 0x07, 0xd0, 0x00, 0x0a);
    assert_int_equal(fake.unit, UNIT);
    assert_int_equal(fake.timeout_ns, TIMEOUT_NS);
    const uint16_t wanted[] = {1, 0x8000, 0xffff, 4, 5, 6, 7, 8, 9, 0x1234};
    assert_memory_equal(words, wanted, sizeof wanted);
    assert_true(fake.link.is_open);
}

static void test_reads_each_table_with_its_function(void **state)
{
    (void)state;
    const enum point_table tables[] = {POINT_COIL, POINT_DISCRETE, POINT_HOLDING, POINT_INPUT};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        bool bits = tables[i] == POINT_COIL || tables[i] == POINT_DISCRETE;
        struct fake fake = FAKE((uint8_t)tables[i], bits ? 1 : 2, 1, 1);
        fake.reply_size = bits ? 3 : 4;
        uint16_t word = 0;
        assert_int_equal(link_read(&fake.link, UNIT, tables[i], 1, 1, &word, TIMEOUT_NS), 0);
        ASSERT_REQUEST(fake, (uint8_t)tables[i], 0, 1, 0, 1);
        assert_int_equal(word, bits ? 1 : 0x101);
    }
}

static void test_unpacks_bits_lowest_first(void **state)
{
    (void)state;
    struct fake fake = FAKE(1, 2, 0x85, 0xfe);
    uint16_t words[10];
    words[9] = 99;
    assert_int_equal(link_read(&fake.link, UNIT, POINT_COIL, 0, 9, words, TIMEOUT_NS), FAULT_NONE);
    const uint16_t wanted[] = {1, 0, 1, 0, 0, 0, 0, 1, 0, 99};
    assert_memory_equal(words, wanted, sizeof wanted);
}

static void test_reads_the_largest_answers(void **state)
{
    (void)state;
    struct fake fake = {
        .link = {.ops = &ops, .is_open = true}, .reply = {3, 250}, .reply_size = 252};
    uint16_t words[LINK_READ_BITS_MAX];
    fake.reply[251] = 9;
    assert_int_equal(read_registers(&fake, LINK_READ_MAX, words), FAULT_NONE);
    assert_int_equal(words[124], 9);

    memcpy(fake.reply, (const uint8_t[]){2, 250}, 2);
    fake.reply[251] = 0x80;
    assert_int_equal(
        link_read(&fake.link, UNIT, POINT_DISCRETE, 0, LINK_READ_BITS_MAX, words, TIMEOUT_NS),
        FAULT_NONE);
    assert_int_equal(words[1998], 0);
    assert_int_equal(words[1999], 1);
}

static void test_reads_no_impossible_count(void **state)
{
    (void)state;
    const struct {
        enum point_table table;
        uint16_t address, count;
    } bad[] = {{POINT_HOLDING, 0, 0},
               {POINT_INPUT, 0, LINK_READ_MAX + 1},
               {POINT_COIL, 0, LINK_READ_BITS_MAX + 1},
               {POINT_HOLDING, 65535, 2}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fake fake = FAKE(3, 2, 0, 0);
        uint16_t words[1] = {99};
        assert_int_equal(link_read(&fake.link, UNIT, bad[i].table, bad[i].address, bad[i].count,
                                   words, TIMEOUT_NS),
                         FAULT_BAD_REPLY);
        assert_int_equal(fake.asked, 0);
        assert_int_equal(words[0], 99);
        assert_string_not_equal(fake.link.error, "");
    }
}

static void test_a_read_answer_that_does_not_fit_closes(void **state)
{
    (void)state;
    const struct {
        size_t size;
        uint8_t reply[8];
    } bad[] = {
        {6, {4, 4, 0, 1, 0, 2}},       /* another function */
        {6, {3, 2, 0, 1, 0, 2}},       /* byte count too small for the request */
        {4, {3, 2, 0, 1}},             /* one register of two */
        {8, {3, 6, 0, 1, 0, 2, 0, 3}}, /* three registers for two */
        {5, {3, 4, 0, 1, 0}},          /* cut */
        {7, {3, 4, 0, 1, 0, 2, 0}},    /* a byte too many */
        {1, {3}},                      /* no byte count */
        {2, {0x84, 2}},                /* an exception to another function */
        {3, {0x83, 2, 0}},             /* an exception with something behind it */
        {1, {0x83}},                   /* an exception without its code */
        {0, {0}},                      /* nothing */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fake fake = fake_with(bad[i].reply, bad[i].size);
        uint16_t words[2] = {98, 99};
        assert_int_equal(read_registers(&fake, 2, words), FAULT_BAD_REPLY);
        assert_int_equal(fake.closed, 1);
        assert_false(fake.link.is_open);
        assert_int_equal(words[0], 98);
        assert_int_equal(words[1], 99);
        assert_non_null(strstr(fake.link.error, "unit 7"));
    }
}

static void test_an_exception_is_its_fault_and_keeps_the_link(void **state)
{
    (void)state;
    const struct {
        uint8_t code;
        enum fault fault;
    } rows[] = {{1, FAULT_ILLEGAL_FUNCTION}, {2, FAULT_ILLEGAL_ADDRESS},
                {3, FAULT_ILLEGAL_VALUE},    {4, FAULT_DEVICE_FAILURE},
                {5, FAULT_ACKNOWLEDGE},      {6, FAULT_BUSY},
                {0x0a, FAULT_GATEWAY_PATH},  {0x0b, FAULT_GATEWAY_TARGET},
                {0, FAULT_DEVICE_FAILURE},   {0x77, FAULT_DEVICE_FAILURE}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fake fake = FAKE(0x83, rows[i].code);
        uint16_t word = 99;
        assert_int_equal(read_registers(&fake, 1, &word), rows[i].fault);
        assert_int_equal(word, 99);
        assert_int_equal(fake.closed, 0);
        assert_true(fake.link.is_open);
        assert_non_null(strstr(fake.link.error, fault_word(rows[i].fault)));

        fake = FAKE(0x86, rows[i].code);
        assert_int_equal(write_registers(&fake, 1, &word), rows[i].fault);
        assert_true(fake.link.is_open);
    }
}

static void test_writes_one_register_with_function_6(void **state)
{
    (void)state;
    struct fake fake = FAKE(6, 0x07, 0xd8, 0x00, 0x64);
    assert_int_equal(write_registers(&fake, 1, (const uint16_t[]){100}), FAULT_NONE);
    ASSERT_REQUEST(fake, 0x06, 0x07, 0xd8, 0x00, 0x64);
    assert_int_equal(fake.unit, UNIT);
    assert_int_equal(fake.timeout_ns, TIMEOUT_NS);
}

static void test_writes_more_registers_with_function_16(void **state)
{
    (void)state;
    struct fake fake = FAKE(16, 0x07, 0xd8, 0, 2);
    assert_int_equal(write_registers(&fake, 2, (const uint16_t[]){0x4248, 0x0001}), FAULT_NONE);
    ASSERT_REQUEST(fake, 16, 0x07, 0xd8, 0, 2, 4, 0x42, 0x48, 0x00, 0x01);

    uint16_t words[LINK_WRITE_MAX] = {[LINK_WRITE_MAX - 1] = 0xabcd};
    fake = FAKE(16, 0x07, 0xd8, 0, LINK_WRITE_MAX);
    assert_int_equal(write_registers(&fake, LINK_WRITE_MAX, words), FAULT_NONE);
    assert_int_equal(fake.request_size, 6 + 2 * LINK_WRITE_MAX);
    assert_int_equal(fake.request[5], 2 * LINK_WRITE_MAX);
    assert_int_equal(fake.request[fake.request_size - 1], 0xcd);
}

static void test_writes_a_coil_with_function_5(void **state)
{
    (void)state;
    struct fake fake = FAKE(5, 0, 3, 0xff, 0);
    uint16_t word = 1;
    assert_int_equal(link_write(&fake.link, UNIT, POINT_COIL, 3, 1, &word, TIMEOUT_NS), 0);
    ASSERT_REQUEST(fake, 5, 0, 3, 0xff, 0);
    fake = FAKE(5, 0, 3, 0, 0);
    word = 0;
    assert_int_equal(link_write(&fake.link, UNIT, POINT_COIL, 3, 1, &word, TIMEOUT_NS), 0);
    ASSERT_REQUEST(fake, 5, 0, 3, 0, 0);
}

static void test_writes_by_functions_15_and_16_where_nothing_else_is_taken(void **state)
{
    (void)state;
    struct fake fake = FAKE(16, 0x07, 0xd8, 0, 1);
    uint16_t word = 0x1234;
    assert_int_equal(link_write_many(&fake.link, UNIT, POINT_HOLDING, 2008, 1, &word, TIMEOUT_NS),
                     FAULT_NONE);
    ASSERT_REQUEST(fake, 16, 0x07, 0xd8, 0, 1, 2, 0x12, 0x34);
    fake = FAKE(15, 0, 3, 0, 1);
    assert_int_equal(link_write_many(&fake.link, UNIT, POINT_COIL, 3, 1, &word, TIMEOUT_NS),
                     FAULT_NONE);
    ASSERT_REQUEST(fake, 15, 0, 3, 0, 1, 1, 1);
    fake = FAKE(15, 0, 3, 0, 1);
    word = 0;
    assert_int_equal(link_write_many(&fake.link, UNIT, POINT_COIL, 3, 1, &word, TIMEOUT_NS),
                     FAULT_NONE);
    ASSERT_REQUEST(fake, 15, 0, 3, 0, 1, 1, 0);
}

static void test_a_wrong_echo_closes(void **state)
{
    (void)state;
    const struct {
        uint16_t count;
        size_t size;
        uint8_t reply[6];
    } bad[] = {
        {1, 5, {6, 0x07, 0xd8, 0x00, 0x65}},    /* another value */
        {1, 5, {6, 0x07, 0xd9, 0x00, 0x64}},    /* another address */
        {1, 5, {3, 0x07, 0xd8, 0x00, 0x64}},    /* another function */
        {1, 4, {6, 0x07, 0xd8, 0x00}},          /* cut */
        {1, 6, {6, 0x07, 0xd8, 0x00, 0x64, 0}}, /* a byte too many */
        {1, 0, {0}},                            /* nothing */
        {2, 5, {16, 0x07, 0xd8, 0, 1}},         /* another count */
        {2, 5, {16, 0x07, 0xd7, 0, 2}},         /* another address */
        {2, 2, {0x86, 2}},                      /* an exception to another function */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fake fake = fake_with(bad[i].reply, bad[i].size);
        const uint16_t words[] = {100, 200};
        assert_int_equal(write_registers(&fake, bad[i].count, words), FAULT_BAD_REPLY);
        assert_int_equal(fake.asked, 1);
        assert_int_equal(fake.closed, 1);
        assert_false(fake.link.is_open);
        assert_non_null(strstr(fake.link.error, "unit 7"));
    }
}

static void test_writes_no_broadcast_and_nothing_impossible(void **state)
{
    (void)state;
    const struct {
        uint8_t unit;
        enum point_table table;
        uint16_t address, count;
    } bad[] = {{0, POINT_HOLDING, 2008, 1},    {0, POINT_COIL, 2008, 1},
               {UNIT, POINT_HOLDING, 2008, 0}, {UNIT, POINT_HOLDING, 2008, LINK_WRITE_MAX + 1},
               {UNIT, POINT_COIL, 2008, 2},    {UNIT, POINT_INPUT, 2008, 1},
               {UNIT, POINT_DISCRETE, 1, 1},   {UNIT, POINT_HOLDING, 65535, 2}};
    const uint16_t words[LINK_WRITE_MAX + 1] = {100};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fake fake = FAKE(6, 0x07, 0xd8, 0x00, 0x64);
        assert_int_equal(link_write(&fake.link, bad[i].unit, bad[i].table, bad[i].address,
                                    bad[i].count, words, TIMEOUT_NS),
                         FAULT_BAD_REPLY);
        assert_int_equal(fake.asked, 0);
        assert_non_null(strstr(fake.link.error, "not sent"));
    }
}

static void test_a_failed_exchange_closes_and_is_not_repeated(void **state)
{
    (void)state;
    const enum fault faults[] = {FAULT_TIMEOUT, FAULT_CONNECTION, FAULT_BAD_REPLY};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct fake fake = FAKE(3, 2, 0, 0);
        uint16_t word = 99;
        fake.fault = faults[i];
        assert_int_equal(read_registers(&fake, 1, &word), faults[i]);
        assert_int_equal(word, 99);
        assert_int_equal(fake.closed, 1);
        assert_false(fake.link.is_open);
        assert_string_equal(fake.link.error, "fake");

        /* Closed: nothing is asked until it is opened again. */
        assert_int_equal(read_registers(&fake, 1, &word), FAULT_CONNECTION);
        assert_int_equal(write_registers(&fake, 1, &word), FAULT_CONNECTION);
        assert_int_equal(fake.asked, 1);
        assert_int_equal(fake.closed, 1);
        fake.fault = FAULT_NONE;
        assert_int_equal(link_open(&fake.link, 5), FAULT_NONE);
        assert_int_equal(read_registers(&fake, 1, &word), FAULT_NONE);
    }
}

static void test_opens_and_closes_once(void **state)
{
    (void)state;
    struct fake fake = {.link = {.ops = &ops}, .open_fault = FAULT_TIMEOUT};
    assert_int_equal(link_open(&fake.link, 5), FAULT_TIMEOUT);
    assert_false(fake.link.is_open);
    assert_int_equal(fake.timeout_ns, 5);
    link_close(&fake.link);
    assert_int_equal(fake.closed, 0);

    fake.open_fault = FAULT_NONE;
    assert_int_equal(link_open(&fake.link, 5), FAULT_NONE);
    assert_int_equal(link_open(&fake.link, 5), FAULT_NONE);
    assert_int_equal(fake.opened, 2);
    link_close(&fake.link);
    link_close(&fake.link);
    assert_int_equal(fake.closed, 1);

    assert_int_equal(link_open(&fake.link, 5), FAULT_NONE);
    link_free(&fake.link);
    assert_int_equal(fake.closed, 2);
    assert_int_equal(fake.freed, 1);
    link_free(NULL);
}

static void test_a_stale_link_is_opened_anew(void **state)
{
    (void)state;
    struct fake fake = FAKE(3, 2, 0, 0);
    fake.stale = true;
    assert_int_equal(link_open(&fake.link, 5), FAULT_NONE);
    assert_int_equal(fake.closed, 1);
    assert_int_equal(fake.opened, 1);
    assert_true(fake.link.is_open);

    fake.open_fault = FAULT_CONNECTION;
    assert_int_equal(link_open(&fake.link, 5), FAULT_CONNECTION);
    assert_int_equal(fake.closed, 2);
    assert_false(fake.link.is_open);
}

/* ---- without waiting ---- */

static enum fault begin_read(struct fake *fake, uint16_t count, uint16_t *words)
{
    return link_begin_read(&fake->link, UNIT, POINT_HOLDING, 2000, count, words, TIMEOUT_NS);
}

static void test_a_read_under_way_gives_its_words_at_the_end(void **state)
{
    (void)state;
    struct fake fake = FAKE(3, 4, 0x12, 0x34, 0xab, 0xcd);
    uint16_t words[2] = {99, 99};
    fake.busy = 3;
    assert_int_equal(begin_read(&fake, 2, words), FAULT_NONE);
    for (int i = 0; i < 2; i++) {
        assert_true(fake.link.is_busy);
        assert_int_equal(link_go_on(&fake.link, words), FAULT_NONE);
        assert_int_equal(words[0], 99);
    }
    assert_true(fake.link.is_busy);
    assert_int_equal(link_go_on(&fake.link, words), FAULT_NONE);
    assert_false(fake.link.is_busy);
    assert_int_equal(words[0], 0x1234);
    assert_int_equal(words[1], 0xabcd);
    assert_int_equal(fake.asked, 1);
    /* At once, when there is nothing to wait for. */
    words[0] = 99;
    assert_int_equal(begin_read(&fake, 2, words), FAULT_NONE);
    assert_false(fake.link.is_busy);
    assert_int_equal(words[0], 0x1234);
}

static void test_a_read_under_way_fails_as_any_other(void **state)
{
    (void)state;
    uint16_t word = 99;
    struct fake fake = FAKE(3, 4, 0, 0, 0, 0); /* two registers */
    fake.busy = 1;
    assert_int_equal(begin_read(&fake, 1, &word), FAULT_NONE);
    assert_int_equal(link_go_on(&fake.link, &word), FAULT_BAD_REPLY);
    assert_int_equal(fake.closed, 1);

    fake = FAKE(0x83, 2);
    fake.busy = 1;
    assert_int_equal(begin_read(&fake, 1, &word), FAULT_NONE);
    assert_int_equal(link_go_on(&fake.link, &word), FAULT_ILLEGAL_ADDRESS);
    assert_false(fake.link.is_busy);
    assert_true(fake.link.is_open);

    fake.fault = FAULT_TIMEOUT;
    fake.busy = 1;
    assert_int_equal(begin_read(&fake, 1, &word), FAULT_NONE);
    assert_int_equal(link_go_on(&fake.link, &word), FAULT_TIMEOUT);
    assert_int_equal(fake.closed, 1);
    assert_false(fake.link.is_open || fake.link.is_busy);
    assert_int_equal(begin_read(&fake, 1, &word), FAULT_CONNECTION);
    assert_false(fake.link.is_busy);
    assert_int_equal(word, 99);
}

static void test_opening_under_way(void **state)
{
    (void)state;
    struct fake fake = {.link = {.ops = &ops}, .busy = 2};
    assert_int_equal(link_begin_open(&fake.link, 5), FAULT_NONE);
    assert_int_equal(link_go_on(&fake.link, NULL), FAULT_NONE);
    assert_true(fake.link.is_busy);
    assert_false(fake.link.is_open);
    assert_int_equal(link_go_on(&fake.link, NULL), FAULT_NONE);
    assert_false(fake.link.is_busy);
    assert_true(fake.link.is_open);
    assert_int_equal(link_begin_open(&fake.link, 5), FAULT_NONE);
    assert_int_equal(fake.opened, 1);

    link_close(&fake.link);
    fake.busy = 1;
    fake.open_fault = FAULT_CONNECTION;
    assert_int_equal(link_begin_open(&fake.link, 5), FAULT_NONE);
    assert_int_equal(link_go_on(&fake.link, NULL), FAULT_CONNECTION);
    assert_false(fake.link.is_open || fake.link.is_busy);
    assert_int_equal(fake.closed, 1); /* a link that did not open has nothing to close */
}

static void test_what_is_under_way_may_be_given_up(void **state)
{
    (void)state;
    struct fake fake = {.link = {.ops = &ops}, .busy = 1};
    uint16_t word = 99;
    assert_int_equal(link_begin_open(&fake.link, 5), FAULT_NONE);
    link_close(&fake.link);
    assert_int_equal(fake.closed, 1);
    assert_false(fake.link.is_busy);
    fake.busy = 0;
    assert_int_equal(link_open(&fake.link, 5), FAULT_NONE);
    fake.busy = 1;
    assert_int_equal(begin_read(&fake, 1, &word), FAULT_NONE);
    link_close(&fake.link);
    link_close(&fake.link);
    assert_int_equal(fake.closed, 2);
    assert_false(fake.link.is_open || fake.link.is_busy);
}

/* The calls that wait are loops over the parts. */
static void test_who_waits_needs_no_parts(void **state)
{
    (void)state;
    struct fake fake = {.link = {.ops = &ops}, .busy = 3};
    const uint8_t answer[] = {3, 2, 0, 5}, echo[] = {6, 0x07, 0xd8, 0, 100};
    uint16_t word = 100;
    assert_int_equal(link_open(&fake.link, 5), FAULT_NONE);
    assert_true(fake.link.is_open);
    fake.busy = 3;
    memcpy(fake.reply, echo, fake.reply_size = sizeof echo);
    assert_int_equal(write_registers(&fake, 1, &word), FAULT_NONE);
    fake.busy = 3;
    memcpy(fake.reply, answer, fake.reply_size = sizeof answer);
    assert_int_equal(read_registers(&fake, 1, &word), FAULT_NONE);
    assert_int_equal(word, 5);
    assert_int_equal(fake.asked, 2);
    assert_false(fake.link.is_busy);
}

static void test_a_long_reason_is_cut(void **state)
{
    (void)state;
    struct fake fake = {.link = {.ops = &ops}};
    assert_int_equal(link_fail(&fake.link, FAULT_TIMEOUT, "%0400d", 1), FAULT_TIMEOUT);
    assert_int_equal(strlen(fake.link.error), sizeof fake.link.error - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_the_documented_frame),
        cmocka_unit_test(test_reads_each_table_with_its_function),
        cmocka_unit_test(test_unpacks_bits_lowest_first),
        cmocka_unit_test(test_reads_the_largest_answers),
        cmocka_unit_test(test_reads_no_impossible_count),
        cmocka_unit_test(test_a_read_answer_that_does_not_fit_closes),
        cmocka_unit_test(test_an_exception_is_its_fault_and_keeps_the_link),
        cmocka_unit_test(test_writes_one_register_with_function_6),
        cmocka_unit_test(test_writes_more_registers_with_function_16),
        cmocka_unit_test(test_writes_a_coil_with_function_5),
        cmocka_unit_test(test_writes_by_functions_15_and_16_where_nothing_else_is_taken),
        cmocka_unit_test(test_a_wrong_echo_closes),
        cmocka_unit_test(test_writes_no_broadcast_and_nothing_impossible),
        cmocka_unit_test(test_a_failed_exchange_closes_and_is_not_repeated),
        cmocka_unit_test(test_opens_and_closes_once),
        cmocka_unit_test(test_a_stale_link_is_opened_anew),
        cmocka_unit_test(test_a_read_under_way_gives_its_words_at_the_end),
        cmocka_unit_test(test_a_read_under_way_fails_as_any_other),
        cmocka_unit_test(test_opening_under_way),
        cmocka_unit_test(test_what_is_under_way_may_be_given_up),
        cmocka_unit_test(test_who_waits_needs_no_parts),
        cmocka_unit_test(test_a_long_reason_is_cut),
    };
    return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}
