/* orders: the open commands, from the judgement to the answer.
 *
 * Hands orders to the pollers, turns their reports into outcomes, and writes on
 * the bridge's own account: the deadman's fallback and that of on_exit. Every
 * command handed in gets exactly one outcome.
 *
 * Owned by the subscriber thread.
 */
#ifndef BRIDGE_COMMANDS_ORDERS_H
#define BRIDGE_COMMANDS_ORDERS_H

#include "bridge/commands/answers.h"
#include "bridge/commands/mailbox.h"

/* Who wants it written. */
enum order_author { BY_DISPATCHER, BY_DEADMAN, BY_EXIT };

/* A command between its arrival and its outcome. */
struct open_command {
    enum { OPEN_FREE, OPEN_WAITING, OPEN_UNSETTLED } state;
    enum order_author by;
    unsigned device, point;
    struct command command;
    int64_t mono_ns, utc_ms; /* arrival */
    struct reply_address address;
    char user_source[INBOX_PROPERTY_MAX + 1];
    char user_traceparent[INBOX_PROPERTY_MAX + 1];
};

struct orders;

struct orders_setup {
    const struct conf *conf;
    struct mailbox **mailboxes; /* one per link, put into */
    struct answers *reply;
    struct health *health;
    const char *run; /* 8 hex digits */
};

/* NULL when out of memory. */
struct orders *orders_new(const struct orders_setup *setup);
void orders_free(struct orders *orders);

/* Monotonic time of the last write to a device's setpoint; INT64_MIN = never. */
int64_t orders_last_write_ns(const struct orders *orders, unsigned device);

/* Whether a command with this id is on its way, so that it has no outcome yet. */
bool orders_has_id(const struct orders *orders, unsigned device, const char *id);

/* Gives a judged command to its poller; it may be written until `expires_ns`. */
void orders_put(struct orders *orders, const struct open_command *judged, int64_t expires_ns);

/* A poller reports. */
void orders_take_report(struct orders *orders, const struct report *report);

/* Writes the fallback of every lease that has run out; returns when to look
 * again. */
int64_t orders_run_deadmen(struct orders *orders);

/* Puts the writes of on_exit, the first time; whether all of them have ended. */
bool orders_leave(struct orders *orders);

/* Fills in what every outcome says of its command. */
void orders_describe(const struct open_command *open, const char *device, const char *point,
                     int64_t now_ns, struct outcome *outcome, struct wire_trace *trace);

#endif
