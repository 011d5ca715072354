/* mailbox: orders for one poller.
 *
 * From the subscriber to the poller of a link. One waiting place per device
 * and writable point, and another for the bridge's own writes of it: a newer
 * order replaces the one still waiting in its place, which the putter gets back. So it is bounded
 * and never full. Also the poller's bed: it sleeps here until the next scan is due, an order comes,
 * or it must end.
 */
#ifndef BRIDGE_MAILBOX_H
#define BRIDGE_MAILBOX_H

#include "bridge/control.h"

struct mailbox;

/* `places`: how many (device, writable point) pairs the link has, twice. */
struct mailbox *mailbox_new(unsigned places);
void mailbox_free(struct mailbox *mailbox);

/* Subscriber: true when *replaced is an order that was still waiting. */
bool mailbox_put(struct mailbox *mailbox, const struct order *order, struct order *replaced);

/* Poller: how many orders wait. */
unsigned mailbox_waiting(struct mailbox *mailbox);

/* Poller: the longest-waiting order. False when there is none. */
bool mailbox_take(struct mailbox *mailbox, struct order *order);

/* Poller: sleeps until an order waits, mailbox_stop() was called or
 * `until_ns`. Returns false once stopped. */
bool mailbox_wait(struct mailbox *mailbox, int64_t until_ns);

/* Anybody: the poller is to end. It still carries out what waits. */
void mailbox_stop(struct mailbox *mailbox);

#endif
