/* A battery against a model that knows only what topics.md says of it.
 *
 * A seeded generator makes sites and then steps: commands and stops from
 * dispatchers, a device that lies, is slow or silent, hands that turn its
 * setpoint, clocks that are set, restarts that are killed or clean, another
 * bridge, and above all time. The model (model_watch.h) uses none of the functions it
 * checks. It watches what is asked of the device, and what is told:
 *
 *   - after a stop no other value is written that was not accepted after it,
 *     and nothing is asked of the device between a stop and its write;
 *   - a value is one that was accepted and is alive, or the bridge's fallback
 *     when its time has come; it is within the limits, and the device's state,
 *     read since then, allows it;
 *   - every command has one outcome in time, which is true; what is refused has
 *     not been written; a correction comes only where something was open;
 *   - a lease ends when it ends: nothing but a fresh confirmed setpoint moves it;
 *     when it is over a device that answers is brought to the fallback or zero;
 *   - an unconfirmed stop is tried each second until it is confirmed or a newer
 *     setpoint is written, across restarts.
 *
 * FLUXBRIDGE_SEED and FLUXBRIDGE_STEPS override the seed, which is printed, and
 * the length (tests/chaos/chaos.py --control).
 */
#include "tests/unit/from_environment.h"
#include "tests/unit/model_watch.h"
#include "tests/unit/seeded.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "bridge/base/log.h"

enum { STEPS = 50000, STEPS_PER_SITE = 2000 };

/* How long a device that answers may take until what is owed to it is done: all
 * that may be under way, with timeouts, and then some attempts. */
#define GRACE_NS (60 * S)

/* ---- what happens ---- */

static void start(void)
{
    model.started_ns = fake_now_ns;
    bed.battery = battery_new(&(struct battery_setup){
        .device = bed.device,
        .run = "5f3a9c1e",
        .who = "the test",
        .state = bed.state,
        .health = &bed.health,
        .shares_line = model.shares_line,
        .tell = told,
    });
    assert_non_null(bed.battery);
}

/* As long as a command of its place is open there is no room for another. */
static struct asked *place(void)
{
    struct asked *at = &model.asked[model.next];
    if (at->open || at->owed || at->unknown)
        return NULL;
    model.next = (model.next + 1) % COMMANDS_MOST;
    *at = (struct asked){.number = model.number + 1};
    snprintf(at->id, sizeof at->id, "%llu", (unsigned long long)++model.number % 1000000);
    return at;
}

/* So that a write tells whose it is. */
static int draw_value(void)
{
    static const int edges[] = {-250, 250, 1, -1, 50, -50, 31, 29};
    int value;
    do {
        value = one_in(3) ? edges[between(0, 7)] : between(-250, 250);
    } while (value == 0 || value == model.fallback || writer_of(value) != NULL);
    return value;
}

static void put(void)
{
    const bool stop = one_in(3);
    const struct model before = model;
    const int value = stop ? 0 : draw_value();
    struct asked *at = place();
    if (at == NULL)
        return;
    at->stop = stop;
    at->value = value;
    const int64_t ttl_ns = one_in(3) ? between(1, 2000) * MS : between(1, 30) * S;
    const struct command command = bed_command(&bed, at->id, at->value, ttl_ns);
    at->put_ns = fake_now_ns;
    at->expires_ns = fake_now_ns + ttl_ns;
    at->open = true;
    trace("put", at->id, at->value, ttl_ns / MS);
    const bool zero_under_way = battery_is_urgent(bed.battery);
    if (stop) { /* what it overtakes is told at once */
        model.last_stop = at->number;
        model.stopped = true;
        end_lease();
    }
    if (!battery_put(bed.battery, &command)) {
        model = before; /* as if it were still in the mailbox, and lost there */
        return;
    }
    /* Its like is under way: then it waits for that. */
    model.stop_first = model.stop_first || (stop && at->open && !zero_under_way);
}

