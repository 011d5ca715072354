#include "bridge/commands/recent.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct recent_entry {
    uint64_t ticket;
    char *payload;
};

struct recent {
    int fd;
    pthread_mutex_t mutex;
    uint64_t count;                           /* so far: the number of the newest */
    struct recent_entry entries[RECENT_KEPT]; /* by number, modulo */
};

struct recent *recent_new(void)
{
    struct recent *recent = calloc(1, sizeof(*recent));
    if (recent == NULL)
        return NULL;
    recent->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (recent->fd < 0) {
        free(recent);
        return NULL;
    }
    pthread_mutex_init(&recent->mutex, NULL);
    return recent;
}

void recent_free(struct recent *recent)
{
    if (recent == NULL)
        return;
    for (unsigned i = 0; i < RECENT_KEPT; i++)
        free(recent->entries[i].payload);
    pthread_mutex_destroy(&recent->mutex);
    (void)close(recent->fd);
    free(recent);
}

void recent_put(struct recent *recent, uint64_t ticket, const char *payload)
{
    char *copy = recent != NULL ? strdup(payload) : NULL;
    if (copy == NULL) /* who looks on gets less; the outcome itself is published */
        return;
    pthread_mutex_lock(&recent->mutex);
    struct recent_entry *entry = &recent->entries[++recent->count % RECENT_KEPT];
    char *oldest = entry->payload;
    *entry = (struct recent_entry){.ticket = ticket, .payload = copy};
    pthread_mutex_unlock(&recent->mutex);
    free(oldest);
    (void)eventfd_write(recent->fd, 1);
}

int recent_fd(const struct recent *recent)
{
    return recent->fd;
}

char *recent_take(struct recent *recent, uint64_t *last, uint64_t *ticket)
{
    eventfd_t puts;
    char *copy = NULL;
    (void)eventfd_read(recent->fd, &puts); /* before the look: a later put is seen again */
    pthread_mutex_lock(&recent->mutex);
    uint64_t next = *last + 1;
    if (recent->count >= RECENT_KEPT && next <= recent->count - RECENT_KEPT)
        next = recent->count - RECENT_KEPT + 1;
    if (next <= recent->count) {
        const struct recent_entry *entry = &recent->entries[next % RECENT_KEPT];
        copy = strdup(entry->payload);
        *ticket = entry->ticket;
        *last = next;
    }
    pthread_mutex_unlock(&recent->mutex);
    return copy;
}

void recent_print(struct recent *recent, FILE *out)
{
    pthread_mutex_lock(&recent->mutex);
    for (uint64_t i = 0; i < RECENT_SHOWN && i < recent->count; i++)
        (void)fprintf(out, "%s%s", i > 0 ? "," : "",
                      recent->entries[(recent->count - i) % RECENT_KEPT].payload);
    pthread_mutex_unlock(&recent->mutex);
}
