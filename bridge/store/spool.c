#include "bridge/store/spool.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/base/owner.h"

/* Left free on disk: a full disk would not even let samples be removed. */
#define RESERVE_BYTES (UINT64_C(4) << 20)

/* Samples given up at a time when the file is full: this part of them, at most
 * so many. */
enum { TRIM_PART = 16, TRIM_ROWS = 64, NAME_MAX_SIZE = 65 };

enum statement { BEGIN, COMMIT, ROLLBACK, APPEND, READ, REMOVE, COUNT, OLDEST, PAGES, STATEMENTS };

static const char *const sql[STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [APPEND] = "INSERT INTO sample (device, payload) VALUES (?1, ?2)",
    [READ] = "SELECT id, device, payload FROM sample WHERE id > ?1 ORDER BY id LIMIT ?2",
    [REMOVE] = "DELETE FROM sample WHERE id = ?1",
    [COUNT] = "SELECT count(*) FROM sample",
    [OLDEST] = "SELECT id, device, NULL FROM sample ORDER BY id LIMIT ?1",
    [PAGES] = ("SELECT (page_count - freelist_count) * page_size "
               "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"),
};

/* Rows are never used twice: what the outbox remembers by its row stays that. */
static const char *const schema = "PRAGMA locking_mode = EXCLUSIVE;"
                                  "PRAGMA journal_mode = WAL;"
                                  "PRAGMA synchronous = FULL;"
                                  "PRAGMA journal_size_limit = 1048576;"
                                  "PRAGMA wal_autocheckpoint = 256;"
                                  "PRAGMA cache_size = -512;"
                                  "CREATE TABLE IF NOT EXISTS sample ("
                                  "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
                                  "  device TEXT NOT NULL,"
                                  "  payload BLOB NOT NULL);";

struct spool {
    sqlite3 *file;
    sqlite3_stmt *statements[STATEMENTS];
    int64_t max_bytes;
    uint64_t count;
    int failure; /* the last one, SQLite's number */
    char path[]; /* as given to spool_open() */
};

const char *spool_error(const struct spool *spool)
{
    switch (spool->failure) {
    case SQLITE_BUSY:
        return "another program uses it";
    case SQLITE_NOTFOUND:
        return "it was removed or renamed";
    default:
        return sqlite3_errstr(spool->failure);
    }
}

uint64_t spool_count(const struct spool *spool)
{
    return spool->count;
}

static void close_file(struct spool *spool)
{
    for (int i = 0; i < STATEMENTS; i++) {
        sqlite3_finalize(spool->statements[i]);
        spool->statements[i] = NULL;
    }
    sqlite3_close(spool->file);
    spool->file = NULL;
}

void spool_close(struct spool *spool)
{
    if (spool == NULL)
        return;
    close_file(spool);
    free(spool);
}

/* Remembers a failure; whether there was none. */
static bool check(struct spool *spool, int result)
{
    bool good = result == SQLITE_OK || result == SQLITE_ROW || result == SQLITE_DONE;
    if (!good)
        spool->failure = result;
    return good;
}

/* Runs a statement that returns no rows and resets it. */
static bool done(struct spool *spool, enum statement which)
{
    sqlite3_stmt *statement = spool->statements[which];
    bool good = check(spool, sqlite3_step(statement));
    sqlite3_reset(statement);
    return good;
}

/* The one number that a statement returns, or -1. */
static int64_t number(struct spool *spool, enum statement which)
{
    sqlite3_stmt *statement = spool->statements[which];
    int64_t result =
        check(spool, sqlite3_step(statement)) ? sqlite3_column_int64(statement, 0) : -1;
    sqlite3_reset(statement);
    return result;
}

/* Begins a transaction. A file that somebody has removed or renamed takes
 * samples just as well, but nobody would ever find them there. */
