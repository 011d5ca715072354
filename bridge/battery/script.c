#include "bridge/battery/script.h"

#include <string.h>

#include "devices/registers/codec.h"

/* The lists that are carried out, in order, for one of the names. */
struct lists {
    unsigned n;
    const struct drive_list *lists[2];
    bool timeout_first; /* the lists do not write it */
};

static bool is_power(const struct drive_write *write)
{
    return write->value == DRIVE_SETPOINT || write->value == DRIVE_MAGNITUDE;
}

static struct lists lists_of(const struct drive *drive, enum script_list list)
{
    struct lists lists = {.n = 0};
    bool carried = false, timed = drive->timeout < 0;
    switch (list) {
    case SCRIPT_ENGAGE:
        lists.lists[lists.n++] = &drive->engage;
        for (unsigned i = 0; i < drive->engage.n; i++) {
            carried = carried || is_power(&drive->engage.writes[i]);
            timed = timed || (int)drive->engage.writes[i].point == drive->timeout;
        }
        if (!carried)
            lists.lists[lists.n++] = &drive->set;
        lists.timeout_first = !timed;
        break;
    case SCRIPT_SET:
        lists.lists[lists.n++] = &drive->set;
        break;
    case SCRIPT_RELEASE:
        lists.lists[lists.n++] = &drive->release;
        break;
    case SCRIPT_BEAT:
        if (drive->rewrite)
            lists.lists[lists.n++] = &drive->set;
        break;
    }
    return lists;
}

/* ---- the requests ---- */

/* False when the row cannot hold it. */
static bool add(const struct device *device, struct script *script, unsigned index, double number,
                bool joined)
{
    const struct point *point = &device->points[index];
    struct script_step *last = script->n > 0 ? &script->steps[script->n - 1] : NULL;
    const uint16_t width = (uint16_t)point_width(point);
    uint16_t words[POINT_NUMBER_WORDS_MAX];
    if (codec_encode(point, number, words) != CODEC_FITS)
        return false;
    if (joined && last != NULL && last->count + width <= SCRIPT_WORDS_MAX &&
        point->address == last->address + last->count) {
        memcpy(last->words + last->count, words, width * sizeof(words[0]));
        last->count = (uint16_t)(last->count + width);
        last->multiple = true;
        return true;
    }
    struct script_step *step = &script->steps[script->n++];
    *step = (struct script_step){
        .table = point->table,
        .address = point->address,
        .count = width,
        .multiple = point->write_multiple || width > 1,
        .point = index,
        .number = number,
    };
    memcpy(step->words, words, width * sizeof(words[0]));
    return true;
}

static const struct point *add_list(const struct device *device, const struct drive_list *list,
                                    double kw, const struct value *values, unsigned beat,
                                    struct script *script)
{
    const struct drive *drive = &device->profile->drive;
    const enum drive_when when = drive_when_of(kw);
    bool begun = false; /* the block that is joined has a row */
    for (unsigned i = 0; i < list->n; i++) {
        const struct drive_write *write = &list->writes[i];
        double number;
        begun = begun && write->joined;
        if (!drive_applies(write, when))
            continue;
        if (!drive_number(drive, &device->control.drive, device->points, values, write, kw, beat,
                          &number) ||
            !add(device, script, write->point, number, begun))
            return &device->points[write->point];
        struct script_step *step = &script->steps[script->n - 1];
        step->carries = step->carries || is_power(write) || write->when != DRIVE_ALWAYS;
        for (unsigned k = 0; k < drive->set.n; k++)
            step->prepares = step->prepares || (write->value != DRIVE_BEAT &&
                                                drive->set.writes[k].point == write->point);
        step->beats =
            write->value == DRIVE_BEAT && step->count == point_width(&device->points[write->point]);
        begun = true;
    }
    return NULL;
}

const struct point *script_make(const struct device *device, enum script_list list, double kw,
                                const struct value *values, unsigned beat, struct script *script)
{
    const struct drive *drive = &device->profile->drive;
    const struct lists lists = lists_of(drive, list);
    const struct drive_write timeout = {.point = drive->timeout >= 0 ? (unsigned)drive->timeout : 0,
                                        .value = DRIVE_TIMEOUT,
                                        .of = -1};
    double number;
    script->list = list;
    script->n = 0;
    if (lists.timeout_first && (!drive_number(drive, &device->control.drive, device->points, values,
                                              &timeout, kw, beat, &number) ||
                                !add(device, script, timeout.point, number, false)))
        return &device->points[timeout.point];
    if (list == SCRIPT_BEAT && !drive->rewrite) {
        if (!add(device, script, (unsigned)drive->beat, drive->beats[beat % drive->n_beats], false))
            return &device->points[drive->beat];
        script->steps[0].beats = true;
    }
    for (unsigned i = 0; i < lists.n; i++) {
        const struct point *misfit = add_list(device, lists.lists[i], kw, values, beat, script);
        if (misfit != NULL)
            return misfit;
    }
    return NULL;
}

void script_beat_last(struct script *script)
{
    unsigned last = script->n;
    for (unsigned i = 0; i < script->n; i++)
        last = script->steps[i].carries ? i : last;
    for (unsigned i = 0; last < script->n && i < last; i++) {
        if (!script->steps[i].beats)
            continue;
        const struct script_step beat = script->steps[i];
        for (unsigned k = i; k < last; k++)
            script->steps[k] = script->steps[k + 1];
        script->steps[last--] = beat;
        i--;
    }
}

