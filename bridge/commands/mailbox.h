/* mailbox: admitted commands on their way to one poller.
 *
 * From the subscriber to the thread that owns the link. First in, first out; it
 * decides nothing. Bounded for each device: of commands that are no stops
 * MAILBOX_COMMANDS, then no more are taken; of stops MAILBOX_PLACES in all, and
 * then a newer one takes the place of the oldest command that waits, so that a
 * stop always gets through. The poller is woken through a descriptor.
 */
#ifndef BRIDGE_COMMANDS_MAILBOX_H
#define BRIDGE_COMMANDS_MAILBOX_H

#include "bridge/model/command.h"

enum { MAILBOX_COMMANDS = 32, MAILBOX_PLACES = 48 };

struct mailbox;

/* `devices`: how many of the poller take commands. NULL when out of memory or
 * descriptors. */
struct mailbox *mailbox_new(unsigned devices);
void mailbox_free(struct mailbox *mailbox);

enum mailbox_answer {
    MAILBOX_TAKEN,
    MAILBOX_FULL,    /* not taken */
    MAILBOX_REPLACED /* taken in place of *replaced, which nobody will begin now */
};

/* Subscriber. */
enum mailbox_answer mailbox_put(struct mailbox *mailbox, const struct command *command,
                                struct command *replaced);

/* Poller: the longest-waiting command. False when there is none. */
bool mailbox_take(struct mailbox *mailbox, struct command *command);

/* The same of one device. */
bool mailbox_take_of(struct mailbox *mailbox, unsigned device, struct command *command);

/* Room for so many devices, and no less than before. False when out of memory. */
bool mailbox_make_room(struct mailbox *mailbox, unsigned devices);

/* Poller: each command, mailbox_wake(), mailbox_leave() and mailbox_stop() make this descriptor
 * readable anew (an eventfd, to be waited for edge-triggered and never read). */
int mailbox_fd(const struct mailbox *mailbox);

/* The bridge ends: asks the poller to let its batteries leave, who says when
 * that is done; waits for it until `until_ns`, of the machine awake: false when it was not in
 * time. */
void mailbox_leave(struct mailbox *mailbox);
bool mailbox_is_leaving(struct mailbox *mailbox);
void mailbox_has_left(struct mailbox *mailbox);
bool mailbox_wait_left(struct mailbox *mailbox, int64_t until_ns);
/* What was said to have left was not all of them, and is forgotten. */
void mailbox_stay(struct mailbox *mailbox);

/* Wakes the poller. */
void mailbox_wake(struct mailbox *mailbox);

/* Anybody: the poller is to end. It still answers what waits. */
void mailbox_stop(struct mailbox *mailbox);
bool mailbox_is_stopped(struct mailbox *mailbox);

#endif
