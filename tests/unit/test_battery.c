/* battery: a stop always wins, no lease grows, and every command has one outcome. */
#include "tests/unit/battery_bed.h"

#include "bridge/base/log.h"
#include "bridge/battery/remembered.h"

#define S  CLOCK_NS_PER_S
#define MS CLOCK_NS_PER_MS

#define DEADMAN "deadman: { timeout = \"60s\"; value = -20.0; };"

static struct bed bed;

/* What comes while a call of the link is under way, once. */
static struct {
    unsigned function, address, skip; /* address 0 = any; how many such calls go by before */
    void (*act)(void);
} hook;

static void before_call(struct fake_link *fake, const struct fake_call *call)
{
    (void)fake;
    bool wanted = hook.act != NULL && call->function == hook.function &&
                  (hook.address == 0 || call->address == hook.address);
    if (!wanted || hook.skip-- > 0)
        return;
    bed.between = hook.act;
    hook.act = NULL;
}

static void at_call(unsigned function, unsigned address, unsigned skip, void (*act)(void))
{
    hook.function = function;
    hook.address = address;
    hook.skip = skip;
    hook.act = act;
    bed.fake->before = before_call;
}

static void put_stop(void)
{
    bed_put(&bed, "stop", 0);
}

static void break_with(struct fake_rule rule)
{
    fake_rule_add(bed.fake, rule);
}

/* The register does not take what is written to it. */
static void take_nothing(void)
{
    break_with((struct fake_rule){.function = FAKE_WRITE, .address = TARGET, .ignores = true});
}

static void be_silent(void)
{
    break_with((struct fake_rule){.function = FAKE_READ, .fault = FAULT_TIMEOUT});
    break_with((struct fake_rule){.function = FAKE_WRITE, .fault = FAULT_TIMEOUT, .ignores = true});
}

/* Nothing but zero was asked to be written since the call of this number. */
static void assert_only_zero_since(unsigned call)
{
    for (unsigned i = call; i < bed.fake->n_calls; i++) {
        const struct fake_call *at = &bed.fake->calls[i];
        if (at->function == FAKE_WRITE && at->address == TARGET)
            assert_int_equal(at->words[0], 0);
    }
}

static unsigned writes(void)
{
    return fake_count(bed.fake, FAKE_WRITE, TARGET);
}

static const struct outcome *last_of(const char *source)
{
    const struct outcome *found = NULL;
    for (unsigned i = 0; i < bed.n_outcomes; i++) {
        if (strcmp(bed.outcomes[i].command.source, source) == 0)
            found = &bed.outcomes[i];
    }
    return found;
}

/* ---- a command ---- */

static void test_a_setpoint_is_written_and_told(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    assert_int_equal(battery_due_ns(bed.battery), CLOCK_NEVER);
    assert_false(battery_is_busy(bed.battery));
    bed_put(&bed, "a", 50);
    assert_true(battery_is_busy(bed.battery));
    assert_false(battery_is_urgent(bed.battery));
    bed_run(&bed, S);
    bed_assert(&bed, "a", OUTCOME_CONFIRMED);
    assert_int_equal(bed_held(&bed), 50);
    assert_int_equal(bed.n_outcomes, 1);
    assert_int_equal(writes(), 1);
    assert_false(battery_is_busy(bed.battery));
    bed_end(&bed);
}

static void test_a_newer_setpoint_replaces_the_waiting_one(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed_put(&bed, "a", 50);
    bed_put(&bed, "b", 60);
    bed_assert(&bed, "a", OUTCOME_SUPERSEDED); /* at once */
    bed_run(&bed, S);
    bed_assert(&bed, "b", OUTCOME_CONFIRMED);
    assert_int_equal(writes(), 1);
    bed_end(&bed);
}

static void put_70(void)
{
    bed_put(&bed, "c", 70);
}

static void test_one_under_way_is_carried_out_before_a_newer_one(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    at_call(FAKE_READ, STATUS, 0, put_70);
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    bed_assert(&bed, "a", OUTCOME_CONFIRMED);
    bed_assert(&bed, "c", OUTCOME_CONFIRMED);
    assert_int_equal(bed_held(&bed), 70);
    bed_end(&bed);
}

static void test_an_expired_command_is_not_even_begun(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    for (int64_t late_ns = 0; late_ns < 2; late_ns++) {
        const char *id = late_ns ? "late" : "in time";
        const struct command command = bed_command(&bed, id, 50, 5 * S);
        battery_put(bed.battery, &command);
        fake_now_ns += 5 * S - 1 + late_ns;
        const unsigned calls = bed.fake->n_calls;
        bed_run(&bed, 0);
        /* Read already, it ends before it could be written. */
        bed_assert_refused(&bed, id, REASON_EXPIRED);
        assert_int_equal(bed.fake->n_calls > calls, !late_ns);
    }
    assert_int_equal(writes(), 0);
    bed_end(&bed);
}

