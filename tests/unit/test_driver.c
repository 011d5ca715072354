/* Batteries whose type says how they are commanded, over a fake link. */
#include "tests/unit/battery_bed.h"

#include <math.h>

#include "bridge/base/log.h"

#define S  CLOCK_NS_PER_S
#define MS CLOCK_NS_PER_MS

/* Where the points of a powerpack-direct are. */
enum {
    REMAINING = 207,
    FULL = 205,
    MODE = 1000,
    ACTIVE = 1001,
    POWER = 1020,
    BEAT = 1022,
    TIMEOUT = 1023,
    UP = 1024,
    DOWN = 1026
};
/* And of the others. */
enum { EMS = 13049, COMMAND = 13050, FORCED = 13051, GRID = 37, NO_CHARGE = 38 };

#define DEVICE(type, modbus, control)                                                              \
    "bess = ( { id = \"b1\"; name = \"Site-BESS-01\"; type = \"" type "\"; modbus: { host = "      \
    "\"127.0.0.1\"; port = 1502; address = 1; timeout = \"1s\"; " modbus " };"                     \
    " control: { min_kw = -20.0; max_kw = 20.0; " control " }; } );"

static struct bed bed;
static unsigned told; /* of the calls */

static void begin(const char *devices)
{
    bed_begin_site(&bed, devices);
    uint16_t *registers = bed.fake->registers[1];
    told = 0;
    registers[FULL + 1] = 40000;
    registers[REMAINING + 1] = 20000;
    registers[TIMEOUT] = 60;
    registers[13022] = 500;
    registers[30] = 500;
}

static void direct(const char *control)
{
    char devices[1024];
    snprintf(devices, sizeof devices, DEVICE("powerpack-direct", "", "%s"), control);
    begin(devices);
}

/* The writes since the last time, as "1020=000030D4"; those that failed with a '!'. */
static const char *writes(void)
{
    static char text[4096];
    size_t used = 0;
    text[0] = '\0';
    for (; told < bed.fake->n_calls; told++) {
        const struct fake_call *call = &bed.fake->calls[told];
        if (call->function != FAKE_WRITE && call->function != FAKE_WRITES)
            continue;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s%u=", used ? " " : "",
                                 call->function == FAKE_WRITE ? "06:" : "", call->address);
        for (unsigned i = 0; i < call->count; i++)
            used += (size_t)snprintf(text + used, sizeof text - used, "%04X", call->words[i]);
        if (call->fault != FAULT_NONE)
            used += (size_t)snprintf(text + used, sizeof text - used, "!");
    }
    return text;
}

static void assert_state(enum control_state state)
{
    assert_string_equal(
        control_state_word((enum control_state)atomic_load(&bed.health.devices[0].control)),
        control_state_word(state));
}

/* Of a battery that nobody commands; and of one that may be running. */
#define ENGAGED(beat, power)                                                                       \
    "1024=000186A0 1026=000186A0 1001=0001 1022=" beat " 1020=" power " 1023=000A 1000=0001"

#define ENGAGED_AGAIN(beat, power)                                                                 \
    "1024=000186A0 1026=000186A0 1001=0001 1020=" power " 1022=" beat " 1023=000A 1000=0001"

static void held(const char *id, double value)
{
    bed_put(&bed, id, value);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, id, OUTCOME_CONFIRMED);
    assert_state(CONTROL_HELD);
    (void)writes();
}

/* ---- what is written, and in which order ---- */

static void the_direct_interface(void **state)
{
    (void)state;
    direct("");
    assert_state(CONTROL_IDLE);
    bed_put(&bed, "a", 12.5);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "a", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), ENGAGED("AA55", "000030D4"));
    assert_true(bed_outcome(&bed, "a", 0)->readback == 12.5);
    assert_state(CONTROL_HELD);
    /* Once engaged: the other word, and the power; negative ones high word first. */
    bed_put(&bed, "b", -12.5);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "b", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), "1020=FFFFCF2C 1022=55AA");
    bed_end(&bed);
}

