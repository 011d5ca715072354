/* peek: what a state file holds, while the bridge that owns it may be running.
 *
 * No other program can open the file then; so it and its log are copied, and the copy
 * is read. The file itself is only read. For the subcommands.
 */
#ifndef BRIDGE_STORE_PEEK_H
#define BRIDGE_STORE_PEEK_H

#include <stdbool.h>
#include <stddef.h>

enum { PEEK_WHY_MAX = 200 };

enum peek { PEEK_FOUND, PEEK_NOTHING, PEEK_FAILED };

/* Copies out the text of a key. PEEK_FAILED after writing why. */
enum peek peek_text(const char *path, const char *key, char *text, size_t size,
                    char why[PEEK_WHY_MAX]);

#endif