static void test_min_interval_counts_from_the_last_write(void **state)
{
    (void)state;
    bed_begin(&bed, "min_interval = \"5s\";");
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    const int64_t written_ns = bed_outcome(&bed, "a", 0)->written_ns;
    fake_now_ns = written_ns + 5 * S - 1;
    bed_put(&bed, "b", 51);
    bed_run(&bed, 0);
    bed_assert_refused(&bed, "b", REASON_RATE_LIMITED);
    bed_put(&bed, "zero", 0);
    bed_run(&bed, 0);
    bed_assert(&bed, "zero", OUTCOME_CONFIRMED); /* and is a write, too */
    bed_put(&bed, "c", 51);
    bed_run(&bed, S);
    bed_assert_refused(&bed, "c", REASON_RATE_LIMITED);
    fake_now_ns = bed_outcome(&bed, "zero", 0)->written_ns + 5 * S;
    bed_put(&bed, "d", 51);
    bed_run(&bed, S);
    bed_assert(&bed, "d", OUTCOME_CONFIRMED);
    bed_end(&bed);
}

/* ---- a stop always wins ---- */

static void test_a_waiting_stop_is_not_replaced_by_a_setpoint(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed.fake->registers[1][TARGET] = 50;
    bed.fake->registers[1][SOE] = 5;
    bed_put(&bed, "stop", 0);
    bed_put(&bed, "newer", 60); /* will be refused: soe_low */
    assert_true(battery_is_urgent(bed.battery));
    bed_run(&bed, S);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    bed_assert_refused(&bed, "newer", REASON_SOE_LOW);
    assert_int_equal(bed_held(&bed), 0);
    bed_end(&bed);
}

static void test_a_stop_does_not_expire_on_a_slow_device(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed.fake->cost_ns = 800 * MS;
    bed_put(&bed, "a", 100);
    bed_step(&bed); /* opened */
    bed_step(&bed); /* the state is read */
    const struct command stop = bed_command(&bed, "stop", 0, S);
    battery_put(bed.battery, &stop);
    bed_run(&bed, 10 * S);
    bed_assert(&bed, "a", OUTCOME_SUPERSEDED);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_int_equal(bed_held(&bed), 0);
    bed_end(&bed);
}

/* Wherever the setpoint's sequence stands: it waits for the one transaction. */
static void test_a_stop_waits_for_the_transaction_under_way_alone(void **state)
{
    (void)state;
    for (unsigned at = 0; at < 7; at++) {
        bed_begin(&bed, "command_source = 5;");
        /* Opening, state, source, its read-back, state, write, read-back. */
        const unsigned functions[] = {FAKE_OPEN, FAKE_READ,  FAKE_WRITE, FAKE_READ,
                                      FAKE_READ, FAKE_WRITE, FAKE_READ};
        const unsigned addresses[] = {0, STATUS, SOURCE, SOURCE, STATUS, TARGET, TARGET};
        at_call(functions[at], addresses[at], at == 4 ? 1 : 0, put_stop);
        bed_put(&bed, "a", 50);
        bed_run(&bed, S);
        assert_null(hook.act);
        bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
        assert_int_equal(bed_held(&bed), 0);
        const struct outcome *stop = bed_outcome(&bed, "stop", 0);
        /* Behind the one under way come its own source and its write. */
        assert_true(stop->written_ns - stop->command.mono_ns <= MS);
        if (at < 5)
            bed_assert(&bed, "a", OUTCOME_SUPERSEDED);
        assert_int_equal(writes(), at < 5 ? 1 : 2);
        bed_end(&bed);
    }
}

/* Opening may take as long as the device's timeout: what comes meanwhile counts. */
static void test_a_stop_that_comes_while_the_link_opens_goes_first(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    /* The device closes the connection between the state and the write. */
    bed_put(&bed, "b", 60);
    for (unsigned reads = fake_count(bed.fake, FAKE_READ, STATUS);
         fake_count(bed.fake, FAKE_READ, STATUS) == reads;)
        bed_step(&bed);
    bed.fake->stale = true;
    at_call(FAKE_OPEN, 0, 0, put_stop);
    bed_run(&bed, S);
    assert_null(hook.act);
    bed_assert(&bed, "b", OUTCOME_SUPERSEDED);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_int_equal(writes(), 2);
    bed_end(&bed);
}

static void expire_now(void)
{
    fake_now_ns += 100 * S;
}

static void test_a_life_that_ends_while_the_link_opens_is_over(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed_put(&bed, "b", 60);
    for (unsigned i = 0; fake_count(bed.fake, FAKE_READ, STATUS) == 0 && i < 10; i++)
        bed_step(&bed);
    bed.fake->stale = true;
    at_call(FAKE_OPEN, 0, 0, expire_now);
    bed_run(&bed, S);
    bed_assert_refused(&bed, "b", REASON_EXPIRED);
    assert_int_equal(writes(), 0);
    bed_end(&bed);
}

static void put_source(const char *id, double value)
{
    struct command command = bed_command(&bed, id, 50, 60 * S);
    command.point = (unsigned)bed.device->control.source;
    command.value = value;
    assert_true(battery_put(bed.battery, &command));
}

/* A device has one link: a stop waits for no other point either. */
static void test_a_stop_does_not_wait_for_another_points_read_backs(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed.fake->registers[1][TARGET] = 50;
    break_with((struct fake_rule){.function = FAKE_WRITE, .address = SOURCE, .ignores = true});
    put_source("source", 3);
    at_call(FAKE_READ, SOURCE, 2, put_stop);
    bed_run(&bed, 3 * S);
    assert_null(hook.act);
    const struct outcome *stop = bed_outcome(&bed, "stop", 0);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_true(stop->written_ns - stop->command.mono_ns <= MS);
    assert_non_null(bed_outcome(&bed, "source", 0));
    bed_end(&bed);
}

