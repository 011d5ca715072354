/* subscriber: the thread a command passes through, there and back.
 *
 * Takes arriving messages, parses and judges them, hands the good ones to the
 * poller of the device's link as orders, and turns every report, refusal and
 * replacement into exactly one outcome for audit and result topic. It alone
 * knows the open commands; at most one is under way and one waits per point.
 */
#ifndef BRIDGE_COMMANDS_SUBSCRIBER_H
#define BRIDGE_COMMANDS_SUBSCRIBER_H

#include "bridge/commands/audit.h"
#include "bridge/commands/inbox.h"
#include "bridge/commands/mailbox.h"
#include "bridge/model/health.h"
#include "bridge/site/conf.h"

struct subscriber;

struct subscriber_setup {
    const struct conf *conf;
    struct inbox *inbox;        /* taken from */
    struct mailbox **mailboxes; /* one per link, put into */
    struct audit *audit;
    struct health *health;
    const char *run; /* 8 hex digits */
};

/* NULL with a logged reason. */
struct subscriber *subscriber_start(const struct subscriber_setup *setup);

/* From now on new commands are refused as shutting_down. Writes the fallback
 * of the batteries with on_exit = "fallback" and waits, at most 3 s, for that. */
void subscriber_drain(struct subscriber *subscriber);

/* After the pollers have ended: answers what is left, joins, frees. */
void subscriber_stop(struct subscriber *subscriber);

int64_t subscriber_promise_ns(const struct subscriber *subscriber);

#endif
