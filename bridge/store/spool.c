#include "bridge/store/spool.h"

#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/store/spool_file.h"

/* Samples given up at a time when the file is full: this part of them, at most
 * so many. */
enum { TRIM_PART = 16, TRIM_ROWS = 64 };

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

/* ---- samples ---- */

static bool has_room(struct spool *spool)
{
    struct statvfs disk;
    bool room = statvfs(spool->path, &disk) != 0 ||
                (uint64_t)disk.f_bavail * disk.f_frsize > SPOOL_RESERVE_BYTES;
    return spool_file_check(spool, room ? SQLITE_OK : SQLITE_FULL);
}

bool spool_append(struct spool *spool, struct spool_sample *samples, size_t n)
{
    const unsigned first_layout = spool->n_ids + 1;
    /* A file that was taken away takes samples just as well, but nobody would
     * ever find them there. */
    if (!spool_file_check(spool,
                          database_has_moved(spool->file.sqlite) ? DATABASE_MOVED : SQLITE_OK) ||
        !has_room(spool))
        return false;
    spool_file_note_before(spool, spool->count, spool->count + n, n);
    if (!spool_file_run(spool, BEGIN))
        return false;
    bool good = true;
    for (size_t i = 0; i < n && good; i++) {
        samples[i].row = 0;
        good = spool_file_write(spool, &samples[i]);
    }
    good = spool_file_end(spool, good);
    if (!good)
        spool_file_forget_layouts(spool, first_layout);
    if (good && n > 0) {
        spool->count += n;
        spool->last_row = samples[n - 1].row;
    }
    spool_file_note(spool);
    return good;
}

/* A row that is larger than any that was ever written stops the statement before
 * it can be looked at. */
static bool pass_over(struct spool *spool, int64_t row, struct spool_sample *sample)
{
    sqlite3_stmt *statement = spool->file.statements[NEXT];
    sqlite3_bind_int64(statement, 1, row);
    const int64_t next = spool_file_number(spool, NEXT); /* there is one */
    *sample = (struct spool_sample){.row = next};
    return next > 0;
}