static bool begin(struct spool *spool)
{
    int moved = 0;
    (void)sqlite3_file_control(spool->file, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    return check(spool, moved ? SQLITE_NOTFOUND : SQLITE_OK) && done(spool, BEGIN);
}

/* Ends a transaction: keeps it when all went well. */
static bool end(struct spool *spool, bool good)
{
    if (good && done(spool, COMMIT))
        return true;
    /* Its failure would hide the one that counts. */
    (void)sqlite3_step(spool->statements[ROLLBACK]);
    (void)sqlite3_reset(spool->statements[ROLLBACK]);
    return false;
}

/* ---- opening ---- */

static int open_file(struct spool *spool)
{
    spool->count = 0;
    owner_make(spool->path, S_IRUSR | S_IWUSR | S_IRGRP);
    int result =
        sqlite3_open_v2(spool->path, &spool->file,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_exec(spool->file, schema, NULL, NULL, NULL);
    for (int i = 0; i < STATEMENTS && result == SQLITE_OK; i++)
        result = sqlite3_prepare_v3(spool->file, sql[i], -1, SQLITE_PREPARE_PERSISTENT,
                                    &spool->statements[i], NULL);
    if (result != SQLITE_OK)
        return result;
    /* Counting walks the whole table: damage shows now and not in a month. */
    int64_t count = number(spool, COUNT);
    if (count < 0)
        return spool->failure;
    spool->count = (uint64_t)count;
    return SQLITE_OK;
}

static bool try_open(struct spool *spool)
{
    bool good = check(spool, open_file(spool));
    if (!good)
        close_file(spool);
    return good;
}

/* A table of another shape is as useless as a damaged one, and a file that is
 * no longer there (begin()) as well. */
static bool is_damage(int failure)
{
    return failure == SQLITE_CORRUPT || failure == SQLITE_NOTADB || failure == SQLITE_ERROR ||
           failure == SQLITE_MISMATCH || failure == SQLITE_CONSTRAINT || failure == SQLITE_NOTFOUND;
}

bool spool_is_damaged(const struct spool *spool)
{
    return spool->file == NULL || is_damage(spool->failure);
}

/* Renames the file, and what belongs to it, out of the way. */
static bool set_aside(const char *path)
{
    static const char *const parts[] = {"-wal", "-shm", ""};
    const long long now_ms = (long long)clock_utc_ms();
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        char from[4096];
        char to[4096];
        (void)snprintf(from, sizeof(from), "%s%s", path, parts[i]);
        (void)snprintf(to, sizeof(to), "%s.damaged-%lld%s", path, now_ms, parts[i]);
        if (rename(from, to) != 0 && errno != ENOENT) {
            log_error("the spool is damaged and cannot be set aside: %m path=%s", path);
            return false;
        }
    }
    log_error("the spool is damaged: it was set aside and a new one begun path=%s "
              "kept_as=%s.damaged-%lld",
              path, path, now_ms);
    return true;
}

bool spool_renew(struct spool *spool)
{
    close_file(spool);
    spool->count = 0;
    return set_aside(spool->path) && try_open(spool);
}

struct spool *spool_open(const char *path, int64_t max_bytes, char why[256])
{
    struct spool *spool = calloc(1, sizeof(*spool) + strlen(path) + 1);
    if (spool == NULL) {
        (void)snprintf(why, 256, "out of memory");
        return NULL;
    }
    spool->max_bytes = max_bytes;
    strcpy(spool->path, path);
    if (try_open(spool) || (is_damage(spool->failure) && spool_renew(spool)))
        return spool;
    (void)snprintf(why, 256, "cannot open the spool %s: %s%s", path, spool_error(spool),
                   spool->failure == SQLITE_BUSY ? ""
                                                 : ": its directory must exist and be writable");
    spool_close(spool);
    return NULL;
}

/* ---- samples ---- */

static bool has_room(struct spool *spool)
{
    struct statvfs disk;
    bool room =
        statvfs(spool->path, &disk) != 0 || (uint64_t)disk.f_bavail * disk.f_frsize > RESERVE_BYTES;
    return check(spool, room ? SQLITE_OK : SQLITE_FULL);
}

bool spool_append(struct spool *spool, struct spool_sample *samples, size_t n)
{
    sqlite3_stmt *statement = spool->statements[APPEND];
    if (!has_room(spool) || !begin(spool))
        return false;
    bool good = true;
    for (size_t i = 0; i < n && good; i++) {
        sqlite3_bind_text(statement, 1, samples[i].device, -1, SQLITE_STATIC);
        sqlite3_bind_blob64(statement, 2, samples[i].payload, samples[i].payload_size,
                            SQLITE_STATIC);
        good = done(spool, APPEND);
        samples[i].row = sqlite3_last_insert_rowid(spool->file);
    }
    sqlite3_clear_bindings(statement);
    good = end(spool, good);
    if (good)
        spool->count += n;
    return good;
}

/* The sample in the statement's present row: id, device, payload. */
static struct spool_sample sample_of(sqlite3_stmt *statement)
{
    const char *device = (const char *)sqlite3_column_text(statement, 1);
    return (struct spool_sample){
        .row = sqlite3_column_int64(statement, 0),
        .device = device != NULL ? device : "",
        .payload = sqlite3_column_blob(statement, 2),
        .payload_size = (size_t)sqlite3_column_bytes(statement, 2),
    };
}

bool spool_read(struct spool *spool, int64_t row, size_t most,
                void (*each)(void *context, const struct spool_sample *sample), void *context)
{
    sqlite3_stmt *statement = spool->statements[READ];
    int result;
    sqlite3_bind_int64(statement, 1, row);
    sqlite3_bind_int64(statement, 2, (int64_t)most);
    while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
        const struct spool_sample sample = sample_of(statement);
        each(context, &sample);
    }
    sqlite3_reset(statement);
    return check(spool, result);
}