/* And what is not written yet there is no setpoint: it waits, and is carried out. */
static void test_another_points_command_comes_behind_the_stop(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    put_source("source", 3);
    bed_step(&bed); /* begun */
    put_stop();
    bed_run(&bed, S);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    bed_assert(&bed, "source", OUTCOME_CONFIRMED);
    assert_true(bed_outcome(&bed, "stop", 0)->written_ns <
                bed_outcome(&bed, "source", 0)->written_ns);
    assert_int_equal(bed.fake->registers[1][SOURCE], 3);
    bed_end(&bed);
}

static void test_many_stops_are_one_write_and_an_outcome_each(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    char id[8];
    for (int i = 0; i < 8; i++) {
        snprintf(id, sizeof id, "s%d", i);
        bed_put(&bed, id, 0);
    }
    const struct command more = bed_command(&bed, "s8", 0, S);
    assert_false(battery_put(bed.battery, &more)); /* no room before the next step */
    bed_step(&bed);
    assert_true(battery_put(bed.battery, &more));
    bed_run(&bed, S);
    for (int i = 0; i < 9; i++) {
        snprintf(id, sizeof id, "s%d", i);
        bed_assert(&bed, id, OUTCOME_CONFIRMED);
    }
    assert_int_equal(writes(), 2);
    assert_int_equal(bed.n_outcomes, 9);
    bed_end(&bed);
}

/* The second waits for the first, which is being read back: nobody spins. */
static void test_a_stop_behind_a_stop_is_awaited(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed.fake->registers[1][TARGET] = 50;
    break_with(
        (struct fake_rule){.function = FAKE_WRITE, .address = TARGET, .to = 1, .takes_at = 5});
    at_call(FAKE_READ, TARGET, 1, put_stop);
    bed_put(&bed, "first", 0);
    bed_run(&bed, 2 * S);
    bed_assert(&bed, "first", OUTCOME_CONFIRMED);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    bed_end(&bed);
}

static void test_an_unconfirmed_stop_is_told_at_once_and_tried_each_second(void **state)
{
    (void)state;
    const struct {
        struct fake_rule rule;
        enum outcome_kind first;
    } rows[] = {
        {{.function = FAKE_WRITE, .address = TARGET, .ignores = true}, OUTCOME_MISMATCH},
        {{.function = FAKE_WRITE, .address = TARGET, .fault = FAULT_BUSY}, OUTCOME_FAILED},
        {{.function = FAKE_OPEN, .fault = FAULT_CONNECTION}, OUTCOME_UNKNOWN},
        {{.function = FAKE_READ, .fault = FAULT_TIMEOUT}, OUTCOME_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bed_begin(&bed, "");
        bed.fake->registers[1][TARGET] = 50;
        break_with(rows[i].rule);
        bed_put(&bed, "stop", 0);
        bed_run(&bed, 30 * S);
        bed_assert(&bed, "stop", rows[i].first);
        assert_int_equal(bed.n_outcomes, 1);
        const unsigned tries = i == 2 ? bed.fake->n_opened : writes();
        assert_in_range(tries, i == 3 ? 4U : 25U, 31); /* the last: 5 s of waiting each */
        bed.fake->n_rules = 0;
        bed_run(&bed, 8 * S);
        bed_assert_corrected(&bed, "stop", OUTCOME_CONFIRMED);
        const unsigned done = writes();
        bed_run(&bed, 10 * S);
        assert_int_equal(writes(), done); /* once confirmed it is over */
        assert_int_equal(battery_due_ns(bed.battery), CLOCK_NEVER);
        bed_end(&bed);
    }
}

static void test_a_newer_setpoint_ends_the_tries(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed.fake->registers[1][TARGET] = 50;
    take_nothing();
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 3 * S);
    bed.fake->registers[1][SOE] = 5;
    bed_put(&bed, "refused", 60);
    bed_run(&bed, 3 * S);
    bed_assert_refused(&bed, "refused", REASON_SOE_LOW);
    const unsigned tries = writes();
    bed_run(&bed, 3 * S);
    assert_true(writes() > tries); /* what is refused ends nothing */
    bed.fake->registers[1][SOE] = 54;
    bed.fake->n_rules = 0;
    bed_put(&bed, "newer", 60);
    bed_run(&bed, 10 * S);
    bed_assert(&bed, "newer", OUTCOME_CONFIRMED);
    assert_int_equal(bed_held(&bed), 60);
    bed_end(&bed);
}

/* A battery that takes no zero: a newer setpoint is begun all the same. */
static void test_what_is_tried_each_second_keeps_nobody_waiting(void **state)
{
    (void)state;
    for (int slow = 0; slow < 2; slow++) {
        bed_begin(&bed, "");
        bed.fake->cost_ns = slow ? 800 * MS : MS;
        bed.fake->registers[1][TARGET] = 50;
        take_nothing();
        bed_put(&bed, "stop", 0);
        bed_run(&bed, 5 * S);
        bed_put(&bed, "newer", 60);
        put_source("source", 3);
        bed_run(&bed, 12 * S);
        bed_assert(&bed, "newer", OUTCOME_MISMATCH);
        bed_assert(&bed, "source", OUTCOME_CONFIRMED);
        bed_end(&bed);
    }
}

