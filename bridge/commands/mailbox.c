#include "bridge/commands/mailbox.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/wire/schedule_json.h"

struct mailbox {
    int fd; /* eventfd */
    pthread_mutex_t mutex;
    pthread_cond_t cond; /* it has left */
    bool leaving, left, stopped;
    unsigned places, count;
    struct command *commands; /* waiting, longest first */
};

struct mailbox *mailbox_new(unsigned devices)
{
    struct mailbox *mailbox = calloc(1, sizeof(*mailbox));
    if (mailbox == NULL)
        return NULL;
    mailbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&mailbox->mutex, NULL);
    clock_cond_init(&mailbox->cond);
    if (mailbox->fd == -1 || !mailbox_make_room(mailbox, devices)) {
        mailbox_free(mailbox);
        return NULL;
    }
    return mailbox;
}

void mailbox_free(struct mailbox *mailbox)
{
    if (mailbox == NULL)
        return;
    for (unsigned i = 0; i < mailbox->count; i++)
        schedule_json_free(mailbox->commands[i].timetable);
    if (mailbox->fd != -1)
        close(mailbox->fd);
    pthread_cond_destroy(&mailbox->cond);
    pthread_mutex_destroy(&mailbox->mutex);
    free(mailbox->commands);
    free(mailbox);
}

bool mailbox_make_room(struct mailbox *mailbox, unsigned devices)
{
    const unsigned places = devices * MAILBOX_PLACES;
    bool good = true;
    pthread_mutex_lock(&mailbox->mutex);
    if (places > mailbox->places) {
        void *grown = realloc(mailbox->commands, places * sizeof(*mailbox->commands));
        if (grown == NULL) {
            good = false;
        } else {
            mailbox->commands = grown;
            mailbox->places = places;
        }
    }
    pthread_mutex_unlock(&mailbox->mutex);
    return good;
}

static void remove_at(struct mailbox *mailbox, unsigned index, struct command *command)
{
    *command = mailbox->commands[index];
    mailbox->count--;
    memmove(&mailbox->commands[index], &mailbox->commands[index + 1],
            (mailbox->count - index) * sizeof(struct command));
}

enum mailbox_answer mailbox_put(struct mailbox *mailbox, const struct command *command,
                                struct command *replaced)
{
    enum mailbox_answer answer = MAILBOX_TAKEN;
    unsigned waiting = 0, oldest = 0;
    pthread_mutex_lock(&mailbox->mutex);
    for (unsigned i = mailbox->count; i-- > 0;) {
        if (mailbox->commands[i].device == command->device) {
            waiting++;
            oldest = i;
        }
    }
    if (!command->stop && waiting >= MAILBOX_COMMANDS) {
        answer = MAILBOX_FULL;
    } else if (waiting >= MAILBOX_PLACES) {
        answer = MAILBOX_REPLACED;
        remove_at(mailbox, oldest, replaced);
    }
    if (answer != MAILBOX_FULL)
        mailbox->commands[mailbox->count++] = *command;
    pthread_mutex_unlock(&mailbox->mutex);
    eventfd_write(mailbox->fd, 1);
    return answer;
}

bool mailbox_take(struct mailbox *mailbox, struct command *command)
{
    pthread_mutex_lock(&mailbox->mutex);
    bool found = mailbox->count > 0;
    if (found)
        remove_at(mailbox, 0, command);
    pthread_mutex_unlock(&mailbox->mutex);
    return found;
}

bool mailbox_take_of(struct mailbox *mailbox, unsigned device, struct command *command)
{
    unsigned i = 0;
    pthread_mutex_lock(&mailbox->mutex);
    while (i < mailbox->count && mailbox->commands[i].device != device)
        i++;
    const bool found = i < mailbox->count;
    if (found)
        remove_at(mailbox, i, command);
    pthread_mutex_unlock(&mailbox->mutex);
    return found;
}

int mailbox_fd(const struct mailbox *mailbox)
{
    return mailbox->fd;
}

static void raise_flag(struct mailbox *mailbox, bool *flag)
{
    pthread_mutex_lock(&mailbox->mutex);
    *flag = true;
    pthread_cond_broadcast(&mailbox->cond);
    pthread_mutex_unlock(&mailbox->mutex);
    eventfd_write(mailbox->fd, 1);
}

static bool look_at(struct mailbox *mailbox, const bool *flag)
{
    pthread_mutex_lock(&mailbox->mutex);
    bool raised = *flag;
    pthread_mutex_unlock(&mailbox->mutex);
    return raised;
}

void mailbox_leave(struct mailbox *mailbox)
{
    raise_flag(mailbox, &mailbox->leaving);
}

bool mailbox_is_leaving(struct mailbox *mailbox)
{
    return look_at(mailbox, &mailbox->leaving);
}

void mailbox_has_left(struct mailbox *mailbox)
{
    raise_flag(mailbox, &mailbox->left);
}

bool mailbox_wait_left(struct mailbox *mailbox, int64_t until_ns)
{
    pthread_mutex_lock(&mailbox->mutex);
    while (!mailbox->left && clock_awake_ns() < until_ns)
        clock_cond_wait_awake(&mailbox->cond, &mailbox->mutex, until_ns);
    bool left = mailbox->left;
    pthread_mutex_unlock(&mailbox->mutex);
    return left;
}

void mailbox_stay(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->mutex);
    mailbox->left = false;
    pthread_mutex_unlock(&mailbox->mutex);
}

void mailbox_wake(struct mailbox *mailbox)
{
    eventfd_write(mailbox->fd, 1);
}

void mailbox_stop(struct mailbox *mailbox)
{
    raise_flag(mailbox, &mailbox->stopped);
}

bool mailbox_is_stopped(struct mailbox *mailbox)
{
    return look_at(mailbox, &mailbox->stopped);
}