static void direction_and_size(void **state)
{
    (void)state;
    begin(DEVICE("sungrow-sh", "", "idle = \"release\";"));
    bed_put(&bed, "a", -4.5);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "a", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), "06:13050=00CC 06:13049=0002 13050=00AA1194");
    bed_put(&bed, "b", 2);
    bed_run(&bed, 10 * S); /* it needs no keepalive */
    bed_assert(&bed, "b", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), "13050=00BB07D0");
    assert_state(CONTROL_HELD);
    bed_put(&bed, "c", 0);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "c", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), "13050=00CC0000 06:13050=00CC 06:13051=0000 06:13049=0000");
    assert_state(CONTROL_IDLE);
    bed_end(&bed);
}

/* Nobody answers from now on, to be opened neither. */
static void cut_the_line(void)
{
    fake_rule_add(bed.fake, (struct fake_rule){.fault = FAULT_TIMEOUT, .ignores = true});
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_OPEN, .fault = FAULT_TIMEOUT});
}

/* ---- the keepalive ---- */

static void it_beats_while_a_lease_lasts(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"10s\"; };");
    const int64_t begun_ns = fake_now_ns;
    held("a", 5);
    bed_run_until(&bed, begun_ns + 5 * S + 500 * MS);
    assert_string_equal(writes(), "1022=55AA 1022=AA55 1022=55AA 1022=AA55 1022=55AA");
    /* When the lease is over zero is written, and that is held on. */
    bed_run_until(&bed, begun_ns + 14 * S);
    assert_string_equal(writes(), "1022=AA55 1022=55AA 1022=AA55 1022=55AA 1022=AA55 "
                                  "1020=00000000 1022=55AA 1022=AA55 1022=55AA 1022=AA55");
    assert_state(CONTROL_HELD);
    assert_int_equal(health_get(&bed.health.devices[0].beats_late), 0);
    bed_end(&bed);
}

/* At the end of a lease zero is not confirmed: the beat ends all the same. */
static void it_does_not_beat_beyond_a_lease(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"4s\"; };");
    held("a", 5);
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITES,
                                               .address = POWER,
                                               .fault = FAULT_DEVICE_FAILURE});
    bed_run(&bed, 4 * S);
    (void)writes();
    bed_run(&bed, 6 * S);
    const char *text = writes(); /* nor with the attempts at zero */
    assert_non_null(strstr(text, "1020=00000000!"));
    assert_null(strstr(text, "1022="));
    bed_end(&bed);
}

static void a_late_beat_is_counted(void **state)
{
    (void)state;
    direct("");
    held("a", 5);
    fake_now_ns += 1600 * MS; /* the thread was kept from running */
    bed_run(&bed, 100 * MS);
    assert_string_equal(writes(), "1022=55AA");
    assert_int_equal(health_get(&bed.health.devices[0].beats_late), 1);
    bed_run(&bed, 3 * S);
    assert_int_equal(health_get(&bed.health.devices[0].beats_late), 1);
    bed_end(&bed);
}

/* After a beat without an answer the other word comes soon: one of the two counts. */
static void a_lost_beat_is_made_up_for(void **state)
{
    (void)state;
    direct("");
    held("a", 5);
    fake_rule_add(
        bed.fake,
        (struct fake_rule){
            .function = FAKE_WRITES, .address = BEAT, .from = 1, .to = 1, .fault = FAULT_TIMEOUT});
    bed_run(&bed, 3 * S);
    assert_string_equal(writes(), "1022=55AA! 1022=AA55 1022=55AA");
    bed_assert(&bed, "a", OUTCOME_CONFIRMED);
    assert_null(bed_outcome(&bed, "a", 1));
    bed_end(&bed);
}

