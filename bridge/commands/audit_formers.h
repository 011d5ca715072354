/* audit_formers: where the audit log was before, and what earlier runs have written.
 *
 * A reload may move the log; the ids that were answered must outlive that and every
 * restart, so its former paths are noted in the state. The audit log's own.
 */
#ifndef BRIDGE_COMMANDS_AUDIT_FORMERS_H
#define BRIDGE_COMMANDS_AUDIT_FORMERS_H

#include "bridge/site/conf.h"
#include "bridge/store/state.h"

enum { AUDIT_FORMERS_MAX = 8, AUDIT_FORMERS_SIZE = AUDIT_FORMERS_MAX * (CONF_PATH_MAX + 1) };

/* The paths, oldest first, a line each; "" = none, or `state` is NULL. */
void audit_formers_get(struct state *state, char formers[AUDIT_FORMERS_SIZE]);

/* One more is the last of them, also where it already was; too many, and the oldest gives
 * way. */
void audit_formers_add(struct state *state, const char *path);

/* At the disk. The lines of all of them, and last those at `path`, as audit_file_read()
 * gives them; `formers` is taken apart. Returns an errno, 0 = good. */
int audit_formers_read(char formers[AUDIT_FORMERS_SIZE], const char *path, char **lines);

#endif
