/* poller: the thread that owns some links and polls the devices on them.
 *
 * Sole owner of its links and of the poll state of their devices. A serial line,
 * and a link with a battery under control, has a poller of its own; all other
 * links share one, which never waits for one of them alone: a silent device
 * slows no other link.
 *
 * Commands go ahead of polling, and a stop ahead of everything: between any two
 * Modbus transactions it looks into its mailbox and lets the batteries on its
 * link do what is due. A scan is read whole or again (the documented retry:
 * retry_count attempts, n seconds after the n-th failure), but the pauses and
 * timeouts of a silent device never take more than a sixth of the time of its
 * neighbours on the link. Every scan ends as one sample in the outbox.
 * Allocates nothing once running.
 */
#ifndef BRIDGE_TELEMETRY_POLLER_H
#define BRIDGE_TELEMETRY_POLLER_H

#include "bridge/base/halt.h"
#include "bridge/commands/inbox.h"
#include "bridge/commands/mailbox.h"
#include "bridge/model/health.h"
#include "bridge/store/layouts.h"
#include "bridge/store/outbox.h"
#include "bridge/store/scans.h"
#include "bridge/telemetry/energy.h"
#include "bridge/telemetry/latest.h"

struct poller;

struct poller_setup {
    const struct conf *conf;
    unsigned poller; /* of the devices with this number */
    struct mailbox *mailbox;
    struct layouts *layouts;
    struct outbox *outbox;
    struct latest *latest;
    struct inbox *inbox;
    const struct audit *audit; /* NULL = nothing is put on record */
    struct health *health;
    struct energy *energy; /* NULL = none is counted */
    struct scans *scans;   /* NULL = no Sparkplug host is served */
    struct state *state;   /* NULL = nothing survives a restart */
    const char *run;       /* 8 hex digits */
    int64_t origin_ns;     /* monotonic start of all schedules */
};

/* NULL with a logged reason. */
struct poller *poller_start(const struct poller_setup *setup);

/* After mailbox_stop(): joins and frees. */
void poller_stop(struct poller *poller);

/* ---- while the bridge runs: what a reload changes ---- */

/* Asks the thread to halt; halt_wait() and halt_release() it. What is under way on its
 * lines goes on when it is released; how long a command under way may take, it may take
 * to come there. The functions below are to be called while it is halted. */
struct halt *poller_halt(struct poller *poller);

/* The site has another name: that is who holds the claims on its devices, from the next time on
 * that one is wanted. */
void poller_rename(struct poller *poller);

/* Begins with the device of that number in setup->conf, on the line of its link or on a
 * new one. False when out of memory or descriptors. */
bool poller_add(struct poller *poller, unsigned device);

/* Once it is released the device's battery leaves, as at an end of the bridge;
 * mailbox_wait_left() tells when it has. Nothing for one without commands. */
void poller_part(struct poller *poller, unsigned device);

/* Once it is released nothing is asked of the device any more; and when its line stays, the
 * thread halts again only when no answer of it is waited for: what others have asked of that
 * line is not lost with the connection. */
void poller_end(struct poller *poller, unsigned device);

/* Ends with this device: every command for it has its outcome when this returns. False
 * when it was the last one: the thread is not to be released then before there is another
 * or poller_stop() is called. */
bool poller_drop(struct poller *poller, unsigned device);

/* By when the thread promised to be back, of the machine awake; for the supervisor. */
int64_t poller_promise_ns(const struct poller *poller);

#endif
