/* outbox: what is put in, who is woken for it, and what gives way. */
#include <stdio.h>

#include "outbox_bed.h"

static void test_an_outcome_beyond_its_bounds_is_not_taken(void **state)
{
    struct fixture *f = *state;
    char topic[TOPIC_MAX + 2];
    memset(topic, 't', sizeof(topic));
    topic[TOPIC_MAX + 1] = '\0';
    assert_false(outbox_put_outcome(f->outbox, topic, NULL, 0, "{}", 2));
    topic[TOPIC_MAX] = '\0';
    assert_true(outbox_put_outcome(f->outbox, topic, NULL, 0, "{}", 2));
    static char large[OUTBOX_PAYLOAD_MAX + 1];
    assert_false(outbox_put_outcome(f->outbox, "t", large, OUTBOX_CORRELATION_MAX + 1, "{}", 2));
    assert_true(outbox_put_outcome(f->outbox, "t", large, OUTBOX_CORRELATION_MAX, "{}", 2));
    assert_false(outbox_put_outcome(f->outbox, "t", NULL, 0, large, OUTBOX_PAYLOAD_MAX + 1));
    assert_true(outbox_put_outcome(f->outbox, "t", NULL, 0, large, OUTBOX_PAYLOAD_MAX));
    assert_int_equal(outbox_depth(f->outbox).outcomes, 3);
    outbox_put_sample(f->outbox, 1, 0, &layout, large, OUTBOX_PAYLOAD_MAX + 1);
    assert_int_equal(outbox_dropped(f->outbox, 1), 1);
    assert_depth(f, 0, 0, 0);
}

/* The publisher may sleep for as long as it likes: held back backlog wakes it. */
static void test_wait_ends_when_backlog_may_go(void **state)
{
    struct fixture *f = *state;
    f->now_ns = clock_mono_ns() - OUTBOX_RESUME_NS - OUTBOX_FRESH_NS + CLOCK_NS_PER_MS;
    put(f, 0, "backlog");
    resume(f);
    expect_nothing(f);
    outbox_wait(f->outbox, CLOCK_NEVER); /* for what was put */
    outbox_wait(f->outbox, CLOCK_NEVER);
    f->now_ns += OUTBOX_RESUME_NS;
    assert_in_range(clock_mono_ns(), f->now_ns, INT64_MAX);
    deliver(f, OUTBOX_BACKFILL, "backlog");
}

/* Backlog that may go is no cause to wake while there is no room for it. */
static void test_wait_does_not_end_for_what_cannot_go(void **state)
{
    struct fixture *f = *state;
    f->now_ns = clock_mono_ns() - OUTBOX_RESUME_NS - OUTBOX_FRESH_NS;
    put(f, 0, "backlog");
    resume(f);
    expect_nothing(f); /* held back until now */
    assert_false(take(f, OUTBOX_STATE));
    outbox_wait(f->outbox, CLOCK_NEVER); /* for what was put */
    int64_t until_ns = clock_mono_ns() + 20 * CLOCK_NS_PER_MS;
    outbox_wait(f->outbox, until_ns);
    assert_true(clock_mono_ns() >= until_ns);
}

static void test_wait_ends_at_every_cause(void **state)
{
    struct fixture *f = *state;
    outbox_wake(f->outbox);
    outbox_wait(f->outbox, CLOCK_NEVER);
    put(f, 0, "x");
    outbox_wait(f->outbox, CLOCK_NEVER);
    outbox_set_online(f->outbox, 0, true);
    outbox_wait(f->outbox, CLOCK_NEVER);
    outbox_put_outcome(f->outbox, "t", NULL, 0, "{}", 2);
    outbox_wait(f->outbox, CLOCK_NEVER);
    resume(f);
    outbox_put_off(f->outbox, expect(f, OUTBOX_OUTCOME, "{}"), f->now_ns);
    outbox_wait(f->outbox, CLOCK_NEVER);
    outbox_wait(f->outbox, clock_mono_ns());
}

/* Sleeps for as long as a failing test takes; whether somebody woke it before. */
static bool is_woken(struct fixture *f)
{
    int64_t until_ns = clock_mono_ns() + 20 * CLOCK_NS_PER_MS;
    outbox_wait(f->outbox, until_ns);
    return clock_mono_ns() < until_ns;
}

