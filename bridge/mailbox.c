#include "bridge/mailbox.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/clock.h"

struct mailbox {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool stopped;
    unsigned places;
    unsigned count;        /* orders waiting, longest first */
    struct order orders[]; /* `places` of them */
};

struct mailbox *mailbox_new(unsigned places)
{
    struct mailbox *mailbox = calloc(1, sizeof(*mailbox) + places * sizeof(struct order));
    if (mailbox == NULL)
        return NULL;
    mailbox->places = places;
    pthread_mutex_init(&mailbox->mutex, NULL);
    clock_cond_init(&mailbox->cond);
    return mailbox;
}

void mailbox_free(struct mailbox *mailbox)
{
    if (mailbox == NULL)
        return;
    pthread_cond_destroy(&mailbox->cond);
    pthread_mutex_destroy(&mailbox->mutex);
    free(mailbox);
}

static void remove_at(struct mailbox *mailbox, unsigned index)
{
    mailbox->count--;
    memmove(&mailbox->orders[index], &mailbox->orders[index + 1],
            (mailbox->count - index) * sizeof(struct order));
}

bool mailbox_put(struct mailbox *mailbox, const struct order *order, struct order *replaced)
{
    bool was_waiting = false;
    pthread_mutex_lock(&mailbox->mutex);
    for (unsigned i = 0; i < mailbox->count; i++) {
        const struct order *waiting = &mailbox->orders[i];
        if (waiting->device == order->device && waiting->point == order->point &&
            waiting->own == order->own) {
            *replaced = *waiting;
            remove_at(mailbox, i);
            was_waiting = true;
            break;
        }
    }
    mailbox->orders[mailbox->count++] = *order;
    pthread_cond_signal(&mailbox->cond);
    pthread_mutex_unlock(&mailbox->mutex);
    return was_waiting;
}

unsigned mailbox_waiting(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->mutex);
    unsigned count = mailbox->count;
    pthread_mutex_unlock(&mailbox->mutex);
    return count;
}

bool mailbox_take(struct mailbox *mailbox, struct order *order)
{
    pthread_mutex_lock(&mailbox->mutex);
    bool found = mailbox->count > 0;
    if (found) {
        *order = mailbox->orders[0];
        remove_at(mailbox, 0);
    }
    pthread_mutex_unlock(&mailbox->mutex);
    return found;
}

bool mailbox_wait(struct mailbox *mailbox, int64_t until_ns)
{
    pthread_mutex_lock(&mailbox->mutex);
    while (mailbox->count == 0 && !mailbox->stopped && clock_mono_ns() < until_ns)
        clock_cond_wait(&mailbox->cond, &mailbox->mutex, until_ns);
    bool going_on = !mailbox->stopped;
    pthread_mutex_unlock(&mailbox->mutex);
    return going_on;
}

void mailbox_stop(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->mutex);
    mailbox->stopped = true;
    pthread_cond_signal(&mailbox->cond);
    pthread_mutex_unlock(&mailbox->mutex);
}
