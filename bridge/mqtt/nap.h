/* nap: keeps the MQTT library's receiver awake.
 *
 * Whenever no socket was ready the library's receiver calls usleep() for 100 ms, lest it
 * spin while it has none (1.3.12 and later: MQTTAsync_cycle()). That is so after each
 * second in which nothing came from the broker, too, and what comes then, be it a stop,
 * waits for the rest of it. So this module has the program's usleep(): the receiver's
 * naps that follow a wait are left out, those that follow each other are slept. Any other
 * thread sleeps as long as it asks to.
 */
#ifndef BRIDGE_MQTT_NAP_H
#define BRIDGE_MQTT_NAP_H

#include <stdbool.h>
#include <stdint.h>

/* When this receiver wanted to sleep last; 0 = never. */
struct nap {
    int64_t wanted_ns;
};

/* It wants to sleep now: whether it shall. Pure. */
bool nap_is_due(struct nap *nap, int64_t now_ns);

/* Said by the library's receiver, in a callback: it is the one. */
void nap_watch_me(void);

#endif
