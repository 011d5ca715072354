#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/store/spool.h"
#include "bridge/store/spooler.h"
#include "tests/unit/logged.h"
#include "tests/unit/site.h"
#include "tests/unit/slept.h"

#define METER(id, name, address)                                                                   \
    "{ id = \"" id "\"; name = \"" name "\"; type = \"acuvim2\"; poll = \"1s\";"                   \
    " modbus: { host = \"127.0.0.1\"; port = 1502; address = " address "; timeout = \"5s\"; }; }"

enum { MIB = 1 << 20 };

/* A real spooler between an outbox and a file in a directory of its own. */
struct fixture {
    struct conf conf;
    char directory[64];
    struct layouts *layouts;
    struct outbox *outbox;
    struct spooler *spooler;
    struct outbox_item item;
    struct logged logged;
};

static void start_with(struct fixture *f, struct state *state)
{
    f->layouts = layouts_new();
    f->outbox = outbox_new(f->conf.devices.n_devices, MIB, MIB);
    assert_non_null(f->layouts);
    assert_non_null(f->outbox);
    f->spooler = spooler_start(&f->conf, f->layouts, f->outbox, state);
    assert_non_null(f->spooler);
}

static void start(struct fixture *f)
{
    start_with(f, NULL);
}

static void stop(struct fixture *f)
{
    spooler_stop(f->spooler);
    outbox_free(f->outbox);
    layouts_free(f->layouts);
    f->spooler = NULL;
    f->outbox = NULL;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    site_read(&f->conf,
              "meters = ( " METER("a", "Meter-A", "1") ", " METER("b", "Meter-B", "2") " );");
    strcpy(f->directory, "/tmp/fluxbridge-test-XXXXXX");
    if (!mkdtemp(f->directory) || !logged_begin(&f->logged))
        return -1;
    snprintf(f->conf.spool_path, sizeof f->conf.spool_path, "%s/spool.db", f->directory);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];
    logged_free(&f->logged);
    snprintf(command, sizeof command, "rm -r %s", f->directory);
    int result = system(command);
    conf_free(&f->conf);
    free(f);
    return result;
}

/* A text of the first release is the shortest sample. */
static const struct layout *text_layout(struct fixture *f, const char *device)
{
    struct layout layout = {.is_text = true};
    strcpy(layout.device, device);
    const struct layout *kept = layouts_keep(f->layouts, &layout);
    assert_non_null(kept);
    return kept;
}

static void put(struct fixture *f, unsigned device, const char *text)
{
    char whole[64];
    snprintf(whole, sizeof whole, "{%s}", text);
    outbox_put_sample(f->outbox, device, clock_mono_ns(),
                      text_layout(f, f->conf.devices.devices[device].name), whole, strlen(whole));
}

/* Waits as the publisher does. */
static uint64_t expect(struct fixture *f, enum outbox_kind kind, const char *text)
{
    char whole[64];
    snprintf(whole, sizeof whole, "{%s}", text);
    while (!outbox_take(f->outbox, clock_mono_ns(), OUTBOX_BACKFILL, &f->item))
        outbox_wait(f->outbox, CLOCK_NEVER);
    assert_int_equal(f->item.kind, kind);
    assert_int_equal(f->item.payload_size, strlen(whole));
    assert_memory_equal(f->item.payload, whole, strlen(whole));
    return f->item.ticket;
}

static void deliver(struct fixture *f, enum outbox_kind kind, const char *text)
{
    outbox_ack(f->outbox, expect(f, kind, text), OUTBOX_DELIVERED);
}

/* The broker is there, and both devices have had a live sample. */
static void resume(struct fixture *f)
{
    outbox_resumed(f->outbox, clock_mono_ns() + 2 * CLOCK_NS_PER_S); /* nothing is fresh */
    put(f, 0, "live A");
    put(f, 1, "live B");
    deliver(f, OUTBOX_STATE, "live A");
    deliver(f, OUTBOX_STATE, "live B");
}

