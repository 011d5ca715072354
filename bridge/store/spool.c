#include "bridge/store/spool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "bridge/base/log.h"
#include "bridge/store/database.h"
#include "devices/registers/cfg.h"

/* Left free on disk: a full disk would not even let samples be removed. */
#define RESERVE_BYTES (UINT64_C(4) << 20)

/* Samples given up at a time when the file is full: this part of them, at most
 * so many. */
enum { TRIM_PART = 16, TRIM_ROWS = 64 };

/* Rows that are saved from a damaged file in one transaction. */
enum { SAVE_ROWS = 512 };

/* SQLite takes no larger row into memory, whatever the file claims. */
enum { ROW_BYTES_MAX = 4 << 20 };

#define COLUMNS "id, layout, checksum, device, payload"

enum statement {
    BEGIN,
    COMMIT,
    ROLLBACK,
    APPEND,
    READ,
    READ_ONE,
    NEXT,
    REMOVE,
    COUNT,
    LAST,
    PAGES,
    ADD_LAYOUT,
    LAYOUTS,
    CLEAR_LAYOUTS,
    STATEMENTS
};

static const char *const sql[STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [APPEND] = "INSERT INTO sample (" COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5)",
    [READ] = "SELECT " COLUMNS " FROM sample WHERE id > ?1 ORDER BY id LIMIT ?2",
    [READ_ONE] = "SELECT " COLUMNS " FROM sample WHERE id = ?1",
    [NEXT] = "SELECT id FROM sample WHERE id > ?1 ORDER BY id LIMIT 1",
    [REMOVE] = "DELETE FROM sample WHERE id = ?1",
    [COUNT] = "SELECT count(*) FROM sample",
    [LAST] = "SELECT seq FROM sqlite_sequence WHERE name = 'sample'",
    [PAGES] = ("SELECT (page_count - freelist_count) * page_size "
               "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"),
    [ADD_LAYOUT] = "INSERT INTO layout (id, checksum, body) VALUES (?1, ?2, ?3)",
    [LAYOUTS] = "SELECT id, checksum, body FROM layout ORDER BY id",
    [CLEAR_LAYOUTS] = "DELETE FROM layout",
};

/* A row of the first release has a device's name and a text and no more. Rows are
 * never used twice: what the outbox remembers by its row stays that. */
#define FIRST_COLUMNS                                                                              \
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,  device TEXT NOT NULL,  payload BLOB NOT NULL"
#define LAYOUT_TABLE                                                                               \
    "CREATE TABLE layout (id INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, body BLOB NOT NULL);"

static const struct database_kind KIND = {
    .what = "spool",
    .application = 0x464c5350, /* "FLSP" */
    .version = 1,
    .schema =
        "CREATE TABLE sample (" FIRST_COLUMNS ", layout INTEGER, checksum INTEGER);" LAYOUT_TABLE,
    .first_table = "sample",
    .first_text = "CREATE TABLE sample (" FIRST_COLUMNS ")",
    .upgrade = "ALTER TABLE sample ADD COLUMN layout INTEGER;"
               "ALTER TABLE sample ADD COLUMN checksum INTEGER;" LAYOUT_TABLE,
};

/* An open file and what is prepared on it. */
struct file {
    sqlite3 *sqlite; /* NULL = none */
    sqlite3_stmt *statements[STATEMENTS];
};

struct spool {
    struct file file;
    struct layouts *layouts;
    /* The file's layouts by their numbers there, and those numbers by layouts'. */
    const struct layout **by_id;
    int64_t *ids;
    unsigned n_ids; /* the highest number in the file */
    int64_t max_bytes;
    int64_t last_row; /* the highest that was ever used */
    uint64_t count;
    int failure; /* the last one: SQLite's number, or database's */
    char path[]; /* as given to spool_open() */
};

const char *spool_error(const struct spool *spool)
{
    return database_error(spool->failure);
}

uint64_t spool_count(const struct spool *spool)
{
    return spool->count;
}

bool spool_is_damaged(const struct spool *spool)
{
    return database_is_damage(spool->failure);
}

/* Remembers a failure; whether there was none. */
static bool check(struct spool *spool, int result)
{
    bool good = result == SQLITE_OK || result == SQLITE_ROW || result == SQLITE_DONE;
    if (!good)
        spool->failure = result;
    return good;
}

