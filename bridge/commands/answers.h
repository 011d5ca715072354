/* answers: how a command is answered.
 *
 * Turns an outcome into its line in the audit log and its message on the
 * result topic (and response topic), counts it, and remembers it by its id, so
 * that a repeated command can be told what came of it the first time. What was
 * answered before a restart is read back from the audit log.
 *
 * Owned by the subscriber.
 */
#ifndef BRIDGE_COMMANDS_ANSWERS_H
#define BRIDGE_COMMANDS_ANSWERS_H

#include "bridge/commands/audit.h"
#include "bridge/model/health.h"
#include "bridge/wire/outcome_json.h"

struct answers;

/* NULL when out of memory. */
struct answers *answers_new(const struct conf *conf, struct audit *audit, struct health *health);
/* The audit log can be written: what earlier runs have answered is read now, if it could
 * not be at the start. */
void answers_catch_up(struct answers *answers);

void answers_free(struct answers *answers);

/* The devices of these places are other ones from now on: what was answered of the former
 * is forgotten, what the audit log has of the new ones is read; and of all of them when it is
 * `another_log`. False when out of memory. */
bool answers_renew(struct answers *answers, const bool *others, bool another_log);

/* Index of the device called `name`, or -1. */
int answers_find_device(const struct answers *answers, const char *name);

/* The first outcome of an id as it was published, or NULL. `device` < 0 and
 * devices that take no commands have none. */
const char *answers_first(const struct answers *answers, int device, const char *id);

/* Whether no more ids of this device can be remembered now. */
bool answers_crowded(const struct answers *answers, int device, int64_t now_ns);

/* Answers with an outcome. */
void answers_send(struct answers *answers, const struct outcome *outcome);

/* Answers a command with the first outcome of its id once more, marked as a
 * duplicate. */
void answers_repeat(struct answers *answers, const struct command *command, const char *first);

#endif
