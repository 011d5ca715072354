#include "bridge/telemetry/latest.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct latest_slot {
    int64_t taken_ns;
    uint64_t seq;
    const struct layout *layout; /* NULL = none yet */
    unsigned char *packed;
    size_t size;
    struct lease lease;
    struct schedule_status *schedule; /* NULL: it takes no commands */
};

struct latest {
    pthread_mutex_t mutex;
    unsigned n;
    atomic_uint_fast64_t schedules;
    struct latest_slot slots[];
};

struct latest *latest_new(const struct device_list *list)
{
    struct latest *latest =
        calloc(1, sizeof(*latest) + list->n_devices * sizeof(struct latest_slot));
    if (latest == NULL)
        return NULL;
    pthread_mutex_init(&latest->mutex, NULL);
    latest->n = list->n_devices;
    for (unsigned i = 0; i < list->n_devices; i++) {
        if (!latest_renew(latest, i, &list->devices[i], 0)) {
            latest_free(latest);
            return NULL;
        }
    }
    return latest;
}

void latest_free(struct latest *latest)
{
    if (latest == NULL)
        return;
    pthread_mutex_destroy(&latest->mutex);
    for (unsigned i = 0; i < latest->n; i++) {
        free(latest->slots[i].packed);
        free(latest->slots[i].schedule);
    }
    free(latest);
}

bool latest_renew(struct latest *latest, unsigned index, const struct device *device, uint64_t seq)
{
    struct latest_slot *slot = &latest->slots[index], former;
    struct latest_slot next = {.packed = malloc(sample_packed_most(device) + 1), .seq = seq};
    if (device_takes_commands(device))
        next.schedule = malloc(sizeof(*next.schedule));
    if (next.packed == NULL || (device_takes_commands(device) && next.schedule == NULL)) {
        free(next.packed);
        free(next.schedule);
        return false;
    }
    if (next.schedule != NULL)
        *next.schedule = (struct schedule_status){.revision = -1};
    pthread_mutex_lock(&latest->mutex);
    former = *slot;
    *slot = next;
    pthread_mutex_unlock(&latest->mutex);
    free(former.packed);
    free(former.schedule);
    return true;
}

void latest_put(struct latest *latest, unsigned device, int64_t taken_ns,
                const struct sample *sample, const unsigned char *packed, size_t size)
{
    struct latest_slot *slot = &latest->slots[device];
    pthread_mutex_lock(&latest->mutex);
    slot->taken_ns = taken_ns;
    slot->layout = sample->layout;
    slot->seq = sample->seq;
    slot->size = size;
    memcpy(slot->packed, packed, size);
    pthread_mutex_unlock(&latest->mutex);
}

bool latest_get(struct latest *latest, unsigned device, struct sample *sample, struct value *values,
                int64_t *taken_ns)
{
    const struct latest_slot *slot = &latest->slots[device];
    pthread_mutex_lock(&latest->mutex);
    const bool there = slot->layout != NULL &&
                       sample_unpack(slot->layout, slot->packed, slot->size, sample, values);
    if (there)
        *taken_ns = slot->taken_ns;
    pthread_mutex_unlock(&latest->mutex);
    return there;
}

uint64_t latest_seq(struct latest *latest, unsigned device)
{
    pthread_mutex_lock(&latest->mutex);
    const uint64_t seq = latest->slots[device].seq;
    pthread_mutex_unlock(&latest->mutex);
    return seq;
}

void latest_put_lease(struct latest *latest, unsigned device, const struct lease *lease)
{
    pthread_mutex_lock(&latest->mutex);
    latest->slots[device].lease = *lease;
    pthread_mutex_unlock(&latest->mutex);
}

struct lease latest_lease(struct latest *latest, unsigned device)
{
    pthread_mutex_lock(&latest->mutex);
    const struct lease lease = latest->slots[device].lease;
    pthread_mutex_unlock(&latest->mutex);
    return lease;
}

void latest_put_schedule(struct latest *latest, unsigned device,
                         const struct schedule_status *status)
{
    pthread_mutex_lock(&latest->mutex);
    if (latest->slots[device].schedule != NULL)
        *latest->slots[device].schedule = *status;
    pthread_mutex_unlock(&latest->mutex);
    atomic_fetch_add(&latest->schedules, 1);
}

struct schedule_status latest_schedule(struct latest *latest, unsigned device)
{
    pthread_mutex_lock(&latest->mutex);
    const struct schedule_status *kept = latest->slots[device].schedule;
    const struct schedule_status status =
        kept != NULL ? *kept : (struct schedule_status){.revision = -1};
    pthread_mutex_unlock(&latest->mutex);
    return status;
}

uint64_t latest_schedules(const struct latest *latest)
{
    return atomic_load(&latest->schedules);
}
