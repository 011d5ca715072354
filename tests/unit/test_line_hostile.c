/* Lines on which everything goes wrong, and not one wrong value.
 *
 * Two devices answer late, not at all, twice, in part, after an echo or a stranger's
 * word, in every framing, as a seeded die falls (hostile_line.h); two hundred thousand
 * questions in all. A value that answers anything but the question at hand is seen at
 * once.
 *
 * What is taken for granted where answers bear no number, because no line could be read
 * without it:
 *  - a device answers what it is asked one after the other, or not at all. Answers of
 *    several devices may come in any order;
 *  - an answer that came in time comes again within a millisecond, or before request_gap
 *    is over, or never; one that came late at any time before the device's next;
 *  - a device is late by a second, 25 times the timeout, at most: it may be a minute;
 *  - one that neither answers for another table nor gives registers in another number
 *    than it always does is late by no more than 2.4 times the timeout. If it refuses
 *    the other number, the line is back at once; if it says nothing, after a minute for
 *    the first two times, and then after 1.5 times the timeout;
 *  - nobody else asks the same devices for the same. */
#include "hostile_line.h"

enum { ROUNDS = 25, QUESTIONS = 500, CALM = 200, SETPOINT = 2008 };

/* ---- questions ---- */

static const int64_t A_MINUTE_NS = 62000 * MS;
static unsigned wrong, good, failed;

static void ask_to_read(struct link *link, uint8_t unit, const struct block *block)
{
    uint16_t words[LINK_READ_MAX] = {0};
    enum fault fault =
        link_read(link, unit, block->table, block->address, block->count, words, TIMEOUT_NS);
    if (fault != FAULT_NONE) {
        failed++;
        return;
    }
    for (unsigned i = 0; i < block->count; i++)
        wrong += words[i] != value_of(unit, block->table, block->address + i, world.question);
    good++;
}

static void ask_to_write(struct link *link, uint8_t unit)
{
    uint16_t word = (uint16_t)world.question;
    if (link_write(link, unit, POINT_HOLDING, SETPOINT, 1, &word, TIMEOUT_NS) == FAULT_NONE) {
        wrong += world.devices[unit - 1].setpoint != word;
        good++;
    } else {
        failed++;
    }
}

static void ask_something(struct link *link)
{
    const uint8_t unit = (uint8_t)(1 + roll() % UNITS);
    const bool all_tables = world.devices[unit - 1].manner == ANSWERS;
    world.question++;
    if (link_open(link, TIMEOUT_NS) != FAULT_NONE)
        failed++;
    else if (roll() % 10 == 0)
        ask_to_write(link, unit);
    else
        ask_to_read(link, unit, &blocks[roll() % (all_tables ? BLOCKS : 4)]);
    if (roll() % 4 == 0)
        world.now_ns += between(0, 20 * MS); /* the next poll */
    if (roll() % 100 == 0)
        world.now_ns += A_MINUTE_NS; /* after which silence is believed of anybody */
}

/* ---- rounds ---- */

/* FLUXBRIDGE_SEED=n falls otherwise. */
static uint64_t seed(void)
{
    const char *text = getenv("FLUXBRIDGE_SEED");
    return text != NULL ? strtoull(text, NULL, 10) * 1000 : 0;
}

static void play(const struct kind *kind, unsigned round)
{
    struct link *link = open_world(kind, seed() + round);
    for (unsigned i = 0; i < UNITS; i++)
        world.devices[i] =
            (struct unit){.drops = roll() % 2 == 0, .manner = (enum manner)(roll() % MANNERS)};
    for (unsigned i = 0; i < QUESTIONS; i++)
        ask_something(link);
    world.calm = true;
    for (unsigned i = 0; i < CALM; i++) {
        if (i == CALM / 4)
            world.now_ns += A_MINUTE_NS; /* all that was under way comes */
        if (i == CALM / 2)
            failed = 0; /* by now the line must be in step again */
        ask_something(link);
    }
    world.caught = false;
    link_free(link);
}

static void test_no_value_is_wrong(void **state)
{
    const struct kind *kind = *state;
    struct kind placed = *kind;
    const struct terminal terminal = place_line(&placed);
    unsigned happened[MISHAPS] = {0};
    wrong = good = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        play(&placed, round);
        for (unsigned i = 0; i < MISHAPS; i++)
            happened[i] += world.happened[i];
        if (wrong > 0)
            print_error("%s: round %u: %u wrong values\n", kind->name, round, wrong);
        assert_int_equal(wrong, 0);
        assert_int_equal(failed, 0);
    }
    print_message("%s: %u of %u questions answered, none of them wrong\n", kind->name, good,
                  ROUNDS * (QUESTIONS + CALM));
    assert_in_range(good, ROUNDS * (QUESTIONS + CALM) / 2, ROUNDS * (QUESTIONS + CALM));
    for (unsigned i = 0; i < MISHAPS; i++) {
        bool none = (i == FOREIGN_NUMBER && !endpoint_has_ids(&kind->modbus)) ||
                    (i == HUNG_UP && terminal.master != -1) ||
                    (i == NOISE && kind->modbus.framing == DEVICE_TCP);
        assert_true((happened[i] == 0) == none);
    }
    take_line_away(&terminal);
}

int main(void)
{
    struct CMUnitTest tests[KINDS];
    for (size_t i = 0; i < KINDS; i++)
        tests[i] = (struct CMUnitTest){
            .name = kinds[i].name, .test_func = test_no_value_is_wrong, .initial_state = &kinds[i]};
    return cmocka_run_group_tests_name("line_hostile", tests, NULL, NULL);
}
