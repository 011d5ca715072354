#include "bridge/cli/check_broker.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bridge/cli/broker.h"
#include "bridge/cli/terminal.h"
#include "bridge/publish/ha_document.h"
#include "bridge/wire/topic.h"

static const struct cfg_setting *place(const struct check *check)
{
    return cfg_lookup(check->file, "mqtt.url");
}

/* Publishes this there. False when that is refused. */
static bool try_topic(const struct check *check, struct broker *broker, const char *topic,
                      const char *payload)
{
    char why[MQTT_WHY_MAX];
    const bool good = broker_retain(broker, topic, payload, why);
    if (!good)
        cfg_problem(check->cfg, place(check), "the broker does not take messages for %s: %s", topic,
                    why);
    return good;
}

/* That nothing is announced to Home Assistant where nothing ever was: it hears nothing new. */
static void try_discovery(const struct check *check, struct broker *broker)
{
    char topic[TOPIC_MAX + 1];
    if (check->conf->ha_enabled && ha_document_topic_by_name(topic, check->conf, "check"))
        (void)try_topic(check, broker, topic, "");
}

/* Whether the bridge would be told of its own topics, as it wants to be. A command's topic
 * is none to try that on. */
static void try_delivery(const struct check *check, struct broker *broker, const char *topic)
{
    char why[MQTT_WHY_MAX];
    if (!broker_subscribe(broker, topic, false, why))
        cfg_problem(check->cfg, place(check), "the broker refuses the subscription to %s: %s",
                    topic, why);
    else if (!broker_delivers(broker, topic, "offline", why))
        cfg_problem(check->cfg, place(check),
                    "the broker grants the subscription to %s and delivers nothing: has the user "
                    "the right to read it, and the topics of commands? (%s)",
                    topic, why);
}

/* As the bridge itself, which is away. */
static void try_bridge(const struct check *check)
{
    const struct conf *conf = check->conf;
    char will[TOPIC_MAX + 1], topic[TOPIC_MAX + 1], why[MQTT_WHY_MAX];
    (void)topic_make(will, conf, "bridge", "status");
    struct broker *broker = broker_open(conf, conf->mqtt.client_id, will, why);
    if (broker == NULL) {
        cfg_problem(check->cfg, place(check), "no session as %s with a Will on %s: %s",
                    conf->mqtt.client_id, will, why);
        return;
    }
    /* One that is refused tells enough. */
    if (try_topic(check, broker, will, "offline")) {
        try_delivery(check, broker, will);
        for (unsigned i = 0; i < conf->devices.n_devices; i++)
            if (topic_make(topic, conf, conf->devices.devices[i].name, "status") &&
                !try_topic(check, broker, topic, "offline"))
                break;
        try_discovery(check, broker);
    }
    broker_close(broker);
}

/* The first device's own session stands for all. */
static void try_device(const struct check *check)
{
    const struct conf *conf = check->conf;
    const char *device = conf->devices.devices[0].name;
    char id[2 * CONF_TEXT_MAX], will[TOPIC_MAX + 1], why[MQTT_WHY_MAX];
    snprintf(id, sizeof(id), "%s-%s", conf->mqtt.client_id, device);
    (void)topic_make(will, conf, device, "status");
    struct broker *broker = broker_open(conf, id, will, why);
    if (broker == NULL)
        cfg_problem(check->cfg, place(check), "no session as %s with a Will on %s: %s", id, will,
                    why);
    broker_close(broker);
}

void check_broker(const struct check *check)
{
    const struct conf *conf = check->conf;
    char id[2 * CONF_TEXT_MAX], topic[TOPIC_MAX + 1], why[MQTT_WHY_MAX];
    terminal_progress("asking the broker %s", conf->mqtt.url);
    snprintf(id, sizeof(id), "%s-check-%d", conf->mqtt.client_id, (int)getpid());
    struct broker *broker = broker_open(conf, id, NULL, why);
    if (broker == NULL) {
        cfg_problem(check->cfg, place(check), "no session with the broker: %s", why);
        return;
    }
    if (topic_make(topic, conf, "bridge", "status") && !broker_subscribe(broker, topic, true, why))
        cfg_problem(check->cfg, place(check), "the broker refuses the subscription to %s: %s",
                    topic, why);
    const bool running = broker_has_bridge(broker, conf);
    if (topic_command_filter(topic, conf) && !broker_subscribe(broker, topic, false, why))
        cfg_problem(check->cfg, place(check), "the broker refuses the subscription to %s: %s",
                    topic, why);
    if (topic_schedule_filter(topic, conf) && !broker_subscribe(broker, topic, false, why))
        cfg_problem(check->cfg, place(check), "the broker refuses the subscription to %s: %s",
                    topic, why);
    broker_close(broker);
    if (running) {
        cfg_warning(check->cfg, place(check),
                    "a bridge of this site is in session: its own login and topics are not tried");
        return;
    }
    try_bridge(check);
    if (conf->mqtt.device_wills && conf->devices.n_devices > 0)
        try_device(check);
    if (conf->mqtt.version < 5)
        cfg_warning(check->cfg, place(check),
                    "MQTT 3.1.1 does not tell which messages the broker refuses");
}
