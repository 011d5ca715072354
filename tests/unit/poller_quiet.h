/* poller_quiet: what the poller tells that no test of it listens to. */
#ifndef TESTS_UNIT_POLLER_QUIET_H
#define TESTS_UNIT_POLLER_QUIET_H

#include "bridge/commands/audit.h"
#include "bridge/store/outbox.h"

void outbox_call_control(struct outbox *outbox, unsigned device)
{
    (void)outbox, (void)device;
}

bool audit_was_available(const struct audit *audit)
{
    (void)audit;
    return true;
}

void outbox_wake(struct outbox *outbox)
{
    (void)outbox;
}

#endif
