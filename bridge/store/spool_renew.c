/* The part of the spool that begins a new file, in the place of another or elsewhere, and saves
 * what can be read of that: spool_renew(), spool_move(). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bridge/base/log.h"
#include "bridge/store/spool_file.h"

/* Rows that are saved from a damaged file in one transaction. No row takes fewer bytes; more
 * than so many are not looked for one by one, in what cannot be read. */
enum { SAVE_ROWS = 512, ROW_BYTES_MIN = 16, SINGLE_ROWS_MAX = 1 << 26 };

/* What is saved, and from where. */
struct rescue {
    struct spool *spool;
    struct spool_file *old;
    void (*lost)(void *context, int64_t row);
    void *context;
    uint64_t n_saved, n_lost;
    int64_t first; /* the first that could be read; 0 = none */
    int64_t row;   /* the last that was looked at */
    unsigned in_transaction;
    bool good;     /* the new file takes it */
    bool is_noted; /* how many there were: what is lost is what is missing then */
};

static void count_lost(struct rescue *rescue, int64_t row)
{
    if (rescue->is_noted && row != 0)
        return;
    rescue->n_lost++;
    rescue->lost(rescue->context, row);
}

static void save_row(struct rescue *rescue, sqlite3_stmt *statement)
{
    struct spool *spool = rescue->spool;
    struct spool_sample sample = spool_file_sample(spool, statement);
    if (sample.row <= rescue->row || sample.row > spool->last_row)
        return; /* damage leads in circles */
    rescue->row = sample.row;
    if (rescue->first == 0)
        rescue->first = sample.row;
    if (sample.layout == NULL) {
        count_lost(rescue, sample.row);
        return;
    }
    rescue->good = rescue->good && spool_file_write(spool, &sample);
    if (rescue->good && ++rescue->in_transaction == SAVE_ROWS) {
        rescue->in_transaction = 0;
        rescue->good = spool_file_run(spool, COMMIT) && spool_file_run(spool, BEGIN);
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

/* What is in front of the first of all was delivered, and is not looked for. Rows go from the
 * front: there are not many holes behind the first. */
static int64_t first_single(const struct spool *spool)
{
    const int64_t fit = spool->max_bytes / ROW_BYTES_MIN;
    const int64_t earliest =
        spool->last_row - (fit < SINGLE_ROWS_MAX ? fit : (int64_t)SINGLE_ROWS_MAX);
    return spool->first_row > earliest ? spool->first_row : earliest;
}

/* The rows one by one, from a page that cannot be read to the next one that can;
 * whether that is the end. */
static bool save_singly(struct rescue *rescue)
{
    sqlite3_stmt *statement = rescue->old->statements[READ_ONE];
    int result = SQLITE_DONE;
    if (rescue->row < first_single(rescue->spool) - 1)
        rescue->row = first_single(rescue->spool) - 1;
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
    if (spool->last_row == 0 || !spool_file_run(spool, REMOVE) || !spool_file_write(spool, &last))
        return spool->last_row == 0;
    return spool_file_run(spool, REMOVE);
}

/* All that the old file gives goes into the new one. False when that does not
 * take it. */
static bool save_all(struct rescue *rescue)
{
    struct spool *spool = rescue->spool;
    uint64_t expected = spool->count; /* 0 = nobody has counted */
    bool at_end = rescue->old->sqlite == NULL;
    if (!spool_file_run(spool, BEGIN))
        return false;
    rescue->good = keep_last_row(spool);
    for (unsigned id = 1; id <= spool->n_ids && rescue->good; id++)
        rescue->good =
            spool->by_id[id] == NULL || spool_file_write_layout(spool, id, spool->by_id[id]);
    while (rescue->good && !at_end)
        at_end = save_run(rescue) || save_singly(rescue);
    if (!spool_file_end(spool, rescue->good))
        return false;
    spool->count = rescue->n_saved;
    /* Rows go from the front: behind the first all were there, but for the few that
     * were delivered and followed one that was not. */
    if (rescue->is_noted)
        expected = spool->noted;
    else if (expected == 0 && rescue->first != 0)
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
        if (!spool->is_stuck)
            log_error("the spool is damaged and cannot be set aside: %m path=%s", spool->path);
        spool->is_stuck = true;
        return false;
    }
    spool->is_stuck = false;
    log_error("the spool is damaged: it was set aside and a new one begun path=%s kept_as=%s",
              spool->path, kept_as);
    if (spool->file.sqlite == NULL &&
        database_open_damaged(kept_as, &spool_file_kind, &spool->file.sqlite) == SQLITE_OK) {
        /* What was learnt before may be of another time than its rows are now. */
        spool_file_forget_layouts(spool, 1);
        if (spool_file_prepare(&spool->file) == SQLITE_OK)
            (void)spool_file_learn(spool);
        else
            spool_file_close(&spool->file);
    }
    return true;
}

/* A new file at the path, with all that the old one gives. False: the old one stays in use. */
static bool begin_new(struct spool *spool, struct rescue *rescue)
{
    spool->file = (struct spool_file){.sqlite = NULL};
    int result = database_open(spool->path, &spool_file_kind, &spool->file.sqlite);
    if (result == SQLITE_OK)
        result = spool_file_prepare(&spool->file);
    /* Somebody has put a spool there that is in use already. */
    const bool made = result == SQLITE_OK && spool_file_number(spool, LAST) == 0;
    if (result == SQLITE_OK && !made)
        result = DATABASE_FOREIGN;
    if (!spool_file_check(spool, result) || !save_all(rescue)) {
        spool_file_close(&spool->file);
        if (made)
            database_remove(spool->path);
        spool->file = *rescue->old;
        return false;
    }
    spool_file_close(rescue->old);
    spool->failure = SQLITE_OK;
    return true;
}

bool spool_renew(struct spool *spool, void (*lost)(void *context, int64_t row), void *context)
{
    if (!make_way(spool))
        return false;
    struct spool_file old = spool->file;
    struct rescue rescue = {
        .spool = spool, .old = &old, .lost = lost, .context = context, .is_noted = spool->is_noted};
    if (!begin_new(spool, &rescue))
        return false;
    spool_file_note(spool);
    log_warning("a new spool was begun path=%s saved=%" PRIu64 " lost=%" PRIu64, spool->path,
                rescue.n_saved, rescue.n_lost);
    return true;
}

bool spool_move(struct spool *spool, const char *path, void (*lost)(void *context, int64_t row),
                void *context)
{
    char former[CONF_PATH_MAX + 1];
    struct spool_file old = spool->file;
    struct rescue rescue = {.spool = spool, .old = &old, .lost = lost, .context = context};
    strcpy(former, spool->path);
    (void)snprintf(spool->path, sizeof(spool->path), "%s", path);
    if (!begin_new(spool, &rescue)) {
        strcpy(spool->path, former);
        return false;
    }
    spool_file_note(spool);
    database_remove(former);
    log_info("the spool was moved path=%s saved=%" PRIu64 " lost=%" PRIu64, path, rescue.n_saved,
             rescue.n_lost);
    return true;
}
