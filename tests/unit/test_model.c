/* A battery against a model that knows only what topics.md says of it.
 *
 * A seeded generator makes sites and then steps: commands and stops from
 * dispatchers, a device that lies, is slow or silent, hands that turn its
 * setpoint, clocks that are set, restarts that are killed or clean, another
 * bridge, and above all time. The model below uses none of the functions it
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
#include "tests/unit/battery_bed.h"
#include "tests/unit/from_environment.h"
#include "tests/unit/seeded.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "bridge/base/log.h"

enum { STEPS = 50000, STEPS_PER_SITE = 2000, COMMANDS_MOST = 64 };

#define S  CLOCK_NS_PER_S
#define MS CLOCK_NS_PER_MS

/* How long a device that answers may take until what is owed to it is done: all
 * that may be under way, with timeouts, and then some attempts. */
#define GRACE_NS (60 * S)

/* How this type's register says that it does not know how many blocks there are. */
enum { NO_BLOCKS = 65535 };

/* ---- the generator ---- */

/* ---- the model ---- */

struct asked {
    char id[8];
    int value;
    bool stop, open; /* accepted, and without an outcome */
    bool told, owed; /* a stop that had its outcome and is not settled */
    bool before;     /* it is of a run before */
    bool unknown;    /* a setpoint whose correction may come */
    bool written;    /* its value was, since it was accepted */
    uint64_t number; /* in the order of acceptance */
    int64_t put_ns, expires_ns;
};

/* The last good read of a register. */
struct known {
    int64_t at_ns;
    uint16_t word;
};

static struct bed bed;

static struct model {
    /* The site. */
    int soe_min, soe_max, kw_per_block, max_step, min_interval_s, sign, fallback;
    bool deadman, source, on_exit, shares_line;
    /* What was asked. */
    struct asked asked[COMMANDS_MOST];
    unsigned next;      /* of those places */
    uint64_t number;    /* of commands */
    uint64_t last_stop; /* number of the last one accepted; 0 = none */
    bool stopped;       /* the last that was wanted is a stop */
    bool stop_first;    /* one was accepted: nothing else is asked of the device before */
    bool may_be_owed;   /* a zero, also from a run before */
    bool settled;       /* one was confirmed in this step */
    bool many;          /* are owed: more than are kept for a correction */
    /* The device. */
    struct known status, soe, blocks, target;
    int64_t last_write_ns;
    int64_t healthy_ns; /* since when it answers as it should; CLOCK_NEVER = it does not */
    bool lies;
    struct claim claim;
    bool foreign; /* another bridge has the device */
    /* The lease: when it ends; CLOCK_NEVER = there is none. */
    int64_t lease_ns;
    bool firing;
    bool own; /* it has fired since its last outcome, which a stop may cut short */
    bool leaving;
    int64_t leaving_ns, started_ns;
    unsigned writes_since; /* the last outcome */
    uint64_t step;
} model;

static unsigned counts[OUTCOME_COUNT], corrections, fired, restarts;

static void wrong(const char *what, const char *id, long long a, long long b)
{
    fail_msg("step %llu, at %.3f s: %s id=%s %lld %lld", (unsigned long long)model.step,
             (double)(fake_now_ns - FAKE_MONO_NS) / 1e9, what, id, a, b);
}

/* Tells what happens, with FLUXBRIDGE_TRACE: how to see why a seed fails. */
static bool tracing;

static void trace(const char *what, const char *id, long long a, long long b)
{
    if (tracing)
        print_message("%llu %.3f %s %s %lld %lld lease %.3f\n", (unsigned long long)model.step,
                      (double)(fake_now_ns - FAKE_MONO_NS) / 1e9, what, id, a, b,
                      (double)(model.lease_ns - FAKE_MONO_NS) / 1e9);
}

/* What a setpoint needs of the state that was read since `since_ns`. */
static const char *forbidden(int value, int64_t since_ns)
{
    const int soe = model.soe.word;
    if (model.status.at_ns < since_ns || model.soe.at_ns < since_ns ||
        (model.kw_per_block != 0 && model.blocks.at_ns < since_ns) ||
        (model.max_step != 0 && model.target.at_ns < since_ns))
        return "the state was not read for it";
    if (model.status.word != 1 && model.status.word != 7)
        return "not ready";
    if (soe > 100)
        return "no state of energy";
    if (model.kw_per_block != 0 && model.blocks.word == NO_BLOCKS)
        return "blocks that are not to be believed";
    if (value > 0 ? soe <= model.soe_min : soe >= model.soe_max)
        return "SOE";
    if (model.kw_per_block != 0 && abs(value) > model.kw_per_block * model.blocks.word)
        return "blocks";
    if (model.max_step != 0 &&
        abs(value - model.sign * (int16_t)model.target.word) > model.max_step)
        return "step";
    return NULL;
}

/* Which accepted setpoint this write is of; NULL = of none. */
static struct asked *writer_of(int value)
{
    struct asked *found = NULL;
    for (unsigned i = 0; i < COMMANDS_MOST; i++) {
        struct asked *at = &model.asked[i];
        if (at->open && !at->stop && at->value == value && at->number > model.last_stop)
            found = at;
    }
    return found;
}

