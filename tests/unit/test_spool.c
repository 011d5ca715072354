#include "tests/unit/given.h"

#include <fcntl.h>
#include <glob.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "bridge/store/spool.h"
#include "bridge/store/spool_note.h"
#include "tests/unit/logged.h"

#define MIB (INT64_C(1) << 20)

static struct layouts *layouts;
static struct state *notes; /* NULL: none are made */
static uint64_t lost;       /* as spool_open() told it */

static int setup(void **state)
{
    layouts = layouts_new();
    return layouts != NULL ? given_directory(state) : -1;
}

static int teardown(void **state)
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

static bool see(void *context, const struct spool_sample *sample)
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

static enum spool_opened try_open(const char *path, int64_t max_bytes, struct spool **spool,
                                  char why[256])
{
    return spool_open(
        &(struct spool_setup){
            .path = path, .max_bytes = max_bytes, .layouts = layouts, .state = notes},
        spool, &lost, why);
}

static struct spool *open_spool(int64_t max_bytes)
{
    char why[256] = "";
    struct spool *spool;
    if (try_open("spool.db", max_bytes, &spool, why) != SPOOL_OPENED)
        fail_msg("%s", why);
    return spool;
}

/* A device with points of these names. */
static const struct layout *layout_of(const char *device, const char *first, const char *second)
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
static size_t pack(const struct layout *layout, double number, unsigned char *bytes)
{
    const struct value values[2] = {{.state = VALUE_READ, .number = number, .raw = 7},
                                    {.state = VALUE_FAULT, .fault = 2}};
    const struct sample sample = {
        .layout = layout, .ts_ms = 1763791200123, .run = "5f3a9c1e", .seq = 9, .values = values};
    size_t size = sample_pack(&sample, bytes, SAMPLE_PACKED_MAX);
    assert_true(size > 0);
    return size;
}

static bool append(struct spool *spool, const char *device, double number, int64_t *row)
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
static bool append_texts(struct spool *spool, const char *device, size_t size, size_t n)
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

static bool append_text(struct spool *spool, const char *device, size_t size)
{
    return append_texts(spool, device, size, 1);
}

static void assert_holds(struct spool *spool, const char *expected)
{
    struct seen seen = {.text = ""};
    assert_true(spool_read(spool, 0, 1000, see, &seen));
    assert_string_equal(seen.text, expected);
    assert_int_equal(spool_count(spool), seen.n);
}

static size_t count_files(const char *pattern)
{
    glob_t found;
    size_t n = glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
    globfree(&found);
    return n;
}

/* ---- samples ---- */

static void test_samples_come_back_in_order_and_go_when_removed(void **state)
{
    (void)state;
    int64_t rows[3];
    struct spool *spool = open_spool(MIB);
    assert_true(append(spool, "a", 1, &rows[0]));
    assert_true(append(spool, "b", 2, &rows[1]));
    assert_true(append(spool, "a", 3, &rows[2]));
    assert_holds(spool, "a=1 b=2 a=3 ");

    struct seen seen = {.text = ""};
    assert_true(spool_read(spool, rows[0], 1, see, &seen));
    assert_string_equal(seen.text, "b=2 ");
    assert_true(spool_remove(spool, (int64_t[]){rows[1], rows[1], 999}, 3));
    assert_holds(spool, "a=1 a=3 ");
    spool_close(spool);

    spool = open_spool(MIB);
    assert_holds(spool, "a=1 a=3 ");
    assert_true(spool_remove(spool, rows, 3));
    int64_t row;
    assert_true(append(spool, "a", 4, &row));
    assert_true(row > rows[2]); /* a row is never used twice */
    spool_close(spool);
}

static bool note_names(void *context, const struct spool_sample *read)
{
    strcat(context, read->layout->points[0].name);
    strcat(context, " ");
    assert_true(read->layout->points[0].scale == 0.5);
    assert_int_equal(read->layout->points[0].type, POINT_INT32);
    assert_int_equal(read->layout->points[1].table, POINT_COIL);
    return true;
}

static void test_what_waits_keeps_the_names_it_was_taken_with(void **state)
{
    (void)state;
    struct spool *spool = open_spool(MIB);
    unsigned char bytes[SAMPLE_PACKED_MAX];
    const struct layout *before = layout_of("a", "power", "on");
    const struct layout *after = layout_of("a", "active_power", "on");
    struct spool_sample sample = {.layout = before, .bytes = bytes, .size = pack(before, 1, bytes)};
    assert_true(spool_append(spool, &sample, 1));
    sample.layout = after;
    assert_true(spool_append(spool, &sample, 1));
    spool_close(spool);

    layouts_free(layouts);
    layouts = layouts_new(); /* another run, which knows neither */
    spool = open_spool(MIB);
    char names[100] = "";
    assert_true(spool_read(spool, 0, 10, note_names, names));
    assert_string_equal(names, "power active_power ");
    spool_close(spool);
}

