#include "devices/registers/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/lines/link.h"
#include "devices/registers/codec.h"
#include "devices/registers/sunspec.h"

/* A device that has not got a model may get it with its next firmware. */
enum { LOOK_AGAIN_SCANS = 100 };

struct plan {
    const struct device *device;
    uint16_t *words; /* room for the answer to any block */
    bool whole;      /* over all points */
    bool lost;       /* the last scan read nothing */
    bool learned;    /* something may be there to be told, or taken back */
    unsigned turn;   /* where a scan begins to ask when lost */
    uint64_t scans;
    struct sunspec models;
    unsigned n;
    struct planned_point {
        unsigned point;   /* index of the device's point */
        uint32_t address; /* where it is on this device */
        bool missing;     /* of a model that was not found */
        /* Before this position a block must end. */
        enum cut { CUT_NONE, CUT_FOR_NOW, CUT_SILENT, CUT_FOR_GOOD } cut;
        uint16_t whole_count; /* of the block that was cut here */
        uint8_t strikes;      /* it was silent, and its parts answered, so often in a row */
        uint8_t silences;     /* of the block that begins here, in a row */
        enum fault fault;     /* of this point alone, when it was last asked; FAULT_NONE */
        bool told;            /* of the cut, or of the fault */
        uint64_t quiet_until; /* silent by itself: not asked before this of `scans`; or 0 */
    } places[];               /* by position */
};

static const struct point *at(const struct plan *plan, unsigned position)
{
    return &plan->device->points[plan->places[position].point];
}

static unsigned begin_of(const struct plan *plan, unsigned position)
{
    return plan->places[position].address;
}

static unsigned end_of(const struct plan *plan, unsigned position)
{
    return plan->places[position].address + point_width(at(plan, position));
}

static bool is_due(const struct plan *plan, unsigned position, uint64_t scan)
{
    return !plan->places[position].missing && scan % at(plan, position)->every == 0;
}

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
        const struct point *point = at(plan, i);
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
        if (at(plan, i)->model)
            return LINK_READ_MAX; /* nobody knows yet how they lie */
        if (at(plan, i)->table != at(plan, first)->table) {
            first = i;
            end = 0;
        }
        if (end_of(plan, i) > end)
            end = end_of(plan, i);
        unsigned length = end - begin_of(plan, first);
        unsigned limit = most_of(plan->device, at(plan, first)->table);
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
    const struct point *point = at(plan, position);
    bool bits = !point_has_registers(point);
    if (to <= from)
        return true;
    if (to - from > profile->max_gap * (bits ? 16 : 1)) /* 16 bits cost as much as a register */
        return false;
    /* Ranges stand in the type's own numbers. */
    int64_t shift = (int64_t)begin_of(plan, position) - point->address +
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
    while (first < plan->n && !is_due(plan, first, scan))
        first++;
    if (first >= plan->n)
        return false;

    enum point_table table = at(plan, first)->table;
    unsigned most = most_of(plan->device, table), begin = begin_of(plan, first);
    unsigned end = end_of(plan, first), after = first + 1, n = 1;
    for (unsigned i = first + 1; i < plan->n && plan->places[i].cut == CUT_NONE; i++) {
        if (!is_due(plan, i, scan))
            continue;
        unsigned longer = end_of(plan, i) > end ? end_of(plan, i) : end;
        if (at(plan, i)->table != table || longer - begin > most ||
            !may_cross(plan, i, end, begin_of(plan, i)))
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
        if (!plan->places[i].missing || scan % at(plan, i)->every != 0 ||
            value->state != VALUE_ABSENT)
            continue;
        *value = (struct value){.state = VALUE_FAULT, .fault = (int)fault};
        n++;
    }
    return n;
}

/* ---- what was learned ---- */

/* The block was cut out of a larger one, and that did not help: then it was not to
 * blame for the refusal, and is only kept if a fault stands beside it. */
static void doubt(struct plan *plan, unsigned position)
{
    if (position < plan->n && plan->places[position].cut == CUT_FOR_GOOD &&
        !plan->places[position].told)
        plan->places[position].cut = CUT_FOR_NOW;
}

static bool cut(struct plan *plan, const struct plan_block *block, enum cut kind)
{
    unsigned end = end_of(plan, block->first);
    unsigned best = 0, middle = block->first + block->end;
    int widest = 0, nearest = 0;
    for (unsigned i = block->first + 1; i < block->end; i++) {
        if (!is_due(plan, i, block->scan))
            continue;
        int gap = (int)begin_of(plan, i) - (int)end;
        int distance = abs((int)(2 * i) - (int)middle);
        if (best == 0 || gap > widest || (gap == widest && distance < nearest)) {
            best = i;
            widest = gap;
            nearest = distance;
        }
        if (end_of(plan, i) > end)
            end = end_of(plan, i);
    }
    if (best == 0)
        return false;
    doubt(plan, block->first);
    doubt(plan, block->end);
    struct planned_point *place = &plan->places[best];
    place->cut = kind;
    place->whole_count = block->count;
    place->silences = plan->places[block->first].silences; /* both are suspect */
    plan->learned = true;
    return true;
}