static void test_a_stop_survives_a_restart(void **state)
{
    (void)state;
    for (int taken = 0; taken < 2; taken++) {
        bed_begin(&bed, "");
        bed.fake->registers[1][TARGET] = 50;
        be_silent();
        bed_put(&bed, "stop", 0);
        if (taken) /* else it is killed right after it was accepted */
            bed_run(&bed, 3 * S);
        bed_kill(&bed);
        bed.fake->n_rules = 0;
        bed_start(&bed);
        bed_run(&bed, S);
        assert_int_equal(bed_held(&bed), 0);
        const struct outcome *last = bed_outcome(&bed, "stop", taken ? 1U : 0U);
        assert_non_null(last);
        assert_int_equal(last->kind, OUTCOME_CONFIRMED);
        assert_true(last->correction);
        /* Confirmed is confirmed, in the next run too. */
        bed_kill(&bed);
        const unsigned done = writes();
        bed_start(&bed);
        bed_run(&bed, 5 * S);
        assert_int_equal(writes(), done);
        bed_end(&bed);
    }
}

static void put_many_stops(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        char id[8];
        snprintf(id, sizeof id, "s-%u", i);
        bed_put(&bed, id, 0);
        bed_run(&bed, 100 * MS);
    }
}

/* As many as can be owed; of more the oldest, which had their answers, go. */
static void test_each_stop_that_is_owed_is_corrected_after_a_restart(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed.fake->registers[1][TARGET] = 50;
    be_silent();
    put_many_stops(0, 10);
    bed_kill(&bed);
    bed_start(&bed);
    put_many_stops(10, 11); /* another, in a run that owes them all */
    bed_kill(&bed);
    bed.fake->n_rules = 0;
    bed_start(&bed);
    bed_run(&bed, S);
    assert_int_equal(bed_held(&bed), 0);
    for (unsigned i = 0; i < 11; i++) {
        char id[8];
        snprintf(id, sizeof id, "s-%u", i);
        bed_assert(&bed, id, OUTCOME_UNKNOWN);
        if (i < 3)
            assert_null(bed_outcome(&bed, id, 1));
        else
            bed_assert_corrected(&bed, id, OUTCOME_CONFIRMED);
    }
    bed_end(&bed);
}

/* ---- what is kept before it is told ---- */

/* What was kept when the last outcome was told is what is kept now, and has this text. */
static void assert_kept(const char *begin)
{
    char text[REMEMBERED_TEXT_MAX] = "";
    (void)state_get(bed.state, "battery/b1", text, sizeof text);
    assert_memory_equal(text, begin, strlen(begin));
    assert_true(bed.outcomes[bed.n_outcomes - 1].kept_mark == state_mark(bed.state));
}

static void test_what_is_owed_and_the_lease_are_kept_before_they_are_told(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "go", 50);
    bed_run(&bed, 2 * S);
    bed_assert(&bed, "go", OUTCOME_CONFIRMED);
    assert_kept("lease\t");
    be_silent();
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 500 * MS);
    bed_assert(&bed, "stop", OUTCOME_UNKNOWN);
    assert_kept("stop\tstop\t");
    bed.fake->n_rules = 0;
    bed_run(&bed, 3 * S);
    bed_assert_corrected(&bed, "stop", OUTCOME_CONFIRMED);
    assert_kept("stopped");
    be_silent();
    bed_put(&bed, "last", 0);
    battery_abandon(bed.battery);
    bed_assert(&bed, "last", OUTCOME_UNKNOWN);
    assert_kept("stop\tlast\t");
    bed_end(&bed);
}

/* ---- the lease ---- */

static void test_the_deadman_writes_when_the_lease_is_over(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    const int64_t end_ns = bed_outcome(&bed, "a", 0)->written_ns + 60 * S;
    bed_run_until(&bed, end_ns - 1);
    assert_int_equal(bed_held(&bed), 50);
    bed_run_until(&bed, end_ns + S);
    assert_int_equal(bed_held(&bed), -20);
    const struct outcome *own = last_of("deadman");
    assert_non_null(own);
    assert_int_equal(own->kind, OUTCOME_CONFIRMED);
    assert_string_equal(own->command.id, "deadman-5f3a9c1e-1");
    assert_string_equal(own->command.point_name, "target_power");
    assert_int_equal(battery_due_ns(bed.battery), CLOCK_NEVER); /* done */
    bed_end(&bed);
}

/* What is held goes to the fallback of DEADMAN at that moment, not before. */
static void end_with_lease(int64_t end_ns, int held)
{
    bed_run_until(&bed, end_ns - 1);
    assert_int_equal(bed_held(&bed), held);
    bed_run(&bed, S);
    assert_int_equal(bed_held(&bed), -20);
    bed_end(&bed);
}