/* Nobody answers any more: what has begun is not put off by attempts at a keepalive. */
static void a_beat_puts_off_no_read_back(void **state)
{
    (void)state;
    direct("");
    held("stop", 0);
    bed_put(&bed, "a", 5);
    while (bed.fake->registers[1][POWER + 1] == 0)
        bed_step(&bed);
    cut_the_line();
    for (unsigned i = 0; i < 20; i++)
        bed_step(&bed);
    bed_assert(&bed, "a", OUTCOME_UNKNOWN);
    bed_end(&bed);
}

/* Nor is what waits: they take turns. */
static void a_beat_puts_off_no_setpoint(void **state)
{
    (void)state;
    direct("");
    held("stop", 0);
    fake_now_ns += S;
    cut_the_line();
    bed_put(&bed, "a", 5);
    bed_step(&bed); /* the keepalive, whose time it is */
    assert_null(bed_outcome(&bed, "a", 0));
    bed_step(&bed);
    bed_assert_refused(&bed, "a", REASON_DEVICE_OFFLINE);
    bed_end(&bed);
}

/* Where it is refused it is tried again half a period later: before each poll it may be early,
 * and that is not. */
static void a_beat_that_is_refused_waits(void **state)
{
    (void)state;
    direct("");
    held("a", 5);
    fake_now_ns += S;
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITES,
                                               .address = BEAT,
                                               .fault = FAULT_DEVICE_FAILURE,
                                               .ignores = true});
    assert_true(battery_beats(bed.battery));
    bed_step(&bed);
    assert_string_equal(writes(), "1022=55AA!");
    fake_now_ns += 400 * MS;
    assert_false(battery_beats(bed.battery));
    fake_now_ns += 100 * MS;
    assert_true(battery_beats(bed.battery));
    bed_end(&bed);
}

/* What somebody else wrote meanwhile is not written over. */
static void a_rewrite_looks_first(void **state)
{
    (void)state;
    begin(DEVICE("victron-ess", "", ""));
    bed_put(&bed, "a", 2.5);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "a", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), "06:38=0000 06:39=0000 06:37=F63C");
    bed_run(&bed, 4 * S);
    assert_string_equal(writes(), "06:37=F63C 06:37=F63C");
    bed.fake->registers[1][GRID] = 0; /* another's stop */
    bed_run(&bed, 10 * S);
    assert_string_equal(writes(), "");
    bed_assert_corrected(&bed, "a", OUTCOME_LOST);
    assert_state(CONTROL_LOST);
    bed_end(&bed);
}

/* ---- a stop ---- */

static void a_stop_of_an_idle_battery(void **state)
{
    (void)state;
    direct("");
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), ENGAGED_AGAIN("AA55", "00000000"));
    /* It would go back to its own plan, so it is held. */
    bed_run(&bed, 3 * S);
    assert_string_equal(writes(), "1022=55AA 1022=AA55 1022=55AA");
    assert_state(CONTROL_HELD);
    bed_end(&bed);
}

static void a_stop_that_is_released(void **state)
{
    (void)state;
    direct("idle = \"release\";");
    held("a", 5);
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 5 * S);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), "1020=00000000 1022=55AA 1020=00000000 1000=0000");
    assert_state(CONTROL_IDLE);
    bed_end(&bed);
}

static void put_a_stop(struct fake_link *fake, const struct fake_call *call)
{
    struct bed *context = fake->context;
    if (call->function == FAKE_WRITES && call->address == ACTIVE &&
        bed_outcome(context, "stop", 0) == NULL && fake->before != NULL) {
        fake->before = NULL;
        bed_put(context, "stop", 0);
    }
}

static void a_stop_in_the_middle_of_engaging(void **state)
{
    (void)state;
    direct("");
    bed.fake->before = put_a_stop;
    bed_put(&bed, "a", 5);
    bed_run(&bed, 500 * MS);
    bed_assert(&bed, "a", OUTCOME_SUPERSEDED);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_string_equal(writes(),
                        "1024=000186A0 1026=000186A0 1001=0001 " ENGAGED_AGAIN("AA55", "00000000"));
    assert_state(CONTROL_HELD);
    bed_end(&bed);
}

