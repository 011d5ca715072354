/* sessions: all MQTT sessions of the bridge, and what is said of their troubles.
 *
 * One of the bridge itself, which carries everything, and with device_wills one
 * per device, which carries its status and its Will and nothing else. Owned by
 * the publisher, which drives them; the library's threads only leave word.
 */
#ifndef BRIDGE_MQTT_SESSIONS_H
#define BRIDGE_MQTT_SESSIONS_H

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
    atomic_bool stirred; /* a session has something to say */

    struct session bridge;
    bool lost_soon;
    int64_t up_since_ns;
    _Atomic int64_t down_since_ns; /* 0 = up; any thread may read it */
    struct trouble trouble;

    unsigned n_devices; /* 0 without device_wills */
    struct session *devices;
    int64_t devices_due_ns;
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

/* When to call these again if nothing stirs. */
int64_t sessions_due_ns(const struct sessions *sessions);

/* Whatever is down connects at once. */
void sessions_retry(struct sessions *sessions, int64_t now_ns);

#endif
