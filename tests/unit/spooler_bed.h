/* spooler_bed: a spooler at work, what a test puts before it, and what comes out of it. */
#ifndef TESTS_UNIT_SPOOLER_BED_H
#define TESTS_UNIT_SPOOLER_BED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static inline void start_with(struct fixture *f, struct state *state)
{
    f->layouts = layouts_new();
    f->outbox = outbox_new(f->conf.devices.n_devices, MIB, MIB);
    assert_non_null(f->layouts);
    assert_non_null(f->outbox);
    f->spooler = spooler_start(&f->conf, f->layouts, f->outbox, state);
    assert_non_null(f->spooler);
}

static inline void start(struct fixture *f)
{
    start_with(f, NULL);
}

static inline void stop(struct fixture *f)
{
    spooler_stop(f->spooler);
    outbox_free(f->outbox);
    layouts_free(f->layouts);
    f->spooler = NULL;
    f->outbox = NULL;
}

static inline int setup(void **state)
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

static inline int teardown(void **state)
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
static inline const struct layout *text_layout(struct fixture *f, const char *device)
{
    struct layout layout = {.is_text = true};
    strcpy(layout.device, device);
    const struct layout *kept = layouts_keep(f->layouts, &layout);
    assert_non_null(kept);
    return kept;
}

static inline void put(struct fixture *f, unsigned device, const char *text)
{
    char whole[64];
    snprintf(whole, sizeof whole, "{%s}", text);
    outbox_put_sample(f->outbox, device, clock_mono_ns(),
                      text_layout(f, f->conf.devices.devices[device].name), whole, strlen(whole));
}

/* Waits as the publisher does. */
static inline uint64_t expect(struct fixture *f, enum outbox_kind kind, const char *text)
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

static inline void deliver(struct fixture *f, enum outbox_kind kind, const char *text)
{
    outbox_ack(f->outbox, expect(f, kind, text), OUTBOX_DELIVERED);
}

/* The broker is there, and both devices have had a live sample. */
static inline void resume(struct fixture *f)
{
    outbox_resumed(f->outbox, clock_mono_ns() + 2 * CLOCK_NS_PER_S); /* nothing is fresh */
    put(f, 0, "live A");
    put(f, 1, "live B");
    deliver(f, OUTBOX_STATE, "live A");
    deliver(f, OUTBOX_STATE, "live B");
}

/* Until the file holds, or memory waits for, so many. */
static inline void wait_for(struct fixture *f, uint64_t backlog, uint64_t waiting)
{
    struct outbox_depth depth;
    while (depth = outbox_depth(f->outbox), depth.backlog != backlog || depth.waiting != waiting)
        outbox_wait(f->outbox, clock_mono_ns() + 20 * CLOCK_NS_PER_MS);
}

/* Takes these, each named by its device and a number, and waits until they are all the file
 * holds. */
static inline void store(struct fixture *f, const char *texts)
{
    char all[64], *rest = all;
    unsigned n = 0;
    assert_true(strlen(texts) < sizeof all);
    strcpy(all, texts);
    for (const char *text; (text = strtok_r(rest, " ", &rest)) != NULL; n++)
        put(f, (unsigned)(text[0] - 'a'), text);
    wait_for(f, n, 0);
}

/* The broker comes back and gets these, in this order; then nothing waits any more. */
static inline void drain(struct fixture *f, const char *texts)
{
    char all[64], *rest = all;
    assert_true(strlen(texts) < sizeof all);
    strcpy(all, texts);
    resume(f);
    for (const char *text; (text = strtok_r(rest, " ", &rest)) != NULL;)
        deliver(f, OUTBOX_BACKFILL, text);
    wait_for(f, 0, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