static void misbehave(void)
{
    static const enum fault exceptions[] = {FAULT_ILLEGAL_FUNCTION,
                                            FAULT_ILLEGAL_ADDRESS,
                                            FAULT_DEVICE_FAILURE,
                                            FAULT_ACKNOWLEDGE,
                                            FAULT_BUSY,
                                            FAULT_GATEWAY_TARGET};
    static const enum fault losses[] = {FAULT_TIMEOUT, FAULT_BAD_REPLY, FAULT_CONNECTION};
    struct fake_link *fake = bed.fake;
    fake->n_rules = 0;
    fake->late_reads = 0;
    fake->cost_ns = one_in(4) ? between(1, 900) * MS : MS;
    model.lies = !one_in(2);
    model.healthy_ns = model.lies ? CLOCK_NEVER : fake_now_ns;
    if (!model.lies)
        return;
    const unsigned registers[] = {STATUS, SOE, BLOCKS, TARGET, SOURCE, 0};
    for (int n = between(1, 2); n > 0; n--) {
        struct fake_rule rule = {.function = one_in(2) ? FAKE_READ : FAKE_WRITE,
                                 .address = registers[between(0, 5)]};
        switch (between(0, 5)) {
        case 0:
            rule.fault = exceptions[between(0, 5)];
            break;
        case 1:
            rule.fault = losses[between(0, 2)];
            rule.ignores = one_in(2);
            break;
        case 2:
            rule.ignores = true;
            break;
        case 3:
            rule.takes_at = (unsigned)between(1, 80);
            break;
        case 4:
            rule.function = FAKE_OPEN;
            rule.address = 0;
            rule.fault = FAULT_CONNECTION;
            break;
        default:
            rule.from = (unsigned)between(1, 4);
            rule.to = rule.from;
            rule.fault = losses[between(0, 2)];
            break;
        }
        fake_rule_add(fake, rule);
    }
}

static void change_state(void)
{
    static const uint16_t statuses[] = {1, 1, 1, 7, 7, 1, 0, 65535};
    uint16_t *registers = bed.fake->registers[1];
    registers[STATUS] = statuses[between(0, 7)];
    registers[SOE] = one_in(20) ? 65535 : (uint16_t)(one_in(2) ? between(0, 100) : between(40, 60));
    if (one_in(4))
        registers[SOE] = (uint16_t)((one_in(2) ? model.soe_min : model.soe_max) + between(-1, 1));
    registers[BLOCKS] = one_in(8) ? NO_BLOCKS : (uint16_t)between(0, 6);
}

/* Somebody's hand at the device. */
static void meddle(void)
{
    bed.fake->registers[1][TARGET] = (uint16_t)(model.sign * between(-250, 250));
    trace("a hand writes", "", model.sign * (int16_t)bed.fake->registers[1][TARGET], 0);
    bed.fake->late_reads = 0;
}

static void take_poll(void)
{
    if (model.lies || battery_due_ns(bed.battery) <= fake_now_ns || model.stop_first)
        return;
    const int value = model.sign * (int16_t)bed.fake->registers[1][TARGET];
    const bool rest = value == 0 || (value == model.fallback && !model.stopped) || model.foreign;
    /* While a sequence stands in a pause, a poll says nothing. */
    const bool heard = !battery_is_busy(bed.battery);
    trace("poll", heard ? "" : "in vain", value, rest);
    bed_poll(&bed);
    watch();
    if (!heard)
        return;
    check_settled(NULL);
    if (rest && !model.firing)
        end_lease();
    else if (!rest && model.lease_ns == CLOCK_NEVER)
        begin_lease(fake_now_ns + 10 * S);
}

/* The zero that is owed survives, and one of the stops that wait for it is told of it.
 * Who waited for another outcome of a killed run waits on. */
static void kill_and_start(void)
{
    restarts++;
    trace("killed", "", 0, 0);
    bed_kill(&bed);
    bed.fake->n_calls = 0;
    for (unsigned i = 0; i < COMMANDS_MOST; i++) {
        struct asked *at = &model.asked[i];
        at->owed = at->before = at->stop && (at->open || at->owed);
        at->told = at->told || at->owed;
        at->open = at->unknown = false;
        model.may_be_owed = model.may_be_owed || at->owed;
    }
    model.stop_first = model.settled = model.many = false;
    model.last_write_ns = INT64_MIN;
    model.writes_since = 0;
    model.leaving = false;
    start();
}

static void step_battery(void)
{
    const int64_t before_ns = fake_now_ns;
    battery_step(bed.battery, &bed.fake->link);
    watch();
    settle();
    if (deadman_may_fire() && before_ns >= model.lease_ns)
        model.firing = model.own = true;
}

