#include "bridge/store/spool_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/registers/cfg.h"

/* SQLite takes no larger row into memory, whatever the file claims. */
enum { ROW_BYTES_MAX = 4 << 20 };

/* SPOOL_ROW_MAX */
#define ROW_MAX     "4611686018427387903"
#define HIGHEST_ROW "(SELECT max(id) FROM sample WHERE id <= " ROW_MAX ")"
#define SEQ_IS_GOOD "(typeof(seq) = 'integer' AND seq <= " ROW_MAX ")"
_Static_assert(SPOOL_ROW_MAX == 4611686018427387903, "the same number");

#define COLUMNS "id, layout, checksum, device, payload"

static const char *const sql[STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [APPEND] = ("INSERT INTO sample (" COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5)"),
    [READ] = ("SELECT " COLUMNS " FROM sample WHERE id > ?1 ORDER BY id LIMIT ?2"),
    [READ_ONE] = ("SELECT " COLUMNS " FROM sample WHERE id = ?1"),
    [NEXT] = "SELECT id FROM sample WHERE id > ?1 ORDER BY id LIMIT 1",
    [REMOVE] = "DELETE FROM sample WHERE id = ?1",
    [COUNT] = "SELECT count(*) FROM sample",
    [LAST] = ("SELECT CASE WHEN " SEQ_IS_GOOD " THEN seq ELSE " HIGHEST_ROW " END "
              "FROM sqlite_sequence WHERE name = 'sample'"),
    [HIGHEST_LAYOUT] = "SELECT max(layout) FROM sample WHERE layout < 8192", /* no nonsense */
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

const struct database_kind spool_file_kind = {
    .what = "spool",
    .application = 0x464c5350, /* "FLSP" */
    .version = 1,
    .schema =
        "CREATE TABLE sample (" FIRST_COLUMNS ", layout INTEGER, checksum INTEGER);" LAYOUT_TABLE,
    .trace = FIRST_COLUMNS,
    .used = "SELECT 1 FROM sqlite_sequence WHERE name = 'sample'",
    .first_table = "sample",
    .first_text = "CREATE TABLE sample (" FIRST_COLUMNS ")",
    .upgrade = "ALTER TABLE sample ADD COLUMN layout INTEGER;"
               "ALTER TABLE sample ADD COLUMN checksum INTEGER;" LAYOUT_TABLE,
};

/* Remembers a failure; whether there was none. */
bool spool_file_check(struct spool *spool, int result)
{
    bool good = result == SQLITE_OK || result == SQLITE_ROW || result == SQLITE_DONE;
    if (!good)
        spool->failure = result;
    return good;
}

void spool_file_note(struct spool *spool)
{
    struct spool_note note = {
        .least = spool->count, .most = spool->count, .last_row = spool->last_row};
    spool_note_keep(spool->state, spool->path, &note, false);
}

void spool_file_note_before(struct spool *spool, uint64_t least, uint64_t most, size_t n_new)
{
    struct spool_note note = {
        .least = least, .most = most, .last_row = spool->last_row + (int64_t)n_new};
    spool_note_keep(spool->state, spool->path, &note, true);
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

void spool_file_close(struct spool_file *file)
{
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(file->statements[i]);
    database_close(file->sqlite);
    *file = (struct spool_file){.sqlite = NULL};
}

int spool_file_prepare(struct spool_file *file)
{
    int result = SQLITE_OK;
    (void)sqlite3_limit(file->sqlite, SQLITE_LIMIT_LENGTH, ROW_BYTES_MAX);
    for (int i = 0; i < STATEMENTS && result == SQLITE_OK; i++)
        result = sqlite3_prepare_v3(file->sqlite, sql[i], -1, SQLITE_PREPARE_PERSISTENT,
                                    &file->statements[i], NULL);
    return result;
}

/* Runs a statement that returns no rows and resets it. */
bool spool_file_run(struct spool *spool, enum spool_statement which)
{
    sqlite3_stmt *statement = spool->file.statements[which];
    bool good = spool_file_check(spool, sqlite3_step(statement));
    sqlite3_reset(statement);
    return good;
}

/* The one number that a statement returns, 0 for none, or -1. */
int64_t spool_file_number(struct spool *spool, enum spool_statement which)
{
    sqlite3_stmt *statement = spool->file.statements[which];
    int result = sqlite3_step(statement);
    int64_t value = result == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    sqlite3_reset(statement);
    return spool_file_check(spool, result) ? value : -1;
}

/* Ends a transaction: keeps it when all went well. */
bool spool_file_end(struct spool *spool, bool good)
{
    if (good && spool_file_run(spool, COMMIT))
        return true;
    /* Its failure would hide the one that counts. */
    (void)sqlite3_step(spool->file.statements[ROLLBACK]);
    (void)sqlite3_reset(spool->file.statements[ROLLBACK]);
    return false;
}

int spool_file_tidy(struct spool_file *file, uint64_t *n)
{
    int result = sqlite3_exec(file->sqlite, "DELETE FROM sample WHERE id < 1 OR id > " ROW_MAX,
                              NULL, NULL, NULL);
    *n = result == SQLITE_OK ? (uint64_t)sqlite3_changes(file->sqlite) : 0;
    if (result == SQLITE_OK)
        result = sqlite3_exec(file->sqlite,
                              "UPDATE sqlite_sequence SET seq = ifnull(" HIGHEST_ROW ", 0) "
                              "WHERE name = 'sample' AND NOT " SEQ_IS_GOOD,
                              NULL, NULL, NULL);
    return result;
}

/* ---- layouts ---- */

static bool know_layout(struct spool *spool, int64_t id, const struct layout *layout)
{
    if (id < 1 || id >= LAYOUTS_MAX || layout->number > LAYOUTS_MAX)
        return false;
    const struct layout *former = spool->by_id[id];
    if (former != NULL && spool->ids[former->number] == id)
        spool->ids[former->number] = 0;
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

bool spool_file_write_layout(struct spool *spool, int64_t id, const struct layout *layout)
{
    sqlite3_stmt *statement = spool->file.statements[ADD_LAYOUT];
    unsigned char *body = malloc(LAYOUTS_PACKED_MAX);
    const size_t size = body != NULL ? layouts_pack(layout, body, LAYOUTS_PACKED_MAX) : 0;
    bool good = spool_file_check(spool, size > 0 ? SQLITE_OK : SQLITE_NOMEM);
    if (good) {
        sqlite3_bind_int64(statement, 1, id);
        sqlite3_bind_int64(statement, 2, checksum(id, body, size));
        sqlite3_bind_blob64(statement, 3, body, size, SQLITE_STATIC);
        good = spool_file_run(spool, ADD_LAYOUT);
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
    if (!spool_file_check(spool, id < LAYOUTS_MAX ? SQLITE_OK : SQLITE_FULL) ||
        !spool_file_write_layout(spool, id, layout))
        return 0;
    return know_layout(spool, id, layout) ? id : 0;
}

/* Those from `first` on were not written after all. */
void spool_file_forget_layouts(struct spool *spool, unsigned first)
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
struct spool_sample spool_file_sample(struct spool *spool, sqlite3_stmt *statement)
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

/* Writes a row; one that has no number yet gets the next. */
bool spool_file_write(struct spool *spool, struct spool_sample *sample)
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
    bool good = spool_file_run(spool, APPEND);
    sqlite3_clear_bindings(statement);
    sample->row = sqlite3_last_insert_rowid(spool->file.sqlite);
    return good;
}

/* What the rows of a file mean, and how many there ever were; as far as it can be
 * read. */
int spool_file_learn(struct spool *spool)
{
    const int result = read_layouts(spool);
    const int64_t last = spool_file_number(spool, LAST);
    const int64_t highest = last < 0 ? -1 : spool_file_number(spool, HIGHEST_LAYOUT);
    if (last > spool->last_row)
        spool->last_row = last;
    /* Of a layout that is lost rows may be left: another under its number would give them
     * another device. */
    if (highest > (int64_t)spool->n_ids)
        spool->n_ids = (unsigned)highest;
    return highest < 0 ? spool->failure : result;
}