bool plan_cut(struct plan *plan, const struct plan_block *block, bool for_good)
{
    return cut(plan, block, for_good ? CUT_FOR_GOOD : CUT_FOR_NOW);
}

void plan_note_answer(struct plan *plan, const struct plan_block *block)
{
    plan->places[block->first].silences = 0;
    plan->places[block->first].quiet_until = 0;
    for (unsigned i = block->first + 1; i < block->end; i++)
        plan->places[i].strikes = 0; /* the whole does answer */
}

/* Silences in a row that may be losses on the way: as many attempts as are made. */
static unsigned patience(const struct plan *plan)
{
    int64_t attempts = plan->device->modbus.retry_count;
    return attempts > 2 ? (unsigned)attempts : 2;
}

bool plan_note_silence(struct plan *plan, const struct plan_block *block)
{
    struct planned_point *place = &plan->places[block->first];
    const unsigned enough = patience(plan);
    unsigned strikes = 0;
    for (unsigned i = block->first + 1; i < block->end; i++)
        strikes += plan->places[i].strikes;
    if (place->silences < UINT8_MAX)
        place->silences++;
    if (strikes > 0 && place->silences < enough)
        place->silences = (uint8_t)enough; /* it did so before */
    if (block->n == 1 && place->silences > enough) {
        unsigned doublings = place->silences - enough;
        uint64_t pause = doublings < 6 ? UINT64_C(1) << doublings : PLAN_QUIET_SCANS_MAX;
        place->quiet_until = plan->scans + pause;
    }
    return place->silences < enough;
}

bool plan_cut_silent(struct plan *plan, const struct plan_block *block)
{
    return plan->places[block->first].silences >= patience(plan) && cut(plan, block, CUT_SILENT);
}

bool plan_is_suspect(const struct plan *plan, const struct plan_block *block)
{
    return plan->places[block->first].silences > 0;
}

bool plan_is_quiet(const struct plan *plan, const struct plan_block *block)
{
    return plan->whole && !plan->lost && block->n == 1 &&
           plan->places[block->first].quiet_until > plan->scans;
}

bool plan_begin(struct plan *plan, unsigned *from)
{
    plan->scans++;
    *from = plan->turn;
    if (plan->models.settled && !sunspec_is_complete(&plan->models) &&
        plan->scans % LOOK_AGAIN_SCANS == 0)
        sunspec_begin(&plan->models);
    return plan->lost;
}

/* A cut that is there for now, after a scan: its parts answered, so it is taken back to
 * see whether the whole answers; or it has been seen often enough that it does not. */
static void judge_cut(struct plan *plan, unsigned position, const struct value *values)
{
    struct planned_point *place = &plan->places[position];
    const struct value *before = &values[plan->places[position - 1].point];
    const struct value *after = &values[place->point];
    if (before->state == VALUE_ABSENT || after->state == VALUE_ABSENT ||
        plan->places[position - 1].fault != FAULT_NONE || place->fault != FAULT_NONE)
        return;
    if (place->cut == CUT_SILENT && ++place->strikes >= PLAN_STRIKES)
        place->cut = CUT_FOR_GOOD;
    else
        place->cut = CUT_NONE;
}

/* What came of each point. Whether anything was refused or silent. */
static bool note_faults(struct plan *plan, const struct value *values)
{
    bool any = false;
    for (unsigned i = 0; i < plan->n; i++) {
        struct planned_point *place = &plan->places[i];
        const struct value *value = &values[place->point];
        enum fault fault = value->state == VALUE_FAULT ? (enum fault)value->fault : FAULT_NONE;
        bool own = fault_is_exception(fault) || fault_is_silence(fault);
        if (value->state == VALUE_ABSENT)
            continue;
        place->fault = own ? fault : FAULT_NONE;
        any = any || own;
    }
    return any;
}

static void scale(const struct plan *plan, struct value *values)
{
    for (unsigned i = 0; i < plan->n; i++) {
        const struct point *point = at(plan, i);
        if (point->scale_row)
            codec_rescale(point, &values[point->scale_row - 1], &values[plan->places[i].point]);
    }
}

