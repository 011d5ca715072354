/* Numbers by chance, the same ones for the same seed: random_state is set to it. */
#ifndef TESTS_UNIT_SEEDED_H
#define TESTS_UNIT_SEEDED_H

#include <stdbool.h>
#include <stdint.h>

static uint64_t random_state;

/* splitmix64 */
static inline uint64_t draw(void)
{
    uint64_t z = (random_state += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

static inline int between(int low, int high)
{
    return low + (int)(draw() % (uint64_t)(high - low + 1));
}

static inline bool one_in(int n)
{
    return between(1, n) == 1;
}

#endif
