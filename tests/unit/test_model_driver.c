/* Batteries that stop by themselves, under a driver, against what a battery really does.
 *
 * A seeded generator makes steps: setpoints and stops, time, polls, a cable that is cut or
 * loses answers, a device that refuses, a bridge that is killed, frozen or ended, UTC that is
 * set, a hand at the device, and a broker that is away, which is that nobody commands. The
 * battery below uses nothing of what it watches. It does what its setpoint says while it is
 * taken over and a sign of life is younger than its timeout, and:
 *
 *   - it is never given a power that was not accepted, is over, or is before a stop;
 *   - it is never kept going at a power beyond that one's lease, after a stop, nor by a run
 *     of the bridge that was not told so: so it never holds power longer than lease and
 *     timeout after the last sign of life of what commands it;
 *   - what is lost is told once, and nothing is written before a newer command;
 *   - with a sound line, a stop and the end of a lease bring it to rest;
 *   - a setpoint has its outcome, however dead the line is: nothing puts it off for ever.
 *
 * FLUXBRIDGE_SEED and FLUXBRIDGE_STEPS override the seed, which is printed, and the length.
 */
#include "tests/unit/battery_bed.h"
#include "tests/unit/from_environment.h"
#include "tests/unit/seeded.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "bridge/base/log.h"

enum { STEPS = 100000, STEPS_PER_SITE = 1000 };
enum { FULL = 205, REMAINING = 207, MODE = 1000, POWER = 1020, BEAT = 1022, TIMEOUT = 1023 };
enum { GRID = 37 };
/* More than any setpoint takes, with all that may go before it. */
enum { CALLS_MOST = 2000 };

#define S        CLOCK_NS_PER_S
#define MS       CLOCK_NS_PER_MS
#define LEASE_NS (12 * S)
#define OWN_NS   (10 * S) /* the battery's timeout */

/* ---- the generator ---- */

/* ---- the battery, and what may be done to it ---- */

static struct bed bed;

enum line { LINE_GOOD, LINE_CUT, LINE_LOSES_ANSWERS, LINE_REFUSES };

static struct model {
    bool victron;
    bool releases;
    enum line line;
    unsigned refused; /* with LINE_REFUSES: this address */
    /* What it really does. */
    bool engaged;
    int kw;
    int64_t kw_ns; /* since when it was told so by a command */
    unsigned kw_run;
    uint64_t kw_number; /* of that command */
    int64_t alive_ns;
    int word;
    /* What was asked. */
    uint64_t number, last_stop;
    struct {
        int value;
        int64_t expires_ns;
        uint64_t number;
        bool open;
        unsigned calls; /* what was asked since */
    } last;             /* the last setpoint: one before it is replaced by it, or under way */
    bool stop_open;
    unsigned run;
    uint64_t lost_at; /* the number of commands when it was lost; UINT64_MAX = it is not */
    uint64_t step;
} model;

static unsigned expired, lost, beats, kills, engaged;

static void wrong(const char *what, long long a, long long b)
{
    fail_msg("step %llu, at %.3f s: %s %lld %lld", (unsigned long long)model.step,
             (double)(fake_now_ns - FAKE_MONO_NS) / 1e9, what, a, b);
}

/* Tells what happens, with FLUXBRIDGE_TRACE: how to see why a seed fails. */
static bool tracing;

static void trace(const char *what, const char *id, long long a, long long b)
{
    if (tracing)
        print_message(
            "%llu %.3f %s %s %lld %lld: %s, %d W\n", (unsigned long long)model.step,
            (double)(fake_now_ns - FAKE_MONO_NS) / 1e9, what, id, a, b,
            control_state_word((enum control_state)atomic_load(&bed.health.devices[0].control)),
            model.engaged ? model.kw : 0);
}

static uint16_t *registers(void)
{
    return bed.fake->registers[1];
}

/* Time has gone on for the battery. */
static void battery_lives(void)
{
    if (!model.engaged || fake_now_ns - model.alive_ns < OWN_NS)
        return;
    expired += model.kw != 0;
    model.engaged = false;
    model.kw = 0;
    if (model.victron)
        registers()[GRID] = 0;
    else
        registers()[MODE] = registers()[POWER] = registers()[POWER + 1] = 0;
}

