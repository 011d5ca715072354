#include "devices/lines/step.h"

/* A device that was late once may be a little later the next time. */
enum { LATER_NUMERATOR = 5, LATER_DENOMINATOR = 4 };
/* The least wait, in quarters of the timeout: with one more of them for the answer
 * the line is back within twice the timeout. */
enum { WAIT_QUARTERS = 7, QUARTERS = 4 };
/* What comes when nothing is owed any more was late by no more timeouts than this, if
 * it was late at all. */
enum { LATE_TIMEOUTS = 8 };
/* So long silence does not count, at most. */
static const int64_t SILENCE_MAX_NS = INT64_C(60000000000);

/* Coils, discrete inputs, holding and input registers. */
enum { READ_FIRST = 1, READ_LAST = 4 };

static bool is_known(uint8_t function)
{
    return (function >= READ_FIRST && function <= 6) || function == 15 || function == 16;
}

/* A number before all that are of interest. */
static const uint32_t LONG_AGO = UINT32_C(1) << 30;

/* Reads are 1 to 4, writes 5, 6, 15 and 16. */
static unsigned index_of(uint8_t function)
{
    return (function <= 6 ? function - 1U : function - 9U) % STEP_FUNCTIONS;
}

static bool is_owed(const struct step_unit *unit, unsigned index)
{
    return (unit->owed >> index & 1) != 0;
}

static void owe(struct step *step, struct step_unit *unit, unsigned index, int64_t late_ns)
{
    unit->last[index] = ++step->asked;
    unit->late_ns[index] = late_ns;
    if (!is_owed(unit, index))
        unit->first[index] = unit->last[index];
    unit->owed |= (uint8_t)(1U << index);
}

static int64_t wait_ns(const struct step_unit *unit)
{
    int64_t least_ns = unit->timeout_ns / QUARTERS * WAIT_QUARTERS;
    int64_t later_ns = unit->latest_ns / LATER_DENOMINATOR * LATER_NUMERATOR;
    return later_ns > least_ns ? later_ns : least_ns;
}

/* An answer to one of the requests that this function is owed for: what was asked
 * before the first of them is settled. What looks like the answer to a write may be
 * its echo, and shows nothing. The numbers wrap around. */
static void settle(struct step_unit *unit, unsigned index)
{
    if (index > READ_LAST - READ_FIRST)
        return;
    for (unsigned i = 0; i < STEP_FUNCTIONS; i++) {
        if (is_owed(unit, i) && (int32_t)(unit->last[i] - unit->first[index]) < 0)
            unit->owed &= (uint8_t) ~(1U << i);
    }
}

/* Whether an answer to `other`, asked now, would show that `function` is owed no more. */
static bool settles(const struct step_unit *unit, uint8_t other, uint8_t function)
{
    unsigned index = index_of(other);
    return !is_owed(unit, index) ||
           (int32_t)(unit->first[index] - unit->last[index_of(function)]) > 0;
}

/* The functions that may be asked instead of one: the other kind of register before the
 * bits, the other kind of bit before those. */
enum { OTHERS = READ_LAST - READ_FIRST };

static uint8_t other_of(uint8_t function, unsigned turn)
{
    return (uint8_t)(((function - READ_FIRST) ^ (1 + turn)) + READ_FIRST);
}

/* One that settles it, and that the unit is known to answer; 0 = none. */
static uint8_t known_probe(const struct step_unit *unit, uint8_t function)
{
    for (unsigned turn = 0; turn < OTHERS; turn++) {
        uint8_t other = other_of(function, turn);
        if ((unit->answers >> index_of(other) & 1) != 0 && settles(unit, other, function))
            return other;
    }
    return 0;
}

/* The same for any of these that is owed. */
static uint8_t known_probe_for(const struct step_unit *unit, uint8_t functions)
{
    uint8_t probe = 0;
    for (uint8_t function = READ_FIRST; function <= READ_LAST && probe == 0; function++) {
        if (((functions & unit->owed) >> index_of(function) & 1) != 0)
            probe = known_probe(unit, function);
    }
    return probe;
}

