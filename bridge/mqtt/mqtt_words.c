#include <ctype.h>
#include <stdio.h>

#include "bridge/base/clock.h"
#include "bridge/mqtt/mqtt_inside.h"

void mqtt_reason_words(int code, char why[MQTT_WHY_MAX])
{
    const char *words = MQTTReasonCode_toString((enum MQTTReasonCodes)code);
    if (words == NULL)
        snprintf(why, MQTT_WHY_MAX, "reason code 0x%02x", (unsigned)code);
    else
        snprintf(why, MQTT_WHY_MAX, "%c%s", tolower((unsigned char)words[0]), words + 1);
}

/* The answer to CONNECT: return codes of MQTT 3.1.1 (table 3.1), reason codes
 * of version 5 (section 3.2.2.2). */
void mqtt_login_words(const struct conf_mqtt *conf, int code, char why[MQTT_WHY_MAX])
{
    static const char *const words[] = {
        "accepted",           "unacceptable protocol version", "client id rejected",
        "server unavailable", "bad user name or password",     "not authorized"};
    char reason[MQTT_WHY_MAX] = "";
    if (conf->version >= MQTTVERSION_5)
        mqtt_reason_words(code, reason);
    else if ((size_t)code < sizeof(words) / sizeof(words[0]))
        snprintf(reason, sizeof(reason), "%s", words[code]);
    else
        snprintf(reason, sizeof(reason), "return code %d", code);
    snprintf(why, MQTT_WHY_MAX, "the broker refuses the login: %.100s", reason);
}

void mqtt_limits_words(struct mqtt *mqtt, char words[MQTT_WHY_MAX])
{
    pthread_mutex_lock(&mqtt->mutex);
    const struct limits limits = mqtt->limits;
    const unsigned asked_s = (unsigned)(mqtt->conf->keepalive_ns / CLOCK_NS_PER_S);
    const unsigned keepalive_s = mqtt->offer.keepalive_s;
    const bool lesser = mqtt->offer.will_qos < 1, fleeting = !mqtt->offer.will_retained;
    pthread_mutex_unlock(&mqtt->mutex);
    size_t n = 0;
    words[0] = '\0';
    if (limits.packet_max > 0)
        n += (size_t)snprintf(words + n, MQTT_WHY_MAX - n, " max_packet_size=%zu",
                              limits.packet_max);
    if (limits.qos_max < 1)
        n += (size_t)snprintf(words + n, MQTT_WHY_MAX - n, " max_qos=%d", limits.qos_max);
    if (!limits.retain)
        n += (size_t)snprintf(words + n, MQTT_WHY_MAX - n, " retain=no");
    if (limits.receive_max < MQTT_WINDOW)
        n += (size_t)snprintf(words + n, MQTT_WHY_MAX - n, " receive_max=%u", limits.receive_max);
    if (!limits.wildcards)
        n += (size_t)snprintf(words + n, MQTT_WHY_MAX - n, " wildcards=no");
    if (keepalive_s < asked_s)
        n += (size_t)snprintf(words + n, MQTT_WHY_MAX - n, " keepalive_s=%u", keepalive_s);
    if (lesser)
        n += (size_t)snprintf(words + n, MQTT_WHY_MAX - n, " will_qos=0");
    if (fleeting)
        snprintf(words + n, MQTT_WHY_MAX - n, " will_retain=no");
}
