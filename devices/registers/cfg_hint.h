/* cfg_hint: what was likely meant where libconfig says no more than "syntax error".
 *
 * Pure functions, most of them over the words that libconfig was given.
 */
#ifndef DEVICES_REGISTERS_CFG_HINT_H
#define DEVICES_REGISTERS_CFG_HINT_H

#include "devices/registers/cfg_lexer.h"

enum { CFG_HINT_MAX = CFG_LEXER_ERROR_MAX + 320 };

/* Says what is wrong at the word that libconfig stumbled over, all words before it
 * being good. Returns the word that it is about. */
unsigned cfg_hint(const struct cfg_lexer *lexer, unsigned at, char text[CFG_HINT_MAX]);

/* The word before that gives a setting the same name in the same group; NULL when there
 * is none, or no setting has its name here. */
const struct cfg_word *cfg_hint_doubled(const struct cfg_lexer *lexer, unsigned at);

/* Whether `name` is likely a slip of the hand for `meant`: a letter or two that are missing,
 * too many, other ones or the other way round. */
bool cfg_hint_is_slip(const char *name, const char *meant);

#endif
