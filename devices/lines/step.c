#include "devices/lines/step.h"

/* A device that was late once may be a little later the next time. */
enum { LATER_NUMERATOR = 5, LATER_DENOMINATOR = 4 };
/* The least wait, in quarters of the timeout: with one for what the unit says in front of
 * it, and one for the answer behind it, the line is back within twice the timeout. */
enum { WAIT_QUARTERS = 6, QUARTERS = 4 };
/* No answer counts as later than so many timeouts: it may have come long before it was
 * looked for. When nothing is owed any more it was not late at all then. */
enum { LATE_TIMEOUTS = 8 };
/* So long silence does not count, at most. */
static const int64_t SILENCE_MAX_NS = INT64_C(60000000000);
/* And half of it must probes by length have been asked in vain before the usual question
 * was answered, twice, for the unit to be known as one that ignores them. */
enum { MUTE = 2 };

/* Coils, discrete inputs, holding and input registers. */
enum { READ_FIRST = 1, BITS_LAST = 2, READ_LAST = 4, WORDS_MAX = 125, BYTE = 8 };

/* A number before all that are of interest. */
static const uint32_t LONG_AGO = UINT32_C(1) << 30;

static bool is_known(uint8_t function)
{
    return (function >= READ_FIRST && function <= 6) || function == 15 || function == 16;
}

static bool is_read(uint8_t function)
{
    return function >= READ_FIRST && function <= READ_LAST;
}

/* Reads are 1 to 4, writes 5, 6, 15 and 16. */
static unsigned kind_of(uint8_t function)
{
    return (function <= 6 ? function - 1U : function - 9U) % STEP_LENGTH;
}

static unsigned probe_kind(struct step_probe probe)
{
    return probe.by_length || probe.function == 0 ? STEP_LENGTH : kind_of(probe.function);
}

static uint16_t bit(unsigned kind)
{
    return (uint16_t)(1U << kind);
}

static bool is_owed(const struct step_unit *unit, unsigned kind)
{
    return (unit->owed & bit(kind)) != 0;
}

/* Whether an answer that is owed may look like one of this function's. */
static bool is_in_the_way(const struct step_unit *unit, uint8_t function)
{
    return is_owed(unit, kind_of(function)) ||
           (is_owed(unit, STEP_LENGTH) && unit->length_function == function);
}

static void settle_kind(struct step_unit *unit, unsigned kind)
{
    unit->owed &= (uint16_t)~bit(kind);
    if (kind == STEP_LENGTH)
        unit->n_lengths = 0;
    if (unit->owed == 0) {
        unit->refused = false;
        unit->tried_ns = 0;
    }
}

static void owe(struct step *step, struct step_unit *unit, unsigned kind, int64_t late_ns)
{
    unit->last[kind] = ++step->asked;
    unit->late_ns[kind] = late_ns;
    if (!is_owed(unit, kind))
        unit->first[kind] = unit->last[kind];
    unit->owed |= bit(kind);
}

static int64_t wait_ns(const struct step_unit *unit)
{
    int64_t least_ns = unit->timeout_ns / QUARTERS * WAIT_QUARTERS;
    int64_t later_ns = unit->latest_ns / LATER_DENOMINATOR * LATER_NUMERATOR;
    return later_ns > least_ns ? later_ns : least_ns;
}

/* An answer to one of the requests that this kind is owed for: what was asked before
 * the first of them is settled. What looks like the answer to a write may be its echo,
 * and shows nothing. The numbers wrap around. */
static void settle(struct step_unit *unit, unsigned kind)
{
    if (kind >= READ_LAST && kind != STEP_LENGTH)
        return;
    for (unsigned i = 0; i < STEP_KINDS; i++) {
        if (is_owed(unit, i) && (int32_t)(unit->last[i] - unit->first[kind]) < 0)
            settle_kind(unit, i);
    }
}

/* ---- probes ---- */