static void a_stop_waits_for_no_beat(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"60s\"; };");
    held("a", 5);
    fake_now_ns += 1300 * MS; /* one is due, and overdue */
    bed_put(&bed, "stop", 0);
    bed_step(&bed);
    bed_step(&bed);
    bed_step(&bed);
    assert_string_equal(writes(), "1020=00000000 1022=55AA"); /* its own */
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    bed_end(&bed);
}

/* A device that does not know one of the registers can be told to stop all the same. */
static void a_stop_goes_on_past_a_refusal(void **state)
{
    (void)state;
    direct("");
    fake_rule_add(
        bed.fake,
        (struct fake_rule){.function = FAKE_WRITES, .address = UP, .fault = FAULT_ILLEGAL_ADDRESS});
    fake_rule_add(
        bed.fake,
        (struct fake_rule){.function = FAKE_WRITES, .address = ACTIVE, .fault = FAULT_TIMEOUT});
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 3 * S);
    assert_int_equal(fake_count(bed.fake, FAKE_WRITES, POWER) > 0, true);
    assert_int_equal(bed.fake->registers[1][POWER + 1], 0);
    bed_end(&bed);
}

/* Zero is refused by a battery that nobody commands: it is not taken over to do what
 * stands in its register from before. */
static void a_zero_that_is_refused_takes_nothing_over(void **state)
{
    (void)state;
    direct("");
    bed.fake->registers[1][POWER + 1] = 5000;
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITES,
                                               .address = POWER,
                                               .fault = FAULT_DEVICE_FAILURE});
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 5 * S);
    bed_assert(&bed, "stop", OUTCOME_FAILED);
    assert_int_equal(fake_count(bed.fake, FAKE_WRITES, MODE), 0);
    assert_int_equal(fake_count(bed.fake, FAKE_WRITES, BEAT), 0);
    bed.fake->n_rules = 0;
    bed_run(&bed, 2 * S);
    bed_assert_corrected(&bed, "stop", OUTCOME_CONFIRMED);
    bed_end(&bed);
}

/* ---- half done ---- */

static void a_step_that_is_refused(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"60s\"; };");
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITES,
                                               .address = TIMEOUT,
                                               .fault = FAULT_ILLEGAL_VALUE});
    bed_put(&bed, "a", 5);
    bed_run(&bed, 500 * MS);
    bed_assert(&bed, "a", OUTCOME_FAILED);
    assert_string_equal(outcome_why(bed_outcome(&bed, "a", 0)), "illegal_value");
    assert_string_equal(bed_outcome(&bed, "a", 0)->detail,
                        "engage, step 6 of 7, timeout_s = 10: illegal_value");
    assert_string_equal(writes(), "1024=000186A0 1026=000186A0 1001=0001 1022=AA55 1020=00001388 "
                                  "1023=000A! 1020=00000000 1000=0000");
    assert_state(CONTROL_IDLE);
    assert_false(battery_lease(bed.battery).runs);
    bed_run(&bed, 5 * S);
    assert_string_equal(writes(), "");
    bed_end(&bed);
}

/* In its order, also when a step fails; and again until it is done. */
static void a_release_that_fails(void **state)
{
    (void)state;
    begin(DEVICE("sungrow-sh", "", "idle = \"release\";"));
    held("a", 5);
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITE,
                                               .address = FORCED,
                                               .to = 1,
                                               .from = 1,
                                               .fault = FAULT_DEVICE_FAILURE});
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITE,
                                               .address = EMS,
                                               .to = 1,
                                               .from = 1,
                                               .fault = FAULT_DEVICE_FAILURE});
    bed_put(&bed, "stop", 0);
    bed_run(&bed, 1100 * MS);
    bed_assert(&bed, "stop", OUTCOME_CONFIRMED);
    assert_string_equal(writes(), "13050=00CC0000 06:13050=00CC 06:13051=0000! 06:13049=0000!");
    assert_state(CONTROL_RELEASING);
    bed_run(&bed, 3 * S);
    assert_string_equal(writes(), "06:13050=00CC 06:13051=0000 06:13049=0000");
    assert_state(CONTROL_IDLE);
    bed_end(&bed);
}

