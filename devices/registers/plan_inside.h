/* plan_inside: a plan as its own files see it: plan.c (points to block reads, and back) and
 * plan_learned.c (what a device refuses or leaves unanswered). Private to them.
 */
#ifndef DEVICES_REGISTERS_PLAN_INSIDE_H
#define DEVICES_REGISTERS_PLAN_INSIDE_H

#include "devices/registers/plan.h"
#include "devices/registers/sunspec.h"

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

static inline const struct point *plan_at(const struct plan *plan, unsigned position)
{
    return &plan->device->points[plan->places[position].point];
}

static inline unsigned plan_begin_of(const struct plan *plan, unsigned position)
{
    return plan->places[position].address;
}

static inline unsigned plan_end_of(const struct plan *plan, unsigned position)
{
    return plan->places[position].address + point_width(plan_at(plan, position));
}

static inline bool plan_is_due(const struct plan *plan, unsigned position, uint64_t scan)
{
    const uint64_t every = plan_at(plan, position)->every; /* mostly 1: a division less */
    return !plan->places[position].missing && (every == 1 || scan % every == 0);
}

#endif
