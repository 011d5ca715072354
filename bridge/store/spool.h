/* spool: samples on disk, until the broker has them.
 *
 * One SQLite file (bridge/store/database.h): what spool_append() has taken
 * survives a kill and a power cut. Bounded: beyond its size the oldest samples
 * give way, and are counted. A file that is damaged is set aside under another
 * name, one that was taken away is let go, and a new one begun: what can still be
 * read of the old one is in the new one too, under the same rows.
 *
 * The file has a version and a table of layouts, so that what waits keeps its
 * meaning over an upgrade and a changed configuration; the first release's, which
 * holds texts, is read as well. It is input: every row has a checksum, and what
 * makes no sense is handed over as such and not as a sample.
 *
 * A file is ours when its header says so; when it can not be read, but has our tables' text
 * in it; or when it is the very file that was noted in the state. Any other is somebody
 * else's and left alone.
 *
 * Owned by one thread, the spooler's.
 */
#ifndef BRIDGE_STORE_SPOOL_H
#define BRIDGE_STORE_SPOOL_H

#include "bridge/store/layouts.h"
#include "bridge/store/state.h"

/* Most bytes of one sample: a text of the first release may have so many. */
enum { SPOOL_SAMPLE_MAX = 80 << 10 };

/* Left free on disk: a full disk would not even let samples be removed. */
#define SPOOL_RESERVE_BYTES (UINT64_C(4) << 20)

struct spool;

/* One sample, packed; or a text, as its layout says. The bytes belong to the
 * caller. */
struct spool_sample {
    int64_t row;                 /* set by spool_append() and spool_read(); grows */
    const struct layout *layout; /* kept; NULL: this row makes no sense */
    const unsigned char *bytes;
    size_t size;
};

/* Whether spool_open() would refuse a file as somebody else's, and why in words;
 * NULL: it would not. `state_path`: of the state that would have its note. Changes nothing. */
const char *spool_refuses(const char *path, const char *state_path);

/* Whether a new one can be begun there, as spool_move() does; else why. */
enum { SPOOL_WHY_MAX = 256 };
bool spool_try(const char *path, char why[SPOOL_WHY_MAX]);

struct spool_setup {
    const char *path;
    int64_t max_bytes;
    struct layouts *layouts;
    struct state *state; /* notes there what is in the file: see spool_note.h; NULL = it does not */
};

/* Opens or makes the file. If not, `why` says what, where and what to do: then
 * it is SPOOL_LATER when trying again may help, such as for a directory that is not there
 * yet or a program that has it locked, and SPOOL_REFUSED for a file that is not to be touched or
 * is the spool of another bridge that runs. A file that was set aside is
 * logged. `*lost` is how many samples were lost, with it or from it. */
enum spool_opened { SPOOL_OPENED, SPOOL_LATER, SPOOL_REFUSED };
enum spool_opened spool_open(const struct spool_setup *setup, struct spool **opened, uint64_t *lost,
                             char why[256]);
void spool_close(struct spool *spool);

/* Closes and removes it. */
void spool_discard(struct spool *spool);

/* Where it is now. */
const char *spool_path(const struct spool *spool);

/* Takes all samples in one transaction, and gives each its row; or none. */
bool spool_append(struct spool *spool, struct spool_sample *samples, size_t n);

/* Calls `each` for the samples behind `row`, oldest first, at most `most`, and as
 * long as it returns true. The bytes live during the call only. False after a
 * failure. */
bool spool_read(struct spool *spool, int64_t row, size_t most,
                bool (*each)(void *context, const struct spool_sample *sample), void *context);

/* Forgets samples. */
bool spool_remove(struct spool *spool, const int64_t *rows, size_t n);

/* It may have so many bytes from now on, instead of those of the setup. */
void spool_bound(struct spool *spool, int64_t max_bytes);

/* Makes room when the file is too large: calls `dropped` for each sample given up. */
bool spool_trim(struct spool *spool,
                void (*dropped)(void *context, const struct spool_sample *sample), void *context);

/* Whether the last failure was one that trying again does not mend. */
bool spool_is_damaged(const struct spool *spool);

/* Begins a new file in the place of one that is damaged, which is set aside, or
 * was taken away, and saves into it what can be read of the old one. `lost` is
 * called for each row that can not, with row 0 for one of which nothing is known.
 * False when that is not possible now: the old file stays in use as far as it
 * goes, and this can be tried again. */
bool spool_renew(struct spool *spool, void (*lost)(void *context, int64_t row), void *context);

/* All of it goes into a new file at that path, under the same rows, and the file of before is
 * removed. `lost` as above. False when that is not possible now: nothing has changed. */
bool spool_move(struct spool *spool, const char *path, void (*lost)(void *context, int64_t row),
                void *context);

/* How many samples it holds. */
uint64_t spool_count(const struct spool *spool);

/* The last failure in words. */
const char *spool_error(const struct spool *spool);

#endif
