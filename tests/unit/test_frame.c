/* Frames against bytes from the specifications, and in every piece they may come in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "devices/lines/frame.h"

/* Unit 1, ten registers from 2000: the documented request. */
static const struct frame request = {.id = 1, .unit = 1, .size = 5, .pdu = {3, 0x07, 0xd0, 0, 10}};

/* Answers: unit 7, one register, 5. The LRC of ASCII is 100h - (07 + 03 + 02 + 05). */
static const struct sample {
    enum device_framing framing;
    size_t size;
    uint8_t bytes[24];
} answers[] = {
    {DEVICE_TCP, 11, {0x12, 0x34, 0, 0, 0, 5, 7, 3, 2, 0, 5}},
    {DEVICE_RTU, 7, {7, 3, 2, 0, 5, 0xf0, 0x47}},
    {DEVICE_ASCII, 15, ":0703020005EF\r\n"},
};
enum { FRAMINGS = sizeof answers / sizeof *answers };

static enum frame_state take(enum device_framing framing, const uint8_t *bytes, size_t n,
                             size_t *used, struct frame *frame)
{
    const char *why = "";
    enum frame_state state = frame_take(framing, bytes, n, used, frame, &why);
    assert_true(*used <= n);
    assert_true(state != FRAME_BROKEN || *why != '\0');
    return state;
}

static void test_puts_the_documented_request(void **state)
{
    (void)state;
    static const uint8_t tcp[] = {0, 1, 0, 0, 0, 6, 1, 3, 0x07, 0xd0, 0, 10};
    static const uint8_t rtu[] = {1, 3, 0x07, 0xd0, 0, 10, 0xc5, 0x40};
    uint8_t bytes[FRAME_MAX];
    assert_int_equal(frame_put(DEVICE_TCP, &request, bytes), sizeof tcp);
    assert_memory_equal(bytes, tcp, sizeof tcp);
    assert_int_equal(frame_put(DEVICE_RTU, &request, bytes), sizeof rtu);
    assert_memory_equal(bytes, rtu, sizeof rtu);
    assert_int_equal(frame_put(DEVICE_ASCII, &request, bytes), 17);
    assert_memory_equal(bytes, ":010307D0000A1B\r\n", 17);
}

static void test_takes_an_answer_when_it_is_whole(void **state)
{
    (void)state;
    for (unsigned i = 0; i < FRAMINGS; i++) {
        struct frame frame = {0};
        size_t used;
        for (size_t n = 0; n < answers[i].size; n++) {
            assert_int_equal(take(answers[i].framing, answers[i].bytes, n, &used, &frame),
                             FRAME_PART);
            assert_int_equal(used, 0);
        }
        uint8_t more[32] = {0};
        memcpy(more, answers[i].bytes, answers[i].size);
        assert_int_equal(take(answers[i].framing, more, sizeof more, &used, &frame), FRAME_WHOLE);
        assert_int_equal(used, answers[i].size);
        assert_int_equal(frame.unit, 7);
        assert_int_equal(frame.size, 4);
        assert_memory_equal(frame.pdu, ((uint8_t[]){3, 2, 0, 5}), 4);
        assert_int_equal(frame.id, answers[i].framing == DEVICE_TCP ? 0x1234 : 0);
    }
}

static void test_the_largest_answer(void **state)
{
    (void)state;
    struct frame whole = {.id = 9, .unit = 200, .size = 252, .pdu = {3, 250}}, frame = {0};
    for (unsigned i = 2; i < whole.size; i++)
        whole.pdu[i] = (uint8_t)(i * 7);
    for (enum device_framing framing = DEVICE_TCP; framing <= DEVICE_ASCII; framing++) {
        uint8_t bytes[FRAME_MAX];
        size_t used, n = frame_put(framing, &whole, bytes);
        assert_int_equal(take(framing, bytes, n - 1, &used, &frame), FRAME_PART);
        assert_int_equal(take(framing, bytes, n, &used, &frame), FRAME_WHOLE);
        assert_int_equal(used, n);
        assert_int_equal(frame.size, whole.size);
        assert_memory_equal(frame.pdu, whole.pdu, whole.size);
    }
}

/* Every bit turned over, one after the other: never another answer. */
static void test_a_turned_bit_is_seen(void **state)
{
    (void)state;
    for (unsigned i = 1; i < FRAMINGS; i++) {
        for (size_t bit = 0; bit < 8 * answers[i].size; bit++) {
            uint8_t bytes[sizeof answers[i].bytes];
            struct frame frame = {0};
            size_t used;
            memcpy(bytes, answers[i].bytes, sizeof bytes);
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            bool whole =
                take(answers[i].framing, bytes, answers[i].size, &used, &frame) == FRAME_WHOLE;
            /* The eighth bit of ASCII may be a parity, and its letters may be small. */
            bool harmless = answers[i].framing == DEVICE_ASCII &&
                            (bit % 8 == 7 || (bit % 8 == 5 && answers[i].bytes[bit / 8] > ':'));
            assert_int_equal(whole, harmless);
            assert_true(!whole || (frame.unit == 7 && frame.pdu[3] == 5));
        }
    }
}

