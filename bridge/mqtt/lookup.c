#include "bridge/mqtt/lookup.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "bridge/mqtt/cause.h"

struct lookup {
    struct conf_mqtt conf; /* its owner may be gone before the thread is */
    char address[ADDRESS_TEXT_MAX];
    void (*wake)(void *context);
    void *context;
    struct lookup_result result;

    pthread_mutex_t mutex; /* guards what follows */
    bool answered, dropped;
};

static void lookup_free(struct lookup *lookup)
{
    pthread_mutex_destroy(&lookup->mutex);
    free(lookup);
}

static void answer(struct lookup *lookup)
{
    struct lookup_result *result = &lookup->result;
    const char *why;
    if (lookup->address[0] != '\0') {
        cause_broker(&lookup->conf, lookup->address, result->why, sizeof(result->why));
        return;
    }
    result->good = address_resolve(lookup->conf.host, &result->addresses, &why);
    if (!result->good)
        snprintf(result->why, sizeof(result->why), "cannot resolve the host name: %s", why);
}

static void *lookup_main(void *argument)
{
    struct lookup *lookup = argument;
    answer(lookup);
    pthread_mutex_lock(&lookup->mutex);
    bool dropped = lookup->dropped;
    lookup->answered = true;
    if (!dropped) /* under the lock: who drops it waits for this to be over */
        lookup->wake(lookup->context);
    pthread_mutex_unlock(&lookup->mutex);
    if (dropped)
        lookup_free(lookup);
    return NULL;
}

struct lookup *lookup_ask(const struct conf_mqtt *conf, const char *address,
                          void (*wake)(void *context), void *context)
{
    pthread_t thread;
    struct lookup *lookup = calloc(1, sizeof(*lookup));
    if (lookup == NULL)
        return NULL;
    lookup->conf = *conf;
    lookup->wake = wake;
    lookup->context = context;
    if (address != NULL)
        snprintf(lookup->address, sizeof(lookup->address), "%s", address);
    pthread_mutex_init(&lookup->mutex, NULL);
    if (pthread_create(&thread, NULL, lookup_main, lookup) == 0) {
        pthread_detach(thread);
    } else {
        answer(lookup);
        lookup->answered = true;
        wake(context);
    }
    return lookup;
}

bool lookup_take(struct lookup *lookup, struct lookup_result *result)
{
    pthread_mutex_lock(&lookup->mutex);
    bool answered = lookup->answered;
    pthread_mutex_unlock(&lookup->mutex);
    if (!answered)
        return false;
    *result = lookup->result;
    lookup_free(lookup);
    return true;
}

void lookup_drop(struct lookup *lookup)
{
    if (lookup == NULL)
        return;
    pthread_mutex_lock(&lookup->mutex);
    bool answered = lookup->answered;
    lookup->dropped = true;
    pthread_mutex_unlock(&lookup->mutex);
    if (answered)
        lookup_free(lookup);
}
