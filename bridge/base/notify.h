/* notify: what systemd is told.
 *
 * The datagram protocol of sd_notify(3), which its manual page offers for
 * implementing without the library: that would cost more resident memory than
 * the rest of the daemon's libraries together. Does nothing outside of systemd.
 * Main thread only.
 */
#ifndef BRIDGE_BASE_NOTIFY_H
#define BRIDGE_BASE_NOTIFY_H

#include <stdint.h>

/* "READY=1", "WATCHDOG=1", "RELOADING=1\nMONOTONIC_USEC=…". */
void notify(const char *state);

/* It stops, and that may take so long: systemd does not kill it before
 * (TimeoutStopSec= is the least). */
void notify_stopping(int64_t longest_ns);

/* How often the watchdog is to be fed: half of WATCHDOG_USEC, when that is
 * meant for this process; CLOCK_NEVER when there is no watchdog. */
int64_t notify_watchdog_ns(void);

#endif
