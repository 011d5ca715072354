/* spool_bed: one spool file in a scratch directory, what is put into it, what a reader sees,
 * and what may happen to it. */
#ifndef TESTS_UNIT_SPOOL_BED_H
#define TESTS_UNIT_SPOOL_BED_H

#include "tests/unit/given.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "bridge/store/spool.h"
#include "tests/unit/logged.h"

#define MIB (INT64_C(1) << 20)

static struct layouts *layouts;
static struct state *notes; /* NULL: none are made */
static uint64_t lost;       /* as spool_open() told it */

static inline int setup(void **state)
{
    layouts = layouts_new();
    return layouts != NULL ? given_directory(state) : -1;
}

static inline int teardown(void **state)
{
    layouts_free(layouts);
    return remove_directory(state);
}

/* What a reader has seen, as one text: "device=payload " for each; "?" for what
 * makes no sense. */
struct seen {
    char text[4096];
    size_t n;
    int64_t last_row;
};

static inline bool see(void *context, const struct spool_sample *sample)
{
    struct seen *seen = context;
    struct value values[PROFILE_POINTS_MAX];
    struct sample unpacked = {.ts_ms = 0};
    assert_true(sample->row > seen->last_row);
    seen->last_row = sample->row;
    seen->n++;
    size_t used = strlen(seen->text);
    char *at = seen->text + used;
    if (used > sizeof seen->text - 100)
        return true;
    if (sample->layout == NULL) {
        strcpy(at, "? ");
    } else if (sample->layout->is_text) {
        snprintf(at, 100, "%s=%.*s ", sample->layout->device, (int)sample->size,
                 (const char *)sample->bytes);
    } else {
        assert_true(sample_unpack(sample->layout, sample->bytes, sample->size, &unpacked, values));
        snprintf(at, 100, "%s=%g ", sample->layout->device, values[0].number);
    }
    return true;
}

static inline enum spool_opened try_open(const char *path, int64_t max_bytes, struct spool **spool,
                                         char why[256])
{
    return spool_open(
        &(struct spool_setup){
            .path = path, .max_bytes = max_bytes, .layouts = layouts, .state = notes},
        spool, &lost, why);
}

static inline struct spool *open_spool(int64_t max_bytes)
{
    char why[256] = "";
    struct spool *spool;
    if (try_open("spool.db", max_bytes, &spool, why) != SPOOL_OPENED)
        fail_msg("%s", why);
    return spool;
}

/* A device with points of these names. */
static inline const struct layout *layout_of(const char *device, const char *first,
                                             const char *second)
{
    struct point points[2] = {{.table = POINT_HOLDING, .type = POINT_INT32, .scale = 0.5},
                              {.table = POINT_COIL, .type = POINT_BOOL, .scale = 1}};
    struct layout layout = {.n_points = 2, .points = points};
    strcpy(layout.device, device);
    strcpy(points[0].name, first);
    strcpy(points[1].name, second);
    const struct layout *kept = layouts_keep(layouts, &layout);
    assert_non_null(kept);
    return kept;
}

/* A sample of that device whose first value is this one. */
static inline size_t pack(const struct layout *layout, double number, unsigned char *bytes)
{
    const struct value values[2] = {{.state = VALUE_READ, .number = number, .raw = 7},
                                    {.state = VALUE_FAULT, .fault = 2}};
    const struct sample sample = {
        .layout = layout, .ts_ms = 1763791200123, .run = "5f3a9c1e", .seq = 9, .values = values};
    size_t size = sample_pack(&sample, bytes, SAMPLE_PACKED_MAX);
    assert_true(size > 0);
    return size;
}

static inline bool append(struct spool *spool, const char *device, double number, int64_t *row)
{
    unsigned char bytes[SAMPLE_PACKED_MAX];
    struct spool_sample sample = {.layout = layout_of(device, "power", "on"), .bytes = bytes};
    sample.size = pack(sample.layout, number, bytes);
    bool good = spool_append(spool, &sample, 1);
    if (good && row)
        *row = sample.row;
    return good;
}

/* So many of the most that a sample can be: a text of the first release. */
static inline bool append_texts(struct spool *spool, const char *device, size_t size, size_t n)
{
    static unsigned char text[SPOOL_SAMPLE_MAX];
    static struct spool_sample samples[4000];
    struct layout layout = {.is_text = true};
    strcpy(layout.device, device);
    memset(text, 'p', size);
    text[0] = '{';
    text[size - 1] = '}';
    for (size_t i = 0; i < n; i++)
        samples[i] = (struct spool_sample){
            .layout = layouts_keep(layouts, &layout), .bytes = text, .size = size};
    return spool_append(spool, samples, n);
}

static inline void assert_holds(struct spool *spool, const char *expected)
{
    struct seen seen = {.text = ""};
    assert_true(spool_read(spool, 0, 1000, see, &seen));
    assert_string_equal(seen.text, expected);
    assert_int_equal(spool_count(spool), seen.n);
}

/* ---- what may happen to it ---- */

static inline void fill_file(int samples)
{
    struct spool *spool = open_spool(64 * MIB);
    assert_true(append_texts(spool, "a", 900, (size_t)samples));
    spool_close(spool);
}

static inline void overwrite(long at, size_t size)
{
    int fd = open("spool.db", O_WRONLY);
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)(i * 181 + 7);
        assert_int_equal(pwrite(fd, &byte, 1, at + (long)i), 1);
    }
    close(fd);
}

static inline void make_database(const char *text)
{
    sqlite3 *file;
    assert_int_equal(sqlite3_open("spool.db", &file), SQLITE_OK);
    assert_int_equal(sqlite3_exec(file, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(file);
}

static inline void count_lost(void *context, int64_t row)
{
    uint64_t *n = context;
    (void)row;
    ++*n;
}

static inline void assert_refused(const char *path, enum spool_opened how, const char *expected)
{
    char why[256] = "";
    struct spool *spool;
    assert_int_equal(try_open(path, MIB, &spool, why), how);
    assert_null(spool);
    assert_string_equal(why, expected);
}

static inline void assert_another_program_s(void)
{
    assert_refused("spool.db", SPOOL_REFUSED,
                   "cannot open the spool spool.db: it is another program's file: name another "
                   "path, or move the file away; it was left as it is");
}

/* What is in the file and can be read is in the new one, the rest is counted. */
static inline void assert_set_aside(uint64_t least, uint64_t most, uint64_t written)
{
    struct logged logged;
    assert_true(logged_begin(&logged));
    struct spool *spool = open_spool(64 * MIB);
    logged_end(&logged);
    assert_true(logged_find(&logged, "the spool is damaged: it was set aside and a new one begun",
                            "kept_as=spool.db.damaged-"));
    assert_true(logged_find(&logged, "a new spool was begun", "saved="));
    logged_free(&logged);
    assert_in_range(spool_count(spool), least, most);
    if (written > 0)
        assert_int_equal(spool_count(spool) + lost, written);
    int64_t row;
    assert_true(append(spool, "a", 1, &row));
    assert_true(row > (int64_t)written); /* a row is never used twice */
    struct seen seen = {.text = ""};
    assert_true(spool_read(spool, 0, 100000, see, &seen));
    assert_int_equal(seen.n, spool_count(spool));
    assert_null(strstr(seen.text, "?"));
    spool_close(spool);
    assert_true(count_files("spool.db.damaged-*") >= 1);

    spool = open_spool(64 * MIB); /* and that one is whole */
    assert_int_equal(spool_count(spool), seen.n);
    assert_int_equal(lost, 0);
    spool_close(spool);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
