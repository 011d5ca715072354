#include "bridge/store/state.h"

#include <libgen.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/store/database.h"

/* Until a failing disk is tried again. */
#define RETRY_NS CLOCK_NS_PER_S

/* Texts that change a little need no new room. */
enum { ROOM_STEP = 64 };

#define TABLE "CREATE TABLE state (key TEXT PRIMARY KEY NOT NULL, text TEXT NOT NULL)"

static const struct database_kind KIND = {
    .what = "state",
    .application = 0x464c5354, /* "FLST" */
    .version = 1,
    .schema = TABLE " WITHOUT ROWID;",
    .trace = TABLE,
    .used = "SELECT 1 FROM state",
};

struct state_entry {
    uint64_t put;  /* the number of its last put; 0 = read from disk */
    bool is_there; /* false: forgotten */
    char *text;
    size_t room;
    char key[];
};

struct state {
    bool has_thread;
    pthread_t thread;
    _Atomic int64_t promise_ns;
    /* The thread's own. */
    bool (*inherit)(struct state *state, const char *path); /* NULL = there is nothing left to */
    sqlite3 *file;                                          /* NULL = not open */
    sqlite3_stmt *keep, *forget;
    int failure; /* as last logged; SQLITE_OK = good */
    char *text;  /* room for the text being written */
    /* What it was before it was moved: removed when all is written to the other; "" = none. */
    char former[CONF_PATH_MAX + 1];

    pthread_mutex_t mutex; /* for all that follows */
    pthread_cond_t changed, written;
    /* "" = memory only. Once there is a thread, that alone changes it. */
    char path[CONF_PATH_MAX + 1];
    bool moving; /* to another one, which has not all of it yet */
    bool asked;  /* and the thread is still to take that over: */
    char next[CONF_PATH_MAX + 1];
    bool stopping;
    bool loaded;        /* what earlier runs have kept */
    bool failing;       /* as the disk last was */
    bool busy;          /* the thread is at the disk */
    bool hurried;       /* it is to try again now */
    uint64_t n_tries;   /* how often it has been there */
    uint64_t put, kept; /* numbers of the last put, and of the last on disk */
    size_t n, room;
    struct state_entry **entries; /* by their keys */
};

/* ---- in memory; locked ---- */

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

static struct state_entry *find(const struct state *state, const char *key)
{
    size_t place = place_of(state, key);
    bool found = place < state->n && strcmp(state->entries[place]->key, key) == 0;
    return found ? state->entries[place] : NULL;
}

/* NULL when out of memory. */
static struct state_entry *add(struct state *state, const char *key)
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

/* False when out of memory. */
static bool set_text(struct state_entry *entry, const char *text)
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

/* ---- the file ---- */

static void close_file(struct state *state)
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
        struct state_entry *entry = find(state, key) == NULL ? add(state, key) : NULL;
        if (entry != NULL)
            (void)set_text(entry, text);
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
        close_file(state);
    return result;
}

/* All that is in memory has to be written to a new file. */
static void forget_file(struct state *state)
{
    close_file(state);
    pthread_mutex_lock(&state->mutex);
    state->put++;
    for (size_t i = 0; i < state->n; i++)
        state->entries[i]->put = state->put;
    pthread_mutex_unlock(&state->mutex);
}

/* Another file from now on. */
static void take_over_next(struct state *state)
{
    pthread_mutex_lock(&state->mutex);
    const bool asked = state->asked;
    state->asked = false;
    pthread_mutex_unlock(&state->mutex);
    if (!asked)
        return;
    state->inherit = NULL;
    forget_file(state);
    strcpy(state->former, state->path);
    pthread_mutex_lock(&state->mutex);
    strcpy(state->path, state->next);
    pthread_mutex_unlock(&state->mutex);
}

/* What is in memory is in the file of now: nobody is to find the one of before, which grows
 * out of date. */
