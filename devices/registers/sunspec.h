/* sunspec: where the models of a SunSpec device begin.
 *
 * Pure. A device has "SunS" at register 40000, 0 or 50000, and behind it a chain of
 * models: ID, length, and as many registers as that says; ID 0xFFFF ends it (SunSpec
 * Device Information Model Specification V1.1, section 4). Which models there are, and
 * so where each begins, differs from device to device.
 *
 * Owned by a plan (devices/registers/plan.h).
 */
#ifndef DEVICES_REGISTERS_SUNSPEC_H
#define DEVICES_REGISTERS_SUNSPEC_H

#include <stdbool.h>
#include <stdint.h>

enum {
    SUNSPEC_WANTED_MAX = 16, /* models that one type is made of */
    SUNSPEC_CHAIN_MAX = 64,  /* models of a device: more is no chain, but nonsense */
    SUNSPEC_ASKED = 2        /* registers of each question */
};

struct sunspec {
    unsigned n_wanted;
    struct sunspec_model {
        uint16_t id;
        bool found;
        uint16_t address; /* of its ID register */
        uint16_t length;  /* registers behind ID and length */
    } wanted[SUNSPEC_WANTED_MAX];
    bool settled;     /* there is nothing more to ask */
    unsigned base;    /* which beginning is tried */
    unsigned walked;  /* models passed; 0: "SunS" is asked for */
    uint32_t address; /* of the next question */
};

/* Wants a model: once more is once. False when there is no room. */
bool sunspec_want(struct sunspec *sunspec, uint16_t id);

/* Begins to look, or begins anew. Nothing is found then. */
void sunspec_begin(struct sunspec *sunspec);

/* The holding registers to read next, SUNSPEC_ASKED from *address. False when settled. */
bool sunspec_ask(const struct sunspec *sunspec, uint16_t *address);

/* Takes the answer. `words` NULL: the device refused. */
void sunspec_take(struct sunspec *sunspec, const uint16_t *words);

/* The model where it was found, or NULL. */
const struct sunspec_model *sunspec_find(const struct sunspec *sunspec, uint16_t id);

/* Whether all that are wanted were found. */
bool sunspec_is_complete(const struct sunspec *sunspec);

#endif
