/* terminal: what is shown to a person, and to nobody's pipe.
 *
 * Colours unless NO_COLOR is set (https://no-color.org); one line of progress on standard
 * error; neither on a dumb terminal, which would show the signs for it. One thread.
 */
#ifndef BRIDGE_CLI_TERMINAL_H
#define BRIDGE_CLI_TERMINAL_H

#include <stdbool.h>
#include <stdio.h>

#define TERMINAL_BOLD   "\033[1m"
#define TERMINAL_RED    "\033[31m"
#define TERMINAL_GREEN  "\033[32m"
#define TERMINAL_YELLOW "\033[33m"
#define TERMINAL_PLAIN  "\033[0m"

/* Whether `out` is a terminal that can show something in place of what it shows. */
bool terminal_can_rewrite(FILE *out);

/* Whether `out` is a terminal that wants colours. */
bool terminal_is_coloured(FILE *out);

/* Shows what is being done in place of what was shown before, if standard error
 * can. */
void terminal_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Takes the last of it away again: before anything else is printed. */
void terminal_progress_end(void);

#endif