/* Nobody answers: neither the release nor the zero that is owed keeps a setpoint from its
 * outcome. */
static void a_release_puts_off_no_setpoint(void **state)
{
    (void)state;
    direct("");
    bed_put(&bed, "a", 5);
    while (fake_count(bed.fake, FAKE_WRITES, POWER) == 0)
        bed_step(&bed);
    bed_kill(&bed);
    cut_the_line();
    bed_start(&bed);
    assert_state(CONTROL_RELEASING);
    bed_put(&bed, "stop", 0);
    bed_put(&bed, "b", 6);
    for (unsigned i = 0; i < 40; i++)
        bed_step(&bed);
    bed_assert(&bed, "stop", OUTCOME_UNKNOWN);
    bed_assert_refused(&bed, "b", REASON_DEVICE_OFFLINE);
    bed_end(&bed);
}

/* Nor a command for another row, as a type of one's own may have. */
static void a_release_puts_off_no_other_point(void **state)
{
    (void)state;
    direct("");
    bed_put(&bed, "a", 5);
    while (fake_count(bed.fake, FAKE_WRITES, POWER) == 0)
        bed_step(&bed);
    bed_kill(&bed);
    cut_the_line();
    bed_start(&bed);
    assert_state(CONTROL_RELEASING);
    bed_put(&bed, "stop", 0);
    struct command command = bed_command(&bed, "other", 5, 60 * S);
    command.point = (unsigned)device_find_point(bed.device, "always_active");
    command.value = 1;
    assert_true(battery_put(bed.battery, &command));
    for (unsigned i = 0; i < 40; i++)
        bed_step(&bed);
    bed_assert(&bed, "stop", OUTCOME_UNKNOWN);
    bed_assert_refused(&bed, "other", REASON_DEVICE_OFFLINE);
    bed_end(&bed);
}

/* Power is taken, and what follows it is refused: a lease runs from the write all the same. */
static void a_setpoint_that_fails_behind_its_power(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"10s\"; };");
    held("stop", 0);
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITES,
                                               .address = BEAT,
                                               .from = 1,
                                               .to = 1,
                                               .fault = FAULT_DEVICE_FAILURE,
                                               .ignores = true});
    bed_put(&bed, "a", 5);
    const int64_t end_ns = fake_now_ns + 10 * S;
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "a", OUTCOME_FAILED);
    bed_run(&bed, 2 * S);
    bed_poll(&bed); /* shows that it does what it was told */
    assert_state(CONTROL_HELD);
    const struct lease lease = battery_lease(bed.battery);
    assert_true(lease.runs);
    assert_in_range(lease.end_ns, end_ns, end_ns + 100 * MS);
    bed_end(&bed);
}

/* Power is refused by a battery that is held: what it held is held on. */
static void a_setpoint_that_is_refused(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"60s\"; };");
    held("a", 5);
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITES,
                                               .address = POWER,
                                               .from = 1,
                                               .to = 1,
                                               .fault = FAULT_ILLEGAL_VALUE});
    bed_put(&bed, "b", 6);
    bed_run(&bed, 2500 * MS);
    bed_assert(&bed, "b", OUTCOME_FAILED);
    assert_string_equal(writes(), "1020=00001770! 1022=55AA 1022=AA55");
    assert_state(CONTROL_HELD);
    assert_true(battery_lease(bed.battery).value == 5);
    bed_end(&bed);
}

