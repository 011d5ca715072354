/* spool_life: what happens to a spool, as a fuzzer would have it, beside a model of it.
 *
 * Samples are appended, read, removed and trimmed, the file is closed and opened, and bytes of
 * it are changed. As long as none were, the spool has exactly what the model has. After that a
 * packed sample that it hands over is one that was appended, byte for byte; the rest is told
 * as lost. Texts, of the first release, have no checksum.
 */
#ifndef TESTS_FUZZ_SPOOL_LIFE_H
#define TESTS_FUZZ_SPOOL_LIFE_H

#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bridge/store/spool.h"

enum { SPOOL_LIFE_PATH = 80, LIFE_SAMPLES = 128, LIFE_STEPS = 64, LIFE_TEXT_MAX = 8 << 10 };

static inline void check(bool good)
{
    if (!good)
        abort();
}

/* A directory of its own, and in it the path of a spool that is not there yet. */
static inline void spool_life_begin(char path[SPOOL_LIFE_PATH])
{
    strcpy(path, "/dev/shm/fluxbridge-fuzz-XXXXXX"); /* quicker than a disk */
    if (mkdtemp(path) == NULL) {
        strcpy(path, "/tmp/fluxbridge-fuzz-XXXXXX");
        check(mkdtemp(path) != NULL);
    }
    strcat(path, "/spool.db");
}

/* Removes the directory with all that came into it. */
static inline void spool_life_end(char path[SPOOL_LIFE_PATH])
{
    char *directory = dirname(path);
    DIR *files = opendir(directory);
    const struct dirent *file;
    check(files != NULL);
    while ((file = readdir(files)) != NULL)
        if (file->d_name[0] != '.')
            check(unlinkat(dirfd(files), file->d_name, 0) == 0);
    closedir(files);
    check(rmdir(directory) == 0);
}

struct life_sample {
    int64_t row;
    bool gone;
    const struct layout *layout;
    size_t size;
    uint64_t hash; /* of its bytes */
};

struct life {
    const uint8_t *data;
    size_t size;
    char path[SPOOL_LIFE_PATH];
    struct layouts *layouts;
    struct spool *spool; /* NULL = closed for good */
    bool damaged;        /* ever, or about to give samples up */
    unsigned n;
    struct life_sample samples[LIFE_SAMPLES];
    unsigned at;      /* while it is read: the next that should come */
    int64_t last_row; /* and the last that came */
};

static inline unsigned life_byte(struct life *life)
{
    if (life->size == 0)
        return 0;
    life->size--;
    return *life->data++;
}

