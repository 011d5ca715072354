/* announce: when what the bridge keeps retained at the broker is sent.
 *
 * What that is, retained says: published at every connect and when it changes (documents
 * keeps the books), put right when somebody else has changed it, such as the Will of an old
 * session. A status that flaps, and a lease that is renewed, is published at once and then
 * once a second at most. What the bridge has announced and has no more is cleared (gone).
 *
 * Part of the publisher; announce_arrived() and announce_ack() are called by the MQTT
 * library's threads, copy and return.
 */
#ifndef BRIDGE_PUBLISH_ANNOUNCE_H
#define BRIDGE_PUBLISH_ANNOUNCE_H

#include "bridge/mqtt/sessions.h"
#include "bridge/publish/retained.h"
#include "bridge/store/state.h"

struct announce;

struct announce_setup {
    struct retained_setup retained;
    struct sessions *sessions;
    struct state *state; /* NULL: nothing is remembered */
};

/* Its tickets in the sessions are those of the outbox with this bit. */
#define ANNOUNCE_TICKET (UINT64_C(1) << 63)

/* NULL when out of memory. */
struct announce *announce_new(const struct announce_setup *setup);
void announce_free(struct announce *announce);

/* The bridge's session has come up: begins to listen, and everything is to be sent;
 * or it is gone. */
void announce_begin(struct announce *announce, int64_t now_ns);
void announce_lost(struct announce *announce);

/* Commands are heard now: devices may be called online. Whoever sees a device online
 * may send it a command at once: its own session must not say so before. */
void announce_hearing(struct announce *announce);

/* True when the message was for it; then announce_run() has something to do. */
bool announce_arrived(struct announce *announce, const struct mqtt_arrival *arrival);
void announce_ack(struct announce *announce, uint64_t ticket, enum mqtt_fate fate);

/* While the publisher is halted, and the configuration still has the device of this place:
 * all that is retained of it is to be cleared; or, where it stays and is changed, what it has
 * no more then. */
void announce_part(struct announce *announce, unsigned device);
void announce_alter(struct announce *announce, unsigned device);
/* The same of the documents for Home Assistant alone, while the configuration still has
 * what they were made from; and once it has other ones. Ends with announce_renewed(). */
void announce_part_discovery(struct announce *announce);
void announce_renew_discovery(struct announce *announce, int64_t now_ns);
/* The same once it has another, or the same changed: all of it is to be sent. Ends with
 * announce_renewed(). */
void announce_renew(struct announce *announce, unsigned device, int64_t now_ns);
void announce_renewed(struct announce *announce, int64_t now_ns);

/* Sends what is due as long as the sessions take messages; returns when to be called
 * again if nothing happens. */
int64_t announce_run(struct announce *announce, int64_t now_ns);

/* The last words: every status is offline. Whether all of them have been acknowledged; and
 * those that are said in one session. */
void announce_farewell(struct announce *announce, int64_t now_ns);
bool announce_is_all_told(struct announce *announce);
bool announce_is_told(struct announce *announce, const struct session *session);

/* How many messages the broker has acknowledged. */
uint64_t announce_acked(struct announce *announce);

#endif