/* Something is asked with this length. */
static void note_length(struct step_unit *unit, uint8_t function, uint16_t count)
{
    if (!is_read(function))
        return;
    unsigned length = function <= BITS_LAST ? (count + BYTE - 1U) / BYTE : count;
    if (length > WORDS_MAX)
        length = WORDS_MAX;
    if (unit->shortest == 0 || length < unit->shortest)
        unit->shortest = (uint8_t)length;
    if (length > unit->longest)
        unit->longest = (uint8_t)length;
}

/* Lengths that nothing is asked with. */
static unsigned count_lengths(const struct step_unit *unit)
{
    return unit->shortest == 0 ? 0 : unit->shortest - 1U + WORDS_MAX - unit->longest;
}

/* Whether an answer of a kind, asked now, would show that nothing is in the way of a
 * function any more. */
static bool settles(const struct step_unit *unit, unsigned kind, uint8_t function)
{
    const unsigned ways[] = {kind_of(function), STEP_LENGTH};
    bool all = true;
    for (unsigned i = 0; i < 2 && is_owed(unit, kind); i++) {
        bool in_the_way = is_owed(unit, ways[i]) && (i == 0 || unit->length_function == function);
        all = all && (!in_the_way || (int32_t)(unit->first[kind] - unit->last[ways[i]]) > 0);
    }
    return all;
}

/* The next of them, downwards from the shortest and then upwards from the longest. */
static uint8_t next_length(const struct step_unit *unit)
{
    unsigned length = unit->length;
    if (length > 1 && length <= unit->shortest)
        return (uint8_t)(length - 1);
    if (length > unit->longest && length < WORDS_MAX)
        return (uint8_t)(length + 1);
    if (length == 1 && unit->longest < WORDS_MAX)
        return (uint8_t)(unit->longest + 1);
    return (uint8_t)(unit->shortest > 1 ? unit->shortest - 1 : unit->longest + 1);
}

/* Whether a probe by length that is owed may be asked again: the answer to either shows
 * that the function is owed no more, if it is. */
static bool is_length_of_use(const struct step_unit *unit, uint8_t function)
{
    return is_owed(unit, STEP_LENGTH) && unit->length_function == function &&
           is_owed(unit, kind_of(function)) &&
           (int32_t)(unit->first[STEP_LENGTH] - unit->last[kind_of(function)]) > 0;
}

static struct step_probe probe_by_length(const struct step_unit *unit, uint8_t function)
{
    bool again = is_length_of_use(unit, function);
    if (is_owed(unit, STEP_LENGTH) && unit->length_function != function)
        return (struct step_probe){0};
    if (unit->unmoved || (!again && unit->n_lengths >= count_lengths(unit)))
        return (struct step_probe){0};
    uint8_t length = again ? unit->length : next_length(unit);
    return (struct step_probe){
        .function = function,
        .by_length = true,
        .count = (uint16_t)(function <= BITS_LAST ? length * BYTE : length),
    };
}

/* What may be asked instead of a function: the other kind of register before another
 * length, that before the bits, the other kind of bit before those. */
enum { BITS_TURN = 2, TURNS = 4 };

static struct step_probe turn_to(const struct step_unit *unit, uint8_t function, unsigned turn)
{
    static const uint8_t others[TURNS] = {1, 0, 2, 3};
    if (others[turn] == 0)
        return probe_by_length(unit, function);
    uint8_t other = (uint8_t)(((function - READ_FIRST) ^ others[turn]) + READ_FIRST);
    if (!settles(unit, kind_of(other), function) ||
        (is_owed(unit, STEP_LENGTH) && unit->length_function == other))
        return (struct step_probe){0};
    return (struct step_probe){.function = other, .count = 1};
}

/* The first of those that the unit is known to answer; else another length if it is
 * refused at once; else the one of the first two that was not asked for longer, or any. */
