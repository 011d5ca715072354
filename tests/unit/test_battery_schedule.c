/* battery, with a schedule: it passes the one door, and gives way to all that goes before. */
#include "tests/unit/battery_acts.h"

#include "bridge/base/log.h"
#include "bridge/wire/schedule_json.h"

#define MINUTE (60 * S)

/* Minutes after the beginning, and kW. */
struct row {
    int from, to;
    double value;
};

static void offer(int revision, unsigned n, const struct row *rows)
{
    char text[4096], detail[DETAIL_MAX] = "";
    size_t used = (size_t)snprintf(text, sizeof text,
                                   "{\"id\":\"day\",\"revision\":%d,\"valid_until\":%lld,"
                                   "\"entries\":[",
                                   revision, (long long)FAKE_UTC_MS + 864000000);
    for (unsigned i = 0; i < n; i++)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "%s{\"start\":%lld,\"end\":%lld,\"value\":%.17g}",
                                 i > 0 ? "," : "", (long long)FAKE_UTC_MS + rows[i].from * 60000LL,
                                 (long long)FAKE_UTC_MS + rows[i].to * 60000LL, rows[i].value);
    (void)snprintf(text + used, sizeof text - used, "]}");
    struct command command = {.offers = true, .mono_ns = fake_now_ns, .utc_ms = clock_utc_ms()};
    (void)snprintf(command.point_name, sizeof command.point_name, "schedule");
    assert_int_equal(schedule_json_parse(text, strlen(text), &command, detail), REASON_NONE);
    assert_true(battery_put(bed.battery, &command));
}

static const struct row two[] = {{10, 20, 50}, {20, 30, -30}};

static void at(int minute)
{
    bed_run_until(&bed, FAKE_MONO_NS + minute * MINUTE);
}

static const struct outcome *last(void)
{
    assert_true(bed.n_outcomes > 0);
    return &bed.outcomes[bed.n_outcomes - 1];
}

static enum schedule_state state_now(void)
{
    struct schedule_status status;
    battery_describe_schedule(bed.battery, &status);
    return status.state;
}

/* ---- accepted, and carried out ---- */

static void test_it_is_accepted_and_carried_out(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    offer(7, 2, two);
    assert_int_equal(bed.n_outcomes, 1);
    assert_int_equal(last()->kind, OUTCOME_ACCEPTED);
    assert_int_equal(last()->command.revision, 7);
    assert_null(last()->command.timetable);
    assert_int_equal(state_now(), SCHEDULE_WAITING);
    at(9);
    assert_int_equal(writes(), 0);
    at(10);
    bed_run(&bed, S);
    assert_int_equal(bed_held(&bed), 50);
    assert_int_equal(last()->kind, OUTCOME_CONFIRMED);
    assert_int_equal(last()->command.author, AUTHOR_SCHEDULE);
    assert_string_equal(last()->command.source, "schedule:day");
    assert_int_equal(state_now(), SCHEDULE_RUNNING);
    at(20);
    bed_run(&bed, S);
    assert_int_equal(bed_held(&bed), -30);
    at(31);
    assert_int_equal(bed_held(&bed), 0);
    assert_int_equal(state_now(), SCHEDULE_ENDED);
    assert_int_equal(writes(), 3);
    assert_int_equal(bed.n_outcomes, 4);
    bed_end(&bed);
}

static void test_a_late_revision_is_refused(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    offer(7, 2, two);
    offer(7, 0, NULL);
    assert_int_equal(last()->kind, OUTCOME_REFUSED);
    assert_int_equal(last()->reason, REASON_STALE_REVISION);
    offer(6, 0, NULL);
    assert_int_equal(last()->reason, REASON_STALE_REVISION);
    at(11);
    assert_int_equal(bed_held(&bed), 50);
    offer(8, 0, NULL);
    assert_int_equal(last()->kind, OUTCOME_ACCEPTED);
    bed_run(&bed, S);
    assert_int_equal(bed_held(&bed), 0);
    bed_end(&bed);
}

static void cancel(void)
{
    offer(8, 0, NULL);
}

static void revise(void)
{
    offer(8, 1, (const struct row[]){{10, 20, -30}});
}