/* FNV-1a, 64 bits (draft-eastlake-fnv), from an earlier sum: any one byte that
 * changes is seen. */
static int64_t checksum(int64_t id, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;
    uint64_t sum = UINT64_C(0xcbf29ce484222325) ^ (uint64_t)id;
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ at[i]) * UINT64_C(0x100000001b3);
    return (int64_t)sum;
}

/* ---- statements ---- */

static void close_file(struct file *file)
{
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(file->statements[i]);
    database_close(file->sqlite);
    *file = (struct file){.sqlite = NULL};
}

static int prepare(struct file *file)
{
    int result = SQLITE_OK;
    (void)sqlite3_limit(file->sqlite, SQLITE_LIMIT_LENGTH, ROW_BYTES_MAX);
    for (int i = 0; i < STATEMENTS && result == SQLITE_OK; i++)
        result = sqlite3_prepare_v3(file->sqlite, sql[i], -1, SQLITE_PREPARE_PERSISTENT,
                                    &file->statements[i], NULL);
    return result;
}

/* Runs a statement that returns no rows and resets it. */
static bool done(struct spool *spool, enum statement which)
{
    sqlite3_stmt *statement = spool->file.statements[which];
    bool good = check(spool, sqlite3_step(statement));
    sqlite3_reset(statement);
    return good;
}

/* The one number that a statement returns, 0 for none, or -1. */
static int64_t number(struct spool *spool, enum statement which)
{
    sqlite3_stmt *statement = spool->file.statements[which];
    int result = sqlite3_step(statement);
    int64_t value = result == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    sqlite3_reset(statement);
    return check(spool, result) ? value : -1;
}

/* Ends a transaction: keeps it when all went well. */
static bool end(struct spool *spool, bool good)
{
    if (good && done(spool, COMMIT))
        return true;
    /* Its failure would hide the one that counts. */
    (void)sqlite3_step(spool->file.statements[ROLLBACK]);
    (void)sqlite3_reset(spool->file.statements[ROLLBACK]);
    return false;
}

/* ---- layouts ---- */

static bool know_layout(struct spool *spool, int64_t id, const struct layout *layout)
{
    if (id < 1 || id >= LAYOUTS_MAX || layout->number > LAYOUTS_MAX)
        return false;
    spool->by_id[id] = layout;
    spool->ids[layout->number] = id;
    if (id > spool->n_ids)
        spool->n_ids = (unsigned)id;
    return true;
}

/* The ones that make no sense are left out: their rows make none then. */
static int read_layouts(struct spool *spool)
{
    sqlite3_stmt *statement = spool->file.statements[LAYOUTS];
    int result;
    while ((result = sqlite3_step(statement)) == SQLITE_ROW) {
        const int64_t id = sqlite3_column_int64(statement, 0);
        const void *body = sqlite3_column_blob(statement, 2);
        const size_t size = (size_t)sqlite3_column_bytes(statement, 2);
        if (body == NULL || checksum(id, body, size) != sqlite3_column_int64(statement, 1))
            continue;
        const struct layout *layout = layouts_unpack(spool->layouts, body, size);
        if (layout != NULL)
            (void)know_layout(spool, id, layout);
    }
    sqlite3_reset(statement);
    return result == SQLITE_DONE ? SQLITE_OK : result;
}

static bool write_layout(struct spool *spool, int64_t id, const struct layout *layout)
{
    sqlite3_stmt *statement = spool->file.statements[ADD_LAYOUT];
    unsigned char *body = malloc(LAYOUTS_PACKED_MAX);
    const size_t size = body != NULL ? layouts_pack(layout, body, LAYOUTS_PACKED_MAX) : 0;
    bool good = check(spool, size > 0 ? SQLITE_OK : SQLITE_NOMEM);
    if (good) {
        sqlite3_bind_int64(statement, 1, id);
        sqlite3_bind_int64(statement, 2, checksum(id, body, size));
        sqlite3_bind_blob64(statement, 3, body, size, SQLITE_STATIC);
        good = done(spool, ADD_LAYOUT);
        sqlite3_clear_bindings(statement);
    }
    free(body);
    return good;
}

/* The file's number of a layout, which is written there when it is new; 0 after a
 * failure. Within a transaction. */
