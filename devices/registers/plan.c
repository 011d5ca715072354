#include "devices/registers/plan.h"

#include <stdlib.h>
#include <string.h>

#include "devices/lines/link.h"
#include "devices/registers/codec.h"

struct plan {
    const struct device *device;
    uint16_t *words; /* room for the answer to any block */
    unsigned n;
    struct place {
        unsigned point; /* index of the device's point */
        /* Before this position a block must end. */
        enum cut { CUT_NONE, CUT_FOR_NOW, CUT_FOR_GOOD } cut;
    } places[]; /* by position */
};

static const struct point *at(const struct plan *plan, unsigned position)
{
    return &plan->device->points[plan->places[position].point];
}

static unsigned end_of(const struct point *point)
{
    return point->address + point_width(point);
}

static bool is_due(const struct plan *plan, unsigned position, uint64_t scan)
{
    return scan % at(plan, position)->every == 0;
}

static bool is_before(const struct point *a, const struct point *b)
{
    return a->table != b->table ? a->table < b->table : a->address < b->address;
}

/* Most elements that one request may ask for. */
static unsigned most_of(const struct device *device, enum point_table table)
{
    bool bits = table == POINT_COIL || table == POINT_DISCRETE;
    return bits ? LINK_READ_BITS_MAX : device->profile->max_registers;
}

/* No block is longer than a request may be, nor than all points of its table. */
static unsigned longest(const struct plan *plan)
{
    unsigned most = 0;
    for (unsigned first = 0, i = 0, end = 0; i < plan->n; i++) {
        if (at(plan, i)->table != at(plan, first)->table) {
            first = i;
            end = 0;
        }
        if (end_of(at(plan, i)) > end)
            end = end_of(at(plan, i));
        unsigned length = end - at(plan, first)->address;
        unsigned limit = most_of(plan->device, at(plan, first)->table);
        length = length < limit ? length : limit;
        most = length > most ? length : most;
    }
    return most;
}

struct plan *plan_new(const struct device *device, const bool *wanted)
{
    struct plan *plan = calloc(1, sizeof *plan + device->n_points * sizeof(struct place));
    if (!plan)
        return NULL;
    plan->device = device;
    for (unsigned i = 0; i < device->n_points; i++) {
        if (wanted && !wanted[i])
            continue;
        unsigned position = plan->n++;
        for (; position > 0 && is_before(&device->points[i], at(plan, position - 1)); position--)
            plan->places[position] = plan->places[position - 1];
        plan->places[position].point = i;
    }
    plan->words = calloc(longest(plan) + 1, sizeof *plan->words);
    if (!plan->words) {
        free(plan);
        return NULL;
    }
    return plan;
}

void plan_free(struct plan *plan)
{
    if (plan)
        free(plan->words);
    free(plan);
}

uint16_t *plan_words(const struct plan *plan)
{
    return plan->words;
}

/* Whether the unneeded addresses from..to - 1 may be read along. */
static bool may_cross(const struct profile *profile, enum point_table table, unsigned from,
                      unsigned to)
{
    bool bits = table == POINT_COIL || table == POINT_DISCRETE;
    if (to <= from)
        return true;
    if (to - from > profile->max_gap * (bits ? 16 : 1)) /* 16 bits cost as much as a register */
        return false;
    for (unsigned i = 0; i < profile->n_unreadable; i++) {
        const struct profile_range *range = &profile->unreadable[i];
        if (range->table == table && range->first < to && range->last >= from)
            return false;
    }
    return true;
}

bool plan_next(const struct plan *plan, unsigned from, uint64_t scan, struct plan_block *block,
               unsigned *next)
{
    const struct profile *profile = plan->device->profile;
    unsigned first = from;
    while (first < plan->n && !is_due(plan, first, scan))
        first++;
    if (first >= plan->n)
        return false;

    const struct point *start = at(plan, first);
    unsigned most = most_of(plan->device, start->table);
    unsigned end = end_of(start), after = first + 1, n = 1;
    for (unsigned i = first + 1; i < plan->n && plan->places[i].cut == CUT_NONE; i++) {
        if (!is_due(plan, i, scan))
            continue;
        const struct point *point = at(plan, i);
        unsigned longer = end_of(point) > end ? end_of(point) : end;
        if (point->table != start->table || longer - start->address > most ||
            !may_cross(profile, point->table, end, point->address))
            break;
        end = longer;
        after = i + 1;
        n++;
    }
    *block = (struct plan_block){
        .table = start->table,
        .address = start->address,
        .count = (uint16_t)(end - start->address),
        .first = first,
        .end = after,
        .n = n,
        .scan = scan,
    };
    *next = after;
    return true;
}

bool plan_cut(struct plan *plan, const struct plan_block *block, bool for_good)
{
    unsigned end = end_of(at(plan, block->first));
    unsigned best = 0, middle = block->first + block->end;
    int widest = 0, nearest = 0;
    for (unsigned i = block->first + 1; i < block->end; i++) {
        if (!is_due(plan, i, block->scan))
            continue;
        const struct point *point = at(plan, i);
        int gap = (int)point->address - (int)end;
        int distance = abs((int)(2 * i) - (int)middle);
        if (best == 0 || gap > widest || (gap == widest && distance < nearest)) {
            best = i;
            widest = gap;
            nearest = distance;
        }
        if (end_of(point) > end)
            end = end_of(point);
    }
    if (best == 0)
        return false;
    plan->places[best].cut = for_good ? CUT_FOR_GOOD : CUT_FOR_NOW;
    return true;
}

void plan_mend(struct plan *plan)
{
    for (unsigned i = 0; i < plan->n; i++)
        if (plan->places[i].cut == CUT_FOR_NOW)
            plan->places[i].cut = CUT_NONE;
}

void plan_decode(const struct plan *plan, const struct plan_block *block, const uint16_t *words,
                 struct value *values)
{
    for (unsigned i = block->first; i < block->end; i++)
        if (is_due(plan, i, block->scan))
            values[plan->places[i].point] =
                codec_decode(at(plan, i), words + (at(plan, i)->address - block->address));
}

void plan_copy(const struct plan *plan, const struct plan_block *block, const uint16_t *words,
               uint16_t (*copies)[PLAN_WORDS_MAX])
{
    for (unsigned i = block->first; i < block->end; i++)
        if (is_due(plan, i, block->scan))
            memcpy(copies[plan->places[i].point], words + (at(plan, i)->address - block->address),
                   point_width(at(plan, i)) * sizeof *words);
}

void plan_fail(const struct plan *plan, const struct plan_block *block, enum fault fault,
               struct value *values)
{
    for (unsigned i = block->first; i < block->end; i++)
        if (is_due(plan, i, block->scan))
            values[plan->places[i].point] =
                (struct value){.state = VALUE_FAULT, .fault = (int)fault};
}
