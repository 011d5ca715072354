/* plan: the few block reads that cover the points of a device.
 *
 * Pure, and allocates only in plan_new(). A plan is the points in order of
 * table and address, with cuts between them; a block is a run without a cut.
 * Neighbours share a block when the gap between them is cheaper than another
 * request, may be read through, and the block stays within the type's limit.
 *
 * It learns what its device does not give. A block that is refused for its address
 * is split for good at its widest gap, so that in the end the refused register stands
 * alone. A block that gets no answer while the device answers others is split too, but
 * for now: only when the whole stayed silent, and its parts answered, again and again,
 * the cut is kept. A single point that stays silent is asked ever more seldom. What was
 * learned is told once, by plan_explain().
 *
 * Owned by one poller; not thread-safe.
 */
#ifndef DEVICES_REGISTERS_PLAN_H
#define DEVICES_REGISTERS_PLAN_H

#include "devices/lines/fault.h"
#include "devices/registers/device.h"

enum {
    PLAN_WORDS_MAX = POINT_WORDS_MAX, /* registers of one point */
    PLAN_STRIKES = 3,                 /* silences of a whole, with its parts answering */
    PLAN_QUIET_SCANS_MAX = 64,        /* a silent point is asked at least so often */
    PLAN_EXPLANATION_MAX = 320
};

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

/* A plan over the points of `device` for which `wanted[i]` (NULL = all), and the rows
 * that scale them or that they are made of. One over some points alone asks for all of them each
 * time, however silent they were. NULL when out of memory. */
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

/* ---- where SunSpec's models are (devices/registers/sunspec.h) ---- */

/* What has to be read before the blocks are known, into plan_words(); false when
 * nothing has. */
bool plan_ask_models(const struct plan *plan, struct plan_block *block);
/* Takes the answer that is in plan_words(), or none: the device refused. */
void plan_take_models(struct plan *plan, bool answered);
/* Gives the due points of models that were not found, and have no value yet, this fault.
 * Returns how many. */
unsigned plan_fail_missing(const struct plan *plan, uint64_t scan, enum fault fault,
                           struct value *values);

/* ---- what was learned ---- */

/* Splits `block` at its widest gap, for good or until plan_end(), so that
 * asking again from block->first gives two. False when it holds one point
 * only: then the refusal is that point's own. */
bool plan_cut(struct plan *plan, const struct plan_block *block, bool for_good);

/* The block was answered. */
void plan_note_answer(struct plan *plan, const struct plan_block *block);

/* The block got no answer. True as long as that may be a loss on the way, which another
 * attempt makes good: as many times in a row as the device's retry_count says, and twice
 * at least. */
bool plan_note_silence(struct plan *plan, const struct plan_block *block);

/* Splits a block that was silent so often, for now; else false. */
bool plan_cut_silent(struct plan *plan, const struct plan_block *block);

/* Whether the block, or what it was cut from, was silent when it was asked last. */
bool plan_is_suspect(const struct plan *plan, const struct plan_block *block);

/* Whether the block is a point that is known to be silent, and not to be asked now. */
bool plan_is_quiet(const struct plan *plan, const struct plan_block *block);

/* A scan begins. True when the last one read nothing at all: then nobody may be there,
 * and one block has to answer before the others are asked: the one at *from. */
bool plan_begin(struct plan *plan, unsigned *from);

/* A scan is over that asked for all: its values, whether any was read, and where a scan
 * that read nothing goes on. Takes back cuts, or keeps them, and scales the values. */
void plan_end(struct plan *plan, struct value *values, bool any, unsigned turn);

/* One thing that was learned and not told before, as a sentence that names the
 * registers and the key to set. False when there is none. */
bool plan_explain(struct plan *plan, char text[PLAN_EXPLANATION_MAX]);

/* ---- answers ---- */

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

/* The index of the first point of the block among the device's. */
unsigned plan_first_point(const struct plan *plan, const struct plan_block *block);

#endif