static int64_t id_of(struct spool *spool, const struct layout *layout)
{
    int64_t id = spool->ids[layout->number];
    if (id != 0)
        return id;
    id = (int64_t)spool->n_ids + 1;
    if (!check(spool, id < LAYOUTS_MAX ? SQLITE_OK : SQLITE_FULL) ||
        !write_layout(spool, id, layout))
        return 0;
    return know_layout(spool, id, layout) ? id : 0;
}

/* Those from `first` on were not written after all. */
static void forget_layouts(struct spool *spool, unsigned first)
{
    for (; spool->n_ids >= first && spool->n_ids > 0; spool->n_ids--) {
        const struct layout *layout = spool->by_id[spool->n_ids];
        spool->by_id[spool->n_ids] = NULL;
        if (layout != NULL && spool->ids[layout->number] == spool->n_ids)
            spool->ids[layout->number] = 0;
    }
}

/* ---- rows ---- */

/* A text of the first release, as far as can be told without taking it apart. */
static bool is_text(const unsigned char *text, size_t size)
{
    bool good = size >= 2 && size <= SPOOL_SAMPLE_MAX && text[0] == '{' && text[size - 1] == '}';
    for (size_t i = 0; i < size && good; i++)
        good = text[i] >= ' ';
    return good;
}

static const struct layout *text_layout(struct spool *spool, const char *device)
{
    struct layout layout = {.is_text = true};
    if (device == NULL || !cfg_is_name(device))
        return NULL;
    (void)snprintf(layout.device, sizeof(layout.device), "%s", device);
    return layouts_keep(spool->layouts, &layout);
}

/* The sample in a statement's present row, in the order of COLUMNS. */
static struct spool_sample sample_of(struct spool *spool, sqlite3_stmt *statement)
{
    struct value values[PROFILE_POINTS_MAX];
    struct sample unpacked;
    struct spool_sample sample = {
        .row = sqlite3_column_int64(statement, 0),
        .bytes = sqlite3_column_blob(statement, 4),
        .size = (size_t)sqlite3_column_bytes(statement, 4),
    };
    if (sample.bytes == NULL || sqlite3_column_type(statement, 4) != SQLITE_BLOB)
        return sample;
    if (sqlite3_column_type(statement, 1) == SQLITE_NULL) {
        if (is_text(sample.bytes, sample.size))
            sample.layout = text_layout(spool, (const char *)sqlite3_column_text(statement, 3));
        return sample;
    }
    const int64_t id = sqlite3_column_int64(statement, 1);
    const struct layout *layout = id > 0 && id <= spool->n_ids ? spool->by_id[id] : NULL;
    if (layout != NULL && !layout->is_text && sample.size <= SAMPLE_PACKED_MAX &&
        sqlite3_column_int64(statement, 2) == checksum(id, sample.bytes, sample.size) &&
        sample_unpack(layout, sample.bytes, sample.size, &unpacked, values))
        sample.layout = layout;
    return sample;
}

static bool has_room(struct spool *spool)
{
    struct statvfs disk;
    bool room =
        statvfs(spool->path, &disk) != 0 || (uint64_t)disk.f_bavail * disk.f_frsize > RESERVE_BYTES;
    return check(spool, room ? SQLITE_OK : SQLITE_FULL);
}

/* Writes a row; one that has no number yet gets the next. */
static bool write_row(struct spool *spool, struct spool_sample *sample)
{
    sqlite3_stmt *statement = spool->file.statements[APPEND];
    const struct layout *layout = sample->layout;
    const int64_t id = layout->is_text ? 0 : id_of(spool, layout);
    if (!layout->is_text && id == 0)
        return false;
    if (sample->row != 0)
        sqlite3_bind_int64(statement, 1, sample->row);
    if (id != 0) {
        sqlite3_bind_int64(statement, 2, id);
        sqlite3_bind_int64(statement, 3, checksum(id, sample->bytes, sample->size));
    }
    sqlite3_bind_text(statement, 4, layout->is_text ? layout->device : "", -1, SQLITE_STATIC);
    sqlite3_bind_blob64(statement, 5, sample->bytes, sample->size, SQLITE_STATIC);
    bool good = done(spool, APPEND);
    sqlite3_clear_bindings(statement);
    sample->row = sqlite3_last_insert_rowid(spool->file.sqlite);
    return good;
}