static int power(void)
{
    battery_lives();
    if (model.engaged && model.kw != 0 && fake_now_ns >= model.kw_ns + LEASE_NS + OWN_NS)
        wrong("it holds power for too long", model.kw, fake_now_ns - model.kw_ns);
    return model.engaged ? model.kw : 0;
}

/* A sign to go on. */
static void check_sign(void)
{
    beats++;
    if (!model.engaged || model.kw == 0)
        return;
    if (model.last_stop > model.kw_number)
        wrong("kept going after a stop", model.kw, 0);
    if (model.kw_run != model.run)
        wrong("kept going by another run", model.kw, 0);
    if (fake_now_ns > model.kw_ns + LEASE_NS)
        wrong("kept going beyond its lease", model.kw, fake_now_ns - model.kw_ns);
}

/* Whether a value is that of a setpoint that was accepted, and may be written still. */
static bool is_wanted(int kw)
{
    return model.last.open && model.last.value == kw && model.last.number > model.last_stop &&
           fake_now_ns < model.last.expires_ns;
}

static void take_power(int kw, bool taken)
{
    const bool rewrite = model.victron && model.engaged && kw == model.kw && kw != 0;
    if (kw != 0 && !is_wanted(kw) && !(rewrite && model.last_stop < model.kw_number))
        wrong("nobody wants it", kw, model.last.value);
    if (rewrite && !is_wanted(kw))
        check_sign();
    if (!taken)
        return;
    if (model.victron) {
        model.engaged = true;
        model.alive_ns = fake_now_ns;
    }
    model.kw = kw;
    if (kw == 0 || !is_wanted(kw))
        return;
    model.kw_ns = fake_now_ns;
    model.kw_run = model.run;
    model.kw_number = model.last.number;
}

static void take_write(const struct fake_call *call, bool taken)
{
    if (model.lost_at == model.number)
        wrong("written to a battery that is lost", call->address, call->words[0]);
    if (model.victron) {
        if (call->address == GRID)
            take_power(-(int16_t)call->words[0], taken);
        return;
    }
    if (call->address == BEAT && taken && call->words[0] != model.word) {
        check_sign();
        model.word = call->words[0];
        model.alive_ns = fake_now_ns;
    } else if (call->address == POWER) {
        take_power((int)(int32_t)((uint32_t)call->words[0] << 16 | call->words[1]), taken);
    } else if (call->address == MODE && taken) {
        engaged += call->words[0] == 1;
        if (call->words[0] == 1 && !model.engaged)
            model.alive_ns = fake_now_ns;
        model.engaged = call->words[0] == 1;
    }
}

static void before_call(struct fake_link *fake, const struct fake_call *call)
{
    (void)fake;
    (void)power();
    if (model.last.open && ++model.last.calls > CALLS_MOST)
        wrong("no outcome of setpoint", (long long)model.last.number, model.last.calls);
    if (call->function != FAKE_WRITE && call->function != FAKE_WRITES)
        return;
    trace("write", "", call->address, call->words[call->count - 1]);
    take_write(call, model.line != LINE_CUT &&
                         !(model.line == LINE_REFUSES && call->address == model.refused));
}

/* ---- what is told ---- */

static void told(void *context, const struct outcome *outcome)
{
    const bool last = (uint64_t)atoll(outcome->command.id) == model.last.number;
    (void)context;
    trace(outcome_word(outcome->kind), outcome->command.id, lround(outcome->command.value),
          outcome->correction);
    if (outcome->kind == OUTCOME_LOST) {
        lost++;
        if (!outcome->correction)
            wrong("lost is a correction", 0, 0);
        if (model.lost_at != UINT64_MAX)
            wrong("lost twice", 0, 0);
        /* One that was accepted before that was told is newer than what is lost. */
        model.lost_at = model.last.open || model.stop_open ? UINT64_MAX : model.number;
        return;
    }
    if (outcome->kind == OUTCOME_CONFIRMED) {
        model.lost_at = UINT64_MAX;
        if (outcome->command.value == 0.0 &&
            (uint64_t)atoll(outcome->command.id) >= model.last_stop)
            model.stop_open = false;
    }
    if (outcome->kind == OUTCOME_CONFIRMED && !outcome->correction) {
        if (power() != (int)lround(outcome->command.value * 1000))
            wrong("confirmed, and it does otherwise", power(),
                  lround(outcome->command.value * 1000));
    }
    if (last && !outcome->correction)
        model.last.open = false;
}

