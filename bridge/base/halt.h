/* halt: a thread that waits at a place where nothing it works with is in its hands, so
 * that another one may change that.
 *
 * The thread calls halt_here() wherever it could wait for as long as it takes. Whoever
 * wants to change something asks, wakes the thread in the way that it sleeps, waits until
 * it is there, and releases it. One asks at a time.
 */
#ifndef BRIDGE_BASE_HALT_H
#define BRIDGE_BASE_HALT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct halt {
    atomic_bool asked;
    bool there;
    unsigned n_released; /* times; one who was comes away, also when he is asked again at once */
    pthread_mutex_t mutex;
    pthread_cond_t cond;
};

void halt_init(struct halt *halt);
void halt_destroy(struct halt *halt);

/* The thread: returns at once unless it is asked to halt, else when it is released. */
void halt_here(struct halt *halt);
/* The thread: whether it is asked to. */
bool halt_is_asked(const struct halt *halt);

void halt_ask(struct halt *halt);
/* False when it is not there by `until_ns`, of the machine awake: nobody comes while it
 * sleeps. */
bool halt_wait(struct halt *halt, int64_t until_ns);
/* Also when it was not waited for. */
void halt_release(struct halt *halt);

#endif