bool spool_append(struct spool *spool, struct spool_sample *samples, size_t n)
{
    const unsigned first_layout = spool->n_ids + 1;
    /* A file that was taken away takes samples just as well, but nobody would
     * ever find them there. */
    if (!check(spool, database_has_moved(spool->file.sqlite) ? DATABASE_MOVED : SQLITE_OK) ||
        !has_room(spool) || !done(spool, BEGIN))
        return false;
    bool good = true;
    for (size_t i = 0; i < n && good; i++) {
        samples[i].row = 0;
        good = write_row(spool, &samples[i]);
    }
    good = end(spool, good);
    if (!good)
        forget_layouts(spool, first_layout);
    if (good && n > 0) {
        spool->count += n;
        spool->last_row = samples[n - 1].row;
    }
    return good;
}

/* A row that is larger than any that was ever written stops the statement before
 * it can be looked at. */
static bool pass_over(struct spool *spool, int64_t row, struct spool_sample *sample)
{
    sqlite3_stmt *statement = spool->file.statements[NEXT];
    sqlite3_bind_int64(statement, 1, row);
    const int64_t next = number(spool, NEXT); /* there is one */
    *sample = (struct spool_sample){.row = next};
    return next > 0;
}

bool spool_read(struct spool *spool, int64_t row, size_t most,
                bool (*each)(void *context, const struct spool_sample *sample), void *context)
{
    sqlite3_stmt *statement = spool->file.statements[READ];
    struct spool_sample sample;
    bool wanted = true;
    int result = SQLITE_TOOBIG;
    for (size_t n = 0; result == SQLITE_TOOBIG && wanted && n < most; n++) {
        sqlite3_bind_int64(statement, 1, row);
        sqlite3_bind_int64(statement, 2, (int64_t)(most - n));
        while (wanted && (result = sqlite3_step(statement)) == SQLITE_ROW) {
            sample = sample_of(spool, statement);
            row = sample.row;
            n++;
            wanted = each(context, &sample);
        }
        sqlite3_reset(statement);
        if (result != SQLITE_TOOBIG)
            break;
        if (!pass_over(spool, row, &sample))
            return false;
        row = sample.row;
        wanted = each(context, &sample);
    }
    return check(spool, result == SQLITE_TOOBIG ? SQLITE_OK : result);
}

bool spool_remove(struct spool *spool, const int64_t *rows, size_t n)
{
    uint64_t removed = 0;
    if (!done(spool, BEGIN))
        return false;
    bool good = true;
    for (size_t i = 0; i < n && good; i++) {
        sqlite3_bind_int64(spool->file.statements[REMOVE], 1, rows[i]);
        good = done(spool, REMOVE);
        removed += (uint64_t)sqlite3_changes(spool->file.sqlite);
    }
    good = end(spool, good);
    if (good)
        spool->count -= removed;
    return good;
}

struct oldest {
    size_t n;
    struct spool_sample samples[TRIM_ROWS];
    int64_t rows[TRIM_ROWS];
};

static bool note_oldest(void *context, const struct spool_sample *sample)
{
    struct oldest *oldest = context;
    oldest->rows[oldest->n] = sample->row;
    oldest->samples[oldest->n++] =
        (struct spool_sample){.row = sample->row, .layout = sample->layout};
    return true;
}

/* Gives up the oldest samples; how many, or 0 after a failure. They are told
 * when they are gone and not before. */