/* Who waits for room is called by the session that has it. */
static void test_an_acknowledgement_wakes_nobody(void **state)
{
    struct fixture *f = *state;
    resume(f);
    put(f, 0, "a");
    put(f, 0, "b");
    outbox_put_outcome(f->outbox, "t", NULL, 0, "{}", 2);
    uint64_t outcome = expect(f, OUTBOX_OUTCOME, "{}"), a = expect(f, OUTBOX_STATE, "a");
    outbox_wait(f->outbox, CLOCK_NEVER); /* for what was put */
    outbox_ack(f->outbox, a, OUTBOX_DELIVERED);
    outbox_ack(f->outbox, outcome, OUTBOX_REFUSED);
    assert_false(is_woken(f));
    deliver(f, OUTBOX_STATE, "b");
}

/* Fills the ring of samples once more than it holds. Returns how many were put. */
static unsigned overfill(struct fixture *f, unsigned device, unsigned n_drops)
{
    static char payload[10 * 1000];
    unsigned n = 0;
    uint64_t before = outbox_dropped(f->outbox, device);
    while (outbox_dropped(f->outbox, device) < before + n_drops) {
        int size = snprintf(payload, sizeof(payload), "%u", n++);
        memset(payload + size, ' ', sizeof(payload) - (size_t)size);
        outbox_put_sample(f->outbox, device, f->now_ns, &layout, payload, sizeof(payload));
    }
    return n;
}

static void test_the_oldest_gives_way_and_is_counted_for_its_device(void **state)
{
    struct fixture *f = *state;
    unsigned n = overfill(f, 1, 3);
    assert_int_equal(outbox_dropped(f->outbox, 1), 3);
    assert_int_equal(outbox_dropped(f->outbox, 0), 0);
    assert_depth(f, n - 3, n - 3, 0);
    resume(f);
    f->now_ns += OUTBOX_RESUME_NS;
    for (unsigned i = 3; i < n; i++) {
        assert_true(take(f, OUTBOX_BACKFILL));
        assert_int_equal(strtoul(f->item.payload, NULL, 10), i);
        outbox_ack(f->outbox, f->item.ticket, OUTBOX_DELIVERED);
    }
    expect_nothing(f);
}

static void test_the_oldest_gives_way_even_in_flight(void **state)
{
    struct fixture *f = *state;
    resume(f);
    put(f, 0, "oldest");
    uint64_t oldest = expect(f, OUTBOX_STATE, "oldest");
    overfill(f, 1, 1);
    assert_int_equal(outbox_dropped(f->outbox, 0), 1);
    assert_int_equal(outbox_depth(f->outbox).in_flight, 0);
    uint64_t waiting = outbox_depth(f->outbox).waiting;
    outbox_ack(f->outbox, oldest, OUTBOX_RETURNED);
    outbox_ack(f->outbox, oldest, OUTBOX_DELIVERED);
    assert_depth(f, waiting, 0, 0);
    assert_true(take(f, OUTBOX_BACKFILL));
    assert_int_equal(strtoul(f->item.payload, NULL, 10), 1);
}

static void test_a_full_ring_of_outcomes_says_so(void **state)
{
    struct fixture *f = *state;
    static char payload[10 * 1000];
    unsigned n = 0;
    while (snprintf(payload, sizeof(payload), "%u", n) > 0 &&
           outbox_put_outcome(f->outbox, "t", NULL, 0, payload, sizeof(payload)))
        n++;
    assert_true(n > 50);
    assert_int_equal(outbox_depth(f->outbox).outcomes, n);
    assert_int_equal(outbox_depth(f->outbox).dropped, 0); /* samples only */
    resume(f);
    for (unsigned i = 1; i <= n; i++) {
        assert_true(take(f, OUTBOX_BACKFILL));
        assert_int_equal(strtoul(f->item.payload, NULL, 10), i);
        outbox_ack(f->outbox, f->item.ticket, OUTBOX_DELIVERED);
    }
}

