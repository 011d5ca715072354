/* inbox: what the subscriber thread works through.
 *
 * Reports from pollers, then messages from MQTT callbacks, each first in first
 * out: a report frees the place of its command, so that a burst of messages
 * cannot pile up open commands. Bounded: when full, a message is not taken and
 * the MQTT library offers it again; the reports of all open orders always fit.
 */
#ifndef BRIDGE_COMMANDS_INBOX_H
#define BRIDGE_COMMANDS_INBOX_H

#include "bridge/battery/control.h"

enum { INBOX_TOPIC_MAX = 512, INBOX_CORRELATION_MAX = 256, INBOX_PROPERTY_MAX = 128 };

/* One MQTT message as it arrived. */
struct inbox_message {
    int64_t mono_ns, utc_ms; /* when it arrived */
    char topic[INBOX_TOPIC_MAX + 1];
    bool retained;
    bool too_large; /* payload holds only its first COMMAND_PAYLOAD_MAX bytes */
    char response_topic[INBOX_TOPIC_MAX + 1]; /* "" = none */
    size_t correlation_size;
    unsigned char correlation[INBOX_CORRELATION_MAX];
    char user_source[INBOX_PROPERTY_MAX + 1]; /* user properties, "" = none */
    char user_traceparent[INBOX_PROPERTY_MAX + 1];
    size_t payload_size;
    char payload[COMMAND_PAYLOAD_MAX + 1]; /* NUL-terminated; last, stored in its true size */
};

struct inbox;

struct inbox *inbox_new(void);
void inbox_free(struct inbox *inbox);

/* MQTT callback. False: no room now, offer it again. */
bool inbox_put_message(struct inbox *inbox, const struct inbox_message *message);

/* Pollers. */
void inbox_put_report(struct inbox *inbox, const struct report *report);

/* Wakes the subscriber for a look at its flags: one INBOX_NOTHING once all
 * that is there has been taken. Any thread. */
void inbox_wake(struct inbox *inbox);

enum inbox_kind { INBOX_NOTHING, INBOX_MESSAGE, INBOX_REPORT };

/* Subscriber: waits until something is there, it was woken or `until_ns`. */
enum inbox_kind inbox_take(struct inbox *inbox, int64_t until_ns, struct inbox_message *message,
                           struct report *report);

#endif