static bool deadman_may_fire(void)
{
    return model.deadman && !model.leaving && model.lease_ns != CLOCK_NEVER &&
           fake_now_ns >= model.lease_ns;
}

static void check_value(int value, int64_t at_ns)
{
    struct asked *command = writer_of(value);
    const bool own = value == model.fallback && !model.stopped &&
                     ((model.leaving && model.on_exit) || deadman_may_fire());
    if (value < -250 || value > 250)
        wrong("outside of the limits", "", value, 0);
    if (model.foreign)
        wrong("another bridge holds the device", "", value, 0);
    const char *no = "nobody who may has asked for it";
    if (command != NULL) {
        no = forbidden(value, command->put_ns);
        if (no == NULL && at_ns >= command->expires_ns)
            no = "expired";
        if (no == NULL && model.min_interval_s > 0 && model.last_write_ns != INT64_MIN &&
            at_ns - model.last_write_ns < model.min_interval_s * S)
            no = "too soon";
    }
    if (command != NULL && no == NULL) {
        if (command->written)
            wrong("written twice", command->id, value, 0);
        command->written = true;
        model.may_be_owed = model.many = false;
        for (unsigned i = 0; i < COMMANDS_MOST; i++)
            model.asked[i].owed = false;
        return;
    }
    if (own)
        no = forbidden(value, model.leaving ? model.leaving_ns : model.lease_ns);
    if (no != NULL)
        wrong(no, command != NULL ? command->id : "own", value, 0);
}

static bool a_stop_is_open(void)
{
    for (unsigned i = 0; i < COMMANDS_MOST; i++) {
        if (model.asked[i].stop && (model.asked[i].open || model.asked[i].owed))
            return true;
    }
    return model.may_be_owed;
}

static void check_write(const struct fake_call *call)
{
    model.writes_since++;
    if (call->address == SOURCE) {
        if (!model.source || call->words[0] != 5)
            wrong("command_source", "", call->words[0], 0);
        return;
    }
    if (call->address != TARGET)
        wrong("a write to", "", call->address, call->words[0]);
    const int value = model.sign * (int16_t)call->words[0];
    if (model.stop_first && value != 0)
        wrong("written before the stop", "", value, 0);
    model.stop_first = false;
    if (value != 0)
        check_value(value, call->at_ns);
    else if (!a_stop_is_open() && !model.leaving && !deadman_may_fire())
        wrong("a zero that nobody wants", "", 0, 0);
}

static void note_read(struct known *known, const struct fake_call *call, unsigned address)
{
    if (call->address <= address && address < call->address + call->count)
        *known = (struct known){.at_ns = call->at_ns, .word = bed.fake->registers[1][address]};
}

/* Looks at all that was asked of the device since. */
static void watch(void)
{
    for (unsigned i = 0; i < bed.fake->n_calls; i++) {
        const struct fake_call *call = &bed.fake->calls[i];
        trace("call", fault_word(call->fault), call->function * 10000 + call->address,
              call->words[0]);
        if (call->function == FAKE_WRITE) {
            check_write(call);
        } else if (call->function == FAKE_READ) {
            if (model.stop_first)
                wrong("read before the stop is written", "", call->address, call->count);
            if (call->fault != FAULT_NONE)
                continue;
            note_read(&model.status, call, STATUS);
            note_read(&model.soe, call, SOE);
            note_read(&model.blocks, call, BLOCKS);
            note_read(&model.target, call, TARGET);
        }
    }
    bed.fake->n_calls = 0;
}

/* ---- what is told ---- */

static struct asked *asked_as(const char *id)
{
    for (unsigned i = 0; i < COMMANDS_MOST; i++) {
        if (strcmp(model.asked[i].id, id) == 0)
            return &model.asked[i];
    }
    return NULL;
}

static void begin_lease(int64_t end_ns)
{
    model.lease_ns = model.deadman ? end_ns : CLOCK_NEVER;
    model.firing = false;
}

static void end_lease(void)
{
    model.lease_ns = CLOCK_NEVER;
    model.firing = false;
}

static void take_correction(struct asked *command, const struct outcome *outcome)
{
    corrections++;
    if (command->open || !command->told)
        wrong("corrected before it had an outcome", command->id, 0, 0);
    if (command->stop ? !command->owed : !command->unknown)
        wrong("corrected though nothing was open", command->id, outcome->kind, 0);
    if (command->stop && outcome->kind != OUTCOME_CONFIRMED)
        wrong("a stop corrected otherwise", command->id, outcome->kind, 0);
    if (command->stop)
        end_lease(); /* of what was found there meanwhile */
    command->owed = command->unknown = false;
}

/* Of stops that had their outcome so many are kept for a correction. */
static void count_owed(void)
{
    unsigned n = 0, before = 0;
    for (unsigned i = 0; i < COMMANDS_MOST; i++) {
        n += model.asked[i].owed && !model.asked[i].before;
        before = before || (model.asked[i].owed && model.asked[i].before);
    }
    model.many = model.many || n + before > 8;
}

