/* types: the device types that there are. */
#ifndef BRIDGE_CLI_TYPES_H
#define BRIDGE_CLI_TYPES_H

#include <stdbool.h>

/* The names of the profiles in `directories` (NULL-terminated, as from
 * profile_directories()), each once, in alphabetical order, ended by NULL. Free
 * with types_free(). NULL when out of memory. */
char **types_list(const char *const *directories);
void types_free(char **types);

bool types_has(char *const *types, const char *type);

#endif
