/* fake_session: an MQTT library that does nothing, for what only drives sessions. */
#ifndef TESTS_UNIT_FAKE_SESSION_H
#define TESTS_UNIT_FAKE_SESSION_H

#include "bridge/base/clock.h"
#include "bridge/mqtt/mqtt.h"

void mqtt_disconnect(struct mqtt *mqtt, int64_t until_ns, bool with_will)
{
    (void)mqtt, (void)until_ns, (void)with_will;
}

/* When it was looked at last, and when it is to be again; by the clock of the machine awake. */
static int64_t fake_tended_ns, fake_tend_ns = CLOCK_NEVER;

int64_t mqtt_tend(struct mqtt *mqtt, int64_t now_ns)
{
    (void)mqtt;
    fake_tended_ns = now_ns;
    return fake_tend_ns;
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
