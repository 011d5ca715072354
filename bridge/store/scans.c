#include "bridge/store/scans.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/ring.h"

struct scan_record {
    uint64_t ticket; /* ever growing */
    uint64_t batch;  /* it was sent in; 0 = it waits */
    bool done;
    unsigned device;
    const struct layout *layout;
    size_t size;
    unsigned char packed[];
};

struct scans {
    atomic_bool serves;
    atomic_uint nodes;     /* there have been */
    pthread_mutex_t mutex; /* for all that follows */
    struct ring *ring;
    uint64_t tickets, mark;   /* those below it are history */
    uint64_t batch;           /* the present one's number */
    bool begun;               /* something was sent in it */
    struct scan_record *live; /* where to look for the next one; NULL = the next to be put */
    uint64_t history, dropped;
};

struct scans *scans_new(size_t bytes)
{
    struct scans *scans = calloc(1, sizeof(*scans));
    if (scans == NULL)
        return NULL;
    scans->batch = 1;
    atomic_init(&scans->serves, true);
    scans->ring = ring_new(bytes);
    pthread_mutex_init(&scans->mutex, NULL);
    if (scans->ring == NULL) {
        scans_free(scans);
        return NULL;
    }
    return scans;
}

void scans_free(struct scans *scans)
{
    if (scans == NULL)
        return;
    ring_free(scans->ring);
    pthread_mutex_destroy(&scans->mutex);
    free(scans);
}

/* Locked. */
static bool is_waiting_history(const struct scans *scans, const struct scan_record *record)
{
    return record->ticket < scans->mark && !record->done && record->batch == 0;
}

/* Locked; false when there is none. */
static bool drop_oldest(struct scans *scans)
{
    struct scan_record *record = ring_front(scans->ring);
    if (record == NULL)
        return false;
    if (record == scans->live)
        scans->live = ring_after(scans->ring, record);
    scans->history -= is_waiting_history(scans, record);
    scans->dropped += !record->done;
    ring_pop(scans->ring);
    return true;
}

void scans_serve(struct scans *scans, bool serves)
{
    pthread_mutex_lock(&scans->mutex);
    atomic_store(&scans->serves, serves);
    if (serves)
        atomic_fetch_add(&scans->nodes, 1);
    while (!serves && ring_front(scans->ring) != NULL)
        ring_pop(scans->ring);
    if (!serves) {
        scans->live = NULL;
        scans->history = 0;
    }
    pthread_mutex_unlock(&scans->mutex);
}

unsigned scans_nodes(const struct scans *scans)
{
    return atomic_load(&scans->nodes);
}

void scans_put(struct scans *scans, unsigned device, const struct layout *layout,
               const void *packed, size_t size)
{
    if (!atomic_load(&scans->serves))
        return;
    pthread_mutex_lock(&scans->mutex);
    struct scan_record *record = ring_push(scans->ring, sizeof(*record) + size);
    while (record == NULL && drop_oldest(scans))
        record = ring_push(scans->ring, sizeof(*record) + size);
    if (record == NULL) {
        scans->dropped++;
    } else {
        *record = (struct scan_record){
            .ticket = ++scans->tickets, .device = device, .layout = layout, .size = size};
        memcpy(record->packed, packed, size);
        if (scans->live == NULL)
            scans->live = record;
    }
    pthread_mutex_unlock(&scans->mutex);
}

void scans_forget(struct scans *scans, unsigned device)
{
    pthread_mutex_lock(&scans->mutex);
    for (struct scan_record *record = ring_front(scans->ring); record != NULL;
         record = ring_after(scans->ring, record)) {
        scans->dropped += record->device == device && !record->done;
        record->done = record->done || record->device == device;
    }
    pthread_mutex_unlock(&scans->mutex);
}

/* Locked: copies it out, sent. */
static void take(struct scans *scans, struct scan_record *record, struct scans_item *item)
{
    record->batch = scans->batch;
    scans->begun = true;
    item->device = record->device;
    item->layout = record->layout;
    item->size = record->size;
    memcpy(item->packed, record->packed, record->size);
}

bool scans_take_live(struct scans *scans, struct scans_item *item)
{
    pthread_mutex_lock(&scans->mutex);
    struct scan_record *record = scans->live;
    while (record != NULL && record->done)
        record = ring_after(scans->ring, record);
    scans->live = record;
    if (record != NULL) {
        take(scans, record, item);
        scans->live = ring_after(scans->ring, record);
    }
    pthread_mutex_unlock(&scans->mutex);
    return record != NULL;
}

bool scans_take_history(struct scans *scans, const bool *may, unsigned *device,
                        struct scans_item *item)
{
    pthread_mutex_lock(&scans->mutex);
    struct scan_record *record = scans->history > 0 ? ring_front(scans->ring) : NULL;
    while (record != NULL && record->ticket < scans->mark &&
           (!is_waiting_history(scans, record) || !may[record->device] ||
            (*device != SCANS_ANY && record->device != *device)))
        record = ring_after(scans->ring, record);
    bool found = record != NULL && record->ticket < scans->mark;
    if (found) {
        take(scans, record, item);
        scans->history--;
        *device = record->device;
    }
    pthread_mutex_unlock(&scans->mutex);
    return found;
}

uint64_t scans_end_batch(struct scans *scans)
{
    pthread_mutex_lock(&scans->mutex);
    uint64_t batch = scans->begun ? scans->batch++ : 0;
    scans->begun = false;
    pthread_mutex_unlock(&scans->mutex);
    return batch;
}

void scans_ack(struct scans *scans, uint64_t batch)
{
    pthread_mutex_lock(&scans->mutex);
    for (struct scan_record *record = ring_front(scans->ring); record != NULL;
         record = ring_after(scans->ring, record))
        record->done = record->done || (record->batch != 0 && record->batch <= batch);
    for (struct scan_record *record = ring_front(scans->ring); record != NULL && record->done;
         record = ring_front(scans->ring))
        ring_pop(scans->ring);
    pthread_mutex_unlock(&scans->mutex);
}

void scans_rewind(struct scans *scans)
{
    pthread_mutex_lock(&scans->mutex);
    scans->mark = scans->live != NULL ? scans->live->ticket : scans->tickets + 1;
    scans->history = 0;
    for (struct scan_record *record = ring_front(scans->ring);
         record != NULL && record->ticket < scans->mark; record = ring_after(scans->ring, record)) {
        record->batch = 0;
        scans->history += !record->done;
    }
    scans->begun = false;
    pthread_mutex_unlock(&scans->mutex);
}

uint64_t scans_history(struct scans *scans)
{
    pthread_mutex_lock(&scans->mutex);
    uint64_t history = scans->history;
    pthread_mutex_unlock(&scans->mutex);
    return history;
}

uint64_t scans_dropped(struct scans *scans)
{
    pthread_mutex_lock(&scans->mutex);
    uint64_t dropped = scans->dropped;
    pthread_mutex_unlock(&scans->mutex);
    return dropped;
}