void plan_end(struct plan *plan, struct value *values, bool any, unsigned turn)
{
    const bool is_back = any && plan->lost;
    plan->turn = turn < plan->n ? turn : 0;
    plan->lost = !any;
    for (unsigned i = 0; is_back && i < plan->n; i++) {
        /* The silence of the whole device said nothing of its points. */
        plan->places[i].silences = 0;
        plan->places[i].quiet_until = 0;
    }
    if (!any) {
        sunspec_begin(&plan->models); /* who comes back may be another one */
        return;
    }
    if (note_faults(plan, values))
        plan->learned = true;
    for (unsigned i = 1; plan->learned && i < plan->n; i++)
        if (plan->places[i].cut == CUT_FOR_NOW || plan->places[i].cut == CUT_SILENT)
            judge_cut(plan, i, values);
    scale(plan, values);
}

/* The registers from..to in words. */
static const char *show_range(char text[64], enum point_table table, unsigned from, unsigned to)
{
    const char *what = table == POINT_COIL || table == POINT_DISCRETE ? "bit" : "register";
    if (from == to)
        snprintf(text, 64, "%s %s %u", point_table_word(table), what, from);
    else
        snprintf(text, 64, "%s %ss %u..%u", point_table_word(table), what, from, to);
    return text;
}

static bool explain_cut(const struct plan *plan, unsigned position, char *text)
{
    const struct planned_point *place = &plan->places[position];
    const struct planned_point *before = &plan->places[position - 1];
    unsigned from = end_of(plan, position - 1), to = begin_of(plan, position);
    char range[64];
    if (place->cut != CUT_FOR_GOOD || before->fault != FAULT_NONE || place->fault != FAULT_NONE)
        return false;
    if (from < to)
        snprintf(text, PLAN_EXPLANATION_MAX,
                 "%s, between %s and %s, cannot be read along: \"unreadable\" or a smaller "
                 "\"max_gap\" in the type's file spares the attempt",
                 show_range(range, at(plan, position)->table, from, to - 1),
                 at(plan, position - 1)->name, at(plan, position)->name);
    else
        snprintf(text, PLAN_EXPLANATION_MAX,
                 "a read of %u from %s is too long for the device, its parts are not: a smaller "
                 "\"max_registers\" in the type's file spares the attempt",
                 place->whole_count, at(plan, position - 1)->name);
    return true;
}

/* What will stay so, unless the configuration or the device changes. */
static bool is_lasting(const struct planned_point *place)
{
    return place->fault == FAULT_ILLEGAL_FUNCTION || place->fault == FAULT_ILLEGAL_ADDRESS ||
           place->fault == FAULT_ILLEGAL_VALUE ||
           (fault_is_silence(place->fault) && place->quiet_until > 0);
}

/* Neighbours with the same fault are told as one. */
static bool explain_points(struct plan *plan, unsigned position, char *text)
{
    const struct point *point = at(plan, position);
    enum fault fault = plan->places[position].fault;
    unsigned last = position;
    char range[64];
    if (!is_lasting(&plan->places[position]))
        return false;
    while (last + 1 < plan->n && at(plan, last + 1)->table == point->table &&
           plan->places[last + 1].fault == fault && is_lasting(&plan->places[last + 1]))
        plan->places[++last].told = true;
    snprintf(text, PLAN_EXPLANATION_MAX,
             "%s (%s%s%s): %s while others are read: is \"address\" or \"function\" wrong in the "
             "type's file, or does this device have no such point?",
             show_range(range, point->table, begin_of(plan, position), end_of(plan, last) - 1),
             point->name, last > position ? " to " : "",
             last > position ? at(plan, last)->name : "", fault_word(fault));
    return true;
}

bool plan_explain(struct plan *plan, char text[PLAN_EXPLANATION_MAX])
{
    for (unsigned i = 0; plan->learned && i < plan->n; i++) {
        struct planned_point *place = &plan->places[i];
        if (!place->told &&
            ((i > 0 && explain_cut(plan, i, text)) || explain_points(plan, i, text))) {
            place->told = true;
            return true;
        }
    }
    return false;
}

/* ---- answers ---- */

void plan_decode(const struct plan *plan, const struct plan_block *block, const uint16_t *words,
                 struct value *values)
{
    for (unsigned i = block->first; i < block->end; i++)
        if (is_due(plan, i, block->scan))
            codec_decode_into(at(plan, i), words + (begin_of(plan, i) - block->address),
                              &values[plan->places[i].point]);
}

void plan_copy(const struct plan *plan, const struct plan_block *block, const uint16_t *words,
               uint16_t (*copies)[PLAN_WORDS_MAX])
{
    for (unsigned i = block->first; i < block->end; i++)
        if (is_due(plan, i, block->scan))
            memcpy(copies[plan->places[i].point], words + (begin_of(plan, i) - block->address),
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

unsigned plan_first_point(const struct plan *plan, const struct plan_block *block)
{
    return plan->places[block->first].point;
}
