/* A number that a seeded test takes from outside: FLUXBRIDGE_SEED, FLUXBRIDGE_STEPS. */
#ifndef TESTS_UNIT_FROM_ENVIRONMENT_H
#define TESTS_UNIT_FROM_ENVIRONMENT_H

#include <stdint.h>
#include <stdlib.h>

static inline uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

#endif
