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
#ifndef DEVICES_REGISTERS_PLAN_H
#define DEVICES_REGISTERS_PLAN_H

#include "devices/lines/fault.h"
#include "devices/registers/device.h"

enum { PLAN_WORDS_MAX = 4 }; /* registers of one point */

struct plan;

/* One read request: `count` registers (or bits) from `address`, for the `n`
 * points that are due at `scan` among the plan's positions first .. end - 1. */
struct plan_block {
    enum point_table table;
    uint16_t address;
    uint16_t count;
    unsigned first, end, n;
    uint64_t scan;
};

/* A plan over the points of `device` for which `wanted[i]` (NULL = all).
 * NULL when out of memory. */
struct plan *plan_new(const struct device *device, const bool *wanted);
void plan_free(struct plan *plan);

/* The first block at or after position `from`, made of the points alone whose
 * poll class is due at scan number `scan` (at scan 0 all are). Begin with
 * from = 0 and go on from `*next`. False when there is no block left; `block`
 * and `next` are untouched then. */
bool plan_next(const struct plan *plan, unsigned from, uint64_t scan, struct plan_block *block,
               unsigned *next);

/* Room for the words that answer any block of the plan: the plan's own. */
uint16_t *plan_words(const struct plan *plan);

/* Splits `block` at its widest gap, for good or until plan_mend(), so that
 * asking again from block->first gives two. False when it holds one point
 * only: then the refusal is that point's own. */
bool plan_cut(struct plan *plan, const struct plan_block *block, bool for_good);

/* Takes back the cuts that were not for good. */
void plan_mend(struct plan *plan);

/* Decodes the words of an answered block into values[], indexed as the
 * device's points. Points that are not in the block are left alone. */
void plan_decode(const struct plan *plan, const struct plan_block *block, const uint16_t *words,
                 struct value *values);

/* Copies the registers of each point of an answered block to copies[], indexed
 * as the device's points. */
void plan_copy(const struct plan *plan, const struct plan_block *block, const uint16_t *words,
               uint16_t (*copies)[PLAN_WORDS_MAX]);

/* Marks every point of the block as failed. */
void plan_fail(const struct plan *plan, const struct plan_block *block, enum fault fault,
               struct value *values);

#endif
