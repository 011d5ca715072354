/* guard: the last words, and what nobody may read.
 *
 * Not every library looks at what malloc() gives it: without memory libconfig
 * and the MQTT library use a null pointer. That ends the program with a message
 * and code 1 and not without a word. Any other fault is a defect and keeps its
 * core dump. A library that ends the program ends it with code 1, too, unless
 * guard_end() was called. Called once, before threads start; the threads must not block
 * SIGSEGV. And nothing that is opened later is taken for stdin, stdout or stderr, where the
 * program was started without one.
 *
 * And where a library does look, not every caller can tell what is missing for want of
 * memory from what is not there: half a JSON text looks whole, and a good database damaged.
 */
#ifndef BRIDGE_BASE_GUARD_H
#define BRIDGE_BASE_GUARD_H

#include <stddef.h>

void guard_install(void);
/* The program ends as it means to. */
void guard_end(void);

/* Without memory it ends the program as above: for what must be whole. */
void guard_memory(const void *memory);
/* As malloc(), but it always gives some. */
void *guard_allocate(size_t size);

/* From now on the process holds passwords or keys: no core dump is made of it,
 * and no other process of its user may look into it. */
void guard_secrets(void);

#endif
