/* fake_session: an MQTT library that does nothing, for what only drives sessions. */
#ifndef TESTS_UNIT_FAKE_SESSION_H
#define TESTS_UNIT_FAKE_SESSION_H

#include "bridge/base/clock.h"
#include "bridge/mqtt/mqtt.h"

void mqtt_disconnect(struct mqtt *mqtt, int64_t until_ns, bool with_will)
{
    (void)mqtt, (void)until_ns, (void)with_will;
}

int64_t mqtt_tend(struct mqtt *mqtt, int64_t now_ns)
{
    (void)mqtt, (void)now_ns;
    return CLOCK_NEVER;
}

void mqtt_forget(struct mqtt *mqtt)
{
    (void)mqtt;
}

bool mqtt_publish(struct mqtt *mqtt, const struct mqtt_message *message, uint64_t ticket)
{
    (void)mqtt, (void)message, (void)ticket;
    return false;
}

#endif
