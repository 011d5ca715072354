#include "bridge/run/scout.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/commands/audit_file.h"
#include "bridge/store/spool.h"
#include "bridge/store/state.h"

struct scout {
    /* Where it goes; "" = it has nothing to do there. */
    char audit_path[CONF_PATH_MAX + 1];
    char spool_path[CONF_PATH_MAX + 1];
    char state_path[CONF_PATH_MAX + 1];
    char why[SCOUT_WHY_MAX]; /* its own, until it is back; "" = all is good */
    bool has_thread;
    pthread_t thread;
    pthread_mutex_t mutex; /* for the rest */
    pthread_cond_t cond;
    bool is_back, is_left;
};

/* One that was left behind is still at its disk. */
static atomic_bool is_out;

static void scout_free(struct scout *scout)
{
    pthread_cond_destroy(&scout->cond);
    pthread_mutex_destroy(&scout->mutex);
    free(scout);
}

static void try_audit(struct scout *scout)
{
    int file = -1;
    errno = audit_file_open(scout->audit_path, &file);
    if (errno == 0)
        (void)close(file);
    else
        (void)snprintf(scout->why, sizeof(scout->why),
                       "audit.path cannot be written: %m: %s file=%s", audit_file_remedy(errno),
                       scout->audit_path);
}

static void try_spool(struct scout *scout)
{
    char why[SPOOL_WHY_MAX];
    if (!spool_try(scout->spool_path, why))
        (void)snprintf(scout->why, sizeof(scout->why), "spool.path cannot be used: %s file=%s", why,
                       scout->spool_path);
}

static void try_state(struct scout *scout)
{
    char why[STATE_WHY_MAX];
    if (!state_try(scout->state_path, why))
        (void)snprintf(scout->why, sizeof(scout->why),
                       "the state file, which goes with site and spool.path, cannot be used: %s "
                       "file=%s",
                       why, scout->state_path);
}

/* The audit log last: trying it makes it. */
static void *scout_run(void *argument)
{
    struct scout *scout = argument;
    if (scout->spool_path[0] != '\0')
        try_spool(scout);
    if (scout->why[0] == '\0' && scout->state_path[0] != '\0')
        try_state(scout);
    if (scout->why[0] == '\0' && scout->audit_path[0] != '\0')
        try_audit(scout);
    pthread_mutex_lock(&scout->mutex);
    const bool is_left = scout->is_left;
    scout->is_back = true;
    pthread_cond_signal(&scout->cond);
    pthread_mutex_unlock(&scout->mutex);
    if (is_left) {
        scout_free(scout);
        atomic_store(&is_out, false);
    }
    return NULL;
}

/* Where it is to go for one file. */
static void note(char path[CONF_PATH_MAX + 1], const char *before, const char *after)
{
    strcpy(path, strcmp(before, after) != 0 ? after : "");
}

struct scout *scout_send(const struct conf *before, const struct conf *after, bool opens_spool,
                         char why[SCOUT_WHY_MAX])
{
    char former[CONF_PATH_MAX + 1], next[CONF_PATH_MAX + 1];
    struct scout *scout = NULL;
    (void)snprintf(why, SCOUT_WHY_MAX, "the disk that an earlier reload asked does not answer yet");
    if (atomic_load(&is_out))
        return NULL;
    (void)snprintf(why, SCOUT_WHY_MAX, "out of memory or threads");
    if ((scout = calloc(1, sizeof(*scout))) == NULL)
        return NULL;
    pthread_mutex_init(&scout->mutex, NULL);
    clock_cond_init(&scout->cond);
    state_path(before, former);
    state_path(after, next);
    note(scout->state_path, former, next);
    strcpy(scout->spool_path, opens_spool ? after->spool_path : "");
    note(scout->audit_path, before->audit_path, after->audit_path);
    const bool idle = scout->spool_path[0] == '\0' && scout->state_path[0] == '\0' &&
                      scout->audit_path[0] == '\0';
    scout->is_back = idle;
    scout->has_thread = !idle && pthread_create(&scout->thread, NULL, scout_run, scout) == 0;
    if (idle || scout->has_thread)
        return scout;
    scout_free(scout);
    return NULL;
}

bool scout_wait(struct scout *scout, int64_t until_ns)
{
    pthread_mutex_lock(&scout->mutex);
    while (!scout->is_back && clock_awake_ns() < until_ns)
        clock_cond_wait_awake(&scout->cond, &scout->mutex, until_ns);
    const bool is_back = scout->is_back;
    pthread_mutex_unlock(&scout->mutex);
    return is_back;
}

bool scout_end(struct scout *scout, char why[SCOUT_WHY_MAX])
{
    pthread_mutex_lock(&scout->mutex);
    const bool is_back = scout->is_back;
    scout->is_left = !is_back;
    if (!is_back) {
        atomic_store(&is_out, true);
        pthread_detach(scout->thread);
    }
    pthread_mutex_unlock(&scout->mutex);
    (void)snprintf(why, SCOUT_WHY_MAX, "the disk of the files that it names does not answer");
    if (!is_back)
        return false;
    if (scout->has_thread)
        pthread_join(scout->thread, NULL);
    memcpy(why, scout->why, SCOUT_WHY_MAX);
    scout_free(scout);
    return why[0] == '\0';
}
