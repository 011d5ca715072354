/* spool_file: the spool's file: its statements, and what a layout and a row are in it.
 *
 * The part of the spool (bridge/store/spool.h) that knows the tables; for it and for
 * spool_renew.c alone. Rows are input: see spool_file_sample().
 */
#ifndef BRIDGE_STORE_SPOOL_FILE_H
#define BRIDGE_STORE_SPOOL_FILE_H

#include "bridge/store/database.h"
#include "bridge/store/spool.h"
#include "bridge/store/spool_note.h"

enum spool_statement {
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
    HIGHEST_LAYOUT,
    PAGES,
    ADD_LAYOUT,
    LAYOUTS,
    CLEAR_LAYOUTS,
    STATEMENTS
};

/* An open file and what is prepared on it. */
struct spool_file {
    sqlite3 *sqlite; /* NULL = none */
    sqlite3_stmt *statements[STATEMENTS];
};

struct spool {
    struct spool_file file;
    struct layouts *layouts;
    struct state *state; /* has the note; NULL = there is none */
    /* The file's layouts by their numbers there, and those numbers by layouts'. */
    const struct layout **by_id;
    int64_t *ids;
    unsigned n_ids; /* the highest number in the file */
    int64_t max_bytes;
    int64_t first_row; /* below it there is none; 0 = nobody has looked */
    int64_t last_row;  /* the highest that was ever used */
    uint64_t count;
    bool is_stuck; /* damaged, and cannot be set aside: it was said */
    bool is_noted; /* of the file that is being opened: how many there should be in it */
    uint64_t noted;
    int failure; /* the last one: SQLite's number, or database's */
    char path[CONF_PATH_MAX + 1];
};

extern const struct database_kind spool_file_kind;

/* Notes beside the file what is in it now; or before it changes, between which numbers of
 * samples that will be, of which `n_new` rows are new. */
void spool_file_note(struct spool *spool);
void spool_file_note_before(struct spool *spool, uint64_t least, uint64_t most, size_t n_new);

/* Remembers a failure; whether there was none. */
bool spool_file_check(struct spool *spool, int result);

/* Prepares all statements of an open file; closes it. */
int spool_file_prepare(struct spool_file *file);
void spool_file_close(struct spool_file *file);

/* Runs a statement that returns no rows and resets it. */
bool spool_file_run(struct spool *spool, enum spool_statement which);

/* The one number that a statement returns, 0 for none, or -1. */
int64_t spool_file_number(struct spool *spool, enum spool_statement which);

/* Ends a transaction: keeps it when all went well. */
bool spool_file_end(struct spool *spool, bool good);

/* Writes a layout under a number; forgets those from `first` on, which were not
 * written after all. */
bool spool_file_write_layout(struct spool *spool, int64_t id, const struct layout *layout);
void spool_file_forget_layouts(struct spool *spool, unsigned first);

/* The sample in a statement's present row: id, layout, checksum, device, payload. Its
 * layout is NULL when it makes no sense. */
struct spool_sample spool_file_sample(struct spool *spool, sqlite3_stmt *statement);

/* Removes the rows whose numbers are none that a spool gives, of which nobody would ever read
 * one, or none could follow it; `*n` is how many. */
int spool_file_tidy(struct spool_file *file, uint64_t *n);

/* Writes a row; one that has no number yet gets the next. Within a transaction. */
bool spool_file_write(struct spool *spool, struct spool_sample *sample);

/* What the rows of the file mean, and how many there ever were; as far as it can be
 * read. */
int spool_file_learn(struct spool *spool);

#endif
