#include "bridge/publish/primary_host.h"

#include "bridge/base/log.h"
#include "bridge/wire/sparkplug.h"

void primary_host_begin(struct primary_host *host, const char *id)
{
    *host = (struct primary_host){.id = id, .ts_ms = -1};
    pthread_mutex_init(&host->mutex, NULL);
}

void primary_host_end(struct primary_host *host)
{
    pthread_mutex_destroy(&host->mutex);
}

void primary_host_forget(struct primary_host *host)
{
    pthread_mutex_lock(&host->mutex);
    host->online = host->fell = host->told_of_2 = false;
    host->ts_ms = -1;
    pthread_mutex_unlock(&host->mutex);
}

void primary_host_hear(struct primary_host *host, const struct mqtt_arrival *arrival)
{
    bool online;
    int64_t ts_ms;
    if (!sparkplug_decode_state(arrival->payload, arrival->payload_size, &online, &ts_ms)) {
        log_warning("sparkplug: the primary host's STATE is not understood: it has to be "
                    "{\"online\":true,\"timestamp\":<ms>} topic=%s",
                    arrival->topic);
        return;
    }
    pthread_mutex_lock(&host->mutex);
    const bool older = ts_ms < host->ts_ms;
    if (!older) {
        host->ts_ms = ts_ms;
        host->fell = host->fell || (host->online && !online);
        host->online = online;
    }
    pthread_mutex_unlock(&host->mutex);
    if (older)
        log_warning("sparkplug: the primary host's STATE is older than its last: it is not heeded "
                    "topic=%s",
                    arrival->topic);
}

void primary_host_hear_2(struct primary_host *host, const char *topic)
{
    pthread_mutex_lock(&host->mutex);
    const bool told = host->told_of_2;
    host->told_of_2 = true;
    pthread_mutex_unlock(&host->mutex);
    if (!told)
        log_warning("sparkplug: the primary host says its STATE as version 2.2 does, which is not "
                    "heeded: it has to speak version 3 topic=%s",
                    topic);
}

bool primary_host_is_online(struct primary_host *host)
{
    pthread_mutex_lock(&host->mutex);
    const bool online = host->id[0] == '\0' || host->online;
    pthread_mutex_unlock(&host->mutex);
    return online;
}

bool primary_host_has_fallen(struct primary_host *host)
{
    pthread_mutex_lock(&host->mutex);
    const bool fell = host->fell;
    host->fell = false;
    pthread_mutex_unlock(&host->mutex);
    return fell;
}
