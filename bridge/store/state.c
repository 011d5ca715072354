#include "bridge/store/state.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/store/state_inside.h"

void state_path(const struct conf *conf, char path[CONF_PATH_MAX + 1])
{
    const char *beside = conf->spool_path[0] != '\0' ? conf->spool_path : conf->audit_path;
    char copy[CONF_PATH_MAX + 1];
    int length = 0;
    strcpy(copy, beside);
    path[0] = '\0';
    /* An audit log that is a device or a pipe of the process is in no directory of ours. It is
     * not looked at: that would wait for its disk. */
    if (beside[0] != '\0' && strncmp(beside, "/dev/", 5) != 0 && strncmp(beside, "/proc/", 6) != 0)
        length = snprintf(path, CONF_PATH_MAX + 1, "%s/state-%s.db", dirname(copy), conf->site);
    if (length > CONF_PATH_MAX)
        path[0] = '\0';
}

static void state_free(struct state *state)
{
    state_close_file(state);
    for (size_t i = 0; i < state->n; i++) {
        free(state->entries[i]->text);
        free(state->entries[i]);
    }
    free(state->entries);
    free(state->text);
    pthread_cond_destroy(&state->written);
    pthread_cond_destroy(&state->changed);
    pthread_mutex_destroy(&state->mutex);
    free(state);
}

/* So that whoever asks first finds the truth, on a disk that answers. */
static void wait_first(struct state *state)
{
    const int64_t until_ns = clock_awake_ns() + STATE_SILENCE_NS;
    pthread_mutex_lock(&state->mutex);
    while (state->n_tries == 0 && clock_awake_ns() < until_ns)
        clock_cond_wait_awake(&state->written, &state->mutex, until_ns);
    pthread_mutex_unlock(&state->mutex);
}

struct state *state_open(const char *path, bool (*inherit)(struct state *state, const char *path))
{
    struct state *state = calloc(1, sizeof(*state));
    if (state == NULL)
        return NULL;
    pthread_mutex_init(&state->mutex, NULL);
    clock_cond_init(&state->changed);
    clock_cond_init(&state->written);
    (void)snprintf(state->path, sizeof(state->path), "%s", path);
    state->promise_ns = CLOCK_NEVER;
    if (path[0] == '\0')
        return state;
    state->inherit = inherit;
    if (!state_start_thread(state)) {
        state_free(state);
        return NULL;
    }
    wait_first(state);
    return state;
}

void state_close(struct state *state)
{
    if (state == NULL)
        return;
    if (state->has_thread) {
        pthread_mutex_lock(&state->mutex);
        state->stopping = true;
        pthread_cond_signal(&state->changed);
        pthread_mutex_unlock(&state->mutex);
        pthread_join(state->thread, NULL);
    }
    state_free(state);
}
