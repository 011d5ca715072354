/* model_watch: what topics.md says of a battery, and whether what is asked of the device and
 * what is told agree with it. test_model makes what happens. */
#ifndef TESTS_UNIT_MODEL_WATCH_H
#define TESTS_UNIT_MODEL_WATCH_H

#include "tests/unit/battery_bed.h"

#include <stdlib.h>

enum { COMMANDS_MOST = 64 };

#define S  CLOCK_NS_PER_S
#define MS CLOCK_NS_PER_MS

/* How this type's register says that it does not know how many blocks there are. */
enum { NO_BLOCKS = 65535 };

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

/* The device has it, or may: it was not refused. */
static bool may_be_done_later(enum fault fault)
{
    return fault == FAULT_ACKNOWLEDGE || fault_is_silence(fault);
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
    const bool failed = outcome->kind == OUTCOME_FAILED;
    if (!command->written || command->number < model.last_stop ||
        (failed && !may_be_done_later(outcome->fault)))
        return;
    if (!failed)
        model.stopped = false;
    if (held && command->value == model.fallback)
        end_lease();
    else if (held ||
             (model.lease_ns == CLOCK_NEVER && (model.stopped || command->value != model.fallback)))
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

#endif
