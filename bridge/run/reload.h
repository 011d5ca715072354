/* reload: takes over another configuration while the bridge runs.
 *
 * All of it or nothing: it is read and checked first, and refused with every reason.
 * What it changes (bridge/site/change.h) ends and begins; all else goes on as if nothing
 * had been: run and sequence numbers, connections, sessions, leases, commands, a stop that
 * is owed. A device that is removed or altered is left as at an end of the bridge, which
 * may take as long as its timeouts.
 *
 * Threads do not lock what they read of the configuration: they are halted while it is
 * exchanged, those of pollers for as long as their own devices change and no longer.
 * Main thread only.
 */
#ifndef BRIDGE_RUN_RELOAD_H
#define BRIDGE_RUN_RELOAD_H

#include "bridge/run/parts.h"

/* Also reopens the audit log, and sees to it that certificates and passwords are read
 * anew. Tells systemd meanwhile that all is well, each `watchdog_ns`. False: it was found
 * impossible to go on, for want of memory, with a logged reason. */
bool reload(struct parts *parts, const char *path, int64_t watchdog_ns);

#endif