/* Until the file holds, or memory waits for, so many. */
static void wait_for(struct fixture *f, uint64_t backlog, uint64_t waiting)
{
    struct outbox_depth depth;
    while (depth = outbox_depth(f->outbox), depth.backlog != backlog || depth.waiting != waiting)
        outbox_wait(f->outbox, clock_mono_ns() + 20 * CLOCK_NS_PER_MS);
}

static void test_samples_outlive_a_stop(void **state)
{
    struct fixture *f = *state;
    start(f);
    put(f, 0, "a1");
    put(f, 1, "b1");
    put(f, 0, "a2");
    stop(f);
    start(f);
    assert_true(logged_find(&f->logged, "the spool holds samples of an earlier run", "samples=3"));
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a1");
    deliver(f, OUTBOX_BACKFILL, "b1");
    deliver(f, OUTBOX_BACKFILL, "a2");
    wait_for(f, 0, 0);
    stop(f);

    start(f); /* nothing came twice, nothing is left */
    assert_int_equal(outbox_depth(f->outbox).backlog, 0);
    stop(f);
}

static void test_a_sample_is_on_disk_within_a_second(void **state)
{
    struct fixture *f = *state;
    start(f);
    int64_t taken_ns = clock_mono_ns();
    put(f, 0, "a1");
    wait_for(f, 1, 0);
    assert_true(clock_mono_ns() >= taken_ns + CLOCK_NS_PER_S / 2); /* the broker has its time */
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a1");
    stop(f);
}

static void test_a_loss_in_the_middle_sends_the_rest_again(void **state)
{
    struct fixture *f = *state;
    start(f);
    put(f, 0, "a1");
    put(f, 0, "a2");
    put(f, 0, "a3");
    wait_for(f, 3, 0);
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a1");
    expect(f, OUTBOX_BACKFILL, "a2");
    outbox_lost(f->outbox);
    outbox_lost(f->outbox);
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a2");
    deliver(f, OUTBOX_BACKFILL, "a3");
    wait_for(f, 0, 0);
    stop(f);
}

static void test_a_device_that_is_gone_is_delivered(void **state)
{
    struct fixture *f = *state;
    char why[256];
    uint64_t lost;
    f->layouts = layouts_new();
    struct spool *spool;
    assert_int_equal(spool_open(&(struct spool_setup){.path = f->conf.spool_path,
                                                      .max_bytes = 8 * MIB,
                                                      .layouts = f->layouts},
                                &spool, &lost, why),
                     SPOOL_OPENED);
    struct spool_sample sample = {
        .layout = text_layout(f, "Gone"), .bytes = (const unsigned char *)"{g}", .size = 3};
    assert_true(spool_append(spool, &sample, 1));
    spool_close(spool);
    layouts_free(f->layouts);
    start(f);
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "g");
    assert_string_equal(f->item.layout->device, "Gone");
    stop(f);
}

static void test_what_does_not_fit_is_counted(void **state)
{
    struct fixture *f = *state;
    enum { N = 40 };
    static char payload[OUTBOX_PAYLOAD_MAX];
    memset(payload, 'p', sizeof payload);
    payload[0] = '{';
    payload[sizeof payload - 1] = '}';
    f->conf.spool_max_size = MIB;
    start(f);
    for (int i = 0; i < N; i++) {
        outbox_put_sample(f->outbox, 1, clock_mono_ns() - CLOCK_NS_PER_S, text_layout(f, "Meter-B"),
                          payload, sizeof payload);
        struct outbox_depth depth;
        while (depth = outbox_depth(f->outbox), depth.waiting > 0)
            outbox_wait(f->outbox, clock_mono_ns() + 5 * CLOCK_NS_PER_MS);
    }
    struct outbox_depth depth;
    while (depth = outbox_depth(f->outbox), depth.dropped + depth.backlog != N)
        outbox_wait(f->outbox, clock_mono_ns() + 5 * CLOCK_NS_PER_MS);
    assert_true(depth.dropped > 20);
    assert_int_equal(outbox_dropped(f->outbox, 1), depth.dropped);
    assert_int_equal(outbox_dropped(f->outbox, 0), 0);

    /* As a reload does: it shrinks at once, and what gives way is counted. */
    const uint64_t backlog = depth.backlog, dropped = depth.dropped;
    struct halt *halt = spooler_halt(f->spooler);
    assert_true(halt_wait(halt, CLOCK_NEVER));
    f->conf.spool_max_size = MIB / 2;
    halt_release(halt);
    while (depth = outbox_depth(f->outbox), depth.backlog > backlog / 2 + 2)
        outbox_wait(f->outbox, clock_mono_ns() + 5 * CLOCK_NS_PER_MS);
    assert_int_equal(depth.dropped + depth.backlog, backlog + dropped);
    stop(f);
}

