#include "devices/scan.h"

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

enum scan_step scan_step(struct scan *scan, struct link *link, enum fault *fault)
{
    struct plan_block block;
    unsigned next;
    uint16_t *words = plan_words(scan->plan);

    if (!plan_next(scan->plan, scan->next, scan->number, &block, &next)) {
        if (scan->failed == 0)
            plan_mend(scan->plan);
        return SCAN_DONE;
    }
    enum fault answer =
        link_read(link, (uint8_t)scan->device->modbus.address, block.table, block.address,
                  block.count, words, scan->device->modbus.timeout_ns);
    if (answer == FAULT_NONE) {
        plan_decode(scan->plan, &block, words, scan->values);
        if (scan->words != NULL)
            plan_copy(scan->plan, &block, words, scan->words);
        scan->read += block.n;
    } else if (splits(answer) && plan_cut(scan->plan, &block, answer != FAULT_DEVICE_FAILURE)) {
        return SCAN_MORE; /* the same position again, in smaller pieces */
    } else if (fault_is_silence(answer)) {
        scan_break(scan, answer);
        *fault = answer;
        return SCAN_BROKEN;
    } else {
        plan_fail(scan->plan, &block, answer, scan->values);
        scan->failed += block.n;
    }
    scan->next = next;
    return SCAN_MORE;
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
