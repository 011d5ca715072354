#include "bridge/publish/refusals.h"

#include <stdio.h>
#include <string.h>

#include "bridge/base/log.h"

void refusals_init(struct refusals *refusals)
{
    pthread_mutex_init(&refusals->mutex, NULL);
}

void refusals_destroy(struct refusals *refusals)
{
    pthread_mutex_destroy(&refusals->mutex);
}

/* Locked: the one for this topic, NULL = there is none. */
static struct refusal *find(struct refusals *refusals, const char *topic)
{
    for (unsigned i = 0; i < refusals->n; i++)
        if (strcmp(refusals->list[i].topic, topic) == 0)
            return &refusals->list[i];
    return NULL;
}

void refusals_put(struct refusals *refusals, const char *topic, const char *why)
{
    pthread_mutex_lock(&refusals->mutex);
    if (find(refusals, topic) == NULL && refusals->n < REFUSALS_MAX) {
        struct refusal *refusal = &refusals->list[refusals->n++];
        snprintf(refusal->topic, sizeof(refusal->topic), "%s", topic);
        snprintf(refusal->why, sizeof(refusal->why), "%s", why);
        refusal->is_over = false;
        atomic_store(&refusals->news, true);
    }
    pthread_mutex_unlock(&refusals->mutex);
}

void refusals_end(struct refusals *refusals, const char *topic)
{
    pthread_mutex_lock(&refusals->mutex);
    struct refusal *refusal = find(refusals, topic);
    if (refusal != NULL)
        refusal->is_over = true;
    atomic_store(&refusals->news, true);
    pthread_mutex_unlock(&refusals->mutex);
}

/* The next that is to be said: a refusal, or its end, after which it is forgotten. */
static bool next(struct refusals *refusals, struct refusal *refusal)
{
    bool found = false;
    pthread_mutex_lock(&refusals->mutex);
    if (refusals->n_said < refusals->n) {
        *refusal = refusals->list[refusals->n_said++];
        refusal->is_over = false;
        found = true;
    }
    for (unsigned i = 0; !found && i < refusals->n; i++) {
        if (!refusals->list[i].is_over)
            continue;
        *refusal = refusals->list[i];
        refusals->list[i] = refusals->list[--refusals->n];
        refusals->n_said--;
        found = true;
    }
    pthread_mutex_unlock(&refusals->mutex);
    return found;
}

void refusals_say(struct refusals *refusals)
{
    struct refusal refusal;
    if (!atomic_load(&refusals->news))
        return;
    atomic_store(&refusals->news, false); /* before looking, so that none is missed */
    while (next(refusals, &refusal)) {
        if (refusal.is_over)
            log_info("the broker takes the subscription now topic=%s", refusal.topic);
        else
            log_warning("the broker refuses a topic: %s topic=%s", refusal.why, refusal.topic);
    }
}