static void test_a_file_that_is_gone_is_replaced(void **state)
{
    struct fixture *f = *state;
    start(f);
    put(f, 0, "a1");
    wait_for(f, 1, 0);
    assert_int_equal(unlink(f->conf.spool_path), 0);
    put(f, 0, "a2");
    assert_true(logged_find(&f->logged, "the spool fails", "samples=1 why=\"it was removed"));
    assert_true(logged_find(&f->logged, "a new spool was begun", "saved=1 lost=0"));
    wait_for(f, 2, 0);
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a1");
    deliver(f, OUTBOX_BACKFILL, "a2");
    wait_for(f, 0, 0);
    stop(f);
}

/* All that is left goes into the new one. */
static void test_a_file_that_goes_just_before_the_end(void **state)
{
    struct fixture *f = *state;
    start(f);
    put(f, 0, "a1");
    wait_for(f, 1, 0);
    assert_int_equal(unlink(f->conf.spool_path), 0);
    put(f, 0, "a2");
    stop(f);
    start(f);
    assert_true(logged_find(&f->logged, "the spool holds samples of an earlier run", "samples=2"));
    stop(f);
}

/* Reads all that was logged; how many lines have both texts in them. */
static unsigned count_logged(struct fixture *f, const char *first, const char *second)
{
    unsigned n = 0;
    logged_end(&f->logged);
    while (logged_find(&f->logged, first, second))
        n++;
    return n;
}

static void test_a_loss_at_the_end_is_said(void **state)
{
    struct fixture *f = *state;
    snprintf(f->conf.spool_path, sizeof f->conf.spool_path, "%s/never/spool.db", f->directory);
    start(f);
    put(f, 0, "a1");
    put(f, 1, "b1");
    stop(f);
    assert_int_equal(count_logged(f, "samples are lost", "neither delivered nor on disk samples=2"),
                     1);
}

static void test_no_loss_at_the_end_is_not(void **state)
{
    struct fixture *f = *state;
    snprintf(f->conf.spool_path, sizeof f->conf.spool_path, "%s/never/spool.db", f->directory);
    start(f);
    stop(f);
    assert_int_equal(count_logged(f, "samples are lost", ""), 0);
}