static void leave_and_start(void)
{
    trace("leaves", "", 0, 0);
    model.leaving = true;
    model.leaving_ns = fake_now_ns;
    battery_leave(bed.battery);
    for (unsigned i = 0; !battery_has_left(bed.battery) && i < 10000; i++) {
        const int64_t due_ns = battery_due_ns(bed.battery);
        if (due_ns > fake_now_ns)
            fake_now_ns = due_ns;
        step_battery();
        if (one_in(60))
            break; /* its time is up */
    }
    const int held = model.sign * (int16_t)bed.fake->registers[1][TARGET];
    if (model.on_exit && !model.lies && !model.foreign && battery_has_left(bed.battery) &&
        held != 0 && held != model.fallback)
        wrong("left at", "", held, 0);
    battery_abandon(bed.battery);
    watch();
    for (unsigned i = 0; i < COMMANDS_MOST; i++) {
        if (model.asked[i].open)
            wrong("no outcome at the end", model.asked[i].id, 0, 0);
    }
    kill_and_start();
}

static void toggle_claim(void)
{
    char holder[CLAIM_TEXT_MAX];
    if (model.foreign) {
        claim_release(&model.claim);
        model.foreign = false;
        model.healthy_ns = model.lies ? CLOCK_NEVER : fake_now_ns;
        return;
    }
    /* Only between two runs can another take it. */
    kill_and_start();
    bed_kill(&bed);
    claim_init(&model.claim);
    assert_true(claim_hold(&model.claim, bed.fake->link.peer, 1, "another bridge", holder));
    model.foreign = true;
    start();
}

/* ---- what must have happened by now ---- */

static void check_time(void)
{
    const int64_t due_ns = battery_due_ns(bed.battery);
    int64_t since_ns = model.started_ns > model.healthy_ns ? model.started_ns : model.healthy_ns;
    for (unsigned i = 0; i < COMMANDS_MOST; i++) {
        const struct asked *at = &model.asked[i];
        if (at->open && fake_now_ns - at->put_ns > 10 * GRACE_NS)
            wrong("no outcome for a long time", at->id, fake_now_ns - at->put_ns, 0);
        if ((at->open || at->owed) && at->put_ns > since_ns)
            since_ns = at->put_ns;
    }
    if (model.may_be_owed && !model.shares_line && due_ns - fake_now_ns > S)
        wrong("an unconfirmed stop is not tried each second", "", due_ns, fake_now_ns);
    if (deadman_may_fire() && !model.foreign && !model.shares_line && due_ns - fake_now_ns > S)
        wrong("the lease is over, and nothing is tried", "", model.lease_ns, due_ns);
    if (model.healthy_ns == CLOCK_NEVER || fake_now_ns - since_ns < GRACE_NS)
        return;
    if (model.may_be_owed)
        wrong("a stop is owed to a device that answers", "", 0, 0);
    if (!model.foreign && model.lease_ns != CLOCK_NEVER && fake_now_ns - model.lease_ns > GRACE_NS)
        wrong("the lease is over, and nothing was done", "", model.lease_ns, fake_now_ns);
}

static void pass_time(void)
{
    const int64_t due_ns = battery_due_ns(bed.battery);
    int64_t until_ns = fake_now_ns + between(1, 1000) * MS;
    if (one_in(100))
        until_ns += between(1, 20) * S;
    if (due_ns < until_ns)
        until_ns = due_ns;
    if (until_ns > fake_now_ns)
        fake_now_ns = until_ns;
}

static void one_step(void)
{
    if (battery_due_ns(bed.battery) <= fake_now_ns && !one_in(6)) {
        step_battery();
        check_time();
        return;
    }
    switch (between(0, 39)) {
    case 0:
    case 1:
        misbehave();
        break;
    case 2:
    case 3:
        change_state();
        break;
    case 4:
        if (one_in(4))
            meddle();
        break;
    case 5:
    case 6:
    case 7:
        take_poll();
        break;
    case 8:
        if (one_in(8))
            kill_and_start();
        break;
    case 9:
        if (one_in(8))
            leave_and_start();
        break;
    case 10:
        if (one_in(16))
            toggle_claim();
        break;
    case 11:
        fake_utc_step_ms += one_in(2) ? between(-3600000, 3600000) : 0;
        break;
    case 12:
    case 13:
        bed.fake->stale = true;
        break;
    default:
        if (one_in(4))
            put();
        else
            pass_time();
        break;
    }
    watch();
    check_time();
}

/* ---- sites ---- */

