#include "devices/registers/scan.h"

/* Without any answer there is nobody, and no use in waiting for each block. */
enum { SILENT_MOST = 2 };

void scan_begin(struct scan *scan, struct plan *plan, const struct device *device, uint64_t number,
                struct value *values)
{
    *scan = (struct scan){.plan = plan, .device = device, .values = values, .number = number};
    scan->probing = plan_begin(plan, &scan->next);
    if (!scan->probing)
        scan->next = 0;
    for (unsigned i = 0; i < device->n_points; i++)
        values[i].state = VALUE_ABSENT;
}

/* A refusal that may be due to one register of the block. 02 and 03 speak of
 * the request's shape and stay true; 04 may pass. */
static bool splits(enum fault fault)
{
    return fault == FAULT_ILLEGAL_ADDRESS || fault == FAULT_ILLEGAL_VALUE ||
           fault == FAULT_DEVICE_FAILURE;
}

void scan_break(struct scan *scan, enum fault fault)
{
    struct plan_block block;
    unsigned next = 0;

    for (unsigned from = 0; plan_next(scan->plan, from, scan->number, &block, &next); from = next) {
        if (scan->values[plan_first_point(scan->plan, &block)].state != VALUE_ABSENT)
            continue;
        plan_fail(scan->plan, &block, fault, scan->values);
        scan->failed += block.n;
    }
    scan->failed += plan_fail_missing(scan->plan, scan->number, fault, scan->values);
}

/* Every due point has its value or its fault now. */
static enum scan_step end(struct scan *scan, enum fault *fault)
{
    const bool broken = scan->read == 0 && scan->silence != FAULT_NONE;
    if (broken)
        scan_break(scan, scan->silence);
    else
        scan->failed +=
            plan_fail_missing(scan->plan, scan->number, FAULT_ILLEGAL_ADDRESS, scan->values);
    plan_end(scan->plan, scan->values, !broken, scan->next);
    drive_make(&scan->device->profile->drive, scan->device->points, scan->values);
    if (broken)
        *fault = scan->silence;
    return broken ? SCAN_BROKEN : SCAN_DONE;
}

enum scan_step scan_give_up(struct scan *scan, enum fault *fault)
{
    scan->silence = scan->lost = *fault;
    scan_break(scan, *fault);
    return end(scan, fault);
}

/* No answer. What it may mean depends on whether others answer. */
static enum scan_step take_silence(struct scan *scan, enum fault answer, enum fault *fault)
{
    const struct plan_block *block = &scan->block;
    const bool may_be_lost = plan_note_silence(scan->plan, block);
    scan->silence = answer;
    scan->silent++;
    if (may_be_lost && !scan->probing)
        scan->lost = answer;
    const bool hopeless = scan->probing || (scan->read == 0 && scan->silent >= SILENT_MOST);
    scan->next = scan->after;
    if (!may_be_lost && !scan->split && plan_cut_silent(scan->plan, block)) {
        scan->split = true;
        scan->next = block->first; /* the same again, in smaller pieces */
        if (!hopeless)
            return SCAN_MORE;
    }
    if (hopeless)
        return end(scan, fault);
    plan_fail(scan->plan, block, answer, scan->values);
    scan->failed += block->n;
    return SCAN_MORE;
}

/* Where the models of a SunSpec device are. */
static enum scan_step take_models(struct scan *scan, enum fault answer, enum fault *fault)
{
    scan->asking_models = false;
    if (answer == FAULT_NONE || splits(answer) || answer == FAULT_ILLEGAL_FUNCTION) {
        plan_take_models(scan->plan, answer == FAULT_NONE);
        return SCAN_MORE;
    }
    if (fault_is_silence(answer))
        scan->silence = answer;
    scan_break(scan, answer); /* busy: it is asked anew in the next scan */
    return end(scan, fault);
}

/* Takes the result of the transaction that was under way. */
static enum scan_step take(struct scan *scan, struct link *link, enum fault answer,
                           enum fault *fault)
{
    const struct plan_block *block = &scan->block;
    if (link->is_busy)
        return SCAN_BUSY;
    if (scan->asking_models)
        return take_models(scan, answer, fault);
    if (fault_is_silence(answer))
        return take_silence(scan, answer, fault);
    plan_note_answer(scan->plan, block);
    if (answer == FAULT_NONE) {
        const uint16_t *words = plan_words(scan->plan);
        plan_decode(scan->plan, block, words, scan->values);
        if (scan->words != NULL)
            plan_copy(scan->plan, block, words, scan->words);
        scan->read += block->n;
    } else if (splits(answer) && plan_cut(scan->plan, block, answer != FAULT_DEVICE_FAILURE)) {
        return SCAN_MORE; /* the same position again, in smaller pieces */
    } else {
        plan_fail(scan->plan, block, answer, scan->values);
        scan->failed += block->n;
    }
    scan->next = scan->probing ? 0 : scan->after;
    scan->probing = false;
    return SCAN_MORE;
}

/* The next block of those that were not silent before, or else of the rest. What has a
 * value has been asked for already. */
static bool choose_among(struct scan *scan)
{
    struct plan_block *block = &scan->block;
    for (; plan_next(scan->plan, scan->next, scan->number, block, &scan->after);
         scan->next = scan->after) {
        const struct value *first = &scan->values[plan_first_point(scan->plan, block)];
        if (first->state != VALUE_ABSENT || (!scan->suspects && plan_is_suspect(scan->plan, block)))
            continue;
        if (!plan_is_quiet(scan->plan, block))
            return true;
        plan_fail(scan->plan, block, FAULT_TIMEOUT, scan->values);
        scan->failed += block->n;
    }
    return false;
}

/* The next block to ask for. */
static bool choose(struct scan *scan)
{
    struct plan_block *block = &scan->block;
    if (scan->probing)
        return plan_next(scan->plan, scan->next, scan->number, block, &scan->after) ||
               plan_next(scan->plan, 0, scan->number, block, &scan->after);
    for (; !scan->suspects; scan->suspects = true, scan->next = 0)
        if (choose_among(scan))
            return true;
    return choose_among(scan);
}

enum scan_step scan_begin_step(struct scan *scan, struct link *link, enum fault *fault)
{
    const struct device_modbus *modbus = &scan->device->modbus;
    const struct plan_block *block = &scan->block;
    scan->asking_models = plan_ask_models(scan->plan, &scan->block);
    if (!scan->asking_models && !choose(scan))
        return end(scan, fault);
    enum fault answer =
        link_begin_read(link, (uint8_t)modbus->address, block->table, block->address, block->count,
                        plan_words(scan->plan), modbus->timeout_ns);
    return take(scan, link, answer, fault);
}

enum scan_step scan_go_on(struct scan *scan, struct link *link, enum fault *fault)
{
    enum fault answer = link_go_on(link, plan_words(scan->plan));
    return take(scan, link, answer, fault);
}

enum scan_step scan_step(struct scan *scan, struct link *link, enum fault *fault)
{
    *fault = link->is_open ? FAULT_NONE : link_open(link, scan->device->modbus.timeout_ns);
    if (*fault != FAULT_NONE)
        return scan_give_up(scan, fault);
    enum scan_step step = scan_begin_step(scan, link, fault);
    while (step == SCAN_BUSY) {
        link_sleep(link);
        step = scan_go_on(scan, link, fault);
    }
    return step;
}
