/* The spooler's side of the outbox, with a list in place of a disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/store/outbox.h"

#define S CLOCK_NS_PER_S

enum { DEVICES = 2, MIB = 1 << 20, ROWS = 4096 };

/* To the outbox a sample is bytes. The last one is of a device that is configured no more. */
static const struct layout layouts[DEVICES + 1] = {
    {.device = "a"}, {.device = "b"}, {.device = "gone"}};

struct fixture {
    struct outbox *outbox;
    struct outbox_item item;
    int64_t now_ns, next_ns, read_row;
    struct {
        bool there;
        unsigned device;
        char payload[32];
    } disk[ROWS]; /* by row, from 1 */
    int64_t last_row;
    struct outbox_spilled list[64];
    unsigned char bytes[MIB];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->outbox = outbox_new(DEVICES, MIB, MIB);
    f->now_ns = 1000 * S;
    *state = f;
    return f->outbox == NULL || !outbox_use_spool(f->outbox, true);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    outbox_free(f->outbox);
    free(f);
    return 0;
}

static void put(struct fixture *f, unsigned device, const char *text)
{
    outbox_put_sample(f->outbox, device, f->now_ns, &layouts[device], text, strlen(text));
}

static void to_disk(struct fixture *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        f->list[i].row = ++f->last_row;
        f->disk[f->last_row].there = true;
        f->disk[f->last_row].device = (unsigned)(f->list[i].layout - layouts);
        snprintf(f->disk[f->last_row].payload, sizeof f->disk[0].payload, "%.*s",
                 (int)f->list[i].size, (const char *)f->list[i].packed);
    }
    outbox_spilled(f->outbox, f->list, n);
}

static size_t spill(struct fixture *f)
{
    size_t n =
        outbox_spill(f->outbox, f->now_ns, f->list, 64, f->bytes, sizeof f->bytes, &f->next_ns);
    to_disk(f, n);
    return n;
}

static void remove_delivered(struct fixture *f)
{
    int64_t rows[64];
    size_t n;
    while ((n = outbox_delivered(f->outbox, rows, 64)) > 0) {
        for (size_t i = 0; i < n; i++)
            f->disk[rows[i]].there = false;
        outbox_removed(f->outbox, n);
    }
}

static unsigned on_disk(const struct fixture *f)
{
    unsigned n = 0;
    for (int64_t row = 1; row <= f->last_row; row++)
        n += f->disk[row].there;
    return n;
}

/* As the spooler does; returns how many rows it offered. */
static unsigned refill(struct fixture *f)
{
    bool rewind;
    unsigned n = 0;
    if (!outbox_wants_refill(f->outbox, &rewind) && !rewind)
        return 0;
    if (rewind)
        f->read_row = 0;
    for (int64_t row = f->read_row + 1; row <= f->last_row; row++) {
        if (f->disk[row].there) {
            if (!outbox_refill(f->outbox, row, f->disk[row].device, &layouts[f->disk[row].device],
                               f->disk[row].payload, strlen(f->disk[row].payload)))
                break;
            n++;
        }
        f->read_row = row;
    }
    return n;
}

static uint64_t expect(struct fixture *f, enum outbox_kind kind, const char *text)
{
    if (!outbox_take(f->outbox, f->now_ns, OUTBOX_BACKFILL, &f->item))
        fail_msg("%s does not come", text);
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
    assert_false(outbox_take(f->outbox, f->now_ns, OUTBOX_BACKFILL, &f->item));
}

/* The broker comes, and both devices have had a live sample. */
static void resume(struct fixture *f)
{
    f->now_ns += 2 * S;
    outbox_resumed(f->outbox, f->now_ns);
    put(f, 0, "live 0");
    put(f, 1, "live 1");
    deliver(f, OUTBOX_STATE, "live 0");
    deliver(f, OUTBOX_STATE, "live 1");
}

