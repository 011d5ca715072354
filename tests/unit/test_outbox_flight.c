/* outbox: what is taken out, in which order, and what becomes of it. */
#include "outbox_bed.h"

static void test_nothing_goes_before_the_broker_is_there(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "early");
    outbox_put_outcome(f->outbox, "t", NULL, 0, "{}", 2);
    expect_nothing(f);
    assert_depth(f, 1, 1, 0);
}

static void test_live_samples_go_in_order_and_are_kept_until_acknowledged(void **state)
{
    struct fixture *f = *state;
    resume(f);
    put(f, 1, "one");
    put(f, 2, "two");
    uint64_t one = expect(f, OUTBOX_STATE, "one");
    assert_int_equal(f->item.device, 1);
    assert_int_equal(f->item.taken_ns, f->now_ns);
    assert_ptr_equal(f->item.layout, &layout);
    uint64_t two = expect(f, OUTBOX_STATE, "two");
    expect_nothing(f);
    assert_depth(f, 2, 0, 2);
    outbox_ack(f->outbox, two, OUTBOX_DELIVERED); /* acknowledgements may overtake */
    outbox_ack(f->outbox, two, OUTBOX_DELIVERED); /* and a second one says nothing */
    assert_depth(f, 1, 0, 1);
    outbox_ack(f->outbox, one, OUTBOX_DELIVERED);
    assert_depth(f, 0, 0, 0);
    assert_int_equal(outbox_dropped(f->outbox, 1), 0);
}

static void test_what_could_not_be_sent_comes_again_in_its_place(void **state)
{
    struct fixture *f = *state;
    resume(f);
    put(f, 0, "one");
    put(f, 0, "two");
    put(f, 0, "three");
    uint64_t one = expect(f, OUTBOX_STATE, "one");
    uint64_t two = expect(f, OUTBOX_STATE, "two");
    outbox_ack(f->outbox, two, OUTBOX_RETURNED);
    outbox_ack(f->outbox, one, OUTBOX_RETURNED);
    deliver(f, OUTBOX_STATE, "one");
    deliver(f, OUTBOX_STATE, "two");
    deliver(f, OUTBOX_STATE, "three");
    expect_nothing(f);
}

static void test_refused_is_forgotten_and_counted(void **state)
{
    struct fixture *f = *state;
    resume(f);
    put(f, 2, "one");
    outbox_ack(f->outbox, expect(f, OUTBOX_STATE, "one"), OUTBOX_REFUSED);
    expect_nothing(f);
    assert_depth(f, 0, 0, 0);
    assert_int_equal(outbox_dropped(f->outbox, 2), 1);
    assert_int_equal(outbox_depth(f->outbox).dropped, 1);
}

/* A transient no: the next one goes meanwhile. */
static void test_what_the_broker_has_no_room_for_comes_again_after_a_pause(void **state)
{
    struct fixture *f = *state;
    resume(f);
    put(f, 0, "one");
    put(f, 0, "two");
    outbox_put_off(f->outbox, expect(f, OUTBOX_STATE, "one"), f->now_ns);
    deliver(f, OUTBOX_STATE, "two");
    expect_nothing(f);
    assert_depth(f, 1, 0, 0);
    f->now_ns += S - 1;
    expect_nothing(f);
    f->now_ns += 1;
    deliver(f, OUTBOX_STATE, "one");
    assert_int_equal(outbox_depth(f->outbox).set_aside, 0);
    assert_depth(f, 0, 0, 0);
}

static void test_what_is_refused_again_and_again_is_set_aside(void **state)
{
    struct fixture *f = *state;
    int64_t pause_ns = 0;
    resume(f);
    put(f, 1, "never");
    for (int i = 0; i <= OUTBOX_REFUSALS_MAX; i++) {
        assert_int_equal(outbox_depth(f->outbox).set_aside, 0);
        outbox_put_off(f->outbox, expect(f, OUTBOX_STATE, "never"), f->now_ns);
        put(f, 0, "good");
        deliver(f, OUTBOX_STATE, "good");
        expect_nothing(f);
        pause_ns = pause_ns < 16 * S ? (S << i) : 16 * S;
        f->now_ns += pause_ns;
    }
    expect_nothing(f);
    assert_int_equal(outbox_depth(f->outbox).set_aside, 1);
    assert_int_equal(outbox_dropped(f->outbox, 1), 1);
    assert_depth(f, 0, 0, 0);
}