/* Accepted while the battery is asked for its state: of the one before nothing is written. */
static void test_another_one_in_the_middle_of_an_entrys_sequence(void **state)
{
    (void)state;
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        bed_begin(&bed, "");
        offer(7, 2, two);
        bed_run_until(&bed, FAKE_MONO_NS + 10 * MINUTE - 1);
        at_call(FAKE_READ, STATUS, 0, cancelled ? cancel : revise);
        bed_run(&bed, 3 * MINUTE);
        assert_int_equal(bed.outcomes[1].kind, OUTCOME_ACCEPTED);
        assert_int_equal(bed.outcomes[2].reason, REASON_EXPIRED);
        assert_int_equal(bed_held(&bed), cancelled ? 0 : -30);
        assert_int_equal(writes(), cancelled ? 0 : 1);
        bed_end(&bed);
    }
}

/* What the device has acknowledged, or a gateway has handed on, may be done later. */
static void test_an_entry_that_may_be_done_later_is_ended(void **state)
{
    (void)state;
    const enum fault faults[] = {FAULT_ACKNOWLEDGE, FAULT_GATEWAY_TARGET};
    for (unsigned i = 0; i < 2; i++) {
        bed_begin(&bed, "");
        break_with((struct fake_rule){
            .function = FAKE_WRITE, .to = 1, .fault = faults[i], .ignores = true});
        offer(1, 1, (const struct row[]){{10, 11, 50}});
        while (bed.n_outcomes < 2) {
            fake_now_ns = battery_due_ns(bed.battery) > fake_now_ns ? battery_due_ns(bed.battery)
                                                                    : fake_now_ns;
            bed_step(&bed);
        }
        assert_int_equal(bed.outcomes[1].kind, OUTCOME_FAILED);
        bed.fake->registers[1][TARGET] = 50; /* and now it is */
        at(12);
        assert_int_equal(bed_held(&bed), 0);
        bed_end(&bed);
    }
}

static void test_the_rules_are_those_of_every_setpoint(void **state)
{
    (void)state;
    bed_begin(&bed, "min_interval = \"90s\";");
    bed.fake->registers[1][SOE] = 10; /* soe_min: no discharge */
    offer(1, 2, two);
    at(13);
    assert_int_equal(writes(), 0);
    assert_int_equal(bed.n_outcomes, 2); /* told once, judged each minute */
    assert_int_equal(last()->reason, REASON_SOE_LOW);
    assert_int_equal(fake_count(bed.fake, FAKE_READ, STATUS), 3);
    bed.fake->registers[1][SOE] = 54;
    at(15);
    assert_int_equal(bed_held(&bed), 50);
    /* Too soon after a live one, which has no lease here: until the entry ends. */
    bed_run_until(&bed, FAKE_MONO_NS + 20 * MINUTE - 30 * S);
    bed_put(&bed, "live", 60);
    at(20);
    bed_run(&bed, S);
    assert_int_equal(bed.outcomes[bed.n_outcomes - 2].reason, REASON_RATE_LIMITED);
    assert_int_equal(bed_held(&bed), 0); /* what was live until the entry's end ends with it */
    at(22);
    bed_run(&bed, S);
    assert_int_equal(bed_held(&bed), -30);
    bed_end(&bed);
}

static bool unrecorded(void *context)
{
    (void)context;
    return false;
}

static void test_what_cannot_be_put_on_record(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed_kill(&bed);
    bed.battery = battery_new(&(struct battery_setup){
        .device = bed.device,
        .run = "5f3a9c1e",
        .who = "the test",
        .state = bed.state,
        .health = &bed.health,
        .tell = bed_tell,
        .is_recorded = unrecorded,
        .context = &bed,
    });
    const struct row rows[] = {{10, 20, 50}, {20, 30, 0}};
    bed.fake->registers[1][TARGET] = 70;
    offer(1, 2, rows);
    at(11);
    assert_int_equal(last()->reason, REASON_AUDIT_UNAVAILABLE);
    assert_int_equal(writes(), 0);
    at(21); /* zero is exempt */
    assert_int_equal(bed_held(&bed), 0);
    bed_end(&bed);
}

/* ---- the deadman ---- */

