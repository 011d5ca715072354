#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/store/state_inside.h"

/* Texts that change a little need no new room. */
enum { ROOM_STEP = 64 };

/* ---- the entries; locked ---- */

/* The place of the first key that is not below this one. */
static size_t place_of(const struct state *state, const char *key)
{
    size_t low = 0, high = state->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(state->entries[middle]->key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct state_entry *state_find(const struct state *state, const char *key)
{
    size_t place = place_of(state, key);
    bool found = place < state->n && strcmp(state->entries[place]->key, key) == 0;
    return found ? state->entries[place] : NULL;
}

struct state_entry *state_add(struct state *state, const char *key)
{
    if (state->n == STATE_KEYS_MAX)
        return NULL;
    if (state->n == state->room) {
        size_t room = 2 * state->room + 16;
        struct state_entry **grown = realloc(state->entries, room * sizeof(*grown));
        if (grown == NULL)
            return NULL;
        state->entries = grown;
        state->room = room;
    }
    struct state_entry *entry = calloc(1, sizeof(*entry) + strlen(key) + 1);
    if (entry == NULL)
        return NULL;
    strcpy(entry->key, key);
    size_t place = place_of(state, key);
    memmove(&state->entries[place + 1], &state->entries[place],
            (state->n - place) * sizeof(*state->entries));
    state->entries[place] = entry;
    state->n++;
    return entry;
}

bool state_set_text(struct state_entry *entry, const char *text)
{
    size_t size = text != NULL ? strlen(text) + 1 : 0;
    if (size > entry->room) {
        size_t room = (size + ROOM_STEP - 1) / ROOM_STEP * ROOM_STEP;
        char *grown = realloc(entry->text, room);
        if (grown == NULL)
            return false;
        entry->text = grown;
        entry->room = room;
    }
    if (text != NULL)
        memcpy(entry->text, text, size);
    entry->is_there = text != NULL;
    return true;
}

/* ---- everybody's side ---- */

bool state_get(struct state *state, const char *key, char *text, size_t size)
{
    pthread_mutex_lock(&state->mutex);
    const struct state_entry *entry = state_find(state, key);
    bool good = entry != NULL && entry->is_there && strlen(entry->text) < size;
    if (good)
        strcpy(text, entry->text);
    pthread_mutex_unlock(&state->mutex);
    return good;
}

bool state_is_known(const struct state *state)
{
    return state->path[0] == '\0' || state->loaded;
}

bool state_is_loaded(struct state *state)
{
    pthread_mutex_lock(&state->mutex);
    bool loaded = state_is_known(state);
    pthread_mutex_unlock(&state->mutex);
    return loaded;
}

bool state_is_silent(const struct state *state)
{
    return clock_awake_ns() - atomic_load(&state->promise_ns) >= STATE_SILENCE_NS;
}

bool state_is_decided(struct state *state, int64_t until_ns)
{
    pthread_mutex_lock(&state->mutex);
    /* One that is under way may have begun too early to find what is there now. */
    const uint64_t n_tries = state->n_tries + (state->busy ? 2 : 1);
    state->hurried = !state_is_known(state);
    pthread_cond_signal(&state->changed);
    while (!state_is_known(state) && state->n_tries < n_tries && !state_is_silent(state) &&
           clock_awake_ns() < until_ns)
        clock_cond_wait_awake(&state->written, &state->mutex, until_ns);
    const bool decided = state_is_known(state) || state->n_tries >= n_tries;
    pthread_mutex_unlock(&state->mutex);
    return decided;
}

void state_each(struct state *state, const char *prefix,
                void (*each)(void *context, const char *key, const char *text), void *context)
{
    pthread_mutex_lock(&state->mutex);
    for (size_t i = place_of(state, prefix);
         i < state->n && strncmp(state->entries[i]->key, prefix, strlen(prefix)) == 0; i++) {
        if (state->entries[i]->is_there)
            each(context, state->entries[i]->key, state->entries[i]->text);
    }
    pthread_mutex_unlock(&state->mutex);
}

bool state_put(struct state *state, const char *key, const char *text)
{
    bool good = true;
    if (strlen(key) > STATE_KEY_MAX || (text != NULL && strlen(text) > STATE_TEXT_MAX))
        return false;
    pthread_mutex_lock(&state->mutex);
    struct state_entry *entry = state_find(state, key);
    bool is_there = entry != NULL && entry->is_there;
    if (is_there ? text != NULL && strcmp(entry->text, text) == 0 : text == NULL)
        goto done;
    if (entry == NULL)
        entry = state_add(state, key);
    good = entry != NULL && state_set_text(entry, text);
    if (good) {
        entry->put = ++state->put;
        pthread_cond_signal(&state->changed);
    }
done:
    pthread_mutex_unlock(&state->mutex);
    return good;
}

uint64_t state_mark(struct state *state)
{
    pthread_mutex_lock(&state->mutex);
    uint64_t mark = state->put;
    pthread_mutex_unlock(&state->mutex);
    return mark;
}

bool state_is_kept(struct state *state, uint64_t mark)
{
    pthread_mutex_lock(&state->mutex);
    bool good = state->path[0] == '\0' || state->kept >= mark;
    pthread_mutex_unlock(&state->mutex);
    return good;
}

/* Locked. */
static bool is_settled(const struct state *state, uint64_t mark)
{
    return state->path[0] == '\0' || state->kept >= mark || state->failing;
}

bool state_is_settled(struct state *state, uint64_t mark)
{
    pthread_mutex_lock(&state->mutex);
    bool settled = is_settled(state, mark);
    pthread_mutex_unlock(&state->mutex);
    return settled;
}

void state_settle(struct state *state, uint64_t mark, int64_t until_ns)
{
    pthread_mutex_lock(&state->mutex);
    while (!is_settled(state, mark) && clock_awake_ns() < until_ns)
        clock_cond_wait_awake(&state->written, &state->mutex, until_ns);
    pthread_mutex_unlock(&state->mutex);
}

int64_t state_promise_ns(const struct state *state)
{
    return atomic_load(&state->promise_ns);
}
