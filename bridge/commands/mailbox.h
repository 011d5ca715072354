/* mailbox: orders for one poller.
 *
 * From the subscriber to a poller. One waiting place per device and writable
 * point, and another for the bridge's own writes of it: a newer order replaces
 * the one still waiting in its place, which the putter gets back. So it is
 * bounded and never full. The poller is woken through a descriptor.
 */
#ifndef BRIDGE_COMMANDS_MAILBOX_H
#define BRIDGE_COMMANDS_MAILBOX_H

#include "bridge/battery/control.h"

struct mailbox;

/* `places`: how many (device, writable point) pairs the poller has, twice. */
struct mailbox *mailbox_new(unsigned places);
void mailbox_free(struct mailbox *mailbox);

/* Subscriber: true when *replaced is an order that was still waiting. */
bool mailbox_put(struct mailbox *mailbox, const struct order *order, struct order *replaced);

/* Poller: how many orders wait. */
unsigned mailbox_waiting(struct mailbox *mailbox);

/* Poller: the longest-waiting order. False when there is none. */
bool mailbox_take(struct mailbox *mailbox, struct order *order);

/* Poller: each order, and mailbox_stop(), makes this descriptor readable anew
 * (an eventfd, to be waited for edge-triggered and never read). */
int mailbox_fd(const struct mailbox *mailbox);

/* Poller: whether mailbox_stop() was called. */
bool mailbox_is_stopped(struct mailbox *mailbox);

/* Anybody: the poller is to end. It still carries out what waits. */
void mailbox_stop(struct mailbox *mailbox);

#endif