static void end_move(struct state *state)
{
    if (state->former[0] != '\0')
        database_remove(state->former);
    state->former[0] = '\0';
    pthread_mutex_lock(&state->mutex);
    state->moving = state->asked;
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
    forget_file(state);
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
    take_over_next(state);
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
        end_move(state);
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
               (retry_ns != 0 ? clock_mono_ns() < retry_ns : state->put == state->kept))
            clock_cond_wait(&state->changed, &state->mutex, retry_ns != 0 ? retry_ns : CLOCK_NEVER);
        stopping = state->stopping;
        bool idle = state->put == state->kept && state->file != NULL;
        state->hurried = false;
        state->busy = true;
        pthread_mutex_unlock(&state->mutex);
        atomic_store(&state->promise_ns, clock_mono_ns());
        retry_ns = idle || write_all(state) ? 0 : clock_mono_ns() + RETRY_NS;
        atomic_store(&state->promise_ns, CLOCK_NEVER);
        pthread_mutex_lock(&state->mutex);
        state->busy = false;
        pthread_mutex_unlock(&state->mutex);
    }
    return NULL;
}

/* ---- everybody's side ---- */

bool state_get(struct state *state, const char *key, char *text, size_t size)
{
    pthread_mutex_lock(&state->mutex);
    const struct state_entry *entry = find(state, key);
    bool good = entry != NULL && entry->is_there && strlen(entry->text) < size;
    if (good)
        strcpy(text, entry->text);
    pthread_mutex_unlock(&state->mutex);
    return good;
}

/* Locked. */
static bool is_known(const struct state *state)
{
    return state->path[0] == '\0' || state->loaded;
}

bool state_is_loaded(struct state *state)
{
    pthread_mutex_lock(&state->mutex);
    bool loaded = is_known(state);
    pthread_mutex_unlock(&state->mutex);
    return loaded;
}

bool state_is_silent(const struct state *state)
{
    return clock_mono_ns() - atomic_load(&state->promise_ns) >= STATE_SILENCE_NS;
}

bool state_is_decided(struct state *state, int64_t until_ns)
{
    pthread_mutex_lock(&state->mutex);
    /* One that is under way may have begun too early to find what is there now. */
    const uint64_t n_tries = state->n_tries + (state->busy ? 2 : 1);
    state->hurried = !is_known(state);
    pthread_cond_signal(&state->changed);
    while (!is_known(state) && state->n_tries < n_tries && !state_is_silent(state) &&
           clock_mono_ns() < until_ns)
        clock_cond_wait(&state->written, &state->mutex, until_ns);
    const bool decided = is_known(state) || state->n_tries >= n_tries;
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
    struct state_entry *entry = find(state, key);
    bool is_there = entry != NULL && entry->is_there;
    if (is_there ? text != NULL && strcmp(entry->text, text) == 0 : text == NULL)
        goto done;
    if (entry == NULL)
        entry = add(state, key);
    good = entry != NULL && set_text(entry, text);
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
    while (!is_settled(state, mark) && clock_mono_ns() < until_ns)
        clock_cond_wait(&state->written, &state->mutex, until_ns);
    pthread_mutex_unlock(&state->mutex);
}

int64_t state_promise_ns(const struct state *state)
{
    return atomic_load(&state->promise_ns);
}

/* ---- start and stop ---- */

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
    close_file(state);
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
    const int64_t until_ns = clock_mono_ns() + STATE_SILENCE_NS;
    pthread_mutex_lock(&state->mutex);
    while (state->n_tries == 0 && clock_mono_ns() < until_ns)
        clock_cond_wait(&state->written, &state->mutex, until_ns);
    pthread_mutex_unlock(&state->mutex);
}

/* False when out of memory or threads. */
static bool start_thread(struct state *state)
{
    state->put++; /* the file is to be opened, and tried again when it cannot */
    state->promise_ns = clock_mono_ns();
    if (state->text == NULL)
        state->text = malloc(STATE_TEXT_MAX + 1);
    state->has_thread =
        state->text != NULL && pthread_create(&state->thread, NULL, state_thread, state) == 0;
    return state->has_thread;
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
    if (!start_thread(state)) {
        state_free(state);
        return NULL;
    }
    wait_first(state);
    return state;
}

/* ---- another file ---- */

bool state_try(const char *path, char why[STATE_WHY_MAX])
{
    const int result = database_try(path, &KIND);
    (void)snprintf(why, STATE_WHY_MAX, "%s: %s", database_error(result), database_remedy(result));
    return result == SQLITE_OK;
}

bool state_can_move(struct state *state)
{
    pthread_mutex_lock(&state->mutex);
    const bool can = is_known(state) && !state->failing && !state->moving;
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
    if (start_thread(state))
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
