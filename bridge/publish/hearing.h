/* hearing: whether commands are heard: the subscriptions to them, from the first to the
 * last.
 *
 * Commands, and schedules, come by two filters, or, where the broker takes no wildcards,
 * by one for each point that may be written and one for each battery. Before all of them
 * are answered no device is called online; before a stop all of them are ended, and what
 * the broker has handed over before gets its outcome.
 *
 * Owned by the publisher; what is said to be any thread's is a callback's, or that of who
 * stops the program.
 */
#ifndef BRIDGE_PUBLISH_HEARING_H
#define BRIDGE_PUBLISH_HEARING_H

#include <pthread.h>
#include <stdatomic.h>

#include "bridge/mqtt/mqtt.h"

struct hearing {
    const struct conf *conf;
    atomic_uint n_asked; /* what the broker has not answered */
    atomic_bool is_over; /* commands are not to be heard any more */
    bool is_ended;       /* the broker has been told */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t deafness;
    bool is_deaf; /* nothing arrives any more */
};

void hearing_init(struct hearing *hearing, const struct conf *conf);
void hearing_destroy(struct hearing *hearing);

/* Subscribes: the session is up, or the devices are others. And, any thread: the broker
 * has answered one. True: all are answered now, and commands are heard. */
bool hearing_begin(struct hearing *hearing, struct mqtt *mqtt);
bool hearing_answered(struct hearing *hearing, const char *filter);

/* Any thread: commands are not to be heard any more; and waits for that, `until_ns` at
 * most. */
void hearing_stop(struct hearing *hearing);
void hearing_await_end(struct hearing *hearing, int64_t until_ns);

/* After hearing_stop(): unsubscribes; NULL: there is no session. */
void hearing_run(struct hearing *hearing, struct mqtt *mqtt);

#endif