static void test_an_impossible_header(void **state)
{
    (void)state;
    static const uint8_t headers[][7] = {{0, 1, 0, 1, 0, 5, 7},
                                         {0, 1, 0, 0, 0, 1, 7},
                                         {0, 1, 0, 0, 0, 255, 7},
                                         {0, 1, 0, 0, 1, 5, 7}};
    for (unsigned i = 0; i < sizeof headers / sizeof *headers; i++) {
        struct frame frame;
        size_t used;
        assert_int_equal(take(DEVICE_TCP, headers[i], 7, &used, &frame), FRAME_BROKEN);
    }
}

/* Such as "report server id", which a simulated device refuses. */
static void test_a_function_alone(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0, 1, 0, 0, 0, 2, 7, 0x11};
    struct frame frame;
    size_t used;
    assert_int_equal(take(DEVICE_TCP, bytes, sizeof bytes, &used, &frame), FRAME_WHOLE);
    assert_int_equal(used, sizeof bytes);
    assert_int_equal(frame.size, 1);
}

/* What line drivers make when they are switched is no part of a frame. */
static void test_garbage_in_front(void **state)
{
    (void)state;
    for (unsigned i = 1; i < FRAMINGS; i++) {
        uint8_t bytes[32] = {0x00, 0xff, 0xff};
        struct frame frame = {0};
        size_t used;
        assert_int_equal(take(answers[i].framing, bytes, 3, &used, &frame), FRAME_PART);
        assert_int_equal(used, 3);
        memcpy(bytes + 3, answers[i].bytes, answers[i].size);
        assert_int_equal(take(answers[i].framing, bytes, 3 + answers[i].size, &used, &frame),
                         FRAME_WHOLE);
        assert_int_equal(used, 3 + answers[i].size);
        assert_int_equal(frame.unit, 7);
    }
}

static void test_what_is_no_answer(void **state)
{
    (void)state;
    static const struct sample rows[] = {
        {DEVICE_RTU, 3, {7, 7, 0}},              /* a function that nobody asked for */
        {DEVICE_RTU, 3, {7, 3, 0}},              /* no register at all */
        {DEVICE_RTU, 3, {7, 3, 252}},            /* more than fit a frame */
        {DEVICE_ASCII, 5, ":07\r\n"},            /* no PDU */
        {DEVICE_ASCII, 16, ":070302000EF0\r\n"}, /* an odd sum */
        {DEVICE_ASCII, 14, ":0703020005E\r\n"},  /* half a byte */
        {DEVICE_ASCII, 15, ":07030200x5EF\r\n"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct frame frame;
        size_t used;
        assert_int_equal(take(rows[i].framing, rows[i].bytes, rows[i].size, &used, &frame),
                         FRAME_BROKEN);
    }
    uint8_t endless[2 * FRAME_MAX];
    struct frame frame;
    size_t used;
    memset(endless, '0', sizeof endless);
    assert_int_equal(take(DEVICE_ASCII, endless, sizeof endless, &used, &frame), FRAME_PART);
    assert_int_equal(used, sizeof endless);
    endless[0] = ':';
    assert_int_equal(take(DEVICE_ASCII, endless, sizeof endless, &used, &frame), FRAME_BROKEN);
}

/* A colon begins a frame wherever it stands (Serial Line V1.02, 2.5.2.1). */
static void test_a_frame_that_begins_anew(void **state)
{
    (void)state;
    static const uint8_t text[] = "x:0703:0703020005EF\r\n";
    struct frame frame;
    size_t used;
    assert_int_equal(take(DEVICE_ASCII, text, sizeof text - 1, &used, &frame), FRAME_WHOLE);
    assert_int_equal(used, sizeof text - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_puts_the_documented_request),
        cmocka_unit_test(test_takes_an_answer_when_it_is_whole),
        cmocka_unit_test(test_the_largest_answer),
        cmocka_unit_test(test_a_turned_bit_is_seen),
        cmocka_unit_test(test_an_impossible_header),
        cmocka_unit_test(test_a_function_alone),
        cmocka_unit_test(test_garbage_in_front),
        cmocka_unit_test(test_what_is_no_answer),
        cmocka_unit_test(test_a_frame_that_begins_anew),
    };
    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