static void test_backlog_goes_through_the_disk_in_order(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "a1");
    put(f, 1, "b1");
    f->now_ns += S;
    put(f, 0, "a2");
    assert_int_equal(
        outbox_spill(f->outbox, f->now_ns - S, f->list, 64, f->bytes, sizeof f->bytes, &f->next_ns),
        2);
    assert_true(f->next_ns == f->now_ns); /* when the next one was taken */
    to_disk(f, 2);
    assert_int_equal(spill(f), 1);
    assert_int_equal(spill(f), 0);
    assert_true(f->next_ns == CLOCK_NEVER);
    assert_int_equal(outbox_depth(f->outbox).waiting, 0);

    resume(f);
    expect_nothing(f);
    assert_int_equal(refill(f), 3);
    deliver(f, OUTBOX_BACKFILL, "a1");
    deliver(f, OUTBOX_BACKFILL, "b1");
    deliver(f, OUTBOX_BACKFILL, "a2");
    expect_nothing(f);
    assert_int_equal(on_disk(f), 3);
    remove_delivered(f);
    assert_int_equal(on_disk(f), 0);
}

static void test_what_is_in_flight_when_it_is_written_is_not_sent_again(void **state)
{
    struct fixture *f = *state;
    resume(f);
    put(f, 0, "slow");
    uint64_t ticket = expect(f, OUTBOX_STATE, "slow");
    f->now_ns += S;
    assert_int_equal(spill(f), 1);
    assert_int_equal(refill(f), 1); /* skipped: it is in flight */
    expect_nothing(f);
    f->read_row = 0; /* read once more, before and after its acknowledgement */
    assert_int_equal(refill(f), 1);
    outbox_ack(f->outbox, ticket, OUTBOX_DELIVERED);
    f->read_row = 0;
    assert_int_equal(refill(f), 1);
    expect_nothing(f);
    remove_delivered(f);
    assert_int_equal(on_disk(f), 0);
}

static void test_what_was_acknowledged_while_it_was_written_is_removed(void **state)
{
    struct fixture *f = *state;
    resume(f);
    put(f, 0, "x");
    put(f, 0, "y");
    size_t n =
        outbox_spill(f->outbox, f->now_ns, f->list, 64, f->bytes, sizeof f->bytes, &f->next_ns);
    assert_int_equal(n, 2);
    deliver(f, OUTBOX_STATE, "x");
    to_disk(f, n);
    remove_delivered(f);
    assert_int_equal(on_disk(f), 1);
    refill(f);
    deliver(f, OUTBOX_BACKFILL, "y");
    expect_nothing(f);
}

static void test_a_loss_in_the_middle_of_a_drain_begins_at_the_first_row_left(void **state)
{
    struct fixture *f = *state;
    char text[8];
    for (int i = 1; i <= 6; i++) {
        snprintf(text, sizeof text, "a%d", i);
        put(f, 0, text);
    }
    assert_int_equal(spill(f), 6);
    for (int round = 0; round < 3; round++) { /* two losses in a row, and a third */
        resume(f);
        assert_int_equal(refill(f), 6 - round);
        snprintf(text, sizeof text, "a%d", round + 1);
        deliver(f, OUTBOX_BACKFILL, text);
        snprintf(text, sizeof text, "a%d", round + 2);
        expect(f, OUTBOX_BACKFILL, text); /* no answer comes */
        remove_delivered(f);
        outbox_lost(f->outbox);
        expect_nothing(f);
        assert_int_equal(refill(f), 0);
    }
    resume(f);
    assert_int_equal(refill(f), 3);
    deliver(f, OUTBOX_BACKFILL, "a4");
    deliver(f, OUTBOX_BACKFILL, "a5");
    deliver(f, OUTBOX_BACKFILL, "a6");
    remove_delivered(f);
    assert_int_equal(on_disk(f), 0);
    assert_int_equal(outbox_depth(f->outbox).dropped, 0);
}

