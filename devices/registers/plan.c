#include "devices/registers/plan_inside.h"

#include <stdlib.h>
#include <string.h>

#include "devices/lines/link.h"
#include "devices/registers/codec.h"
#include "devices/registers/sunspec.h"

/* ---- the points in their order ---- */

static bool is_before(const struct plan *plan, const struct planned_point *a,
                      const struct planned_point *b)
{
    enum point_table one = plan->device->points[a->point].table;
    enum point_table other = plan->device->points[b->point].table;
    return one != other ? one < other : a->address < b->address;
}

/* Puts the last of the first `n` places where it belongs. */
static void insert(struct plan *plan, unsigned n)
{
    struct planned_point place = plan->places[n - 1];
    unsigned position = n - 1;
    for (; position > 0 && is_before(plan, &place, &plan->places[position - 1]); position--)
        plan->places[position] = plan->places[position - 1];
    plan->places[position] = place;
}

/* Where each point is, now that the models are known, or are not. */
static void settle(struct plan *plan)
{
    for (unsigned i = 0; i < plan->n; i++) {
        struct planned_point *place = &plan->places[i];
        const struct point *point = plan_at(plan, i);
        *place = (struct planned_point){.point = place->point, .address = point->address};
        if (!point->model)
            continue;
        const struct sunspec_model *model = sunspec_find(&plan->models, point->model);
        unsigned length = model ? SUNSPEC_ASKED + (unsigned)model->length : 0;
        place->missing = point->address + point_width(point) > length;
        place->address += model ? model->address : 0U;
    }
    for (unsigned n = 1; n <= plan->n; n++)
        insert(plan, n);
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
    unsigned most = SUNSPEC_ASKED;
    for (unsigned first = 0, i = 0, end = 0; i < plan->n; i++) {
        if (plan_at(plan, i)->model)
            return LINK_READ_MAX; /* nobody knows yet how they lie */
        if (plan_at(plan, i)->table != plan_at(plan, first)->table) {
            first = i;
            end = 0;
        }
        if (plan_end_of(plan, i) > end)
            end = plan_end_of(plan, i);
        unsigned length = end - plan_begin_of(plan, first);
        unsigned limit = most_of(plan->device, plan_at(plan, first)->table);
        length = length < limit ? length : limit;
        most = length > most ? length : most;
    }
    return most;
}

static bool is_wanted(const struct device *device, const bool *wanted, unsigned index)
{
    bool needed = false;
    for (unsigned i = 0; wanted && i < device->n_points; i++)
        needed = needed ||
                 (wanted[i] &&
                  (device->points[i].scale_row == index + 1 ||
                   (device->points[i].made && drive_needs(&device->profile->drive, i, index))));
    return !device->points[index].made && (!wanted || wanted[index] || needed);
}

