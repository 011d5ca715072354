/* audit_formers: where the audit log was before, and what earlier runs have written.
 *
 * A reload or a start may find the log at another path; the ids that were answered must
 * outlive that and every kill, so a path is noted in the state before the first line is
 * written there. The audit log's own.
 */
#ifndef BRIDGE_COMMANDS_AUDIT_FORMERS_H
#define BRIDGE_COMMANDS_AUDIT_FORMERS_H

#include "bridge/site/conf.h"
#include "bridge/store/state.h"

enum { AUDIT_FORMERS_MAX = 9, AUDIT_FORMERS_SIZE = AUDIT_FORMERS_MAX * (CONF_PATH_MAX + 1) };

/* The paths, oldest first, a line each; "" = none, or `state` is NULL. */
void audit_formers_get(struct state *state, char formers[AUDIT_FORMERS_SIZE]);

/* One more is the last of them, also where it already was; too many, and the oldest gives
 * way. */
void audit_formers_add(struct state *state, const char *path);

/* At the disk. The lines of all of them, and last those at `path`, as audit_file_read()
 * gives them; `formers` is taken apart. Returns an errno, 0 = good. */
int audit_formers_read(char formers[AUDIT_FORMERS_SIZE], const char *path, char **lines);

#endif