static size_t give_up(struct spool *spool,
                      void (*dropped)(void *context, const struct spool_sample *sample),
                      void *context)
{
    struct oldest oldest = {.n = 0};
    const uint64_t part = spool->count / TRIM_PART + 1;
    if (!spool_read(spool, 0, part < TRIM_ROWS ? (size_t)part : TRIM_ROWS, note_oldest, &oldest) ||
        !spool_remove(spool, oldest.rows, oldest.n))
        return 0;
    for (size_t i = 0; i < oldest.n; i++)
        dropped(context, &oldest.samples[i]);
    return oldest.n;
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

/* ---- a new file in the place of another ---- */

/* What the rows of a file mean, and how many there ever were; as far as it can be
 * read. */
static int learn(struct spool *spool)
{
    const int result = read_layouts(spool);
    const int64_t last = number(spool, LAST);
    if (last > spool->last_row)
        spool->last_row = last;
    return last < 0 ? spool->failure : result;
}

/* What is saved, and from where. */
struct rescue {
    struct spool *spool;
    struct file *old;
    void (*lost)(void *context, int64_t row);
    void *context;
    uint64_t n_saved, n_lost;
    int64_t first; /* the first that could be read; 0 = none */
    int64_t row;   /* the last that was looked at */
    unsigned in_transaction;
    bool good; /* the new file takes it */
};

static void count_lost(struct rescue *rescue, int64_t row)
{
    rescue->n_lost++;
    rescue->lost(rescue->context, row);
}

static void save_row(struct rescue *rescue, sqlite3_stmt *statement)
{
    struct spool *spool = rescue->spool;
    struct spool_sample sample = sample_of(spool, statement);
    if (sample.row <= rescue->row || sample.row > spool->last_row)
        return; /* damage leads in circles */
    rescue->row = sample.row;
    if (rescue->first == 0)
        rescue->first = sample.row;
    if (sample.layout == NULL) {
        count_lost(rescue, sample.row);
        return;
    }
    rescue->good = rescue->good && write_row(spool, &sample);
    if (rescue->good && ++rescue->in_transaction == SAVE_ROWS) {
        rescue->in_transaction = 0;
        rescue->good = done(spool, COMMIT) && done(spool, BEGIN);
    }
    rescue->n_saved++;
}

/* The rows up to one that cannot be read; whether that is the end. */
static bool save_run(struct rescue *rescue)
{
    sqlite3_stmt *statement = rescue->old->statements[READ];
    int result;
    sqlite3_bind_int64(statement, 1, rescue->row);
    sqlite3_bind_int64(statement, 2, INT64_MAX);
    while ((result = sqlite3_step(statement)) == SQLITE_ROW && rescue->good)
        save_row(rescue, statement);
    sqlite3_reset(statement);
    return result == SQLITE_DONE;
}

/* The rows one by one, from a page that cannot be read to the next one that can;
 * whether that is the end. */
static bool save_singly(struct rescue *rescue)
{
    sqlite3_stmt *statement = rescue->old->statements[READ_ONE];
    int result = SQLITE_DONE;
    while (result != SQLITE_ROW && rescue->row < rescue->spool->last_row && rescue->good) {
        const int64_t row = rescue->row + 1;
        sqlite3_bind_int64(statement, 1, row);
        result = sqlite3_step(statement);
        if (result == SQLITE_ROW)
            save_row(rescue, statement);
        else if (result != SQLITE_DONE)
            count_lost(rescue, row);
        rescue->row = row;
        sqlite3_reset(statement);
    }
    return rescue->row >= rescue->spool->last_row;
}

/* So that no row is used twice, whatever was saved. */
static bool keep_last_row(struct spool *spool)
{
    static const unsigned char nothing[] = "{}";
    struct layout layout = {.is_text = true, .device = "none"};
    struct spool_sample last = {
        .row = spool->last_row, .layout = &layout, .bytes = nothing, .size = 2};
    sqlite3_stmt *statement = spool->file.statements[REMOVE];
    sqlite3_bind_int64(statement, 1, spool->last_row);
    if (spool->last_row == 0 || !done(spool, REMOVE) || !write_row(spool, &last))
        return spool->last_row == 0;
    return done(spool, REMOVE);
}

/* All that the old file gives goes into the new one. False when that does not
 * take it. */
static bool save_all(struct rescue *rescue)
{
    struct spool *spool = rescue->spool;
    uint64_t expected = spool->count; /* 0 = nobody has counted */
    bool at_end = rescue->old->sqlite == NULL;
    if (!done(spool, BEGIN))
        return false;
    rescue->good = keep_last_row(spool);
    for (unsigned id = 1; id <= spool->n_ids && rescue->good; id++)
        rescue->good = spool->by_id[id] == NULL || write_layout(spool, id, spool->by_id[id]);
    while (rescue->good && !at_end)
        at_end = save_run(rescue) || save_singly(rescue);
    if (!end(spool, rescue->good))
        return false;
    spool->count = rescue->n_saved;
    /* Rows go from the front: behind the first all were there, but for the few that
     * were delivered and followed one that was not. */
    if (expected == 0 && rescue->first != 0)
        expected = (uint64_t)(spool->last_row - rescue->first + 1);
    while (rescue->n_saved + rescue->n_lost < expected)
        count_lost(rescue, 0);
    return true;
}

/* Makes the path free for a new file. The old one can be read from then on, as far
 * as that goes. */
static bool make_way(struct spool *spool)
{
    char kept_as[4096];
    if (spool->failure == DATABASE_MOVED ||
        (spool->file.sqlite != NULL && database_has_moved(spool->file.sqlite)))
        return true;
    if (!database_set_aside(spool->path, kept_as)) {
        log_error("the spool is damaged and cannot be set aside: %m path=%s", spool->path);
        return false;
    }
    log_error("the spool is damaged: it was set aside and a new one begun path=%s kept_as=%s",
              spool->path, kept_as);
    if (spool->file.sqlite == NULL &&
        database_open_damaged(kept_as, &KIND, &spool->file.sqlite) == SQLITE_OK) {
        if (prepare(&spool->file) == SQLITE_OK)
            (void)learn(spool);
        else
            close_file(&spool->file);
    }
    return true;
}

bool spool_renew(struct spool *spool, void (*lost)(void *context, int64_t row), void *context)
{
    if (!make_way(spool))
        return false;
    struct file old = spool->file;
    struct rescue rescue = {.spool = spool, .old = &old, .lost = lost, .context = context};
    spool->file = (struct file){.sqlite = NULL};
    int result = database_open(spool->path, &KIND, &spool->file.sqlite);
    if (result == SQLITE_OK)
        result = prepare(&spool->file);
    /* Somebody has put a spool there that is in use already. */
    const bool made = result == SQLITE_OK && number(spool, LAST) == 0;
    if (result == SQLITE_OK && !made)
        result = DATABASE_FOREIGN;
    if (!check(spool, result) || !save_all(&rescue)) {
        close_file(&spool->file);
        if (made)
            (void)unlink(spool->path);
        spool->file = old;
        return false;
    }
    close_file(&old);
    spool->failure = SQLITE_OK;
    log_warning("a new spool was begun path=%s saved=%" PRIu64 " lost=%" PRIu64, spool->path,
                rescue.n_saved, rescue.n_lost);
    return true;
}

/* ---- opening ---- */

const char *spool_refuses(const char *path)
{
    const int result = database_look(path, &KIND);
    return result == DATABASE_FOREIGN || result == DATABASE_NEWER ? database_error(result) : NULL;
}

static int open_file(struct spool *spool)
{
    int result = database_open(spool->path, &KIND, &spool->file.sqlite);
    if (result == SQLITE_OK)
        result = prepare(&spool->file);
    if (result == SQLITE_OK)
        result = learn(spool);
    /* Counting walks the whole table: damage shows now and not in a month. */
    const int64_t count = result == SQLITE_OK ? number(spool, COUNT) : -1;
    if (count < 0)
        return result != SQLITE_OK ? result : spool->failure;
    spool->count = (uint64_t)count;
    if (count == 0 && spool->n_ids > 0 && done(spool, CLEAR_LAYOUTS))
        forget_layouts(spool, 1);
    return SQLITE_OK;
}

static void add_lost(void *context, int64_t row)
{
    uint64_t *lost = context;
    (void)row;
    ++*lost;
}

static struct spool *spool_new(const char *path, int64_t max_bytes, struct layouts *layouts)
{
    struct spool *spool = calloc(1, sizeof(*spool) + strlen(path) + 1);
    if (spool == NULL)
        return NULL;
    spool->layouts = layouts;
    spool->max_bytes = max_bytes;
    strcpy(spool->path, path);
    spool->by_id = calloc(LAYOUTS_MAX + 1, sizeof(const struct layout *));
    spool->ids = calloc(LAYOUTS_MAX + 1, sizeof(*spool->ids));
    if (spool->by_id != NULL && spool->ids != NULL)
        return spool;
    spool_close(spool);
    return NULL;
}

struct spool *spool_open(const char *path, int64_t max_bytes, struct layouts *layouts,
                         uint64_t *lost, char why[256])
{
    struct spool *spool = spool_new(path, max_bytes, layouts);
    *lost = 0;
    if (spool == NULL) {
        (void)snprintf(why, 256, "out of memory");
        return NULL;
    }
    int result = open_file(spool);
    if (check(spool, result) || (database_is_damage(result) && spool_renew(spool, add_lost, lost)))
        return spool;
    (void)snprintf(why, 256, "cannot open the spool %s: %s: %s", path,
                   database_error(spool->failure), database_remedy(spool->failure));
    spool_close(spool);
    return NULL;
}

void spool_close(struct spool *spool)
{
    if (spool == NULL)
        return;
    close_file(&spool->file);
    free(spool->by_id);
    free(spool->ids);
    free(spool);
}