/* A broker that is full takes nothing: nothing is lost of what it refuses then. */
static void test_while_nothing_is_taken_nothing_is_set_aside(void **state)
{
    struct fixture *f = *state;
    const int n = OUTBOX_LATER_MAX + 10;
    resume(f);
    for (int i = 0; i < n; i++)
        put(f, 0, "x");
    for (int round = 0; round < 20; round++) {
        while (take(f, OUTBOX_BACKFILL))
            outbox_put_off(f->outbox, f->item.ticket, f->now_ns);
        f->now_ns += 16 * S;
    }
    assert_int_equal(outbox_depth(f->outbox).set_aside, 0);
    assert_depth(f, (uint64_t)n, 0, 0);
    for (int i = 0; i < n; i++)
        deliver(f, OUTBOX_STATE, "x");
    expect_nothing(f);
}

/* A whole window is under way when the broker begins to refuse: none of it is lost. */
static void test_more_than_can_wait_is_not_lost(void **state)
{
    struct fixture *f = *state;
    enum { N = 2 * OUTBOX_LATER_MAX };
    uint64_t tickets[N];
    resume(f);
    for (int i = 0; i < N; i++)
        put(f, 0, "x");
    for (int round = 0; round < 3; round++) {
        unsigned n = 0;
        while (n < N && take(f, OUTBOX_BACKFILL))
            tickets[n++] = f->item.ticket;
        for (unsigned i = 0; i < n; i++)
            outbox_put_off(f->outbox, tickets[i], f->now_ns);
        assert_in_range(n, round == 0 ? N : 1, round == 0 ? N : OUTBOX_LATER_MAX - 1);
        assert_false(take(f, OUTBOX_BACKFILL));
        f->now_ns += 16 * S;
    }
    assert_int_equal(outbox_depth(f->outbox).set_aside, 0);
    for (int i = 0; i < N; i++)
        deliver(f, OUTBOX_STATE, "x");
    expect_nothing(f);
}

/* Samples that wait for their time keep no outcome waiting. */
static void test_outcomes_have_places_of_their_own_there(void **state)
{
    struct fixture *f = *state;
    resume(f);
    for (int i = 0; i < 2 * OUTBOX_LATER_MAX; i++)
        put(f, 0, "x");
    while (take(f, OUTBOX_BACKFILL))
        outbox_put_off(f->outbox, f->item.ticket, f->now_ns);
    outbox_put_outcome(f->outbox, "refused", NULL, 0, "refused", 7);
    outbox_put_off(f->outbox, expect(f, OUTBOX_OUTCOME, "refused"), f->now_ns);
    outbox_put_outcome(f->outbox, "taken", NULL, 0, "taken", 5);
    deliver(f, OUTBOX_OUTCOME, "taken");
    expect_nothing(f);
    f->now_ns += S;
    deliver(f, OUTBOX_OUTCOME, "refused");
}

static void test_what_waits_for_its_time_is_backlog_when_the_broker_goes(void **state)
{
    struct fixture *f = *state;
    resume(f);
    put(f, 0, "one");
    outbox_put_off(f->outbox, expect(f, OUTBOX_STATE, "one"), f->now_ns);
    outbox_lost(f->outbox);
    resume(f);
    f->now_ns += OUTBOX_RESUME_NS;
    deliver(f, OUTBOX_BACKFILL, "one");
    expect_nothing(f);
}

/* Where there is no room for more, less is asked for. */
static void test_what_is_not_asked_for_stays(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "old");
    resume(f);
    f->now_ns += OUTBOX_RESUME_NS;
    put(f, 0, "live");
    assert_false(take(f, OUTBOX_OUTCOME));
    outbox_put_outcome(f->outbox, "t", NULL, 0, "{}", 2);
    for (enum outbox_kind last = OUTBOX_OUTCOME; last <= OUTBOX_BACKFILL; last++) {
        assert_true(take(f, last));
        assert_int_equal(f->item.kind, last);
        assert_false(take(f, last));
    }
}

static void test_no_more_are_in_flight_than_can_be_told_apart(void **state)
{
    struct fixture *f = *state;
    resume(f);
    for (int i = 0; i <= OUTBOX_IN_FLIGHT_MAX; i++)
        put(f, 0, "x");
    for (int i = 0; i < OUTBOX_IN_FLIGHT_MAX; i++)
        expect(f, OUTBOX_STATE, "x");
    expect_nothing(f);
    outbox_ack(f->outbox, 1, OUTBOX_DELIVERED);
    deliver(f, OUTBOX_STATE, "x");
    assert_depth(f, OUTBOX_IN_FLIGHT_MAX - 1, 0, OUTBOX_IN_FLIGHT_MAX - 1);
}

