#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/store/state_inside.h"

/* ---- the thread ---- */

void state_take_over_next(struct state *state)
{
    pthread_mutex_lock(&state->mutex);
    const bool asked = state->asked;
    state->asked = false;
    pthread_mutex_unlock(&state->mutex);
    if (!asked)
        return;
    state->inherit = NULL;
    state_forget_file(state);
    strcpy(state->former, state->path);
    pthread_mutex_lock(&state->mutex);
    strcpy(state->path, state->next);
    pthread_mutex_unlock(&state->mutex);
}

void state_end_move(struct state *state)
{
    if (state->former[0] != '\0')
        database_remove(state->former);
    state->former[0] = '\0';
    pthread_mutex_lock(&state->mutex);
    state->moving = state->asked;
    pthread_mutex_unlock(&state->mutex);
}

/* ---- everybody's side ---- */

bool state_can_move(struct state *state)
{
    pthread_mutex_lock(&state->mutex);
    const bool can = state_is_known(state) && !state->failing && !state->moving;
    pthread_mutex_unlock(&state->mutex);
    return can && !state_is_silent(state);
}

/* Locked. From memory alone to a file. */
static bool begin_file(struct state *state, const char *path)
{
    strcpy(state->path, path);
    state->loaded = true;
    for (size_t i = 0; i < state->n; i++)
        state->entries[i]->put = state->put + 1;
    if (state_start_thread(state))
        return true;
    state->path[0] = '\0';
    state->promise_ns = CLOCK_NEVER;
    return false;
}

bool state_move(struct state *state, const char *path)
{
    bool good = true;
    pthread_mutex_lock(&state->mutex);
    if (!state->has_thread) {
        good = path[0] == '\0' || begin_file(state, path);
    } else {
        strcpy(state->next, path);
        state->moving = state->asked = state->hurried = true;
        state->put++;
        pthread_cond_signal(&state->changed);
    }
    pthread_mutex_unlock(&state->mutex);
    return good;
}