static void test_presence_is_the_latest_only(void **state)
{
    struct fixture *f = *state;
    unsigned device = 0;
    bool online = true;
    assert_false(outbox_take_presence(f->outbox, &device, &online));
    outbox_set_online(f->outbox, 1, true);
    outbox_set_online(f->outbox, 1, false);
    outbox_set_online(f->outbox, 2, true);
    outbox_set_online(f->outbox, 2, true);
    outbox_set_online(f->outbox, 0, false); /* as it began */
    assert_true(outbox_take_presence(f->outbox, &device, &online));
    assert_int_equal(device, 1);
    assert_false(online);
    assert_true(outbox_take_presence(f->outbox, &device, &online));
    assert_int_equal(device, 2);
    assert_true(online);
    assert_false(outbox_take_presence(f->outbox, &device, &online));

    outbox_mark_presence(f->outbox, 2);
    outbox_mark_presence(f->outbox, 2);
    device = 0;
    assert_true(outbox_take_presence(f->outbox, &device, &online));
    assert_int_equal(device, 2);
    assert_true(online);
    device = 0;
    assert_false(outbox_take_presence(f->outbox, &device, &online));
}

static void test_how_long_the_oldest_has_waited(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(outbox_depth(f->outbox).oldest_ms, 0);
    f->now_ns = clock_mono_ns() - 90 * S;
    put(f, 0, "one");
    f->now_ns += 60 * S;
    put(f, 0, "two");
    resume(f);
    f->now_ns += OUTBOX_RESUME_NS;
    assert_in_range(outbox_depth(f->outbox).oldest_ms, 90000, 100000);
    deliver(f, OUTBOX_BACKFILL, "one");
    assert_in_range(outbox_depth(f->outbox).oldest_ms, 30000, 40000);
    outbox_set_spool_since(f->outbox, clock_utc_ms() - 3600000); /* since an hour on disk */
    assert_in_range(outbox_depth(f->outbox).oldest_ms, 3600000, 3610000);
}

/* Random events against the promises: per device the samples come out in the
 * order they went in, every one is delivered or counted as dropped, and a live
 * sample never waits for backlog. */
static void test_nothing_is_lost_without_being_counted(void **state)
{
    struct fixture *f = *state;
    enum { SAMPLES = 20000 };
    static char payload[4000];
    unsigned n_put = 0, n_delivered = 0, n_flights = 0, last_backfill = 0;
    static uint64_t flights[SAMPLES]; /* those dropped in flight stay in here a while */
    bool up = false;
    srand(2);
    while (n_put < SAMPLES || outbox_depth(f->outbox).waiting > 0) {
        int event = rand() % 1000;
        f->now_ns += S / 100;
        if (n_put < SAMPLES ? event < 2 : !up) {
            if (up)
                outbox_lost(f->outbox);
            else
                resume(f);
            up = !up;
            n_flights = 0;
            last_backfill = 0;
        } else if (event < 400 && n_put < SAMPLES) {
            int size = snprintf(payload, sizeof(payload), "%u ", ++n_put);
            outbox_put_sample(f->outbox, (unsigned)event % DEVICES, f->now_ns, &layout, payload,
                              (size_t)size + (size_t)rand() % 3900);
        } else if (event < 700 && take(f, OUTBOX_BACKFILL)) {
            flights[n_flights++] = f->item.ticket;
            if (f->item.kind == OUTBOX_BACKFILL) {
                unsigned number = (unsigned)strtoul(f->item.payload, NULL, 10);
                assert_true(number > last_backfill);
                last_backfill = number;
            }
        } else if (n_flights > 0) {
            unsigned i = (unsigned)rand() % n_flights;
            uint64_t waiting = outbox_depth(f->outbox).waiting;
            outbox_ack(f->outbox, flights[i], OUTBOX_DELIVERED);
            flights[i] = flights[--n_flights];
            n_delivered += outbox_depth(f->outbox).waiting < waiting;
        }
    }
    assert_int_equal(n_delivered + outbox_depth(f->outbox).dropped, SAMPLES);
    assert_in_range(n_delivered, SAMPLES / 10, SAMPLES - 1); /* both ways were gone */
    assert_depth(f, 0, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_outcome_beyond_its_bounds_is_not_taken),
        TEST(test_wait_ends_when_backlog_may_go),
        TEST(test_wait_does_not_end_for_what_cannot_go),
        TEST(test_wait_ends_at_every_cause),
        TEST(test_an_acknowledgement_wakes_nobody),
        TEST(test_the_oldest_gives_way_and_is_counted_for_its_device),
        TEST(test_the_oldest_gives_way_even_in_flight),
        TEST(test_a_full_ring_of_outcomes_says_so),
        TEST(test_presence_is_the_latest_only),
        TEST(test_how_long_the_oldest_has_waited),
        TEST(test_nothing_is_lost_without_being_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