static void test_an_entry_is_its_own_lease(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    offer(1, 2, two);
    at(10);
    for (int minute = 11; minute < 20; minute++) {
        bed_run(&bed, 30 * S);
        bed_poll(&bed);
        at(minute);
        bed_poll(&bed);
        assert_false(battery_lease(bed.battery).runs);
    }
    assert_int_equal(bed_held(&bed), 50);
    assert_int_equal(writes(), 1);
    at(31);
    assert_int_equal(bed_held(&bed), 0);
    bed_end(&bed);
}

/* As a program computes them, with more digits than the register has: it is the entry's all
 * the same, and kept going. */
static void test_an_entry_of_more_digits_than_the_register(void **state)
{
    (void)state;
    static const char *const types[] = {
        "\"powerpack\"; points = ( { name = \"target_power\"; scale = 0.1; } );",
        "\"powerpack-direct\";",
    };
    for (unsigned i = 0; i < 2; i++) {
        char devices[1024];
        snprintf(devices, sizeof devices,
                 "bess = ( { id = \"b1\"; name = \"Site-BESS-01\"; poll = \"1s\"; type = %s"
                 " modbus: { host = \"127.0.0.1\"; port = 1502; address = 1; };"
                 " control: { %s min_kw = -20.0; max_kw = 20.0; "
                 " deadman: { timeout = \"60s\"; value = 0.0; }; }; } );",
                 types[i], i == 0 ? "ready_status = [ 1 ]; positive_is = \"discharge\";" : "");
        bed_begin_site(&bed, devices);
        bed.fake->registers[1][STATUS] = 1;
        bed.fake->registers[1][SOE] = 54;
        bed.fake->registers[1][206] = 40000; /* energy_full and energy_remaining */
        bed.fake->registers[1][208] = 20000;
        offer(1, 1, (const struct row[]){{10, 20, 3 * 1.1}});
        at(10);
        for (int s = 0; s < 100; s++) {
            bed_run(&bed, S);
            bed_poll(&bed);
            assert_false(battery_lease(bed.battery).runs);
            assert_int_equal(state_now(), SCHEDULE_RUNNING);
        }
        bed_end(&bed);
    }
}

static void test_a_live_setpoint_for_its_lease_and_then_the_entry(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    offer(1, 2, two);
    at(12);
    bed_put(&bed, "live", 70);
    bed_run(&bed, S);
    bed_assert(&bed, "live", OUTCOME_CONFIRMED);
    assert_int_equal(state_now(), SCHEDULE_LIVE);
    bed_run_until(&bed, bed_outcome(&bed, "live", 0)->written_ns + 60 * S - 1);
    assert_int_equal(bed_held(&bed), 70);
    bed_run(&bed, S);
    assert_int_equal(bed_held(&bed), 50); /* without the fallback in between */
    assert_int_equal(writes(), 3);
    assert_false(battery_lease(bed.battery).runs);
    bed_end(&bed);
}

static void test_the_fallback_where_the_entry_is_refused_then(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    offer(1, 2, two);
    at(12);
    bed_put(&bed, "live", -40);
    bed_run(&bed, S);
    bed.fake->registers[1][SOE] = 5; /* no discharge: 50 is not allowed */
    bed_run(&bed, 61 * S);
    assert_int_equal(bed_held(&bed), -20);
    assert_string_equal(last()->command.source, "deadman");
    bed.fake->registers[1][SOE] = 54;
    bed_run(&bed, MINUTE);
    assert_int_equal(bed_held(&bed), 50);
    bed_end(&bed);
}

/* One at its fallback has no lease of the deadman's, but goes before all the same. */
static void test_a_live_setpoint_at_the_fallback(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    offer(1, 2, two);
    at(12);
    bed_put(&bed, "live", -20);
    bed_run(&bed, 59 * S);
    assert_int_equal(bed_held(&bed), -20);
    bed_run(&bed, 2 * S);
    assert_int_equal(bed_held(&bed), 50);
    bed_end(&bed);
}

/* A hand at the device, in the middle of an entry, has a lease as ever. */
static void test_a_value_of_nobodys(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    offer(1, 2, two);
    at(12);
    bed.fake->registers[1][TARGET] = 99;
    bed_poll(&bed);
    assert_true(battery_lease(bed.battery).runs);
    bed_run(&bed, 59 * S);
    assert_int_equal(bed_held(&bed), 99);
    bed_run(&bed, 2 * S);
    assert_int_equal(bed_held(&bed), 50);
    bed_end(&bed);
}

