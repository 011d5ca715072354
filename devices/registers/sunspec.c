#include "devices/registers/sunspec.h"

#include <stddef.h>

/* In the specification's order of preference. */
static const uint32_t BASES[] = {40000, 0, 50000};
enum { N_BASES = sizeof BASES / sizeof BASES[0], SUN = 0x5375, S = 0x6e53, END = 0xffff };

bool sunspec_want(struct sunspec *sunspec, uint16_t id)
{
    for (unsigned i = 0; i < sunspec->n_wanted; i++)
        if (sunspec->wanted[i].id == id)
            return true;
    if (sunspec->n_wanted == SUNSPEC_WANTED_MAX)
        return false;
    sunspec->wanted[sunspec->n_wanted++] = (struct sunspec_model){.id = id};
    return true;
}

static void try_base(struct sunspec *sunspec, unsigned base)
{
    sunspec->base = base;
    sunspec->walked = 0;
    sunspec->settled = base == N_BASES;
    if (!sunspec->settled)
        sunspec->address = BASES[base];
}

void sunspec_begin(struct sunspec *sunspec)
{
    for (unsigned i = 0; i < sunspec->n_wanted; i++)
        sunspec->wanted[i].found = false;
    try_base(sunspec, 0);
    sunspec->settled = sunspec->n_wanted == 0;
}

bool sunspec_ask(const struct sunspec *sunspec, uint16_t *address)
{
    if (sunspec->settled)
        return false;
    *address = (uint16_t)sunspec->address;
    return true;
}

/* A model's first two registers: it is noted, and the next one stands behind it. */
static void pass(struct sunspec *sunspec, uint16_t id, uint16_t length)
{
    for (unsigned i = 0; i < sunspec->n_wanted; i++) {
        struct sunspec_model *model = &sunspec->wanted[i];
        if (model->id != id || model->found)
            continue;
        model->found = true;
        model->address = (uint16_t)sunspec->address;
        model->length = length;
    }
    sunspec->address += SUNSPEC_ASKED + (uint32_t)length;
    sunspec->settled = id == END || sunspec_is_complete(sunspec) ||
                       ++sunspec->walked > SUNSPEC_CHAIN_MAX ||
                       sunspec->address + SUNSPEC_ASKED > UINT16_MAX + 1U;
}

void sunspec_take(struct sunspec *sunspec, const uint16_t *words)
{
    if (sunspec->walked > 0) {
        if (words)
            pass(sunspec, words[0], words[1]);
        else
            sunspec->settled = true; /* the chain has an end without its mark */
    } else if (words && words[0] == SUN && words[1] == S) {
        sunspec->address += SUNSPEC_ASKED;
        sunspec->walked = 1;
    } else {
        try_base(sunspec, sunspec->base + 1);
    }
}

const struct sunspec_model *sunspec_find(const struct sunspec *sunspec, uint16_t id)
{
    for (unsigned i = 0; i < sunspec->n_wanted; i++)
        if (sunspec->wanted[i].id == id && sunspec->wanted[i].found)
            return &sunspec->wanted[i];
    return NULL;
}

bool sunspec_is_complete(const struct sunspec *sunspec)
{
    for (unsigned i = 0; i < sunspec->n_wanted; i++)
        if (!sunspec->wanted[i].found)
            return false;
    return true;
}