/* Nobody knows what came of it: nothing is kept going before a poll tells. */
static void a_setpoint_in_doubt(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"60s\"; };");
    held("a", 5);
    fake_rule_add(
        bed.fake,
        (struct fake_rule){
            .function = FAKE_WRITES, .address = POWER, .from = 1, .to = 1, .fault = FAULT_TIMEOUT});
    fake_rule_add(
        bed.fake,
        (struct fake_rule){
            .function = FAKE_READ, .address = POWER, .from = 2, .to = 6, .fault = FAULT_TIMEOUT});
    bed_put(&bed, "b", 6);
    bed_run(&bed, 9 * S);
    bed_assert(&bed, "b", OUTCOME_UNKNOWN);
    assert_state(CONTROL_ENGAGING);
    (void)writes();
    bed_run(&bed, 2 * S);
    assert_string_equal(writes(), "");
    bed.fake->n_rules = 0;
    bed_poll(&bed);
    bed_assert_corrected(&bed, "b", OUTCOME_CONFIRMED);
    assert_state(CONTROL_HELD);
    bed_run(&bed, 1500 * MS);
    assert_string_not_equal(writes(), "");
    bed_end(&bed);
}

/* ---- lost ---- */

static void a_battery_that_leaves_its_mode(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"10s\"; };");
    held("a", 5);
    bed_poll(&bed);
    assert_null(bed_outcome(&bed, "a", 1));
    bed.fake->registers[1][MODE] = 0;
    bed_poll(&bed);
    bed_poll(&bed);
    bed_assert_corrected(&bed, "a", OUTCOME_LOST);
    assert_string_equal(bed_outcome(&bed, "a", 1)->detail, "mode reads 0, not 1");
    assert_state(CONTROL_LOST);
    /* Neither a beat nor the deadman, nor another setpoint's lease. */
    bed_run(&bed, 30 * S);
    bed_poll(&bed);
    bed_run(&bed, 30 * S);
    assert_string_equal(writes(), "");
    assert_false(battery_lease(bed.battery).runs);
    /* A newer command engages it from the beginning. */
    bed_put(&bed, "b", 5);
    bed_run(&bed, 100 * MS);
    bed_assert(&bed, "b", OUTCOME_CONFIRMED);
    assert_non_null(strstr(writes(), "1020=00001388 1023=000A 1000=0001"));
    assert_state(CONTROL_HELD);
    bed_end(&bed);
}

/* It was restarted, and a command finds that out: the one before is lost first. */
static void a_command_finds_it_lost(void **state)
{
    (void)state;
    direct("");
    held("a", 5);
    bed.fake->registers[1][TIMEOUT] = 60;
    bed_put(&bed, "b", 6);
    bed_run(&bed, 100 * MS);
    bed_assert_corrected(&bed, "a", OUTCOME_LOST);
    bed_assert(&bed, "b", OUTCOME_CONFIRMED);
    assert_non_null(strstr(writes(), "1020=00001770 1022=55AA 1023=000A 1000=0001"));
    assert_true(bed_outcome(&bed, "a", 1) < bed_outcome(&bed, "b", 0));
    bed_end(&bed);
}

/* No beat got through for the whole timeout: it has stopped, and another would start it. */
static void a_cable_that_was_cut(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"60s\"; };");
    held("a", 5);
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_WRITES, .fault = FAULT_TIMEOUT});
    fake_rule_add(bed.fake, (struct fake_rule){.function = FAKE_READ, .fault = FAULT_TIMEOUT});
    bed_run(&bed, 12 * S);
    bed_assert_corrected(&bed, "a", OUTCOME_LOST);
    assert_false(battery_lease(bed.battery).runs);
    bed.fake->n_rules = 0;
    (void)writes();
    bed_poll(&bed);
    bed_run(&bed, 60 * S);
    assert_string_equal(writes(), "");
    bed_end(&bed);
}