static struct step_probe probe_for(const struct step_unit *unit, uint8_t function, bool known)
{
    struct step_probe best = {0};
    for (unsigned turn = 0; is_read(function) && turn < TURNS; turn++) {
        struct step_probe probe = turn_to(unit, function, turn);
        unsigned kind = probe_kind(probe), best_kind = probe_kind(best);
        if (probe.function == 0 || (known && (unit->answers & bit(kind)) == 0))
            continue;
        bool longer =
            is_owed(unit, best_kind) &&
            (!is_owed(unit, kind) || (int32_t)(unit->last[kind] - unit->last[best_kind]) < 0);
        longer = longer || (probe.by_length && unit->refuses);
        if (best.function == 0 || (longer && !known && turn < BITS_TURN))
            best = probe;
    }
    return best;
}

/* The same, known, for any of these that is owed. */
static struct step_probe known_probe_for(const struct step_unit *unit, uint16_t functions)
{
    struct step_probe probe = {0};
    for (uint8_t function = READ_FIRST; function <= READ_LAST && probe.function == 0; function++) {
        if ((functions & bit(kind_of(function))) != 0 && is_in_the_way(unit, function))
            probe = probe_for(unit, function, true);
    }
    return probe;
}

static bool silence_counts(const struct step_unit *unit)
{
    bool answers_several = (unit->answers & (unit->answers - 1)) != 0;
    return unit->mute >= MUTE ||
           (unit->refused && !answers_several && known_probe_for(unit, UINT16_MAX).function == 0);
}

struct step_probe step_probe(struct step *step, uint8_t unit, uint8_t function, uint16_t count)
{
    struct step_unit *of = &step->units[unit];
    note_length(of, function, count);
    struct step_probe probe = {0};
    if (silence_counts(of))
        return probe; /* and another word would break it */
    probe = probe_for(of, function, true);
    if (probe.function == 0) /* one that settles what could settle it then, */
        probe = known_probe_for(of, of->answers);
    if (probe.function == 0) /* or at least something, */
        probe = known_probe_for(of, UINT16_MAX);
    if (probe.function == 0) /* or that would, if the unit answers it. */
        probe = probe_for(of, function, false);
    return probe;
}

/* ---- what happens ---- */

static void ask(struct step *step, uint8_t unit, unsigned kind, int64_t now_ns, int64_t timeout_ns)
{
    struct step_unit *of = &step->units[unit];
    (void)step_owes(step, unit, READ_FIRST, now_ns);
    of->timeout_ns = timeout_ns;
    of->due_ns = now_ns + timeout_ns;
    if (of->owed == 0)
        of->until_ns = INT64_MAX; /* until it is given up */
    owe(step, of, kind, of->due_ns + wait_ns(of));
    of->missing += (of->answers & bit(kind)) != 0;
}

void step_ask(struct step *step, uint8_t unit, uint8_t function, uint16_t count, int64_t now_ns,
              int64_t timeout_ns)
{
    struct step_unit *of = &step->units[unit];
    ask(step, unit, kind_of(function), now_ns, timeout_ns);
    of->refused = of->refused && !is_read(function); /* what it refused was another time */
    note_length(of, function, count);
}

