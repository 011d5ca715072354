/* sessions: all MQTT sessions of the bridge, and what is said of their troubles.
 *
 * One of the bridge itself, which carries everything, and with device_wills one
 * per device, which carries its status and its Will and nothing else. The bridge's
 * tries each address of the broker's name in turn, the first one first, and leaves one whose
 * sessions are of no use for the next; the devices' follow it to the one
 * where it is up, 20 a second, and after a loss each at a random time within twice
 * mqtt.reconnect_spread. Owned by the publisher, which drives them; the
 * library's threads only leave word, and what takes long is looked up by a thread of
 * its own.
 */
#ifndef BRIDGE_MQTT_SESSIONS_H
#define BRIDGE_MQTT_SESSIONS_H

#include "bridge/mqtt/lookup.h"
#include "bridge/mqtt/session.h"

/* What has been said of sessions that cannot be had. */
struct trouble {
    bool logged;
    char why[MQTT_WHY_MAX];
    unsigned attempts; /* that failed */
};

struct sessions {
    const struct conf *conf;
    struct outbox *outbox;
    atomic_bool stirred;   /* a session has something to say */
    atomic_uint called_at; /* something waits for so much room; 0 = nothing does */

    struct session bridge;
    struct lookup *lookup;          /* under way; NULL = none */
    bool asks_why;                  /* what is looked up is why an attempt has failed */
    struct address_list addresses;  /* of the broker's name */
    unsigned next;                  /* of them: to be tried next in this round */
    char address[ADDRESS_TEXT_MAX]; /* tried last, or connected to */
    bool lost_soon;
    int64_t up_since_ns;
    _Atomic int64_t down_since_ns; /* 0 = up; any thread may read it */
    struct trouble trouble;

    struct session_setup device_setup;
    unsigned n_devices; /* 0 without device_wills */
    struct presences *presences;
    struct session *devices; /* one that is not there is of a place that holds no device */
    int64_t devices_due_ns;
    int64_t slot_ns; /* when the next of them may begin to connect */
    struct trouble devices_trouble;
    int64_t devices_trouble_ns; /* when to say so; CLOCK_NEVER = nothing to say */
};

/* `callbacks` as in session_init(); `owner` is set in every session. False
 * when out of memory. Call sessions_destroy() in either case. */
bool sessions_init(struct sessions *sessions, const struct conf *conf, struct outbox *outbox,
                   const struct mqtt_callbacks *callbacks, void *owner, uint32_t seed);
void sessions_destroy(struct sessions *sessions);

/* What has happened to the bridge session, one event at a time until
 * SESSION_NOTHING; connects when that is due. When it comes up the devices'
 * sessions wait no longer. */
enum session_event sessions_run_bridge(struct sessions *sessions, int64_t now_ns);

/* The same for those of the devices; marks the presence of a device whose
 * session came up. */
void sessions_run_devices(struct sessions *sessions, int64_t now_ns);

/* Whether the bridge's session takes a message now, and up to which kind: samples leave
 * room to outcomes and documents, and backlog leaves some to what is live, too. For what
 * finds none the owner is to be woken when a message has landed and sessions_is_called():
 * backlog is called when half of what it may have in flight is back, for to wake its
 * sender for each would cost more than to send it. The second: any thread. */
bool sessions_has_room(struct sessions *sessions, enum outbox_kind *last);
bool sessions_is_called(struct sessions *sessions);

/* When to call these again if nothing stirs. */
int64_t sessions_due_ns(const struct sessions *sessions);

/* While its owner is halted: the session of the device at this place ends, in order and
 * for good; and one begins. False when out of memory. Nothing without device_wills. */
void sessions_drop(struct sessions *sessions, unsigned device);
bool sessions_add(struct sessions *sessions, unsigned device);

/* Whatever is down connects at once. */
void sessions_retry(struct sessions *sessions, int64_t now_ns);

#endif
