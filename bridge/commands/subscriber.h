/* subscriber: the thread a command passes through, there and back.
 *
 * Takes arriving messages, parses and admits them, hands the good ones to the
 * poller that owns the device's link, and answers what came of them: every
 * command gets exactly one outcome, in the audit log and on the result topic. It
 * decides nothing about a device's state.
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
    struct mailbox **mailboxes; /* one per poller, put into */
    struct audit *audit;
    struct health *health;
    /* Is told of every outcome, when it is answered; called by the subscriber's thread,
     * copies and returns. NULL = nobody is. */
    void (*told)(void *context, const struct outcome *outcome);
    void *context;
};

/* NULL with a logged reason. */
struct subscriber *subscriber_start(const struct subscriber_setup *setup);

/* From its return on every new command is refused as shutting_down: nothing is
 * put into a mailbox any more. */
void subscriber_drain(struct subscriber *subscriber);

/* After the pollers have ended: answers what is left, joins, frees. */
void subscriber_stop(struct subscriber *subscriber);

int64_t subscriber_promise_ns(const struct subscriber *subscriber);

#endif
