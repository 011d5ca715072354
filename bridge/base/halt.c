#include "bridge/base/halt.h"

#include "bridge/base/clock.h"

void halt_init(struct halt *halt)
{
    *halt = (struct halt){.there = false};
    pthread_mutex_init(&halt->mutex, NULL);
    clock_cond_init(&halt->cond);
}

void halt_destroy(struct halt *halt)
{
    pthread_cond_destroy(&halt->cond);
    pthread_mutex_destroy(&halt->mutex);
}

bool halt_is_asked(const struct halt *halt)
{
    return atomic_load_explicit(&halt->asked, memory_order_relaxed);
}

void halt_here(struct halt *halt)
{
    if (!halt_is_asked(halt))
        return;
    pthread_mutex_lock(&halt->mutex);
    const unsigned n_released = halt->n_released;
    while (halt_is_asked(halt) && halt->n_released == n_released) {
        halt->there = true;
        pthread_cond_broadcast(&halt->cond);
        clock_cond_wait(&halt->cond, &halt->mutex, CLOCK_NEVER);
    }
    halt->there = false;
    pthread_mutex_unlock(&halt->mutex);
}

void halt_ask(struct halt *halt)
{
    pthread_mutex_lock(&halt->mutex);
    atomic_store(&halt->asked, true);
    pthread_mutex_unlock(&halt->mutex);
}

bool halt_wait(struct halt *halt, int64_t until_ns)
{
    pthread_mutex_lock(&halt->mutex);
    while (!halt->there && clock_awake_ns() < until_ns)
        clock_cond_wait_awake(&halt->cond, &halt->mutex, until_ns);
    const bool there = halt->there;
    pthread_mutex_unlock(&halt->mutex);
    return there;
}

void halt_release(struct halt *halt)
{
    pthread_mutex_lock(&halt->mutex);
    atomic_store(&halt->asked, false);
    halt->n_released++;
    halt->there = false;
    pthread_cond_broadcast(&halt->cond);
    pthread_mutex_unlock(&halt->mutex);
}