static void test_delivered_but_not_removed_is_not_sent_again(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "a1");
    put(f, 0, "a2");
    assert_int_equal(spill(f), 2);
    resume(f);
    refill(f);
    deliver(f, OUTBOX_BACKFILL, "a1"); /* and the disk lets nothing be removed */
    outbox_lost(f->outbox);
    resume(f);
    assert_int_equal(refill(f), 2);
    deliver(f, OUTBOX_BACKFILL, "a2");
    expect_nothing(f);
    remove_delivered(f);
    assert_int_equal(on_disk(f), 0);
}

static void test_without_a_disk_backlog_goes_from_memory(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "a1");
    resume(f);
    expect_nothing(f);
    outbox_set_spool(f->outbox, false, 0, false);
    deliver(f, OUTBOX_BACKFILL, "a1");
    outbox_set_spool(f->outbox, true, 7, true);
    assert_int_equal(outbox_depth(f->outbox).backlog, 7);
}

/* What is on disk is older. */
static void test_with_a_full_disk_the_oldest_comes_first(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "a1");
    put(f, 0, "a2");
    assert_int_equal(spill(f), 2);
    put(f, 0, "a3"); /* finds no room there */
    outbox_set_spool(f->outbox, false, 2, true);
    resume(f);
    expect_nothing(f);
    assert_int_equal(refill(f), 2);
    deliver(f, OUTBOX_BACKFILL, "a1");
    deliver(f, OUTBOX_BACKFILL, "a2");
    expect_nothing(f); /* there may be more */
    outbox_set_spool(f->outbox, false, 0, false);
    deliver(f, OUTBOX_BACKFILL, "a3");
    expect_nothing(f);

    remove_delivered(f);
    put(f, 0, "a4");
    outbox_lost(f->outbox); /* what is on disk has to be looked for again */
    outbox_set_spool(f->outbox, false, 2, false);
    resume(f);
    expect_nothing(f);
    assert_int_equal(refill(f), 0);
    outbox_set_spool(f->outbox, false, 2, false);
    deliver(f, OUTBOX_BACKFILL, "a4");
}

static void test_a_sample_dropped_on_disk_counts_unless_memory_has_it(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "a1");
    put(f, 0, "a2");
    put(f, 1, "b1");
    assert_int_equal(spill(f), 3);
    outbox_drop_row(f->outbox, 1, 0);
    f->disk[1].there = false;
    assert_int_equal(outbox_dropped(f->outbox, 0), 1);
    resume(f);
    refill(f);
    outbox_drop_row(f->outbox, 2, 0); /* read back already */
    deliver(f, OUTBOX_BACKFILL, "a2");
    deliver(f, OUTBOX_BACKFILL, "b1");
    outbox_drop_row(f->outbox, 3, 1); /* delivered already */
    assert_int_equal(outbox_dropped(f->outbox, 0), 1);
    assert_int_equal(outbox_dropped(f->outbox, 1), 0);
    outbox_drop_row(f->outbox, 99, DEVICES); /* of a device that is configured no more */
    assert_int_equal(outbox_depth(f->outbox).dropped, 2);
}

static void test_what_makes_no_sense_on_disk_is_counted(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "a1");
    spill(f);
    outbox_set_row_aside(f->outbox, 1, 0);
    assert_int_equal(outbox_depth(f->outbox).set_aside, 1);
    assert_int_equal(outbox_dropped(f->outbox, 0), 1);
    outbox_drop_row(f->outbox, 0, DEVICES); /* one of which nothing is known */
    outbox_drop_row(f->outbox, 0, DEVICES);
    assert_int_equal(outbox_depth(f->outbox).dropped, 3);
    assert_int_equal(outbox_depth(f->outbox).set_aside, 1);
}

