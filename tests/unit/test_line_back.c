/* What a missing answer costs: by a clock of our own, on every kind of line.
 *
 * hostile_line.h has the line and its devices. Nothing goes wrong but what a test says. */
#include "hostile_line.h"

#include "devices/lines/line.h"

enum { QUESTIONS = 40, MINUTES = 2 };

/* The longest that a device takes, in hostile_line.h, and the silence in front. */
static int64_t normal_ns(const struct link *link)
{
    return TIMEOUT_NS / 4 + ((const struct line *)link)->gap_ns + MS;
}

/* One question; how long it took. */
static int64_t ask_one(struct link *link, uint8_t unit, enum fault *fault)
{
    const int64_t start_ns = world.now_ns;
    uint16_t words[LINK_READ_MAX] = {0};
    const struct block *block = &blocks[++world.question % 2 == 0 ? 1 : 3];
    *fault = link_open(link, TIMEOUT_NS);
    if (*fault == FAULT_NONE)
        *fault =
            link_read(link, unit, block->table, block->address, block->count, words, TIMEOUT_NS);
    if (*fault == FAULT_NONE)
        assert_int_equal(words[0], value_of(unit, block->table, block->address, world.question));
    return world.now_ns - start_ns;
}

static void ask_in_peace(struct link *link)
{
    enum fault fault;
    for (unsigned i = 0; i < QUESTIONS; i++) {
        assert_in_range(ask_one(link, (uint8_t)(1 + i % UNITS), &fault), 0, normal_ns(link));
        assert_int_equal(fault, FAULT_NONE);
    }
}

/* From the end of its timeout, or when it came at last, to the next good one. */
static int64_t back_after_ns(struct link *link, enum mishap mishap)
{
    enum fault fault;
    int64_t since_ns = world.now_ns + TIMEOUT_NS;
    world.once = true;
    world.then = mishap;
    ask_one(link, 1, &fault);
    if (world.devices[0].busy_until_ns > since_ns)
        since_ns = world.devices[0].busy_until_ns;
    for (unsigned i = 0; i < 100 && fault != FAULT_NONE; i++)
        ask_one(link, 1, &fault);
    assert_int_equal(fault, FAULT_NONE);
    return world.now_ns > since_ns ? world.now_ns - since_ns : 0;
}

typedef void body(struct link *link);

/* Runs it on every kind of line without pauses that somebody wants, with devices of every manner
 * but one that answers nothing else, of which the line knows nothing yet. */
static void on_every_line(body *run)
{
    for (unsigned k = 0; k < WITHOUT_PAUSES; k++) /* those come on top */
        for (unsigned manner = ANSWERS; manner < DEAF; manner++)
            for (unsigned drops = 0; drops < 2; drops++) {
                struct kind placed = kinds[k];
                const struct terminal terminal = place_line(&placed);
                struct link *link = open_world(&placed, k * 10 + manner);
                world.calm = true;
                for (unsigned i = 0; i < UNITS; i++)
                    world.devices[i] =
                        (struct unit){.drops = drops != 0, .manner = (enum manner)manner};
                run(link);
                world.caught = false;
                link_free(link);
                take_line_away(&terminal);
            }
}

static void peace(struct link *link)
{
    ask_in_peace(link);
}

static void test_nothing_is_waited_for_as_long_as_all_is_answered(void **state)
{
    (void)state;
    on_every_line(peace);
}

/* Of all lines and mishaps, once it is known what else the device answers. */
static int64_t longest_ns;

static void lost_one(struct link *link)
{
    /* The first time it is found out what else the device answers. */
    assert_in_range(back_after_ns(link, LOST), 0, 4 * TIMEOUT_NS);
    static const enum mishap mishaps[] = {LOST, UNANSWERED, LATE, CUT, REFUSED};
    for (unsigned i = 0; i < sizeof mishaps / sizeof *mishaps; i++) {
        /* One whose silence counts is waited for as long as it was ever late. */
        if (mishaps[i] == LATE && world.devices[0].manner == STRICT)
            continue;
        const int64_t back_ns = back_after_ns(link, mishaps[i]);
        assert_in_range(back_ns, 0, 2 * TIMEOUT_NS);
        longest_ns = back_ns > longest_ns ? back_ns : longest_ns;
        ask_in_peace(link);
    }
}

static void test_back_within_twice_the_timeout(void **state)
{
    (void)state;
    on_every_line(lost_one);
    print_message("back after at most %.2f of the device's timeout\n",
                  (double)longest_ns / (double)TIMEOUT_NS);
}

static void neighbour(struct link *link)
{
    enum fault fault;
    ask_in_peace(link);
    world.once = true;
    world.then = LOST;
    ask_one(link, 1, &fault);
    assert_int_equal(fault, FAULT_TIMEOUT);
    assert_in_range(ask_one(link, 2, &fault), 0, normal_ns(link));
    assert_int_equal(fault, FAULT_NONE);
}

static void test_a_neighbour_does_not_wait(void **state)
{
    (void)state;
    on_every_line(neighbour);
}

/* A unit that answers nothing but what it is usually asked costs a minute, twice, and then
 * no more than another. */
static void test_one_that_answers_nothing_else(void **state)
{
    (void)state;
    struct link *link = open_world(&kinds[RTU_OVER_TCP], 0);
    world.calm = true;
    world.devices[0].manner = world.devices[1].manner = DEAF;
    ask_in_peace(link);
    for (unsigned i = 0; i < MINUTES; i++) {
        enum fault fault = FAULT_TIMEOUT;
        world.once = true;
        world.then = LOST;
        ask_one(link, 1, &fault);
        const int64_t start_ns = world.now_ns;
        while (fault != FAULT_NONE)
            ask_one(link, 1, &fault);
        assert_in_range(world.now_ns - start_ns, 60000 * MS, 62000 * MS);
    }
    assert_in_range(back_after_ns(link, LOST), TIMEOUT_NS, 2 * TIMEOUT_NS);
    world.caught = false;
    link_free(link);
}

/* A device that loses the first request after a pause is read by the second attempt, a
 * second later: there the question that shows the line in step is what it loses. With
 * numbers, or when it refuses all other questions, the pause has to be a shorter one. */
static void sleeper(struct link *link)
{
    enum fault fault;
    if (endpoint_has_ids(&world.kind->modbus) || world.devices[0].manner == STRICT)
        return;
    world.devices[0].sleeps_after_ns = 500 * MS;
    for (unsigned i = 0; i < QUESTIONS; i++) {
        world.now_ns += 10000 * MS;
        ask_one(link, 1, &fault);
        assert_int_equal(fault, FAULT_TIMEOUT);
        world.now_ns += 1000 * MS;
        assert_in_range(ask_one(link, 1, &fault), 0, 3 * TIMEOUT_NS);
        assert_int_equal(fault, FAULT_NONE);
    }
}

static void test_a_device_that_sleeps_between_polls(void **state)
{
    (void)state;
    on_every_line(sleeper);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_waited_for_as_long_as_all_is_answered),
        cmocka_unit_test(test_back_within_twice_the_timeout),
        cmocka_unit_test(test_a_neighbour_does_not_wait),
        cmocka_unit_test(test_one_that_answers_nothing_else),
        cmocka_unit_test(test_a_device_that_sleeps_between_polls),
    };
    return cmocka_run_group_tests_name("line_back", tests, NULL, NULL);
}