static inline uint64_t life_hash(const unsigned char *bytes, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

/* ---- what is put in ---- */

static inline const struct layout *life_layout(struct life *life, unsigned which)
{
    static const char *const devices[] = {"Grid", "PV", "Battery", "Old"};
    struct point points[2] = {
        {.name = "power", .table = POINT_HOLDING, .type = POINT_INT32, .scale = 0.5},
        {.name = "on", .table = POINT_COIL, .type = POINT_BOOL, .scale = 1}};
    struct layout layout = {
        .is_text = which == 3, .n_points = which == 3 ? 0 : 1 + which % 2, .points = points};
    strcpy(layout.device, devices[which]);
    return layouts_keep(life->layouts, &layout);
}

static inline size_t life_make(struct life *life, const struct layout *layout,
                               unsigned char bytes[LIFE_TEXT_MAX])
{
    const double number = life_byte(life) * 0.5;
    const struct value values[2] = {{.state = VALUE_READ, .number = number, .raw = 7},
                                    {.state = VALUE_FAULT, .fault = 2}};
    const struct sample sample = {.layout = layout,
                                  .ts_ms = 1763791200123,
                                  .run = "5f3a9c1e",
                                  .seq = life->n,
                                  .values = values};
    if (!layout->is_text)
        return sample_pack(&sample, bytes, LIFE_TEXT_MAX);
    const size_t size = 2 + life_byte(life) * 31;
    memset(bytes, 'p', size);
    bytes[0] = '{';
    bytes[size - 1] = '}';
    return size;
}

static inline void life_append(struct life *life, unsigned how_many)
{
    static unsigned char bytes[4][LIFE_TEXT_MAX];
    struct spool_sample samples[4];
    for (unsigned i = 0; i < how_many; i++) {
        const struct layout *layout = life_layout(life, life_byte(life) % 4);
        check(layout != NULL);
        samples[i] = (struct spool_sample){.layout = layout, .bytes = bytes[i]};
        samples[i].size = life_make(life, layout, bytes[i]);
        check(samples[i].size > 0);
    }
    if (life->n + how_many > LIFE_SAMPLES)
        return;
    const bool good = spool_append(life->spool, samples, how_many);
    check(good || life->damaged);
    for (unsigned i = 0; i < how_many; i++)
        life->samples[life->n++] = (struct life_sample){
            .row = good ? samples[i].row : 0,
            .gone = !good, /* as far as is known: a commit may have failed late */
            .layout = samples[i].layout,
            .size = samples[i].size,
            .hash = life_hash(samples[i].bytes, samples[i].size)};
}

/* ---- what comes out ---- */

static inline bool life_is(const struct life_sample *one, const struct spool_sample *sample)
{
    return one->layout == sample->layout && one->size == sample->size &&
           one->hash == life_hash(sample->bytes, sample->size);
}

static inline bool life_see(void *context, const struct spool_sample *sample)
{
    struct life *life = context;
    bool known = sample->layout == NULL || sample->layout->is_text;
    if (!life->damaged) {
        check(sample->row > life->last_row);
        while (life->at < life->n && life->samples[life->at].gone)
            life->at++;
        check(life->at < life->n && life->samples[life->at].row == sample->row);
        check(life_is(&life->samples[life->at++], sample));
    }
    for (unsigned i = 0; i < life->n && !known; i++)
        known = life_is(&life->samples[i], sample);
    check(known);
    life->last_row = sample->row;
    return true;
}

static inline void life_read(struct life *life)
{
    life->at = 0;
    life->last_row = 0;
    const bool good = spool_read(life->spool, 0, LIFE_SAMPLES + 1, life_see, life);
    check(good || life->damaged);
    unsigned n = 0;
    for (unsigned i = 0; i < life->n; i++) {
        n += !life->samples[i].gone;
        check(life->damaged || life->samples[i].gone || i < life->at);
    }
    check(life->damaged || spool_count(life->spool) == n);
}

static inline void life_remove(struct life *life, unsigned which)
{
    int64_t rows[2];
    size_t n = 0;
    for (unsigned i = 0; i < life->n && n < 2; i++) {
        struct life_sample *sample = &life->samples[(which + i) % life->n];
        if (sample->gone)
            continue;
        rows[n++] = sample->row;
        sample->gone = true;
    }
    check(spool_remove(life->spool, rows, n) || life->damaged);
}

/* The oldest give way first. */
static inline void life_dropped(void *context, const struct spool_sample *sample)
{
    struct life *life = context;
    for (unsigned i = 0; i < life->n; i++) {
        if (life->samples[i].gone)
            continue;
        check(life->damaged || life->samples[i].row == sample->row);
        life->samples[i].gone = true;
        return;
    }
    check(life->damaged);
}

/* ---- the file ---- */

static inline void life_lose(void *context, int64_t row)
{
    const struct life *life = context;
    (void)row;
    check(life->damaged);
}

static inline void life_open(struct life *life)
{
    char why[256];
    uint64_t lost = 0;
    const enum spool_opened opened = spool_open(
        &(struct spool_setup){.path = life->path, .max_bytes = 1 << 20, .layouts = life->layouts},
        &life->spool, &lost, why);
    check((opened == SPOOL_OPENED) == (life->spool != NULL));
    check(life->damaged || (opened == SPOOL_OPENED && lost == 0));
}

/* Some bytes of the file, or of its log while it is open, become others; or it ends there. */
static inline void life_damage(struct life *life)
{
    char path[SPOOL_LIFE_PATH + 4];
    const unsigned how = life_byte(life), place = life_byte(life) << 8 | life_byte(life);
    const unsigned char other = (unsigned char)life_byte(life);
    struct stat status;
    snprintf(path, sizeof(path), "%s%s", life->path, how & 1 ? "-wal" : "");
    const int file = open(path, O_RDWR | O_CLOEXEC);
    life->damaged = true;
    if (file < 0 || fstat(file, &status) != 0 || status.st_size == 0) {
        if (file >= 0)
            close(file);
        return;
    }
    const off_t at = (off_t)(place * 7) % status.st_size;
    if (how & 2)
        (void)!ftruncate(file, at);
    else
        for (unsigned i = 0; i <= how >> 4; i++)
            (void)!pwrite(file, &other, 1, (at + i * 97) % status.st_size);
    close(file);
}

static inline void life_step(struct life *life)
{
    const unsigned step = life_byte(life);
    switch (step % 8) {
    case 0:
    case 1:
        life_append(life, 1 + (step >> 3) % 4);
        break;
    case 2:
        life_read(life);
        break;
    case 3:
        life_remove(life, step >> 3);
        break;
    case 4:
        spool_bound(life->spool, (int64_t)(step >> 3) << 12);
        check(spool_trim(life->spool, life_dropped, life) || life->damaged);
        break;
    case 5:
        spool_close(life->spool);
        if (step & 8)
            life_damage(life);
        life_open(life);
        break;
    case 6:
        life_damage(life);
        break;
    default:
        if (spool_is_damaged(life->spool) || step & 8) /* a whole one loses nothing */
            (void)spool_renew(life->spool, life_lose, life);
        break;
    }
}

static inline void spool_live(struct layouts *layouts, const uint8_t *data, size_t size)
{
    static struct life life;
    life = (struct life){.data = data, .size = size, .layouts = layouts};
    spool_life_begin(life.path);
    life_open(&life);
    for (unsigned i = 0; i < LIFE_STEPS && life.size > 0 && life.spool != NULL; i++)
        life_step(&life);
    if (life.spool != NULL)
        life_read(&life);
    spool_close(life.spool);
    spool_life_end(life.path);
}

#endif