static void spoil_rows(struct fixture *f)
{
    sqlite3 *file;
    assert_int_equal(sqlite3_open(f->conf.spool_path, &file), SQLITE_OK);
    assert_int_equal(sqlite3_exec(file, "UPDATE sample SET payload = 'x'", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(file);
}

/* They are counted, hold up nothing, and fill no log. */
static void test_any_number_of_rows_that_make_no_sense(void **state)
{
    struct fixture *f = *state;
    enum { N = 5000 };
    char text[16];
    start(f);
    for (int i = 0; i < N; i++) {
        snprintf(text, sizeof text, "%d", i);
        put(f, 0, text);
    }
    stop(f);
    spoil_rows(f);
    start(f);
    put(f, 0, "a1");
    wait_for(f, N + 1, 0);
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a1");
    wait_for(f, 0, 0);
    const struct outbox_depth depth = outbox_depth(f->outbox);
    assert_int_equal(depth.dropped, N);
    assert_int_equal(depth.set_aside, N);
    stop(f);
    /* At once, and what is left of them later: here at the end. */
    assert_in_range(count_logged(f, "rows that make no sense", "first="), 1, 2);
}

/* Such as a disk that is mounted late: what was taken until then is stored. */
static void test_a_directory_that_comes_later_is_waited_for(void **state)
{
    struct fixture *f = *state;
    char directory[sizeof f->directory + 8];
    snprintf(directory, sizeof directory, "%s/late", f->directory);
    snprintf(f->conf.spool_path, sizeof f->conf.spool_path, "%s/spool.db", directory);
    start(f);
    put(f, 0, "a1");
    assert_true(logged_find(&f->logged, "cannot open the spool",
                            "its directory must exist and be writable; samples stay in memory"));
    assert_int_equal(mkdir(directory, 0755), 0);
    assert_true(logged_find(&f->logged, "the spool works again", "/late/spool.db"));
    wait_for(f, 1, 0);
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a1");
    wait_for(f, 0, 0);
    stop(f);
}

static void test_somebody_else_s_file_ends_the_start(void **state)
{
    struct fixture *f = *state;
    FILE *file = fopen(f->conf.spool_path, "w");
    assert_non_null(file);
    fputs("theirs", file);
    fclose(file);
    f->layouts = layouts_new();
    f->outbox = outbox_new(2, MIB, MIB);
    assert_null(spooler_start(&f->conf, f->layouts, f->outbox, NULL));
    assert_true(logged_find(&f->logged, "cannot open the spool", "it is another program's file"));
    outbox_free(f->outbox);
    layouts_free(f->layouts);
}

/* ---- another file ---- */

/* As a reload does it. */
static void move(struct fixture *f, const char *path)
{
    struct halt *halt = spooler_halt(f->spooler);
    assert_true(halt_wait(halt, CLOCK_NEVER));
    assert_true(spooler_can_move(f->spooler, "elsewhere"));
    (void)snprintf(f->conf.spool_path, sizeof f->conf.spool_path, "%s/%s", f->directory, path);
    assert_false(spooler_can_move(f->spooler, "elsewhere"));
    halt_release(halt);
}

static bool is_there(struct fixture *f, const char *path)
{
    char whole[sizeof f->directory + 32];
    (void)snprintf(whole, sizeof whole, "%s/%s", f->directory, path);
    return access(whole, F_OK) == 0;
}

/* What has been sent and not yet answered is not sent again: it has the same row. */
static void test_all_of_it_moves(void **state)
{
    struct fixture *f = *state;
    start(f);
    put(f, 0, "a1");
    put(f, 1, "b1");
    put(f, 0, "a2");
    wait_for(f, 3, 0);
    resume(f);
    const uint64_t first = expect(f, OUTBOX_BACKFILL, "a1");
    move(f, "other.db");
    assert_true(logged_find(&f->logged, "the spool was moved", "saved=3 lost=0"));
    assert_false(is_there(f, "spool.db"));
    assert_true(is_there(f, "other.db"));
    outbox_ack(f->outbox, first, OUTBOX_DELIVERED);
    deliver(f, OUTBOX_BACKFILL, "b1");
    outbox_lost(f->outbox);
    put(f, 1, "b2");
    wait_for(f, 2, 0);
    stop(f);
    start(f);
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a2");
    deliver(f, OUTBOX_BACKFILL, "b2");
    wait_for(f, 0, 0);
    assert_int_equal(outbox_depth(f->outbox).dropped, 0);
    stop(f);
}

static void test_it_moves_as_soon_as_it_can(void **state)
{
    struct fixture *f = *state;
    char directory[sizeof f->directory + 8];
    (void)snprintf(directory, sizeof directory, "%s/late", f->directory);
    start(f);
    put(f, 0, "a1");
    wait_for(f, 1, 0);
    move(f, "late/spool.db");
    assert_true(logged_find(&f->logged, "the spool cannot be moved", "/late/spool.db why="));
    put(f, 0, "a2");
    wait_for(f, 2, 0);
    assert_int_equal(mkdir(directory, 0755), 0);
    assert_true(logged_find(&f->logged, "the spool was moved", "saved=2 lost=0"));
    assert_false(is_there(f, "spool.db"));
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a1");
    deliver(f, OUTBOX_BACKFILL, "a2");
    wait_for(f, 0, 0);
    stop(f);
}

/* Else who is killed on the way would leave behind what nobody looks for. */
static void test_it_moves_when_it_is_noted_where_it_was(void **state)
{
    struct fixture *f = *state;
    char path[sizeof f->directory + 16];
    (void)snprintf(path, sizeof path, "%s/late/state.db", f->directory);
    struct state *kept = state_open(path, NULL);
    start_with(f, kept);
    put(f, 0, "a1");
    wait_for(f, 1, 0);
    spooler_note_former(kept, f->conf.spool_path);
    move(f, "other.db");
    assert_true(logged_find(&f->logged, "the spool cannot be moved", "the state file"));
    assert_false(is_there(f, "other.db"));
    *strrchr(path, '/') = '\0';
    assert_int_equal(mkdir(path, 0755), 0);
    assert_true(logged_find(&f->logged, "the spool was moved", "saved=1 lost=0"));
    stop(f);
    state_close(kept);
}

/* A run that was killed on the way. */
static void test_what_was_left_behind_is_taken_over(void **state)
{
    struct fixture *f = *state;
    char former[CONF_PATH_MAX + 1];
    struct state *kept = state_open("", NULL);
    start(f);
    put(f, 0, "a1");
    put(f, 1, "b1");
    wait_for(f, 2, 0);
    stop(f);
    strcpy(former, f->conf.spool_path);
    spooler_note_former(kept, former);
    (void)snprintf(f->conf.spool_path, sizeof f->conf.spool_path, "%s/other.db", f->directory);
    for (unsigned i = 0; i < 2; i++) { /* the second finds nothing of it any more */
        start_with(f, kept);
        wait_for(f, i == 0 ? 2 : 0, 0);
        resume(f);
        if (i == 0) {
            deliver(f, OUTBOX_BACKFILL, "a1");
            deliver(f, OUTBOX_BACKFILL, "b1");
            wait_for(f, 0, 0);
        }
        stop(f);
        assert_false(is_there(f, "spool.db"));
    }
    state_close(kept);
}

/* As a reload does it: "" = there is to be none. */
static void change(struct fixture *f, struct state *state, const char *path)
{
    struct halt *halt = spooler_halt(f->spooler);
    assert_true(halt_wait(halt, CLOCK_NEVER));
    assert_true(spooler_can_move(f->spooler, path));
    if (f->conf.spool_path[0] != '\0')
        spooler_note_former(state, f->conf.spool_path);
    strcpy(f->conf.spool_path, path);
    /* Of one that is not to be there nobody says how large it may be. */
    f->conf.spool_max_size = path[0] != '\0' ? 64 * MIB : 1;
    halt_release(halt);
}

/* What waits in the file is sent first, all of it, and nothing is put there any more. */
static void test_one_that_goes(void **state)
{
    struct fixture *f = *state;
    char path[CONF_PATH_MAX + 1];
    strcpy(path, f->conf.spool_path);
    start(f);
    put(f, 0, "a1");
    put(f, 1, "b1");
    wait_for(f, 2, 0);
    change(f, NULL, "");
    assert_true(
        logged_find(&f->logged, "the spool goes once what waits in it is sent", "samples=2"));
    put(f, 0, "a2");
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a1");
    const uint64_t last = expect(f, OUTBOX_BACKFILL, "b1");
    assert_true(is_there(f, "spool.db"));
    outbox_ack(f->outbox, last, OUTBOX_DELIVERED);
    deliver(f, OUTBOX_BACKFILL, "a2");
    assert_true(logged_find(&f->logged, "the spool has gone", "spool.db"));
    assert_false(is_there(f, "spool.db"));
    assert_int_equal(outbox_depth(f->outbox).dropped, 0);

    /* And one comes: its file is a new one. */
    outbox_lost(f->outbox);
    put(f, 0, "a3");
    change(f, NULL, path);
    wait_for(f, 1, 0);
    assert_true(is_there(f, "spool.db"));
    stop(f);
    start(f);
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a3");
    wait_for(f, 0, 0);
    assert_int_equal(outbox_depth(f->outbox).dropped, 0);
    stop(f);
}

/* It comes back, or goes elsewhere, before all of it was sent. */
static void test_one_that_goes_and_comes_back(void **state)
{
    struct fixture *f = *state;
    char path[CONF_PATH_MAX + 1];
    strcpy(path, f->conf.spool_path);
    start(f);
    put(f, 0, "a1");
    wait_for(f, 1, 0);
    change(f, NULL, "");
    assert_true(logged_find(&f->logged, "the spool goes once", "samples=1"));
    put(f, 0, "a2");
    change(f, NULL, path);
    wait_for(f, 2, 0);
    change(f, NULL, "");
    strcat(path, ".other");
    change(f, NULL, path);
    assert_true(logged_find(&f->logged, "the spool was moved", "saved=2 lost=0"));
    assert_false(is_there(f, "spool.db"));
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a1");
    deliver(f, OUTBOX_BACKFILL, "a2");
    wait_for(f, 0, 0);
    stop(f);
}

/* The run ends before that: the next one, which has no spool, sends it. */
static void test_what_one_that_went_has_left(void **state)
{
    struct fixture *f = *state;
    char path[CONF_PATH_MAX + 1];
    (void)snprintf(path, sizeof path, "%s/state.db", f->directory);
    struct state *kept = state_open(path, NULL);
    assert_non_null(kept);
    start_with(f, kept);
    put(f, 0, "a1");
    put(f, 1, "b1");
    wait_for(f, 2, 0);
    change(f, kept, "");
    assert_true(logged_find(&f->logged, "the spool goes once", "samples=2"));
    stop(f);
    assert_true(logged_find(&f->logged, "samples stay in the file of the spool", "samples=2"));
    state_close(kept);

    kept = state_open(path, NULL);
    start_with(f, kept);
    assert_true(logged_find(&f->logged, "the spool holds samples of an earlier run", "samples=2"));
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a1");
    deliver(f, OUTBOX_BACKFILL, "b1");
    assert_true(logged_find(&f->logged, "the spool has gone", "spool.db"));
    stop(f);
    start_with(f, kept); /* and now it is forgotten */
    char text[CONF_PATH_MAX + 1];
    assert_false(state_get(kept, "spool/former", text, sizeof text));
    put(f, 0, "a2");
    resume(f);
    deliver(f, OUTBOX_BACKFILL, "a2");
    stop(f);
    assert_false(is_there(f, "spool.db"));
    state_close(kept);
}

static void test_where_it_may_move(void **state)
{
    struct fixture *f = *state;
    char why[SPOOL_WHY_MAX], other[CONF_PATH_MAX + 1];
    start(f);
    assert_false(spool_try(f->conf.spool_path, why));
    assert_non_null(strstr(why, "another program uses it"));
    put(f, 0, "a1");
    wait_for(f, 1, 0);
    stop(f);
    assert_false(spool_try(f->conf.spool_path, why));
    assert_non_null(strstr(why, "an earlier run"));
    (void)snprintf(other, sizeof other, "%s/other.db", f->directory);
    assert_true(spool_try(other, why));
    assert_false(is_there(f, "other.db"));
    FILE *file = fopen(other, "w");
    assert_non_null(file);
    (void)fputs("theirs", file);
    (void)fclose(file);
    assert_false(spool_try(other, why));
    assert_non_null(strstr(why, "another program's file"));
    assert_true(is_there(f, "other.db"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_samples_outlive_a_stop),
        TEST(test_a_sample_is_on_disk_within_a_second),
        TEST(test_a_loss_in_the_middle_sends_the_rest_again),
        TEST(test_a_device_that_is_gone_is_delivered),
        TEST(test_what_does_not_fit_is_counted),
        TEST(test_a_file_that_is_gone_is_replaced),
        TEST(test_a_file_that_goes_just_before_the_end),
        TEST(test_a_loss_at_the_end_is_said),
        TEST(test_no_loss_at_the_end_is_not),
        TEST(test_any_number_of_rows_that_make_no_sense),
        TEST(test_a_directory_that_comes_later_is_waited_for),
        TEST(test_somebody_else_s_file_ends_the_start),
        TEST(test_all_of_it_moves),
        TEST(test_it_moves_as_soon_as_it_can),
        TEST(test_it_moves_when_it_is_noted_where_it_was),
        TEST(test_what_was_left_behind_is_taken_over),
        TEST(test_one_that_goes),
        TEST(test_one_that_goes_and_comes_back),
        TEST(test_what_one_that_went_has_left),
        TEST(test_where_it_may_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