/* ---- what must read back ---- */

static void expect(const struct device *device, struct script_proofs *proofs, unsigned index,
                   double number)
{
    const struct point *point = &device->points[index];
    uint16_t words[POINT_NUMBER_WORDS_MAX];
    struct script_proof *proof = proofs->proofs;
    if (codec_encode(point, number, words) != CODEC_FITS)
        return;
    while (proof < proofs->proofs + proofs->n && proof->point != index)
        proof++; /* what is written last counts */
    if (proof == proofs->proofs + proofs->n)
        proofs->n++;
    *proof = (struct script_proof){
        .point = index, .number = number, .raw = codec_decode(point, words).raw};
}

/* What the lists write to these points (NULL: all) and what stays. */
static void expect_lists(const struct device *device, const struct lists *lists, double kw,
                         const struct value *values, const bool *wanted,
                         struct script_proofs *proofs)
{
    const struct drive *drive = &device->profile->drive;
    for (unsigned k = 0; k < lists->n; k++) {
        for (unsigned i = 0; i < lists->lists[k]->n; i++) {
            const struct drive_write *write = &lists->lists[k]->writes[i];
            double number;
            if (write->value == DRIVE_BEAT || !drive_applies(write, drive_when_of(kw)) ||
                (wanted != NULL && !wanted[write->point]))
                continue;
            if (drive_number(drive, &device->control.drive, device->points, values, write, kw, 0,
                             &number))
                expect(device, proofs, write->point, number);
        }
    }
}

static void mark_proofs(const struct drive *drive, bool wanted[PROFILE_POINTS_MAX])
{
    for (unsigned i = 0; i < drive->n_proofs; i++)
        wanted[drive->proofs[i]] = true;
    if (drive->timeout >= 0)
        wanted[drive->timeout] = true;
}

void script_prove(const struct device *device, enum script_list list, double kw,
                  const struct value *values, struct script_proofs *proofs)
{
    const struct drive *drive = &device->profile->drive;
    const struct lists released = lists_of(drive, SCRIPT_RELEASE);
    const struct lists lists = {.n = 2, .lists = {&drive->engage, &drive->set}};
    bool wanted[PROFILE_POINTS_MAX] = {false};
    proofs->n = 0;
    if (list == SCRIPT_RELEASE) {
        expect_lists(device, &released, 0, values, NULL, proofs);
        return;
    }
    mark_proofs(drive, wanted);
    for (unsigned i = 0; i < drive->set.n; i++)
        wanted[drive->set.writes[i].point] = true;
    if (drive->timeout >= 0)
        expect(device, proofs, (unsigned)drive->timeout,
               drive_round(device->control.drive.timeout_s *
                           drive_per_s(&device->points[drive->timeout])));
    expect_lists(device, &lists, kw, values, wanted, proofs);
    for (unsigned i = 0; i < drive->n_proofs; i++) {
        bool known = false;
        for (unsigned k = 0; k < proofs->n; k++)
            known = known || proofs->proofs[k].point == drive->proofs[i];
        if (!known && !drive_writes(drive, drive->proofs[i]))
            proofs->proofs[proofs->n++] =
                (struct script_proof){.point = drive->proofs[i], .power = true, .kw = kw};
    }
}

static bool agrees(const struct device *device, const struct script_proof *proof,
                   const struct value *value)
{
    if (value->state != VALUE_READ)
        return false;
    if (proof->power)
        return drive_round(value->number / drive_per_kw(&device->points[proof->point])) ==
               drive_round(proof->kw);
    return value->raw == proof->raw;
}

const struct script_proof *script_disagrees(const struct device *device,
                                            const struct script_proofs *proofs,
                                            const struct value *values)
{
    for (unsigned i = 0; i < proofs->n; i++)
        if (!agrees(device, &proofs->proofs[i], &values[proofs->proofs[i].point]))
            return &proofs->proofs[i];
    return NULL;
}

bool script_is_read(const struct script_proofs *proofs, const struct value *values)
{
    for (unsigned i = 0; i < proofs->n; i++)
        if (values[proofs->proofs[i].point].state != VALUE_READ)
            return false;
    return true;
}

/* What reads as engage writes it while somebody commands the battery. */
static void prove_engaged(const struct device *device, const struct value *values,
                          struct script_proofs *proofs)
{
    const struct drive *drive = &device->profile->drive;
    const struct lists lists = {.n = 1, .lists = {&drive->engage}};
    bool wanted[PROFILE_POINTS_MAX] = {false};
    for (unsigned i = 0; i < drive->n_proofs; i++)
        wanted[drive->proofs[i]] = (int)drive->proofs[i] != drive->timeout;
    for (unsigned i = 0; i < drive->set.n; i++)
        wanted[drive->set.writes[i].point] = false;
    expect_lists(device, &lists, 0, values, wanted, proofs);
}

bool script_is_engaged(const struct device *device, const struct value *values)
{
    struct script_proofs proofs = {.n = 0};
    prove_engaged(device, values, &proofs);
    return script_disagrees(device, &proofs, values) == NULL;
}

bool script_may_be_engaged(const struct device *device, const struct value *values)
{
    struct script_proofs proofs = {.n = 0};
    if (values != NULL)
        prove_engaged(device, values, &proofs);
    for (unsigned i = 0; i < proofs.n; i++) {
        const struct value *value = &values[proofs.proofs[i].point];
        if (value->state == VALUE_READ && !agrees(device, &proofs.proofs[i], value))
            return false;
    }
    return true;
}
