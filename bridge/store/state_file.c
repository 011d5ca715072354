#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/store/state_inside.h"

/* Until a failing disk is tried again. */
#define RETRY_NS CLOCK_NS_PER_S

#define TABLE "CREATE TABLE state (key TEXT PRIMARY KEY NOT NULL, text TEXT NOT NULL)"

static const struct database_kind KIND = {
    .what = "state",
    .application = 0x464c5354, /* "FLST" */
    .version = 1,
    .schema = TABLE " WITHOUT ROWID;",
    .trace = TABLE,
    .used = "SELECT 1 FROM state",
};

bool state_try(const char *path, char why[STATE_WHY_MAX])
{
    const int result = database_try(path, &KIND);
    (void)snprintf(why, STATE_WHY_MAX, "%s: %s", database_error(result), database_remedy(result));
    return result == SQLITE_OK;
}

const char *state_refuses(const char *path)
{
    const int result = path[0] != '\0' ? database_look(path, &KIND) : SQLITE_OK;
    return database_is_refused(result) ? database_error(result) : NULL;
}

void state_close_file(struct state *state)
{
    sqlite3_finalize(state->keep);
    sqlite3_finalize(state->forget);
    database_close(state->file);
    state->keep = state->forget = NULL;
    state->file = NULL;
}

static void take_inheritance(struct state *state)
{
    if (state->inherit != NULL && state->inherit(state, state->path))
        state->inherit = NULL;
}

/* Takes over what is on disk and was not put since. */
static int load(struct state *state)
{
    sqlite3_stmt *all = NULL;
    int result = sqlite3_prepare_v2(state->file, "SELECT key, text FROM state", -1, &all, NULL);
    while (result == SQLITE_OK && (result = sqlite3_step(all)) == SQLITE_ROW) {
        const char *key = (const char *)sqlite3_column_text(all, 0);
        const char *text = (const char *)sqlite3_column_text(all, 1);
        result = SQLITE_OK;
        if (key == NULL || text == NULL || strlen(key) > STATE_KEY_MAX ||
            strlen(text) > STATE_TEXT_MAX)
            continue;
        pthread_mutex_lock(&state->mutex);
        struct state_entry *entry = state_find(state, key) == NULL ? state_add(state, key) : NULL;
        if (entry != NULL)
            (void)state_set_text(entry, text);
        pthread_mutex_unlock(&state->mutex);
    }
    sqlite3_finalize(all);
    if (result == SQLITE_DONE)
        take_inheritance(state);
    pthread_mutex_lock(&state->mutex);
    state->loaded = state->loaded || result == SQLITE_DONE;
    pthread_mutex_unlock(&state->mutex);
    return result == SQLITE_DONE ? SQLITE_OK : result;
}

