/* outcome_json: what became of a command, for the result topic and the audit log.
 *
 * Pure but for memory.
 */
#ifndef BRIDGE_WIRE_OUTCOME_JSON_H
#define BRIDGE_WIRE_OUTCOME_JSON_H

#include "bridge/model/outcome.h"

/* What is published, and the line for the audit log, which says more of how and
 * when it came to that. Malloc'ed (free with free()); NULL when out of memory. */
char *outcome_json(const struct outcome *outcome);
char *outcome_json_audit(const struct outcome *outcome);

enum { OUTCOME_JSON_TOLD_MAX = 63 };

/* A published outcome's text once more, marked "duplicate":true. `told` gets what it says
 * as it is in the log: "value=50 outcome=confirmed". */
char *outcome_json_repeat(const char *payload, char told[OUTCOME_JSON_TOLD_MAX + 1]);

/* Whether a published outcome is of a message that was refused before its id was looked at:
 * retained, or to no point that may be written. */
bool outcome_json_is_aside(const char *payload);

/* Takes a line of the audit log back to whose outcome it was and what was
 * published; *payload is malloc'ed. False for anything that is not the outcome
 * of an id: a repetition, a correction, what was refused as malformed or because
 * the id's command was under way; and nothing of a schedule. */
bool outcome_json_parse_audit(const char *line, char device[COMMAND_NAME_MAX + 1],
                              char id[COMMAND_ID_MAX + 1], int64_t *ts_ms, char **payload);

#endif
