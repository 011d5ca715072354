#include "devices/registers/plausible.h"

#include <math.h>

#include "devices/lines/fault.h"

static bool is_sentinel(const struct point *point, uint64_t raw)
{
    const unsigned bits = point_bits(point);
    const uint64_t mask = bits >= 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
    for (unsigned i = 0; i < point->n_sentinels; i++) {
        if (((raw ^ point->sentinels[i]) & mask) == 0)
            return true;
    }
    return false;
}

/* A counter only rises; it is believed to have been reset when it says so often
 * enough. */
static bool has_fallen(struct plausible *memory, double number)
{
    if (memory->known && number < memory->last) {
        memory->lows = memory->lows > 0 && number >= memory->low ? memory->lows + 1 : 1;
        memory->low = number;
        if (memory->lows < PLAUSIBLE_REPEATS)
            return true;
    }
    *memory = (struct plausible){.known = true, .last = number};
    return false;
}

void plausible_check(const struct point *point, struct plausible *memory, struct value *value)
{
    if (value->state != VALUE_READ)
        return;
    /* A comparison with NAN, a limit that is not given, is false. */
    if (is_sentinel(point, value->raw) || value->number < point->low ||
        value->number > point->high || (point->counter && has_fallen(memory, value->number)))
        *value = (struct value){.state = VALUE_FAULT, .fault = FAULT_IMPLAUSIBLE};
}
