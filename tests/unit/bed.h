/* bed: how a test sleeps on a mailbox, in place of a poller. */
#ifndef TESTS_UNIT_BED_H
#define TESTS_UNIT_BED_H

#include <poll.h>
#include <sys/eventfd.h>

#include "bridge/commands/mailbox.h"

/* Waits for a command and takes it; false without one once the mailbox is asked
 * to leave or stopped. */
static inline bool bed_take(struct mailbox *mailbox, struct command *command)
{
    struct pollfd wanted = {.fd = mailbox_fd(mailbox), .events = POLLIN};
    eventfd_t count;
    while (!mailbox_take(mailbox, command)) {
        if (mailbox_is_stopped(mailbox) || mailbox_is_leaving(mailbox))
            return false;
        poll(&wanted, 1, -1);
        eventfd_read(wanted.fd, &count);
    }
    return true;
}

#endif
