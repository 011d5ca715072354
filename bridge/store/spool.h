/* spool: samples on disk, until the broker has them.
 *
 * One SQLite file with a write-ahead log, synchronous in full: what
 * spool_append() has taken survives a kill and a power cut. Bounded: beyond
 * its size the oldest samples give way, and are counted. A damaged file is set
 * aside under another name and a new one begun. No other program can open the
 * file meanwhile.
 *
 * Owned by one thread, the spooler's.
 */
#ifndef BRIDGE_STORE_SPOOL_H
#define BRIDGE_STORE_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct spool;

/* One sample. `row` orders them; the texts belong to the caller. */
struct spool_sample {
    int64_t row; /* set by spool_append() and spool_read() */
    const char *device;
    const char *payload;
    size_t payload_size;
};

/* Opens or makes the file. NULL: `why` says what, where and what to do. A file
 * that was set aside is logged. */
struct spool *spool_open(const char *path, int64_t max_bytes, char why[256]);
void spool_close(struct spool *spool);

/* Takes all samples in one transaction, and gives each its row; or none. */
bool spool_append(struct spool *spool, struct spool_sample *samples, size_t n);

/* Calls `each` for the samples behind `row`, oldest first, at most `most`. The
 * texts live during the call only. False after a failure. */
bool spool_read(struct spool *spool, int64_t row, size_t most,
                void (*each)(void *context, const struct spool_sample *sample), void *context);

/* Forgets delivered samples. */
bool spool_remove(struct spool *spool, const int64_t *rows, size_t n);

/* Makes room when the file is too large: calls `dropped` for each sample given up. */
bool spool_trim(struct spool *spool,
                void (*dropped)(void *context, const struct spool_sample *sample), void *context);

/* Whether the last failure was one that trying again does not mend. */
bool spool_is_damaged(const struct spool *spool);

/* Sets the file aside and begins a new one in its place; rows begin anew, too.
 * False when that is not possible: nothing works then, and this can be tried again. */
bool spool_renew(struct spool *spool);

/* How many samples it holds. */
uint64_t spool_count(const struct spool *spool);

/* The last failure in words. */
const char *spool_error(const struct spool *spool);

#endif