void step_ask_probe(struct step *step, uint8_t unit, struct step_probe probe, int64_t now_ns,
                    int64_t timeout_ns)
{
    struct step_unit *of = &step->units[unit];
    bool fresh = probe.by_length && !is_length_of_use(of, probe.function);
    ask(step, unit, probe_kind(probe), now_ns, timeout_ns);
    if (probe.by_length && of->tried_ns == 0)
        of->tried_ns = now_ns;
    of->missing += probe.by_length && (of->answers & bit(STEP_LENGTH)) == 0;
    if (!fresh)
        return;
    of->first[STEP_LENGTH] = of->last[STEP_LENGTH]; /* its answer settles those of before, too */
    of->n_lengths++;
    of->length = (uint8_t)(probe.function <= BITS_LAST ? probe.count / BYTE : probe.count);
    of->length_function = probe.function;
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

static void answer(struct step_unit *unit, unsigned kind, int64_t now_ns)
{
    settle(unit, kind);
    if (kind < READ_LAST || kind == STEP_LENGTH)
        unit->answers |= bit(kind);
    if (unit->first[kind] == unit->last[kind])
        settle_kind(unit, kind);
    wait_again(unit, now_ns);
    if (unit->owed == 0)
        unit->until_ns = unit->missing = 0;
}

void step_answer(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns)
{
    struct step_unit *of = &step->units[unit];
    of->mute = (uint8_t)(of->mute + (of->unmoved && of->mute < MUTE));
    of->unmoved = false;
    answer(of, kind_of(function), now_ns);
}

void step_answer_probe(struct step *step, uint8_t unit, struct step_probe probe, int64_t now_ns)
{
    struct step_unit *of = &step->units[unit];
    of->unmoved = false;
    of->mute = 0;
    answer(of, probe_kind(probe), now_ns);
}

static void miss(struct step_unit *unit, unsigned kind, int64_t now_ns)
{
    if (!is_owed(unit, kind)) /* the time of what was owed before it has ended meanwhile */
        unit->first[kind] = unit->last[kind];
    unit->owed |= bit(kind);
    unit->missed_ns = now_ns > unit->due_ns ? now_ns : unit->due_ns; /* given up before its time */
    unit->until_ns = unit->missed_ns + wait_ns(unit);
}

void step_miss(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns)
{
    step->units[unit].unmoved = false;
    miss(&step->units[unit], kind_of(function), now_ns);
}

void step_miss_probe(struct step *step, uint8_t unit, struct step_probe probe, int64_t now_ns)
{
    miss(&step->units[unit], probe_kind(probe), now_ns);
}

/* It may be this one: from here on it is the unit's silence. */
static void came(struct step_unit *unit, unsigned kind)
{
    if (unit->first[kind] == unit->last[kind])
        unit->late_ns[kind] = 0;
}

void step_hear(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns)
{
    struct step_unit *of = &step->units[unit];
    unsigned kind = kind_of(function);
    if (of->timeout_ns == 0 || !is_known(function))
        return; /* another master's device, or question */
    int64_t late_ns = now_ns - of->missed_ns;
    bool owed = step_owes(step, unit, function, now_ns);
    if (of->missed_ns != 0 && late_ns > of->latest_ns &&
        (owed || late_ns <= LATE_TIMEOUTS * of->timeout_ns))
        of->latest_ns =
            late_ns < LATE_TIMEOUTS * of->timeout_ns ? late_ns : LATE_TIMEOUTS * of->timeout_ns;
    if (!owed) {
        /* Who answers twice may do so again; and nobody knows what this one is to. */
        owe(step, of, kind, now_ns + wait_ns(of));
        of->first[kind] -= LONG_AGO;
        of->missing += 2;
    } else {
        came(of, kind);
        if (of->length_function == function)
            came(of, STEP_LENGTH);
    }
    wait_again(of, now_ns);
}

void step_refuse_length(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns)
{
    step->units[unit].answers &= (uint16_t)~bit(STEP_LENGTH);
    step->units[unit].refused = step->units[unit].refuses = true;
    step_hear(step, unit, function, now_ns);
}

/* ---- silence ---- */

/* What was asked long enough ago comes no more; a probe may have been since. */
static void forget(struct step_unit *unit, int64_t now_ns)
{
    for (unsigned i = 0; i < STEP_KINDS; i++) {
        if (is_owed(unit, i) && now_ns >= unit->late_ns[i])
            settle_kind(unit, i);
    }
}

bool step_owes(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns)
{
    struct step_unit *of = &step->units[unit];
    if (now_ns >= of->until_ns && silence_counts(of)) {
        forget(of, now_ns);
    } else if (of->owed != 0 && now_ns >= of->until_ns && now_ns - of->until_ns >= SILENCE_MAX_NS) {
        of->unmoved = of->tried_ns != 0 && of->due_ns - of->tried_ns >= SILENCE_MAX_NS / 2;
        of->answers = 0; /* it may be another device by now */
        forget(of, now_ns);
    }
    if (of->owed == 0)
        of->missing = 0;
    return is_in_the_way(of, function);
}

int64_t step_until_ns(const struct step *step, uint8_t unit)
{
    const struct step_unit *of = &step->units[unit];
    return silence_counts(of) ? of->until_ns : INT64_MAX;
}