static void test_nothing_but_a_fresh_confirmed_setpoint_renews_it(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN "min_interval = \"1s\";");
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    const int64_t end_ns = bed_outcome(&bed, "a", 0)->written_ns + 60 * S;
    bed_run(&bed, 20 * S);
    bed.fake->registers[1][SOE] = 5;
    bed_put(&bed, "refused", 60);
    bed_run(&bed, S);
    bed_assert_refused(&bed, "refused", REASON_SOE_LOW);
    bed_poll(&bed); /* it is still held */
    bed.fake->registers[1][SOE] = 54;
    break_with((struct fake_rule){.function = FAKE_WRITE, .fault = FAULT_BUSY});
    bed_put(&bed, "failed", 60);
    bed_run(&bed, S);
    bed_assert(&bed, "failed", OUTCOME_FAILED);
    bed.fake->n_rules = 0;
    break_with((struct fake_rule){.function = FAKE_WRITE, .fault = FAULT_TIMEOUT});
    break_with((struct fake_rule){
        .function = FAKE_READ, .address = TARGET, .from = 2, .fault = FAULT_TIMEOUT});
    bed_put(&bed, "unknown", 60);
    bed_run(&bed, 15 * S);
    bed_assert(&bed, "unknown", OUTCOME_UNKNOWN);
    bed.fake->n_rules = 0;
    bed_poll(&bed);
    bed_assert_corrected(&bed, "unknown", OUTCOME_CONFIRMED); /* renews nothing either */
    end_with_lease(end_ns, 60);
}

static void test_a_restart_makes_no_lease_longer(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    const int64_t end_ns = bed_outcome(&bed, "a", 0)->written_ns + 60 * S;
    for (int i = 0; i < 5; i++) {
        bed_run(&bed, 11 * S);
        bed_kill(&bed);
        bed_start(&bed);
        bed_poll(&bed);
    }
    end_with_lease(end_ns, 50);
}

/* Killed between a setpoint's write and its read-back: the stop before it is over. */
static void test_a_written_setpoint_ends_a_stop_for_the_next_run_too(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    take_nothing();
    bed.fake->registers[1][TARGET] = 50;
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 2 * S);
    bed.fake->n_rules = 0;
    bed_put(&bed, "a", 60);
    for (int i = 0; i < 100 && bed_held(&bed) != 60; i++)
        bed_step(&bed);
    bed_kill(&bed);
    bed_start(&bed);
    bed_run(&bed, 10 * S);
    assert_int_equal(bed_held(&bed), 60);
    bed_end(&bed);
}

/* The bridge's own zero is being read back: a dispatcher's does not wait for that. */
static void test_a_stop_does_not_wait_for_the_deadmans_zero(void **state)
{
    (void)state;
    bed_begin(&bed, "deadman: { timeout = \"60s\"; value = 0.0; };");
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    take_nothing();
    at_call(FAKE_READ, TARGET, 2, put_stop);
    bed_run(&bed, 62 * S);
    assert_null(hook.act);
    const struct outcome *stop = bed_outcome(&bed, "stop", 0);
    assert_non_null(stop);
    assert_int_equal(stop->written_ns, stop->command.mono_ns);
    bed_end(&bed);
}

/* Nor after a stop, when the setpoint that came then is not confirmed. */
static void test_an_unconfirmed_setpoint_has_a_lease_that_survives(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "stop", 0);
    bed_run(&bed, S);
    break_with((struct fake_rule){.function = FAKE_WRITE, .fault = FAULT_TIMEOUT});
    break_with((struct fake_rule){
        .function = FAKE_READ, .address = TARGET, .from = 2, .fault = FAULT_TIMEOUT});
    bed_put(&bed, "a", 50);
    bed_run(&bed, 15 * S);
    bed_assert(&bed, "a", OUTCOME_UNKNOWN);
    const int64_t end_ns = bed_outcome(&bed, "a", 0)->written_ns + 60 * S;
    bed.fake->n_rules = 0;
    bed_run(&bed, 20 * S);
    bed_kill(&bed);
    bed_start(&bed);
    bed_poll(&bed);
    end_with_lease(end_ns, 50);
}

static void test_an_orphan_of_an_earlier_run_gets_a_lease(void **state)
{
    (void)state;
    const int held[] = {50, -20, 0};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) {
        bed_begin(&bed, DEADMAN);
        bed.fake->registers[1][TARGET] = (uint16_t)held[i];
        bed_poll(&bed);
        bed_run(&bed, 59 * S);
        assert_int_equal(bed_held(&bed), held[i]);
        bed_run(&bed, 2 * S);
        assert_int_equal(bed_held(&bed), i == 0 ? -20 : held[i]);
        assert_int_equal(bed.n_outcomes, i == 0);
        bed_end(&bed);
    }
}

static void test_a_fallback_that_is_not_allowed_becomes_zero(void **state)
{
    (void)state;
    const struct fake_rule rows[] = {
        {.function = FAKE_READ, .address = SOE, .fault = FAULT_ILLEGAL_ADDRESS},
        {.function = FAKE_READ, .address = SOE, .fault = FAULT_DEVICE_FAILURE},
        {.function = FAKE_READ, .address = STATUS, .fault = FAULT_TIMEOUT},
        {0}, /* full: it may not be charged */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bed_begin(&bed, DEADMAN);
        bed_put(&bed, "a", 50);
        bed_run(&bed, S);
        if (rows[i].function != 0)
            break_with(rows[i]);
        else
            bed.fake->registers[1][SOE] = 95;
        bed_run(&bed, 85 * S);
        assert_int_equal(bed_held(&bed), 0);
        assert_int_equal(last_of("deadman")->kind, OUTCOME_CONFIRMED);
        bed_end(&bed);
    }
}

