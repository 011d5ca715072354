#include "bridge/publish/announce_inside.h"

#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/mqtt/limits.h"
#include "bridge/mqtt/presence.h"
#include "bridge/publish/ha_document.h"

/* Of a sample that was put right so often, the next one is waited for. */
enum { MENDED_MAX = 5 };

/* Somebody else's: what it should be is sent again, unless the next sample is quicker. */
static void see_state(struct announce *announce, unsigned number, int64_t now_ns)
{
    struct mend *mend = &announce->mends[retained_index(announce->retained, number)];
    if (!announce_is_published(announce, number))
        return;
    const uint64_t seq =
        latest_seq(announce->setup.retained.latest, retained_index(announce->retained, number));
    pthread_mutex_lock(&announce->mutex);
    if (mend->seq != seq)
        *mend = (struct mend){.seq = seq};
    const bool wanted = seq != 0 && mend->n < MENDED_MAX;
    pthread_mutex_unlock(&announce->mutex);
    if (wanted)
        documents_call(announce->documents, number, now_ns + DOCUMENTS_WRONG_NS);
}

/* Whether no newer sample was taken since. */
bool announce_is_mend_due(struct announce *announce, unsigned device)
{
    struct mend *mend = &announce->mends[device];
    const uint64_t seq = latest_seq(announce->setup.retained.latest, device);
    pthread_mutex_lock(&announce->mutex);
    const bool due = mend->seq == seq;
    mend->n += due;
    pthread_mutex_unlock(&announce->mutex);
    return due;
}

bool announce_arrived(struct announce *announce, const struct mqtt_arrival *arrival)
{
    static const char online[] = "online";
    const struct conf *conf = announce->conf;
    char topic[TOPIC_MAX + 1], point[TOPIC_MAX + 1];
    if (topic_parse(conf, arrival->topic, topic, point))
        return false; /* a command */
    if (strcmp(arrival->topic, HA_DOCUMENT_BIRTH_TOPIC) == 0) {
        if (arrival->payload_size == strlen(online) &&
            memcmp(arrival->payload, online, strlen(online)) == 0)
            atomic_store(&announce->born, true);
        return true;
    }
    const int found = retained_find(announce->retained, arrival->topic);
    if (found < 0)
        return true; /* of a device that is no more */
    const unsigned number = (unsigned)found;
    if (announce_kind(announce, number) == RETAINED_BRIDGE_INFO && arrival->retained)
        gone_keep_info(announce->gone, arrival);
    /* Of 3.1.1, which has no other way: what lies there when it is subscribed to, and a busy
     * broker brings after ours. */
    if (announce_kind(announce, number) == RETAINED_HEALTH && arrival->retained &&
        conf->mqtt.version < 5)
        return true;
    if (announce_kind(announce, number) == RETAINED_STATE) {
        see_state(announce, number, clock_mono_ns());
        return true;
    }
    documents_seen(announce->documents, number,
                   limits_hash(arrival->payload, arrival->payload_size),
                   announce_kind(announce, number) >= RETAINED_HA_BRIDGE, clock_mono_ns());
    return true;
}

/* A broker sends the Will of a session that was cut off when it has heard nothing for one and a
 * half times its keepalive. */
static int64_t late_will_ns(const struct announce *announce)
{
    const int64_t least_ns = PRESENCE_KEEPALIVE_MIN_S * CLOCK_NS_PER_S;
    const int64_t keepalive_ns = announce->conf->mqtt.keepalive_ns;
    return 2 * (keepalive_ns > least_ns ? keepalive_ns : least_ns);
}

void announce_ack(struct announce *announce, uint64_t ticket, enum mqtt_fate fate)
{
    const unsigned number = (unsigned)(ticket & ~ANNOUNCE_TICKET);
    documents_ack(announce->documents, number, fate, clock_mono_ns());
    atomic_fetch_add(&announce->n_acked, fate == MQTT_DELIVERED);
    if (fate == MQTT_DELIVERED && announce_kind(announce, number) == RETAINED_GONE &&
        gone_cleared(announce->gone, retained_index(announce->retained, number)))
        documents_call(announce->documents, number, clock_mono_ns() + late_will_ns(announce));
}