/* A zero was confirmed: each that waited for that has been told. */
static void settle(void)
{
    if (!model.settled)
        return;
    for (unsigned i = 0; i < COMMANDS_MOST; i++) {
        struct asked *at = &model.asked[i];
        if (at->owed && !at->before && !model.many)
            wrong("a stop was never corrected", at->id, 0, 0);
        at->owed = at->before = false;
    }
    model.settled = model.many = false;
}

static void take_stop(struct asked *command, const struct outcome *outcome)
{
    if (outcome->kind == OUTCOME_REFUSED || outcome->kind == OUTCOME_SUPERSEDED)
        wrong("a stop is neither refused nor replaced", command->id, outcome->kind,
              outcome->reason);
    command->owed = outcome->kind != OUTCOME_CONFIRMED;
    if (command->owed)
        model.may_be_owed = true;
    end_lease(); /* of what was found there meanwhile */
    count_owed();
    model.stop_first = false;
}

static void take_setpoint(struct asked *command, const struct outcome *outcome)
{
    const bool held = outcome->kind == OUTCOME_CONFIRMED;
    if ((outcome->written_ns != 0) != command->written)
        wrong("told as written or not", command->id, outcome->written_ns, command->written);
    if ((outcome->kind == OUTCOME_REFUSED || outcome->kind == OUTCOME_SUPERSEDED) &&
        command->written)
        wrong("refused, but written", command->id, outcome->kind, 0);
    if (outcome->kind == OUTCOME_REFUSED && outcome->reason == REASON_NONE)
        wrong("refused without a reason", command->id, 0, 0);
    command->unknown = outcome->kind == OUTCOME_UNKNOWN;
    if (!command->written || outcome->kind == OUTCOME_FAILED || command->number < model.last_stop)
        return;
    model.stopped = false;
    if (held && command->value == model.fallback)
        end_lease();
    else if (held || (model.lease_ns == CLOCK_NEVER && command->value != model.fallback))
        begin_lease(outcome->written_ns + 10 * S);
}

static void take_own(const struct outcome *outcome)
{
    const bool deadman = strcmp(outcome->command.source, "deadman") == 0;
    if (!deadman && strcmp(outcome->command.source, "exit") != 0)
        wrong("an outcome of nobody's", outcome->command.id, 0, 0);
    if (outcome->correction)
        wrong("a correction of its own", outcome->command.id, 0, 0);
    if (deadman ? !deadman_may_fire() && !model.own : !model.leaving)
        wrong("its time had not come", outcome->command.id, model.lease_ns, fake_now_ns);
    fired++;
    model.own = deadman_may_fire();
    if (outcome->kind == OUTCOME_CONFIRMED && deadman)
        end_lease();
}

/* An unknown outcome is corrected when its register is read, or written over. */
static void check_settled(const struct asked *but)
{
    for (unsigned i = 0; i < COMMANDS_MOST; i++) {
        if (model.asked[i].unknown && &model.asked[i] != but)
            wrong("an unknown outcome was not corrected", model.asked[i].id, 0, 0);
    }
}

static void note_settled(const struct outcome *outcome)
{
    if (outcome->kind != OUTCOME_CONFIRMED || outcome->command.value != 0.0)
        return;
    model.may_be_owed = false;
    model.settled = true;
}

static void told(void *context, const struct outcome *outcome)
{
    (void)context;
    watch(); /* what was asked of the device before */
    struct asked *command = asked_as(outcome->command.id);
    trace(outcome->correction ? "correction" : "outcome", outcome->command.id, outcome->kind,
          outcome->reason);
    if (outcome->kind == OUTCOME_CONFIRMED &&
        (int)outcome->command.value != model.sign * (int16_t)bed.fake->registers[1][TARGET])
        wrong("confirmed, but not held", outcome->command.id, (int)outcome->command.value,
              bed.fake->registers[1][TARGET]);
    if (outcome->kind == OUTCOME_REFUSED && model.writes_since > 0 && !a_stop_is_open() &&
        !deadman_may_fire() && !model.leaving)
        wrong("refused, and something was written", outcome->command.id, outcome->reason, 0);
    note_settled(outcome);
    model.writes_since = 0;
    if (outcome->written_ns != 0 && outcome->kind != OUTCOME_FAILED && !outcome->correction)
        model.last_write_ns = outcome->written_ns;
    if (!outcome->correction && outcome->written_ns != 0 && outcome->kind != OUTCOME_FAILED)
        check_settled(command);
    if (command == NULL) {
        take_own(outcome);
        return;
    }
    if (outcome->correction) {
        take_correction(command, outcome);
        return;
    }
    if (!command->open)
        wrong("a second outcome", command->id, outcome->kind, 0);
    counts[outcome->kind]++;
    command->open = false;
    command->told = true;
    if (command->stop)
        take_stop(command, outcome);
    else
        take_setpoint(command, outcome);
}

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