static void test_outcomes_go_first_with_topic_and_correlation(void **state)
{
    struct fixture *f = *state;
    resume(f);
    put(f, 0, "sample");
    assert_true(outbox_put_outcome(f->outbox, "reply/to", "\0\1\2", 3, "{\"a\":1}", 7));
    assert_true(outbox_put_outcome(f->outbox, "flux/demo/b/result", NULL, 0, "{}", 2));
    assert_int_equal(outbox_depth(f->outbox).outcomes, 2);
    expect(f, OUTBOX_OUTCOME, "{\"a\":1}");
    assert_string_equal(f->item.topic, "reply/to");
    assert_int_equal(f->item.correlation_size, 3);
    assert_memory_equal(f->item.correlation, "\0\1\2", 3);
    outbox_lost(f->outbox);
    resume(f);
    put(f, 0, "live");
    deliver(f, OUTBOX_OUTCOME, "{\"a\":1}");
    deliver(f, OUTBOX_OUTCOME, "{}");
    assert_string_equal(f->item.topic, "flux/demo/b/result");
    assert_int_equal(f->item.correlation_size, 0);
    assert_int_equal(outbox_depth(f->outbox).outcomes, 0);
    deliver(f, OUTBOX_STATE, "live");
}

static void test_backlog_follows_the_live_flow_oldest_first(void **state)
{
    struct fixture *f = *state;
    resume(f);
    put(f, 0, "delivered");
    put(f, 0, "in flight");
    put(f, 0, "not taken");
    deliver(f, OUTBOX_STATE, "delivered");
    uint64_t old = expect(f, OUTBOX_STATE, "in flight");
    outbox_lost(f->outbox);
    outbox_ack(f->outbox, old, OUTBOX_DELIVERED); /* too late: it has been put back */
    put(f, 0, "while away");
    expect_nothing(f);
    assert_depth(f, 3, 3, 0);

    resume(f);
    expect_nothing(f); /* no live sample yet */
    put(f, 0, "live");
    deliver(f, OUTBOX_STATE, "live");
    deliver(f, OUTBOX_BACKFILL, "in flight");
    deliver(f, OUTBOX_BACKFILL, "not taken");
    put(f, 0, "live again");
    deliver(f, OUTBOX_STATE, "live again");
    deliver(f, OUTBOX_BACKFILL, "while away");
    expect_nothing(f);
    assert_depth(f, 0, 0, 0);
    assert_int_equal(outbox_depth(f->outbox).dropped, 0);
}

static void test_backlog_waits_for_its_own_device_but_not_for_ever(void **state)
{
    struct fixture *f = *state;
    put(f, 1, "backlog");
    resume(f);
    put(f, 0, "live");
    deliver(f, OUTBOX_STATE, "live");
    f->now_ns += OUTBOX_RESUME_NS - 1;
    expect_nothing(f);
    f->now_ns += 1;
    deliver(f, OUTBOX_BACKFILL, "backlog");
}

static void test_what_is_fresh_is_live_when_the_broker_comes(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "too old");
    f->now_ns += 1;
    put(f, 0, "just fresh");
    put(f, 1, "fresh");
    f->now_ns += OUTBOX_FRESH_NS - 1;
    outbox_resumed(f->outbox, f->now_ns);
    assert_depth(f, 3, 1, 0);
    deliver(f, OUTBOX_STATE, "just fresh");
    deliver(f, OUTBOX_STATE, "fresh");
    deliver(f, OUTBOX_BACKFILL, "too old");
    expect_nothing(f);
    assert_depth(f, 0, 0, 0);
}

/* Of the device that was at this place before nobody hears live samples any more. */
static void test_what_waits_of_a_device_that_is_no_more_is_backlog(void **state)
{
    struct fixture *f = *state;
    unsigned device = 0;
    bool online = true;
    resume(f);
    outbox_set_online(f->outbox, 1, true);
    put(f, 1, "former");
    outbox_renew_device(f->outbox, 1, true);
    assert_false(outbox_is_online(f->outbox, 1));
    assert_false(outbox_take_presence(f->outbox, &device, &online));
    put(f, 1, "its own");
    deliver(f, OUTBOX_BACKFILL, "former");
    assert_int_equal(f->item.device, DEVICES);
    deliver(f, OUTBOX_STATE, "its own");
    assert_int_equal(f->item.device, 1);
    /* One that was changed is offline, and that is told. */
    outbox_set_online(f->outbox, 1, true);
    put(f, 1, "as before");
    outbox_renew_device(f->outbox, 1, false);
    assert_true(outbox_take_presence(f->outbox, &device, &online));
    assert_true(device == 1 && !online);
    deliver(f, OUTBOX_STATE, "as before");
}

