/* schedule_json: a dispatch schedule as it comes in, and where it stands as it is told.
 *
 * Pure but for memory.
 */
#ifndef BRIDGE_WIRE_SCHEDULE_JSON_H
#define BRIDGE_WIRE_SCHEDULE_JSON_H

#include "bridge/model/outcome.h"
#include "bridge/model/timetable.h"

/* Reads a payload: one JSON object of known fields. REASON_NONE: command->timetable has
 * it, to be freed with schedule_json_free(). Else malformed, overlap or too_large, and
 * `detail` says why; NULL then. The command's id, source and revision are filled in as
 * far as they could be read. A payload has no NUL. */
enum reason schedule_json_parse(const char *payload, size_t size, struct command *command,
                                char detail[DETAIL_MAX]);
void schedule_json_free(struct timetable *timetable);

/* The text for <device>/schedule; malloc'ed (free with free()), NULL when out of memory. */
char *schedule_json_status(const struct schedule_status *status);

/* The word of a state: "running". */
const char *schedule_json_word(enum schedule_state state);

#endif