struct dropped {
    unsigned a, b;
    int64_t last_row;
};

static void drop(void *context, const struct spool_sample *sample)
{
    struct dropped *dropped = context;
    assert_true(sample->row > dropped->last_row);
    dropped->last_row = sample->row;
    dropped->a += strcmp(sample->layout->device, "a") == 0;
    dropped->b += strcmp(sample->layout->device, "b") == 0;
}

static void test_the_oldest_give_way_and_the_file_stays_small(void **state)
{
    (void)state;
    enum { N = 4000 };
    struct spool *spool = open_spool(MIB);
    struct dropped dropped = {.a = 0};
    for (int i = 0; i < N; i += 100) {
        for (int k = 0; k < 4; k++)
            assert_true(append_texts(spool, k ? "a" : "b", 999, 25));
        assert_true(spool_trim(spool, drop, &dropped));
    }
    assert_true(dropped.a > 0);
    assert_int_equal(dropped.a + dropped.b + spool_count(spool), N);
    assert_in_range(dropped.a, 2 * dropped.b, 4 * dropped.b);
    struct seen seen = {.last_row = dropped.last_row};
    assert_true(spool_read(spool, 0, N, see, &seen)); /* all that is left is newer */
    assert_int_equal(seen.n, spool_count(spool));
    assert_true(spool_count(spool) > 500); /* most of the room is used */

    struct stat file, wal;
    assert_int_equal(stat("spool.db", &file), 0);
    assert_int_equal(stat("spool.db-wal", &wal), 0);
    assert_true(file.st_size < MIB + MIB / 2);
    assert_true(wal.st_size < 8 * MIB);
    spool_close(spool);
}

static void test_a_small_file_is_used_as_well(void **state)
{
    (void)state;
    struct spool *spool = open_spool(64 << 10);
    struct dropped dropped = {.a = 0};
    for (int i = 0; i < 500; i++) {
        assert_true(append_text(spool, "a", 1000));
        assert_true(spool_trim(spool, drop, &dropped));
        assert_int_equal(dropped.a + spool_count(spool), i + 1);
        assert_true(spool_count(spool) >= 35 || dropped.a == 0);
    }
    assert_true(dropped.a > 0);
    spool_close(spool);
}

/* ---- what may happen to it ---- */

/* Writes batches for ever and says each number when it is on disk. */
static void write_until_killed(int out)
{
    struct spool *spool = open_spool(64 * MIB);
    unsigned char bytes[2][SAMPLE_PACKED_MAX];
    struct spool_sample samples[2] = {{.layout = layout_of("a", "power", "on"), .bytes = bytes[0]},
                                      {.layout = layout_of("b", "power", "on"), .bytes = bytes[1]}};
    for (int32_t i = 1;; i++) {
        for (int k = 0; k < 2; k++)
            samples[k].size = pack(samples[k].layout, i, bytes[k]);
        if (!spool_append(spool, samples, 2) || write(out, &i, sizeof i) != sizeof i)
            _exit(1);
    }
}

struct last {
    int a, b;
};

static bool check_no_gap(void *context, const struct spool_sample *read)
{
    struct last *last = context;
    struct value values[2];
    struct sample sample = {.ts_ms = 0};
    assert_non_null(read->layout);
    assert_true(sample_unpack(read->layout, read->bytes, read->size, &sample, values));
    int *number = read->layout->device[0] == 'a' ? &last->a : &last->b;
    assert_int_equal(values[0].number, *number + 1);
    *number = (int)values[0].number;
    return true;
}

static void test_a_kill_loses_nothing_that_was_taken(void **state)
{
    (void)state;
    struct last last = {.a = 0};
    int32_t said = 0, number;
    for (int round = 0; round < 5; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0)
            write_until_killed(ends[1]);
        close(ends[1]);
        for (int n = 0; n < 7 + 11 * round; n++)
            assert_int_equal(read(ends[0], &said, sizeof said), sizeof said);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(ends[0], &number, sizeof number) == sizeof number)
            said = number;
        close(ends[0]);

        struct spool *spool = open_spool(64 * MIB);
        last = (struct last){.a = 0};
        assert_true(spool_read(spool, 0, SIZE_MAX >> 1, check_no_gap, &last));
        assert_true(last.a >= said); /* the one it could not say any more may be there */
        assert_int_equal(last.a, last.b);
        unlink("spool.db");
        spool_close(spool);
        unlink("spool.db-wal");
    }
    assert_int_equal(count_files("*.damaged-*"), 0);
}