static int open_file(struct state *state)
{
    int result = database_open(state->path, &KIND, &state->file);
    if (result == SQLITE_OK)
        result = load(state);
    if (result == SQLITE_OK)
        result = sqlite3_prepare_v2(state->file, "INSERT OR REPLACE INTO state VALUES (?1, ?2)", -1,
                                    &state->keep, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_prepare_v2(state->file, "DELETE FROM state WHERE key = ?1", -1,
                                    &state->forget, NULL);
    if (result != SQLITE_OK)
        state_close_file(state);
    return result;
}

void state_forget_file(struct state *state)
{
    state_close_file(state);
    pthread_mutex_lock(&state->mutex);
    state->put++;
    for (size_t i = 0; i < state->n; i++)
        state->entries[i]->put = state->put;
    pthread_mutex_unlock(&state->mutex);
}

/* The first entry from `*place` on that is not on disk, copied out; false when
 * there is none. */
static bool next_entry(struct state *state, size_t *place, char key[STATE_KEY_MAX + 1],
                       bool *is_there)
{
    bool found = false;
    pthread_mutex_lock(&state->mutex);
    while (*place < state->n && state->entries[*place]->put <= state->kept)
        ++*place;
    if (*place < state->n) {
        const struct state_entry *entry = state->entries[(*place)++];
        strcpy(key, entry->key);
        *is_there = entry->is_there;
        if (entry->is_there)
            strcpy(state->text, entry->text);
        found = true;
    }
    pthread_mutex_unlock(&state->mutex);
    return found;
}

static int run(struct state *state, const char *text)
{
    return sqlite3_exec(state->file, text, NULL, NULL, NULL);
}

/* Writes all that was put up to now in one transaction. A key that comes into
 * being meanwhile can move the places: what is missed then has a later number. */
static int write_entries(struct state *state)
{
    char key[STATE_KEY_MAX + 1];
    bool is_there;
    size_t place = 0;
    int result = database_has_moved(state->file) ? DATABASE_MOVED : run(state, "BEGIN IMMEDIATE");
    while (result == SQLITE_OK && next_entry(state, &place, key, &is_there)) {
        sqlite3_stmt *statement = is_there ? state->keep : state->forget;
        sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
        if (is_there)
            sqlite3_bind_text(statement, 2, state->text, -1, SQLITE_STATIC);
        result = sqlite3_step(statement);
        if (result == SQLITE_DONE)
            result = SQLITE_OK;
        sqlite3_reset(statement);
        sqlite3_clear_bindings(statement);
    }
    if (result == SQLITE_OK)
        result = run(state, "COMMIT");
    if (result != SQLITE_OK && result != DATABASE_MOVED)
        (void)run(state, "ROLLBACK"); /* its failure would hide the one that counts */
    return result;
}

/* ---- the thread ---- */

static void tell(struct state *state, int failure)
{
    if (failure != SQLITE_OK && failure != state->failure)
        log_error("the state file cannot be used, what it should keep lasts as long as the "
                  "process: %s: %s file=%s",
                  database_error(failure), database_remedy(failure), state->path);
    else if (failure == SQLITE_OK && state->failure != SQLITE_OK)
        log_info("the state file is used again file=%s", state->path);
    state->failure = failure;
}

/* A damaged file makes way for a new one. */
static void make_way(struct state *state, int failure)
{
    char kept_as[4096];
    state_forget_file(state);
    if (failure == DATABASE_MOVED)
        return;
    if (database_set_aside(state->path, kept_as))
        log_error("the state file is damaged: it was set aside file=%s kept_as=%s", state->path,
                  kept_as);
}

static int try_once(struct state *state)
{
    if (state->path[0] == '\0')
        return SQLITE_OK;
    int result = state->file != NULL ? SQLITE_OK : open_file(state);
    if (result == SQLITE_OK)
        result = write_entries(state);
    return result;
}

/* Brings the file up to date; whether it is. */
static bool write_all(struct state *state)
{
    state_take_over_next(state);
    pthread_mutex_lock(&state->mutex);
    uint64_t target = state->put;
    pthread_mutex_unlock(&state->mutex);
    int result = try_once(state);
    if (database_is_damage(result)) {
        make_way(state, result);
        result = try_once(state);
    }
    tell(state, result);
    if (result == SQLITE_OK) {
        take_inheritance(state);
        state_end_move(state);
    }
    pthread_mutex_lock(&state->mutex);
    state->failing = result != SQLITE_OK;
    state->n_tries++;
    if (result == SQLITE_OK)
        state->kept = target;
    pthread_cond_broadcast(&state->written);
    pthread_mutex_unlock(&state->mutex);
    return result == SQLITE_OK;
}

static void *state_thread(void *argument)
{
    struct state *state = argument;
    int64_t retry_ns = 0; /* 0 = all is well */
    bool stopping = false;
    while (!stopping) {
        pthread_mutex_lock(&state->mutex);
        while (!state->stopping && !state->hurried &&
               (retry_ns != 0 ? clock_awake_ns() < retry_ns : state->put == state->kept))
            clock_cond_wait_awake(&state->changed, &state->mutex,
                                  retry_ns != 0 ? retry_ns : CLOCK_NEVER);
        stopping = state->stopping;
        bool idle = state->put == state->kept && state->file != NULL;
        state->hurried = false;
        state->busy = true;
        pthread_mutex_unlock(&state->mutex);
        atomic_store(&state->promise_ns, clock_awake_ns());
        retry_ns = idle || write_all(state) ? 0 : clock_awake_ns() + RETRY_NS;
        atomic_store(&state->promise_ns, CLOCK_NEVER);
        pthread_mutex_lock(&state->mutex);
        state->busy = false;
        pthread_mutex_unlock(&state->mutex);
    }
    return NULL;
}

bool state_start_thread(struct state *state)
{
    state->put++; /* the file is to be opened, and tried again when it cannot */
    state->promise_ns = clock_awake_ns();
    if (state->text == NULL)
        state->text = malloc(STATE_TEXT_MAX + 1);
    state->has_thread =
        state->text != NULL && pthread_create(&state->thread, NULL, state_thread, state) == 0;
    return state->has_thread;
}
