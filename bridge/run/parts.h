/* parts: all queues and threads of a bridge that runs.
 *
 * Starts them in order, and ends them in the reverse order. Owned by the main thread
 * (supervisor), which alone calls this; reload exchanges some of them.
 */
#ifndef BRIDGE_RUN_PARTS_H
#define BRIDGE_RUN_PARTS_H

#include "bridge/battery/trust.h"
#include "bridge/commands/audit.h"
#include "bridge/commands/subscriber.h"
#include "bridge/ops/http.h"
#include "bridge/publish/publisher.h"
#include "bridge/store/spooler.h"
#include "bridge/store/state.h"
#include "bridge/telemetry/energy.h"
#include "bridge/telemetry/poller.h"

/* A list of devices that was the configuration's before a reload. It is kept for as long as
 * a poller works with one of its devices. */
struct former {
    struct former *next;
    struct device_list devices;
};

/* The number of the last sample of a device that was removed: should it come back in this
 * run, the numbers go on. */
struct departed {
    struct departed *next;
    char name[DEVICE_NAME_MAX + 1];
    uint64_t seq;
};

struct parts {
    struct conf *conf;
    struct former *formers;
    struct former **origins; /* by device: the list its poller has it from; NULL = the present */
    struct departed *departed;
    char run[9]; /* 8 hex digits */
    int64_t started_ns, started_ms;
    struct health health;
    struct inbox *inbox;
    struct layouts *layouts;
    struct outbox *outbox;
    struct latest *latest; /* the last sample of each device */
    struct recent *recent; /* the last outcomes */
    struct state *state;
    struct last_outcomes *last;
    struct trust trust;  /* in the clock */
    struct scans *scans; /* for the Sparkplug node */
    struct edge *edge;   /* NULL: there is none */
    struct spooler *spooler;
    struct audit *audit;
    struct energy *energy;
    struct subscriber *subscriber;
    struct publisher *publisher;
    struct http *http; /* NULL: none is wanted */
    unsigned n_pollers;
    struct mailbox **mailboxes; /* this and the next two: one per poller; there is room for */
    struct poller **pollers;    /* twice as many as devices. NULL: no such poller now */
    bool *poller_stuck;
};

/* All of them, with conf and run given. False with a logged reason; parts_stop() in either
 * case, also for what was started in part. */
bool parts_start(struct parts *parts);

/* Commands under way end first and are answered, then the answers go to disk, then to the
 * broker. */
void parts_stop(struct parts *parts);

/* ---- one of them, as a reload needs it; false with a logged reason ---- */

/* Also when none is wanted. */
bool parts_start_http(struct parts *parts);
bool parts_start_edge(struct parts *parts);
bool parts_start_publisher(struct parts *parts);
/* With its mailbox, which must not be there yet. */
bool parts_start_poller(struct parts *parts, unsigned poller);
void parts_stop_poller(struct parts *parts, unsigned poller);

/* How many devices of this poller take commands. */
unsigned parts_count_commanded(const struct device_list *list, unsigned poller);

/* How long devices get to do what on_exit says: until then, of the machine awake. */
int64_t parts_leave_ns(const struct device_list *list);

#endif
