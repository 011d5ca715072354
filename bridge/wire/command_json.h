/* command_json: a command as it comes in, from its payload.
 *
 * Pure but for memory.
 */
#ifndef BRIDGE_WIRE_COMMAND_JSON_H
#define BRIDGE_WIRE_COMMAND_JSON_H

#include "bridge/model/outcome.h"

/* Reads a command's payload: one JSON object of known fields (or, with
 * allow_bare, one JSON number): id, value, issued_at, ttl_s and source of *command.
 * False: `detail` says what is wrong with it, and of *command only the id is
 * filled in, if it could be read. */
bool command_json_parse(const char *payload, size_t size, bool allow_bare, struct command *command,
                        char detail[DETAIL_MAX]);

#endif