static void test_refused_live_setpoints_do_not_put_off_the_end(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    const struct row one[] = {{10, 20, 50}};
    offer(1, 1, one);
    at(19);
    bed.fake->registers[1][STATUS] = 0; /* not ready: all are refused, but zero */
    bed_run_until(&bed, FAKE_MONO_NS + 20 * MINUTE - 1);
    for (int i = 0; i < 20; i++) {
        char id[16];
        snprintf(id, sizeof id, "live-%d", i);
        bed_put(&bed, id, 60);
        for (int steps = 0; steps < 2; steps++)
            bed_step(&bed);
        fake_now_ns += CLOCK_NS_PER_MS;
    }
    assert_int_equal(bed_held(&bed), 0);
    bed_end(&bed);
}

/* ---- stops ---- */

static void test_a_live_stop_ends_it(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    offer(1, 2, two);
    at(12);
    put_stop();
    bed_run(&bed, S);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_int_equal(state_now(), SCHEDULE_STOPPED);
    at(31);
    assert_int_equal(bed_held(&bed), 0);
    assert_int_equal(writes(), 2);
    bed_kill(&bed);
    bed_start(&bed);
    at(32);
    assert_int_equal(writes(), 2);
    offer(2, 1, (const struct row[]){{30, 40, 20}}); /* a newer one begins anew */
    bed_run(&bed, S);
    assert_int_equal(bed_held(&bed), 20);
    bed_end(&bed);
}

/* Wherever the entry's sequence stands: nothing that was decided before is written. */
static void test_a_stop_in_the_middle_of_an_entrys_sequence(void **state)
{
    (void)state;
    for (unsigned steps = 0; steps < 8; steps++) {
        bed_begin(&bed, "command_source = 5;");
        offer(1, 2, two);
        bed_run_until(&bed, FAKE_MONO_NS + 10 * MINUTE - 1);
        fake_now_ns = FAKE_MONO_NS + 10 * MINUTE;
        for (unsigned i = 0; i < steps; i++)
            bed_step(&bed);
        const unsigned before = bed.fake->n_calls;
        put_stop();
        bed_run(&bed, 25 * MINUTE);
        bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
        for (unsigned i = before; i < bed.fake->n_calls; i++) {
            const struct fake_call *call = &bed.fake->calls[i];
            if (call->function == FAKE_WRITE && call->address == TARGET)
                assert_int_equal(call->words[0], 0);
        }
        bed_end(&bed);
    }
}

static void test_none_is_begun_while_a_stop_is_owed(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    bed.fake->registers[1][TARGET] = 70;
    fake_rule_add(bed.fake,
                  (struct fake_rule){.function = FAKE_WRITE, .address = TARGET, .ignores = true});
    put_stop();
    bed_run(&bed, 3 * S);
    bed_assert(&bed, "stop", OUTCOME_MISMATCH);
    offer(1, 1, (const struct row[]){{0, 40, 20}}); /* came after it, but it is not done */
    bed_run(&bed, 10 * S);
    for (unsigned i = 0; i < bed.fake->n_calls; i++)
        if (bed.fake->calls[i].function == FAKE_WRITE)
            assert_int_equal(bed.fake->calls[i].words[0], 0);
    bed.fake->n_rules = 0;
    bed_run(&bed, 2 * S);
    bed_assert_corrected(&bed, "stop", OUTCOME_CONFIRMED);
    bed_run(&bed, MINUTE);
    assert_int_equal(bed_held(&bed), 20);
    bed_end(&bed);
}

/* Its own zero is no live stop. */
static void test_its_own_zero_ends_nothing(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    offer(1, 3, (const struct row[]){{10, 15, 50}, {15, 20, 0}, {25, 30, 40}});
    at(16);
    assert_int_equal(bed_held(&bed), 0);
    at(24);
    assert_int_equal(bed_held(&bed), 0);
    at(26);
    assert_int_equal(bed_held(&bed), 40);
    at(31);
    assert_int_equal(bed_held(&bed), 0);
    bed_end(&bed);
}

