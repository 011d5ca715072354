#include "devices/registers/scan.h"

void scan_begin(struct scan *scan, struct plan *plan, const struct device *device, uint64_t number,
                struct value *values)
{
    *scan = (struct scan){.plan = plan, .device = device, .values = values, .number = number};
    for (unsigned i = 0; i < device->n_points; i++)
        values[i] = (struct value){.state = VALUE_ABSENT};
}

/* A refusal that may be due to one register of the block. 02 and 03 speak of
 * the request's shape and stay true; 04 may pass. */
static bool splits(enum fault fault)
{
    return fault == FAULT_ILLEGAL_ADDRESS || fault == FAULT_ILLEGAL_VALUE ||
           fault == FAULT_DEVICE_FAILURE;
}

/* Takes the result of the transaction that was under way. */
static enum scan_step take(struct scan *scan, struct link *link, enum fault answer,
                           enum fault *fault)
{
    const struct plan_block *block = &scan->block;
    if (link->is_busy)
        return SCAN_BUSY;
    if (answer == FAULT_NONE) {
        const uint16_t *words = plan_words(scan->plan);
        plan_decode(scan->plan, block, words, scan->values);
        if (scan->words != NULL)
            plan_copy(scan->plan, block, words, scan->words);
        scan->read += block->n;
    } else if (splits(answer) && plan_cut(scan->plan, block, answer != FAULT_DEVICE_FAILURE)) {
        return SCAN_MORE; /* the same position again, in smaller pieces */
    } else if (fault_is_silence(answer)) {
        scan_break(scan, answer);
        *fault = answer;
        return SCAN_BROKEN;
    } else {
        plan_fail(scan->plan, block, answer, scan->values);
        scan->failed += block->n;
    }
    scan->next = scan->after;
    return SCAN_MORE;
}

enum scan_step scan_begin_step(struct scan *scan, struct link *link, enum fault *fault)
{
    const struct device_modbus *modbus = &scan->device->modbus;
    const struct plan_block *block = &scan->block;
    if (!plan_next(scan->plan, scan->next, scan->number, &scan->block, &scan->after)) {
        if (scan->failed == 0)
            plan_mend(scan->plan);
        return SCAN_DONE;
    }
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
    enum scan_step step = scan_begin_step(scan, link, fault);
    while (step == SCAN_BUSY) {
        link_sleep(link);
        step = scan_go_on(scan, link, fault);
    }
    return step;
}

void scan_break(struct scan *scan, enum fault fault)
{
    struct plan_block block;
    unsigned next;

    while (plan_next(scan->plan, scan->next, scan->number, &block, &next)) {
        plan_fail(scan->plan, &block, fault, scan->values);
        scan->failed += block.n;
        scan->next = next;
    }
}