bool spool_remove(struct spool *spool, const int64_t *rows, size_t n)
{
    uint64_t removed = 0;
    if (!begin(spool))
        return false;
    bool good = true;
    for (size_t i = 0; i < n && good; i++) {
        sqlite3_bind_int64(spool->statements[REMOVE], 1, rows[i]);
        good = done(spool, REMOVE);
        removed += (uint64_t)sqlite3_changes(spool->file);
    }
    good = end(spool, good);
    if (good)
        spool->count -= removed;
    return good;
}

/* Gives up the oldest samples; how many, or 0 after a failure. They are told
 * when they are gone and not before. */
static size_t give_up(struct spool *spool,
                      void (*dropped)(void *context, const struct spool_sample *sample),
                      void *context)
{
    sqlite3_stmt *statement = spool->statements[OLDEST];
    int64_t rows[TRIM_ROWS];
    char devices[TRIM_ROWS][NAME_MAX_SIZE];
    const uint64_t part = spool->count / TRIM_PART + 1;
    size_t n = 0;
    int result;
    sqlite3_bind_int64(statement, 1, part < TRIM_ROWS ? (int64_t)part : TRIM_ROWS);
    while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
        const struct spool_sample sample = sample_of(statement);
        rows[n] = sample.row;
        (void)snprintf(devices[n++], NAME_MAX_SIZE, "%s", sample.device);
    }
    sqlite3_reset(statement);
    if (!check(spool, result) || !spool_remove(spool, rows, n))
        return 0;
    for (size_t i = 0; i < n; i++)
        dropped(context, &(struct spool_sample){.row = rows[i], .device = devices[i]});
    return n;
}

bool spool_trim(struct spool *spool,
                void (*dropped)(void *context, const struct spool_sample *sample), void *context)
{
    while (spool->count > 0) {
        int64_t bytes = number(spool, PAGES);
        if (bytes >= 0 && bytes <= spool->max_bytes)
            return true;
        if (bytes < 0 || give_up(spool, dropped, context) == 0)
            return false;
    }
    return true;
}
