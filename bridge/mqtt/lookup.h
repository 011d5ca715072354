/* lookup: a question about the broker that may take long, asked by a thread of its
 * own: its addresses, or why one of them cannot be used.
 *
 * One question at a time, owned by who asks. A thread that gets no answer holds up
 * nobody, also not at the end: it is left to itself then.
 */
#ifndef BRIDGE_MQTT_LOOKUP_H
#define BRIDGE_MQTT_LOOKUP_H

#include "bridge/mqtt/address.h"
#include "bridge/mqtt/limits.h"

struct lookup;

struct lookup_result {
    bool good;
    struct address_list addresses; /* of the name, when good */
    char why[LIMITS_WHY_MAX];      /* else; and always for the second question */
};

/* Asks for the addresses of the configured host, or, with an address, what is wrong
 * with that (cause_broker()). `wake` is called when the answer is there, from
 * another thread. NULL when out of memory; without a thread the answer is there when
 * this returns. */
struct lookup *lookup_ask(const struct conf_mqtt *conf, const char *address,
                          void (*wake)(void *context), void *context);

/* Takes the answer and frees; false while there is none. */
bool lookup_take(struct lookup *lookup, struct lookup_result *result);

/* No answer is wanted any more; `wake` is not called after this. NULL is ignored. */
void lookup_drop(struct lookup *lookup);

#endif
