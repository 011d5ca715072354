/* guard: the last words.
 *
 * Not every library looks at what malloc() gives it: without memory the
 * MQTT library uses a null pointer. That ends the program with a message
 * and code 1 and not without a word. Any other fault is a defect and keeps its
 * core dump. Called once, before threads start; the threads must not block
 * SIGSEGV.
 */
#ifndef BRIDGE_BASE_GUARD_H
#define BRIDGE_BASE_GUARD_H

void guard_install(void);

#endif
