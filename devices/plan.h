/* plan: the few block reads that cover the points of a device.
 *
 * Pure, and allocates only in plan_new(). A plan is the points in order of
 * table and address, with cuts between them; a block is a run without a cut.
 * Neighbours share a block when the gap between them is cheaper than another
 * request, may be read through, and the block stays within the type's limit.
 * When a device refuses a block for its address, plan_cut() splits it for
 * good at its widest gap, so that in the end the refused register stands alone.
 *
 * Owned by one poller; not thread-safe.
 */
#ifndef DEVICES_PLAN_H
#define DEVICES_PLAN_H

#include "devices/device.h"

struct plan;

/* One read request: `count` registers (or bits) from `address`, holding the
 * points plan_point(plan, first) .. plan_point(plan, first + n - 1). */
struct plan_block {
    enum point_table table;
    uint16_t address;
    uint16_t count;
    unsigned first, n;
};

/* A plan over the points of `device` for which `wanted[i]` (NULL = all).
 * NULL when out of memory. */
struct plan *plan_new(const struct device *device, const bool *wanted);
void plan_free(struct plan *plan);

/* The block that starts at or after position `from`, leaving out points whose
 * poll class is not due at scan number `scan` (blocks are made of due points
 * only). False when there is none left. Next call: from = first + n ... use
 * block->next. */
bool plan_next(const struct plan *plan, unsigned from, uint64_t scan, struct plan_block *block,
               unsigned *next);

/* Splits `block` at its widest gap: for good, or until plan_mend(). False when
 * it holds one point only. */
bool plan_cut(struct plan *plan, const struct plan_block *block, bool for_good);

/* Takes back the cuts that were not for good. */
void plan_mend(struct plan *plan);

/* Decodes the words of an answered block into values[], indexed as the
 * device's points. */
void plan_decode(const struct plan *plan, const struct plan_block *block, const uint16_t *words,
                 struct value *values);

/* Marks every point of the block as failed. */
void plan_fail(const struct plan *plan, const struct plan_block *block, enum fault fault,
               struct value *values);

#endif
