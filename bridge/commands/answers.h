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
#include "bridge/commands/inbox.h"
#include "bridge/model/health.h"
#include "bridge/wire/outcome_json.h"

struct answers;

/* Where else an outcome goes: MQTT 5 response topic and correlation data. */
struct reply_address {
    char response_topic[INBOX_TOPIC_MAX + 1]; /* "" = nowhere else */
    size_t correlation_size;
    unsigned char correlation[INBOX_CORRELATION_MAX];
};

/* NULL when out of memory. */
struct answers *answers_new(const struct conf *conf, struct audit *audit, struct health *health);
void answers_free(struct answers *reply);

/* Index of the device called `name`, or -1. */
int answers_find_device(const struct answers *reply, const char *name);

/* The first outcome of an id as it was published, or NULL. `device` < 0 and
 * devices that take no commands have none. */
const char *answers_first(const struct answers *reply, int device, const char *id);

/* Whether no more ids of this device can be remembered now. */
bool answers_crowded(const struct answers *reply, int device, int64_t utc_ms);

/* Answers with an outcome; `node` is the device as the topic named it. */
void answers_send(struct answers *reply, const char *node, const struct outcome *outcome,
                  const struct wire_trace *trace, const struct reply_address *address);

/* Answers with a first outcome once more, marked as a duplicate. */
void answers_repeat(struct answers *reply, const char *node, const char *first,
                    const struct reply_address *address);

#endif
