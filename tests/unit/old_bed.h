/* bed: how a test sleeps on a mailbox, in place of a poller. */
#ifndef TESTS_UNIT_BED_H
#define TESTS_UNIT_BED_H

#include <poll.h>
#include <sys/eventfd.h>

#include "bridge/commands/mailbox.h"

/* Until an order waits or the mailbox is stopped; false once it is. */
static inline bool bed_wait(struct mailbox *mailbox)
{
    struct pollfd wanted = {.fd = mailbox_fd(mailbox), .events = POLLIN};
    eventfd_t count;
    while (mailbox_waiting(mailbox) == 0 && !mailbox_is_stopped(mailbox)) {
        poll(&wanted, 1, -1);
        eventfd_read(wanted.fd, &count);
    }
    return !mailbox_is_stopped(mailbox);
}

#endif