void step_ask(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns, int64_t timeout_ns)
{
    struct step_unit *of = &step->units[unit];
    of->timeout_ns = timeout_ns;
    of->due_ns = now_ns + timeout_ns;
    (void)step_owes(step, unit, function, now_ns);
    if (of->owed == 0)
        of->until_ns = INT64_MAX; /* until it is given up */
    owe(step, of, index_of(function), of->due_ns + wait_ns(of));
    of->missing += (of->answers >> index_of(function) & 1U) != 0;
}

/* The unit has said something: it has to be silent again, but not for as long when it
 * owes nothing more. */
static void wait_again(struct step_unit *unit, int64_t now_ns)
{
    if (unit->missing > 0)
        unit->missing--;
    int64_t until_ns = now_ns + (unit->missing > 0 ? wait_ns(unit) : unit->timeout_ns / QUARTERS);
    if (unit->until_ns < until_ns || unit->until_ns == INT64_MAX)
        unit->until_ns = until_ns;
}

void step_answer(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns)
{
    struct step_unit *of = &step->units[unit];
    unsigned index = index_of(function);
    settle(of, index);
    if (function <= READ_LAST)
        of->answers |= (uint8_t)(1U << index);
    if (of->first[index] == of->last[index])
        of->owed &= (uint8_t) ~(1U << index);
    wait_again(of, now_ns);
    if (of->owed == 0)
        of->until_ns = of->missing = 0;
}

void step_miss(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns)
{
    struct step_unit *of = &step->units[unit];
    unsigned index = index_of(function);
    if (!is_owed(of, index)) /* the time of what was owed before it has ended meanwhile */
        of->first[index] = of->last[index];
    of->owed |= (uint8_t)(1U << index);
    of->missed_ns = now_ns > of->due_ns ? now_ns : of->due_ns; /* given up before its time */
    of->until_ns = of->missed_ns + wait_ns(of);
}

void step_hear(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns)
{
    struct step_unit *of = &step->units[unit];
    unsigned index = index_of(function);
    if (of->timeout_ns == 0 || !is_known(function))
        return; /* another master's device, or question */
    int64_t late_ns = now_ns - of->missed_ns;
    bool owed = step_owes(step, unit, function, now_ns);
    if (of->missed_ns != 0 && late_ns > of->latest_ns &&
        (owed || late_ns <= LATE_TIMEOUTS * of->timeout_ns))
        of->latest_ns = late_ns;
    if (!owed) {
        /* Who answers twice may do so again; and nobody knows what this one is to. */
        owe(step, of, index, now_ns + wait_ns(of));
        of->first[index] -= LONG_AGO;
        of->missing += 2;
    } else {
        of->late_ns[index] = 0; /* it may be this one: from here on it is the unit's silence */
    }
    wait_again(of, now_ns);
}

uint8_t step_probe(const struct step *step, uint8_t unit, uint8_t function)
{
    const struct step_unit *of = &step->units[unit];
    uint8_t probe = known_probe(of, function);
    if (probe == 0) /* one that settles what could settle it then, */
        probe = known_probe_for(of, of->answers);
    if (probe == 0) /* or at least something, */
        probe = known_probe_for(of, UINT8_MAX);
    /* or that would, if the unit answers it. */
    for (unsigned turn = 0; turn < OTHERS && probe == 0; turn++) {
        if (settles(of, other_of(function, turn), function))
            probe = other_of(function, turn);
    }
    return probe;
}

/* What was asked long enough ago comes no more; a probe may have been since. */
static void forget(struct step_unit *unit, int64_t now_ns)
{
    for (unsigned i = 0; i < STEP_FUNCTIONS; i++) {
        if (now_ns >= unit->late_ns[i])
            unit->owed &= (uint8_t) ~(1U << i);
    }
}

bool step_owes(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns)
{
    struct step_unit *of = &step->units[unit];
    bool answers_several = (of->answers & (of->answers - 1)) != 0;
    bool silence_counts = !answers_several && known_probe_for(of, UINT8_MAX) == 0;
    if (now_ns >= of->until_ns && (silence_counts || now_ns - of->until_ns >= SILENCE_MAX_NS))
        forget(of, now_ns);
    if (of->owed == 0)
        of->missing = 0;
    return is_owed(of, index_of(function));
}

int64_t step_until_ns(const struct step *step, uint8_t unit)
{
    return step->units[unit].until_ns;
}