/* The machine slept: what woke up does not go on as if nothing were. */
static void a_freeze(void **state)
{
    (void)state;
    direct("");
    held("a", 5);
    fake_now_ns += 11 * S;
    bed_run(&bed, 5 * S);
    bed_assert_corrected(&bed, "a", OUTCOME_LOST);
    assert_string_equal(writes(), "");
    bed_end(&bed);
}

/* ---- a restart of the bridge ---- */

static void killed_in_the_middle_of_engaging(void **state)
{
    (void)state;
    direct("");
    bed_put(&bed, "a", 5);
    while (fake_count(bed.fake, FAKE_WRITES, POWER) == 0)
        bed_step(&bed);
    bed_kill(&bed);
    (void)writes();
    bed_start(&bed);
    assert_state(CONTROL_RELEASING);
    bed_run(&bed, 500 * MS);
    assert_string_equal(writes(), "1020=00000000 1000=0000");
    assert_state(CONTROL_IDLE);
    bed_kill(&bed);
    bed_start(&bed);
    bed_run(&bed, 5 * S);
    assert_string_equal(writes(), "");
    bed_end(&bed);
}

/* The battery's own timeout ends what it holds; a zero is held on. */
static void killed_while_it_holds(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"60s\"; };");
    held("a", 5);
    bed_kill(&bed);
    bed_start(&bed);
    bed_poll(&bed);
    bed_run(&bed, 30 * S);
    assert_string_equal(writes(), ""); /* the lease goes on, the beat does not */
    held("b", 0);
    bed_kill(&bed);
    bed_start(&bed);
    bed_run(&bed, 100 * MS);
    assert_non_null(strstr(writes(), "1020=00000000"));
    assert_state(CONTROL_HELD);
    assert_null(bed_outcome(&bed, "b", 1));
    bed_end(&bed);
}

static void the_end_of_the_bridge(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"60s\"; }; on_exit = \"fallback\"; idle = \"release\";");
    held("a", 5);
    battery_leave(bed.battery);
    while (!battery_has_left(bed.battery))
        bed_step(&bed);
    assert_string_equal(writes(), "1020=00000000 1022=55AA 1020=00000000 1000=0000");
    bed_end(&bed);
}

/* The bridge ends in the middle: what it has begun is undone. */
static void the_end_in_the_middle_of_engaging(void **state)
{
    (void)state;
    direct("");
    bed_put(&bed, "a", 5);
    while (fake_count(bed.fake, FAKE_WRITES, ACTIVE) == 0)
        bed_step(&bed);
    battery_leave(bed.battery);
    bed_assert(&bed, "a", OUTCOME_FAILED);
    while (!battery_has_left(bed.battery))
        bed_step(&bed);
    assert_string_equal(writes(), "1024=000186A0 1026=000186A0 1001=0001 1020=00000000 1000=0000");
    bed_end(&bed);
}

/* What another program keeps going is not taken from it; what has no timeout of its own, and
 * is nobody's, is brought to rest. */
static void an_orphan(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"5s\"; };");
    bed.fake->registers[1][MODE] = 1;
    bed.fake->registers[1][TIMEOUT] = 10;
    bed.fake->registers[1][POWER + 1] = 5000;
    bed_poll(&bed);
    bed_run(&bed, 30 * S);
    bed_poll(&bed);
    assert_string_equal(writes(), "");
    assert_false(battery_lease(bed.battery).runs);
    bed_end(&bed);
    begin(DEVICE("sungrow-sh", "", "deadman: { timeout = \"5s\"; }; idle = \"release\";"));
    bed.fake->registers[1][EMS] = 0; /* its own plan */
    bed.fake->registers[1][COMMAND] = 0xAA;
    bed.fake->registers[1][FORCED] = 5000;
    bed_poll(&bed);
    bed_run(&bed, 30 * S);
    assert_string_equal(writes(), "");
    bed.fake->registers[1][EMS] = 2;
    bed_poll(&bed);
    bed_run(&bed, 30 * S);
    assert_string_equal(writes(), "06:13050=00CC 06:13049=0002 13050=00CC0000 "
                                  "06:13050=00CC 06:13051=0000 06:13049=0000");
    assert_state(CONTROL_IDLE);
    bed_end(&bed);
}

