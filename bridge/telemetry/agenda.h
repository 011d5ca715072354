/* agenda: which of many is due first.
 *
 * For a thread with hundreds of lines, which asks that several times a sample: setting
 * one takes as many steps as their number has digits in base two, asking takes one.
 * Pure, but for its memory; one thread's.
 */
#ifndef BRIDGE_TELEMETRY_AGENDA_H
#define BRIDGE_TELEMETRY_AGENDA_H

#include <stdint.h>

struct agenda;

/* Of `n` > 0, none of which is ever due (INT64_MAX) until it is set. NULL when out of
 * memory. */
struct agenda *agenda_new(unsigned n);
void agenda_free(struct agenda *agenda);

void agenda_set(struct agenda *agenda, unsigned index, int64_t due_ns);

/* The first, of several at the same time the one with the lowest index, and its time. */
unsigned agenda_first(const struct agenda *agenda, int64_t *due_ns);

#endif