static void test_the_deadman_tries_until_it_is_confirmed(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    take_nothing();
    bed_run(&bed, 79 * S);
    assert_in_range(writes(), 10, 22);
    assert_int_equal(bed.n_outcomes, 2); /* told once until it changes */
    assert_int_equal(last_of("deadman")->kind, OUTCOME_MISMATCH);
    assert_int_equal(bed.health.deadman_firing, 1);
    bed_put(&bed, "newer", 30); /* whose turn comes all the same */
    bed_run(&bed, 5 * S);
    bed_assert(&bed, "newer", OUTCOME_MISMATCH);
    bed.fake->n_rules = 0;
    bed_run(&bed, 3 * S);
    assert_int_equal(bed_held(&bed), -20);
    assert_int_equal(last_of("deadman")->kind, OUTCOME_CONFIRMED);
    assert_int_equal(bed.health.deadman_firing, 0);
    bed_end(&bed);
}

/* The stream of a dispatcher that is refused holds up nothing. */
static void test_refused_commands_do_not_put_the_deadman_off(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    bed.fake->registers[1][SOE] = 95;
    bed.fake->cost_ns = 800 * MS;
    const int64_t end_ns = bed_outcome(&bed, "a", 0)->written_ns + 60 * S;
    for (int i = 0; fake_now_ns < end_ns + 10 * S; i++) {
        char id[8];
        snprintf(id, sizeof id, "r%d", i);
        bed_put(&bed, id, -60);
        bed_step(&bed);
    }
    assert_int_equal(bed_held(&bed), 0);
    bed_end(&bed);
}

static void test_the_deadman_writes_over_nothing_newer(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    at_call(FAKE_READ, STATUS, 0, put_stop); /* which it reads to judge its fallback */
    const unsigned calls = bed.fake->n_calls;
    bed_run(&bed, 90 * S);
    assert_null(hook.act);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_int_equal(bed_held(&bed), 0);
    assert_only_zero_since(calls);
    assert_null(last_of("deadman"));
    bed_end(&bed);
}

static void test_after_a_stop_there_is_no_lease(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    bed_put(&bed, "a", 50);
    at_call(FAKE_READ, TARGET, 0, put_stop); /* written, and not yet read back */
    bed_run(&bed, S);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_int_equal(battery_due_ns(bed.battery), CLOCK_NEVER);
    /* What somebody else puts there then is brought to zero, to nothing else, and a
     * restart does not put that off. */
    const unsigned calls = bed.fake->n_calls;
    bed.fake->registers[1][TARGET] = (uint16_t)-20;
    bed_poll(&bed);
    bed_run(&bed, 40 * S);
    bed_kill(&bed);
    bed_start(&bed);
    bed_poll(&bed);
    bed_run(&bed, 21 * S);
    assert_int_equal(bed_held(&bed), 0);
    assert_only_zero_since(calls);
    bed_end(&bed);
}

/* ---- another fluxbridge ---- */

static int somebody_else(struct claim *claim)
{
    char holder[CLAIM_TEXT_MAX];
    claim_init(claim);
    return claim_hold(claim, bed.fake->link.peer, 1, "another bridge", holder);
}

static void test_only_who_holds_the_claim_writes_a_setpoint(void **state)
{
    (void)state;
    struct claim claim;
    bed_begin(&bed, DEADMAN);
    bed.fake->registers[1][TARGET] = 80; /* the owner's */
    assert_true(somebody_else(&claim));
    bed_poll(&bed);
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    bed_assert_refused(&bed, "a", REASON_NOT_OWNER);
    assert_non_null(strstr(bed_outcome(&bed, "a", 0)->detail, "another bridge"));
    bed_run(&bed, 200 * S);
    assert_int_equal(bed.fake->n_writes, 0); /* no deadman of ours over the owner's */
    assert_int_equal(bed.n_outcomes, 1);
    bed_put(&bed, "stop", 0);
    bed_run(&bed, S);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED); /* that needs no claim */
    claim_release(&claim);
    bed_put(&bed, "b", 50);
    bed_run(&bed, S);
    bed_assert(&bed, "b", OUTCOME_CONFIRMED);
    assert_false(somebody_else(&claim));
    bed_end(&bed);
}

/* ---- what was unknown ---- */

static void lose_reply(unsigned address)
{
    break_with(
        (struct fake_rule){.function = FAKE_WRITE, .address = address, .fault = FAULT_TIMEOUT});
    break_with((struct fake_rule){.function = FAKE_READ,
                                  .address = address,
                                  .from = address == TARGET ? 2 : 1,
                                  .fault = FAULT_TIMEOUT});
}

static void test_another_command_before_the_next_poll_loses_no_correction(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    lose_reply(TARGET);
    bed_put(&bed, "a", 50);
    bed_run(&bed, 15 * S);
    bed_assert(&bed, "a", OUTCOME_UNKNOWN);
    bed.fake->n_rules = 0;
    bed_put(&bed, "b", 60);
    bed_run(&bed, S);
    bed_assert_corrected(&bed, "a", OUTCOME_CONFIRMED); /* looked at before */
    bed_assert(&bed, "b", OUTCOME_CONFIRMED);
    lose_reply(TARGET);
    bed_put(&bed, "c", 70);
    bed_run(&bed, 15 * S);
    bed.fake->n_rules = 0;
    bed_put(&bed, "stop", 0); /* which does not look: nobody will ever know */
    bed_run(&bed, S);
    bed_assert(&bed, "c", OUTCOME_UNKNOWN);
    bed_assert_corrected(&bed, "c", OUTCOME_SUPERSEDED);
    bed_end(&bed);
}

