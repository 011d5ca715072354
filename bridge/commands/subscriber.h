/* subscriber: the thread a command passes through, there and back.
 *
 * Takes arriving messages, parses and admits them, hands the good ones to the
 * poller that owns the device's link, and answers what came of them: every
 * command gets exactly one outcome, in the audit log and on the result topic. It
 * decides nothing about a device's state.
 */
#ifndef BRIDGE_COMMANDS_SUBSCRIBER_H
#define BRIDGE_COMMANDS_SUBSCRIBER_H

#include "bridge/base/halt.h"
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
};

/* NULL with a logged reason. */
struct subscriber *subscriber_start(const struct subscriber_setup *setup);

/* ---- while the bridge runs: what a reload changes ---- */

/* Asks the thread to halt, which it does once it has taken all that was in its inbox;
 * halt_wait() and halt_release() it. The functions below are to be called while it is
 * halted. */
struct halt *subscriber_halt(struct subscriber *subscriber);

/* Commands for this device are refused as shutting_down until it is renewed, but for stops:
 * those that nobody takes from its mailbox any more wait there, and are brought to where it
 * is then. */
void subscriber_part(struct subscriber *subscriber, unsigned device);

/* The devices of the configuration are other ones now. `anew` by place: it is begun or
 * ended anew; `others`: it is no more what it was called. After that every device has the
 * mailbox of its poller, as in the setup. `another_log`: audit_move() was called: no id that is
 * in that log is carried out again. False when out of memory. */
bool subscriber_renew(struct subscriber *subscriber, const bool *anew, const bool *others,
                      bool another_log);

/* From its return on every new command is refused as shutting_down: nothing is
 * put into a mailbox any more. */
void subscriber_drain(struct subscriber *subscriber);

/* After the pollers have ended: answers what is left, joins, frees. */
void subscriber_stop(struct subscriber *subscriber);

int64_t subscriber_promise_ns(const struct subscriber *subscriber);

#endif
