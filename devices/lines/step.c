#include "devices/lines/step.h"

/* A device that was late once may be a little later the next time. */
enum { LATER_NUMERATOR = 5, LATER_DENOMINATOR = 4 };
/* The least wait, in quarters of the timeout: with one more of them for the answer
 * the line is back within twice the timeout. */
enum { WAIT_QUARTERS = 7, QUARTERS = 4 };
/* What comes later than this belongs to nothing that was asked. */
static const int64_t LATE_MAX_NS = INT64_C(60000000000);

static uint32_t bit_of(uint8_t function)
{
    return UINT32_C(1) << (function & 31);
}

static int64_t wait_ns(const struct step_unit *unit)
{
    int64_t least_ns = unit->timeout_ns / QUARTERS * WAIT_QUARTERS;
    int64_t later_ns = unit->latest_ns / LATER_DENOMINATOR * LATER_NUMERATOR;
    return later_ns > least_ns ? later_ns : least_ns;
}

static void owe(struct step_unit *unit, uint8_t function, int64_t now_ns)
{
    unit->owed |= bit_of(function);
    unit->until_ns = now_ns + wait_ns(unit);
}

void step_ask(struct step *step, uint8_t unit, int64_t timeout_ns)
{
    step->units[unit].timeout_ns = timeout_ns;
}

void step_miss(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns)
{
    struct step_unit *of = &step->units[unit];
    of->missed_ns = now_ns;
    owe(of, function, now_ns);
}

void step_hear(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns)
{
    struct step_unit *of = &step->units[unit];
    if (of->timeout_ns == 0)
        return; /* never asked: another master's device */
    int64_t late_ns = now_ns - of->missed_ns;
    if (of->missed_ns != 0 && late_ns > of->latest_ns && late_ns <= LATE_MAX_NS)
        of->latest_ns = late_ns;
    /* Another one may follow: the line has to be silent again, if not for as long. */
    int64_t quiet_ns = now_ns + of->timeout_ns / QUARTERS;
    if ((of->owed & bit_of(function)) == 0)
        owe(of, function, now_ns);
    else if (of->until_ns < quiet_ns)
        of->until_ns = quiet_ns;
}

void step_settle(struct step *step, uint8_t unit)
{
    step->units[unit].owed = 0;
}

bool step_owes(struct step *step, uint8_t unit, uint8_t function, int64_t now_ns)
{
    struct step_unit *of = &step->units[unit];
    if (now_ns >= of->until_ns)
        of->owed = 0;
    return (of->owed & bit_of(function)) != 0;
}

int64_t step_until_ns(const struct step *step, uint8_t unit)
{
    return step->units[unit].until_ns;
}