static void start(void)
{
    model.run++;
    model.lost_at = UINT64_MAX;
    bed.battery = battery_new(&(struct battery_setup){
        .device = bed.device,
        .run = "5f3a9c1e",
        .who = "the test",
        .state = bed.state,
        .health = &bed.health,
        .tell = told,
    });
    assert_non_null(bed.battery);
}

/* ---- what happens ---- */

static void put(bool stop)
{
    char id[24];
    /* One at a time: so that a write tells whose it is. */
    if (!stop && model.last.open)
        return;
    const int value = stop ? 0 : between(1, 20) * (one_in(2) ? 1 : -1);
    const int64_t ttl_ns = between(1, 20) * S;
    snprintf(id, sizeof id, "%llu", (unsigned long long)++model.number);
    const struct command command = bed_command(&bed, id, value, ttl_ns);
    if (stop) {
        model.last_stop = model.number;
        model.stop_open = true;
    } else {
        model.last.value = 1000 * value;
        model.last.number = model.number;
        model.last.expires_ns = fake_now_ns + ttl_ns;
        model.last.open = true;
        model.last.calls = 0;
    }
    trace("put", id, value, ttl_ns / S);
    if (!battery_put(bed.battery, &command))
        model.last.open = stop && model.last.open;
}

static void change_line(enum line line)
{
    static const unsigned places[] = {POWER, MODE, BEAT, TIMEOUT, 1001, GRID, 38};
    struct fake_link *fake = bed.fake;
    fake->n_rules = 0;
    model.line = line;
    trace("line", "", line, model.refused);
    model.refused = places[between(0, 6)];
    const enum fault silence = one_in(2) ? FAULT_TIMEOUT : FAULT_CONNECTION;
    switch (line) {
    case LINE_GOOD:
        break;
    case LINE_CUT:
        fake_rule_add(fake, (struct fake_rule){.fault = silence, .ignores = true});
        if (one_in(2))
            fake_rule_add(fake, (struct fake_rule){.function = FAKE_OPEN, .fault = silence});
        break;
    case LINE_LOSES_ANSWERS:
        fake_rule_add(fake, (struct fake_rule){.fault = silence});
        break;
    case LINE_REFUSES:
        fake_rule_add(fake, (struct fake_rule){.function = model.victron ? FAKE_WRITE : FAKE_WRITES,
                                               .address = model.refused,
                                               .fault = FAULT_DEVICE_FAILURE});
        break;
    }
}

static void poll_it(void)
{
    if (model.line != LINE_CUT && model.line != LINE_LOSES_ANSWERS) {
        (void)power();
        bed_poll(&bed);
    }
}

/* As its poller would: with a poll each second. */
static void run(int64_t duration_ns)
{
    const int64_t end_ns = fake_now_ns + duration_ns;
    while (fake_now_ns < end_ns) {
        const int64_t next_ns = fake_now_ns + S;
        bed_run_until(&bed, next_ns < end_ns ? next_ns : end_ns);
        bed.fake->n_calls = 0;
        poll_it();
    }
    (void)power();
}

static void kill_it(bool leaves)
{
    kills++;
    trace(leaves ? "ends" : "killed", "", 0, 0);
    if (leaves) {
        battery_leave(bed.battery);
        for (int i = 0; i < 300 && !battery_has_left(bed.battery); i++)
            bed_step(&bed);
        battery_abandon(bed.battery);
    }
    bed_kill(&bed);
    bed.fake->n_calls = 0;
    model.last.open = false;
    if (one_in(2))
        fake_now_ns += between(0, 30) * S;
    (void)power();
    start();
}