/* Without acknowledgements (QoS 0) nobody knows what was lost with a session. */
static void test_what_was_sent_just_before_a_loss_is_sent_again(void **state)
{
    struct fixture *f = *state;
    outbox_keep_sent(f->outbox, 30 * S);
    resume(f);
    put(f, 0, "old");
    deliver(f, OUTBOX_STATE, "old");
    f->now_ns += 30 * S;
    put(f, 0, "one");
    deliver(f, OUTBOX_STATE, "one");
    f->now_ns += 10 * S;
    put(f, 1, "two");
    deliver(f, OUTBOX_STATE, "two");
    put(f, 0, "three"); /* not yet sent */
    assert_depth(f, 1, 0, 0);
    outbox_lost(f->outbox);
    assert_depth(f, 3, 3, 0);
    f->now_ns += 5 * S;
    resume(f);
    put(f, 0, "live 0");
    put(f, 1, "live 1");
    deliver(f, OUTBOX_STATE, "live 0");
    deliver(f, OUTBOX_STATE, "live 1");
    deliver(f, OUTBOX_BACKFILL, "one"); /* these are acknowledged: once is enough */
    deliver(f, OUTBOX_BACKFILL, "two");
    deliver(f, OUTBOX_BACKFILL, "three");
    expect_nothing(f);
    assert_depth(f, 0, 0, 0);
    f->now_ns += 31 * S;
    put(f, 0, "new");
    deliver(f, OUTBOX_STATE, "new");
    outbox_lost(f->outbox); /* of all that alone the last is not sure */
    assert_depth(f, 1, 1, 0);
    assert_int_equal(outbox_depth(f->outbox).dropped, 0);
}

/* Room is for what waits: what was sent gives way and is not counted. */
static void test_what_was_sent_gives_way(void **state)
{
    struct fixture *f = *state;
    static char text[60000];
    memset(text, 'x', sizeof text - 1);
    outbox_keep_sent(f->outbox, 1000 * S);
    resume(f);
    for (int i = 0; i < 100; i++) {
        put(f, 0, text);
        deliver(f, OUTBOX_STATE, text);
    }
    assert_int_equal(outbox_depth(f->outbox).dropped, 0);
    outbox_lost(f->outbox);
    uint64_t waiting = outbox_depth(f->outbox).waiting;
    assert_in_range(waiting, 10, 20); /* of a MiB */
    put(f, 0, text);
    put(f, 0, text);
    assert_int_equal(outbox_depth(f->outbox).waiting + outbox_depth(f->outbox).dropped,
                     waiting + 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_goes_before_the_broker_is_there),
        TEST(test_live_samples_go_in_order_and_are_kept_until_acknowledged),
        TEST(test_what_could_not_be_sent_comes_again_in_its_place),
        TEST(test_refused_is_forgotten_and_counted),
        TEST(test_what_the_broker_has_no_room_for_comes_again_after_a_pause),
        TEST(test_what_is_refused_again_and_again_is_set_aside),
        TEST(test_while_nothing_is_taken_nothing_is_set_aside),
        TEST(test_more_than_can_wait_is_not_lost),
        TEST(test_outcomes_have_places_of_their_own_there),
        TEST(test_what_waits_for_its_time_is_backlog_when_the_broker_goes),
        TEST(test_what_is_not_asked_for_stays),
        TEST(test_no_more_are_in_flight_than_can_be_told_apart),
        TEST(test_outcomes_go_first_with_topic_and_correlation),
        TEST(test_backlog_follows_the_live_flow_oldest_first),
        TEST(test_backlog_waits_for_its_own_device_but_not_for_ever),
        TEST(test_what_is_fresh_is_live_when_the_broker_comes),
        TEST(test_what_waits_of_a_device_that_is_no_more_is_backlog),
        TEST(test_what_was_sent_just_before_a_loss_is_sent_again),
        TEST(test_what_was_sent_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