/* ---- a fallback other than zero ---- */

static void a_fallback_is_no_lease(void **state)
{
    (void)state;
    direct("deadman: { timeout = \"5s\"; value = 2; };");
    held("a", 2); /* the fallback's own value has a lease as well */
    assert_true(battery_lease(bed.battery).runs);
    bed_run(&bed, 4 * S);
    assert_string_not_equal(writes(), "");
    bed_run(&bed, 2 * S);
    (void)writes();
    bed_run(&bed, 10 * S);
    assert_string_equal(writes(), ""); /* the battery itself ends it */
    assert_state(CONTROL_IDLE);
    bed_end(&bed);
}

static void steps_and_limits(void **state)
{
    (void)state;
    begin(DEVICE("sungrow-sh", "", ""));
    struct command command = {.has_value = true, .value = 0.0005};
    char detail[DETAIL_MAX];
    const struct admit_scene scene = {
        .device = bed.device, .point = bed.device->control.setpoint, .last_write_ns = INT64_MIN};
    assert_int_equal(admit(&command, &scene, detail), REASON_OFF_STEP);
    command.value = 20.001;
    assert_int_equal(admit(&command, &scene, detail), REASON_OUT_OF_RANGE);
    command.value = 12.345;
    assert_int_equal(admit(&command, &scene, detail), REASON_NONE);
    bed_end(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_direct_interface),
        cmocka_unit_test(direction_and_size),
        cmocka_unit_test(it_beats_while_a_lease_lasts),
        cmocka_unit_test(it_does_not_beat_beyond_a_lease),
        cmocka_unit_test(a_late_beat_is_counted),
        cmocka_unit_test(a_lost_beat_is_made_up_for),
        cmocka_unit_test(a_beat_puts_off_no_read_back),
        cmocka_unit_test(a_beat_puts_off_no_setpoint),
        cmocka_unit_test(a_beat_that_is_refused_waits),
        cmocka_unit_test(a_rewrite_looks_first),
        cmocka_unit_test(a_stop_of_an_idle_battery),
        cmocka_unit_test(a_stop_that_is_released),
        cmocka_unit_test(a_stop_in_the_middle_of_engaging),
        cmocka_unit_test(a_stop_waits_for_no_beat),
        cmocka_unit_test(a_stop_goes_on_past_a_refusal),
        cmocka_unit_test(a_zero_that_is_refused_takes_nothing_over),
        cmocka_unit_test(a_step_that_is_refused),
        cmocka_unit_test(a_release_that_fails),
        cmocka_unit_test(a_release_puts_off_no_setpoint),
        cmocka_unit_test(a_release_puts_off_no_other_point),
        cmocka_unit_test(a_setpoint_that_fails_behind_its_power),
        cmocka_unit_test(a_setpoint_that_is_refused),
        cmocka_unit_test(a_setpoint_in_doubt),
        cmocka_unit_test(a_battery_that_leaves_its_mode),
        cmocka_unit_test(a_command_finds_it_lost),
        cmocka_unit_test(a_cable_that_was_cut),
        cmocka_unit_test(a_freeze),
        cmocka_unit_test(killed_in_the_middle_of_engaging),
        cmocka_unit_test(killed_while_it_holds),
        cmocka_unit_test(the_end_of_the_bridge),
        cmocka_unit_test(the_end_in_the_middle_of_engaging),
        cmocka_unit_test(an_orphan),
        cmocka_unit_test(a_fallback_is_no_lease),
        cmocka_unit_test(steps_and_limits),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests_name("driver", tests, NULL, NULL);
}
