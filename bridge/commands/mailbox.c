#include "bridge/commands/mailbox.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct mailbox {
    int fd; /* eventfd */
    pthread_mutex_t mutex;
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
    mailbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&mailbox->mutex, NULL);
    if (mailbox->fd == -1) {
        mailbox_free(mailbox);
        return NULL;
    }
    return mailbox;
}

void mailbox_free(struct mailbox *mailbox)
{
    if (mailbox == NULL)
        return;
    if (mailbox->fd != -1)
        close(mailbox->fd);
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
    pthread_mutex_unlock(&mailbox->mutex);
    eventfd_write(mailbox->fd, 1);
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

int mailbox_fd(const struct mailbox *mailbox)
{
    return mailbox->fd;
}

bool mailbox_is_stopped(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->mutex);
    bool stopped = mailbox->stopped;
    pthread_mutex_unlock(&mailbox->mutex);
    return stopped;
}

void mailbox_stop(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->mutex);
    mailbox->stopped = true;
    pthread_mutex_unlock(&mailbox->mutex);
    eventfd_write(mailbox->fd, 1);
}