static void test_each_point_has_its_own_correction(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    lose_reply(TARGET);
    bed_put(&bed, "a", 50);
    bed_run(&bed, 15 * S);
    bed.fake->n_rules = 0;
    lose_reply(SOURCE);
    put_source("source", 3);
    bed_run(&bed, 15 * S);
    bed_assert(&bed, "a", OUTCOME_UNKNOWN);
    bed_assert(&bed, "source", OUTCOME_UNKNOWN);
    bed.fake->n_rules = 0;
    bed_poll(&bed);
    bed_assert_corrected(&bed, "a", OUTCOME_CONFIRMED);
    bed_assert_corrected(&bed, "source", OUTCOME_CONFIRMED);
    bed_end(&bed);
}

/* A scan that a command came between may have read what was there before. */
static void test_a_poll_of_before_says_nothing(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    struct value values[PROFILE_POINTS_MAX] = {{.state = VALUE_ABSENT}};
    const int64_t before_ns = fake_now_ns;
    values[bed.device->control.setpoint] = (struct value){.state = VALUE_READ};
    bed_put(&bed, "a", 50);
    bed_run(&bed, S);
    battery_see(bed.battery, &bed.fake->link, values, before_ns); /* zero, then */
    bed_run(&bed, 70 * S);
    assert_int_equal(bed_held(&bed), -20);
    bed_end(&bed);
}

/* ---- a line with others on it ---- */

static void test_a_silent_battery_takes_little_of_its_neighbours_time(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed_kill(&bed);
    bed.shares_line = true;
    bed_start(&bed);
    be_silent();
    bed_put(&bed, "a", 50);
    bed_run(&bed, 6 * S);
    bed_assert_refused(&bed, "a", REASON_DEVICE_OFFLINE);
    assert_true(battery_rest_ns(bed.battery) > fake_now_ns);
    const unsigned calls = bed.fake->n_calls;
    bed_put(&bed, "b", 50);
    bed_run(&bed, 0);
    bed_assert_refused(&bed, "b", REASON_DEVICE_OFFLINE);
    assert_int_equal(bed.fake->n_calls, calls); /* not asked */
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 20 * S);
    bed_assert(&bed, "stop", OUTCOME_UNKNOWN);
    assert_true(writes() > 0); /* a stop is tried at once */
    const unsigned tries = writes();
    bed_put(&bed, "again", 0);
    bed_assert(&bed, "again", OUTCOME_UNKNOWN); /* but its like only in its turn */
    bed_run_until(&bed, battery_rest_ns(bed.battery) - 1);
    assert_int_equal(writes(), tries);
    bed.fake->n_rules = 0;
    bed_run(&bed, 300 * S);
    bed_assert_corrected(&bed, "stop", OUTCOME_CONFIRMED);
    bed_assert_corrected(&bed, "again", OUTCOME_CONFIRMED);
    bed_end(&bed);
}

/* ---- the end ---- */

static void run_to_leave(void)
{
    battery_leave(bed.battery);
    for (unsigned i = 0; !battery_has_left(bed.battery); i++) {
        assert_true(i < 100000);
        int64_t due_ns = battery_due_ns(bed.battery);
        assert_true(due_ns != CLOCK_NEVER);
        bed_run_until(&bed, due_ns > fake_now_ns ? due_ns : fake_now_ns);
    }
    battery_abandon(bed.battery);
}

static void test_every_command_has_an_outcome_at_the_end(void **state)
{
    (void)state;
    for (unsigned steps = 0; steps < 6; steps++) {
        bed_begin(&bed, "");
        bed_put(&bed, "a", 50);
        for (unsigned i = 0; i < steps; i++)
            bed_step(&bed);
        bed_put(&bed, "b", 60);
        put_source("source", 3);
        run_to_leave();
        assert_non_null(bed_outcome(&bed, "a", 0));
        if (bed_outcome(&bed, "a", 0)->written_ns == 0 &&
            bed_outcome(&bed, "a", 0)->kind != OUTCOME_SUPERSEDED)
            bed_assert_refused(&bed, "a", REASON_SHUTTING_DOWN);
        bed_assert_refused(&bed, "b", REASON_SHUTTING_DOWN);
        bed_assert_refused(&bed, "source", REASON_SHUTTING_DOWN);
        bed_put(&bed, "late", 70);
        bed_assert_refused(&bed, "late", REASON_SHUTTING_DOWN);
        assert_int_equal(bed.n_outcomes, 4);
        bed_end(&bed);
    }
}

static void test_a_stop_is_carried_out_at_the_end(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed.fake->registers[1][TARGET] = 50;
    bed_put(&bed, "stop", 0);
    run_to_leave();
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    bed_put(&bed, "late", 0); /* even then */
    bed_run(&bed, S);
    bed_assert(&bed, "late", OUTCOME_CONFIRMED);
    bed_end(&bed);
}

/* What the thread has no time for is told, and the next run's. */
static void test_an_abandoned_stop_is_unknown_and_kept(void **state)
{
    (void)state;
    for (unsigned steps = 0; steps < 3; steps++) {
        bed_begin(&bed, "command_source = 5;");
        bed.fake->registers[1][TARGET] = 50;
        bed_put(&bed, "stop", 0);
        for (unsigned i = 0; i < steps; i++)
            bed_step(&bed);
        bed_put(&bed, "second", 0);
        battery_abandon(bed.battery);
        bed_assert(&bed, "stop", OUTCOME_UNKNOWN);
        bed_assert(&bed, "second", OUTCOME_UNKNOWN);
        bed_kill(&bed);
        bed_start(&bed);
        bed_run(&bed, S);
        assert_int_equal(bed_held(&bed), 0);
        bed_assert_corrected(&bed, "second", OUTCOME_CONFIRMED);
        bed_end(&bed);
    }
}