static void fill_file(int samples)
{
    struct spool *spool = open_spool(64 * MIB);
    assert_true(append_texts(spool, "a", 900, (size_t)samples));
    spool_close(spool);
}

static void overwrite(long at, size_t size)
{
    int fd = open("spool.db", O_WRONLY);
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)(i * 181 + 7);
        assert_int_equal(pwrite(fd, &byte, 1, at + (long)i), 1);
    }
    close(fd);
}

static void assert_refused(const char *path, enum spool_opened how, const char *expected)
{
    char why[256] = "";
    struct spool *spool;
    assert_int_equal(try_open(path, MIB, &spool, why), how);
    assert_null(spool);
    assert_string_equal(why, expected);
}

/* What is in the file and can be read is in the new one, the rest is counted. */
static void assert_set_aside(uint64_t least, uint64_t most, uint64_t written)
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

/* Somebody else's. */
static void test_random_bytes_are_left_alone(void **state)
{
    (void)state;
    struct stat before, after;
    int fd = open("spool.db", O_WRONLY | O_CREAT, 0644);
    close(fd);
    overwrite(0, 9000);
    assert_int_equal(stat("spool.db", &before), 0);
    assert_refused("spool.db", SPOOL_REFUSED,
                   "cannot open the spool spool.db: it is another program's file: name another "
                   "path, or move the file away; it was left as it is");
    assert_int_equal(stat("spool.db", &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(before.st_size, after.st_size);
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
    assert_int_equal(count_files("*"), 1);
}

/* What a file system can leave after a power cut. */
static void test_nothing_but_zeros_is_set_aside(void **state)
{
    (void)state;
    given_file("spool.db", "");
    assert_int_equal(truncate("spool.db", 9000), 0);
    assert_set_aside(0, 0, 0);
}

static void test_a_damaged_page_costs_its_samples_alone(void **state)
{
    (void)state;
    fill_file(4000); /* about four a page */
    overwrite(8192 + 500 * 4096, 4096);
    assert_set_aside(3980, 3999, 4000);
}

static void test_damaged_pages_cost_their_samples_alone(void **state)
{
    (void)state;
    struct stat file;
    fill_file(2000);
    assert_int_equal(stat("spool.db", &file), 0);
    for (long at = 8192 + 4096; at < file.st_size; at += 7 * 4096)
        overwrite(at, 4096);
    assert_set_aside(1000, 1990, 2000);
}

static void test_a_truncated_file_keeps_what_is_left(void **state)
{
    (void)state;
    fill_file(400);
    assert_int_equal(truncate("spool.db", 60 * 4096 + 100), 0);
    assert_set_aside(0, 399, 400);
}

/* ---- what is known of a file without it ---- */

static int setup_notes(void **state)
{
    int result = setup(state);
    notes = state_open("state.db", NULL);
    return notes != NULL ? result : -1;
}

static int teardown_notes(void **state)
{
    state_close(notes);
    notes = NULL;
    return teardown(state);
}

/* The root of the table: nothing of it can be found any more. */
static void test_a_damaged_root_page_costs_what_is_counted(void **state)
{
    (void)state;
    fill_file(400);
    struct spool *spool = open_spool(64 * MIB);
    const int64_t rows[] = {1, 2, 3};
    assert_true(spool_remove(spool, rows, 3));
    spool_close(spool);
    overwrite(4096, 4096);
    assert_set_aside(0, 396, 0);
    assert_int_equal(lost, 0); /* the second time */
}

/* Returns how many it holds then. */
static uint64_t damaged_costs(uint64_t expected)
{
    int64_t row;
    struct spool *spool = open_spool(64 * MIB);
    assert_int_equal(spool_count(spool) + lost, expected);
    assert_true(append(spool, "a", 1, &row));
    assert_true(row > 400); /* a row is never used twice */
    spool_close(spool);
    assert_true(count_files("spool.db.damaged-*") >= 1);
    spool = open_spool(64 * MIB);
    assert_int_equal(lost, 0);
    const uint64_t left = spool_count(spool);
    spool_close(spool);
    return left;
}

static void test_whatever_page_is_damaged_all_is_counted(void **state)
{
    (void)state;
    for (long page = 0; page < 5; page++) {
        fill_file(400);
        struct spool *spool = open_spool(64 * MIB);
        const int64_t rows[] = {1, 2, 3};
        assert_true(spool_remove(spool, rows, 3));
        spool_close(spool);
        overwrite(page * 4096, 4096);
        const uint64_t left = damaged_costs(397);
        assert_int_equal(system("rm spool.db*"), 0);
        spool = open_spool(64 * MIB);
        assert_int_equal(lost, left);
        spool_close(spool);
        assert_int_equal(system("rm spool.db*"), 0);
        state_put(notes, "spool", NULL);
    }
}

static void test_a_file_that_is_gone_at_the_start_is_counted(void **state)
{
    (void)state;
    fill_file(20);
    assert_int_equal(unlink("spool.db"), 0);
    struct spool *spool = open_spool(MIB);
    assert_int_equal(lost, 20);
    int64_t row;
    assert_true(append(spool, "a", 1, &row));
    assert_int_equal(row, 1); /* its outbox has never heard of another */
    spool_close(spool);
    spool = open_spool(MIB);
    assert_int_equal(lost, 0);
    assert_int_equal(spool_count(spool), 1);
    spool_close(spool);
}

/* Killed in the middle of something: nothing is lost, and nothing is said to be. */
static void test_a_note_from_before_a_change_is_no_loss(void **state)
{
    (void)state;
    fill_file(20);
    struct spool_note note;
    for (uint64_t off = 0; off < 2; off++) {
        assert_true(spool_note_find(notes, &note));
        assert_int_equal(note.least, 20);
        assert_int_equal(note.most, 20);
        note.least -= 5 * off;
        note.most += 5 * (1 - off);
        spool_note_keep(notes, "spool.db", &note, true);
        struct spool *spool = open_spool(MIB);
        assert_int_equal(lost, 0);
        assert_int_equal(spool_count(spool), 20);
        spool_close(spool);
    }
}

/* First bytes that say nothing: the rest of the page says whose it is, or the note. */
static void test_a_damaged_header_is_still_ours(void **state)
{
    (void)state;
    for (int noted = 0; noted < 2; noted++) {
        struct state *kept = notes;
        notes = noted ? kept : NULL;
        fill_file(20);
        overwrite(0, noted ? 4096 : 100);
        assert_set_aside(0, 0, 0);
        assert_int_equal(system("rm spool.db*"), 0);
        notes = kept;
    }
}

/* The note is of another file. */
static void test_a_file_in_the_place_of_ours_is_left_alone(void **state)
{
    (void)state;
    fill_file(20);
    assert_int_equal(rename("spool.db", "kept"), 0);
    int fd = open("spool.db", O_WRONLY | O_CREAT, 0644);
    close(fd);
    overwrite(0, 9000);
    assert_refused("spool.db", SPOOL_REFUSED,
                   "cannot open the spool spool.db: it is another program's file: name another "
                   "path, or move the file away; it was left as it is");
    assert_int_equal(rename("kept", "spool.db"), 0);
    struct spool *spool = open_spool(MIB);
    assert_int_equal(lost, 0);
    spool_close(spool);
}

static void make_database(const char *text)
{
    sqlite3 *file;
    assert_int_equal(sqlite3_open("spool.db", &file), SQLITE_OK);
    assert_int_equal(sqlite3_exec(file, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(file);
}

static void test_another_schema_is_left_alone(void **state)
{
    (void)state;
    make_database("CREATE TABLE sample (x TEXT); INSERT INTO sample VALUES (1)");
    assert_refused("spool.db", SPOOL_REFUSED,
                   "cannot open the spool spool.db: it is another program's file: name another "
                   "path, or move the file away; it was left as it is");
    assert_int_equal(count_files("*"), 1);
}

static void test_a_newer_release_s_file_is_left_alone(void **state)
{
    (void)state;
    fill_file(1);
    make_database("PRAGMA user_version = 2");
    assert_refused("spool.db", SPOOL_REFUSED,
                   "cannot open the spool spool.db: a newer release has written it: install that "
                   "release again, or move the file away; it was left as it is");
}

/* ---- the first release's file ---- */

/* As that release makes and fills it. */
static const char *const first_release = "PRAGMA journal_mode = WAL;"
                                         "CREATE TABLE IF NOT EXISTS sample ("
                                         "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
                                         "  device TEXT NOT NULL,"
                                         "  payload BLOB NOT NULL);";

static void test_the_first_release_s_samples_are_read(void **state)
{
    (void)state;
    make_database(first_release);
    make_database("INSERT INTO sample (device, payload) VALUES"
                  " ('Grid-Meter', CAST('{\"ts\":1}' AS BLOB)),"
                  " ('gone', CAST('{\"ts\":2}' AS BLOB)), ('a/b', CAST('{}' AS BLOB)),"
                  " ('Grid-Meter', CAST('no json' AS BLOB)), ('a', CAST('{\n}' AS BLOB))");
    struct spool *spool = open_spool(MIB);
    assert_int_equal(lost, 0);
    assert_true(append(spool, "a", 3, NULL));
    assert_holds(spool, "Grid-Meter={\"ts\":1} gone={\"ts\":2} ? ? ? a=3 ");
    spool_close(spool);
    assert_int_equal(count_files("*.damaged-*"), 0);

    spool = open_spool(MIB); /* and once more, now that it is of this version */
    assert_holds(spool, "Grid-Meter={\"ts\":1} gone={\"ts\":2} ? ? ? a=3 ");
    spool_close(spool);
}

/* All of it may still be in the log when that release is killed. */
static void test_the_first_release_s_log_is_read(void **state)
{
    (void)state;
    int status;
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *file;
        bool good =
            sqlite3_open("spool.db", &file) == SQLITE_OK &&
            sqlite3_exec(file, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL) == SQLITE_OK &&
            sqlite3_exec(file, first_release, NULL, NULL, NULL) == SQLITE_OK &&
            sqlite3_exec(file,
                         "INSERT INTO sample (device, payload) VALUES"
                         " ('a', CAST('{1}' AS BLOB))",
                         NULL, NULL, NULL) == SQLITE_OK;
        _exit(good ? 0 : 1);
    }
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    struct stat file;
    assert_int_equal(stat("spool.db", &file), 0);
    assert_true(file.st_size <= 4096);
    struct spool *spool = open_spool(MIB);
    assert_holds(spool, "a={1} ");
    spool_close(spool);
}

/* ---- rows are input ---- */

static void test_rows_that_make_no_sense_are_told_as_such(void **state)
{
    (void)state;
    struct spool *spool = open_spool(64 * MIB);
    for (int i = 1; i <= 9; i++)
        assert_true(append(spool, "a", i, NULL));
    spool_close(spool);
    make_database("UPDATE sample SET checksum = checksum + 1 WHERE id = 1;"
                  "UPDATE sample SET layout = 77 WHERE id = 2;"
                  "UPDATE sample SET layout = NULL WHERE id = 3;"
                  "UPDATE sample SET payload = substr(payload, 1, 10) WHERE id = 4;"
                  "UPDATE sample SET payload = zeroblob(100000) WHERE id = 5;"
                  "UPDATE sample SET payload = zeroblob(5000000) WHERE id = 6;"
                  "UPDATE sample SET payload = 'text' WHERE id = 7;"
                  "UPDATE sample SET device = CAST(zeroblob(6000000) AS TEXT) WHERE id = 8;");
    spool = open_spool(8 * MIB);
    assert_holds(spool, "? ? ? ? ? ? ? ? a=9 ");

    struct seen one = {.text = ""}; /* also where the last that is asked for is too large */
    assert_true(spool_read(spool, 4, 2, see, &one));
    assert_string_equal(one.text, "? ? ");
    for (int64_t row = 1; row <= 8; row++)
        assert_true(spool_remove(spool, &row, 1));
    assert_holds(spool, "a=9 ");
    spool_close(spool);
}

/* With a name that is none, and with one that is another's. */
static void test_a_layout_that_makes_no_sense_takes_its_rows_with_it(void **state)
{
    (void)state;
    const char *const changes[] = {"POWER", "qower"};
    for (unsigned i = 0; i < 2; i++) {
        char sql[256];
        struct spool *spool = open_spool(MIB);
        assert_true(append(spool, "a", 1, NULL));
        assert_true(append(spool, "b", 2, NULL));
        spool_close(spool);
        snprintf(sql, sizeof sql,
                 "UPDATE layout SET body = replace(body, CAST('power' AS BLOB), CAST('%s' AS BLOB))"
                 " WHERE id = 1",
                 changes[i]);
        make_database(sql);
        spool = open_spool(MIB);
        assert_holds(spool, "? b=2 ");
        assert_true(append(spool, "a", 3, NULL));
        assert_holds(spool, "? b=2 a=3 ");
        spool_close(spool);
        unlink("spool.db");
    }
}

/* With a number that no layout has, and all else right. */
static void renumber_layout(int64_t id)
{
    sqlite3 *file = NULL;
    sqlite3_stmt *statement = NULL;
    char sql[256];
    uint64_t sum = UINT64_C(0xcbf29ce484222325) ^ (uint64_t)id;
    assert_int_equal(sqlite3_open("spool.db", &file), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(file, "SELECT body FROM layout WHERE id = 1", -1, &statement, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    const unsigned char *body = sqlite3_column_blob(statement, 0);
    for (int i = 0; i < sqlite3_column_bytes(statement, 0); i++)
        sum = (sum ^ body[i]) * UINT64_C(0x100000001b3);
    sqlite3_finalize(statement);
    sqlite3_close(file);
    snprintf(sql, sizeof sql, "UPDATE layout SET id = %lld, checksum = %lld WHERE id = 1",
             (long long)id, (long long)sum);
    make_database(sql);
}

static void test_a_layout_whose_number_is_none(void **state)
{
    (void)state;
    const int64_t ids[] = {2, 0, -1, 8192, INT64_C(1) << 40, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct spool *spool = open_spool(MIB);
        assert_true(append(spool, "a", 1, NULL));
        spool_close(spool);
        renumber_layout(ids[i]);
        spool = open_spool(MIB);
        assert_holds(spool, "? ");
        assert_true(append(spool, "a", 2, NULL));
        assert_holds(spool, "? a=2 ");
        spool_close(spool);
        unlink("spool.db");
    }
}

static void test_an_empty_file_is_a_new_spool(void **state)
{
    (void)state;
    given_file("spool.db", "");
    struct spool *spool = open_spool(MIB);
    assert_true(append(spool, "a", 1, NULL));
    spool_close(spool);
    assert_int_equal(count_files("*.damaged-*"), 0);
}

static void count_lost(void *context, int64_t row)
{
    uint64_t *n = context;
    (void)row;
    ++*n;
}

static void test_damage_while_in_use_is_found_and_mended(void **state)
{
    (void)state;
    fill_file(2000); /* more than the cache holds */
    struct spool *spool = open_spool(64 * MIB);
    struct stat file;
    uint64_t n_lost = 0;
    assert_int_equal(stat("spool.db", &file), 0);
    for (long at = 8192 + 20 * 4096; at < file.st_size; at += 20 * 4096)
        overwrite(at, 4096);
    struct seen seen = {.text = ""};
    assert_false(spool_read(spool, 0, 3000, see, &seen));
    assert_true(spool_is_damaged(spool));
    assert_string_equal(spool_error(spool), "database disk image is malformed");
    assert_true(spool_renew(spool, count_lost, &n_lost));
    assert_int_equal(spool_count(spool) + n_lost, 2000);
    assert_in_range(n_lost, 10, 1000);
    assert_true(append(spool, "a", 1, NULL));
    spool_close(spool);
    assert_true(count_files("spool.db.damaged-*") >= 1);

    spool = open_spool(64 * MIB);
    assert_int_equal(spool_count(spool) + n_lost, 2001);
    spool_close(spool);
}

static void test_a_file_that_was_moved_is_followed_by_its_samples(void **state)
{
    (void)state;
    struct spool *spool = open_spool(MIB);
    uint64_t n_lost = 0;
    int64_t rows[2];
    assert_true(append(spool, "a", 1, &rows[0]));
    assert_int_equal(rename("spool.db", "elsewhere"), 0);
    assert_false(append(spool, "a", 2, NULL));
    assert_true(spool_is_damaged(spool));
    assert_string_equal(spool_error(spool), "it was removed or renamed");
    assert_holds(spool, "a=1 "); /* as far as it goes */
    assert_true(spool_renew(spool, count_lost, &n_lost));
    assert_int_equal(n_lost, 0);
    assert_true(append(spool, "a", 3, &rows[1]));
    assert_true(rows[1] > rows[0]);
    assert_holds(spool, "a=1 a=3 ");
    /* The log of the new one is its own: it is still there without a clean end. */
    assert_int_equal(count_files("spool.db-wal"), 1);
    spool_close(spool);
    assert_int_equal(count_files("*.damaged-*"), 0);
}

static void test_a_directory_that_goes_away_is_waited_for(void **state)
{
    (void)state;
    char why[256] = "";
    uint64_t n_lost = 0;
    assert_int_equal(mkdir("there", 0755), 0);
    struct spool *spool;
    assert_int_equal(try_open("there/spool.db", MIB, &spool, why), SPOOL_OPENED);
    int64_t row;
    assert_true(append(spool, "a", 1, &row));
    assert_true(append(spool, "a", 2, NULL));
    assert_int_equal(system("rm -r there"), 0);
    assert_false(append(spool, "a", 3, NULL));
    assert_false(spool_renew(spool, count_lost, &n_lost));
    assert_holds(spool, "a=1 a=2 ");
    assert_true(spool_remove(spool, &row, 1)); /* delivered meanwhile */
    assert_false(append(spool, "a", 3, NULL));
    assert_int_equal(mkdir("there", 0755), 0);
    assert_true(spool_renew(spool, count_lost, &n_lost));
    assert_true(append(spool, "a", 3, NULL));
    assert_holds(spool, "a=2 a=3 ");
    assert_int_equal(n_lost, 0);
    spool_close(spool);
}

/* Nothing of it may be lost either. */
static void test_somebody_else_s_file_in_its_place_is_left_alone(void **state)
{
    (void)state;
    struct spool *spool = open_spool(MIB);
    uint64_t n_lost = 0;
    assert_true(append(spool, "a", 1, NULL));
    assert_int_equal(unlink("spool.db"), 0);
    given_file("spool.db", "theirs");
    assert_false(append(spool, "a", 2, NULL));
    assert_false(spool_renew(spool, count_lost, &n_lost));
    assert_string_equal(spool_error(spool), "it is another program's file");
    assert_holds(spool, "a=1 ");
    spool_close(spool);
    FILE *file = fopen("spool.db", "r");
    char text[16] = "";
    assert_int_equal(fread(text, 1, sizeof text, file), 6);
    assert_string_equal(text, "theirs");
    fclose(file);
}

/* ---- places where it cannot be ---- */

static void test_two_at_once_are_refused(void **state)
{
    (void)state;
    struct spool *spool = open_spool(MIB);
    int status;
    pid_t child = fork();
    if (child == 0) {
        char why[256] = "";
        struct spool *other;
        bool refused = try_open("spool.db", MIB, &other, why) == SPOOL_REFUSED &&
                       strcmp(why, "cannot open the spool spool.db: another program uses it: "
                                   "end that program, or name another path") == 0;
        _exit(refused ? 0 : 1);
    }
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_true(append(spool, "a", 1, NULL));
    spool_close(spool);
}

/* Another program in a transaction, until a byte comes. Never returns. */
static void hold_in_a_transaction(const int told[2], const int go[2])
{
    sqlite3 *file;
    char byte = 0;
    prctl(PR_SET_NAME, "sqlite3");
    const bool good =
        sqlite3_open("spool.db", &file) == SQLITE_OK &&
        sqlite3_exec(file, "BEGIN; SELECT count(*) FROM sample", NULL, NULL, NULL) == SQLITE_OK &&
        write(told[1], &byte, 1) == 1 && read(go[0], &byte, 1) == 1;
    _exit(good ? 0 : 1);
}

/* Such as an administrator's who looks at it. */
static void test_a_program_that_has_it_locked_is_waited_for(void **state)
{
    (void)state;
    int told[2], go[2], status;
    char byte = 0;
    struct spool *spool = open_spool(MIB);
    assert_true(append(spool, "a", 1, NULL));
    spool_close(spool);
    assert_int_equal(pipe(told), 0);
    assert_int_equal(pipe(go), 0);
    pid_t child = fork();
    if (child == 0)
        hold_in_a_transaction(told, go);
    assert_int_equal(read(told[0], &byte, 1), 1);
    assert_refused("spool.db", SPOOL_LATER,
                   "cannot open the spool spool.db: another program uses it: "
                   "end that program, or name another path");
    assert_int_equal(write(go[1], &byte, 1), 1);
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    spool = open_spool(MIB);
    assert_holds(spool, "a=1 ");
    spool_close(spool);
    for (int i = 0; i < 2; i++) {
        close(told[i]);
        close(go[i]);
    }
}

/* The other way round it is that program that has to wait. */
static void test_nobody_else_gets_in_while_it_is_in_use(void **state)
{
    (void)state;
    int status;
    struct spool *spool = open_spool(MIB);
    assert_true(append(spool, "a", 1, NULL));
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *file;
        _exit(sqlite3_open("spool.db", &file) == SQLITE_OK &&
                      sqlite3_exec(file, "SELECT count(*) FROM sample", NULL, NULL, NULL) ==
                          SQLITE_BUSY &&
                      sqlite3_exec(file, "BEGIN EXCLUSIVE", NULL, NULL, NULL) == SQLITE_BUSY
                  ? 0
                  : 1);
    }
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_true(append(spool, "a", 2, NULL));
    assert_holds(spool, "a=1 a=2 ");
    spool_close(spool);
}

static void test_a_directory_that_is_not_there(void **state)
{
    (void)state;
    assert_refused("nowhere/spool.db", SPOOL_LATER,
                   "cannot open the spool nowhere/spool.db: unable to open "
                   "database file: its directory must exist and be writable");
}

/* Root may write everywhere, so a child becomes somebody else. */
static int open_as_nobody(void)
{
    pid_t child = fork();
    int status = -1;
    if (child == 0) {
        char why[256] = "it was opened";
        if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
            _exit(2);
        struct spool *spool;
        bool refused = try_open("spool.db", MIB, &spool, why) == SPOOL_LATER &&
                       strstr(why, "its directory must exist and be writable");
        if (!refused)
            fprintf(stderr, "%s\n", why);
        _exit(refused ? 0 : 1);
    }
    waitpid(child, &status, 0);
    return status;
}

static void test_a_directory_that_is_read_only(void **state)
{
    (void)state;
    assert_int_equal(chmod(".", 0555), 0);
    int empty = open_as_nobody();
    assert_int_equal(chmod(".", 0755), 0);
    fill_file(1);
    assert_int_equal(chmod("spool.db", 0444), 0);
    assert_int_equal(chmod(".", 0555), 0);
    int full = open_as_nobody();
    assert_int_equal(chmod(".", 0755), 0);
    assert_int_equal(empty, 0);
    assert_int_equal(full, 0);
    assert_int_equal(count_files("*.damaged-*"), 0);
}

/* In the child: a disk of 8 MiB; or, where that is not allowed, files of at most 4 MiB and false.
 */
static bool enter_small_disk(void)
{
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {4 * MIB, 4 * MIB};
    if (mkdir("small", 0755) == 0 && unshare(CLONE_NEWNS) == 0 &&
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("none", "small", "tmpfs", 0, "size=8m") == 0 && chdir("small") == 0)
        return true;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    return false;
}

static void use_a_full_disk(void)
{
    int n = 0;
    bool disk = enter_small_disk();
    struct spool *spool = open_spool(64 * MIB);
    while (append_text(spool, "a", 2000))
        n++;
    assert_true(n > 400);
    assert_false(spool_is_damaged(spool));
    assert_true(strstr(spool_error(spool), "full") || strstr(spool_error(spool), "I/O"));
    assert_int_equal(spool_count(spool), n);
    struct seen seen = {.text = ""};
    assert_true(spool_read(spool, 0, 100000, see, &seen));
    assert_int_equal(seen.n, n);
    if (!disk)
        return;

    /* What is there can be removed all the same, and with room on the disk it takes more. */
    for (int64_t row = 1; row <= n; row++)
        assert_true(spool_remove(spool, &row, 1));
    assert_holds(spool, "");
    assert_int_equal(chdir(".."), 0);
    assert_int_equal(mount("none", "small", "tmpfs", MS_REMOUNT, "size=16m"), 0);
    assert_int_equal(chdir("small"), 0);
    assert_true(append(spool, "a", 1, NULL));
    assert_holds(spool, "a=1 ");
    spool_close(spool);
}

static void test_a_full_disk_refuses_and_recovers(void **state)
{
    (void)state;
    int status;
    pid_t child = fork();
    if (child == 0) {
        use_a_full_disk();
        _exit(0);
    }
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
}

#define NOTED(name) cmocka_unit_test_setup_teardown(name, setup_notes, teardown_notes)
#define TEST(name)  cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_samples_come_back_in_order_and_go_when_removed),
        TEST(test_what_waits_keeps_the_names_it_was_taken_with),
        TEST(test_the_oldest_give_way_and_the_file_stays_small),
        TEST(test_a_small_file_is_used_as_well),
        TEST(test_a_kill_loses_nothing_that_was_taken),
        TEST(test_random_bytes_are_left_alone),
        TEST(test_nothing_but_zeros_is_set_aside),
        TEST(test_a_damaged_page_costs_its_samples_alone),
        TEST(test_damaged_pages_cost_their_samples_alone),
        NOTED(test_a_damaged_root_page_costs_what_is_counted),
        NOTED(test_whatever_page_is_damaged_all_is_counted),
        NOTED(test_a_file_that_is_gone_at_the_start_is_counted),
        NOTED(test_a_note_from_before_a_change_is_no_loss),
        NOTED(test_a_damaged_header_is_still_ours),
        NOTED(test_a_file_in_the_place_of_ours_is_left_alone),
        TEST(test_a_truncated_file_keeps_what_is_left),
        TEST(test_another_schema_is_left_alone),
        TEST(test_a_newer_release_s_file_is_left_alone),
        TEST(test_the_first_release_s_samples_are_read),
        TEST(test_the_first_release_s_log_is_read),
        TEST(test_rows_that_make_no_sense_are_told_as_such),
        TEST(test_a_layout_that_makes_no_sense_takes_its_rows_with_it),
        TEST(test_a_layout_whose_number_is_none),
        TEST(test_an_empty_file_is_a_new_spool),
        TEST(test_damage_while_in_use_is_found_and_mended),
        TEST(test_a_file_that_was_moved_is_followed_by_its_samples),
        TEST(test_a_directory_that_goes_away_is_waited_for),
        TEST(test_somebody_else_s_file_in_its_place_is_left_alone),
        TEST(test_two_at_once_are_refused),
        TEST(test_a_program_that_has_it_locked_is_waited_for),
        TEST(test_nobody_else_gets_in_while_it_is_in_use),
        TEST(test_a_directory_that_is_not_there),
        TEST(test_a_directory_that_is_read_only),
        TEST(test_a_full_disk_refuses_and_recovers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