/* Somebody else at the device. */
static void turn(void)
{
    (void)power();
    trace("a hand", "", 0, 0);
    if (model.victron) {
        registers()[GRID] = 0;
        model.kw = 0;
    } else if (one_in(2)) {
        registers()[MODE] = 0;
        model.engaged = false;
    } else {
        registers()[POWER] = registers()[POWER + 1] = 0;
        model.kw = 0;
    }
}

/* With a sound line it comes to rest, whatever was before. */
static void come_to_rest(bool stop)
{
    change_line(LINE_GOOD);
    if (stop)
        put(true);
    run((stop ? 10 : 40) * S);
    if (power() != 0)
        wrong(stop ? "a stop does not stop it" : "nothing ends it", power(), 0);
}

static void one_step(void)
{
    switch (between(0, 15)) {
    case 0:
    case 1:
    case 2:
    case 3:
        put(false);
        break;
    case 4:
        put(true);
        break;
    case 5:
        change_line((enum line)between(LINE_GOOD, LINE_REFUSES));
        break;
    case 6:
        change_line(LINE_GOOD);
        break;
    case 7:
        if (one_in(4))
            kill_it(one_in(3));
        break;
    case 8:
        if (one_in(3))
            fake_now_ns += between(0, 25) * S; /* frozen */
        break;
    case 9:
        fake_utc_step_ms += between(-100000, 100000);
        break;
    case 10:
        if (one_in(3))
            turn();
        break;
    case 11:
        if (one_in(6))
            come_to_rest(one_in(2));
        break;
    default:
        run(one_in(3) ? between(1, 15) * S : between(1, 2000) * MS);
    }
    bed.fake->n_calls = 0;
}

static void run_site(uint64_t from, uint64_t steps)
{
    char devices[1024];
    memset(&model, 0, sizeof model);
    model.victron = one_in(3);
    model.releases = one_in(2);
    snprintf(devices, sizeof devices,
             "bess = ( { id = \"b1\"; name = \"B\"; type = \"%s\"; modbus: { host = \"127.0.0.1\"; "
             "port = 1502; address = 1; timeout = \"1s\"; }; control: { min_kw = -20; max_kw = 20; "
             "idle = \"%s\"; deadman: { timeout = \"12s\"; }; %s }; } );",
             model.victron ? "victron-ess" : "powerpack-direct",
             model.releases ? "release" : "hold", one_in(2) ? "on_exit = \"fallback\";" : "");
    bed_begin_site(&bed, devices);
    battery_free(bed.battery);
    start();
    registers()[FULL + 1] = 40000;
    registers()[REMAINING + 1] = 20000;
    registers()[30] = 500;
    registers()[TIMEOUT] = 60;
    bed.fake->before = before_call;
    for (model.step = from; model.step < from + steps; model.step++) {
        one_step();
        bed.n_outcomes = bed.steps = 0;
    }
    bed.fake->before = NULL;
    bed_end(&bed);
}

static void test_the_battery_stops(void **state)
{
    const uint64_t seed = from_environment("FLUXBRIDGE_SEED", (uint64_t)time(NULL));
    const uint64_t steps = from_environment("FLUXBRIDGE_STEPS", STEPS);
    (void)state;
    print_message("seed %llu, %llu steps\n", (unsigned long long)seed, (unsigned long long)steps);
    tracing = getenv("FLUXBRIDGE_TRACE") != NULL;
    random_state = seed;
    for (uint64_t n = 0; n < steps; n += STEPS_PER_SITE)
        run_site(n, STEPS_PER_SITE);
    print_message("stopped by itself %u, lost %u, signs %u, taken over %u, runs %u\n", expired,
                  lost, beats, engaged, kills);
    /* A generator that never gets there would prove nothing. */
    assert_true(expired > steps / 1000 && lost > steps / 1000 && beats > steps / 10 &&
                engaged > steps / 1000 && kills > steps / 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_the_battery_stops)};
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