static void test_a_device_that_is_configured_no_more_keeps_its_layout(void **state)
{
    struct fixture *f = *state;
    outbox_resumed(f->outbox, f->now_ns);
    assert_true(outbox_refill(f->outbox, 5, DEVICES, &layouts[DEVICES], "g", 1));
    uint64_t ticket = expect(f, OUTBOX_BACKFILL, "g");
    assert_ptr_equal(f->item.layout, &layouts[DEVICES]);
    outbox_ack(f->outbox, ticket, OUTBOX_REFUSED);
    assert_int_equal(outbox_depth(f->outbox).dropped, 1);
}

/* What was sent is not looked at again, until it is not known any more whether it came. */
static void test_what_was_sent_goes_to_disk_only_after_a_loss(void **state)
{
    struct fixture *f = *state;
    outbox_keep_sent(f->outbox, 1000 * S);
    outbox_resumed(f->outbox, f->now_ns);
    for (unsigned round = 0; round < 2; round++) {
        put(f, 0, "one");
        put(f, 1, "two");
        outbox_ack(f->outbox, expect(f, OUTBOX_STATE, "one"), OUTBOX_DELIVERED);
        outbox_ack(f->outbox, expect(f, OUTBOX_STATE, "two"), OUTBOX_DELIVERED);
        assert_int_equal(spill(f), 0);
        assert_true(f->next_ns == CLOCK_NEVER);
    }
    put(f, 0, "three");
    (void)expect(f, OUTBOX_STATE, "three");
    assert_int_equal(spill(f), 1);
    assert_int_equal(spill(f), 0);
    outbox_drop_row(f->outbox, f->last_row, 0); /* the disk gave it up, memory has it */
    assert_int_equal(spill(f), 1);
    outbox_lost(f->outbox);
    assert_int_equal(spill(f), 4);
    assert_string_equal(f->disk[3].payload, "one");
    assert_string_equal(f->disk[6].payload, "two");
}

static void test_refill_is_bounded(void **state)
{
    struct fixture *f = *state;
    unsigned n = 0;
    resume(f);
    for (int64_t row = 1; outbox_refill(f->outbox, row, 0, &layouts[0], "x", 1); row++)
        n++;
    assert_in_range(n, 512, 8192);
    bool rewind;
    assert_false(outbox_wants_refill(f->outbox, &rewind));
    for (unsigned i = 0; i < n - 512; i++)
        deliver(f, OUTBOX_BACKFILL, "x");
    assert_false(
        outbox_refill(f->outbox, n + 1, 0, &layouts[0], "x", 1)); /* until these are removed */
    remove_delivered(f);
    assert_true(outbox_refill(f->outbox, n + 1, 0, &layouts[0], "x", 1));
}

static void test_a_sample_that_came_meanwhile_ends_the_sleep(void **state)
{
    struct fixture *f = *state;
    spill(f);
    put(f, 0, "x"); /* while the spooler is at work, about to sleep until a sample comes */
    outbox_wait_spool(f->outbox, CLOCK_NEVER);
    spill(f);
    outbox_wake_spool(f->outbox);
    outbox_wait_spool(f->outbox, CLOCK_NEVER);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_backlog_goes_through_the_disk_in_order),
        TEST(test_what_is_in_flight_when_it_is_written_is_not_sent_again),
        TEST(test_what_was_acknowledged_while_it_was_written_is_removed),
        TEST(test_a_loss_in_the_middle_of_a_drain_begins_at_the_first_row_left),
        TEST(test_delivered_but_not_removed_is_not_sent_again),
        TEST(test_without_a_disk_backlog_goes_from_memory),
        TEST(test_with_a_full_disk_the_oldest_comes_first),
        TEST(test_what_makes_no_sense_on_disk_is_counted),
        TEST(test_a_sample_dropped_on_disk_counts_unless_memory_has_it),
        TEST(test_a_device_that_is_configured_no_more_keeps_its_layout),
        TEST(test_what_was_sent_goes_to_disk_only_after_a_loss),
        TEST(test_refill_is_bounded),
        TEST(test_a_sample_that_came_meanwhile_ends_the_sleep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