bool spool_read(struct spool *spool, int64_t row, size_t most,
                bool (*each)(void *context, const struct spool_sample *sample), void *context)
{
    sqlite3_stmt *statement = spool->file.statements[READ];
    struct spool_sample sample;
    bool wanted = true, first = row == 0;
    int result = SQLITE_TOOBIG;
    for (size_t n = 0; result == SQLITE_TOOBIG && wanted && n < most; n++) {
        sqlite3_bind_int64(statement, 1, row);
        sqlite3_bind_int64(statement, 2, (int64_t)(most - n));
        while (wanted && (result = sqlite3_step(statement)) == SQLITE_ROW) {
            sample = spool_file_sample(spool, statement);
            row = sample.row;
            spool->first_row = first ? row : spool->first_row;
            first = false;
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
    return spool_file_check(spool, result == SQLITE_TOOBIG ? SQLITE_OK : result);
}

bool spool_remove(struct spool *spool, const int64_t *rows, size_t n)
{
    uint64_t removed = 0;
    spool_file_note_before(spool, spool->count - (n < spool->count ? n : spool->count),
                           spool->count, 0);
    if (!spool_file_run(spool, BEGIN))
        return false;
    bool good = true;
    for (size_t i = 0; i < n && good; i++) {
        sqlite3_bind_int64(spool->file.statements[REMOVE], 1, rows[i]);
        good = spool_file_run(spool, REMOVE);
        removed += (uint64_t)sqlite3_changes(spool->file.sqlite);
    }
    good = spool_file_end(spool, good);
    if (good)
        spool->count -= removed;
    spool_file_note(spool);
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

void spool_bound(struct spool *spool, int64_t max_bytes)
{
    spool->max_bytes = max_bytes;
}

bool spool_trim(struct spool *spool,
                void (*dropped)(void *context, const struct spool_sample *sample), void *context)
{
    while (spool->count > 0) {
        int64_t bytes = spool_file_number(spool, PAGES);
        if (bytes >= 0 && bytes <= spool->max_bytes)
            return true;
        if (bytes < 0 || give_up(spool, dropped, context) == 0)
            return false;
    }
    return true;
}

/* ---- opening ---- */

/* Whose it is, a file that says nothing of itself is told from the note; NULL = there is none. */
static int judge(const char *path, const struct spool_note *note, int result)
{
    return result == DATABASE_UNKNOWN && note != NULL && spool_note_is_of(note, path)
               ? SQLITE_CORRUPT
               : result;
}

const char *spool_refuses(const char *path, const char *state_path)
{
    struct spool_note note;
    const bool is_noted = spool_note_peek(state_path, &note);
    const int result = judge(path, is_noted ? &note : NULL, database_look(path, &spool_file_kind));
    return database_is_refused(result) ? database_error(result) : NULL;
}

bool spool_try(const char *path, char why[SPOOL_WHY_MAX])
{
    const int result = database_try(path, &spool_file_kind);
    (void)snprintf(why, SPOOL_WHY_MAX, "%s: %s", database_error(result), database_remedy(result));
    return result == SQLITE_OK;
}

const char *spool_path(const struct spool *spool)
{
    return spool->path;
}

/* So that each of its rows is read some day, and another can follow. */
static int tidy(struct spool *spool, uint64_t *lost)
{
    const int result = spool_file_tidy(&spool->file, lost);
    if (*lost > 0)
        log_error("the spool holds rows that make no sense: they are set aside path=%s "
                  "rows=%" PRIu64,
                  spool->path, *lost);
    return result;
}

static int open_file(struct spool *spool, const struct spool_note *note, uint64_t *lost)
{
    int result = judge(spool->path, spool->is_noted ? note : NULL,
                       database_open(spool->path, &spool_file_kind, &spool->file.sqlite));
    if (result == SQLITE_OK)
        result = spool_file_prepare(&spool->file);
    if (result == SQLITE_OK)
        result = spool_file_learn(spool);
    if (result == SQLITE_OK)
        result = tidy(spool, lost);
    /* Counting walks the whole table: damage shows now and not in a month. */
    const int64_t count = result == SQLITE_OK ? spool_file_number(spool, COUNT) : -1;
    if (count < 0)
        return result != SQLITE_OK ? result : spool->failure;
    spool->count = (uint64_t)count;
    if (count == 0 && spool->n_ids > 0 && spool_file_run(spool, CLEAR_LAYOUTS))
        spool_file_forget_layouts(spool, 1);
    return SQLITE_OK;
}

static void add_lost(void *context, int64_t row)
{
    uint64_t *lost = context;
    (void)row;
    ++*lost;
}

static struct spool *spool_new(const char *path, int64_t max_bytes, struct layouts *layouts,
                               struct state *state)
{
    struct spool *spool = calloc(1, sizeof(*spool));
    if (spool == NULL)
        return NULL;
    spool->layouts = layouts;
    spool->state = state;
    spool->max_bytes = max_bytes;
    (void)snprintf(spool->path, sizeof(spool->path), "%s", path);
    spool->by_id = calloc(LAYOUTS_MAX + 1, sizeof(const struct layout *));
    spool->ids = calloc(LAYOUTS_MAX + 1, sizeof(*spool->ids));
    if (spool->by_id != NULL && spool->ids != NULL)
        return spool;
    spool_close(spool);
    return NULL;
}

static bool has_directory(const char *path)
{
    char *copy = strdup(path);
    const bool there = copy != NULL && access(dirname(copy), F_OK) == 0;
    free(copy);
    return there;
}

/* The file is open: what it should have had, by the note, is gone without a word. */
static void count_missing(struct spool *spool, const struct spool_note *note, uint64_t *lost)
{
    if (spool->count + *lost >= note->least)
        return;
    *lost = note->least - spool->count;
    log_error("samples that waited in the spool are gone: they are counted in drops path=%s "
              "lost=%" PRIu64,
              spool->path, *lost);
}

enum spool_opened spool_open(const struct spool_setup *setup, struct spool **opened, uint64_t *lost,
                             char why[256])
{
    struct spool_note note;
    struct spool *spool = spool_new(setup->path, setup->max_bytes, setup->layouts, setup->state);
    *opened = NULL;
    *lost = 0;
    if (spool == NULL) {
        (void)snprintf(why, 256, "out of memory");
        return SPOOL_REFUSED;
    }
    const bool there = has_directory(setup->path);
    /* The state lies in it: it may be there only now, and the note is not to be missed. */
    if (spool->state != NULL &&
        !state_is_decided(spool->state, clock_awake_ns() + STATE_SILENCE_NS)) {
        (void)snprintf(why, 256, "cannot open the spool %s: the disk does not answer", setup->path);
        spool_close(spool);
        return SPOOL_LATER;
    }
    spool->is_noted = spool_note_find(spool->state, &note);
    spool->noted = note.most;
    spool->last_row = note.last_row;
    int result = there ? open_file(spool, &note, lost) : SQLITE_CANTOPEN;
    bool good = spool_file_check(spool, result);
    if (good && spool->is_noted)
        count_missing(spool, &note, lost);
    if (good || (database_is_damage(result) && spool_renew(spool, add_lost, lost))) {
        spool->is_noted = false;
        spool_file_note(spool);
        *opened = spool;
        return SPOOL_OPENED;
    }
    (void)snprintf(why, 256, "cannot open the spool %s: %s: %s", setup->path,
                   database_error(spool->failure), database_remedy(spool->failure));
    const bool refused = database_is_refused(spool->failure) ||
                         (spool->failure == SQLITE_BUSY && database_is_ours_already(setup->path));
    spool_close(spool);
    return refused ? SPOOL_REFUSED : SPOOL_LATER;
}

void spool_discard(struct spool *spool)
{
    spool_file_close(&spool->file);
    database_remove(spool->path);
    spool_close(spool);
}

void spool_close(struct spool *spool)
{
    if (spool == NULL)
        return;
    spool_file_close(&spool->file);
    free(spool->by_id);
    free(spool->ids);
    free(spool);
}
