/* flights: the messages of one session that are in the library's hands.
 *
 * The library tells when a message is acknowledged; when the connection ends it
 * forgets some or all without a word, depending on how it ended. So they are all
 * written down here. One that may have ended an earlier session flies alone: when
 * the session ends again, it is known why. Pure; owned by mqtt, which locks.
 */
#ifndef BRIDGE_MQTT_FLIGHTS_H
#define BRIDGE_MQTT_FLIGHTS_H

#include "bridge/mqtt/limits.h"

enum { FLIGHTS_MAX = 64 };

/* Without an acknowledgement for so long the broker has forgotten it. */
#define FLIGHTS_LATE_NS INT64_C(30000000000)

struct flight {
    void *owner; /* of the flights; for the library's callbacks */
    char *topic; /* NULL = free */
    uint64_t ticket;
    unsigned identifier; /* in its packet; 0 = not known yet, or none */
    const int *token;    /* that, while it is handed over: where the library puts it; or NULL */
    size_t size;
    bool foreign, plain, alone;
    int64_t sent_ns;
};

struct flights {
    unsigned n;
    unsigned window;  /* most at once: FLIGHTS_MAX, or less if the broker says so */
    bool wants_alone; /* nothing new until the last has landed */
    int64_t moved_ns; /* when the last one landed, or the first one since took off */
    int64_t look_ns;  /* before then none is late */
    struct flight list[FLIGHTS_MAX];
};

void flights_init(struct flights *flights, void *owner);

/* How many more may take off now. */
unsigned flights_room(const struct flights *flights);

/* Takes over `topic`. NULL, and `topic` still the caller's, when there is no room;
 * for one that is to fly alone there is none before all others have landed, and none
 * for those until it has. */
struct flight *flights_take_off(struct flights *flights, const struct limits_packet *packet,
                                char *topic, uint64_t ticket, bool alone, int64_t now_ns);

/* Frees its place and hands back its topic; NULL when it has landed before. */
char *flights_land(struct flights *flights, struct flight *flight, int64_t now_ns);

/* When the one that has been under way longest is late; INT64_MAX when none is
 * under way. Not exact: it may be said too early, and then again. */
int64_t flights_late_ns(struct flights *flights, int64_t now_ns);

#endif
