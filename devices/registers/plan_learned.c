#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/registers/codec.h"
#include "devices/registers/plan_inside.h"

/* A device that has not got a model may get it with its next firmware. */
enum { LOOK_AGAIN_SCANS = 100 };

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
    unsigned end = plan_end_of(plan, block->first);
    unsigned best = 0, middle = block->first + block->end;
    int widest = 0, nearest = 0;
    for (unsigned i = block->first + 1; i < block->end; i++) {
        if (!plan_is_due(plan, i, block->scan))
            continue;
        int gap = (int)plan_begin_of(plan, i) - (int)end;
        int distance = abs((int)(2 * i) - (int)middle);
        if (best == 0 || gap > widest || (gap == widest && distance < nearest)) {
            best = i;
            widest = gap;
            nearest = distance;
        }
        if (plan_end_of(plan, i) > end)
            end = plan_end_of(plan, i);
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
        const struct point *point = plan_at(plan, i);
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
    unsigned from = plan_end_of(plan, position - 1), to = plan_begin_of(plan, position);
    char range[64];
    if (place->cut != CUT_FOR_GOOD || before->fault != FAULT_NONE || place->fault != FAULT_NONE)
        return false;
    if (from < to)
        snprintf(text, PLAN_EXPLANATION_MAX,
                 "%s, between %s and %s, cannot be read along: \"unreadable\" or a smaller "
                 "\"max_gap\" in the type's file spares the attempt",
                 show_range(range, plan_at(plan, position)->table, from, to - 1),
                 plan_at(plan, position - 1)->name, plan_at(plan, position)->name);
    else
        snprintf(text, PLAN_EXPLANATION_MAX,
                 "a read of %u from %s is too long for the device, its parts are not: a smaller "
                 "\"max_registers\" in the type's file spares the attempt",
                 place->whole_count, plan_at(plan, position - 1)->name);
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
    const struct point *point = plan_at(plan, position);
    enum fault fault = plan->places[position].fault;
    unsigned last = position;
    char range[64];
    bool others = false;
    if (!is_lasting(&plan->places[position]))
        return false;
    for (unsigned i = 0; i < plan->n; i++)
        others = others || plan->places[i].fault == FAULT_NONE;
    while (last + 1 < plan->n && plan_at(plan, last + 1)->table == point->table &&
           plan->places[last + 1].fault == fault && is_lasting(&plan->places[last + 1]))
        plan->places[++last].told = true;
    snprintf(
        text, PLAN_EXPLANATION_MAX,
        "%s (%s%s%s): %s%s: is \"address\" or \"function\" wrong in the type's file, or does this "
        "device have no such point?",
        show_range(range, point->table, plan_begin_of(plan, position), plan_end_of(plan, last) - 1),
        point->name, last > position ? " to " : "",
        last > position ? plan_at(plan, last)->name : "", fault_word(fault),
        others ? " while others are read" : "");
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
