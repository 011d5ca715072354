/* prove: what every harness has in common.
 *
 * A harness is a main() for CBMC: what nondet_…() returns may be anything, assume()
 * says what is known of it, and prove() must hold for all that is left. `reach` marks
 * a place that must be reachable: it is a claim that has to fail, so that a harness
 * which assumes too much, and so proves nothing, is found.
 */
#ifndef TESTS_PROOF_PROVE_H
#define TESTS_PROOF_PROVE_H

#include <stdbool.h>
#include <stdint.h>

bool nondet_bool(void);
unsigned nondet_unsigned(void);
int nondet_int(void);
int64_t nondet_time(void);
double nondet_double(void);
uint16_t nondet_word(void);
uint64_t nondet_wide(void);
char nondet_char(void);

void __CPROVER_assume(_Bool assumption);
void __CPROVER_assert(_Bool claim, const char *words);

#define assume(known)       __CPROVER_assume(known)
#define prove(claim, words) __CPROVER_assert(claim, words)
#define reach(words)        __CPROVER_assert(false, "reach: " words)

#endif
