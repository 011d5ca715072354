/* retained: the topics that the bridge keeps retained at the broker, by number.
 *
 * The bridge's and the devices' status, health, info, schedules, states, how each device is
 * controlled, and the documents for Home Assistant: the topic of each, whether this
 * configuration has it, and its text now. A number is a kind and a device's place; the most
 * urgent come first. What is gone (module gone) has numbers here too, and its topics there.
 * When each is sent is for announce to say.
 *
 * The publisher's; retained_find() may be called by any thread.
 */
#ifndef BRIDGE_PUBLISH_RETAINED_H
#define BRIDGE_PUBLISH_RETAINED_H

#include "bridge/commands/last_outcomes.h"
#include "bridge/model/health.h"
#include "bridge/store/outbox.h"
#include "bridge/telemetry/latest.h"
#include "bridge/wire/topic.h"

/* What is gone goes before discovery: Home Assistant is to know nothing twice. */
enum retained_kind {
    RETAINED_BRIDGE_STATUS,
    RETAINED_STATUS,
    RETAINED_HEALTH,
    RETAINED_CONTROL,
    RETAINED_BRIDGE_INFO,
    RETAINED_INFO,
    RETAINED_SCHEDULE,
    RETAINED_STATE, /* only what somebody else has changed: samples are the publisher's */
    RETAINED_GONE,
    RETAINED_HA_BRIDGE,
    RETAINED_HA_DEVICE
};

enum { RETAINED_GONE_MAX = 4096 };

struct retained;

struct retained_setup {
    const struct conf *conf;
    struct outbox *outbox;      /* knows who is online */
    struct latest *latest;      /* samples, leases, where schedules stand; NULL: none is told */
    struct last_outcomes *last; /* what came of commands */
    const struct health *health;
    const char *run;
    int64_t started_ms, started_ns;
};

/* NULL when out of memory. */
struct retained *retained_new(const struct retained_setup *setup);
void retained_free(struct retained *retained);

/* Of all; and of one kind, which has as many as there are devices, or one. */
unsigned retained_count(const struct retained *retained);
unsigned retained_number(const struct retained *retained, enum retained_kind kind, unsigned index);

/* What a number stands for: the index is that of the device, or of what is gone. */
enum retained_kind retained_kind(const struct retained *retained, unsigned number);
unsigned retained_index(const struct retained *retained, unsigned number);

/* Whether this configuration has it. */
bool retained_is_published(const struct retained *retained, unsigned number);

/* False when it does not fit, and for what is gone; the second also for what is not
 * published, but for a state: its topic is ours where it is not retained, too. */
bool retained_topic(const struct retained *retained, unsigned number, char topic[TOPIC_MAX + 1]);
bool retained_own_topic(const struct retained *retained, unsigned number,
                        char topic[TOPIC_MAX + 1]);

/* Malloc'ed; NULL when out of memory, or when there is nothing to tell. */
char *retained_text(struct retained *retained, unsigned number, int64_t now_ns);

/* Whether a device is called online; no longer from the end on. */
bool retained_is_online(const struct retained *retained, unsigned device);
void retained_end(struct retained *retained);

/* The number of our own topic, or -1. */
int retained_find(struct retained *retained, const char *topic);

/* The configuration has another device at this number, or none. */
void retained_renew(struct retained *retained, unsigned number);

#endif
