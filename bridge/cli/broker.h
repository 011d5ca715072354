/* broker: one short session with the broker, for a command that has something to ask
 * or to say there.
 *
 * Waits for each answer on the spot; the daemon's own MQTT module underneath, so what
 * works here works there. One thread.
 */
#ifndef BRIDGE_CLI_BROKER_H
#define BRIDGE_CLI_BROKER_H

#include "bridge/mqtt/mqtt.h"

struct broker;

/* A message that the broker had retained. */
struct broker_message {
    char *topic;
    char *payload; /* NUL-terminated */
};

/* Logs in by this client id, with the Will "offline" on that topic, NULL = without one.
 * NULL after writing why not. */
struct broker *broker_open(const struct conf *conf, const char *client_id, const char *will_topic,
                           char why[MQTT_WHY_MAX]);
void broker_close(struct broker *broker);

/* Subscribes; with `retained` also waits until no more of what is retained there comes.
 * False after writing why not. */
bool broker_subscribe(struct broker *broker, const char *filter, bool retained,
                      char why[MQTT_WHY_MAX]);

/* What has come so far. */
const struct broker_message *broker_messages(const struct broker *broker, unsigned *n);

/* Publishes a retained message, "" to clear the topic, and waits for the broker's word.
 * False after writing why not. */
bool broker_retain(struct broker *broker, const char *topic, const char *payload,
                   char why[MQTT_WHY_MAX]);

/* Likewise, on a topic that is subscribed to, and waits until it comes back: there are
 * brokers that grant a subscription to whoever may not read. */
bool broker_delivers(struct broker *broker, const char *topic, const char *payload,
                     char why[MQTT_WHY_MAX]);

/* Whether a bridge of this site is in session: its retained status, which has to have
 * been subscribed to. */
bool broker_has_bridge(const struct broker *broker, const struct conf *conf);

#endif