static void begin_site(void)
{
    char control[512];
    size_t used = 0;
    memset(&model, 0, sizeof model);
    model.soe_min = between(0, 20);
    model.soe_max = between(80, 100);
    model.kw_per_block = one_in(2) ? 50 : 0;
    model.max_step = one_in(3) ? between(50, 300) : 0;
    model.min_interval_s = one_in(3) ? between(1, 3) : 0;
    model.sign = 1;
    model.deadman = !one_in(4);
    model.source = one_in(2);
    model.on_exit = model.deadman && one_in(2);
    model.shares_line = one_in(3);
    model.fallback = one_in(3) ? 0 : one_in(2) ? -20 : 30;
    model.lease_ns = CLOCK_NEVER;
    model.last_write_ns = INT64_MIN;
    used += (size_t)snprintf(control, sizeof control, "soe_min = %d; soe_max = %d; ", model.soe_min,
                             model.soe_max);
    if (model.kw_per_block != 0)
        used += (size_t)snprintf(control + used, sizeof control - used, "kw_per_block = 50; ");
    if (model.max_step != 0)
        used += (size_t)snprintf(control + used, sizeof control - used, "max_step_kw = %d; ",
                                 model.max_step);
    if (model.min_interval_s != 0)
        used += (size_t)snprintf(control + used, sizeof control - used, "min_interval = \"%ds\"; ",
                                 model.min_interval_s);
    if (model.source)
        used += (size_t)snprintf(control + used, sizeof control - used, "command_source = 5; ");
    if (model.deadman)
        used += (size_t)snprintf(control + used, sizeof control - used,
                                 "deadman: { timeout = \"10s\"; value = %d; }; ", model.fallback);
    else
        model.fallback = 0;
    if (model.on_exit)
        (void)snprintf(control + used, sizeof control - used, "on_exit = \"fallback\"; ");
    bed_begin(&bed, control);
    struct point *blocks = &bed.device->points[bed.device->control.blocks];
    blocks->n_sentinels = 1;
    blocks->sentinels[0] = NO_BLOCKS;
    bed_kill(&bed);
    start();
}

static void run_site(uint64_t first, uint64_t steps)
{
    begin_site();
    for (model.step = first; model.step < first + steps; model.step++)
        one_step();
    /* In the end all is well, and all is done that was owed. */
    if (model.foreign)
        toggle_claim();
    bed.fake->n_rules = 0;
    bed.fake->late_reads = 0;
    bed.fake->cost_ns = MS;
    model.lies = false;
    model.healthy_ns = fake_now_ns;
    const int64_t end_ns = fake_now_ns + 10 * GRACE_NS;
    for (int64_t due_ns; (due_ns = battery_due_ns(bed.battery)) <= end_ns;) {
        if (due_ns > fake_now_ns)
            fake_now_ns = due_ns;
        step_battery();
    }
    fake_now_ns = end_ns;
    check_time();
    for (unsigned i = 0; i < COMMANDS_MOST; i++) {
        if (model.asked[i].open)
            wrong("no outcome", model.asked[i].id, 0, 0);
    }
    bed_end(&bed);
}

static void test_the_model_agrees(void **state)
{
    const uint64_t seed = from_environment("FLUXBRIDGE_SEED", (uint64_t)time(NULL));
    const uint64_t steps = from_environment("FLUXBRIDGE_STEPS", STEPS);
    (void)state;
    print_message("seed %llu, %llu steps\n", (unsigned long long)seed, (unsigned long long)steps);
    tracing = getenv("FLUXBRIDGE_TRACE") != NULL;
    random_state = seed;
    for (uint64_t n = 0; n < steps; n += STEPS_PER_SITE)
        run_site(n, STEPS_PER_SITE);
    for (int i = 0; i < OUTCOME_COUNT; i++)
        print_message("%s %u\n", outcome_word((enum outcome_kind)i), counts[i]);
    print_message("corrections %u\nthe bridge's own %u\nrestarts %u\n", corrections, fired,
                  restarts);
    /* A generator that never gets there would prove nothing. */
    for (int i = 0; i < OUTCOME_ACCEPTED; i++)
        assert_true(counts[i] > steps / 10000);
    assert_int_equal(counts[OUTCOME_LOST], 0);
    assert_true(corrections > steps / 10000 && fired > steps / 10000 && restarts > steps / 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_the_model_agrees)};
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
