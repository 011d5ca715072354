#include "bridge/store/outbox_inside.h"

void outbox_set_online(struct outbox *outbox, unsigned device, bool online)
{
    outbox_lock(outbox);
    struct outbox_device *d = &outbox->devices[device];
    if (d->online != online) {
        d->online = online;
        outbox->n_presence_due += !d->presence_due;
        d->presence_due = true;
        outbox_call_publisher(outbox);
    }
    outbox_unlock(outbox);
}

/* All of them go as backlog, even what was live. */
static void disown(struct outbox *outbox, struct queue *queue, unsigned device)
{
    for (struct record *record = ring_front(queue->ring); record != NULL;
         record = ring_after(queue->ring, record))
        if (record->layout != NULL && record->device == device)
            record->device = outbox->n_devices;
}

void outbox_renew_device(struct outbox *outbox, unsigned device, bool another)
{
    outbox_set_online(outbox, device, false);
    if (!another)
        return;
    outbox_lock(outbox);
    disown(outbox, &outbox->samples, device);
    if (outbox->spool.queue.ring != NULL)
        disown(outbox, &outbox->spool.queue, device);
    outbox->devices[device].dropped = 0;
    outbox->n_presence_due -= outbox->devices[device].presence_due;
    outbox->devices[device].presence_due = false;
    outbox_unlock(outbox);
}

bool outbox_is_online(struct outbox *outbox, unsigned device)
{
    outbox_lock(outbox);
    bool online = outbox->devices[device].online;
    outbox_unlock(outbox);
    return online;
}

bool outbox_take_presence(struct outbox *outbox, unsigned *device, bool *online)
{
    bool found = false;
    outbox_lock(outbox);
    for (unsigned i = *device; outbox->n_presence_due > 0 && i < outbox->n_devices; i++) {
        if (outbox->devices[i].presence_due) {
            outbox->devices[i].presence_due = false;
            outbox->n_presence_due--;
            *device = i;
            *online = outbox->devices[i].online;
            found = true;
            break;
        }
    }
    outbox_unlock(outbox);
    return found;
}

void outbox_mark_presence(struct outbox *outbox, unsigned device)
{
    outbox_lock(outbox);
    outbox->n_presence_due += !outbox->devices[device].presence_due;
    outbox->devices[device].presence_due = true;
    outbox_unlock(outbox);
}

void outbox_call_control(struct outbox *outbox, unsigned device)
{
    outbox_lock(outbox);
    outbox->n_control_due += !outbox->devices[device].control_due;
    outbox->devices[device].control_due = true;
    outbox_call_publisher(outbox);
    outbox_unlock(outbox);
}

bool outbox_take_control(struct outbox *outbox, unsigned *device)
{
    outbox_lock(outbox);
    unsigned i = outbox->n_control_due > 0 ? *device : outbox->n_devices;
    while (i < outbox->n_devices && !outbox->devices[i].control_due)
        i++;
    const bool found = i < outbox->n_devices;
    if (found) {
        outbox->devices[i].control_due = false;
        outbox->n_control_due--;
        *device = i;
    }
    outbox_unlock(outbox);
    return found;
}

/* A device that is configured no more has no count of its own. */
void outbox_count_drop(struct outbox *outbox, unsigned device)
{
    if (device < outbox->n_devices)
        outbox->devices[device].dropped++;
    outbox->dropped++;
}

uint64_t outbox_dropped(struct outbox *outbox, unsigned device)
{
    outbox_lock(outbox);
    uint64_t dropped = outbox->devices[device].dropped;
    outbox_unlock(outbox);
    return dropped;
}
