/* guard: the last words, and what nobody may read.
 *
 * Not every library looks at what malloc() gives it: without memory libconfig
 * and the MQTT library use a null pointer. That ends the program with a message
 * and code 1 and not without a word. Any other fault is a defect and keeps its
 * core dump. Called once, before threads start; the threads must not block
 * SIGSEGV.
 */
#ifndef BRIDGE_BASE_GUARD_H
#define BRIDGE_BASE_GUARD_H

void guard_install(void);

/* From now on the process holds passwords or keys: no core dump is made of it,
 * and no other process of its user may look into it. */
void guard_secrets(void);

#endif