static void test_a_zero_that_is_not_taken_is_tried_each_second(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    offer(1, 2, two);
    at(21);
    bed_run_until(&bed, FAKE_MONO_NS + 30 * MINUTE - 1);
    be_silent();
    bed_run(&bed, 60 * S);
    assert_true(writes() >= 6);
    const unsigned told = bed.n_outcomes;
    bed_run(&bed, 60 * S);
    assert_int_equal(bed.n_outcomes, told);
    bed.fake->n_rules = 0;
    bed_run(&bed, 10 * S);
    assert_int_equal(bed_held(&bed), 0);
    assert_int_equal(last()->kind, OUTCOME_CONFIRMED);
    bed_end(&bed);
}

/* ---- another fluxbridge ---- */

static void test_nothing_without_the_claim(void **state)
{
    (void)state;
    struct claim claim;
    char holder[CLAIM_TEXT_MAX];
    bed_begin(&bed, DEADMAN);
    claim_init(&claim);
    assert_int_equal(link_open(&bed.fake->link, S), FAULT_NONE);
    assert_true(claim_hold(&claim, bed.fake->link.peer, 1, "another", holder));
    offer(1, 3, (const struct row[]){{10, 15, 50}, {15, 20, 0}, {25, 30, 40}});
    at(35);
    assert_int_equal(writes(), 0);
    assert_int_equal(last()->reason, REASON_NOT_OWNER);
    claim_release(&claim);
    bed_end(&bed);
}

/* ---- restart and end ---- */

static void test_a_restart_goes_on_with_what_covers_now(void **state)
{
    (void)state;
    for (int minute = 5; minute <= 35; minute++) {
        bed_begin(&bed, DEADMAN);
        offer(1, 2, two);
        at(minute);
        bed_run(&bed, S);
        const unsigned before = writes();
        bed_kill(&bed);
        fake_now_ns += 3 * MINUTE;
        bed_start(&bed);
        bed_poll(&bed); /* the orphan, if it is one, is the schedule's */
        bed_run(&bed, S);
        const int now = minute + 3;
        assert_int_equal(bed_held(&bed), now < 10 ? 0 : now < 20 ? 50 : now < 30 ? -30 : 0);
        assert_true(writes() <= before + 1);
        bed_run(&bed, 2 * S);
        assert_false(battery_lease(bed.battery).runs);
        bed_end(&bed);
    }
}

static void test_a_live_lease_outlives_a_restart(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN);
    offer(1, 2, two);
    at(12);
    bed_put(&bed, "live", 70);
    bed_run(&bed, 20 * S);
    bed_kill(&bed);
    bed_start(&bed);
    bed_run(&bed, 30 * S);
    assert_int_equal(bed_held(&bed), 70);
    bed_run(&bed, 12 * S);
    assert_int_equal(bed_held(&bed), 50);
    bed_end(&bed);
}

static void test_on_exit_nothing_follows(void **state)
{
    (void)state;
    bed_begin(&bed, DEADMAN "on_exit = \"fallback\";");
    offer(1, 2, two);
    at(12);
    battery_leave(bed.battery);
    for (int i = 0; !battery_has_left(bed.battery) && i < 100; i++)
        bed_step(&bed);
    assert_int_equal(bed_held(&bed), -20);
    at(25);
    assert_int_equal(bed_held(&bed), -20);
    offer(2, 0, NULL);
    assert_int_equal(last()->reason, REASON_SHUTTING_DOWN);
    /* The next run puts it right. */
    bed_kill(&bed);
    bed_start(&bed);
    bed_run(&bed, S);
    assert_int_equal(bed_held(&bed), -30);
    bed_end(&bed);
}

static void test_a_text_that_makes_no_sense_is_no_schedule(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "1 0 0 1 2 3 4", "1 0 0 1 2 3 4 \n{}"};
    for (unsigned i = 0; i < 3; i++) {
        bed_begin(&bed, "");
        char key[128];
        snprintf(key, sizeof key, "schedule/%s", bed.device->id);
        bed_kill(&bed);
        assert_true(state_put(bed.state, key, texts[i]));
        bed_start(&bed);
        assert_int_equal(state_now(), SCHEDULE_NONE);
        offer(1, 2, two);
        at(11);
        assert_int_equal(bed_held(&bed), 50);
        bed_end(&bed);
    }
}

