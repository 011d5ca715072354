/* outbox_bed: one outbox, what was taken from it last, and a clock. */
#ifndef TESTS_UNIT_OUTBOX_BED_H
#define TESTS_UNIT_OUTBOX_BED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/store/outbox.h"

#define S CLOCK_NS_PER_S

enum { DEVICES = 3, MIB = 1 << 20 };

/* To the outbox a sample is bytes. */
static const struct layout layout = {.device = "any"};

/* One outbox, the last item taken from it, and a clock. */
struct fixture {
    struct outbox *outbox;
    struct outbox_item item;
    int64_t now_ns;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->outbox = outbox_new(DEVICES, MIB, MIB);
    f->now_ns = 1000 * S;
    *state = f;
    return f->outbox == NULL;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    outbox_free(f->outbox);
    free(f);
    return 0;
}

/* Time enough for what was put to be fresh no more. */
static void resume(struct fixture *f)
{
    f->now_ns += OUTBOX_FRESH_NS;
    outbox_resumed(f->outbox, f->now_ns);
}

static void put(struct fixture *f, unsigned device, const char *text)
{
    outbox_put_sample(f->outbox, device, f->now_ns, &layout, text, strlen(text));
}

static bool take(struct fixture *f, enum outbox_kind last)
{
    return outbox_take(f->outbox, f->now_ns, last, &f->item);
}

static uint64_t expect(struct fixture *f, enum outbox_kind kind, const char *text)
{
    assert_true(take(f, OUTBOX_BACKFILL));
    assert_int_equal(f->item.kind, kind);
    assert_int_equal(f->item.payload_size, strlen(text));
    assert_memory_equal(f->item.payload, text, strlen(text));
    return f->item.ticket;
}

static void deliver(struct fixture *f, enum outbox_kind kind, const char *text)
{
    outbox_ack(f->outbox, expect(f, kind, text), OUTBOX_DELIVERED);
}

static void expect_nothing(struct fixture *f)
{
    assert_false(take(f, OUTBOX_BACKFILL));
}

static void assert_depth(struct fixture *f, uint64_t waiting, uint64_t backlog, unsigned in_flight)
{
    struct outbox_depth depth = outbox_depth(f->outbox);
    assert_int_equal(depth.waiting, waiting);
    assert_int_equal(depth.backlog, backlog);
    assert_int_equal(depth.in_flight, in_flight);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
