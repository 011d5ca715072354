#include "bridge/spool.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/clock.h"
#include "bridge/log.h"

/* Samples given up at a time when the file is full. */
enum { TRIM_ROWS = 256 };

enum statement { BEGIN, COMMIT, ROLLBACK, APPEND, READ, REMOVE, COUNT, OLDEST, PAGES, STATEMENTS };

static const char *const sql[STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [APPEND] = "INSERT INTO sample (device, payload) VALUES (?1, ?2)",
    [READ] = "SELECT id, device, payload FROM sample WHERE id > ?1 ORDER BY id LIMIT ?2",
    [REMOVE] = "DELETE FROM sample WHERE id = ?1",
    [COUNT] = "SELECT count(*) FROM sample",
    [OLDEST] = "SELECT id, device FROM sample ORDER BY id LIMIT ?1",
    [PAGES] = ("SELECT (page_count - freelist_count) * page_size "
               "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"),
};

/* Rows are never used twice: what the outbox remembers by its row stays that. */
static const char *const schema = "PRAGMA journal_mode = WAL;"
                                  "PRAGMA synchronous = FULL;"
                                  "PRAGMA journal_size_limit = 1048576;"
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
};

const char *spool_error(const struct spool *spool)
{
    return sqlite3_errmsg(spool->file);
}

uint64_t spool_count(const struct spool *spool)
{
    return spool->count;
}

void spool_close(struct spool *spool)
{
    if (spool == NULL)
        return;
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(spool->statements[i]);
    sqlite3_close(spool->file);
    free(spool);
}

/* Runs a statement that returns no rows and resets it. */
static bool done(struct spool *spool, enum statement which)
{
    sqlite3_stmt *statement = spool->statements[which];
    bool good = sqlite3_step(statement) == SQLITE_DONE;
    sqlite3_reset(statement);
    return good;
}

/* The one number that a statement returns, or -1. */
static int64_t number(struct spool *spool, enum statement which)
{
    sqlite3_stmt *statement = spool->statements[which];
    int64_t result =
        sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : -1;
    sqlite3_reset(statement);
    return result;
}

/* Ends a transaction: keeps it when all went well. */
static bool end(struct spool *spool, bool good)
{
    if (good && done(spool, COMMIT))
        return true;
    (void)done(spool, ROLLBACK);
    return false;
}

/* ---- opening ---- */

/* SQLITE_OK, or what is wrong with it; SQLITE_CORRUPT for damage of any kind. */
static int try_open(struct spool *spool, const char *path)
{
    int result = sqlite3_open_v2(
        path, &spool->file, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_exec(spool->file, schema, NULL, NULL, NULL);
    for (int i = 0; i < STATEMENTS && result == SQLITE_OK; i++)
        result = sqlite3_prepare_v3(spool->file, sql[i], -1, SQLITE_PREPARE_PERSISTENT,
                                    &spool->statements[i], NULL);
    /* Counting walks the whole table: damage shows now and not in a month. */
    int64_t count = result == SQLITE_OK ? number(spool, COUNT) : 0;
    if (count < 0)
        result = sqlite3_errcode(spool->file);
    spool->count = count > 0 ? (uint64_t)count : 0;
    /* A table of another shape is as useless as a damaged one. */
    return result == SQLITE_NOTADB || result == SQLITE_ERROR ? SQLITE_CORRUPT : result;
}

/* Renames the file, and what belongs to it, out of the way. */
static bool set_aside(const char *path)
{
    static const char *const parts[] = {"-wal", "-shm", ""};
    const long long now = (long long)clock_utc_ms() / 1000;
    bool good = true;
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        char from[4096];
        char to[4096];
        (void)snprintf(from, sizeof(from), "%s%s", path, parts[i]);
        (void)snprintf(to, sizeof(to), "%s.damaged-%lld%s", path, now, parts[i]);
        good = (rename(from, to) == 0 || errno == ENOENT) && good;
    }
    log_error("the spool is damaged: it was set aside and a new one begun path=%s "
              "kept_as=%s.damaged-%lld",
              path, path, now);
    return good;
}

struct spool *spool_open(const char *path, int64_t max_bytes, char why[256])
{
    struct spool *spool = NULL;
    int result = SQLITE_NOMEM;
    for (int attempt = 0; attempt < 2; attempt++) {
        spool = calloc(1, sizeof(*spool));
        if (spool == NULL)
            break;
        spool->max_bytes = max_bytes;
        result = try_open(spool, path);
        if (result != SQLITE_CORRUPT)
            break;
        spool_close(spool);
        spool = NULL;
        if (!set_aside(path))
            break;
    }
    if (spool != NULL && result == SQLITE_OK)
        return spool;
    (void)snprintf(why, 256,
                   "cannot open the spool %s: %s: its directory must exist and be writable", path,
                   spool != NULL ? spool_error(spool) : sqlite3_errstr(result));
    spool_close(spool);
    return NULL;
}

/* ---- samples ---- */

bool spool_append(struct spool *spool, struct spool_sample *samples, size_t n)
{
    sqlite3_stmt *statement = spool->statements[APPEND];
    bool good = done(spool, BEGIN);
    if (!good)
        return false;
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

bool spool_read(struct spool *spool, int64_t row, size_t most,
                void (*each)(void *context, const struct spool_sample *sample), void *context)
{
    sqlite3_stmt *statement = spool->statements[READ];
    int result;
    sqlite3_bind_int64(statement, 1, row);
    sqlite3_bind_int64(statement, 2, (int64_t)most);
    while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
        struct spool_sample sample = {
            .row = sqlite3_column_int64(statement, 0),
            .device = (const char *)sqlite3_column_text(statement, 1),
            .payload = sqlite3_column_blob(statement, 2),
            .payload_size = (size_t)sqlite3_column_bytes(statement, 2),
        };
        each(context, &sample);
    }
    sqlite3_reset(statement);
    return result == SQLITE_DONE;
}

bool spool_remove(struct spool *spool, const int64_t *rows, size_t n)
{
    uint64_t removed = 0;
    bool good = done(spool, BEGIN);
    if (!good)
        return false;
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

bool spool_trim(struct spool *spool, void (*dropped)(void *context, const char *device),
                void *context)
{
    sqlite3_stmt *statement = spool->statements[OLDEST];
    bool good = true;
    while (good && spool->count > 0 && number(spool, PAGES) > spool->max_bytes) {
        int64_t rows[TRIM_ROWS];
        size_t n = 0;
        sqlite3_bind_int64(statement, 1, TRIM_ROWS);
        while (n < TRIM_ROWS && sqlite3_step(statement) == SQLITE_ROW) {
            rows[n++] = sqlite3_column_int64(statement, 0);
            dropped(context, (const char *)sqlite3_column_text(statement, 1));
        }
        sqlite3_reset(statement);
        good = n > 0 && spool_remove(spool, rows, n);
    }
    return good;
}