struct plan *plan_new(const struct device *device, const bool *wanted)
{
    struct plan *plan = calloc(1, sizeof *plan + device->n_points * sizeof(struct planned_point));
    if (!plan)
        return NULL;
    plan->device = device;
    plan->whole = !wanted;
    for (unsigned i = 0; i < device->n_points; i++) {
        const struct point *point = &device->points[i];
        if (!is_wanted(device, wanted, i))
            continue;
        plan->places[plan->n++].point = i;
        if (point->model)
            (void)sunspec_want(&plan->models, point->model); /* the profile has no more */
    }
    sunspec_begin(&plan->models);
    settle(plan);
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

/* ---- blocks ---- */

/* Whether the unneeded addresses from..to - 1 in front of a point may be read along. */
static bool may_cross(const struct plan *plan, unsigned position, unsigned from, unsigned to)
{
    const struct profile *profile = plan->device->profile;
    const struct point *point = plan_at(plan, position);
    bool bits = !point_has_registers(point);
    if (to <= from)
        return true;
    if (to - from > profile->max_gap * (bits ? 16 : 1)) /* 16 bits cost as much as a register */
        return false;
    /* Ranges stand in the type's own numbers. */
    int64_t shift = (int64_t)plan_begin_of(plan, position) - point->address +
                    (point->model ? 0 : plan->device->modbus.address_shift);
    for (unsigned i = 0; i < profile->n_unreadable; i++) {
        const struct profile_range *range = &profile->unreadable[i];
        if (range->table == point->table && range->model == point->model &&
            range->first + shift < to && range->last + shift >= from)
            return false;
    }
    return true;
}

bool plan_next(const struct plan *plan, unsigned from, uint64_t scan, struct plan_block *block,
               unsigned *next)
{
    unsigned first = from;
    while (first < plan->n && !plan_is_due(plan, first, scan))
        first++;
    if (first >= plan->n)
        return false;

    enum point_table table = plan_at(plan, first)->table;
    unsigned most = most_of(plan->device, table), begin = plan_begin_of(plan, first);
    unsigned end = plan_end_of(plan, first), after = first + 1, n = 1;
    for (unsigned i = first + 1; i < plan->n && plan->places[i].cut == CUT_NONE; i++) {
        if (!plan_is_due(plan, i, scan))
            continue;
        const unsigned its_end = plan_end_of(plan, i), longer = its_end > end ? its_end : end;
        if (plan_at(plan, i)->table != table || longer - begin > most ||
            !may_cross(plan, i, end, plan_begin_of(plan, i)))
            break;
        end = longer;
        after = i + 1;
        n++;
    }
    *block = (struct plan_block){
        .table = table,
        .address = (uint16_t)begin,
        .count = (uint16_t)(end - begin),
        .first = first,
        .end = after,
        .n = n,
        .scan = scan,
    };
    *next = after;
    return true;
}

/* ---- where SunSpec's models are ---- */

bool plan_ask_models(const struct plan *plan, struct plan_block *block)
{
    uint16_t address;
    if (!sunspec_ask(&plan->models, &address))
        return false;
    *block =
        (struct plan_block){.table = POINT_HOLDING, .address = address, .count = SUNSPEC_ASKED};
    return true;
}

void plan_take_models(struct plan *plan, bool answered)
{
    sunspec_take(&plan->models, answered ? plan->words : NULL);
    if (plan->models.settled)
        settle(plan);
}

unsigned plan_fail_missing(const struct plan *plan, uint64_t scan, enum fault fault,
                           struct value *values)
{
    unsigned n = 0;
    for (unsigned i = 0; plan->models.n_wanted > 0 && i < plan->n; i++) {
        struct value *value = &values[plan->places[i].point];
        if (!plan->places[i].missing || scan % plan_at(plan, i)->every != 0 ||
            value->state != VALUE_ABSENT)
            continue;
        *value = (struct value){.state = VALUE_FAULT, .fault = (int)fault};
        n++;
    }
    return n;
}

void plan_decode(const struct plan *plan, const struct plan_block *block, const uint16_t *words,
                 struct value *values)
{
    for (unsigned i = block->first; i < block->end; i++)
        if (plan_is_due(plan, i, block->scan))
            codec_decode_into(plan_at(plan, i), words + (plan_begin_of(plan, i) - block->address),
                              &values[plan->places[i].point]);
}

void plan_copy(const struct plan *plan, const struct plan_block *block, const uint16_t *words,
               uint16_t (*copies)[PLAN_WORDS_MAX])
{
    for (unsigned i = block->first; i < block->end; i++)
        if (plan_is_due(plan, i, block->scan))
            memcpy(copies[plan->places[i].point], words + (plan_begin_of(plan, i) - block->address),
                   point_width(plan_at(plan, i)) * sizeof *words);
}

void plan_fail(const struct plan *plan, const struct plan_block *block, enum fault fault,
               struct value *values)
{
    for (unsigned i = block->first; i < block->end; i++)
        if (plan_is_due(plan, i, block->scan))
            values[plan->places[i].point] =
                (struct value){.state = VALUE_FAULT, .fault = (int)fault};
}

unsigned plan_first_point(const struct plan *plan, const struct plan_block *block)
{
    return plan->places[block->first].point;
}
