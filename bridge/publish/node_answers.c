#include "bridge/publish/node_answers.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWERS_MAX = 32 };

struct node_answers {
    const struct births *births;
    pthread_mutex_t mutex; /* for what follows */
    unsigned n;
    struct outcome list[ANSWERS_MAX];
};

struct node_answers *node_answers_new(const struct births *births)
{
    struct node_answers *answers = calloc(1, sizeof(*answers));
    if (answers == NULL)
        return NULL;
    answers->births = births;
    pthread_mutex_init(&answers->mutex, NULL);
    return answers;
}

void node_answers_free(struct node_answers *answers)
{
    if (answers == NULL)
        return;
    pthread_mutex_destroy(&answers->mutex);
    free(answers);
}

/* One that did not get as far as being placed may name a metric of ours all the same. Of a
 * device that was removed since there is none. */
static bool place(const struct births *births, struct command *command)
{
    const int device = births_find_device(births, command->device_name);
    if (command->placed)
        return device >= 0 && (unsigned)device == command->device;
    const int point =
        device >= 0 ? births_find(births, (unsigned)device, 0, command->point_name) : -1;
    command->device = (unsigned)device;
    command->point = (unsigned)point;
    return point >= 0;
}

static void drop_first(struct node_answers *answers)
{
    memmove(&answers->list[0], &answers->list[1], --answers->n * sizeof(answers->list[0]));
}

void node_answers_put(struct node_answers *answers, const struct outcome *outcome)
{
    pthread_mutex_lock(&answers->mutex);
    if (answers->n == ANSWERS_MAX)
        drop_first(answers);
    struct outcome *last = &answers->list[answers->n];
    *last = *outcome;
    answers->n += place(answers->births, &last->command);
    pthread_mutex_unlock(&answers->mutex);
}

bool node_answers_take(struct node_answers *answers, struct outcome *outcome)
{
    pthread_mutex_lock(&answers->mutex);
    const bool found = answers->n > 0;
    if (found) {
        *outcome = answers->list[0];
        drop_first(answers);
    }
    pthread_mutex_unlock(&answers->mutex);
    return found;
}