/* ---- the clock ---- */

static void test_a_clock_unsynchronised_for_an_hour(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    offer(1, 1, (const struct row[]){{10, 200, 50}});
    at(20);
    bed.health.unsynchronised_ns = fake_now_ns;
    at(79);
    assert_int_equal(bed_held(&bed), 50);
    at(81);
    assert_int_equal(bed_held(&bed), 0);
    assert_int_equal(state_now(), SCHEDULE_UNSYNCHRONISED);
    bed.health.unsynchronised_ns = 0;
    at(82);
    bed_run(&bed, S);
    assert_int_equal(bed_held(&bed), 50);
    bed_end(&bed);
}

/* As after a start without a battery for its clock, before NTP has answered. */
static void test_a_clock_behind_the_acceptance_is_not_trusted(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    at(15);
    offer(1, 1, (const struct row[]){{0, 200, 50}});
    bed_kill(&bed);
    bed.health.unsynchronised_ns = fake_now_ns;
    fake_utc_step_ms = -10 * 60000;
    bed_start(&bed);
    bed_run(&bed, S);
    assert_int_equal(writes(), 1); /* it may hold what was in force: zero */
    assert_int_equal(bed_held(&bed), 0);
    bed.health.unsynchronised_ns = 0;
    fake_utc_step_ms = 0;
    bed_run(&bed, S);
    assert_int_equal(bed_held(&bed), 50);
    bed_end(&bed);
}

static void set_the_clock(struct fake_link *fake, const struct fake_call *call)
{
    (void)fake;
    if (call->function == FAKE_READ && call->address == STATUS)
        fake_utc_step_ms = 15 * 60000;
}

static void test_a_clock_set_between_decision_and_write(void **state)
{
    (void)state;
    bed_begin(&bed, "");
    offer(1, 1, (const struct row[]){{10, 20, 50}});
    bed_run_until(&bed, FAKE_MONO_NS + 10 * MINUTE - 1);
    bed.fake->before = set_the_clock; /* over the entry's end */
    bed_run(&bed, S);
    assert_int_equal(writes(), 0);
    assert_int_equal(last()->reason, REASON_EXPIRED);
    bed_end(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_accepted_and_carried_out),
        cmocka_unit_test(test_a_late_revision_is_refused),
        cmocka_unit_test(test_another_one_in_the_middle_of_an_entrys_sequence),
        cmocka_unit_test(test_an_entry_that_may_be_done_later_is_ended),
        cmocka_unit_test(test_the_rules_are_those_of_every_setpoint),
        cmocka_unit_test(test_what_cannot_be_put_on_record),
        cmocka_unit_test(test_an_entry_is_its_own_lease),
        cmocka_unit_test(test_an_entry_of_more_digits_than_the_register),
        cmocka_unit_test(test_a_live_setpoint_for_its_lease_and_then_the_entry),
        cmocka_unit_test(test_the_fallback_where_the_entry_is_refused_then),
        cmocka_unit_test(test_a_live_setpoint_at_the_fallback),
        cmocka_unit_test(test_a_value_of_nobodys),
        cmocka_unit_test(test_refused_live_setpoints_do_not_put_off_the_end),
        cmocka_unit_test(test_a_live_stop_ends_it),
        cmocka_unit_test(test_a_stop_in_the_middle_of_an_entrys_sequence),
        cmocka_unit_test(test_none_is_begun_while_a_stop_is_owed),
        cmocka_unit_test(test_its_own_zero_ends_nothing),
        cmocka_unit_test(test_a_zero_that_is_not_taken_is_tried_each_second),
        cmocka_unit_test(test_nothing_without_the_claim),
        cmocka_unit_test(test_a_restart_goes_on_with_what_covers_now),
        cmocka_unit_test(test_a_live_lease_outlives_a_restart),
        cmocka_unit_test(test_on_exit_nothing_follows),
        cmocka_unit_test(test_a_text_that_makes_no_sense_is_no_schedule),
        cmocka_unit_test(test_a_clock_unsynchronised_for_an_hour),
        cmocka_unit_test(test_a_clock_behind_the_acceptance_is_not_trusted),
        cmocka_unit_test(test_a_clock_set_between_decision_and_write),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
