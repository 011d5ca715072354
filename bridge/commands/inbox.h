/* inbox: what the subscriber thread works through.
 *
 * Outcomes from pollers, then messages from MQTT callbacks, each first in first
 * out. Bounded: when full, a message is not taken and the MQTT library offers it
 * again; who brings an outcome waits for room, which the subscriber makes
 * without ever waiting for a poller.
 */
#ifndef BRIDGE_COMMANDS_INBOX_H
#define BRIDGE_COMMANDS_INBOX_H

#include "bridge/model/outcome.h"
#include "bridge/model/timetable.h"

enum { INBOX_TOPIC_MAX = 512, INBOX_PAYLOAD_MAX = TIMETABLE_PAYLOAD_MAX };

/* One MQTT message as it arrived. */
struct inbox_message {
    int64_t mono_ns, utc_ms; /* when it arrived */
    char topic[INBOX_TOPIC_MAX + 1];
    bool retained;
    bool too_large; /* for its topic: payload holds only the first of its bytes */
    struct return_address address;
    char user_source[COMMAND_PROPERTY_MAX + 1]; /* user properties, "" = none */
    char user_traceparent[COMMAND_PROPERTY_MAX + 1];
    size_t payload_size;
    char payload[INBOX_PAYLOAD_MAX + 1]; /* NUL-terminated; last, stored in its true size */
};

struct inbox;

struct inbox *inbox_new(void);
void inbox_free(struct inbox *inbox);

/* MQTT callback. False: no room now, offer it again. */
bool inbox_put_message(struct inbox *inbox, const struct inbox_message *message);

/* Any thread: a command that came another way than as a message on a command topic,
 * as far as it is known before it is admitted. False: no room now, offer it again. */
bool inbox_put_command(struct inbox *inbox, const struct command *command);

/* Pollers. */
void inbox_put_outcome(struct inbox *inbox, const struct outcome *outcome);

/* Wakes the subscriber for a look at its flags: one INBOX_NOTHING once all
 * that is there has been taken. Any thread. */
void inbox_wake(struct inbox *inbox);

enum inbox_kind { INBOX_NOTHING, INBOX_MESSAGE, INBOX_COMMAND, INBOX_OUTCOME };

/* Subscriber: waits until something is there, it was woken or `until_ns`. A command
 * comes as that of *outcome. */
enum inbox_kind inbox_take(struct inbox *inbox, int64_t until_ns, struct inbox_message *message,
                           struct outcome *outcome);

#endif