#define ON_EXIT DEADMAN "on_exit = \"fallback\";"

static void test_on_exit_writes_the_fallback_or_zero(void **state)
{
    (void)state;
    for (int forbidden = 0; forbidden < 2; forbidden++) {
        bed_begin(&bed, ON_EXIT);
        bed_put(&bed, "a", 50);
        bed_run(&bed, S);
        bed.fake->cost_ns = 800 * MS;
        if (forbidden)
            bed.fake->registers[1][SOE] = 95;
        run_to_leave();
        assert_int_equal(bed_held(&bed), forbidden ? 0 : -20);
        assert_int_equal(last_of("exit")->kind, OUTCOME_CONFIRMED);
        bed_end(&bed);
    }
}

static void test_on_exit_follows_no_stop(void **state)
{
    (void)state;
    for (int late = 0; late < 2; late++) {
        bed_begin(&bed, ON_EXIT);
        bed_put(&bed, "a", 50);
        bed_run(&bed, S);
        const unsigned calls = bed.fake->n_calls;
        if (late)
            at_call(FAKE_READ, STATUS, 0, put_stop); /* while the fallback is judged */
        else
            put_stop();
        run_to_leave();
        bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
        assert_int_equal(bed_held(&bed), 0);
        assert_only_zero_since(calls);
        bed_end(&bed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_setpoint_is_written_and_told),
        cmocka_unit_test(test_a_newer_setpoint_replaces_the_waiting_one),
        cmocka_unit_test(test_one_under_way_is_carried_out_before_a_newer_one),
        cmocka_unit_test(test_an_expired_command_is_not_even_begun),
        cmocka_unit_test(test_min_interval_counts_from_the_last_write),
        cmocka_unit_test(test_a_waiting_stop_is_not_replaced_by_a_setpoint),
        cmocka_unit_test(test_a_stop_does_not_expire_on_a_slow_device),
        cmocka_unit_test(test_a_stop_waits_for_the_transaction_under_way_alone),
        cmocka_unit_test(test_a_stop_that_comes_while_the_link_opens_goes_first),
        cmocka_unit_test(test_a_life_that_ends_while_the_link_opens_is_over),
        cmocka_unit_test(test_a_stop_does_not_wait_for_another_points_read_backs),
        cmocka_unit_test(test_another_points_command_comes_behind_the_stop),
        cmocka_unit_test(test_many_stops_are_one_write_and_an_outcome_each),
        cmocka_unit_test(test_a_stop_behind_a_stop_is_awaited),
        cmocka_unit_test(test_an_unconfirmed_stop_is_told_at_once_and_tried_each_second),
        cmocka_unit_test(test_a_newer_setpoint_ends_the_tries),
        cmocka_unit_test(test_what_is_tried_each_second_keeps_nobody_waiting),
        cmocka_unit_test(test_a_stop_survives_a_restart),
        cmocka_unit_test(test_each_stop_that_is_owed_is_corrected_after_a_restart),
        cmocka_unit_test(test_what_is_owed_and_the_lease_are_kept_before_they_are_told),
        cmocka_unit_test(test_the_deadman_writes_when_the_lease_is_over),
        cmocka_unit_test(test_nothing_but_a_fresh_confirmed_setpoint_renews_it),
        cmocka_unit_test(test_a_restart_makes_no_lease_longer),
        cmocka_unit_test(test_a_written_setpoint_ends_a_stop_for_the_next_run_too),
        cmocka_unit_test(test_a_stop_does_not_wait_for_the_deadmans_zero),
        cmocka_unit_test(test_an_unconfirmed_setpoint_has_a_lease_that_survives),
        cmocka_unit_test(test_an_orphan_of_an_earlier_run_gets_a_lease),
        cmocka_unit_test(test_a_fallback_that_is_not_allowed_becomes_zero),
        cmocka_unit_test(test_the_deadman_tries_until_it_is_confirmed),
        cmocka_unit_test(test_refused_commands_do_not_put_the_deadman_off),
        cmocka_unit_test(test_the_deadman_writes_over_nothing_newer),
        cmocka_unit_test(test_after_a_stop_there_is_no_lease),
        cmocka_unit_test(test_only_who_holds_the_claim_writes_a_setpoint),
        cmocka_unit_test(test_another_command_before_the_next_poll_loses_no_correction),
        cmocka_unit_test(test_each_point_has_its_own_correction),
        cmocka_unit_test(test_a_poll_of_before_says_nothing),
        cmocka_unit_test(test_a_silent_battery_takes_little_of_its_neighbours_time),
        cmocka_unit_test(test_every_command_has_an_outcome_at_the_end),
        cmocka_unit_test(test_a_stop_is_carried_out_at_the_end),
        cmocka_unit_test(test_an_abandoned_stop_is_unknown_and_kept),
        cmocka_unit_test(test_on_exit_writes_the_fallback_or_zero),
        cmocka_unit_test(test_on_exit_follows_no_stop),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
