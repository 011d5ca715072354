#include <ctype.h>
#include <stdio.h>

#include "bridge/base/clock.h"
#include "bridge/mqtt/mqtt_inside.h"

void mqtt_reason_words(enum MQTTReasonCodes code, char why[MQTT_WHY_MAX])
{
    const char *words = MQTTReasonCode_toString(code);
    if (words == NULL)
        snprintf(why, MQTT_WHY_MAX, "reason code 0x%02x", (unsigned)code);
    else
        snprintf(why, MQTT_WHY_MAX, "%c%s", tolower((unsigned char)words[0]), words + 1);
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
